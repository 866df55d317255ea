"""A session that is reached by its id, on one process: C{sendTo} and C{closeSession}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.logger import LogEvent

from engineio_twisted.testing import MemoryServer

Engine = Callable[..., MemoryServer]


def results(*deferreds: Any) -> list[Any]:
    found: list[Any] = []
    for each in deferreds:
        each.addBoth(found.append)
    return found


def test_sendTo(engineio: Engine) -> None:
    """It has the message at the call; what isn't open has none."""
    kit = engineio(lambda server: None)
    client, other = kit.connect(), kit.connect()
    server = kit.server
    sent = [server.sendTo(client.sid, "a"), server.sendTo(client.sid, ["€", b"\xff"]), server.sendTo("nobody", "b")]
    assert results(*sent) == [True, True, False]
    assert (client.received, other.received) == (["a", "€", b"\xff"], [])
    other.socket.close(discard=True)
    assert results(server.sendTo(other.sid, "c")) == [False]


def test_noRoom(engineio: Engine) -> None:
    """A session that may not buffer more didn't take it, whatever is to happen then."""
    kit = engineio(lambda server: None, maxBufferedPackets=1, bufferLimitAction="raise")
    client = kit.connect(upgrade=False)
    client.pauseReading()
    sent = [kit.server.sendTo(client.sid, each) for each in ("answers the GET", "waits", "is too many")]
    assert results(*sent) == [True, True, False]


@pytest.mark.parametrize("data", [None, {"a": 1}, "\ud800", ["a", None]])
def test_whatCannotBeSent(engineio: Engine, data: Any) -> None:
    """It raises at the call, for a session that there isn't too."""
    kit = engineio(lambda server: None)
    client = kit.connect()
    for sid in (client.sid, "nobody"):
        with pytest.raises((TypeError, ValueError)):
            kit.server.sendTo(sid, data)
    assert client.received == []


def test_noId(engineio: Engine) -> None:
    """A socket is no id, and the error doesn't show it."""
    kit = engineio(lambda server: None)
    socket: Any = kit.connect().socket
    for call in (lambda: kit.server.sendTo(socket, "a"), lambda: kit.server.closeSession(socket)):
        with pytest.raises(TypeError, match=r"^sid of type \w+: expected the id of a session$"):
            call()


def test_closeSession(engineio: Engine) -> None:
    """What is buffered goes out first, unless it is discarded. One that was closing wasn't open."""
    kit = engineio(lambda server: None)
    server, client, other = kit.server, kit.connect(upgrade=False), kit.connect(upgrade=False)
    for each in (client, other):
        each.pauseReading()
        each.socket.send("answers the GET")
        each.socket.send("waits")
    closed = [server.closeSession(client.sid), server.closeSession(client.sid), server.closeSession(other.sid, True)]
    assert results(*closed, server.closeSession("nobody")) == [True, False, True, False]
    assert (client.socket.readyState, other.socket.readyState) == ("closing", "closed")
    assert results(server.closeSession(client.sid, discard=True)) == [False]
    assert client.socket.readyState == "closed"


def test_closeThatFails(engineio: Engine, loggedErrors: list[LogEvent], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged with its session, and the result is no error."""
    kit = engineio(lambda server: None)
    client = kit.connect()
    socket: Any = client.socket
    with monkeypatch.context() as patch:
        patch.setattr(type(socket), "close", lambda *args: 1 / 0)
        assert results(kit.server.closeSession(client.sid)) == [False]
    (event,) = loggedErrors
    assert event["log_failure"].check(ZeroDivisionError)
    loggedErrors.clear()
    kit.errors.clear()
