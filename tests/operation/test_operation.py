"""What `twistd engineio` has for operators: `--metrics` and `--health`."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from engineio_twisted.operation.tap import CommandService

from ..kit.commandline import TakenPort, failure, parse
from ..kit.fakes import FakeRequest
from ..kit.services import services, talking
from ..kit.wire import http


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts a service in a folder of its own."""
    with services(tmp_path) as start:
        yield start


def ask(where: Path, path: str) -> tuple[int, bytes]:
    """The status and the body of an answer."""
    with talking(where) as talk:
        talk.connection.sendall(http("GET", path, version="1.0"))
        while piece := talk.connection.recv(65536):
            talk.received += piece
    head, _, body = talk.received.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


def status(where: Path, path: str) -> int:
    return ask(where, path)[0]


def test_aPlaceOfTheirOwn(start: Any, tmp_path: Path) -> None:
    """Metrics and health are where they were put, and nowhere else; both may be at one place."""
    public, inside = tmp_path / "public.sock", tmp_path / "inside.sock"
    service = start(f"--listen=unix:{public}", f"--metrics=unix:{inside}", f"--health=unix:{inside}")
    assert f"For operators: /health, /metrics, /ready at unix:{inside}:" in service.said
    with talking(public) as talk:
        talk.echo("hello")
    assert [status(public, path) for path in ("/metrics", "/health", "/ready")] == [404, 404, 404]
    assert ask(inside, "/health") == (200, b'{"status":"ok"}')
    assert ask(inside, "/ready") == (200, b'{"status":"ready"}')
    assert b"\nengineio_sessions_opened_total 1.0\n" in ask(inside, "/metrics")[1]
    assert status(inside, "/engine.io/?EIO=4&transport=polling") == 404
    assert service.stop() == -signal.SIGTERM
    assert not inside.exists()


def test_besideTheSessions(start: Any, tmp_path: Path) -> None:
    """Or where sessions are served, before what is in the directory; set in the file too."""
    (tmp_path / "ready").write_text("a file")
    (tmp_path / "page.html").write_text("<p>hello</p>")
    config = tmp_path / "server.toml"
    config.write_text('health = "listen"\n')
    for given in ([f"--config={config}"], ["--health=listen", "--metrics=listen", "--static=."]):
        path = tmp_path / "app.sock"
        service = start(f"--listen=unix:{path}", *given)
        assert "For operators" not in service.said
        assert ask(path, "/ready") == (200, b'{"status":"ready"}')
        assert status(path, "/metrics") == (200 if len(given) > 1 else 404)
        assert status(path, "/page.html") == (200 if len(given) > 1 else 404)
        with talking(path) as talk:
            talk.echo("hello")
        assert service.stop() == -signal.SIGTERM


def test_logSessions(start: Any, tmp_path: Path) -> None:
    """The log has a line for the beginning and the end of a session if asked to, and no whole id."""
    path = tmp_path / "app.sock"
    for flag in ("--log-sessions", "--no-log-sessions"):
        service = start(f"--listen=unix:{path}", flag)
        with talking(path) as talk:
            sid = talk.open()
        service.stop()
        lines = [f"Session {sid[:6]}… of None opened on polling", f"Session {sid[:6]}… closed: server shutting down"]
        assert [line in service.said for line in lines] == [flag == "--log-sessions"] * 2
        assert sid not in service.said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--metrics=nonsense:1"], "--metrics nonsense:1: Unknown endpoint type"),
        (["--health=tcp:abc"], "--health tcp:abc: "),
        (["--health=tcp:abc", "--metrics=tcp:abc"], "--metrics tcp:abc: "),
    ],
)
def test_wrongOnes(arguments: list[str], expected: str) -> None:
    """One line that names the flag, the value, and what is wrong."""
    assert expected in failure(*arguments)


def test_withoutTheExtra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without prometheus_client one line says what to install; health needs nothing."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "engineio_twisted.operation.metrics", raising=False)
    expected = "--metrics tcp:9100: engineio_twisted.operation.metrics needs prometheus_client: pip install"
    assert expected in failure("--metrics=tcp:9100")
    CommandService(parse("--health=tcp:9100"), MemoryReactorClock())


def test_aTakenPort() -> None:
    """One that can't be opened is named by its flag."""
    with pytest.raises(SystemExit, match=r"--listen tcp:3000: cannot listen"):
        CommandService(parse("--health=tcp:9100"), TakenPort()).privilegedStartService()

    class OnlyTheirs(TakenPort):
        def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
            listen: Any = MemoryReactorClock if port == 3000 else TakenPort
            return listen.listenTCP(self, port, factory, backlog, interface)

    with pytest.raises(SystemExit, match=r"--health tcp:9100: cannot listen \(Address already in use\)"):
        CommandService(parse("--health=tcp:9100"), OnlyTheirs()).privilegedStartService()


def test_order() -> None:
    """What is for operators is there first and goes last; ready is the server once every port of its own is there."""
    reactor = MemoryReactorClock()
    service = CommandService(parse("--health=tcp:9100"), reactor)
    assert service._whyNotListening() == "not listening"
    service.privilegedStartService()
    service.startService()
    assert [each[0] for each in reactor.tcpServers] == [9100, 3000]
    root = reactor.tcpServers[0][1].resource
    request: Any = FakeRequest()
    root.children[b"ready"].render_GET(request)
    assert request.status == 200
    service.server.handleRequest(FakeRequest())
    (inside,) = service._portsInside
    stopped = service.stopService()
    # What is for operators is still there, and says so.
    assert json.loads(root.children[b"ready"].render_GET(request))["reason"] == "draining"
    assert request.status == 503
    assert len(inside.open) == 1
    reactor.advance(service.server.opts.drainTimeout / 1000)
    reactor.advance(0)
    assert stopped.called
    assert inside.open == []
