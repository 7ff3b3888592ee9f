"""Work that jobs report through files."""

import contextlib
import os
import re
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from farmhand_agent.inventory import Place
from farmhand_agent.reading import UNIDENTIFIED, Value, fields_of
from farmhand_agent.sources.work import LANES, KnownCard, Work, WorkSource

UUID = "6f1f2a1e-52a7-4c0e-9b0d-0f3f4f1c2d3e"
OTHER_UUID = "0a0b0c0d-52a7-4c0e-9b0d-0f3f4f1c2d3e"
FIRST = KnownCard(Place("PCIE4", f"GPU-{UUID}", "nvidia", "RTX 3090"), "0000:0c:00.0", 0)
SECOND = KnownCard(Place("3", f"GPU-{OTHER_UUID}", "nvidia", "RTX 3090"), "0001:21:00.0", 1)
CARDS = [FIRST, SECOND]
GOOD = f"card={UUID}\nrate=1.5\nunit=tokens/s\njob=llama\ngang=run7\n"


class Node:
    """A work directory and the clocks of its machine, which go on only when told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.wall = time.time()
        self.now = 5000.0
        self.source = WorkSource(directory, wall=lambda: self.wall, clock=lambda: self.now)

    def write(self, name: str, content: str | bytes, age: float = 0.0) -> Path:
        """Write a file as a careful job does; its time is that of the machine."""
        data = content.encode() if isinstance(content, str) else content
        beside = self.directory / f"{name}.tmp"
        beside.write_bytes(data)
        os.utime(beside, (self.wall - age, self.wall - age))
        return beside.replace(self.directory / name)

    def pass_seconds(self, seconds: float) -> None:
        self.wall += seconds
        self.now += seconds

    def read(self, cards: list[KnownCard] = CARDS) -> list[Work]:
        return self.source.read(cards)

    def lanes(self) -> dict[str, int]:
        """Lane by job."""
        return {str(work.fields["job"]): work.lane for work in self.read()}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


class Told:
    """Lines of the log."""

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        self._log = log

    @property
    def lines(self) -> list[str]:
        return self._log.messages


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


def stays_wrong(node: Node) -> None:
    """Read as long as it takes until a file that stays wrong is told."""
    for _ in range(4):
        node.read()
        node.pass_seconds(10)


# --- the file ------------------------------------------------------------------------------------


def test_a_file_becomes_work_of_its_card(node: Node) -> None:
    """Its fields are those of the contract."""
    node.write("a", GOOD)
    fields: dict[str, Value] = {"rate": 1.5, "unit": "tokens/s", "job": "llama", "gang": "run7"}
    assert node.read() == [Work(FIRST.place, 0, fields)]
    assert fields.keys() == fields_of("work").keys()


def test_card_and_rate_are_enough(node: Node) -> None:
    """What is not said is left out."""
    node.write("a", "card=0\nrate=0")
    assert node.read() == [Work(FIRST.place, 0, {"rate": 0.0})]


@pytest.mark.parametrize(
    "content",
    [
        f"\ufeffcard={UUID}\r\nrate=1.5\r\n",
        f"# written by hand\n\n Card = {UUID} \nRATE= 1.5\nnote=of no interest\n",
        f'card="{UUID}"\nrate=15e-1',
        f"card=0\nrate=1\ncard={UUID}\nrate=1.5\n",
    ],
)
def test_a_file_may_be_written_loosely(node: Node, content: str) -> None:
    """Line ends, spaces, quotes, comments, other keys and order make no difference."""
    node.write("a", content)
    assert [work.fields["rate"] for work in node.read()] == [1.5]


@pytest.mark.parametrize(
    "card",
    [
        UUID,
        UUID.upper(),
        f"GPU-{UUID}",
        UUID.replace("-", ""),
        f"MIG-GPU-{UUID}/1/0",
        "0000:0c:00.0",
        "00000000:0C:00.0",
        "0c:00.0",
        "0:c:0",
        "0",
        "nvidia:0",
        "pcie4",
    ],
)
def test_a_card_may_be_named_in_any_spelling(node: Node, card: str) -> None:
    """Drivers, tools and frameworks all write it in their own way."""
    node.write("a", f"card={card}\nrate=1")
    assert [work.place for work in node.read()] == [FIRST.place]


def test_a_number_is_the_drivers_and_not_a_slots_label(node: Node) -> None:
    """Slots are often labelled with numbers; such a one is named as slot."""
    node.write("a", "card=1\nrate=1")
    assert [work.place.slot for work in node.read()] == ["3"]
    node.write("a", "card=3\nrate=1")
    node.write("b", "slot=3\nrate=2")
    assert [work.fields["rate"] for work in node.read() if work.place.slot == "3"][-1] == 2.0


def test_a_name_of_two_cards_is_none(node: Node, told: Told) -> None:
    """Two vendors both have a card 0, and copied firmware gives two cards one UUID."""
    ascend = KnownCard(Place("0.0", UNIDENTIFIED, "ascend", "910B"), number=0)
    node.write("a", "card=0\nrate=1")
    node.write("b", "card=ascend:0\nrate=2")
    for _ in range(4):
        work = node.read([*CARDS, ascend])
        node.pass_seconds(10)
    assert [(each.place, each.fields["rate"]) for each in work] == [(ascend.place, 2.0)]
    assert len(told.lines) == 1 and "names more than one card" in told.lines[0]


def test_a_card_that_turns_up_later_gets_its_work(node: Node, told: Told) -> None:
    """At the start no card is known yet; that is nothing to tell."""
    node.write("a", GOOD)
    assert node.read([]) == []
    assert len(node.read(CARDS)) == 1
    assert not told.lines


@pytest.mark.parametrize("rate", ["nan", "inf", "-inf", "-1", "1e999", "", "fast", "12,5"])
def test_a_rate_that_is_no_rate_is_refused(node: Node, told: Told, rate: str) -> None:
    """Only numbers of 0 or more are work."""
    node.write("a", f"card=0\nrate={rate}")
    stays_wrong(node)
    assert node.read() == []
    assert [line.partition("' ")[2] for line in told.lines] == [
        "has no usable rate, expected rate= a number of 0 or more"
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("rate=1", "names no card"),
        ("card=0", "has no usable rate"),
        ("card=9\nrate=1", "not on this machine"),
        ("card=0\nrate=1\nlane=8", "has no usable lane"),
        ("card=0\nrate=1\nlane=00000000099999", "has no usable lane"),
        ("12.5\n", "not key=value"),
        ("", "names no card"),
        (b"\x80\x02}q\x00(X\x04", "not key=value"),
        ("card=0\nrate=1\n" + "#" * 4096, "too large"),
    ],
)
def test_a_wrong_file_is_told_once_with_its_reason(
    node: Node, told: Told, content: str | bytes, reason: str
) -> None:
    """A writer finds out from the log what is wrong."""
    node.write("a", content)
    stays_wrong(node)
    stays_wrong(node)
    assert node.read() == []
    assert len(told.lines) == 1 and reason in told.lines[0]


def test_texts_are_cleaned(node: Node) -> None:
    """Names of jobs end up in terminals: nothing that controls one, nothing without end."""
    node.write("a", b"card=0\nrate=1\njob=\x1b[2Jll\xffama\x00" + b"x" * 2000)
    job = node.read()[0].fields["job"]
    assert isinstance(job, str)
    assert job.startswith("[2Jll\ufffdama x")
    assert len(job) <= 256


# --- time ----------------------------------------------------------------------------------------


def test_work_counts_until_its_file_is_stale(node: Node) -> None:
    """A job that died does not go on working."""
    node.write("a", GOOD)
    assert len(node.read()) == 1
    node.pass_seconds(120)
    assert len(node.read()) == 1
    node.pass_seconds(1)
    assert node.read() == []
    node.write("a", GOOD)
    assert len(node.read()) == 1


def test_a_file_from_before_the_agents_start_is_as_old_as_its_time(node: Node) -> None:
    """What the last boot or a dead job left counts no more."""
    node.write("old", GOOD, age=121)
    node.write("new", "card=1\nrate=2", age=60)
    assert [work.place.slot for work in node.read()] == ["3"]
    node.pass_seconds(61)
    assert node.read() == []


def test_a_time_to_come_does_not_keep_a_file_alive(node: Node) -> None:
    """It counts from when it was first seen."""
    node.write("a", GOOD, age=-1_000_000)
    assert len(node.read()) == 1
    node.pass_seconds(121)
    assert node.read() == []


@pytest.mark.parametrize("step", [-86400.0, 86400.0])
def test_a_step_of_the_clock_changes_nothing(node: Node, step: float) -> None:
    """Files that are written go on counting, files that are not become stale."""
    node.write("a", GOOD)
    node.write("b", "card=1\nrate=1")
    node.read()
    node.wall += step
    assert len(node.read()) == 2
    node.pass_seconds(100)
    node.write("a", GOOD, age=500)
    node.read()
    node.pass_seconds(100)
    assert [work.place for work in node.read()] == [FIRST.place]


def test_a_changed_file_is_read_again(node: Node) -> None:
    """A new rate counts from the next interval on."""
    node.write("a", "card=0\nrate=1")
    node.read()
    node.write("a", "card=0\nrate=2")
    assert [work.fields["rate"] for work in node.read()] == [2.0]


def test_a_removed_file_is_no_work(node: Node) -> None:
    """A job may clean up after itself."""
    path = node.write("a", GOOD)
    node.read()
    path.unlink()
    assert node.read() == []


def test_a_half_written_file_says_what_it_said_before(node: Node, told: Told) -> None:
    """It is tried again; nothing is told, and the lane is kept."""
    path = node.write("a", f"card={UUID}\nrate=1")
    node.read()
    path.write_text(f"card={UUID}\nra")
    node.pass_seconds(10)
    assert [work.fields["rate"] for work in node.read()] == [1.0]
    path.write_text(f"card={UUID}\nrate=2\n")
    assert [work.fields["rate"] for work in node.read()] == [2.0]
    assert not told.lines


def test_a_file_that_turns_wrong_for_good_becomes_stale(node: Node, told: Told) -> None:
    """However often the wrong content is written."""
    node.write("a", GOOD)
    node.read()
    for _ in range(13):
        node.pass_seconds(10)
        node.write("a", "card=0\nrate=nan")
        work = node.read()
    assert work == []
    assert len(told.lines) == 1


def test_names_of_unfinished_files_are_passed_over(node: Node, told: Told) -> None:
    """They are renamed when they are complete."""
    for name in ("a.tmp", "a.part", ".a"):
        (node.directory / name).write_text(GOOD)
    stays_wrong(node)
    assert node.read() == []
    assert not told.lines


# --- lanes ---------------------------------------------------------------------------------------


def test_jobs_on_one_card_get_lanes_and_keep_them(node: Node) -> None:
    """A lane is a series: it must not change hands while its file lives."""
    for job in ("b", "c"):
        node.write(job, f"card=0\nrate=1\njob={job}")
    assert node.lanes() == {"b": 0, "c": 1}
    node.write("a", "card=0\nrate=1\njob=a")
    assert node.lanes() == {"a": 2, "b": 0, "c": 1}
    (node.directory / "b").unlink()
    assert node.lanes() == {"a": 2, "c": 1}
    node.write("d", "card=0\nrate=1\njob=d")
    assert node.lanes() == {"a": 2, "c": 1, "d": 0}


def test_lanes_are_of_each_card(node: Node) -> None:
    """One job on each of two cards has lane 0 on both."""
    node.write("a", "card=0\nrate=1")
    node.write("b", "card=1\nrate=1")
    assert {(work.place.slot, work.lane) for work in node.read()} == {("PCIE4", 0), ("3", 0)}


def test_a_lane_that_is_asked_for_is_given(node: Node) -> None:
    """Those that ask go before those that take any."""
    node.write("a", "card=0\nrate=1\njob=a")
    node.write("b", "card=0\nrate=1\njob=b\nlane=0")
    assert node.lanes() == {"a": 1, "b": 0}


def test_a_lane_that_is_taken_is_refused(node: Node, told: Told) -> None:
    """The one who has it keeps it, until its file is gone."""
    node.write("a", "card=0\nrate=1\njob=a\nlane=3")
    node.read()
    node.write("b", "card=0\nrate=1\njob=b\nlane=3")
    stays_wrong(node)
    assert node.lanes() == {"a": 3}
    assert len(told.lines) == 1 and "asks for a lane" in told.lines[0]
    (node.directory / "a").unlink()
    assert node.lanes() == {"b": 3}


def test_more_jobs_than_lanes_are_told_once(node: Node, told: Told) -> None:
    """The first eight count."""
    for number in range(10):
        node.write(f"job{number}", f"card=0\nrate=1\njob={number}")
    stays_wrong(node)
    stays_wrong(node)
    assert sorted(node.lanes().values()) == list(range(8))
    assert len(told.lines) == 2 and all("one too many" in line for line in told.lines)


class Lanes(RuleBasedStateMachine):
    """Whatever jobs come, go, and ask for, lanes are unique and stay with their files."""

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory()
        self.node = Node(Path(self._temporary.name))
        self.before: dict[str, int] = {}
        self.written: set[str] = set()

    def teardown(self) -> None:
        self._temporary.cleanup()

    @rule(name=st.sampled_from("abcdefghijkl"), lane=st.none() | st.integers(0, 7))
    def write(self, name: str, lane: int | None) -> None:
        asked = "" if lane is None else f"lane={lane}"
        self.node.write(name, f"card=0\nrate=1\njob={name}\n{asked}")
        if lane not in (None, self.before.get(name)):
            self.before.pop(name, None)
        self.written.add(name)

    @rule(name=st.sampled_from("abcdefghijkl"))
    def remove(self, name: str) -> None:
        (self.node.directory / name).unlink(missing_ok=True)
        self.before.pop(name, None)
        self.written.discard(name)

    @rule(seconds=st.sampled_from([10.0, 60.0, 130.0]))
    def wait(self, seconds: float) -> None:
        self.node.pass_seconds(seconds)
        if seconds > 120:
            self.before.clear()

    @invariant()
    def lanes_are_unique_and_kept(self) -> None:
        work = self.node.read()
        lanes = {str(each.fields["job"]): each.lane for each in work}
        assert len(lanes) == len(work) == len(set(lanes.values()))
        assert all(0 <= lane < LANES for lane in lanes.values())
        assert lanes.keys() <= self.written
        kept = self.before.keys() & lanes.keys()
        assert {name: lanes[name] for name in kept} == {name: self.before[name] for name in kept}
        self.before = lanes


TestLanes = Lanes.TestCase
TestLanes.settings = settings(max_examples=40, stateful_step_count=30)


# --- an unfriendly directory ---------------------------------------------------------------------


def test_a_missing_directory_is_no_work(tmp_path: Path, told: Told) -> None:
    """Nobody reports work here; once somebody does it is found."""
    node = Node(tmp_path / "work")
    assert node.read() == []
    node.directory.mkdir()
    node.write("a", GOOD)
    assert len(node.read()) == 1
    assert not told.lines


def test_what_is_no_directory_is_told_once(tmp_path: Path, told: Told) -> None:
    """A plain file in its place is a mistake of the keeper."""
    (tmp_path / "work").write_text("")
    node = Node(tmp_path / "work")
    stays_wrong(node)
    assert told.lines == [f"work: {str(node.directory)!r} cannot be read: Not a directory"]


def test_nothing_but_plain_files_is_read(node: Node, told: Told, tmp_path: Path) -> None:
    """A pipe would be waited for, a device does things, a link leads to somebody else's file."""
    outside = tmp_path.with_name(f"{tmp_path.name}-outside")
    outside.write_text(GOOD)
    (node.directory / "link").symlink_to(outside)
    (node.directory / "dangling").symlink_to("nowhere")
    (node.directory / "device").symlink_to("/dev/zero")
    (node.directory / "directory").mkdir()
    os.mkfifo(node.directory / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(node.directory / "socket"))
    stays_wrong(node)
    assert node.read() == []
    assert len(told.lines) == 6 and all("is no plain file" in line for line in told.lines)


def test_a_file_with_a_second_name_is_not_read(node: Node, told: Told) -> None:
    """A hard link shows a file that its maker may not read, but the agent may."""
    path = node.write("a", GOOD)
    (node.directory / ".second").hardlink_to(path)
    stays_wrong(node)
    assert node.read() == []
    assert len(told.lines) == 1 and "second name" in told.lines[0]


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be swapped in between the look and the opening."""
    node.write("a", GOOD)
    really = os.open

    def swap(path: str, flags: int, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None:
            (node.directory / path).unlink()
            os.mkfifo(node.directory / path)
        return really(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swap)
    assert node.read() == []


def test_a_huge_file_is_not_read(node: Node, told: Told) -> None:
    """A terabyte without content costs nothing."""
    with node.write("a", GOOD).open("r+b") as file:
        file.truncate(2**40)
    stays_wrong(node)
    assert len(told.lines) == 1 and "too large" in told.lines[0]


def test_a_flood_of_files_does_not_drown_work_that_is_known(node: Node, told: Told) -> None:
    """What was good goes first; no more than so many files are looked at."""
    node.write("zzz", GOOD)
    node.read()
    for number in range(5000):
        (node.directory / f"junk{number}").touch()
    stays_wrong(node)
    assert [work.place for work in node.read()] == [FIRST.place]
    assert len(told.lines) <= 50
    assert "holds too many files" in told.lines[0]


def test_names_are_escaped_in_the_log(node: Node, told: Told) -> None:
    """A name can hold anything but a slash: colours, new lines, bytes that are no text."""
    (node.directory / os.fsdecode(b"\x1b[31m\nroot: all is well\xff\xe2\x80\xae")).write_text("?")
    stays_wrong(node)
    assert len(told.lines) == 1 and told.lines[0].isprintable()
    told.lines[0].encode()


def test_a_file_that_may_not_be_read_is_told_and_read_once_it_may(told: Told) -> None:
    """Files made by mktemp are their owner's only."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        node = Node(Path(directory))
        path = node.write("a", GOOD)
        path.chmod(0)
        with as_nobody():
            stays_wrong(node)
            assert node.read() == []
        path.chmod(0o644)
        assert len(node.read()) == 1
    assert len(told.lines) == 1 and "Permission denied" in told.lines[0]


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """As a user for whom permissions hold: root reads everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@given(st.binary(max_size=300) | st.text().map(lambda text: f"card=0\n{text}".encode()))
def test_no_content_is_too_strange(content: bytes) -> None:
    """Whatever a file holds, it is either work that fits the contract or nothing."""
    with tempfile.TemporaryDirectory() as directory:
        node = Node(Path(directory))
        node.write("a", content)
        for work in node.read():
            rate = work.fields["rate"]
            assert isinstance(rate, float) and 0 <= rate < float("inf")
            assert work.fields.keys() <= fields_of("work").keys()


# --- the examples of the documentation -----------------------------------------------------------


def example(name: str) -> str:
    """A piece of code from the page that job writers copy from."""
    page = (Path(__file__).parents[2] / "docs/work.md").read_text()
    found = re.search(rf"<!-- example: {name} -->\n```\w+\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_shell_example_reports_work(tmp_path: Path) -> None:
    """As it stands in the documentation, but for the directory."""
    script = example("shell").replace("/run/farmhand/work", str(tmp_path))
    subprocess.run(["sh", "-euc", f"rate=812.5\n{script}"], check=True)
    fields: dict[str, Value] = {"rate": 812.5, "unit": "H/s", "job": "xmr"}
    assert WorkSource(tmp_path).read(CARDS) == [Work(FIRST.place, 0, fields)]
    assert [path.name for path in tmp_path.iterdir()] == ["xmr.0"]


def test_the_torch_example_reports_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands in the documentation, on what its call of PyTorch returns."""
    torch = ModuleType("torch")
    vars(torch)["cuda"] = SimpleNamespace(
        get_device_properties=lambda device: SimpleNamespace(
            uuid=UUID if device is None else [UUID, OTHER_UUID][device]
        ),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "job.py").write_text(example("torch").replace("/run/farmhand/work", str(work)))
    tell_farmhand = runpy.run_path(str(tmp_path / "job.py"))["tell_farmhand"]
    tell_farmhand(1843.2, "tokens/s", "llama", gang="run7")
    tell_farmhand(1840, "tokens/s", "llama", device=1)
    assert WorkSource(work).read(CARDS) == [
        Work(SECOND.place, 0, {"rate": 1840.0, "unit": "tokens/s", "job": "llama"}),
        Work(
            FIRST.place,
            0,
            {"rate": 1843.2, "unit": "tokens/s", "job": "llama", "gang": "run7"},
        ),
    ]
