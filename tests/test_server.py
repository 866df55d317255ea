"""The server: its options, what it says of itself, its handlers, how it ends."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

import engineio_twisted
from engineio_twisted import OptionError, Server, ServerOptions

from .kit.asking import OPEN, make, opened
from .kit.fakes import FakeRequest


def test_module() -> None:
    """What the package exposes."""
    assert engineio_twisted.protocol == 4
    assert sorted(engineio_twisted.transports) == ["polling", "websocket"]
    assert all(issubclass(each, engineio_twisted.Transport) for each in engineio_twisted.transports.values())
    assert all(hasattr(engineio_twisted, name) for name in engineio_twisted.__all__)


def test_options() -> None:
    """By name or as one object, not both; wrong ones are refused at once."""
    assert Server(pingInterval=5).opts.pingInterval == 5
    assert Server(options=ServerOptions(pingInterval=5)).opts.pingInterval == 5
    with pytest.raises(OptionError, match="expected either ServerOptions or pingInterval"):
        Server(options=ServerOptions(), pingInterval=5)
    with pytest.raises(OptionError, match="did you mean pingInterval"):
        Server(pingIntervl=5)


def test_whatIsNoMiddleware() -> None:
    """Is refused at once, not with each request."""
    server: Any = Server()
    with pytest.raises(TypeError) as caught:
        server.use(None)
    assert str(caught.value) == "middleware None: expected something to call with each request"
    for names in ("status.json", [b"status.json"], 3):
        with pytest.raises(TypeError):
            server.use(print, names=names)


def test_upgrades() -> None:
    """To which transports a session may move."""
    assert Server().upgrades("polling") == ["websocket"]
    assert Server().upgrades("websocket") == []
    assert Server(allowUpgrades=False).upgrades("polling") == []


def test_aConnectionHandlerThatFails(loggedErrors: list[LogEvent]) -> None:
    """Is logged with the session and emitted as its `error`; the session goes on."""
    server, _ = make()
    errors: list[Exception] = []

    @server.on("connection")
    async def connected(socket: Any) -> None:
        socket.on("error", errors.append)
        raise ValueError("no")

    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    (socket,) = server.clients.values()
    assert [type(each) for each in errors] == [ValueError]
    assert [(event["event"], event["session"]) for event in loggedErrors] == [("connection", socket.logName)]
    assert socket.readyState == "open"
    loggedErrors.clear()
    server.close()


def test_requestsAfterTheEnd() -> None:
    """A closed server answers at once, whatever a middleware would like to wait for, and keeps no timer."""
    server, clock = make()
    server.use(lambda request: Deferred())
    server.close()
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert (request.status, clock.getDelayedCalls()) == (503, [])


def test_closingRefusesNewSessions() -> None:
    """With 503, and what waits to be decided is cancelled."""
    answer: Deferred[bool] = Deferred()
    server, clock = make(allowRequest=lambda request: answer)
    waiting = FakeRequest(uri=OPEN)
    server.handleRequest(waiting)
    closed = server.close()
    assert (waiting.status, waiting.header("retry-after")) == (503, "5")
    late = FakeRequest(uri=OPEN)
    server.handleRequest(late)
    assert late.status == 503
    assert closed.called
    assert clock.getDelayedCalls() == []


def test_closeFromInsideAClose() -> None:
    """A handler that closes the server while it closes is no trouble."""
    server, clock = make()
    inner: list[Deferred[None]] = []
    server.on("connection", lambda socket: socket.on("close", lambda *_: inner.append(server.close())))
    for _ in range(3):
        server.handleRequest(FakeRequest(uri=OPEN))
    assert server.close().called
    assert [each.called for each in inner] == [True] * 3
    assert (server.clients, clock.getDelayedCalls()) == ({}, [])


def test_aSessionThatCanNotBeEnded(loggedErrors: list[LogEvent]) -> None:
    """Doesn't keep the others, nor whoever waits for the end."""
    server, _ = make()
    requests = [FakeRequest(uri=OPEN) for _ in range(3)]
    for each in requests:
        server.handleRequest(each)
    broken, *others = server.clients.values()
    broken.transport.close = lambda packets=(): 1 / 0
    ended: list[object] = []
    for each in others:
        each.on("close", lambda reason, description: ended.append(reason))
    assert server.close().called
    assert ended == ["server shutting down"] * 2
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_closeFlushesWhatCanGo() -> None:
    """A waiting GET is told."""
    server, _ = make()
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    poll = FakeRequest(uri=OPEN + b"&sid=" + opened(request).encode())
    server.handleRequest(poll)
    server.close()
    assert poll.written == b"1"
