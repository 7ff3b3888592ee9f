"""The whole UI, with a real collector's API behind it."""

import asyncio
import csv
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from farmhand_tui.app import NO_TERMINAL, FarmApp, run
from farmhand_tui.client import CollectorUnreachable
from farmhand_tui.follow import CardArrived, ChangesArrived, CollectorLost, SnapshotArrived
from farmhand_tui.palette import STATE_LOOKS
from farmhand_tui.screens.card import CardScreen
from farmhand_tui.screens.main import MainScreen
from farmhand_tui.screens.reading import ReadingScreen
from farmhand_tui.widgets.card_table import CARD_COLUMNS, CardTable
from farmhand_tui.widgets.finding_table import FindingTable
from farmhand_tui.widgets.heat_grid import HeatGrid
from farmhand_tui.widgets.plot import Plot
from tests.tui.server import FarmServer
from tests.tui.synthetic import SyntheticFarm
from tests.tui.watch import Opened, Watch, opened

Story = Callable[[Opened], Awaitable[None]]
MARK = "SIMULATED (seed 7)"


def play(server: FarmServer, story: Story, size: tuple[int, int] = (160, 50)) -> None:
    """Run a story against an open app."""

    async def run_it() -> None:
        async with opened(server, size) as ui:
            await story(ui)

    asyncio.run(run_it())


def place(ui: Opened, row: int | None) -> str:
    assert row is not None
    return f"{ui.app.farm.text('host', row)} {ui.app.farm.text('slot', row)}"


def grid_of(ui: Opened) -> HeatGrid:
    return ui.app.screen.query_one(HeatGrid)


def cards_of(ui: Opened) -> CardTable:
    return ui.app.screen.query_one(CardTable)


def style_at(strip: Strip, x: int) -> Style:
    style = strip.crop(x, x + 1)._segments[0].style
    assert style is not None
    return style


def line_of(widget: Widget, y: int) -> str:
    return widget.render_line(y).text.rstrip()


def test_the_farm_view_draws_a_cell_for_each_card(server: FarmServer) -> None:
    """Each line is a node; a flagged card has its own glyph and colour among quiet ones."""

    async def story(ui: Opened) -> None:
        grid = grid_of(ui)
        assert line_of(grid, 0).startswith("r01 ─")
        strip = grid.render_line(1)
        assert strip.text.startswith("node001   ·    ·    ·    ·    ·  lost   ·    ·")
        lost = strip.text.index("lost")
        assert style_at(strip, lost).bgcolor == STATE_LOOKS["lost"].cell.bgcolor
        assert style_at(strip, lost - 4).bgcolor == STATE_LOOKS["ok"].cell.bgcolor

    play(server, story)


def test_a_finding_about_a_node_marks_the_node(server: FarmServer) -> None:
    """The name of the node carries the glyph of the finding."""

    async def story(ui: Opened) -> None:
        assert line_of(grid_of(ui), 2).startswith("node002o")

    play(server, story)


def test_the_cursor_walks_and_jumps(server: FarmServer) -> None:
    """Arrows and vim keys move by cards, n and N between flagged ones."""

    async def story(ui: Opened) -> None:
        grid = grid_of(ui)
        places = [place(ui, grid.cursor_row)]
        for key in ("right", "j", "h", "up", "n", "n", "N", "G", "g"):
            await ui.press(key)
            places.append(place(ui, grid.cursor_row))
        assert places == [
            "node001 slot1",
            "node001 slot2",
            "node002 slot2",
            "node002 slot1",
            "node001 slot1",
            "node001 slot6",
            "node006 slot3",
            "node001 slot6",
            "node015 slot8",
            "node001 slot1",
        ]

    play(server, story)


def test_the_line_below_tells_of_the_card_under_the_cursor(server: FarmServer) -> None:
    """Place, model, state and reason are read without opening the card."""

    async def story(ui: Opened) -> None:
        await ui.press("n", "n", "n")
        said = ui.text().splitlines()[-2]
        for word in ("r02 node010 slot8", "CMP 170HX", "▼ degraded", "thermal", "1,320 MHz at 91"):
            assert word in said

    play(server, story)


def test_the_metric_and_its_legend_change_together(server: FarmServer) -> None:
    """V shows another reading, in levels whose numbers stand below."""

    async def story(ui: Opened) -> None:
        assert "ok 116" in ui.text().splitlines()[-3]
        await ui.press("v", "v")
        assert grid_of(ui).metric.name == "temperature"
        assert "<40" in ui.text().splitlines()[-3] and ">90" in ui.text().splitlines()[-3]

    play(server, story)


def test_the_table_shows_the_worst_first(server: FarmServer) -> None:
    """Without any configuration the first rows are those to look at."""

    async def story(ui: Opened) -> None:
        await ui.press("2")
        table = cards_of(ui)
        assert line_of(table, 0).split()[:6] == ["host", "slot", "state", "▲", "cause", "model"]
        assert line_of(table, 1).split()[:5] == ["X", "node001", "slot6", "lost", "unreachable"]
        assert line_of(table, 2).split()[:5] == ["!", "node006", "slot3", "failing", "memory"]
        red = style_at(table.render_line(1), 0)
        assert red.color == STATE_LOOKS["lost"].text.color

    play(server, story)


def test_a_line_of_the_table_has_the_readings(server: FarmServer) -> None:
    """Power stands with its limit, memory with its size, and a dash where nothing is told."""

    async def story(ui: Opened) -> None:
        await ui.press("2")
        row = ui.app.farm.rows["card-00005"]
        cells = dict(zip((c.title for c in CARD_COLUMNS), cards_of(ui).cells(row), strict=True))
        assert cells["W/limit"].text == "-"
        assert "/24" in cards_of(ui).cells(ui.app.farm.rows["card-00000"])[11].text

    play(server, story)


def test_the_cursor_stays_with_its_card(server: FarmServer, synthetic: SyntheticFarm) -> None:
    """When a card gets worse and rows move, the cursor is still on the card it was on."""

    async def story(ui: Opened) -> None:
        await ui.press("2", "down", "down")
        table = cards_of(ui)
        before, index = place(ui, table.cursor_row), table.cursor
        synthetic.set("card-00111", state="lost", delivered=None)
        await ui.until(lambda: ui.counts[ChangesArrived] > 0)
        await ui.pilot.pause()
        assert (place(ui, table.cursor_row), table.cursor) == (before, index + 1)

    play(server, story)


def test_another_column_sorts_and_turns_round(server: FarmServer) -> None:
    """< and > choose the column, r the direction; the cursor keeps its card."""

    async def story(ui: Opened) -> None:
        await ui.press("2", "down")
        table = cards_of(ui)
        chosen = place(ui, table.cursor_row)
        await ui.press("<", "<")
        assert place(ui, table.order[0]) == "node001 slot1"
        await ui.press("r")
        assert place(ui, table.order[0]).startswith("node015")
        assert place(ui, table.cursor_row) == chosen

    play(server, story)


def test_enter_opens_the_card_and_escape_goes_back(server: FarmServer) -> None:
    """The card's screen has verdict, steps, identity and curves."""

    async def story(ui: Opened) -> None:
        await ui.press("2", "down", "down", "enter")
        await ui.until(lambda: ui.counts[CardArrived] > 0)
        await ui.pilot.pause()
        text = ui.text()
        for words in ("▼ DEGRADED", "what to do: repaste", "2. Take the cooler off", "94.02.42"):
            assert words in text
        assert MARK in text
        assert [line_of(plot, 0).split()[0] for plot in ui.app.screen.query(Plot)] == [
            "utilisation",
            "core",
            "power",
            "temperature",
            "memory",
        ]
        assert "limit 250" in line_of(ui.app.screen.query(Plot)[2], 0)
        await ui.press("escape")
        assert isinstance(ui.app.screen, MainScreen)

    play(server, story)


def test_the_farm_may_shrink_behind_an_open_card(
    server: FarmServer, synthetic: SyntheticFarm
) -> None:
    """Cards that went while another screen was open are gone from every view."""

    async def story(ui: Opened) -> None:
        await ui.press("2", "G", "enter")
        for index in range(60, 120):
            synthetic.remove(f"card-{index:05d}")
        await ui.until(lambda: ui.counts[ChangesArrived] > 0 and len(ui.app.farm) == 60)
        await ui.press("escape")
        assert len(cards_of(ui).order) == 60
        await ui.press("1")
        assert "node009" not in ui.text()

    play(server, story)


def test_a_longer_history_is_a_key_away(server: FarmServer) -> None:
    """The digit of a range asks the collector for it."""

    async def story(ui: Opened) -> None:
        await ui.press("enter")
        await ui.until(lambda: ui.counts[CardArrived] > 0)
        await ui.press("4")
        await ui.until(lambda: ui.counts[CardArrived] > 1)
        assert isinstance(ui.app.screen, CardScreen)
        await ui.pilot.pause()
        assert " 7 d " in ui.text()

    play(server, story)


def test_a_finding_of_a_node_shows_its_steps(server: FarmServer) -> None:
    """What concerns more than a card opens as text for the keeper's hands."""

    async def story(ui: Opened) -> None:
        await ui.press("3")
        table = ui.app.screen.query_one(FindingTable)
        rows = [ui.app.farm.findings[row].scope for row in table.order]
        await ui.press(*["down"] * rows.index("node"), "enter")
        assert isinstance(ui.app.screen, ReadingScreen)
        assert "2. Feel the air at its inlet." in ui.text()
        assert MARK in ui.text()

    play(server, story)


def test_a_finding_of_a_card_opens_the_card(server: FarmServer) -> None:
    """From the list of findings, enter leads to the card."""

    async def story(ui: Opened) -> None:
        await ui.press("3", "enter")
        assert isinstance(ui.app.screen, CardScreen)

    play(server, story)


def test_the_filter_narrows_while_it_is_typed(server: FarmServer) -> None:
    """Rows go as words are typed; enter keeps the filter, escape gives it up."""

    async def story(ui: Opened) -> None:
        await ui.press("2", "slash", *"link", "enter")
        await ui.pilot.pause()
        assert [place(ui, row) for row in cards_of(ui).order] == ["node015 slot5"]
        assert "/link 1 of 120" in ui.text()
        await ui.press("escape")
        assert len(cards_of(ui).order) == 120

    play(server, story)


def test_a_mistake_in_the_filter_is_told_in_place(server: FarmServer) -> None:
    """The column of the mistake is named, and the last good filter holds."""

    async def story(ui: Opened) -> None:
        await ui.press("2", "slash", "o", "k", "space", "quotation_mark", "enter")
        await ui.pilot.pause()
        assert 'column 4: a " is not closed' in ui.text()
        assert len(cards_of(ui).order) == 116

    play(server, story)


def test_what_the_filter_leaves_out_steps_back_in_the_farm_view(server: FarmServer) -> None:
    """Places stay where they are; cards that do not match lose their colour."""

    async def story(ui: Opened) -> None:
        await ui.press("slash", *"node006", "enter")
        await ui.pilot.pause()
        other, chosen = grid_of(ui).render_line(3), grid_of(ui).render_line(6)
        assert style_at(other, 10).bgcolor != STATE_LOOKS["ok"].cell.bgcolor
        assert style_at(chosen, 10).bgcolor == STATE_LOOKS["ok"].cell.bgcolor

    play(server, story)


def test_only_a_changed_cell_is_drawn_again(server: FarmServer, synthetic: SyntheticFarm) -> None:
    """One card that changes costs one cell on the wire, not the screen."""

    async def story(ui: Opened) -> None:
        grid = grid_of(ui)
        drawn: list[int] = []
        render = grid.render_line

        def counted(y: int) -> Strip:
            drawn.append(y)
            return render(y)

        grid.render_line = counted  # type: ignore[method-assign]
        synthetic.set("card-00017", state="watch", delivered=0.9)
        await ui.until(lambda: ui.counts[ChangesArrived] > 0)
        await ui.pilot.pause()
        assert drawn == [3]

    play(server, story)


def test_the_visible_table_is_exported(
    server: FarmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E writes what is shown, filtered and sorted, with the card's id, and says where."""
    monkeypatch.chdir(tmp_path)

    async def story(ui: Opened) -> None:
        await ui.press("2", "slash", *"!ok", "enter", "e")
        await ui.pilot.pause()
        (path,) = tmp_path.glob("farmhand-cards-*.csv")
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["state"] for row in rows] == ["lost", "failing", "degraded", "degraded"]
        assert rows[0]["card"] == "GPU-00000005-5e1f"
        assert path.name in ui.text()

    play(server, story)


def test_the_card_id_is_copied(server: FarmServer) -> None:
    """C puts the id of the card under the cursor into the clipboard."""

    async def story(ui: Opened) -> None:
        await ui.press("n", "c")
        assert ui.app.clipboard == "GPU-00000005-5e1f"

    play(server, story)


def test_help_names_the_keys_of_the_view(server: FarmServer) -> None:
    """Help is about where one is, and what the glyphs mean."""

    async def story(ui: Opened) -> None:
        await ui.press("2", "question_mark")
        text = ui.text()
        assert "sort column" in text and "next metric" not in text
        assert "gone from its slot" in text
        assert MARK in text
        await ui.press("q")
        assert isinstance(ui.app.screen, MainScreen)

    play(server, story)


def test_q_leaves_from_the_top_only(server: FarmServer) -> None:
    """Below, q goes back; at the top it ends the app."""

    async def story(ui: Opened) -> None:
        await ui.press("enter", "q")
        assert isinstance(ui.app.screen, MainScreen)
        await ui.press("escape")
        assert ui.app.is_running
        await ui.press("q")
        assert not ui.app.is_running

    play(server, story)


def test_paused_nothing_moves(server: FarmServer, synthetic: SyntheticFarm) -> None:
    """P holds the picture and says so; p again lets in what happened meanwhile."""

    async def story(ui: Opened) -> None:
        await ui.press("p")
        assert "PAUSED" in ui.text()
        synthetic.set("card-00000", state="lost")
        await ui.press("p")
        await ui.until(lambda: ui.counts[ChangesArrived] > 0)
        await ui.pilot.pause()
        assert ui.app.farm.totals().states["lost"] == 2

    play(server, story)


def test_a_reload_takes_a_new_snapshot(server: FarmServer) -> None:
    """ctrl+r asks the collector from the ground up."""

    async def story(ui: Opened) -> None:
        await ui.press("ctrl+r")
        await ui.until(lambda: ui.counts[SnapshotArrived] > 1)

    play(server, story)


def test_without_the_collector_the_screen_stays(server: FarmServer) -> None:
    """What was known is still shown, under a line that says since when nothing is new."""

    async def story(ui: Opened) -> None:
        server.stop()
        await ui.until(lambda: ui.counts[CollectorLost] > 0)
        await ui.pilot.pause()
        text = ui.text()
        assert "collector unreachable since" in text and "showing what was known" in text
        assert "node001" in text
        await ui.press("2")
        assert "collector unreachable since" in ui.text()

    play(server, story)


@pytest.mark.parametrize("size", [(80, 24), (420, 60), (30, 8)])
@pytest.mark.parametrize("colour", ["colour", "NO_COLOR"])
def test_every_view_works_on_any_screen(
    server: FarmServer,
    synthetic: SyntheticFarm,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    colour: str,
) -> None:
    """Small and huge, with colour and without, all views draw, and none hides the mark."""
    if colour == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    synthetic.set("card-00003", host="\x1b[2J[bold]", cause="机架", state="failing")

    async def story(ui: Opened) -> None:
        for keys in (("v", "1"), ("2", "l"), ("3",), ("enter",), ("question_mark",)):
            await ui.press(*keys)
            assert MARK in ui.text()
            assert "\x1b" not in ui.text()

    play(server, story, size)


def test_nothing_is_drawn_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe, one line says what to use instead."""
    with pytest.raises(SystemExit) as caught:
        run("http://127.0.0.1:1", None)

    assert caught.value.code == NO_TERMINAL
    assert "farmhand status" in capsys.readouterr().err


def test_a_farm_that_is_not_reached_yet_is_waited_for() -> None:
    """Without a collector the app begins all the same, and says what it waits for."""

    async def run_it() -> None:
        synthetic = SyntheticFarm(8)
        gone = FarmServer(synthetic).start()
        gone.stop()
        watch = Watch()
        app = FarmApp(gone.url)
        async with app.run_test(size=(120, 30), message_hook=watch) as pilot:
            await watch.until(lambda: watch.counts[CollectorLost] > 0)
            await pilot.pause()
            ui = Opened(app, pilot, watch)
            assert "nothing is known yet" in ui.text()

    asyncio.run(run_it())


def test_an_address_that_is_none_is_refused() -> None:
    """The command line can say so before the screen is taken."""
    with pytest.raises(CollectorUnreachable):
        FarmApp("ftp://nowhere")
