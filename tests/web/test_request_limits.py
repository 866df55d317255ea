"""Requests that are too long, too large or too slow: refused by name, on the shorter way as on that of twisted.web."""

from __future__ import annotations

import re
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from engineio_twisted import EngineIOResource, FastSite, Server, Site
from engineio_twisted.web.requests import LINGER_TIME

from ..kit.stories import (
    OPEN,
    OTHER,
    POLL,
    PUSH,
    Here,
    ask,
    behind,
    compare,
    noted,
    push,
    statuses,
    told,
    webSocket,
    written,
)
from ..kit.wire import connectTo, http, pause, target


def limited(here: Here) -> dict[str, int]:
    """How often a limit was reached, by name; noted, so that it is compared too."""
    found = dict(here.server.stats().limited)
    here.note("limited", found)
    return found


# Too long, too large


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_addresses(method: bytes, pieces: int) -> None:
    """One of as many bytes as are allowed is served; a longer one gets 414 with the option, and no session suffers."""

    def play(here: Here) -> None:
        here.say(OPEN)
        for length in (300, 301, 5000):
            start = ask(method, b"sid0&x=", body=None if method == b"GET" else b"4hello")
            uri = start.split(b" ")[1]
            data = start.replace(b"&x=", b"&x=" + b"x" * (length - len(uri)))
            size = len(data) // pieces + 1
            peer = here.say(*[data[at : at + size] for at in range(0, len(data), size)])
            if length == 300:
                here.send("x")
        here.advance(LINGER_TIME)
        assert peer.isLost
        assert limited(here) == {"maxUrlLength": 2}
        assert len(here.server.clients) == 1

    for options in ({"maxUrlLength": 300}, {"maxUrlLength": 300, "maxHeaderSize": 100_000}):
        story = compare(play, **options)
        assert [statuses(story, place) for place in (1, 2, 3)] == [[200], [414], [414]]
        answer = written(story)
        assert b"\r\nContent-Type: application/json\r\n" in answer
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.endswith(b'\r\n\r\n{"message":"the address is longer than maxUrlLength, 300 bytes"}')


def test_heads() -> None:
    """A request's line and headers, without their line ends, of as many bytes as are allowed; 431 for more."""

    def play(here: Here) -> None:
        here.say(OPEN)
        for size in (1000, 1001, 20_000, 50_000):
            bare = push(b"4hello", b"X: ")
            head = bare[: behind(bare) - 4]
            room = size - len(head) + 2 * head.count(b"\r\n")
            peer = here.say(push(b"4hello", b"X: " + b"x" * room))
            many = [b"X: " + b"y" * 90] * (room // 93)
            here.say(push(b"4hello", *many))
        here.advance(LINGER_TIME)
        assert peer.isLost
        assert limited(here) == {"maxHeaderSize": 5}

    story = compare(play, maxHeaderSize=1000)
    assert [statuses(story, place) for place in range(1, 9)] == [[200], [200], [431], [200], *[[431]] * 4]
    assert written(story).endswith(b'\r\n\r\n{"message":"the headers are larger than maxHeaderSize, 1000 bytes"}')


@pytest.mark.parametrize("chunked", [True, False])
def test_bodiesWithHEAD(chunked: bool) -> None:
    """Of the answer to HEAD only the head is sent, also if the body of the request is too large or too slow."""
    framing = b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: 2000\r\n"
    large = ask(b"HEAD", b"sid0").replace(b"\r\n\r\n", b"\r\n" + framing + b"\r\n")

    def play(here: Here) -> None:
        here.say(OPEN)
        here.say(large + (b"7d0\r\n" + b"x" * 2000 if chunked else b""))
        here.say(large.replace(b"2000", b"900"))
        here.advance(1.5)
        here.advance(LINGER_TIME)
        assert len(here.server.clients) == 1

    story = compare(play, maxHttpBufferSize=1000, httpRequestBodyTimeout=1000)
    assert [statuses(story, place) for place in (1, 2)] == [[413], [408]]
    assert all(written(story, place).endswith(b"\r\n\r\n") for place in (1, 2))


def test_largerThanTwistedAllows() -> None:
    """The limits may be raised."""

    def play(here: Here) -> None:
        here.say(OPEN)
        here.say(push(b"4a", b"X: " + b"x" * 50_000))
        here.say(push(b"4b", sid=b"sid0&x=" + b"x" * 50_000))

    story = compare(play, maxHeaderSize=100_000, maxUrlLength=80_000)
    assert noted(story, "message") == [("sid0", "a"), ("sid0", "b")] or len(noted(story, "message")) == 2
    assert [statuses(story, place) for place in (1, 2)] == [[200], [200]]


def test_aLineThatNeverEnds() -> None:
    """No more of it is kept than the head may have; then it is known what to answer. What still comes is dropped."""

    def play(here: Here) -> None:
        for beginning in (b"GET /", b"GET / HTTP/1.1\r\nX: ", b"x"):
            peer = here.connect()
            peer.say(beginning)
            for _ in range(100):
                peer.say(b"x" * 1000)
            assert len(peer.protocol._buffer) <= 2000
        here.advance(LINGER_TIME)

    story = compare(play, maxHeaderSize=2000, maxUrlLength=1000)
    assert [statuses(story, place) for place in (0, 1, 2)] == [[414], [431], [414]]
    story = compare(play, maxHeaderSize=2000, maxUrlLength=5000)
    assert [statuses(story, place) for place in (0, 1, 2)] == [[431], [431], [431]]


def test_afterGoodRequests() -> None:
    """A connection that was good is refused like any other, and what came behind isn't taken for a request."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = here.say(PUSH)
        peer.say(push(b"4no", b"X: " + b"x" * 2000) + PUSH)
        peer.say(PUSH)
        pipelined = here.say(PUSH + push(b"4no", b"X: " + b"x" * 2000) + PUSH)
        here.advance(LINGER_TIME)
        assert (peer.isLost, pipelined.isLost) == (True, True)

    story = compare(play, maxHeaderSize=1000)
    assert [statuses(story, place) for place in (1, 2)] == [[200, 431], [200, 431]]
    assert len(noted(story, "message")) == 2


def test_aClientThatGoesAtOnce() -> None:
    """Whoever reads the answer and goes, or whose server closes, leaves nothing."""

    def play(here: Here) -> None:
        here.say(push(b"4no", b"X: " + b"x" * 2000)).lose()
        here.say(push(b"4no", b"X: " + b"x" * 2000))
        here.close()
        here.site.closeConnections()
        here.advance(LINGER_TIME)

    compare(play, maxHeaderSize=1000)


def test_whileAServerDrains() -> None:
    """A connection that is to end anyway is refused too, and ends when it would have."""

    def play(here: Here) -> None:
        peer = here.say(PUSH.partition(b"\r\n")[0] + b"\r\n")
        peer.protocol.finish(4.0)
        peer.say(b"X: " + b"x" * 2000)
        here.advance(3.9)
        assert not peer.isLost
        here.advance(0.1)
        assert peer.isLost

    assert statuses(compare(play, maxHeaderSize=1000)) == [431]


# Too slow


def test_aHeadThatTrickles() -> None:
    """A client that sends a byte now and then is answered 408 and let go, however diligent it is."""

    def play(here: Here) -> None:
        peer = here.connect()
        for at in range(30):
            peer.say(OPEN[at : at + 1])
            here.advance(1)
        assert peer.isLost
        assert limited(here) == {"headersTimeout": 1}

    story = compare(play, headersTimeout=20_000)
    assert statuses(story) == [408]
    assert written(story).endswith(b'{"message":"the headers did not come within headersTimeout, 20000 ms"}')


@pytest.mark.parametrize("before", [0.0, 5.0])
@pytest.mark.parametrize("gap", [0.5, 40.0])
def test_aLaterHeadThatTrickles(before: float, gap: float) -> None:
    """On a connection that has served requests the time begins with the first byte of the next one, and ends there."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = here.connect()
        here.advance(before)
        peer.say(PUSH)
        here.advance(gap)
        peer.say(PUSH[:20])
        here.advance(9.9)
        peer.say(PUSH[20:])
        here.advance(gap)
        peer.say(PUSH[:20])
        here.advance(9.9)
        assert not peer.isLost
        here.advance(0.1)
        assert peer.isLost

    story = compare(play, headersTimeout=10_000, pingInterval=100_000)
    assert statuses(story) == [200, 200, 408]
    assert len(noted(story, "message")) == 2


def test_pipelinedHeads() -> None:
    """Of requests that follow each other without a pause, each has a time of its own, wherever the pieces end."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = here.connect()
        stream = PUSH * 40
        size = len(PUSH) - 3
        for at in range(0, len(stream), size):
            peer.say(stream[at : at + size])
            here.advance(1)
        assert not peer.isLost

    story = compare(play, headersTimeout=3000, pingInterval=100_000)
    assert statuses(story) == [200] * 40


@pytest.mark.parametrize("data", [POLL, PUSH, OTHER, b"POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"])
def test_whatIsNoHeadHasItsOwnTime(data: bytes) -> None:
    """A GET that waits, a body that is awaited, a connection that rests between requests: none is of that kind."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = here.say(data)
        here.advance(59.9)
        assert not peer.isLost
        here.advance(0.2)
        assert peer.isLost is (data != POLL)

    story = compare(play, headersTimeout=5000, pingInterval=1_000_000, keepAliveTimeout=60_000)
    assert 408 not in statuses(story)


def test_silence() -> None:
    """Who connects and says nothing is let go without a word: it would be taken for the answer to what comes then."""

    def play(here: Here) -> None:
        peer = here.connect()
        here.advance(19.9)
        assert not peer.isLost
        here.advance(0.1)
        assert (peer.isLost, peer.value()) == (True, b"")
        assert limited(here) == {"headersTimeout": 1}

    compare(play, headersTimeout=20_000)


def test_withoutATimeout() -> None:
    """None leaves it to the time after which twisted.web closes an idle connection."""

    def play(here: Here) -> None:
        peer = here.connect()
        for at in range(10):
            peer.say(OPEN[at : at + 1])
            here.advance(50)
        assert not peer.isLost
        peer.say(OPEN[10:])

    assert statuses(compare(play, headersTimeout=None)) == [200]


def test_sitesWithoutAnIdleTime() -> None:
    """Where a site lets connections rest for ever, those that answer requests aren't cut."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = here.say(POLL)
        here.advance(1000)
        assert not peer.isLost

    compare(play, of={"timeout": None}, headersTimeout=5000, pingInterval=10_000_000)


def test_aBadHeadEndsTheTime() -> None:
    """What is refused for another reason is over, and isn't refused once more while its client doesn't let go."""

    def play(here: Here) -> None:
        peer = here.connect()
        peer.holds()
        peer.say(b"nonsense\r\n")
        here.advance(2.9, 30)
        assert limited(here) == {}

    assert statuses(compare(play, headersTimeout=1000)) == [400]


def test_webSocketsHaveNoHeads() -> None:
    """What has become a WebSocket isn't timed any more."""

    def play(here: Here) -> None:
        peer = here.say(webSocket())
        here.advance(60)
        assert not peer.isLost

    assert statuses(compare(play, headersTimeout=1000, pingInterval=1_000_000)) == [101]


@pytest.mark.parametrize(("options", "seconds"), [({"httpRequestBodyTimeout": 3000}, 3.0), ({}, 30.0)])
def test_httpRequestBodyTimeout(options: dict[str, Any], seconds: float) -> None:
    """A body that trickles gets 408 after that time."""

    def play(here: Here) -> None:
        peer = here.say(push(b"x" * 1000)[:-900].replace(b"&sid=sid0", b""))
        for _ in range(int(seconds) * 2 - 1):
            here.advance(0.5)
            peer.say(b"x")
        assert not peer.isLost
        here.advance(0.5)
        assert here.server.stats().refused == {"httpRequestBodyTimeout": 1}
        here.advance(LINGER_TIME)
        assert peer.isLost

    assert statuses(compare(play, **options)) == [408]


# Logs, and sites


def test_theLogIsNotFlooded(warnings: list[str]) -> None:
    """One line a second for each limit, which names the option, or how often that was; all are counted."""

    def play(here: Here) -> None:
        for _ in range(5):
            here.say(ask(sid=b"x" * 1000))
        here.say(push(b"", b"X: " + b"x" * 3000))
        here.advance(1)
        here.say(ask(sid=b"x" * 1000))
        assert here.server.stats().limited == {"maxUrlLength": 6, "maxHeaderSize": 1}
        here.advance(LINGER_TIME)

    told(FastSite, play, maxUrlLength=500, maxHeaderSize=2000)
    assert [re.sub(".*refused: ", "", each) for each in warnings] == [
        "the address is longer than maxUrlLength, 500 bytes",
        "the headers are larger than maxHeaderSize, 2000 bytes",
        "maxUrlLength: 4 more lines were suppressed",
        "maxUrlLength: 1 more lines were suppressed",
    ]


def test_severalServers() -> None:
    """Whose a request is isn't known before its head is there: on a site the largest of each limit holds."""
    site = Site(EngineIOResource(Server(reactor=Clock())), reactor=Clock())
    assert (site.maxHeaderSize, site.maxUrlLength, site.headersTimeout) == (16384, 8192, 20000)
    first = Server(site, reactor=Clock(), maxHeaderSize=1000, maxUrlLength=900, headersTimeout=500)
    assert (site.maxHeaderSize, site.maxUrlLength, site.headersTimeout) == (1000, 900, 500)
    first.attach(site, path="/again")
    second = Server(site, reactor=Clock(), maxHeaderSize=500, maxUrlLength=1800, headersTimeout=None, path="/other")
    assert (site.maxHeaderSize, site.maxUrlLength, site.headersTimeout) == (1000, 1800, None)
    third = Server(reactor=Clock(), maxHeaderSize=2000, maxUrlLength=1)
    for each in (third, third, first):
        site.addServer(each)
    assert site.servers == (first._router, second._router, third._router)
    assert (site.maxHeaderSize, site.maxUrlLength) == (2000, 1800)
    for each in (first, second, third):
        assert each.stats().limited == {}


# Over real sockets


@pytest_twisted.ensureDeferred
async def test_overTheWire(serve: Any) -> None:
    """The answers arrive, whatever more was sent, and the connections are closed; a slow one is not waited for."""
    running = await serve(maxUrlLength=300, maxHeaderSize=2000, headersTimeout=300)
    large = http("GET", target(), [("X", "x" * 100_000)]) * 5
    for data, status in ((large, 431), (http("GET", target(x="x" * 300)) * 2000, 414), (b"GET /engine.io/", 408)):
        wire = await connectTo(running.port)
        wire.send(data)
        response = await wire.response()
        assert (response.status, response.headers["connection"]) == (status, "close")
        await wire.lost()
    trickling = await connectTo(running.port)
    while not trickling.isLost:
        trickling.send(b"x")
        await pause(0.02)
    assert (await trickling.response()).status == 408
    await running.server._ownPorts.site.channels.whenEmpty()
    assert running.server.stats().limited == {"maxHeaderSize": 1, "maxUrlLength": 1, "headersTimeout": 2}


# What lies unread when a time is over


def inTurns(here: Here, turns: int, seconds: float, what: Any) -> None:
    """Have something read so many turns after a time."""

    def later(left: int) -> None:
        if left:
            here.clock.callLater(0, later, left - 1)
        else:
            what()

    here.clock.callLater(seconds, later, turns)


@pytest.mark.parametrize("turns", [0, 3, 14])
@pytest.mark.parametrize("pieces", [[POLL], [push(b"4hello")], [POLL[:20], POLL[20:]]])
def test_anIdleConnectionWithARequestUnread(turns: int, pieces: list[bytes]) -> None:
    """A request that lies unread when a connection has been idle for long enough is served."""

    def play(here: Here) -> None:
        opened = here.say(OPEN)
        for number, piece in enumerate(pieces):
            inTurns(here, turns + number, 60, lambda piece=piece: opened.say(piece))
        here.advance(60)
        here.send("x")
        here.advance(0)
        assert not opened.isLost
        # The time that it has then is the usual one.
        here.advance(59.9, 0.2)
        assert opened.isLost

    compare(play, pingInterval=1_000_000, keepAliveTimeout=60_000)


@pytest.mark.parametrize("turns", [0, 3, 14])
def test_aHeadUnread(turns: int) -> None:
    """The rest of a head that lies unread when its time is over is read."""

    def play(here: Here) -> None:
        peer = here.say(OPEN[:20])
        inTurns(here, turns, 20, lambda: peer.say(OPEN[20:]))
        here.advance(20)
        assert limited(here) == {}

    assert statuses(compare(play, headersTimeout=20_000)) == [200]


@pytest.mark.parametrize("turns", [0, 3, 14])
def test_aBodyUnread(turns: int) -> None:
    """The rest of a body that lies unread when its time is over is read, and its session goes on."""

    def play(here: Here) -> None:
        here.say(OPEN)
        body = push(b"4hello")
        peer = here.say(body[:-2])
        inTurns(here, turns, 30, lambda: peer.say(body[-2:]))
        here.advance(30)
        assert limited(here) == {}
        assert len(here.server.clients) == 1

    assert 200 in statuses(compare(play, pingInterval=1_000_000))
