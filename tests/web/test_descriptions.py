"""Ports as descriptions name them: sockets that aren't ours, those that are, and what is said of them."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.testing import MemoryReactorClock

from engineio_twisted import listen
from engineio_twisted.operation.tap import CommandService, Options
from engineio_twisted.operation.tls import CertificateError
from engineio_twisted.web.descriptions import asURL, describedEndpoint, isTLS, urlOf

from ..kit.clients import pythonPath
from ..kit.fronts import executable
from ..kit.services import DEADLINE, command, environment, services, talking
from ..kit.wire import Wire, http, target


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with TemporaryDirectory() as name:
        yield Path(name)


def listening(path: Path, mode: int = 0o640) -> socket.socket:
    """A socket that listens, with a file that has a mode of its own."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    path.chmod(mode)
    made.listen(7)
    return made


def modeOf(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Sockets of others


PASSED = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.execve(sys.argv[2], sys.argv[2:], {**os.environ, "LISTEN_PID": str(os.getpid())})
"""


def passed(made: socket.socket) -> list[str]:
    """What starts twistd as systemd does, with a socket as its descriptor 3."""
    return [sys.executable, "-c", PASSED, str(made.fileno()), command("twistd"), "-n"]


@pytest.mark.parametrize("description", ["systemd:domain=UNIX:index=0", "haproxy:systemd:domain=UNIX:index=0"])
def test_passedBySystemd(folder: Path, description: str) -> None:
    """The file keeps its mode, stays when the process ends, and the next process serves on the same socket."""
    path = folder / "app.sock"
    proxied = b"PROXY TCP4 203.0.113.9 127.0.0.1 5 6\r\n" if description.startswith("haproxy") else b""
    with listening(path) as made:
        before = path.stat()
        for _ in range(2):
            environ = {**environment(), **pythonPath(), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "app"}
            process = subprocess.Popen(
                [*passed(made), "--pidfile=", "engineio", "--drain-timeout=1", f"--listen={description}"],
                cwd=folder,
                env=environ,
                pass_fds=(made.fileno(),),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                # One that is not accepted yet waits.
                with talking(path) as talk:
                    talk.connection.sendall(proxied)
                    talk.echo("hello")
                    assert modeOf(path) == 0o640
            finally:
                process.send_signal(signal.SIGTERM)
                said, _ = process.communicate(timeout=DEADLINE)
                sys.stdout.write(said)
            assert "Traceback" not in said
            after = path.stat()
            assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


def test_socketActivate(folder: Path) -> None:
    """So it is when systemd-socket-activate has made the socket."""
    path = folder / "app.sock"
    arguments = [executable("systemd-socket-activate"), f"--listen={path}", "--fdname=app"]
    arguments += [f"--setenv={name}={value}" for name, value in {**environment(), **pythonPath()}.items()]
    arguments += [
        command("twistd"),
        "-n",
        "--pidfile=",
        "engineio",
        "--drain-timeout=1",
        "--listen=systemd:domain=UNIX:index=0",
    ]
    process = subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        assert "Listening on" in process.stdout.readline()
        path.chmod(0o600)
        with talking(path) as talk:
            talk.echo("hello")
        assert modeOf(path) == 0o600
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=DEADLINE)
        assert "Traceback" not in said
        assert path.exists()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", ["endpoint", "description"])
@pytest_twisted.ensureDeferred
async def test_adopted(serve: Any, folder: Path, how: str) -> None:
    """Whatever adopts a socket leaves it as it was, and it goes on to work: it isn't shut down."""
    path = folder / "app.sock"
    with listening(path) as made:
        for _ in range(2):
            adopted: Any = AdoptedStreamServerEndpoint(reactor, os.dup(made.fileno()), socket.AF_UNIX)
            if how == "description":
                adopted = describedEndpoint(_Passing(reactor, adopted), "tcp:1")
            server = listen(adopted)
            port = await server.listening
            assert port.getHost().name == os.fsencode(path)
            client: Wire = await connectProtocol(UNIXClientEndpoint(reactor, str(path)), Wire())
            client.send(http("GET", target()))
            assert (await client.response()).status == 200
            assert modeOf(path) == 0o640
            client.drop()
            await server.close()
            assert path.exists()
        assert serve is not None


class _Passing:
    """A reactor of whose ports one is adopted, by way of a description."""

    def __init__(self, inner: Any, endpoint: Any) -> None:
        self._inner, self._endpoint = inner, endpoint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def listenTCP(self, number: int, factory: Any, **_: Any) -> Any:
        from engineio_twisted.web.descriptions import leavingAlone

        found: list[Any] = []
        leavingAlone(self._endpoint).listen(factory).addCallback(found.append)
        return found[0]


# Those of ours


@pytest_twisted.ensureDeferred
async def test_ownSockets(serve: Any, folder: Path) -> None:
    """Have the mode that was asked for, and are removed with their locks."""
    for description, mode in [("app.sock", 0o666), ("app.sock:mode=660", 0o660), ("app.sock:lockfile=0", 0o666)]:
        server = listen(f"unix:{folder}/{description}")
        await server.listening
        assert modeOf(folder / "app.sock") == mode
        await server.close()
        assert list(folder.iterdir()) == []
    assert serve is not None


@pytest_twisted.ensureDeferred
async def test_aSocketThatIsSomebodyElsesByNow(serve: Any, folder: Path) -> None:
    """Stays: its file was replaced while we served."""
    server = listen(f"unix:{folder}/app.sock")
    await server.listening
    (folder / "app.sock").unlink()
    with listening(folder / "app.sock"):
        await server.close()
        assert [each.name for each in folder.iterdir()] == ["app.sock"]
    assert serve is not None


@pytest_twisted.ensureDeferred
async def test_aSocketThatWasRemoved(serve: Any, folder: Path) -> None:
    """Closes in order."""
    server = listen(f"unix:{folder}/app.sock")
    port = await server.listening
    (folder / "app.sock").unlink()
    await server.close()
    assert not port.connected
    assert serve is not None


@pytest_twisted.ensureDeferred
async def test_aSocketThatMayNotBeRemoved(serve: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closes all the same, and a line says what is left behind."""
    from twisted.logger import globalLogPublisher

    server = listen(f"unix:{folder}/app.sock:lockfile=0")
    port = await server.listening
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)

    def unlink(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("engineio_twisted.web.descriptions.os.unlink", unlink)
        await server.close()
    globalLogPublisher.removeObserver(events.append)
    assert not port.connected
    (said,) = [each for each in events if "left behind" in str(each.get("log_format"))]
    assert (said["path"], said["reason"]) == (f"{folder}/app.sock", "Permission denied")
    assert serve is not None


def test_aReactorThatIsNone() -> None:
    """One that only says what was asked for, as tests have, makes the ports itself."""
    memory: Any = MemoryReactorClock()
    described: Any = describedEndpoint(memory, "unix:/run/app.sock")
    described.listen(None)
    assert [each[0] for each in memory.unixServers] == ["/run/app.sock"]


# What is said


def test_whereItIs(certificate: tuple[Path, Path], freePort: int, tmp_path: Path) -> None:
    """TLS is announced as https, however it is asked for, for operators too; what isn't TLS as http."""
    key, chain = certificate
    files = f"certificate={chain}:key={key}"
    (tmp_path / "pems").mkdir()
    (tmp_path / "pems" / "localhost.pem").write_bytes(key.read_bytes() + chain.read_bytes())
    listening = [
        f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={chain}",
        f"tls-files:tcp:0:interface=127.0.0.1:{files}",
        f"haproxy:ssl:0:interface=127.0.0.1:privateKey={key}:certKey={chain}",
        f"tls:{tmp_path}/pems:0:interface=127.0.0.1",
        "tcp:0:interface=127.0.0.1",
        "haproxy:tcp:0:interface=127.0.0.1",
    ]
    with services(tmp_path) as start:
        service = start(
            *(f"--listen={each}" for each in listening),
            f"--health=ssl:0:interface=127.0.0.1:privateKey={key}:certKey={chain}",
            ports=len(listening),
        )
        service.stop()
    lines = service.said.splitlines()
    said = [each.partition("served at ")[2].partition(":")[0] for each in lines if "served at " in each]
    assert said == ["https"] * 4 + ["http"] * 2
    (forOperators,) = [each for each in lines if "For operators" in each]
    assert " at https://127.0.0.1:" in forOperators
    assert freePort


def test_whatIsNoPort() -> None:
    """It says nothing of TLS."""
    assert not isTLS(object())

    class Port:
        factory = None

        def getHost(self) -> str:
            return "somewhere"

    assert urlOf(Port()) == "somewhere"  # type: ignore[arg-type]
    assert asURL("x", True) == "x"


WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "OpenSSL":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
sys.argv[0] = "twistd"
from twisted.scripts.twistd import run
run()
"""


@pytest.mark.parametrize(
    "description",
    ["ssl:0:privateKey=key.pem", "ssl:0", "tls:.:0", "haproxy:ssl:0", "tls-files:tcp:0:certificate=x"],
)
@pytest.mark.parametrize("flag", ["listen", "health"])
def test_withoutPyOpenSSL(tmp_path: Path, description: str, flag: str) -> None:
    """One line says what to install."""
    arguments = [sys.executable, "-c", WITHOUT, "-n", "--pidfile=", "engineio", f"--{flag}={description}"]
    result = subprocess.run(
        arguments, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=DEADLINE
    )
    assert result.returncode == 1
    said = result.stdout + result.stderr
    assert said.count("\n") == 1, said
    assert said.startswith(f"twistd engineio: --{flag} {description}: needs ")
    assert "engineio_twisted[tls]" in said or "extra `tls` of engineio_twisted" in said


def test_withoutPyOpenSSLInAProgram(monkeypatch: pytest.MonkeyPatch) -> None:
    """`listen` says it too."""
    monkeypatch.setattr("engineio_twisted.web.descriptions._hasTLS", lambda: False)

    def missing(*_: object) -> Any:
        raise ImportError("No module named 'OpenSSL'")

    monkeypatch.setattr("engineio_twisted.web.descriptions.serverFromString", missing)
    with pytest.raises(ValueError, match=r'pip install "engineio_twisted\[tls\]"'):
        listen("ssl:0", reactor=MemoryReactorClock())
    monkeypatch.setattr("engineio_twisted.web.descriptions._hasTLS", lambda: True)
    with pytest.raises(ImportError, match="OpenSSL"):
        describedEndpoint(MemoryReactorClock(), "ssl:0")


@pytest.mark.parametrize("which", ["index=7", "name=nobody"])
def test_nothingWasPassed(which: str) -> None:
    """One line says that systemd hasn't passed the socket."""
    options = Options()
    options.parseOptions([f"--listen=systemd:domain=UNIX:{which}"])
    with pytest.raises(SystemExit, match=f"--listen systemd:domain=UNIX:{which}: systemd has passed no such socket"):
        CommandService(options, MemoryReactorClock())


def test_errorsOfOthers() -> None:
    """What a parser says itself stays."""
    with pytest.raises(ValueError, match="Unknown endpoint type"):
        describedEndpoint(MemoryReactorClock(), "nothing:1")
    with pytest.raises(CertificateError):
        describedEndpoint(MemoryReactorClock(), "tls-files:tcp:0:certificate=/none")
