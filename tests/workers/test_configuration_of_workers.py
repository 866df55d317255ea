"""The settings of workers: what is refused, what the parent checks, and what a worker makes of the text it is given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engineio_twisted.operation.commandline import CommandFailed, Options, optionsOfWorker
from engineio_twisted.operation.configuration import CommandLineSettings, ConfigurationError

from ..kit.commandline import failure, parse

HERE = "tests.workers.test_configuration_of_workers"


def application(server: Any) -> None:
    pass


def allow(request: Any) -> bool:
    return True


@pytest.mark.parametrize("value", ["1", "4", "256", "auto"])
def test_workers(value: str) -> None:
    """A number, or `auto`; by default there are none, and 0 is not that."""
    expected = value if value == "auto" else int(value)
    assert parse(f"--workers={value}")["serviceOptions"].workers == expected
    assert parse("--workers=4", "--no-workers")["serviceOptions"].workers is None
    service = parse()["serviceOptions"]
    assert (service.workers, service.workersStartTimeout, service.workersHangTimeout) == (None, 30000, 30000)
    assert service.workersMove is True
    assert parse("--no-workers-hang-timeout")["serviceOptions"].workersHangTimeout is None
    assert parse("--no-workers-move")["serviceOptions"].workersMove is False


@pytest.mark.parametrize("value", ["0", "-1", "257", "many", "1.5", "", "AUTO", "true"])
def test_wrongNumbers(value: str) -> None:
    """One line names option, value and what was expected."""
    line = f"twistd engineio: --workers {value}: expected a whole number from 1 to 256, or auto"
    assert failure(f"--workers={value}") == line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("workers = 0", "workers = 0: expected a whole number from 1 to 256, or auto"),
        ("workers = true", "workers = True: expected a whole number from 1 to 256, or auto"),
        ('workers = "4"', "workers = '4': expected a whole number from 1 to 256, or auto"),
        ("workersStartTimeout = 0", "workersStartTimeout = 0: expected a whole number of milliseconds, 1 or more"),
        ("workersStartTimeout = false", "workersStartTimeout = False: expected a whole number of milliseconds"),
        ("workersHangTimeout = 0", "workersHangTimeout = 0: expected a whole number of milliseconds, 1 or more"),
        ("workersMove = 1", "workersMove = 1: expected true or false"),
        ('workers = 2\nidPrefix = "1234567890123456789012"', "expected at most 21 signs together with workers"),
    ],
)
def test_wrongFiles(text: str, expected: str, tmp_path: Path) -> None:
    """The file is named too."""
    file = tmp_path / "server.toml"
    file.write_text(text)
    assert expected in failure(f"--config={file}")
    assert f"--config {file}: " in failure(f"--config={file}")


def test_fileOfWorkers(tmp_path: Path) -> None:
    """All of them are keys of the file, and flags win."""
    file = tmp_path / "server.toml"
    file.write_text('workers = "auto"\nworkersHangTimeout = false\nworkersStartTimeout = 5\nworkersMove = false\n')
    service = parse(f"--config={file}", "--workers=3")["serviceOptions"]
    assert (service.workers, service.workersHangTimeout, service.workersStartTimeout) == (3, None, 5)
    assert service.workersMove is False


def test_prefix() -> None:
    """The number of a worker comes behind it, so it may have 21 signs; without workers 32 as ever."""
    assert parse("--workers=1", f"--id-prefix={'a' * 21}")["serverOptions"].idPrefix == "a" * 21
    assert parse(f"--id-prefix={'a' * 32}")["serverOptions"].idPrefix == "a" * 32
    long = "a" * 22
    expected = f"twistd engineio: --id-prefix {long}: expected at most 21 signs together with workers"
    assert failure("--workers=1", f"--id-prefix={long}") == expected


def test_otherSystems(monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes descriptors there isn't there elsewhere."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert failure("--workers=2") == "twistd engineio: --workers 2: several processes need Linux"
    assert parse()["serviceOptions"].workers is None


def test_chroot() -> None:
    """It has no interpreter inside, from which workers could be started."""
    options = Options()
    options.parent = {"chroot": "/srv"}
    with pytest.raises(SystemExit, match=r"^twistd engineio: --workers 2: not together with --chroot of twistd"):
        options.parseOptions(["--workers=2"])
    options = Options()
    options.parent = {"chroot": "/srv"}
    options.parseOptions([])


NAMED = [
    "--app=broken_of_workers:run",
    "--allow-request=broken_of_workers:allow",
    "--allowed-origins=https://a.example,broken_of_workers:PATTERN",
    "--cors-origin=broken_of_workers:origin",
    "--ws-engine=broken_of_workers:Engine",
]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a module that leaves a mark when it is imported, and fails."""
    module = tmp_path / "broken_of_workers.py"
    module.write_text("open('imported', 'w').close()\nraise ValueError('broken')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return module


@pytest.mark.parametrize("flag", NAMED)
def test_whatIsNotImported(flag: str, broken: Path) -> None:
    """The parent checks all settings and imports nothing that they name; a worker says what one process says."""
    options = parse("--workers=2", flag)
    assert not Path("imported").exists()
    assert "application" not in options
    with pytest.raises(CommandFailed) as caught:
        optionsOfWorker(options.given.text())
    assert Path("imported").exists()
    assert caught.value.problem == failure(flag).removeprefix("twistd engineio: ")
    assert f"(ValueError: broken) at {broken}:2" in caught.value.problem


def test_whatIsCheckedWithoutIt(broken: Path) -> None:
    """A setting that is wrong beside such a name is found all the same."""
    assert "--ping-interval 0: expected" in failure("--workers=2", *NAMED, "--ping-interval=0")
    assert "--static nowhere: there is no such directory" in failure("--workers=2", *NAMED, "--static=nowhere")
    assert not Path("imported").exists()


def test_theSameOptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker builds the same from the text, without the file, in whatever form the settings were given."""
    monkeypatch.chdir(tmp_path)
    file = Path("server.toml")
    file.write_text(
        'workers = 2\r\npingTimeout = 7\n# ä "quoted" \\ text\ninitialPacket = "später ☕\\u0000"\n'
        "[cookie]\nexpires = 2030-01-02T03:04:05+00:00\nname = 'x'\n"
    )
    flags = ["--config=server.toml", "--ping-interval=5", "--no-max-sessions", "--cookie-path=/here", "--listen=tcp:1"]
    flags += ["--listen=tcp:2", "--cors-max-age=6", "--no-http-compression", "--per-message-deflate-mem-level=3"]
    flags += [f"--app={HERE}:application", f"--allow-request={HERE}:allow", "--access-log=/tmp/\udcff"]
    options = parse(*flags[:-1])
    given = options.given
    given.flag(("accessLog",), "/tmp/\udcff")
    text = given.text()
    file.unlink()
    worker = optionsOfWorker(text)
    service, server = given.options()
    assert worker["serviceOptions"] == service
    assert worker["application"] is application
    assert worker["serverOptions"].allowRequest is allow
    for name in ("pingTimeout", "pingInterval", "initialPacket", "cookie", "cors", "maxSessions", "perMessageDeflate"):
        assert getattr(worker["serverOptions"], name) == getattr(server, name), name
    # One worker can hand it on as it came.
    assert CommandLineSettings.fromText(text).text() == text


def test_whereTheCommandWasStarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """twistd moves to another folder once its service is made: a worker finds things where one process found them."""
    (tmp_path / "page.html").write_text("hello")
    (tmp_path / "of_that_folder.py").write_text("def application(server): pass\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    text = parse("--workers=2", "--static=.", "--app=of_that_folder:application").given.text()
    monkeypatch.chdir("/")
    options = optionsOfWorker(text)
    assert options["application"].__module__ == "of_that_folder"
    assert os.getcwd() == "/"
    with pytest.raises(CommandFailed, match="/no/such/place: No such file or directory"):
        optionsOfWorker(text.replace(str(tmp_path), "/no/such/place"))


def test_errorsOfAWorker(tmp_path: Path) -> None:
    """They name the flag, or the file and the key, as without workers."""
    file = tmp_path / "server.toml"
    file.write_text('allowRequest = "json:nothing"\n')
    for flags in ([f"--config={file}"], ["--allow-request=json:nothing"]):
        text = parse("--workers=2", *flags).given.text()
        with pytest.raises(CommandFailed) as caught:
            optionsOfWorker(text)
        assert caught.value.problem == failure(*flags).removeprefix("twistd engineio: ")


def test_reread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload sees the file as it is then, from wherever the process has moved to; flags win still."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "server.toml"
    file.write_text("workers = 2\npingInterval = 5\npingTimeout = 6\n")
    given = parse("--config=server.toml", "--ping-timeout=7").given
    monkeypatch.chdir("/")
    file.write_text("workers = 2\npingInterval = 50\npingTimeout = 60\n")
    assert given.options()[1].pingInterval == 5
    again = given.reread()
    assert (again.options()[1].pingInterval, again.options()[1].pingTimeout) == (50, 7)
    assert again.fixed() == given.fixed()
    for text, expected in (
        ("pingInterval = ", "--config server.toml: "),
        ("pingInterval = 0", "--config server.toml: pingInterval = 0: expected a whole number"),
        ("pingIntervall = 1", "--config server.toml: pingIntervall = 1: there is no such option"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            given.reread()
        assert str(caught.value).startswith(expected)
    file.unlink()
    with pytest.raises(ConfigurationError, match=r"^--config server.toml: No such file or directory$"):
        given.reread()


def test_rereadAPipe() -> None:
    """What came by a pipe has come: a reload keeps it."""
    reading, writing = os.pipe()
    os.write(writing, b"workers = 2\npingInterval = 5\n")
    os.close(writing)
    try:
        given = parse(f"--config=/dev/fd/{reading}").given
        assert given.reread().options()[1].pingInterval == 5
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen", '["tcp:1"]'),
        ("workers", "3"),
        ("metrics", '"tcp:9"'),
        ("health", '"tcp:9"'),
        ("idPrefix", '"x"'),
        ("accessLog", '"x.log"'),
        ("pingInterval", "5"),
        ("workersMove", "false"),
        ("app", '"json:loads"'),
    ],
)
def test_whatCannotChange(name: str, value: str) -> None:
    """A reload is told by name which settings stay."""
    before = CommandLineSettings.fromToml("workers = 2\n").fixed()
    after = CommandLineSettings.fromToml(f"{'' if name == 'workers' else 'workers = 2'}\n{name} = {value}\n").fixed()
    changed = [each for each in before if before[each] != after[each]]
    assert changed == ([name] if name in before else [])
    assert [*before] == ["listen", "workers", "metrics", "health", "accessLog", "idPrefix"]


def test_withoutWorkers() -> None:
    """Nothing of workers is imported by the command that has none."""
    check = (
        "import sys\n"
        "from engineio_twisted.operation.tap import Options, makeService\n"
        "options = Options()\n"
        "options.parseOptions(['--listen=tcp:0:interface=127.0.0.1', '--health=listen'])\n"
        "service = makeService(options)\n"
        "service.startService()\n"
        "assert not [each for each in sys.modules if each.startswith('engineio_twisted.workers')]\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=120)
