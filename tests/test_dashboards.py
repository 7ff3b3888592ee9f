"""The dashboards in the tree are those that their description makes."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from farmhand_agent.reading import TAGS, fields_of

FOLDER = Path(__file__).parent.parent / "packaging" / "grafana"
PAGES = sorted(FOLDER.glob("*.json"))


def statements(page: Path) -> list[str]:
    """All questions of a page's panels."""
    told = json.loads(page.read_text(encoding="utf-8"))
    return [target["query"] for panel in told["panels"] for target in panel["targets"]]


def test_the_files_are_as_described() -> None:
    """`make docs` was run after the last change."""
    spec = importlib.util.spec_from_file_location("made", FOLDER / "make_dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)

    written = {page.name: page.read_text(encoding="utf-8") for page in PAGES}

    assert written == {
        f"{one.uid.removeprefix('farmhand-')}.json": made.rendered(one) for one in made.DASHBOARDS
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_ask_for_what_the_contract_has(page: Path) -> None:
    """A field that was renamed would leave a panel empty, and nobody would know why."""
    for statement in statements(page):
        (measurement,) = set(re.findall(r'FROM "(\w+)"', statement))
        made = set(re.findall(r'AS "(\w+)"', statement))
        names = set(re.findall(r'"(\w+)"', statement)) - {measurement} - made
        known = {*fields_of(measurement), *TAGS[measurement]}
        assert names <= known | {"power"}, statement
