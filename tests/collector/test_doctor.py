"""The doctor: each check on a collector's files that are good, and then not."""

import json
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from farmhand_agent import __version__
from farmhand_agent.reading import SCHEMA, Reading, Value
from farmhand_agent.settings import ConfigError
from farmhand_collector import support_bundle
from farmhand_collector.backup import make
from farmhand_collector.doctor import all_checks
from farmhand_collector.doctor_cli import main, text
from farmhand_collector.examination import (
    Check,
    Level,
    Report,
    Result,
    Setup,
    examined,
    exit_status,
    loaded,
)
from farmhand_collector.ledger import Ledger
from farmhand_collector.redaction import Pseudonyms, Redactor
from farmhand_collector.store.embedded import EmbeddedStore
from tests.collector.farms import card_tags

CHECKS = {check.id: check for check in all_checks()}
TOKEN = "fh1_0a1b2c_" + "Zm9v" * 10


class Installation:
    """A collector's configuration and files, as they are when it is stopped."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.path = directory / "collector.json"
        self.token_file = directory / "token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(TOKEN)
        self.content: dict[str, Any] = {
            "data_dir": str(self.data),
            "listen": {
                "read_token_file": str(self.token_file),
                "write_token_file": str(self.token_file),
            },
        }
        Ledger(self.data / "farm.sqlite").close()
        self.tell()

    def tell(self, *readings: Reading) -> None:
        """Have the store hold readings."""
        with closing(EmbeddedStore(self.data / "readings")) as store:
            store.write(readings)

    def agent(self, host: str, age_seconds: float = 5.0, **fields: Value) -> Reading:
        """What an agent told of itself a while ago."""
        told: dict[str, Value] = {"version": __version__, "schema": float(SCHEMA), **fields}
        return Reading("agent", {"host": host}, told, int((time.time() - age_seconds) * 1e9))

    def result(self, check: str, url: str | None = None) -> Result:
        """What a check says now."""
        self.path.write_text(json.dumps(self.content))
        with closing(loaded(self.path, url)) as setup:
            told = examined(setup, [CHECKS[check]]).checks[0]
        assert told.level == Level.OK or told.remedy or told.level == Level.CANNOT_TELL
        return Result(Level(told.level), told.seen, told.remedy)

    def level(self, check: str) -> Level:
        """How a check finds it now."""
        return self.result(check).level


@pytest.fixture
def farm(tmp_path: Path) -> Installation:
    """A sound one."""
    return Installation(tmp_path)


# --- single checks -------------------------------------------------------------------------------


def test_a_faulty_configuration_is_told_with_its_key(farm: Installation) -> None:
    """The other checks cannot tell then, which is told too."""
    assert farm.level("configuration") == Level.OK
    farm.content["kep"] = {}

    assert "kep: unknown key" in farm.result("configuration").seen
    assert farm.level("configuration") == Level.BAD
    assert farm.level("ledger") == Level.CANNOT_TELL


def test_a_collector_that_does_not_answer_is_bad(farm: Installation) -> None:
    """Nothing listens on a port that was just let go."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]

    assert farm.result("collector", f"http://127.0.0.1:{port}").level == Level.BAD
    assert farm.result("judging", f"http://127.0.0.1:{port}").level == Level.CANNOT_TELL


def test_silent_agents_are_named(farm: Installation) -> None:
    """One of several is a warning, all of them are bad, none that ever spoke cannot be told."""
    assert farm.level("agents-silent") == Level.CANNOT_TELL
    farm.tell(farm.agent("n1"), farm.agent("n2"))
    assert farm.level("agents-silent") == Level.OK
    farm.tell(farm.agent("n3", age_seconds=3600))
    assert farm.level("agents-silent") == Level.WARNING
    assert farm.result("agents-silent").seen.endswith("silent: n3")


def test_all_agents_silent_is_bad(farm: Installation) -> None:
    """Then it is the network or the collector rather than a node."""
    farm.tell(farm.agent("n1", age_seconds=900), farm.agent("n2", age_seconds=900))

    assert farm.level("agents-silent") == Level.BAD


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({}, Level.OK),
        ({"version": "simulated"}, Level.OK),
        ({"version": "0.0.1"}, Level.WARNING),
        ({"schema": SCHEMA + 1.0}, Level.OK),
        ({"schema": SCHEMA + 2.0}, Level.BAD),
    ],
)
def test_agents_of_other_versions_are_told(
    farm: Installation, fields: dict[str, Value], level: Level
) -> None:
    """The contract before and after is read, others are not."""
    farm.tell(farm.agent("n1", 5.0, **fields))

    assert farm.level("agents-version") == level


@pytest.mark.parametrize(
    ("offset", "level"),
    [(0.01, Level.OK), (-4.0, Level.OK), (-6.0, Level.WARNING), (16.0, Level.BAD)],
)
def test_clocks_of_nodes_are_compared(farm: Installation, offset: float, level: Level) -> None:
    """As much as frames wait for readings is too much, in either direction."""
    farm.tell(farm.agent("n1", clock_offset_seconds=0.0))
    farm.tell(farm.agent("n2", clock_offset_seconds=offset))

    assert farm.level("clock-agents") == level


def test_a_clock_that_nobody_told_of_cannot_be_judged(farm: Installation) -> None:
    """No value is not a good one."""
    farm.tell(farm.agent("n1"))

    assert farm.level("clock-agents") == Level.CANNOT_TELL


@pytest.mark.parametrize(
    ("points", "level"),
    [
        ([0] * 12, Level.OK),
        ([9000] * 12, Level.OK),
        ([100 * n for n in range(12)], Level.WARNING),
        ([9000 - 100 * n for n in range(12)], Level.OK),
        ([10 * n for n in range(12)], Level.OK),
    ],
)
def test_a_spool_that_grows_is_told(
    farm: Installation, points: Sequence[int], level: Level
) -> None:
    """One that drains, or holds a post's worth, is none."""
    for number, waiting in enumerate(points):
        age = 100.0 * (len(points) - number)
        farm.tell(farm.agent("n1", age, spool_points=float(waiting)))

    assert farm.level("agents-spool") == level


def test_a_spool_without_its_disk_is_bad(farm: Installation) -> None:
    """Readings in memory do not outlive the agent."""
    farm.tell(farm.agent("n1", spool_points=0.0, spool_degraded=1.0))

    assert farm.level("agents-spool") == Level.BAD


@pytest.mark.parametrize(
    ("counts", "level"),
    [((5, 5, 5), Level.OK), ((5, 7, 7), Level.BAD), ((5, 0, 0), Level.OK), ((5, 0, 2), Level.BAD)],
)
def test_dropped_readings_are_told(farm: Installation, counts: Sequence[int], level: Level) -> None:
    """What was dropped long ago is no news, and a restart of the agent drops nothing."""
    for number, count in enumerate(counts):
        farm.tell(farm.agent("n1", 60.0 * (9 - number), dropped_points_total=float(count)))

    assert farm.level("agents-dropping") == level


def test_tokens_that_others_can_read_are_bad(farm: Installation) -> None:
    """The file's rights are what keeps a token secret."""
    assert farm.level("tokens") == Level.OK
    farm.token_file.chmod(0o644)

    assert farm.level("tokens") == Level.BAD


def test_short_tokens_are_told_without_showing_them(farm: Installation) -> None:
    """What the doctor says ends up in tickets."""
    farm.token_file.write_text("hunter2")

    result = farm.result("tokens")

    assert result.level == Level.WARNING
    assert "hunter2" not in result.seen + result.remedy


def test_a_damaged_ledger_is_bad(farm: Installation) -> None:
    """And the remedy is the backup."""
    assert farm.level("ledger") == Level.OK
    (farm.data / "farm.sqlite").write_bytes(b"nothing of the kind" * 500)

    assert farm.level("ledger") == Level.BAD
    assert "restore" in farm.result("ledger").remedy


def test_a_damaged_day_is_bad(farm: Installation) -> None:
    """The collector sets it aside at its next start."""
    farm.tell(farm.agent("n1"))
    assert farm.level("store") == Level.OK
    (day,) = (farm.data / "readings").glob("*.sqlite")
    day.write_bytes(b"nothing of the kind" * 500)

    assert farm.level("store") == Level.BAD


def test_a_day_that_was_set_aside_is_told(farm: Installation) -> None:
    """It takes room, and says something about the disk."""
    farm.tell(farm.agent("n1"))
    (farm.data / "readings" / "2026-01-01.sqlite.corrupt-1").touch()

    assert farm.level("store") == Level.WARNING


def test_old_readings_alone_are_a_warning(farm: Installation) -> None:
    """A store that takes nothing in is no store."""
    farm.tell(farm.agent("n1", age_seconds=1200))

    assert farm.level("store") == Level.WARNING


def test_backups_that_are_old_or_missing_are_told(farm: Installation) -> None:
    """From none configured over none made to one that is right but on the same disk."""
    kept = farm.directory / "kept"
    assert farm.level("backup-age") == Level.WARNING
    farm.content["backup"] = {"directory": str(kept)}
    assert farm.level("backup-age") == Level.BAD

    made = make(farm.data, kept)
    assert "on the disk of the data" in farm.result("backup-age").seen

    manifest = json.loads((made.path / "manifest.json").read_text())
    manifest["time"] -= 4 * 3600
    (made.path / "manifest.json").write_text(json.dumps(manifest))
    assert "4.0 h old" in farm.result("backup-age").seen
    manifest["time"] -= 26 * 3600
    (made.path / "manifest.json").write_text(json.dumps(manifest))
    assert farm.level("backup-age") == Level.BAD


@pytest.mark.parametrize(("days", "level"), [(90, "ok"), (5, "warning"), (-3, "bad")])
def test_the_life_of_certificates_is_told(farm: Installation, days: int, level: str) -> None:
    """Of each that lies in the data directory."""
    (farm.data / "tls").mkdir()
    for name, life in (("ca", 400), ("server", days)):
        (farm.data / "tls" / f"{name}.pem").write_bytes(certificate(life))

    result = farm.result("certificate")

    assert result.level == level
    assert result.seen.startswith("server.pem")


def certificate(days: int) -> bytes:
    """A certificate that signs itself, and ends in so many days."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "farm")])
    end = datetime.now(UTC) + timedelta(days=days, hours=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=1000))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def test_a_network_without_tls_is_a_warning(farm: Installation) -> None:
    """On one machine it is none."""
    assert farm.level("certificate") == Level.OK
    assert farm.result("certificate", "http://192.0.2.1:8428").level == Level.WARNING


@pytest.mark.parametrize("check", ["disk-space", "disk-inodes", "sqlite", "packages", "python"])
def test_this_machine_can_be_judged(farm: Installation, check: str) -> None:
    """What is looked at everywhere gives an answer everywhere."""
    assert farm.level(check) != Level.CANNOT_TELL


def test_a_disk_is_extrapolated_by_what_readings_took(farm: Installation) -> None:
    """A rate needs some time to be one."""
    farm.tell(farm.agent("n1", age_seconds=60), farm.agent("n1", age_seconds=30))
    assert farm.level("disk-days") == Level.CANNOT_TELL

    farm.tell(farm.agent("n1", age_seconds=3600))
    assert "GB of readings a day" in farm.result("disk-days").seen


# --- the whole -----------------------------------------------------------------------------------


def test_a_check_that_fails_does_not_end_the_others() -> None:
    """A doctor that dies of the disease helps nobody."""

    def fails(_: Setup) -> Result:
        raise RuntimeError("unforeseen\nin two lines")

    checks = [
        Check("a", "Fails", fails),
        Check("b", "Works", lambda _: Result(Level.OK, "fine")),
    ]

    report = examined(Setup(), checks)

    assert [check.level for check in report.checks] == [Level.CANNOT_TELL, Level.OK]
    assert report.checks[0].seen == "RuntimeError: unforeseen in two lines"


@pytest.mark.parametrize(
    ("levels", "status"),
    [
        ((Level.OK, Level.OK), 0),
        ((Level.OK, Level.WARNING), 1),
        ((Level.CANNOT_TELL, Level.WARNING), 1),
        ((Level.WARNING, Level.BAD), 2),
        ((Level.OK, Level.CANNOT_TELL), 3),
        ((), 3),
    ],
)
def test_the_worst_is_the_exit_status(levels: Sequence[Level], status: int) -> None:
    """As Nagios has it; what cannot be told never passes for good."""
    results = [Result(level, "seen") for level in levels]
    checks = [Check(str(n), "", lambda _, r=r: r) for n, r in enumerate(results)]  # type: ignore[misc]

    assert exit_status(examined(Setup(), checks)) == status


def test_without_a_collector_here_most_cannot_be_told() -> None:
    """And the remedy says where to run it."""
    report = examined(Setup(), all_checks())

    told = {check.id: check for check in report.checks}
    assert told["ledger"].level == Level.CANNOT_TELL
    assert "--config" in told["ledger"].remedy
    assert told["sqlite"].level == Level.OK


def test_ids_are_stable() -> None:
    """Scripts rely on them: change this list only by adding."""
    assert set(CHECKS) == {
        "agents-dropping",
        "agents-silent",
        "agents-spool",
        "agents-version",
        "backup-age",
        "certificate",
        "clock-agents",
        "clock-here",
        "collector",
        "configuration",
        "disk-days",
        "disk-inodes",
        "disk-space",
        "judging",
        "ledger",
        "packages",
        "python",
        "sqlite",
        "store",
        "tokens",
    }


def test_every_check_has_an_entry_in_the_docs() -> None:
    """What a keeper looks up is there."""
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")

    assert [check for check in CHECKS if f"| `{check}` |" not in page] == []


def test_json_is_one_object_with_a_schema(
    farm: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    """For scripts, with the exit status of the worst."""
    farm.path.write_text(json.dumps(farm.content))

    status = main(["--config", str(farm.path), "--url", "http://127.0.0.1:1", "--json"])

    report = msgspec.json.decode(capsys.readouterr().out, type=Report, strict=True)
    assert report.schema == 1
    assert status == exit_status(report) == 2


def test_a_file_that_is_not_there_is_a_bad_command_line(tmp_path: Path) -> None:
    """78, as all commands have it."""
    assert main(["--config", str(tmp_path / "none.toml")]) == 78


def test_the_text_shows_no_control_character(farm: Installation) -> None:
    """Names come from hosts."""
    farm.tell(farm.agent("n\u202e1", age_seconds=900))
    farm.path.write_text(json.dumps(farm.content))
    with closing(loaded(farm.path)) as setup:
        shown = text(examined(setup, all_checks()))

    assert all(line.isprintable() for line in shown.splitlines())


# --- the bundle ----------------------------------------------------------------------------------


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the key of the pseudonyms lies."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def bundle(
    farm: Installation,
    name: str = "bundle.tar.gz",
    log: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    *,
    with_names: bool = False,
) -> dict[str, str]:
    """Texts of a bundle by name."""
    target = farm.directory / name
    target.unlink(missing_ok=True)
    with closing(loaded(farm.path, "http://127.0.0.1:1")) as setup:
        report = examined(setup, [CHECKS[c] for c in ("configuration", "agents-silent", "tokens")])
        support_bundle.write(
            target,
            setup,
            report,
            with_names=with_names,
            log_lines=log,
            environment=environment or {},
        )
    with tarfile.open(target) as tar:
        members = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {Path(name).name: file.read().decode() for name, file in members.items() if file}


def everything(told: Mapping[str, str]) -> str:
    """All of a bundle as text, JSON also with its escapes undone."""
    undone = [
        json.dumps(json.loads(content), ensure_ascii=False)
        .replace("\\\\", "\\")
        .replace('\\"', '"')
        for name, content in told.items()
        if name.endswith(".json")
    ]
    return "\n".join([*told.values(), *undone])


@pytest.mark.usefixtures("state_home")
def test_a_bundle_is_for_its_owner_and_never_written_over(farm: Installation) -> None:
    """Its file may hold what the keeper wants to look through first."""
    farm.path.write_text(json.dumps(farm.content))
    bundle(farm)

    target = farm.directory / "bundle.tar.gz"
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="is there already"):
        support_bundle.write(target, Setup(), examined(Setup(), []), log_lines=[], environment={})


@pytest.mark.usefixtures("state_home")
def test_a_bundle_names_no_host_unless_asked(farm: Installation) -> None:
    """The same host has the same other name in each bundle."""
    farm.path.write_text(json.dumps(farm.content))
    serial: dict[str, Value] = {"serial": "1322721012345"}
    tags = {**card_tags(0), "host": "gpu-box-7"}
    farm.tell(farm.agent("gpu-box-7", 900), farm.agent("gpu-box-71"))
    farm.tell(Reading("card_info", tags, serial, int(time.time() * 1e9)))
    log = ["gpu-box-7 came from 192.0.2.7 and fe80::1:2, serial 1322721012345, not gpu-box-71"]

    hidden, again = everything(bundle(farm, log=log)), everything(bundle(farm, log=log))
    shown = everything(bundle(farm, log=log, with_names=True))

    for name in ("gpu-box-7", "gpu-box-71", "1322721012345", "192.0.2.7", "fe80::1:2"):
        assert name not in hidden
        assert name in shown
    (line,) = [line for line in hidden.splitlines() if " came from " in line]
    assert line in again
    assert line.split()[0] != line.split()[-1]
    assert line.split()[0] in bundle(farm)["doctor.json"]


@pytest.mark.usefixtures("state_home")
def test_a_bundle_of_a_configuration_that_cannot_be_parsed_holds_none_of_it(
    farm: Installation,
) -> None:
    """What cannot be read cannot be redacted."""
    farm.path.write_text('{"password": "correct horse", ')

    assert "correct horse" not in everything(bundle(farm))


SECRET_TEXT = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_categories=["Cc", "Cf", "Zs"]),
    min_size=8,
    max_size=40,
)
URL_SAFE = st.text("abcdefghijkABCDEFGH0123456789-._~!$&'()*+,;=%/@", min_size=8, max_size=30)
SECRET_KEYS = st.sampled_from(
    ["token", "bot_token", "password", "smtp_password", "api_key", "webhook", "secret", "pin"]
)
SECRET_VARIABLES = st.sampled_from(
    ["FARMHAND_TOKEN", "INFLUX_TOKEN", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "API_KEY"]
)
PLACES = st.sampled_from(["top", "section", "unknown", "list", "site", "token_file", "nested"])


def planted(content: dict[str, Any], place: str, key: str, secret: str, path: Path) -> None:
    """Put a secret into a configuration, at a right place or a wrong one."""
    match place:
        case "top":
            content[key] = secret
        case "section":
            content["listen"] = {**content["listen"], key: secret}
        case "unknown":
            content["what_nobody_knows"] = {"note": secret}
        case "list":
            content[key] = [{"name": "phone", "value": secret}]
        case "site":
            content["site"] = f"https://keeper:{secret.replace('@', '')}@example.org/x"
        case "nested":
            content["alerts"] = {"channels": [{"kind": "mail", key: secret}]}
        case "token_file":
            path.write_text(secret)


@given(
    secret=SECRET_TEXT,
    url_secret=URL_SAFE,
    token=st.from_regex(r"fh1_[0-9a-f]{6}_[A-Za-z0-9_-]{20,40}", fullmatch=True),
    key=SECRET_KEYS,
    variable=SECRET_VARIABLES,
    place=PLACES,
)
def test_no_planted_secret_comes_out_in_a_bundle(
    sound: tuple[Installation, str],
    secret: str,
    url_secret: str,
    token: str,
    key: str,
    variable: str,
    place: str,
) -> None:
    """By key, by form, by value: in configuration, environment, and a log that quotes all of it."""
    farm, harmless = sound
    assume(secret not in harmless and url_secret not in harmless and "[removed]" not in secret)
    content = json.loads(json.dumps(farm.content))
    planted(content, place, key, secret, farm.token_file)
    content["keep"] = {"days": token}
    farm.path.write_text(json.dumps(content))
    url = f"postgres://keeper:{url_secret}@db/farm"
    environment = {variable: secret, "DATABASE_URL": url, "HOME": "/root"}
    log = [
        f"connecting to {url}",
        f"environment: {environment!r}",
        f"as JSON: {json.dumps(environment)}",
        f"posting with {token}",
        f"token={secret}",
        f"Authorization: Bearer {secret}",
    ]

    told = everything(bundle(farm, "property.tar.gz", log, environment))

    farm.token_file.write_text(TOKEN)
    for planted_secret in (secret, url_secret, token):
        assert planted_secret not in told


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, str]]:
    """An installation, and all that a bundle of it says when it holds no secret."""
    directory = tmp_path_factory.mktemp("farm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(directory / "state"))
        farm = Installation(directory)
        farm.path.write_text(json.dumps(farm.content))
        log = ["connecting to postgres://keeper", "environment: as JSON: posting with token="]
        log += ["Authorization: Bearer FARMHAND_TOKEN INFLUX_TOKEN DB_PASSWORD API_KEY"]
        log += ["AWS_SECRET_ACCESS_KEY DATABASE_URL HOME /root db/farm"]
        yield farm, everything(bundle(farm, log=log))


@given(st.lists(st.text(min_size=1), max_size=6), st.text())
def test_a_name_that_is_known_never_stands_alone_in_a_text(names: list[str], text: str) -> None:
    """Whatever names farms have, and whatever is said between them."""
    pseudonyms = Pseudonyms(b"key")
    pseudonyms.know("host", names)

    told = pseudonyms.text(" ".join([text, *names]))

    for name in names:
        if len(name) > 13 and name.isalnum():
            assert name not in told.split()


def test_pseudonyms_differ_by_key() -> None:
    """Nobody outside can try names through."""
    one, other = Pseudonyms(b"one"), Pseudonyms(b"other")
    for pseudonyms in (one, other):
        pseudonyms.know("host", ["node-1"])

    assert one.text("node-1 fell, node-12 did not") != other.text("node-1 fell, node-12 did not")
    assert one.text("node-12") == "node-12"


def test_what_is_no_secret_stays() -> None:
    """A bundle in which all is removed helps nobody."""
    redactor = Redactor(["correct horse"])
    harmless = "2026-12-01T18:50:32+00:00 WARNING farmhand_collector.live: checkpoint 20261201"

    assert redactor.text(harmless) == harmless
    path = "/var/lib/farmhand-collector/readings/2026-12-01.sqlite.corrupt-1"
    assert redactor.text(path) == path


def test_unforeseen_environment_is_never_listed(farm: Installation, state_home: Path) -> None:
    """Only the names of our own variables are told, no value of any."""
    del state_home
    farm.path.write_text(json.dumps(farm.content))
    environment = {"FARMHAND_TOKEN": "open sesame", "SECRET_PLACE": "under the mat"}

    told = bundle(farm, environment=environment)

    assert json.loads(told["versions.json"])["environment"] == ["FARMHAND_TOKEN"]
    assert "sesame" not in everything(told)
    assert "SECRET_PLACE" not in everything(told)
