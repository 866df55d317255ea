"""The polling transport without a network: requests, payloads, overlap, loss."""

from __future__ import annotations

import json

import pytest
from zope.interface.verify import verifyObject

from engineio_twisted.errors import HTTPRefusal
from engineio_twisted.options import ServerOptions
from engineio_twisted.packet import Packet, PacketType
from engineio_twisted.payload import codecFor
from engineio_twisted.polling import PollingTransport
from engineio_twisted.transport import ITransport

from .fakes import FakeOwner, FakeRequest


def make(limit: int = 1000) -> tuple[PollingTransport, FakeOwner]:
    transport = PollingTransport(codecFor(4), True, ServerOptions(maxHttpBufferSize=limit))
    transport.owner = FakeOwner()
    return transport, transport.owner


def post(body: bytes, **headers: str) -> FakeRequest:
    return FakeRequest(b"POST", body=body, headers={name.replace("_", "-"): [value] for name, value in headers.items()})


HELLO = Packet(PacketType.MESSAGE, "hello")


def test_interface() -> None:
    """It is what a session expects of a transport."""
    verifyObject(ITransport, make()[0])


def test_pollWaitsUntilThereIsSomethingToSend() -> None:
    """The answer is one payload, as text, not to be stored."""
    transport, owner = make()
    request = FakeRequest()
    assert not transport.writable
    transport.poll(request)
    assert (transport.writable, owner.readies, request.finished) == (True, 1, False)
    transport.send([HELLO, Packet(PacketType.MESSAGE, b"\x01\x02\x03\x04")])
    assert (request.status, request.written, request.finished) == (200, b"4hello\x1ebAQIDBA==", True)
    assert request.header("content-type") == "text/plain; charset=UTF-8"
    assert request.header("cache-control") == "no-store"
    assert request.header("content-length") == "16"
    assert not transport.writable


def test_aSecondPollIsAnOverlap() -> None:
    """The second GET gets 400, the session ends, and the first GET is told."""
    transport, owner = make()
    first, second = FakeRequest(), FakeRequest()
    transport.poll(first)
    transport.poll(second)
    assert owner.closes == [("transport error", "overlapping GET requests")]
    assert (first.status, first.written) == (200, b"1")
    assert (second.status, second.header("content-type")) == (400, "application/json")
    assert "waiting already" in json.loads(second.written)["message"]


def test_aPollThatIsLost() -> None:
    """The session ends at once."""
    transport, owner = make()
    request = FakeRequest()
    transport.poll(request)
    request.lose()
    assert owner.closes == [("transport error", "poll connection closed prematurely")]
    assert not transport.writable


def test_aPollThatIsAboutToBeLost() -> None:
    """Nothing is sent on a connection that is gone, whoever hears of it first."""
    transport, owner = make()
    request = FakeRequest()
    request.notifyFinish().addErrback(lambda _: writable.append(transport.writable))
    writable: list[bool] = []
    transport.poll(request)
    request.lose()
    assert writable == [False]
    assert owner.closes == [("transport error", "poll connection closed prematurely")]


def test_aPayloadNobodyTakes() -> None:
    """What comes to a session that is closing isn't acknowledged."""
    transport, owner = make()
    owner.isClosing = True
    request = post(b"4a")
    transport.push(request)
    assert (request.status, json.loads(request.written)) == (400, {"message": "the session is closing"})
    assert owner.closes == []


def test_aConnectionLostAfterTheAnswerIsNoLoss() -> None:
    """Only a GET that waits can be lost."""
    transport, owner = make()
    request = FakeRequest()
    transport.poll(request)
    transport.send([HELLO])
    request.lose()
    assert owner.closes == []


def test_push() -> None:
    """The packets are delivered in order, and the answer is ok."""
    transport, owner = make()
    request = post(b"4hello\x1e3\x1eb/w==")
    transport.push(request)
    assert owner.packets == [HELLO, Packet(PacketType.PONG), Packet(PacketType.MESSAGE, b"\xff")]
    assert (request.status, request.written, request.header("content-type")) == (200, b"ok", "text/html")


@pytest.mark.parametrize(
    ("body", "delivered"),
    [(b"", 0), (b"9", 0), (b"4a\x1e4b\x1ex", 2), (b"4a\x1eb!", 1), (b"\xff", 0), (b"\x1e" * 1000, 0)],
)
def test_aPayloadThatDoesNotDecode(body: bytes, delivered: int) -> None:
    """400, what is before the break is delivered, and the session ends."""
    transport, owner = make()
    poll, request = FakeRequest(), post(body)
    transport.poll(poll)
    transport.push(request)
    assert len(owner.packets) == delivered
    assert (request.status, "expected" in json.loads(request.written)["message"]) == (400, True)
    assert [reason for reason, _ in owner.closes] == ["parse error"]
    assert poll.written == b"1"


@pytest.mark.parametrize("contentType", ["application/octet-stream", "Application/Octet-Stream; q=1"])
def test_octetStream(contentType: str) -> None:
    """Revision 4 has no binary payloads."""
    transport, owner = make()
    request = post(b"4a", content_type=contentType)
    transport.push(request)
    assert (request.status, owner.packets) == (400, [])
    assert owner.closes[0][0] == "parse error"


def test_aBodyOverTheLimit() -> None:
    """Is refused with the option's name; the session goes on."""
    transport, owner = make(limit=10)
    request, exact = post(b"4" + b"a" * 10), post(b"4" + b"a" * 9)
    transport.push(request)
    assert (request.status, owner.packets, owner.closes) == (413, [], [])
    assert "maxHttpBufferSize, 10 bytes" in json.loads(request.written)["message"]
    transport.push(exact)
    assert (exact.status, len(owner.packets)) == (200, 1)


def test_clientsClosePacket() -> None:
    """It ends the waiting GET with a noop, the session at once, and what follows is dropped."""
    transport, owner = make()
    poll, request = FakeRequest(), post(b"4a\x1e1\x1e4b")
    transport.poll(poll)
    transport.push(request)
    assert [packet.data for packet in owner.packets] == ["a"]
    assert owner.closes == [("transport close", "close packet")]
    assert (poll.written, request.written) == (b"6", b"ok")


def test_close() -> None:
    """A waiting GET gets what is buffered and a close packet; doing it again does nothing."""
    transport, owner = make()
    request = FakeRequest()
    transport.poll(request)
    transport.close([HELLO])
    transport.close()
    assert request.written == b"4hello\x1e1"
    assert owner.closes == []


def test_discard() -> None:
    """A waiting GET ends without an end of the session."""
    transport, owner = make()
    request = FakeRequest()
    transport.poll(request)
    transport.discard()
    transport.discard()
    assert (request.written, owner.closes) == (b"6", [])


def test_bodiesBeingRead() -> None:
    """One at a time; a second one ends the session and drops the first."""
    transport, owner = make()
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
    transport, owner = make()
    done, lost = post(b""), post(b"")
    transport.pushStarted(done)
    transport.pushEnded(done)
    transport.pushLost(done)
    transport.pushEnded(lost)
    assert owner.closes == []
    transport.pushStarted(lost)
    transport.pushLost(lost)
    assert owner.closes == [("transport error", "data request connection closed prematurely")]


@pytest.mark.parametrize(
    ("agent", "header"),
    [("Mozilla/4.0 (compatible;MSIE 8.0)", "0"), ("Mozilla/5.0 (Trident/7.0; rv:11.0)", "0"), ("Firefox", None)],
)
def test_xssProtection(agent: str, header: str | None) -> None:
    """Old browsers that would change a payload are told not to."""
    transport, _ = make()
    poll, push = FakeRequest(headers={"user-agent": [agent]}), post(b"4a", user_agent=agent)
    transport.poll(poll)
    transport.send([HELLO])
    transport.push(push)
    assert poll.header("x-xss-protection") == push.header("x-xss-protection") == header


def test_theNextRequestMayComeBeforeTheAnswerReturns() -> None:
    """Finishing a GET may bring the next one of a pipelining client, and that one waits."""
    transport, owner = make()
    first, second = FakeRequest(), FakeRequest()
    finish = first.finish

    def finishAndGoOn() -> None:
        finish()
        transport.poll(second)

    first.finish = finishAndGoOn  # type: ignore[method-assign]
    transport.poll(first)
    transport.send([HELLO])
    assert owner.closes == []
    assert transport.writable
