"""The polling transport without a network: requests, payloads, overlap, loss."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any
from urllib.parse import urlencode

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from engineio_twisted.interfaces import LEFT, Closing, ITransport
from engineio_twisted.protocol.errors import HTTPRefusal
from engineio_twisted.protocol.options import ServerOptions
from engineio_twisted.protocol.packet import Packet, PacketType
from engineio_twisted.protocol.payload import codecFor
from engineio_twisted.transports.compression import COMPRESSED_AT_ONCE
from engineio_twisted.transports.jsonp import JSONPTransport
from engineio_twisted.transports.polling import PollingTransport
from engineio_twisted.web.writer import ResponseWriter

from ..kit.fakes import FORCED, FakeOwner, FakeRequest, FakeWriter


def make(
    limit: int = 1000,
    revision: int = 4,
    supportsBinary: bool = True,
    index: str | None = None,
    writer: ResponseWriter | None = None,
    **options: Any,
) -> tuple[PollingTransport, FakeOwner]:
    settings = ServerOptions(maxHttpBufferSize=limit, **options)
    if index is None:
        transport = PollingTransport(codecFor(revision), supportsBinary, settings, Clock(), writer or FakeWriter())
    else:
        transport = JSONPTransport(codecFor(revision), settings, Clock(), writer or FakeWriter(), index)
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
    transport, owner = make()
    first, second = FakeRequest(), FakeRequest()
    transport.poll(first.exchange)
    transport.poll(second.exchange)
    assert owner.closes == [("transport error", "overlapping GET requests")]
    assert (first.status, first.written) == (200, b"1")
    assert (second.status, second.header("content-type")) == (400, "application/json")
    assert "waiting already" in json.loads(second.written)["message"]


def test_aPollThatIsLost() -> None:
    """The session ends at once."""
    transport, owner = make()
    request = FakeRequest()
    transport.poll(request.exchange)
    request.lose()
    assert owner.closes == [("transport error", "poll connection closed prematurely")]
    assert not transport.writable


def test_aPollThatIsAboutToBeLost() -> None:
    """Nothing is sent on a connection that is gone, whoever hears of it first."""
    transport, owner = make()
    request = FakeRequest()
    request.notifyFinish().addErrback(lambda _: writable.append(transport.writable))
    writable: list[bool] = []
    transport.poll(request.exchange)
    request.lose()
    assert writable == [False]
    assert owner.closes == [("transport error", "poll connection closed prematurely")]


def test_aPayloadNobodyTakes() -> None:
    """What comes to a session that is closing isn't acknowledged."""
    transport, owner = make()
    owner.isClosing = True
    request = post(b"4a")
    transport.push(request.exchange)
    assert (request.status, json.loads(request.written)) == (400, {"message": "the session is closing"})
    assert owner.closes == []


def test_aConnectionLostAfterTheAnswerIsNoLoss() -> None:
    """Only a GET that waits can be lost."""
    transport, owner = make()
    request = FakeRequest()
    transport.poll(request.exchange)
    transport.send([HELLO])
    request.lose()
    assert owner.closes == []


def test_push() -> None:
    """The packets are delivered in order, and the answer is ok."""
    transport, owner = make()
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
    transport, owner = make()
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
    transport, owner = make()
    request = post(b"4a", content_type=contentType)
    transport.push(request.exchange)
    assert (request.status, owner.packets) == (400, [])
    assert owner.closes[0][0] == "parse error"


def test_aBodyOverTheLimit() -> None:
    """It is refused with the option's name, and ends the session."""
    transport, owner = make(limit=10)
    request, exact = post(b"4" + b"a" * 10), post(b"4" + b"a" * 9)
    transport.push(request.exchange)
    assert (request.status, owner.packets) == (413, [])
    assert owner.closes == [("transport error", "the body is larger than maxHttpBufferSize, 10 bytes")]
    assert "maxHttpBufferSize, 10 bytes" in json.loads(request.written)["message"]
    transport, owner = make(limit=10)
    transport.push(exact.exchange)
    assert (exact.status, len(owner.packets)) == (200, 1)


def test_clientsClosePacket() -> None:
    """It ends the waiting GET with a noop, the session at once, and what follows is dropped."""
    transport, owner = make()
    poll, request = FakeRequest(), post(b"4a\x1e1\x1e4b")
    transport.poll(poll.exchange)
    transport.push(request.exchange)
    assert [packet.data for packet in owner.packets] == ["a"]
    assert owner.closes == [("transport close", "close packet")]
    assert (poll.written, request.written) == (b"6", b"ok")


def test_close() -> None:
    """A waiting GET gets what is buffered and a close packet; doing it again does nothing."""
    transport, owner = make()
    request = FakeRequest()
    transport.poll(request.exchange)
    transport.close(FORCED, [HELLO])
    transport.close(FORCED)
    assert request.written == b"4hello\x1e1"
    assert owner.closes == []


def test_discard() -> None:
    """A waiting GET ends without an end of the session."""
    transport, owner = make()
    request = FakeRequest()
    transport.poll(request.exchange)
    transport.close(LEFT)
    transport.close(LEFT)
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
    transport.poll(poll.exchange)
    transport.send([HELLO])
    transport.push(push.exchange)
    assert poll.header("x-xss-protection") == push.header("x-xss-protection") == header


def test_theNextRequestMayComeBeforeTheAnswerReturns() -> None:
    """Finishing a GET may bring the next one of a pipelining client, and that one waits."""
    transport, owner = make()
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
    transport, _ = make()
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
    transport, _ = make()
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
    transport, _ = make(revision=3)
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
    transport, _ = make(revision=3, supportsBinary=supportsBinary)
    request = FakeRequest()
    transport.poll(request.exchange)
    transport.send([Packet(PacketType.MESSAGE, "€"), Packet(PacketType.MESSAGE, b"\x01\x02\x03\x04")])
    assert (request.header("content-type"), request.written) == (contentType, body)


def test_revision3Posts() -> None:
    """A POST is text or bytes, as its content type says."""
    transport, owner = make(revision=3)
    requests = [
        post("3:4😀1:2".encode(), content_type="text/plain;charset=UTF-8"),
        post(bytes.fromhex("0105ff0401020304"), content_type="application/octet-stream"),
    ]
    for each in requests:
        transport.push(each.exchange)
    assert [packet.data for packet in owner.packets] == ["😀", "", b"\x01\x02\x03\x04"]
    assert [(each.status, each.written) for each in requests] == [(200, b"ok")] * 2


# Compression


def compressed(
    accepted: str = "gzip", size: int = 5000, compress: tuple[bool, ...] = (True,), **options: Any
) -> FakeRequest:
    transport, _ = make(**options)
    request = FakeRequest(headers={"accept-encoding": [accepted]})
    transport.poll(request.exchange)
    transport.send([Packet(PacketType.MESSAGE, "x" * (size - 1) if each else "y" * 2000, each) for each in compress])
    while request.producer is not None:
        request.producer.resumeProducing()
    assert request.finished
    return request


def test_gzip() -> None:
    """A payload over the threshold goes out compressed, with its length."""
    request = compressed()
    assert request.header("content-encoding") == "gzip"
    assert gzip.decompress(request.written) == b"4" + b"x" * 4999
    assert request.header("content-length") == str(len(request.written))
    assert (request.header("content-type"), request.header("cache-control")) == (
        "text/plain; charset=UTF-8",
        "no-store",
    )


def test_deflate() -> None:
    """For clients that want it: in the format of zlib, as HTTP has it."""
    request = compressed("gzip;q=0.5, deflate")
    assert request.header("content-encoding") == "deflate"
    assert zlib.decompress(request.written) == b"4" + b"x" * 4999


@pytest.mark.parametrize(
    ("given", "isCompressed"),
    [
        ({"size": 1024}, True),
        ({"size": 1023}, False),
        ({"size": 10, "httpCompression": {"threshold": 10}}, True),
        ({"size": 9, "httpCompression": {"threshold": 10}}, False),
        ({"size": 1, "httpCompression": {"threshold": 0}}, True),
        ({"httpCompression": False}, False),
        ({"httpCompression": True}, True),
        ({"accepted": ""}, False),
        ({"accepted": "br"}, False),
        ({"compress": (False,)}, False),
        ({"compress": (False, False)}, False),
        ({"compress": (False, True)}, True),
    ],
)
def test_whatIsCompressed(given: dict[str, Any], isCompressed: bool) -> None:
    """By size, by what the client accepts, and unless none of the packets asks for it."""
    assert (compressed(**given).header("content-encoding") == "gzip") is isCompressed


def test_levels() -> None:
    """The level and the memory are those of the settings: none compresses nothing."""
    request = compressed(httpCompression={"level": 0, "memLevel": 1})
    assert len(request.written) > 5000
    assert gzip.decompress(request.written) == b"4" + b"x" * 4999
    assert len(compressed(httpCompression={"level": 9}).written) < 100


def test_aLargePayloadIsCompressedInPieces() -> None:
    """Each piece only when the connection asks for it, so that nobody else waits for all of it."""
    transport, _ = make()
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    text = "".join(str(each) for each in range(100_000))
    transport.send([Packet(PacketType.MESSAGE, text)])
    assert (request.finished, transport.writable) == (False, False)
    assert request.header("content-length") is None
    rounds = 0
    while not request.finished:
        request.producer.resumeProducing()
        rounds += 1
    assert rounds == -(-(len(text) + 1) // COMPRESSED_AT_ONCE)
    assert gzip.decompress(request.written).decode() == "4" + text


def test_closingWhileAPayloadIsCompressed() -> None:
    """All of it goes out at once, whole."""
    transport, _ = make()
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    transport.send([Packet(PacketType.MESSAGE, "x" * 200_000)])
    request.producer.resumeProducing()
    transport.close(FORCED)
    assert request.finished
    assert gzip.decompress(request.written) == b"4" + b"x" * 200_000


@pytest.mark.parametrize("closing", [FORCED, LEFT], ids=["close", "discard"])
def test_lettingGoWhileAPayloadIsCompressed(closing: Closing) -> None:
    """Also where the session goes on, on another transport: nobody will tell this one any more."""
    transport, _ = make()
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    transport.send([Packet(PacketType.MESSAGE, "x" * 200_000)])
    transport.close(closing)
    assert gzip.decompress(request.written) == b"4" + b"x" * 200_000
    assert request.finished


def test_aHandlerThatClosesBeforeAPayloadIsCompressed() -> None:
    """What was to be compressed in pieces goes out at once."""
    writer = FakeWriter()
    transport, _ = make(writer=writer)
    writer.announce = lambda *args: transport.close(FORCED)  # type: ignore[assignment]
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    transport.send([Packet(PacketType.MESSAGE, "x" * 200_000)])
    assert gzip.decompress(request.written) == b"4" + b"x" * 200_000


@pytest.mark.parametrize("hears", ["the producer", "the session"])
def test_aConnectionLostWhileAPayloadIsCompressed(hears: str) -> None:
    """What was in it is lost, so the session ends; nothing is written any more."""
    transport, owner = make()
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    transport.send([Packet(PacketType.MESSAGE, "x" * 200_000)])
    request.producer.resumeProducing()
    written = request.written
    if hears == "the producer":
        request.producer.stopProducing()
    request.lose()
    assert owner.closes == [("transport error", "poll connection closed prematurely")]
    assert (request.written, request.finished) == (written, False)


def test_anotherPollWhileAPayloadIsCompressed() -> None:
    """It waits; the loss of the first ends the session, which tells the second."""
    transport, owner = make()
    first, second = FakeRequest(headers={"accept-encoding": ["gzip"]}), FakeRequest()
    transport.poll(first.exchange)
    transport.send([Packet(PacketType.MESSAGE, "x" * 200_000)])
    transport.poll(second.exchange)
    first.lose()
    assert [reason for reason, _ in owner.closes] == ["transport error"]
    assert (second.status, second.written) == (200, b"1")


def test_theLastPayloadIsNotCompressed() -> None:
    """The connection may be closed right behind it."""
    transport, _ = make()
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    transport.close(FORCED, [Packet(PacketType.MESSAGE, "x" * 200_000)])
    assert request.written == b"4" + b"x" * 200_000 + b"\x1e1"


# JSONP


def answered(packets: list[Packet], revision: int = 4, **given: Any) -> FakeRequest:
    transport, _ = make(revision=revision, index="7", **given)
    request = FakeRequest(headers={"accept-encoding": ["gzip"]})
    transport.poll(request.exchange)
    transport.send(packets)
    return request


@pytest.mark.parametrize(
    ("data", "script"),
    [
        ("hello", '___eio[7]("4hello");'),
        ("é😀", '___eio[7]("4é😀");'),
        ('"\\', '___eio[7]("4\\"\\\\");'),
        ("\u2028\u2029", '___eio[7]("4\\u2028\\u2029");'),
        ("</script>\n", '___eio[7]("4</script>\\n");'),
        (b"\x01\x02\x03\x04", '___eio[7]("bAQIDBA==");'),
    ],
)
def test_jsonpAnswers(data: str | bytes, script: str) -> None:
    """They are scripts that call the client's function with the payload as a string."""
    request = answered([Packet(PacketType.MESSAGE, data)])
    assert request.written.decode() == script
    assert request.header("content-type") == "text/javascript; charset=UTF-8"
    assert request.header("x-content-type-options") == "nosniff"
    assert request.header("cache-control") == "no-store"


def test_jsonpInRevision3() -> None:
    """Bytes are base64 there too, and lengths those of the text in the string."""
    request = answered([Packet(PacketType.MESSAGE, '"\u2028😀'), Packet(PacketType.MESSAGE, b"\x01")], revision=3)
    assert request.written.decode() == '___eio[7]("5:4\\"\\u2028😀6:b4AQ==");'


def test_jsonpIsCompressedToo() -> None:
    """By the size of the script."""
    request = answered([Packet(PacketType.MESSAGE, "x" * 2000)])
    assert request.header("content-encoding") == "gzip"
    assert gzip.decompress(request.written) == b'___eio[7]("4' + b"x" * 2000 + b'");'


@pytest.mark.parametrize(
    ("field", "data"),
    [
        ("4hello", "hello"),
        ("4a\\nb", "a\nb"),
        ("4a\\\\nb", "a\\nb"),
        ("4a\\\\\\nb", "a\\\\nb"),
        ("4a\\n\\nb", "a\n\nb"),
        ("4a\\tb\\", "a\\tb\\"),
        # As browsers write a carriage return in a form.
        ("4a\r\n\\nb\r\n\r\n", "a\r\nb\r\r"),
        ("4é😀+&=%\u2028", "é😀+&=%\u2028"),
        ("bAQID+w==", b"\x01\x02\x03\xfb"),
    ],
)
def test_jsonpPosts(field: str, data: str | bytes) -> None:
    """A form with the payload in its field d, in which newlines are escaped, and what looks like one twice."""
    transport, owner = make(index="0")
    request = post(urlencode({"d": field}).encode(), content_type="application/x-www-form-urlencoded")
    transport.push(request.exchange)
    assert [packet.data for packet in owner.packets] == [data]
    assert (request.status, request.written, request.header("content-type")) == (200, b"ok", "text/html")


@pytest.mark.parametrize(
    "body", [b"", b"4a", b"e=4a", b"d=4a&d=4b", b"d", b"d=", b"d=%ff", b"\xff", b"a&" * 1000 + b"d=4a"]
)
def test_jsonpPostsThatAreNone(body: bytes) -> None:
    """Without exactly one field d, and text in it, there is nothing to deliver: 400, and the session ends."""
    transport, owner = make(limit=10_000, index="0")
    request = post(body)
    transport.push(request.exchange)
    assert (request.status, owner.packets) == (400, [])
    assert [reason for reason, _ in owner.closes] == ["parse error"]
