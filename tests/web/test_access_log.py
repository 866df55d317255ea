"""The access log of `twistd engineio`: opened, reopened, standard output, and what can't be written."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engineio_twisted.operation.tap import CommandService, Options
from engineio_twisted.web.access_log import AccessLog

from ..kit.services import DEADLINE, command, services, talking, waitUntil
from ..kit.wire import http, target


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    with services(tmp_path) as start:
        yield start


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def counted(path: Path, count: int) -> None:
    """Wait for lines: one may be written when its response has gone out."""
    waitUntil(lambda: len(lines(path)) >= count, f"{count} lines in {path}")
    assert len(lines(path)) == count


def asked(port: int) -> None:
    with talking(port) as talk:
        talk.connection.sendall(http("GET", "/asked"))
        assert talk.response()[0] == 404


def test_reopened(start: Any, tmp_path: Path, freePort: int) -> None:
    """SIGUSR1 has the next line come into a new file, in the foreground too, where it ended the process before."""
    path = tmp_path / "access.log"
    service = start(f"--listen=tcp:{freePort}:interface=127.0.0.1", "--access-log=access.log")
    asked(freePort)
    counted(path, 1)
    for number in range(2):
        path.rename(tmp_path / f"old.{number}")
        service.process.send_signal(signal.SIGUSR1)
        waitUntil(path.exists, "a new file")
        with talking(freePort) as talk:
            talk.open()
        counted(path, 1)
    for each in (tmp_path / "old.0", tmp_path / "old.1"):
        counted(each, 1)
    assert service.stop() == -signal.SIGTERM
    assert "Traceback" not in service.said


def test_itCannotBeReopened(start: Any, tmp_path: Path, freePort: int) -> None:
    """Then the present one is gone on with, and a line says why."""
    folder = tmp_path / "logs"
    folder.mkdir()
    service = start(f"--listen=tcp:{freePort}:interface=127.0.0.1", "--access-log=logs/access.log")
    folder.rename(tmp_path / "moved")
    folder.write_text("no folder")
    service.process.send_signal(signal.SIGUSR1)
    # A signal is served before what comes behind it, but perhaps after what is being read.
    for _ in range(3):
        asked(freePort)
    counted(tmp_path / "moved" / "access.log", 3)
    assert service.stop() == -signal.SIGTERM
    assert "access.log cannot be reopened: Not a directory" in service.said


def test_besidesTwistd(tmp_path: Path, freePort: int) -> None:
    """What twistd does by that signal, a new file for its own log, it does all the same."""
    arguments = [command("twistd"), "--pidfile=here.pid", "--logfile=here.log", "engineio"]
    arguments += [f"--listen=tcp:{freePort}:interface=127.0.0.1", "--access-log=access.log"]
    subprocess.run(arguments, cwd=tmp_path, check=True, timeout=DEADLINE)
    pid = int((tmp_path / "here.pid").read_text())
    try:
        asked(freePort)
        counted(tmp_path / "access.log", 1)
        (tmp_path / "access.log").rename(tmp_path / "old")
        os.kill(pid, signal.SIGUSR1)
        waitUntil((tmp_path / "access.log").exists, "a new access log")
        waitUntil((tmp_path / "here.log.1").exists, "a new log of twistd's")
        asked(freePort)
        for each in ("old", "access.log"):
            counted(tmp_path / each, 1)
    finally:
        os.kill(pid, signal.SIGTERM)
        waitUntil(lambda: not (tmp_path / "here.pid").exists(), "the end of the process")
    assert "Traceback" not in (tmp_path / "here.log").read_text()


def test_standardOutput(start: Any, tmp_path: Path, freePort: int) -> None:
    """- is that, of twistd in the foreground, and SIGUSR1 does nothing to it."""
    service = start(f"--listen=tcp:{freePort}:interface=127.0.0.1", "--access-log=-")
    asked(freePort)
    service.process.send_signal(signal.SIGUSR1)
    asked(freePort)
    assert service.stop() == -signal.SIGTERM
    found = [each for each in service.said.splitlines() if "/asked" in each]
    assert len(found) == 2
    # As it is in a file: not a line of twistd's log.
    assert all(each.startswith('"127.0.0.1" - - [') for each in found)
    assert not (tmp_path / "-").exists()


def test_standardOutputInTheBackground(tmp_path: Path) -> None:
    """There is none."""
    result = subprocess.run(
        [command("twistd"), "engineio", "--listen=tcp:0", "--access-log=-"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert result.returncode == 1
    expected = "twistd engineio: --access-log -: there is no standard output in the background; twistd needs -n\n"
    assert result.stderr == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which alone may become another user")
def test_anotherUser(freePort: int) -> None:
    """It is opened before privileges are shed, in a folder of root's; what can't be reopened then stays open."""
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as name, services(Path(name)) as start:
        folder = Path(name)
        folder.chmod(0o755)
        service = start(
            f"--listen=tcp:{freePort}:interface=127.0.0.1",
            "--access-log=access.log",
            by=[command("twistd"), "-n", "--uid=nobody", f"--gid={nobody.pw_gid}", "--pidfile="],
        )
        asked(freePort)
        assert f"Uid:\t{nobody.pw_uid}" in Path(f"/proc/{service.process.pid}/status").read_text()
        counted(folder / "access.log", 1)
        (folder / "access.log").rename(folder / "old")
        service.process.send_signal(signal.SIGUSR1)
        asked(freePort)
        asked(freePort)
        counted(folder / "old", 3)
        # As logrotate does it, with `create`.
        (folder / "access.log").touch()
        os.chown(folder / "access.log", nobody.pw_uid, nobody.pw_gid)
        service.process.send_signal(signal.SIGUSR1)
        waitUntil(lambda: [asked(freePort), lines(folder / "access.log")][1], "a line in the new file")
        assert service.stop() == -signal.SIGTERM
        assert "access.log cannot be reopened: Permission denied" in service.said
        assert "Traceback" not in service.said


def test_requestsThatAreAnsweredWhileItStops(start: Any, tmp_path: Path, freePort: int) -> None:
    """Have their line too, though no port is open any more."""
    service = start(f"--listen=tcp:{freePort}:interface=127.0.0.1", "--access-log=access.log")
    with talking(freePort) as talk:
        sid = talk.open()
        talk.connection.sendall(http("GET", target(sid=sid)))
        waitUntil(lambda: len(lines(tmp_path / "access.log")) == 1, "the first line")
        service.process.send_signal(signal.SIGTERM)
        talk.response()
        service.ended()
    assert len(lines(tmp_path / "access.log")) == 2


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/no/such/place/log", "No such file or directory"),
        (".", "Is a directory"),
        ("pipe", "No such device or address"),
        ("a" * 300, "File name too long"),
    ],
)
def test_pathsThatCannotBeUsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, expected: str) -> None:
    """Are one line. A pipe that nobody reads is not waited for."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file.toml").write_text(f'accessLog = "{path}"\n')
    for argument in (f"--access-log={path}", "--config=file.toml"):
        with pytest.raises(SystemExit) as caught:
            Options().parseOptions([argument])
        assert str(caught.value) == f"twistd engineio: --access-log {path}: {expected}"


@pytest.mark.parametrize("key", ["static", "accessLog"])
@pytest.mark.parametrize("value", ["a\\u0000b", "\\u0000", ""])
def test_noPath(tmp_path: Path, key: str, value: str) -> None:
    """A NUL in the file, or nothing, is one line."""
    file = tmp_path / "file.toml"
    file.write_text(f'{key} = "{value}"\n')
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions([f"--config={file}"])
    text = str(caught.value)
    assert text.startswith(f"twistd engineio: --config {file}: {key} = ")
    assert text.endswith(": expected a path")
    assert "\n" not in text
    assert "\0" not in text


@pytest.mark.parametrize("given", ['listen = ["unix:/a\\u0000b"]', 'app = "a\\u0000b:c"', 'static = "/no\\nplace"'])
def test_otherNULs(tmp_path: Path, given: str) -> None:
    """What names something else in the file is one line too."""
    from twisted.internet import reactor

    file = tmp_path / "file.toml"
    file.write_text(given + "\n")
    options = Options()

    def begin() -> None:
        options.parseOptions([f"--config={file}"])
        CommandService(options, reactor).privilegedStartService()

    with pytest.raises(SystemExit) as caught:
        begin()
    assert "\n" not in str(caught.value)


def test_aPipeThatIsRead(tmp_path: Path) -> None:
    """Is written to."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(tmp_path / "pipe"))
    log.write("a line\n")
    assert os.read(reader, 100) == b"a line\n"
    os.close(reader)
    log.close()


def test_whatCannotBeWritten(tmp_path: Path, loggedErrors: list[Any]) -> None:
    """A full disk, or a reader that has gone, fails no request: it is said once, and again after it has worked."""
    log = AccessLog(str(tmp_path / "log"))
    file: Any = log._file

    class Failing:
        isFull = True
        written = b""

        def write(self, data: bytes) -> int:
            if self.isFull:
                raise OSError(28, "No space left on device")
            self.written += data
            return len(data)

        def close(self) -> None:
            raise OSError(28, "No space left on device")

    failing: Any = Failing()
    log._file = failing
    for _ in range(3):
        log.write("a line\n")
    assert [event["reason"] for event in loggedErrors] == ["No space left on device"]
    failing.isFull = False
    log.write("a line\n")
    failing.isFull = True
    log.write("a line\n")
    assert len(loggedErrors) == 2
    assert failing.written == b"a line\n"
    loggedErrors.clear()
    log.reopen()
    log.write("another\n")
    assert (tmp_path / "log").read_text() == "another\n"
    log.close()
    log.write("closed\n")
    assert [event["what"] for event in loggedErrors] == ["written to"]
    loggedErrors.clear()
    file.close()


def test_theSignalIsGivenBack(tmp_path: Path) -> None:
    """What was there before is called too, and is there again at the end, unless somebody has changed it since."""
    log = AccessLog(str(tmp_path / "log"))
    received: list[int] = []
    calls: list[Any] = []
    before = signal.getsignal(signal.SIGUSR1)
    try:
        signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
        own = signal.getsignal(signal.SIGUSR1)
        undo = log.reopenOnSignal(calls.append)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert (received, len(calls)) == ([signal.SIGUSR1], 1)
        undo()
        assert signal.getsignal(signal.SIGUSR1) is own
        undo = log.reopenOnSignal(calls.append)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        undo()
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)
        log.close()


def test_oneWriteALine(tmp_path: Path) -> None:
    """A line of any length goes out at once: other processes write to the file too."""
    log = AccessLog(str(tmp_path / "log"))
    first: Any = log._file
    written: list[bytes] = []

    class Short:
        """Takes no more than some bytes at a time, as a disk that is nearly full."""

        limit = 10**6

        def write(self, data: bytes) -> int:
            written.append(data[: self.limit])
            return len(written[-1])

        def close(self) -> None:
            first.close()

    short: Any = Short()
    log._file = short
    log.write("x" * 20000 + "ä\udcff\n")
    assert written == [b"x" * 20000 + "ä".encode() + b"\\udcff\n"]
    written.clear()
    short.limit = 4
    log.write("a longer line\n")
    assert b"".join(written) == b"a longer line\n"
    log.close()


def test_descriptors(tmp_path: Path) -> None:
    """A process may be given the open file of another, and a new one when that has reopened it."""
    ours = AccessLog(str(tmp_path / "log"))
    theirs = AccessLog(str(tmp_path / "log"), os.dup(ours.fileno()))
    ours.write("one\n")
    theirs.write("two\n")
    (tmp_path / "log").rename(tmp_path / "old")
    ours.reopen()
    theirs.write("three\n")
    theirs.replace(os.dup(ours.fileno()))
    theirs.write("four\n")
    ours.close()
    theirs.write("five\n")
    theirs.close()
    assert (tmp_path / "old").read_text() == "one\ntwo\nthree\n"
    assert (tmp_path / "log").read_text() == "four\nfive\n"
