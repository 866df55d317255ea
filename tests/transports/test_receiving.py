"""The half of polling by which a client sends: bodies, payloads, acknowledgements, refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from engineio_twisted.interfaces import IPushReceiver
from engineio_twisted.protocol.errors import EngineIOError, HTTPRefusal
from engineio_twisted.protocol.packet import Packet, PacketType

from ..kit.fakes import FakeRequest, FakeWriter
from ..kit.polling import HELLO, polling, post


def test_interface() -> None:
    """It is what the site that reads a body expects."""
    verifyObject(IPushReceiver, polling()[0])


def test_whatIsRefusedIsCountedOnce() -> None:
    """By the writer of responses, under the name of the refusal."""
    writer = FakeWriter()
    transport, _ = polling(limit=3, writer=writer, maxPacketsPerPayload=1)
    for each in (b"4abc", b"9", b"4\x1e4"):
        transport.push(post(each).exchange)
    transport.pauseReceiving()
    transport.push(post(b"4a").exchange)
    transport.push(post(b"4b").exchange)
    assert writer.counters.refused == {
        "maxHttpBufferSize": 1,
        "PARSE_ERROR": 1,
        "maxPacketsPerPayload": 1,
        "OVERLAPPING_POST": 1,
    }


def test_push() -> None:
    """The packets are delivered in order, and the answer is ok."""
    transport, owner = polling()
    request = post(b"4hello\x1e3\x1eb/w==")
    transport.push(request.exchange)
    assert owner.packets == [HELLO, Packet(PacketType.PONG), Packet(PacketType.MESSAGE, b"\xff")]
    assert (request.status, request.written, request.header("content-type")) == (200, b"ok", "text/html")


@pytest.mark.parametrize(
    ("body", "delivered"),
    [(b"", 0), (b"9", 0), (b"4a\x1e4b\x1ex", 2), (b"4a\x1eb!", 1), (b"\xff", 0), (b"\x1e" * 1000, 0)],
)
def test_aPayloadThatDoesNotDecode(body: bytes, delivered: int) -> None:
    """400, what is before the break is delivered, and the session ends."""
    transport, owner = polling()
    poll, request = FakeRequest(), post(body)
    transport.poll(poll.exchange)
    transport.push(request.exchange)
    assert len(owner.packets) == delivered
    assert (request.status, "expected" in json.loads(request.written)["message"]) == (400, True)
    assert [reason for reason, _ in owner.closes] == ["parse error"]
    assert poll.written == b"1"


@pytest.mark.parametrize("contentType", ["application/octet-stream", "Application/Octet-Stream; q=1"])
def test_octetStream(contentType: str) -> None:
    """Revision 4 has no binary payloads."""
    transport, owner = polling()
    request = post(b"4a", content_type=contentType)
    transport.push(request.exchange)
    assert (request.status, owner.packets) == (400, [])
    assert owner.closes[0][0] == "parse error"


def test_revision3Posts() -> None:
    """A POST is text or bytes, as its content type says."""
    transport, owner = polling(revision=3)
    requests = [
        post("3:4😀1:2".encode(), content_type="text/plain;charset=UTF-8"),
        post(bytes.fromhex("0105ff0401020304"), content_type="application/octet-stream"),
    ]
    for each in requests:
        transport.push(each.exchange)
    assert [packet.data for packet in owner.packets] == ["😀", "", b"\x01\x02\x03\x04"]
    assert [(each.status, each.written) for each in requests] == [(200, b"ok")] * 2


def test_aBodyOverTheLimit() -> None:
    """It is refused with the option's name, and ends the session."""
    transport, owner = polling(limit=10)
    request, exact = post(b"4" + b"a" * 10), post(b"4" + b"a" * 9)
    transport.push(request.exchange)
    assert (request.status, owner.packets) == (413, [])
    assert owner.closes == [("transport error", "the body is larger than maxHttpBufferSize, 10 bytes")]
    assert "maxHttpBufferSize, 10 bytes" in json.loads(request.written)["message"]
    transport, owner = polling(limit=10)
    transport.push(exact.exchange)
    assert (exact.status, len(owner.packets)) == (200, 1)


def test_aPayloadNobodyTakes() -> None:
    """What comes to a session that is closing isn't acknowledged."""
    transport, owner = polling()
    owner.isClosing = True
    request = post(b"4a")
    transport.push(request.exchange)
    assert (request.status, json.loads(request.written)) == (400, {"message": "the session is closing"})
    assert owner.closes == []


def test_clientsClosePacket() -> None:
    """It ends the waiting GET with a noop, the session at once, and what follows is dropped."""
    transport, owner = polling()
    poll, request = FakeRequest(), post(b"4a\x1e1\x1e4b")
    transport.poll(poll.exchange)
    transport.push(request.exchange)
    assert [packet.data for packet in owner.packets] == ["a"]
    assert owner.closes == [("transport close", "close packet")]
    assert (poll.written, request.written) == (b"6", b"ok")


def test_bodiesBeingRead() -> None:
    """One at a time; a second one ends the session and drops the first."""
    transport, owner = polling()
    first, second = post(b""), post(b"")
    transport.pushStarted(first)
    transport.pushEnded(first)
    transport.pushStarted(first)
    with pytest.raises(HTTPRefusal, match="being read already"):
        transport.pushStarted(second)
    assert owner.closes == [("transport error", "overlapping POST requests")]
    assert first.isDropped


def test_aBodyThatIsLost() -> None:
    """The session ends at once; a body that was complete can't be lost."""
    transport, owner = polling()
    done, lost = post(b""), post(b"")
    transport.pushStarted(done)
    transport.pushEnded(done)
    transport.pushLost(done)
    transport.pushEnded(lost)
    assert owner.closes == []
    transport.pushStarted(lost)
    transport.pushLost(lost)
    assert owner.closes == [("transport error", "data request connection closed prematurely")]


def test_thePostOfOneThatIsHeldBack() -> None:
    """Is answered when all of it was delivered."""
    clock = Clock()
    transport, owner = polling(clock=clock)
    transport.pauseReceiving()
    request = post(b"4a\x1e4b")
    transport.push(request.exchange)
    assert not request.finished
    assert (transport.heldBytes, transport.isDelivering, owner.packets) == (5, True, []), "it isn't even decoded"
    transport.resumeReceiving()
    assert owner.packets == [], "before a turn of the reactor"
    clock.advance(0)
    assert (transport.heldBytes, transport.isDelivering, owner.deliveries) == (0, False, 1)
    assert (request.finished, request.status, request.written) == (True, 200, b"ok")
    assert [each.data for each in owner.packets] == ["a", "b"]
    again = post(b"4c")
    transport.push(again.exchange)
    assert again.written == b"ok"


def test_thePostOfOneThatIsClosed() -> None:
    """Is refused where nobody gets what was in it."""
    transport, _ = polling()
    transport.pauseReceiving()
    request = post(b"4a")
    transport.push(request.exchange)
    transport.resumeReceiving(False)
    assert (request.status, request.finished) == (400, True)


@pytest.mark.parametrize("how", ["complete", "incomplete"])
def test_anotherPostMeanwhile(how: str) -> None:
    """Is one too many, as always: refused at once, and the session ends with it, behind what came before."""
    clock = Clock()
    transport, owner = polling(clock=clock)
    transport.pauseReceiving()
    transport.push(post(b"4a").exchange)
    second = post(b"4b")
    if how == "complete":
        transport.push(second.exchange)
        assert second.status == 400
    else:
        with pytest.raises(EngineIOError):
            transport.pushStarted(second)  # type: ignore[arg-type]
    assert owner.closes == []
    transport.resumeReceiving()
    clock.advance(0)
    assert [each.data for each in owner.packets] == ["a"]
    assert owner.closes == [("transport error", "overlapping POST requests")]


def test_thePostOfOneThatHasGone() -> None:
    """Ends the session, as its connection would if it were read, once all is delivered that was in it."""
    clock = Clock()
    transport, owner = polling(clock=clock)
    transport.pauseReceiving()
    request = post(b"4a")
    transport.push(request.exchange)
    request.lose()
    assert owner.closes == []
    transport.resumeReceiving()
    clock.advance(0)
    assert [each.data for each in owner.packets] == ["a"]
    assert owner.closes == [("transport error", "data request connection closed prematurely")]
    assert not request.finished


def test_thePostOfOneThatHasGoneWithNothingLeft() -> None:
    """If the handler of its only message has paused receiving, nothing is left to wait for."""
    transport, owner = polling()
    take = owner.transportPacket

    def pausing(*args: Any) -> bool:
        transport.pauseReceiving()
        return take(*args)

    owner.transportPacket = pausing  # type: ignore[method-assign]
    request = post(b"4a")
    transport.push(request.exchange)
    assert (request.finished, transport.isDelivering, transport.heldBytes) == (False, False, 0)
    request.lose()
    assert owner.closes == [("transport error", "data request connection closed prematurely")]
