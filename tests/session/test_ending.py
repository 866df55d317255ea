"""How a session closes and ends."""

from __future__ import annotations

import pytest

from engineio_twisted.interfaces import Closing
from engineio_twisted.protocol.errors import CloseReason
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.session.ending import CLOSING_TIMEOUT
from engineio_twisted.session.socket import Socket

from ..kit.sessions import Session, polling

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
