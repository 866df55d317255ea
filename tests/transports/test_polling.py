"""The polling transport without a network: requests, payloads, overlap, loss."""

from __future__ import annotations

import json

import pytest
from zope.interface.verify import verifyObject

from engineio_twisted.interfaces import LEFT, ITransport
from engineio_twisted.protocol.packet import Packet, PacketType

from ..kit.fakes import FORCED, FakeRequest
from ..kit.polling import HELLO, polling, post


def test_interface() -> None:
    """It is what a session expects of a transport."""
    verifyObject(ITransport, polling()[0])


def test_pollWaitsUntilThereIsSomethingToSend() -> None:
    """The answer is one payload, as text, not to be stored."""
    transport, owner = polling()
    request = FakeRequest()
    assert not transport.writable
    transport.poll(request.exchange)
    assert (transport.writable, owner.readies, request.finished) == (True, 1, False)
    transport.send([HELLO, Packet(PacketType.MESSAGE, b"\x01\x02\x03\x04")])
    assert (request.status, request.written, request.finished) == (200, b"4hello\x1ebAQIDBA==", True)
    assert request.header("content-type") == "text/plain; charset=UTF-8"
    assert request.header("cache-control") == "no-store"
    assert request.header("content-length") == "16"
    assert not transport.writable


def test_aSecondPollIsAnOverlap() -> None:
    """The second GET gets 400, the session ends, and the first GET is told."""
    transport, owner = polling()
    first, second = FakeRequest(), FakeRequest()
    transport.poll(first.exchange)
    transport.poll(second.exchange)
    assert owner.closes == [("transport error", "overlapping GET requests")]
    assert (first.status, first.written) == (200, b"1")
    assert (second.status, second.header("content-type")) == (400, "application/json")
    assert "waiting already" in json.loads(second.written)["message"]


def test_aPollThatIsLost() -> None:
    """The session ends at once."""
    transport, owner = polling()
    request = FakeRequest()
    transport.poll(request.exchange)
    request.lose()
    assert owner.closes == [("transport error", "poll connection closed prematurely")]
    assert not transport.writable


def test_aPollThatIsAboutToBeLost() -> None:
    """Nothing is sent on a connection that is gone, whoever hears of it first."""
    transport, owner = polling()
    request = FakeRequest()
    request.notifyFinish().addErrback(lambda _: writable.append(transport.writable))
    writable: list[bool] = []
    transport.poll(request.exchange)
    request.lose()
    assert writable == [False]
    assert owner.closes == [("transport error", "poll connection closed prematurely")]


def test_aConnectionLostAfterTheAnswerIsNoLoss() -> None:
    """Only a GET that waits can be lost."""
    transport, owner = polling()
    request = FakeRequest()
    transport.poll(request.exchange)
    transport.send([HELLO])
    request.lose()
    assert owner.closes == []


def test_close() -> None:
    """A waiting GET gets what is buffered and a close packet; doing it again does nothing."""
    transport, owner = polling()
    request = FakeRequest()
    transport.poll(request.exchange)
    transport.close(FORCED, [HELLO])
    transport.close(FORCED)
    assert request.written == b"4hello\x1e1"
    assert owner.closes == []


def test_discard() -> None:
    """A waiting GET ends without an end of the session."""
    transport, owner = polling()
    request = FakeRequest()
    transport.poll(request.exchange)
    transport.close(LEFT)
    transport.close(LEFT)
    assert (request.written, owner.closes) == (b"6", [])


@pytest.mark.parametrize(
    ("agent", "header"),
    [("Mozilla/4.0 (compatible;MSIE 8.0)", "0"), ("Mozilla/5.0 (Trident/7.0; rv:11.0)", "0"), ("Firefox", None)],
)
def test_xssProtection(agent: str, header: str | None) -> None:
    """Old browsers that would change a payload are told not to."""
    transport, _ = polling()
    poll, push = FakeRequest(headers={"user-agent": [agent]}), post(b"4a", user_agent=agent)
    transport.poll(poll.exchange)
    transport.send([HELLO])
    transport.push(push.exchange)
    assert poll.header("x-xss-protection") == push.header("x-xss-protection") == header


def test_theNextRequestMayComeBeforeTheAnswerReturns() -> None:
    """Finishing a GET may bring the next one of a pipelining client, and that one waits."""
    transport, owner = polling()
    first, second = FakeRequest(), FakeRequest()
    finish = first.finish

    def finishAndGoOn() -> None:
        finish()
        transport.poll(second.exchange)

    first.finish = finishAndGoOn  # type: ignore[method-assign]
    transport.poll(first.exchange)
    transport.send([HELLO])
    assert owner.closes == []
    assert transport.writable


def test_everyAnswerIsAnnounced() -> None:
    """Whoever adds headers can do it for each: payload, acknowledgement, refusal."""
    transport, _ = polling()
    poll, push, overlap = FakeRequest(), post(b"4a"), FakeRequest()
    transport.poll(poll.exchange)
    transport.push(push.exchange)
    transport.poll(overlap.exchange)
    assert [(each.status, each.header("x-announced")) for each in (poll, push, overlap)] == [
        (200, "yes"),
        (200, "yes"),
        (400, "yes"),
    ]


def test_theResponseThatOpensASessionIsAnnouncedWithItsId() -> None:
    """Once, whatever else is answered before it."""
    transport, _ = polling()
    opening, early, later = FakeRequest(), post(b"4a"), FakeRequest()
    transport.open(opening.exchange, "sid")
    transport.push(early.exchange)
    transport.send([HELLO])
    transport.poll(later.exchange)
    transport.send([HELLO])
    assert [each.header("x-announced") for each in (opening, early, later)] == ["sid", "yes", "yes"]


# Revision 3


def test_revision3Text() -> None:
    """Without bytes among them, packets go out as text."""
    transport, _ = polling(revision=3)
    request = FakeRequest()
    transport.poll(request.exchange)
    transport.send([HELLO, Packet(PacketType.MESSAGE, "😀")])
    assert request.written == "6:4hello3:4😀".encode()
    assert request.header("content-type") == "text/plain; charset=UTF-8"


@pytest.mark.parametrize(
    ("supportsBinary", "contentType", "body"),
    [
        (True, "application/octet-stream", bytes.fromhex("0004ff34e282ac 0105ff0401020304")),
        (False, "text/plain; charset=UTF-8", "2:4€10:b4AQIDBA==".encode()),
    ],
)
def test_revision3Bytes(supportsBinary: bool, contentType: str, body: bytes) -> None:
    """With bytes among them they go out as bytes, or as text to a client that can't take them."""
    transport, _ = polling(revision=3, supportsBinary=supportsBinary)
    request = FakeRequest()
    transport.poll(request.exchange)
    transport.send([Packet(PacketType.MESSAGE, "€"), Packet(PacketType.MESSAGE, b"\x01\x02\x03\x04")])
    assert (request.header("content-type"), request.written) == (contentType, body)
