"""How a session closes and ends."""

from __future__ import annotations

from typing import Any

import pytest

from engineio_twisted.interfaces import Closing
from engineio_twisted.protocol.errors import CloseReason
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.session.ending import CLOSING_TIMEOUT
from engineio_twisted.session.socket import Socket

from ..kit.sessions import Session, polling, slow

pytestmark = pytest.mark.usefixtures("isServerHeard")


def test_closeOnWebSocket() -> None:
    """At once, with the transport told."""
    session = Session()
    session.socket.send("last")
    session.socket.close()
    assert session.socket.readyState == "closed"
    assert session.closes == [("forced close", "closed by the server")]
    assert session.transport.texts() == ["last"]
    assert (session.ended, session.isQuiet()) == ([session.socket], True)


def test_closeOnPollingWithAWaitingGet() -> None:
    """That GET is told."""
    session = polling()
    session.transport.ready()
    session.socket.close()
    assert session.closes == [("forced close", "closed by the server")]
    assert session.isQuiet()


def test_closeOnPollingWaitsForTheNextGet() -> None:
    """What is buffered goes out with the close; until then the session is closing."""
    session = polling()
    session.socket.send("a")
    session.socket.close()
    session.socket.send("too late")
    assert session.socket.readyState == "closing"
    assert session.ended == []
    session.transport.ready()
    assert session.transport.texts() == ["a"]
    assert session.names()[-3:] == ["flush", "drain", "close"]
    assert session.closes == [("forced close", "closed by the server")]
    assert session.isQuiet()


def test_closeDoesNotWaitForEver() -> None:
    """A client that never polls again is given up after 30 seconds; what it didn't get can be read."""
    session = polling()
    session.socket.send("unsent")
    session.socket.close()
    session.clock.advance(CLOSING_TIMEOUT - 0.001)
    assert session.socket.readyState == "closing"
    buffers: list[list[Packet]] = []
    session.socket.on("close", lambda *_: buffers.append(session.socket.writeBuffer))
    session.clock.advance(0.001)
    assert session.closes == [("forced close", "the client did not poll again")]
    assert buffers == [[Packet(PacketType.MESSAGE, "unsent")]]
    assert session.isQuiet()


@pytest.mark.parametrize("before", ["open", "closing"])
def test_discard(before: str) -> None:
    """The buffer is dropped and the session ends at once, also one that is closing."""
    session = polling()
    session.socket.send("dropped")
    if before == "closing":
        session.socket.close()
    session.socket.close(discard=True)
    assert session.closes == [("forced close", "closed by the server")]
    assert session.socket.writeBuffer == []
    assert session.isQuiet()


def test_closeTwice() -> None:
    """Is closing once."""
    session = Session()
    session.socket.close()
    session.socket.close()
    session.socket.close(discard=True)
    assert len(session.closes) == 1


@pytest.mark.parametrize("reason", [CloseReason.TRANSPORT_CLOSE, CloseReason.TRANSPORT_ERROR, CloseReason.PARSE_ERROR])
def test_endByTheTransport(reason: CloseReason) -> None:
    """The session is over as soon as its transport is; nothing stays."""
    session = polling()
    session.socket.send("unsent")
    session.transport.owner.transportClosed(session.transport, Closing(reason, "why"))
    assert session.closes == [(str(reason), "why")]
    assert session.socket.writeBuffer == [Packet(PacketType.MESSAGE, "unsent")]
    assert (session.transport.reasons, session.ended, session.isQuiet()) == ([reason], [session.socket], True)


def test_shutDown() -> None:
    """The server's own end has its own reason."""
    session = Session()
    session.socket.shutDown()
    assert session.closes == [("server shutting down", "the server is closing")]


def test_shutDownFromInsideAFlush() -> None:
    """What was about to go out still does, once, and its callback runs."""
    session, calls = polling(), []
    session.socket.send("a", calls.append)
    session.socket.on("flush", lambda _: session.socket.shutDown())
    session.transport.ready()
    assert session.transport.texts() == ["a"]
    assert calls == [session.transport]
    assert session.closes == [("server shutting down", "the server is closing")]
    assert session.isQuiet()


@pytest.mark.parametrize("discard", [False, True])
def test_closingFromInsidePacketCreate(discard: bool) -> None:
    """The packet that was just made goes out before the end, unless the buffer is dropped."""
    session = Session()
    session.socket.on("packetCreate", lambda _: session.socket.close(discard))
    session.socket.send("a")
    assert session.transport.texts() == ([] if discard else ["a"])
    assert session.socket.writeBuffer == []
    assert session.names()[-1] == "close"


def test_theSessionHasLeftTheTableWhenCloseIsEmitted() -> None:
    """A handler of `close` finds the server without it."""
    session = Session()
    seen: list[list[Socket]] = []
    session.socket.on("close", lambda *_: seen.append(list(session.ended)))
    session.socket.close()
    assert seen == [[session.socket]]


# A reason of a layer above


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("reason", CloseReason)
def test_reasonsOfALayer(reason: CloseReason, discard: bool) -> None:
    """They reach the handlers and the transport; the session is over, and nothing is left."""
    session = Session()
    session.socket.close(discard, reason=reason, description="as it says")
    assert session.closes == [(reason, "as it says")]
    assert session.transport.closings == [Closing(reason, "as it says")]
    assert {each: count for each, count in session.host.counters.closed.items() if count} == {reason: 1}
    assert session.isQuiet()


def test_reasonWithoutADescription() -> None:
    """Either may be given alone; the text of a reason is as good as the reason."""
    session = Session()
    session.socket.close(reason=CloseReason.PARSE_ERROR)
    assert session.closes == [("parse error", "closed by the server")]
    session = Session()
    session.socket.close(description="")
    assert session.closes == [("forced close", "")]
    given: Any = "ping timeout"
    session = Session()
    session.socket.close(reason=given)
    assert session.closes[0][0] is CloseReason.PING_TIMEOUT


@pytest.mark.parametrize("reason", CloseReason)
def test_reasonOfASessionThatDoesNotEnd(reason: CloseReason) -> None:
    """A client that doesn't take what is buffered is given up in time, whatever the reason is."""
    session = slow()
    session.socket.send("never taken")
    session.socket.close(reason=reason, description="as it says")
    session.transport.receive(PacketType.MESSAGE, "not heard any more")
    session.clock.advance(CLOSING_TIMEOUT)
    assert session.closes == [(reason, "as it says")]
    assert "message" not in session.names()
    assert session.isQuiet()


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"reason": "bored"}, ValueError, "reason 'bored': expected a CloseReason, one of 'transport close', "),
        ({"reason": None}, ValueError, "reason None: expected a CloseReason, "),
        ({"description": 3}, TypeError, "description of type int: expected text"),
    ],
)
def test_wrongReasons(keywords: Any, error: type[Exception], text: str) -> None:
    """They are errors at once, and the session goes on."""
    session = Session()
    with pytest.raises(error) as caught:
        session.socket.close(discard=True, **keywords)
    assert str(caught.value).startswith(text)
    assert session.socket.readyState == "open"


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize("reason", CloseReason)
def test_whatTheClientIsTold(engineio: Any, transport: str, reason: CloseReason) -> None:
    """It hears that the session is over, whatever the reason: by a close packet, or by a close frame."""
    kit = engineio(lambda server: None)
    client = kit.connect(transport, upgrade=False)
    client.socket.close(reason=reason)
    kit.settle()
    assert client.closed.reason == "transport close"
    codes = {"server shutting down": 1001, "rate limit exceeded": 1008}
    wanted = "close packet" if transport == "polling" else str(codes.get(reason, 1000))
    assert wanted in client.closed.description
