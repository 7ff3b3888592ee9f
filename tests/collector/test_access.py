"""What a token grants."""

import pytest

from farmhand_collector.access import Grant, of_token


@pytest.mark.parametrize("scheme", ["Token", "Bearer", "token"])
def test_the_token_is_known_under_both_schemes(scheme: str) -> None:
    """InfluxDB's clients send the one, everybody else the other."""
    assert of_token("s3cret").grant(f"{scheme} s3cret") == Grant("shared")


@pytest.mark.parametrize(
    "shown", ["", "Token", "Token ", "Token wrong", "Basic s3cret", "s3cret", "Token s3cret\u20ac"]
)
def test_anything_else_grants_nothing(shown: str) -> None:
    """No token, another one, another scheme, characters that no token has."""
    assert of_token("s3cret").grant(shown) is None


def test_without_a_token_everyone_may() -> None:
    """On loopback alone: the configuration asks for one elsewhere."""
    assert of_token(None).grant("") == Grant("anyone")
