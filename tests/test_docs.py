"""The pages that are made from the code's tables say what the code says."""

import runpy
from pathlib import Path

import pytest

from farmhand_agent import config as agent_config
from farmhand_collector import config as collector_config
from farmhand_collector.capacity.detectors import all_detectors
from farmhand_collector.catalogue.findings import meanings
from farmhand_tui import config as terminal_config

ROOT = Path(__file__).parent.parent
PAGES = runpy.run_path(str(ROOT / "docs" / "make_pages.py"))["PAGES"]


@pytest.mark.parametrize("name", PAGES)
def test_a_made_page_is_what_the_code_would_make(name: str) -> None:
    """After a change of a table, `make docs` has been run."""
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")

    assert written == PAGES[name](), f"docs/{name} is stale: run `make docs`"


def test_every_detector_has_a_meaning() -> None:
    """A finding without words could not be shown to anyone."""
    assert {detector.name for detector in all_detectors()} <= set(meanings())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("agent.toml", agent_config.Config),
        ("collector.toml", collector_config.Config),
        ("farmhand.toml", terminal_config.Config),
    ],
)
def test_an_example_configuration_has_no_unknown_key(name: str, kind: type) -> None:
    """The examples are read by people; they must be accepted by the programs."""
    from farmhand_agent.settings import load

    assert isinstance(load(ROOT / "docs" / "examples" / name, kind), kind)


def test_the_readme_names_both_commands() -> None:
    """The two commands of a fresh clone stand in the README as they are typed."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert "make run" in readme
    assert "make test" in readme
