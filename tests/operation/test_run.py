"""`python -m engineio_twisted` and the console script: the same service, without twistd."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from engineio_twisted.operation import run

from ..kit.commandline import TakenPort
from ..kit.fronts import makeCertificate
from ..kit.services import Service, environment, talking

COMMAND = (sys.executable, "-m", "engineio_twisted")


@contextmanager
def started(cwd: Path, *arguments: str, ports: int = 1) -> Iterator[Service]:
    """The command, which doesn't outlive the context."""
    service = Service([*COMMAND, *arguments], cwd)
    try:
        yield service.started(ports)
    finally:
        service.kill()


def said(service: Service) -> list[str]:
    """The lines of the log without the time."""
    return [re.sub(r"^\S+ \[[^\]]*\] ", "", each) for each in service.said.splitlines()]


@pytest.mark.slow
def test_process(tmp_path: Path, freePort: int) -> None:
    """
    It serves, and logs what: the application, the folder, the addresses, and nothing of factories.

    What `--print-config` writes sets the same again. SIGTERM ends it, and no pid file was there.
    """
    makeCertificate(tmp_path)
    (tmp_path / "public").mkdir()
    (tmp_path / "chat.py").write_text(
        "def application(server):\n    server.on('connection', lambda socket: socket.on('message', socket.send))\n"
    )
    tls = "ssl:0:interface=127.0.0.1:privateKey=privkey.pem:certKey=fullchain.pem"
    settings = [f"--listen=tcp:{freePort}:interface=127.0.0.1", f"--listen={tls}", "--app=chat:application"]
    settings += ["--listen=haproxy:tcp:0:interface=127.0.0.1", "--static=public", "--ping-interval=999"]
    written = subprocess.run(
        [*COMMAND, *settings, "--print-config"], cwd=tmp_path, capture_output=True, text=True, env=environment()
    )
    assert (written.returncode, written.stderr) == (0, "")
    (tmp_path / "server.toml").write_text(written.stdout)
    with started(tmp_path, "--config=server.toml", ports=3) as service:
        with talking(freePort) as talk:
            talk.echo("hello")
        assert service.stop() == -signal.SIGTERM
    lines = said(service)
    assert lines[:2] == ["Application: chat:application", f"Static files: {tmp_path}/public, at /"]
    assert f"Engine.IO is served at http://127.0.0.1:{freePort}/engine.io/" in lines
    assert [
        each for each in lines if re.fullmatch(r"Engine\.IO is served at https://127\.0\.0\.1:\d+/engine\.io/", each)
    ]
    assert "factory" not in service.said.lower()
    assert "Traceback" not in service.said
    assert not [*tmp_path.glob("*.pid")]


@pytest.mark.slow
def test_processThatCannotStart(tmp_path: Path, freePort: int) -> None:
    """One line that names the command and what is wrong, and exit code 1."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", freePort))
        taken.listen()
        with started(tmp_path, f"--listen=tcp:{freePort}:interface=127.0.0.1") as service:
            assert service.ended() == 1
    problem = f"--listen tcp:{freePort}:interface=127.0.0.1: cannot listen (Address already in use)"
    assert said(service) == [
        "Application: every message is sent back (--app names another)",
        f"python -m engineio_twisted: {problem}",
    ]


@pytest.mark.slow
def test_interruptedWhileItStarts(tmp_path: Path) -> None:
    """Ctrl-C ends it by that signal, also in the callback of a Deferred, which catches everything."""
    (tmp_path / "slow.py").write_text(
        "import signal\nfrom twisted.internet.defer import succeed\n\n"
        "def application(server):\n    succeed(None).addCallback(lambda _: signal.raise_signal(signal.SIGINT))\n"
    )
    # Of tests in the background a shell may have said that it is ignored, which a process hands on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with started(tmp_path, "--listen=tcp:0:interface=127.0.0.1", "--app=slow:application") as service:
            assert service.process.poll() == -signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)
    assert service.said == ""


WHEN_IMPORTED = """
import sys

def imported():
    return "autobahn" in sys.modules

import engineio_twisted
from engineio_twisted.operation import run
from engineio_twisted.operation.commandline import Options
from engineio_twisted.testing import MemoryServer
assert not imported(), "by the package"
try:
    Options().parseOptions(["--help"])
except SystemExit:
    assert not imported(), "by --help"
server = MemoryServer(lambda server: None, transports=["polling"])
client = server.connect()
client.send("hello")
server.server.stats()
server.close()
assert not imported(), "by polling"
assert engineio_twisted.transports.keys() == {"polling", "websocket"}
engineio_twisted.Server()
assert imported(), "it is to be there before a request comes"
assert engineio_twisted.AutobahnEngine.__name__ == "AutobahnEngine"
try:
    engineio_twisted.nothing
except AttributeError as error:
    assert str(error) == "module 'engineio_twisted' has no attribute 'nothing'"
"""


def test_autobahnIsImportedWhenItIsNeeded() -> None:
    """Autobahn comes with the first server with WebSocket: not with the package, `--help`, or a server without."""
    result = subprocess.run([sys.executable, "-c", WHEN_IMPORTED], capture_output=True, text=True, env=environment())
    assert (result.returncode, result.stderr) == (0, "")


class Reactor(MemoryReactorClock):
    """One in memory, whose run is a function of the test's."""

    def __init__(self, play: Any) -> None:
        super().__init__()
        self._play = play

    def run(self) -> None:
        super().run()
        self._play()


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs the command in memory, calls a function meanwhile, and returns the signals by which it has ended itself."""
    raised: list[int] = []
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    # As when the log takes them over.
    monkeypatch.setattr(run.globalLogBeginner, "beginLoggingTo", lambda _: setattr(sys, "stderr", None))
    monkeypatch.setattr(sys, "stderr", sys.stderr)

    def run_(function: Any, *arguments: str, reactor: type[MemoryReactorClock] = MemoryReactorClock) -> list[int]:
        class Reactor(reactor):  # type: ignore[misc,valid-type]
            def run(self) -> None:
                super().run()
                function()

        monkeypatch.setattr("twisted.internet.reactor", Reactor())
        monkeypatch.setattr(sys, "argv", ["/usr/bin/engineio-twisted", "--listen=8000", *arguments])
        run.main()
        return raised

    yield run_
    for number, handler in before.items():
        signal.signal(number, handler)


def test_ends(play: Any) -> None:
    """It ends by the signal that has asked it to, after the reactor was told of that; without one it just ends."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))

    def terminate() -> None:
        handler: Any = signal.getsignal(signal.SIGTERM)
        handler(signal.SIGTERM, None)

    assert play(lambda: None) == []
    assert play(terminate) == [signal.SIGTERM]
    assert told == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_cannotStart(play: Any) -> None:
    """What keeps it from starting is one line for whoever has typed the command, not for the log."""
    stderr = sys.stderr
    with pytest.raises(
        SystemExit, match=r"^engineio-twisted: --listen 8000: cannot listen \(Address already in use\)$"
    ):
        play(lambda: None, reactor=TakenPort)
    assert sys.stderr is stderr


def test_failsLater(play: Any, loggedErrors: list[Any]) -> None:
    """What fails after the start ends the command as a failure."""
    with pytest.raises(SystemExit) as caught:
        play(lambda: None, "--app=tests.operation.test_tap:failingLater")
    assert caught.value.code == 1
    assert "failingLater: failed" in loggedErrors[0]["problem"]
    loggedErrors.clear()
