"""The quiet lines around a view: which views there are, what is under the cursor, which keys."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from textual.binding import Binding, BindingType

from .. import numbers
from ..farm import Farm
from ..palette import ACCENT, BAR, DIM, PLAIN, STRONG, Look, state_look
from .heat_grid import HeatGrid
from .lines import LineWidget, Piece, spread, width_of

_KEY_NAMES = {
    "question_mark": "?",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "slash": "/",
    "f1": "F1",
    "f4": "F4",
    "f5": "F5",
    "escape": "esc",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
}


_ALWAYS_HINTED = ("help", "quit", "back")


class Keys(NamedTuple):
    """What some keys do, the keys named as they are written on a keyboard."""

    names: tuple[str, ...]
    does: str
    hinted: bool


def keys_of(*owners: Iterable[BindingType]) -> list[Keys]:
    """Return what keys do, the nearest owner first; a key that is taken goes to no other."""
    taken: set[str] = set()
    found = []
    for binding in (b for owner in owners for b in owner):
        if not isinstance(binding, Binding):
            continue
        keys = [key.strip() for key in binding.key.split(",")]
        free = [key for key in keys if key not in taken]
        taken.update(keys)
        if binding.description and free:
            names = tuple(_KEY_NAMES.get(key, key) for key in free)
            shown = (binding.key_display,) if binding.key_display else names
            found.append(Keys(shown, binding.description, binding.show))
    return found


class Tabs(LineWidget):
    """The views with their digits, and at the right what narrows or sorts the one that is open."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = names
        self._open = 0
        self._counts: Sequence[str] = [""] * len(names)
        self._note = ""

    def show(self, chosen: int, counts: Sequence[str], note: str) -> None:
        """Say which view is open, how much is in each, and what is shown of it."""
        if (chosen, counts, note) != (self._open, self._counts, self._note):
            self._open, self._counts, self._note = chosen, counts, note
            self.refresh()

    def pieces(self, width: int) -> Sequence[Sequence[Piece]]:
        """One line."""
        left: list[Piece] = []
        for index, (name, count) in enumerate(zip(self._names, self._counts, strict=True)):
            chosen = index == self._open
            left.append((f" {index + 1} ", ACCENT if chosen else DIM))
            left.append((name, STRONG if chosen else PLAIN))
            left.append((f" {count}  " if count else "  ", DIM))
        return [spread(left, [(self._note + " ", ACCENT)], width)]


class Legend(LineWidget):
    """What the cells of the farm view stand for, with the numbers of each level."""

    def __init__(self, farm: Farm, grid: HeatGrid) -> None:
        super().__init__(id="legend")
        self._farm = farm
        self._grid = grid

    def pieces(self, width: int) -> Sequence[Sequence[Piece]]:
        """One line, with as much air as there is room for."""
        metric = self._grid.metric
        title = f" {metric.name} {metric.unit}".rstrip()
        looks = metric.legend(self._farm)
        forms = [
            self._form(title, looks, " ", "   "),
            self._form(title, looks, " ", "  "),
            self._form(title, looks, " ", " "),
            self._form(title, looks, "", " "),
            self._form("", looks, "", " "),
        ]
        return [next((form for form in forms if width_of(form) <= width), forms[-1])]

    @staticmethod
    def _form(title: str, looks: Iterable[tuple[Look, str]], margin: str, gap: str) -> list[Piece]:
        pieces: list[Piece] = [(title + gap, STRONG)]
        for look, meaning in looks:
            pieces += [(margin + look.glyph + margin, look.cell), (f" {meaning}{gap}", PLAIN)]
        return pieces


class CardLine(LineWidget):
    """Who the card under the cursor is, how it is, and why."""

    ground = BAR

    def __init__(self, farm: Farm) -> None:
        super().__init__()
        self._farm = farm
        self._pieces: Sequence[Piece] = ()
        self._rest: Sequence[Piece] = ()

    def show(self, row: int | None) -> None:
        """Describe this card; None where the cursor is on none."""
        pieces = () if row is None else self._describe(row)
        rest = () if row is None else self._reason(row)
        if (pieces, rest) != (self._pieces, self._rest):
            self._pieces, self._rest = pieces, rest
            self.refresh()

    def say(self, text: str) -> None:
        """Show a text, safe already, in place of a card."""
        self._pieces, self._rest = ((f" {text}", PLAIN),), ()
        self.refresh()

    def pieces(self, width: int) -> Sequence[Sequence[Piece]]:
        """One line, or two where the screen gives two."""
        if self.size.height > 1:
            return [spread(self._pieces, (), width), spread(self._rest, (), width)]
        return [spread([*self._pieces, *self._rest], (), width)]

    def _describe(self, row: int) -> tuple[Piece, ...]:
        farm = self._farm
        place = " ".join(filter(None, (farm.text(name, row) for name in ("rack", "host", "slot"))))
        look = state_look(farm.columns["state"][row])
        words = [f"{look.glyph} {farm.text('state', row)}", farm.text("cause", row)]
        delivered = farm.number("delivered", row)
        if delivered is not None:
            words.append(f"{numbers.percent(delivered)} %")
        since = farm.number("since", row)
        if farm.flagged(row) and since is not None and farm.time is not None:
            words.append(f"for {numbers.age(farm.time - since)}")
        return (
            (f" {place}  ", STRONG),
            (f"{farm.text('model', row)}  ", PLAIN),
            ("  ".join(filter(None, words)) + " ", look.text),
        )

    def _reason(self, row: int) -> tuple[Piece, ...]:
        return ((" " + (self._farm.text("reason", row) or self._readings(row)), PLAIN),)

    def _readings(self, row: int) -> str:
        farm = self._farm
        return "  ".join(
            (
                f"{numbers.percent(farm.number('utilization_ratio', row))} % busy",
                f"{numbers.whole(farm.number('core_clock_mhz', row))} MHz",
                f"{numbers.whole(farm.number('power_watts', row))} W",
                f"{numbers.whole(farm.number('core_temperature_celsius', row))} °C",
            )
        )


class Hints(LineWidget):
    """The keys that matter here; all of them are on the help screen."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: Sequence[Keys] = ()

    def show(self, keys: Sequence[Keys]) -> None:
        """Name these keys."""
        hinted = [one for one in keys if one.hinted]
        if hinted != self._keys:
            self._keys = hinted
            self.refresh()

    def pieces(self, width: int) -> Sequence[Sequence[Piece]]:
        """Return one line, with as many keys as fit whole; help and leaving always do."""
        always = [keys for keys in self._keys if keys.does in _ALWAYS_HINTED]
        right = [piece for keys in always for piece in self._hint(keys)]
        left: list[Piece] = []
        for keys in self._keys:
            hint = self._hint(keys)
            fits = width_of(left) + width_of(hint) + width_of(right) <= width
            if keys not in always and fits:
                left += hint
        return [spread(left, right, width)]

    @staticmethod
    def _hint(keys: Keys) -> list[Piece]:
        return [(f" {keys.names[0]}", ACCENT), (f" {keys.does} ", DIM)]
