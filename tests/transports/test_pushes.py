"""The packets of a POST, delivered in turns of the reactor."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote_plus

import pytest
from twisted.internet.task import Clock

from engineio_twisted.interfaces import Closing
from engineio_twisted.protocol.errors import CloseReason, HTTPRefusal, SessionClosing
from engineio_twisted.protocol.options import ServerOptions
from engineio_twisted.protocol.payload import codecFor
from engineio_twisted.transports.jsonp import JSONPTransport
from engineio_twisted.transports.polling import PollingTransport
from engineio_twisted.turns import TURN

from ..kit.fakes import FakeOwner, FakeRequest, FakeWriter
from ..kit.polling import inRevision4
from ..kit.turns import STEP, Takes, texts, turn


def form(payload: str) -> bytes:
    return b"d=" + quote_plus(payload.replace("\\n", "\\\\n").replace("\n", "\\n")).encode()


def inRevision3(data: list[str]) -> bytes:
    return "".join(f"{len(each) + 1}:4{each}" for each in data).encode()


def inRevision3Binary(data: list[str]) -> bytes:
    return b"".join(
        b"\x00" + bytes(int(digit) for digit in str(len(each) + 1)) + b"\xff4" + each.encode() for each in data
    )


KINDS: dict[str, tuple[int, str | None, str, Callable[[list[str]], bytes]]] = {
    "revision 4": (4, None, "text/plain;charset=UTF-8", inRevision4),
    "revision 3": (3, None, "text/plain;charset=UTF-8", inRevision3),
    "revision 3, binary": (3, None, "application/octet-stream", inRevision3Binary),
    "JSONP": (4, "0", "application/x-www-form-urlencoded", lambda data: form(inRevision4(data).decode())),
    "JSONP, revision 3": (3, "0", "application/x-www-form-urlencoded", lambda data: form(inRevision3(data).decode())),
}


class TickingClock(Clock):
    """A clock on which time goes by whenever somebody looks at it."""

    def seconds(self) -> float:
        self.rightNow += TURN / 4
        return self.rightNow


class Posting(Takes):
    """The polling transport of an application that takes its time with each packet."""

    def __init__(self, kind: str = "revision 4", **options: Any) -> None:
        revision, index, self._contentType, self.write = KINDS[kind]
        self.clock = Clock()
        self.owner = FakeOwner()
        settings = ServerOptions(**options)
        codec = codecFor(revision)
        if index is None:
            self.transport = PollingTransport(codec, True, settings, self.clock, FakeWriter())
        else:
            self.transport = JSONPTransport(codec, settings, self.clock, FakeWriter(), index)
        self.transport.owner = self.owner
        self.begin()

    def post(self, body: bytes) -> FakeRequest:
        request = FakeRequest(b"POST", body=body, headers={"content-type": [self._contentType]})
        self.transport.push(request.exchange)
        return request


@pytest.fixture(params=KINDS)
def posting(request: pytest.FixtureRequest) -> Posting:
    return Posting(request.param)


def test_aSmallPayload(posting: Posting) -> None:
    """Is delivered at once."""
    request = posting.post(posting.write(texts(5)))
    assert (posting.data, request.written, posting.clock.getDelayedCalls()) == (texts(5), b"ok", [])
    assert posting.owner.deliveries == 0, "nobody waited for it"


def test_aLargePayload(posting: Posting) -> None:
    """Is delivered in turns, and the POST answered when all of it is; the next one is as usual."""
    posting.seconds = STEP / 5
    body = posting.write(texts(50))
    request = posting.post(body)
    assert (len(posting.data), request.finished) == (5, False)
    assert (posting.transport.heldBytes, posting.transport.isDelivering) == (len(body), True)
    counts = posting.turns()
    assert counts == list(range(5, 50, 5)) + [50] * (len(counts) - 9)
    assert (posting.data, request.written, posting.owner.closes) == (texts(50), b"ok", [])
    assert (posting.transport.heldBytes, posting.transport.isDelivering, posting.owner.deliveries) == (0, False, 1)
    assert posting.post(posting.write(["next"])).written == b"ok"
    assert posting.data[-1] == "next"


def test_manyPackets(posting: Posting) -> None:
    """As many as fit, by default; with C{maxPacketsPerPayload} no more than that."""
    body = posting.write(["a"] * 20_000)
    request = posting.post(body)
    assert (len(posting.data), request.written) == (20_000, b"ok")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1000, 1001])
def test_countingTakesTurnsToo(kind: str, count: int) -> None:
    """A payload of too many packets is refused before any is delivered, however long it takes to count them."""
    posting = Posting(kind, maxPacketsPerPayload=1000)
    posting.clock = posting.transport._clock = TickingClock()
    request = posting.post(posting.write(["a"] * count))
    posting.turns()
    assert (request.status, len(posting.data)) == ((200, 1000) if count == 1000 else (413, 0))


def test_anotherPost(posting: Posting) -> None:
    """Is one too many while one is being delivered: refused, and the session ends behind what came before."""
    posting.seconds = STEP
    first = posting.post(posting.write(texts(3)))
    second = posting.post(posting.write(["never"]))
    assert (second.status, first.finished, posting.owner.closes) == (400, False, [])
    posting.turns()
    assert (posting.data, first.written) == (texts(3), b"ok")
    assert posting.owner.closes == [("transport error", "overlapping POST requests")]


def test_anotherGet() -> None:
    """As well."""
    posting = Posting()
    posting.seconds = STEP
    posting.transport.poll(FakeRequest().exchange)
    posting.post(posting.write(texts(3)))
    overlapping = FakeRequest()
    posting.transport.poll(overlapping.exchange)
    assert (overlapping.status, posting.owner.closes) == (400, [])
    posting.turns()
    assert posting.data == texts(3)
    assert posting.owner.closes == [("transport error", "overlapping GET requests")]


BROKEN = {
    "revision 4": (b"\x1e4c\x1e9\x1e4d", "parse error"),
    "revision 3": (b"2:4cx2:4d", "parse error"),
    "revision 3, binary": (b"\x00\x02\xff4c\x07", "parse error"),
    "JSONP": (b"%1e4c%1e9%1e4d", "parse error"),
    "JSONP, revision 3": (b"2:4cx2:4d", "parse error"),
}


def test_aBadPacketInTheMiddle(posting: Posting, request: pytest.FixtureRequest) -> None:
    """Those before it are delivered, then it is the error that it always was."""
    behind, reason = BROKEN[request.node.callspec.params["posting"]]
    posting.seconds = STEP
    response = posting.post(posting.write(["a", "b"]) + behind)
    assert (posting.data, response.finished, posting.owner.closes) == (["a"], False, [])
    posting.turns()
    assert (posting.data, response.status) == (["a", "b", "c"], 400)
    assert [each for each, _ in posting.owner.closes] == [reason]


def test_aClosePacketInTheMiddle() -> None:
    """Ends the session when it is its turn; what is behind it is dropped."""
    posting = Posting()
    posting.seconds = STEP
    request = posting.post(b"4a\x1e4b\x1e1\x1e4c")
    posting.turns()
    assert (posting.data, request.written) == (["a", "b"], b"ok")
    assert posting.owner.closes == [("transport close", "close packet")]


@pytest.mark.parametrize("how", ["close", "abandon"])
def test_theSessionEndsInTheMiddle(posting: Posting, how: str) -> None:
    """The POST is refused, as nobody gets the rest, and nothing waits any more."""
    posting.seconds = STEP
    request = posting.post(posting.write(texts(3)))
    if how == "close":
        posting.transport.close(Closing(CloseReason.FORCED_CLOSE))
    else:
        posting.transport.close(Closing(CloseReason.BUFFER_LIMIT_EXCEEDED))
    assert (request.status, request.finished) == (400, True)
    posting.turns()
    assert (posting.data, posting.transport.heldBytes) == (["0"], 0)


def test_theSessionBeginsToCloseInTheMiddle(posting: Posting) -> None:
    """The POST is refused in its next turn."""
    posting.seconds = STEP
    request = posting.post(posting.write(texts(3)))
    posting.owner.isClosing = True
    posting.turns()
    assert (posting.data, request.status) == (["0"], 400)


def test_theSessionEndsInAHandler(posting: Posting) -> None:
    """With the last packet everything was delivered; with another it wasn't."""
    ended = ""

    def taking(transport: Any, data: str | bytes) -> HTTPRefusal | None:
        nonlocal ended
        if ended == "a":
            return SessionClosing()
        transport.close(Closing(CloseReason.FORCED_CLOSE))
        ended = str(data)
        return None

    posting.owner.transportMessage = taking  # type: ignore[method-assign]
    assert posting.post(posting.write(["b"])).written == b"ok"
    assert posting.post(posting.write(["a", "b"])).status == 400


def test_pausingWithEachPacket(posting: Posting) -> None:
    """Nothing more is delivered until receiving goes on, and the POST isn't answered."""
    posting.pauses = True
    request = posting.post(posting.write(texts(5)))
    for count in range(1, 6):
        assert (posting.data, request.finished) == (texts(count), False)
        assert posting.clock.getDelayedCalls() == []
        assert posting.transport.heldBytes > 0
        posting.transport.resumeReceiving()
        turn(posting.clock)
    assert (request.written, posting.transport.heldBytes) == (b"ok", 0)


def test_pausingBetweenTurns(posting: Posting) -> None:
    """Stops what would have gone on, once."""
    posting.seconds = STEP
    request = posting.post(posting.write(texts(3)))
    posting.transport.pauseReceiving()
    assert posting.turns() == [1, 1]
    posting.transport.resumeReceiving()
    posting.transport.pauseReceiving()
    posting.transport.resumeReceiving()
    posting.turns()
    assert (posting.data, request.written) == (texts(3), b"ok")


@pytest.mark.parametrize("isPaused", [False, True])
def test_aPostThatIsLost(posting: Posting, isPaused: bool) -> None:
    """All that came is delivered, then the session ends."""
    posting.seconds, posting.pauses = STEP, isPaused
    request = posting.post(posting.write(texts(3)))
    request.lose()
    posting.pauses = False
    if isPaused:
        posting.transport.resumeReceiving()
    posting.turns()
    assert (posting.data, request.finished) == (texts(3), False)
    assert posting.owner.closes == [("transport error", "data request connection closed prematurely")]


FORMS = [
    b"d=" + b"%34" * 30_000,
    b"d=" + b"%34a" * 30_000,
    b"d=4" + b"a" * 100_000,
    b"d=4" + b"%C3%A9" * 20_000,
    b"d=4" + b"a%F0%9F%98%80" * 20_000,
    b"d=4" + b"%%4%41%zz" * 20_000,
    b"d=4" + b"+%0D%0A" * 20_000,
    b"d=4" + b"%5C%5Cn%5Cn" * 20_000,
    b"e=" + b"%41" * 30_000 + b"&d=4a&" + b"%41" * 30_000,
]


@pytest.mark.parametrize("body", FORMS, ids=range(len(FORMS)))
def test_readingAForm(body: bytes) -> None:
    """Takes turns too, wherever it is cut, and comes to what it comes to when it is read at once."""
    (value,) = parse_qs(body.decode(), keep_blank_values=True)["d"]
    expected = re.sub(r"(\\?)\\n", lambda match: "\\n" if match[1] else "\n", value.replace("\r\n", "\r"))
    posting = Posting("JSONP")
    posting.clock = posting.transport._clock = TickingClock()
    request = posting.post(body)
    assert not request.finished
    turns = posting.turns()
    assert len(turns) > 3
    assert (posting.data, request.written) == ([expected[1:]], b"ok")
