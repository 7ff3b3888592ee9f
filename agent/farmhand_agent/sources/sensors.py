"""Temperatures and fans of the node, from the few hwmon sensors that tell something about it.

Only chosen sensors are ever read: reading all of them wakes sleeping disks and waits for slow
chips. The chips of a main board (Super I/O, embedded controller) count for board and fans, the
processors' own for the processor, and whatever is labelled as inlet for the inlet. ACPI thermal
zones do not count: on many boards they show the same made-up value for ever.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from farmhand_agent.sources.base import Fields
from farmhand_agent.sources.sysfs import Listed, number, text

_BOARD_CHIPS = re.compile(
    r"nct[67]\d+|it8\d+|w83\d+\w*|f[78]\d+\w*|sch5\d+|dme1737|adt74\d+"
    r"|asusec|asus_wmi_sensors|atk0110|gigabyte_wmi|hp_wmi_sensors|pch_\w+"
)
_FAN_HUBS = re.compile(r"emc2\d+|max31790|nzxtsmart2|corsaircpro|octo|quadro|aquaero|pwmfan")
_PROCESSOR_CHIPS: Mapping[str, tuple[str, ...]] = {
    "coretemp": ("package", "physical"),
    "k10temp": ("tdie", "tctl", ""),
    "zenpower": ("tdie", "tctl"),
    "via_cputemp": ("",),
    "cpu_thermal": ("",),
}
"""Words of labels by chip, best first: Tctl of some processors is shifted, Tdie never is."""
_HARMFUL_CHIPS = frozenset({"dell_smm"})
"""Reading these stops all processors while the firmware answers."""

_INLET_WORDS = frozenset({"inlet", "ambient"})
_BOARD_WORDS = frozenset(
    {"board", "mainboard", "motherboard", "mb", "system", "systin", "chassis"}
    | {"chipset", "pch", "vrm"}
)
_NO_FAN_WORDS = frozenset({"gpu", "psu", "flow"})
_THERMISTOR = "4"

_INLET_CELSIUS = (-30.0, 80.0)
"""Air outside of this is a broken sensor."""
_BOARD_CELSIUS = (0.0, 115.0)
"""Inputs without a probe float: -128, -62, 127 and 255 are common."""
_PROCESSOR_CELSIUS = (-20.0, 125.0)
_FAN_RPM_MAX = 30_000.0
_TURNS_TO_COUNT = 3
"""Readings in a row after which a fan is one: an empty header now and then shows a speed."""

PATIENCE_SECONDS = 0.25
_STUCK_SECONDS = 30.0

_INPUT = re.compile(r"(temp|fan)\d+_input")
_WORD = re.compile(r"[a-z0-9]+")


class _Sensor(NamedTuple):
    name: str
    """Stays the same when the chip is numbered anew."""
    path: Path


class _Chosen(NamedTuple):
    """The sensors that are read, by what they tell."""

    inlet: list[_Sensor]
    board: list[_Sensor]
    processor: list[_Sensor]
    fans: list[_Sensor]


class Sensors:
    """Reads the sensors of a node; a slow one delays a call by no more than `patience_seconds`.

    What a slow sensor says comes with the next call. One that hangs is let be until it answers.
    """

    def __init__(
        self,
        hwmon: Path,
        clock: Callable[[], float] = time.monotonic,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._chosen = Listed(hwmon, _choose)
        self._rounds = _Rounds(clock, patience_seconds)
        self._turns: dict[str, int] = {}

    def read(self) -> Fields:
        """Temperatures and fans of `host`; what no sensor gives is left out."""
        chosen = self._chosen.now()
        values = self._rounds.read([s.path for group in chosen for s in group])
        inlets = _celsius(chosen.inlet, values, _INLET_CELSIUS)
        boards = _celsius(chosen.board, values, _BOARD_CELSIUS)
        processors = _celsius(chosen.processor, values, _PROCESSOR_CELSIUS)
        temperatures = {
            # The coolest inlet: the warmer ones are nearer to what heats them.
            "inlet_temperature_celsius": min(inlets, default=None),
            "board_temperature_celsius": max(boards, default=None),
            "cpu_temperature_celsius": max(processors, default=None),
        }
        given = {name: value for name, value in temperatures.items() if value is not None}
        return given | self._fans(chosen.fans, values)

    def _fans(self, fans: Iterable[_Sensor], values: Mapping[Path, float]) -> dict[str, float]:
        """Speeds of what turns, and of what has turned and stands still."""
        speeds = []
        for fan in fans:
            rpm = values.get(fan.path)
            if rpm is None or not 0 <= rpm <= _FAN_RPM_MAX:
                continue
            if self._counts(fan.name, rpm):
                speeds.append(rpm)
        if not speeds:
            return {}
        return {
            "fan_rpm_min": min(speeds),
            "fans": float(len(speeds)),
            "fans_stopped": float(speeds.count(0.0)),
        }

    def _counts(self, name: str, rpm: float) -> bool:
        turns = self._turns.get(name, 0)
        if turns < _TURNS_TO_COUNT:
            self._turns[name] = turns + 1 if rpm else 0
        return rpm > 0 or turns >= _TURNS_TO_COUNT


# --- reading -------------------------------------------------------------------------------------


class _Round(threading.Thread):
    """Reads each sensor once; what it has read so far can be seen at any time."""

    def __init__(self, paths: Iterable[Path], started: float) -> None:
        super().__init__(name="sensors", daemon=True)
        self._paths = list(paths)
        self.started = started
        self.values: dict[Path, float] = {}
        self.reading: Path | None = None

    def run(self) -> None:
        for path in self._paths:
            self.reading = path
            value = number(path)
            if value is not None:
                self.values[path] = value


class _Rounds:
    """Reads sensors in a thread of their own, one round at a time; the slow ones come last."""

    def __init__(self, clock: Callable[[], float], patience_seconds: float) -> None:
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._unfinished: _Round | None = None
        self._slow: set[Path] = set()
        self._stuck: dict[Path, _Round] = {}

    def read(self, paths: Iterable[Path]) -> dict[Path, float]:
        """What was read within the patience, and what came late since the last call."""
        late: dict[Path, float] = {}
        if self._unfinished is not None:
            late = dict(self._unfinished.values)
            if self._unfinished.is_alive() and not self._give_up(self._unfinished):
                return late
        self._stuck = {path: round_ for path, round_ in self._stuck.items() if round_.is_alive()}
        asked = [path for path in paths if path not in self._stuck]
        return late | self._start(asked) if asked else late

    def _start(self, paths: Iterable[Path]) -> dict[Path, float]:
        started = _Round(sorted(paths, key=self._slow.__contains__), self._clock())
        started.start()
        started.join(self._patience_seconds)
        self._unfinished = started if started.is_alive() else None
        if self._unfinished and started.reading:
            self._slow.add(started.reading)
        return dict(started.values)

    def _give_up(self, unfinished: _Round) -> bool:
        """Leave a sensor to its thread that hangs for long, so that the others are read again."""
        reading = unfinished.reading
        if reading is None or self._clock() - unfinished.started < _STUCK_SECONDS:
            return False
        self._stuck[reading] = unfinished
        self._unfinished = None
        return True


def _celsius(
    sensors: Iterable[_Sensor], values: Mapping[Path, float], limits: tuple[float, float]
) -> list[float]:
    """Temperatures that can be true; exactly 0 is what a missing probe reads."""
    low, high = limits
    degrees = [values[s.path] / 1000.0 for s in sensors if s.path in values]
    return [value for value in degrees if low <= value <= high and value != 0.0]


# --- choosing ------------------------------------------------------------------------------------


def _choose(hwmon: Path) -> _Chosen:
    chosen = _Chosen([], [], [], [])
    for chip in sorted(hwmon.glob("hwmon*")):
        name = text(chip / "name") or ""
        if name in _HARMFUL_CHIPS:
            continue
        inputs = list(_inputs(chip))
        temperatures = [(path, words) for path, words in inputs if path.name.startswith("temp")]
        fans = [(path, words) for path, words in inputs if path.name.startswith("fan")]
        chosen.inlet.extend(
            _Sensor(_name(p), p) for p, words in temperatures if words & _INLET_WORDS
        )
        chosen.processor.extend(_Sensor(_name(p), p) for p in _of_processor(name, temperatures))
        if _BOARD_CHIPS.fullmatch(name):
            chosen.board.extend(_Sensor(_name(p), p) for p, w in temperatures if _of_board(p, w))
        if _BOARD_CHIPS.fullmatch(name) or _FAN_HUBS.fullmatch(name):
            chosen.fans.extend(_Sensor(_name(p), p) for p, w in fans if not w & _NO_FAN_WORDS)
    return chosen


def _inputs(chip: Path) -> Iterator[tuple[Path, frozenset[str]]]:
    """Each input of a chip with the words of its label, which are none where it has no label."""
    for path in sorted(chip.glob("*_input")):
        if _INPUT.fullmatch(path.name):
            yield path, frozenset(_WORD.findall((_beside(path, "label") or "").casefold()))


def _beside(path: Path, what: str) -> str | None:
    return text(path.with_name(path.name.replace("_input", f"_{what}")))


def _of_processor(chip: str, temperatures: Iterable[tuple[Path, frozenset[str]]]) -> Iterator[Path]:
    for wanted in _PROCESSOR_CHIPS.get(chip, ()):
        paths = [path for path, words in temperatures if (wanted in words if wanted else not words)]
        if paths:
            yield from paths
            return


def _of_board(path: Path, words: frozenset[str]) -> bool:
    """Whether an input of a main board's chip shows the board.

    Other labels are processors and headers that mostly have no probe. Without a label, an input
    that is known to be no thermistor is a processor's.
    """
    if words:
        return bool(words & _BOARD_WORDS) and "cpu" not in words
    return _beside(path, "type") in (None, _THERMISTOR)


def _name(path: Path) -> str:
    """Device and input: the number of a chip changes when its driver is loaded again."""
    device = path.parent / "device"
    chip = device.resolve().name if device.exists() else path.parent.name
    return f"{chip}/{path.name}"
