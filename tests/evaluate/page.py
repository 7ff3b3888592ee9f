"""The tables of docs/detection.md, between their markers."""

from collections.abc import Sequence

from tests.evaluate.result import TierResult


def written(page: str, results: Sequence[TierResult]) -> str:
    """The page with the tables of these tiers; those of others stay.

    Raises:
        ValueError: the page lacks the markers of a tier.
    """
    for result in results:
        begin, end = f"<!-- {result.name} begin -->", f"<!-- {result.name} end -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"docs/detection.md: no {begin} and {end}")
        page = f"{before}{begin}\n\n{result.markdown()}\n{end}{after}"
    return page
