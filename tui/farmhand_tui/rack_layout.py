"""Where each card is drawn: racks side by side as blocks, nodes as lines, cards as cells.

rack-01 ─────────────   rack-02 ─────────────
node-01 ········        node-09 ···▼····
node-02 ····!···        node-10 ········
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.cells import cell_len

from .escape import safe, tail
from .farm import Farm

PITCHES = (5, 2, 1)
"""Columns a cell may take, the roomiest first: the number in it, its glyph with air, its glyph."""

PITCH_WITHOUT_GAP = 2
"""From here down, cells touch one another."""

MOST_LABEL_CELLS = 16
MOST_NODES = 16
"""Longest run of nodes in one block; a rack with more goes on in the next block."""
MOST_CARDS = 16
"""Longest run of cards on one line."""


class Label(NamedTuple):
    """The name of a rack or a node at one place; a rack's goes with its rows."""

    x: int
    name: str
    text: str
    rows: Sequence[int]
    rack: bool


class Spot(NamedTuple):
    """The place of one card's cell."""

    x: int
    y: int


class _Node(NamedTuple):
    name: str
    rows: list[int]


class _Block(NamedTuple):
    rack: str
    title: str
    lines: list[_Node]


@dataclass
class RackLayout:
    """Places of all cards for one width; `lines` hold labels and rows of cards from left on."""

    pitch: int = 1
    block_width: int = 0
    label_width: int = 0
    lines: list[tuple[list[Label], list[tuple[int, int]]]] = field(default_factory=list)
    spots: dict[int, Spot] = field(default_factory=dict)
    sequence: list[int] = field(default_factory=list)

    @property
    def height(self) -> int:
        """Lines in all."""
        return len(self.lines)


def lay_out(farm: Farm, width: int, height: int) -> RackLayout:
    """Return the roomiest layout that fits `height` lines, else the densest, which scrolls."""
    nodes = list(_nodes(farm))
    layout = RackLayout()
    for pitch in PITCHES:
        per_line = _cards_per_line(nodes, width, pitch)
        if per_line is None:
            continue
        blocks = list(_blocks(nodes, per_line))
        layout = RackLayout(pitch, label_width=_label_width(nodes))
        layout.block_width = layout.label_width + 1 + pitch * per_line
        if _height(blocks, layout, width) <= height or pitch == PITCHES[-1]:
            break
    if nodes:
        _place(layout, blocks, width)
    return layout


def _nodes(farm: Farm) -> Iterator[tuple[str, _Node]]:
    """Nodes with the name of their rack, in order of place."""
    columns = farm.columns
    many_sites = len(set(columns["site"])) > 1
    last: tuple[str, ...] | None = None
    rack, node = "", _Node("", [])
    for row in farm.placed:
        place = columns["site"][row], columns["rack"][row], columns["host"][row]
        if place != last:
            if node.rows:
                yield rack, node
            rack = "/".join(place[:2]).strip("/") if many_sites else place[1]
            node, last = _Node(place[2], []), place
        node.rows.append(row)
    if node.rows:
        yield rack, node


def _label_width(nodes: Sequence[tuple[str, _Node]]) -> int:
    longest = max((cell_len(safe(node.name)) for _, node in nodes), default=0)
    return max(4, min(MOST_LABEL_CELLS, longest))


def _cards_per_line(nodes: Sequence[tuple[str, _Node]], width: int, pitch: int) -> int | None:
    """How many cells fit beside a label; None where this pitch does not fit at all."""
    fits = (width - _label_width(nodes) - 1) // pitch
    widest = max((len(node.rows) for _, node in nodes), default=1)
    wanted = min(MOST_CARDS, widest)
    if fits >= wanted:
        return wanted
    return max(1, fits) if pitch == PITCHES[-1] else None


def _blocks(nodes: Sequence[tuple[str, _Node]], per_line: int) -> Iterator[_Block]:
    racks: dict[str, list[_Node]] = {}
    for rack, node in nodes:
        lines = racks.setdefault(rack, [])
        for start in range(0, len(node.rows), per_line):
            lines.append(_Node("" if start else node.name, node.rows[start : start + per_line]))
    for rack, lines in racks.items():
        blocks = -(-len(lines) // MOST_NODES)
        size = -(-len(lines) // blocks)
        for start in range(0, len(lines), size):
            title = rack or "no rack"
            yield _Block(rack, f"{title} ..." if start else title, lines[start : start + size])


def _bands(blocks: Sequence[_Block], layout: RackLayout, width: int) -> Iterator[list[_Block]]:
    across = max(1, (width + _gap(layout.pitch)) // (layout.block_width + _gap(layout.pitch)))
    for start in range(0, len(blocks), across):
        yield list(blocks[start : start + across])


def _height(blocks: Sequence[_Block], layout: RackLayout, width: int) -> int:
    """Lines in all: each band has a line of titles, and between two bands one is left free."""
    heights = [2 + max(len(b.lines) for b in band) for band in _bands(blocks, layout, width)]
    return sum(heights) - 1


def _gap(pitch: int) -> int:
    return 2 if pitch == 1 else 3


def _place(layout: RackLayout, blocks: Sequence[_Block], width: int) -> None:
    for band in _bands(blocks, layout, width):
        if layout.lines:
            layout.lines.append(([], []))
        top = len(layout.lines)
        deepest = max(len(block.lines) for block in band)
        layout.lines.extend(([], []) for _ in range(deepest + 1))
        for position, block in enumerate(band):
            left = position * (layout.block_width + _gap(layout.pitch))
            _place_block(layout, block, left, top)


def _place_block(layout: RackLayout, block: _Block, left: int, top: int) -> None:
    rows = [row for node in block.lines for row in node.rows]
    title = safe(block.title, layout.block_width)
    layout.lines[top][0].append(Label(left, block.rack, title, rows, rack=True))
    for y, node in enumerate(block.lines, start=top + 1):
        labels, cells = layout.lines[y]
        name = tail(node.name, layout.label_width)
        labels.append(Label(left, node.name, name, node.rows, rack=False))
        for index, row in enumerate(node.rows):
            x = left + layout.label_width + 1 + index * layout.pitch
            cells.append((x, row))
            layout.spots[row] = Spot(x, y)
            layout.sequence.append(row)
