"""What is said of one card or finding."""

from farmhand_collector.wire import CardDetail, Event
from farmhand_tui.farm import COLUMNS, Farm
from farmhand_tui.prose import events_text, finding_text, identity_text, verdict_text
from tests.tui.synthetic import NOW, STEPS, SyntheticFarm


def farm_of(synthetic: SyntheticFarm) -> Farm:
    farm = Farm()
    farm.load(synthetic.snapshot(list(COLUMNS)))
    farm.set_findings(synthetic.findings())
    return farm


def detail_of(synthetic: SyntheticFarm, key: str) -> CardDetail:
    detail = synthetic.detail(key)
    assert detail is not None
    return detail


def test_a_verdict_says_why_and_what_to_do(synthetic: SyntheticFarm) -> None:
    """State and cause, the evidence as sentences, and steps for the hands, in this order."""
    farm, detail = farm_of(synthetic), detail_of(synthetic, "card-00079")

    text = verdict_text(detail.verdict, farm.finding_of("card-00079"), []).plain

    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "▼ DEGRADED  thermal  compute"
    assert lines.index("why") < lines.index("what to do: repaste")
    assert f"3. {STEPS[2]}" in lines


def test_a_card_points_to_the_finding_that_explains_it(synthetic: SyntheticFarm) -> None:
    """A card that is slow because of its node says so."""
    farm, detail = farm_of(synthetic), detail_of(synthetic, "card-00009")

    text = verdict_text(detail.verdict, None, farm.findings_around("card-00009")).plain

    assert "explained by\n  node node002: All 8 cards" in text


def test_a_finding_names_the_cards_it_explains(synthetic: SyntheticFarm) -> None:
    """Who looks at the node knows which slots are meant."""
    farm = farm_of(synthetic)
    finding = next(finding for finding in farm.findings if finding.scope == "node")

    text = finding_text(finding, farm).plain

    assert "cards it explains (8)" in text
    assert "r01 node002 slot3  NVIDIA GeForce RTX 3090  ok" in text


def test_identity_has_units_and_leaves_out_what_is_unknown(synthetic: SyntheticFarm) -> None:
    """Sizes are in GiB; what the card does not tell takes no line."""
    text = identity_text(detail_of(synthetic, "card-00001")).plain

    assert "24.00 GiB" in text
    assert "384 bit" in text
    assert "memory total bytes" not in identity_text(detail_of(synthetic, "card-00005")).plain


def test_events_come_newest_first() -> None:
    """What happened last is read first."""
    events = [Event(NOW - 60, "xid", "79", "old"), Event(NOW - 5, "lost", "", "new")]

    text = events_text(events, NOW).plain

    assert text.index("new") < text.index("old")


def test_no_event_is_said_in_words() -> None:
    """An empty list is told from one that did not arrive."""
    assert "none" in events_text([], NOW).plain


def test_what_a_driver_says_commands_nothing() -> None:
    """Driver text is made safe and is never read as markup."""
    text = events_text([Event(NOW, "xid", "13", "[bold]\x1b[2J[/bold]")], NOW)

    assert r"[bold]\x1b[2J[/bold]" in text.plain
