"""The line in which the filter is typed, with what is wrong with it beside."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from ..filter import Filter, FilterError

MOST_CHARACTERS = 512
_HELP = 'word  !word  "two words"  temp>80  util<20  power>300  clock<900   enter keep  esc clear'


class FilterBar(Horizontal):
    """Hidden until it is opened; tells of each filter that can be read."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "drop", "clear the filter")]

    class Changed(Message):
        """Another filter was typed."""

        def __init__(self, chosen: Filter) -> None:
            super().__init__()
            self.filter = chosen

    class Closed(Message):
        """Typing is over; without `keep` the filter goes too."""

        def __init__(self, *, keep: bool) -> None:
            super().__init__()
            self.keep = keep

    def compose(self) -> ComposeResult:
        """Lay out a slash, the text, and room for what is wrong."""
        yield Static("/", id="slash")
        yield Input(compact=True, max_length=MOST_CHARACTERS, select_on_focus=False)
        yield Static(_HELP, id="said", markup=False)

    def open(self, text: str) -> None:
        """Begin to type, with the filter that holds now."""
        self.display = True
        field = self.query_one(Input)
        field.value = text
        field.cursor_position = len(text)
        field.focus()

    def close(self) -> None:
        """Hide, saying nothing."""
        self.display = False

    def on_mount(self) -> None:
        """Stay out of sight at first."""
        self.display = False

    def on_input_changed(self, message: Input.Changed) -> None:
        """Read the filter; keep the last good one while it cannot be read."""
        message.stop()
        self._read(message.value)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Keep the filter, if it can be read."""
        message.stop()
        if self._read(message.value):
            self.close()
            self.post_message(self.Closed(keep=True))

    def action_drop(self) -> None:
        """Give the filter up."""
        self.close()
        self.post_message(self.Closed(keep=False))

    def _read(self, text: str) -> bool:
        said = self.query_one("#said", Static)
        try:
            chosen = Filter.parse(text)
        except FilterError as error:
            said.update(str(error))
            said.add_class("wrong")
            return False
        said.update(_HELP)
        said.remove_class("wrong")
        if self.display:
            self.post_message(self.Changed(chosen))
        return True
