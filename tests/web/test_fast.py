"""What the fast site reads in one pass is answered as twisted.web answers it: the same bytes, on both sites."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engineio_twisted import Site
from engineio_twisted.web.channel import Channel
from engineio_twisted.web.exchange import RequestExchange
from engineio_twisted.web.fast import FastChannel, FastSite
from engineio_twisted.web.fast_exchange import FastExchange

from ..kit.stories import (
    BODY,
    LIMIT,
    OPEN,
    OTHER,
    POLL,
    PUSH,
    Here,
    Play,
    ask,
    behind,
    compare,
    cut,
    exchange,
    noted,
    push,
    statuses,
    theSame,
    told,
    webSocket,
    whole,
    written,
)
from ..kit.wire import makeFrame

# One request after the other


def test_theFastPathIsTaken() -> None:
    """What polling is made of takes the fast path: otherwise nothing at all is compared here."""
    for kind, expected in ((Site, RequestExchange), (FastSite, FastExchange)):
        here = Here(kind)
        seen: list[type[Any]] = []
        handle = here.server._router.handle

        def look(exchange: Any, isUpgrade: bool, seen: Any = seen, handle: Any = handle) -> None:
            seen.append(type(exchange))
            handle(exchange, isUpgrade)

        here.server._router.handle = look  # type: ignore[method-assign]
        peer = here.say(OPEN)
        sid = here.sockets[0].id.encode()
        for each in (ask(sid=sid), push(b"4a", sid=sid), push(b"", sid=sid), ask(sid=b"nobody"), webSocket()):
            peer.say(each)
            here.send("x")
        assert seen == [expected] * 6
        here.end()


def test_aSession() -> None:
    """Handshake, a poll that waits and is answered, a POST, another poll; all on one connection."""

    def play(here: Here) -> None:
        peer = here.say(OPEN)
        peer.say(POLL)
        here.advance(10)
        here.send("a")
        peer.say(PUSH)
        peer.say(push("4€\x1e4b\x1ebAAEC".encode()))
        here.send("b")
        here.send(b"\x00\xff")
        peer.say(POLL)
        here.advance(15)
        peer.say(POLL)
        here.advance(1)
        peer.say(push(b"3"))
        here.send("c")
        peer.say(push(b"1"))
        peer.say(POLL)

    story = compare(play)
    assert statuses(story) == [200] * 8 + [400]
    assert b"\r\n\r\n4b\x1ebAP8=" in written(story)
    assert noted(story, "message") == [("sid0", each) for each in ("hello", "€", "b", b"\0\1\2")]


@pytest.mark.parametrize("each", ["open", "poll", "push", "webSocket", "form"])
def test_cutAnywhere(each: str) -> None:
    """A request that comes in two reads, cut at any byte, and one that comes byte by byte."""
    data = {"open": OPEN, "poll": POLL, "push": PUSH, "webSocket": webSocket(), "form": OTHER}[each]

    def play(here: Here) -> None:
        here.say(OPEN)
        peers = [here.say(*cut(data, place)) for place in range(1, len(data))]
        here.advance(1)
        here.send("x")
        for peer in peers[:5]:
            peer.say(PUSH)
        here.say(*[data[place : place + 1] for place in range(len(data))])

    compare(play)


@pytest.mark.parametrize("count", [2, 3, 300])
@pytest.mark.parametrize("each", ["open", "push", "poll", "empty", "unknown", "form"])
def test_pipelined(each: str, count: int) -> None:
    """Requests in one read are served one after the other."""
    data = {
        "open": OPEN,
        "push": b"".join(push(b"4%d" % number) for number in range(count)),
        "poll": POLL,
        "empty": push(b""),
        "unknown": ask(sid=b"nobody"),
        "form": OTHER,
    }[each]
    data = data if each == "push" else data * count

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = here.say(data)
        for number in range(4):
            here.send(f"message {number}")
        peer.say(*cut(data, len(data) // 2, len(data) // 3))
        for number in range(4):
            here.send(f"message {number}")

    story = compare(play)
    if each == "push":
        assert noted(story, "message")[:count] == [("sid0", str(number)) for number in range(count)]


@pytest.mark.parametrize(
    "pieces",
    [
        [POLL + PUSH],
        [POLL, PUSH],
        [PUSH + POLL],
        [PUSH, POLL],
        [POLL + OPEN + PUSH + OTHER],
        [POLL, OPEN + PUSH, OTHER],
        [POLL, PUSH[:20], PUSH[20:]],
        [POLL, PUSH[:-3], PUSH[-3:]],
        [POLL + PUSH[:-3], PUSH[-3:] + POLL[:5], POLL[5:]],
        [POLL, push(b"4" + b"x" * 1500) * 12, PUSH],
        [POLL, b"x" * 20_000],
        [POLL, b"\r\n" * 10_000, PUSH],
        [POLL, webSocket() + makeFrame("4x")],
        [POLL + webSocket(), makeFrame("4x")],
        [POLL, ask(b"GET", b"sid0", b"Connection: close"), PUSH],
        [POLL, POLL, POLL],
        [OTHER + OPEN, OPEN + OTHER],
    ],
    ids=lambda pieces: ",".join(str(len(each)) for each in pieces),
)
def test_behindAPoll(pieces: list[bytes]) -> None:
    """What comes behind a GET that waits is kept until that is answered, and read no further than before."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = here.say(*pieces)
        here.advance(1)
        for number in range(4):
            here.send(f"message {number}")
            here.advance(1)
        peer.say(PUSH)
        peer.say(POLL)
        here.send("last")

    compare(play)


def test_overlappingGets() -> None:
    """The second one is refused, and the session ends."""

    def play(here: Here) -> None:
        peer = here.say(OPEN)
        peer.say(POLL)
        other = here.say(POLL)
        other.say(PUSH)

    story = compare(play)
    assert statuses(story) == [400, 400]
    assert noted(story, "close") == [("sid0", "transport error", "overlapping GET requests")]


OVERLAPS = {
    "whole": push(b"4b"),
    "two sessions": push(b"4b", sid=b"sid1"),
    "no session": push(b"4b", sid=b"nobody"),
    "wrong revision": push(b"4b", query=b"EIO=3&transport=polling"),
    "no query": push(b"4b", query=b""),
    "poll": POLL,
    "open": OPEN,
    "too large": push(b"4" + b"x" * LIMIT),
}


def overlap(second: bytes, isCut: bool) -> Play:
    def play(here: Here) -> None:
        here.say(OPEN)
        here.say(OPEN)
        first = here.say(*cut(push(b"4first body"), -4)[:1])
        here.say(*(cut(second, -1) if isCut else [second]))
        here.send("a")
        first.say(b"body")
        here.send("b")

    return play


@pytest.mark.parametrize("isCut", [False, True])
@pytest.mark.parametrize("second", OVERLAPS)
def test_overlappingPosts(second: str, isCut: bool) -> None:
    """While a body is being read, what another connection brings for the same session, or for another."""
    story = compare(overlap(OVERLAPS[second], isCut))
    if second == "whole":
        assert ("sid0", "transport error", "overlapping POST requests") in noted(story, "close")


def test_overlappingPostsWithoutABody() -> None:
    """A POST is one, with a body or without."""
    story = compare(overlap(push(b""), False))
    assert ("sid0", "transport error", "overlapping POST requests") in noted(story, "close")


@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, LIMIT * 50])
@pytest.mark.parametrize("sid", [b"sid0", b"nobody"])
def test_sizes(size: int, sid: bytes) -> None:
    """Bodies of any size, around the limit too."""
    for data in whole(push((b"4" + b"x" * size)[:size], sid=sid)):
        story = compare(exchange(*data))
    assert statuses(story, 1)[0] == (413 if size > LIMIT else 400 if sid != b"sid0" or not size else 200)


# Everything that can be wrong with a request, or rare

LINES = {
    "none": [],
    "sign": [b"Content-Length: +6"],
    "negative": [b"Content-Length: -6"],
    "space inside": [b"Content-Length: 6 6"],
    "spaces around": [b"Content-Length: \t 6 \t "],
    "comma": [b"Content-Length: 6, 6"],
    "underscore": [b"Content-Length: 0_6"],
    "hexadecimal": [b"Content-Length: 0x6"],
    "point": [b"Content-Length: 6.0"],
    "huge": [b"Content-Length: " + b"9" * 30],
    "more digits than an int may have": [b"Content-Length: " + b"0" * 5000 + b"6"],
    "arabic digits": ["Content-Length: ٦".encode()],
    "superscript digits": [b"Content-Length: \xb2"],
    "leading zeros": [b"Content-Length: 0000006"],
    "zero": [b"Content-Length: 0"],
    "empty length": [b"Content-Length:"],
    "too long": [b"Content-Length: 7"],
    "too short": [b"Content-Length: 5"],
    "no space": [b"content-length:6"],
    "equal lengths": [b"Content-Length: 6", b"Content-Length: 6"],
    "different lengths": [b"Content-Length: 6", b"content-length: 7"],
    "vertical tab": [b"Content-Length: \x0b6"],
    "chunked": [b"Transfer-Encoding: chunked"],
    "Chunked": [b"transfer-encoding:\t ChUnKeD "],
    "chunked and length": [b"Transfer-Encoding: chunked", b"Content-Length: 6"],
    "length and chunked": [b"Content-Length: 6", b"Transfer-Encoding: chunked"],
    "identity": [b"Transfer-Encoding: identity", b"Content-Length: 6"],
    "gzip, chunked": [b"Transfer-Encoding: gzip, chunked"],
    "unknown coding": [b"Transfer-Encoding: x-unknown"],
    "coding twice": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    "no coding": [b"Transfer-Encoding:", b"Content-Length: 6"],
    "folded": [b"X-Long: a", b" b", b"\tc"],
    "folded length": [b"Content-Length:", b" 6"],
    "folded connection": [b"Connection: keep-alive", b" close"],
    "folded at once": [b" Folded: at once"],
    "space before colon": [b"X-Odd : a"],
    "space before colon of the length": [b"Content-Length : 6"],
    "empty name": [b": a"],
    "no colon": [b"X-Odd"],
    "colon alone": [b":"],
    "empty value": [b"X-Odd:"],
    "value of colons": [b"X-Odd::::"],
    "high bytes in a name": [b"X-\xe9: a"],
    "high bytes in a value": [b"X-Odd: \x80\xe9\xff\x85"],
    "UTF-8": ["X-Odd: €".encode()],
    "control bytes in a value": [b"X-Odd: \x01\x02\x0b\x0c\x1c\x7f"],
    "control byte in a name": [b"X-\x01: a"],
    "NUL in a value": [b"X-Odd: a\x00b"],
    "NUL in a name": [b"X\x00: a"],
    "tab in a name": [b"X\t: a"],
    "bare LF": [b"X-Odd: a\nX-Other: b"],
    "bare CR": [b"X-Odd: a\rX-Other: b"],
    "CR at the end": [b"X-Odd: a\r"],
    "LF at the end": [b"X-Odd: a\n"],
    "smuggled by LF": [b"X-Odd: a\nContent-Length: 6\nTransfer-Encoding: chunked"],
    "every token": [b"!#$%&'*+-.^_`|~09AZaz: a"],
    "parentheses": [b"X(a): a"],
    "two hosts": [b"Host: elsewhere"],
    "close": [b"Connection: close"],
    "CLOSE": [b"cOnNeCtIoN:  CLOSE  "],
    "close in a list": [b"Connection: keep-alive, close"],
    "close, close": [b"Connection: close, close"],
    "close by spaces": [b"Connection: foo close bar"],
    "close in the second": [b"Connection: keep-alive", b"Connection: close"],
    "close in the first": [b"Connection: close", b"Connection: keep-alive"],
    "close in a word": [b"Connection: not-closed"],
    "tab close": [b"Connection: x\tclose"],
    "empty connection": [b"Connection:"],
    "keep-alive": [b"Connection: keep-alive", b"Keep-Alive: timeout=5"],
    "proxy-connection": [b"Proxy-Connection: close"],
    "expect": [b"Expect: 100-continue"],
    "EXPECT": [b"EXPECT: 100-Continue"],
    "expect something": [b"Expect: 200-ok"],
    "upgrade to HTTP/2": [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAA"],
    "upgrade without connection": [b"Upgrade: websocket"],
    "connection without upgrade": [b"Connection: Upgrade"],
    "upgrade and close": [b"Connection: Upgrade, close", b"Upgrade: websocket"],
    "upgrade in a list": [b"Connection: keep-alive, upgrade", b"Upgrade: foo/1, WEBSOCKET"],
    "upgrade twice": [b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: foo", b"upgrade: websocket"],
    "empty upgrade": [b"Connection: Upgrade", b"Upgrade:"],
    "origin": [b"Origin: http://example.org"],
    "origins": [b"Origin: http://example.org", b"origin: http://b"],
    "origin with control bytes": [b"Origin: http://\x01"],
    "old browser": [b"User-Agent: Mozilla/4.0 (compatible;MSIE 8.0; Windows NT 6.1)"],
    "less old browser": [b"USER-AGENT: Mozilla/5.0 (Windows NT 6.1; Trident/7.0)"],
    "two browsers": [b"User-Agent: Trident/7.0", b"User-Agent: none"],
    "high bytes of a browser": [b"User-Agent: \xff;MSIE"],
    "octets": [b"Content-Type: application/octet-stream"],
    "Octets": [b"content-type:APPLICATION/OCTET-STREAM ; charset=x"],
    "a form": [b"Content-Type: application/x-www-form-urlencoded"],
    "parts": [b"Content-Type: multipart/form-data; boundary=x"],
    "cookies": [b"Cookie: a=b; c=d", b"cookie: e"],
    "trailer": [b"Trailer: X-Odd", b"TE: trailers"],
    "override": [b"X-HTTP-Method-Override: PUT"],
    "forwarded": [b"X-Forwarded-For: 192.0.2.1"],
}
"""Lines that a request may have besides what belongs to it."""


@pytest.mark.parametrize("name", LINES)
def test_lines(name: str) -> None:
    """A handshake, a poll and a POST with these lines; the last one also with a length of its own."""
    lines = LINES[name]
    requests = [
        ask(b"GET", None, *lines),
        ask(b"GET", b"sid0", *lines),
        ask(b"POST", b"sid0", *lines) + BODY,
        ask(b"POST", b"sid0", *lines, body=BODY),
        ask(b"POST", b"sid0", *lines) + b"6\r\n4hello\r\n0\r\n\r\n",
    ]
    compare(exchange(requests[0]), asked=[True])
    for data in requests:
        compare(exchange(data), asked=[False])
        compare(exchange(*cut(data, behind(data) - 4)), asked=[False])


WHOLE = {
    "no host": ask(host=()),
    "no host, by POST": push(BODY, host=()),
    "nothing but the first line": b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\n\r\n",
    "empty host": ask(host=(b"Host:",)),
    "two hosts": ask(host=(b"Host: a", b"Host: b")),
    "lower-case method": ask(b"get"),
    "lower-case post": ask(b"post", body=BODY),
    "unknown method": ask(b"BREW"),
    "unknown method with a body": ask(b"BREW", body=BODY),
    "a method with odd signs": ask(b"!#$%&'*+-.^_`|~"),
    "no token": ask(b"GE(T"),
    "OPTIONS": ask(b"OPTIONS"),
    "HEAD": ask(b"HEAD"),
    "HEAD without a session": ask(b"HEAD", None),
    "PUT": ask(b"PUT", body=BODY),
    "DELETE": ask(b"DELETE", body=b""),
    "CONNECT": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TRACE": ask(b"TRACE"),
    "body on GET": ask(body=BODY),
    "no body on GET": ask(body=b""),
    "body on a handshake": ask(sid=None, body=BODY),
    "bytes behind a GET": ask() + b"x",
    "bytes behind a POST": push(BODY) + b"x",
    "empty lines behind a POST": push(BODY) + b"\r\n\r\n",
    "POST without a length": ask(b"POST"),
    "POST without a length, with a body": ask(b"POST") + BODY,
    "POST without a session": push(BODY, sid=b""),
    "POST of an unknown session": push(BODY, sid=b"nobody"),
    "a close packet": push(b"1"),
    "a broken packet": push(b"9"),
    "a heartbeat in the wrong direction": push(b"2"),
    "not UTF-8": push(b"4\xff"),
    "many packets": push(b"4a\x1e4b\x1e9\x1e4c"),
    "absolute": ask(path=b"http://localhost/engine.io/"),
    "absolute, elsewhere": ask(path=b"https://example.org:8443/engine.io/"),
    "star": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET star": b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two slashes": ask(path=b"//engine.io/"),
    "two slashes behind": ask(path=b"/engine.io//"),
    "slashes": b"GET // HTTP/1.1\r\n\r\n",
    "no path": b"GET ?EIO=4&transport=polling HTTP/1.1\r\n\r\n",
    "no slash": ask(path=b"engine.io"),
    "percent-encoded": ask(path=b"/engine%2eio/"),
    "percent-encoded behind": ask(path=b"/engine.io/%61%2Fb"),
    "without a slash": ask(path=b"/engine.io"),
    "below": ask(path=b"/engine.io/a/b%20c/"),
    "beside": ask(path=b"/engine.iox"),
    "semicolon": ask(path=b"/engine.io;a=b/"),
    "dots": ask(path=b"/engine.io/../form"),
    "backslash": ask(path=b"\\engine.io\\"),
    "upper case": ask(path=b"/ENGINE.IO/"),
    "fragment": ask(query=b"EIO=4&transport=polling#x"),
    "high bytes in the address": ask(path=b"/engine.io/\x80\xb0"),
    "higher bytes in the address": ask(path=b"/engine.io/\xff"),
    "a control byte in the address": ask(path=b"/engine.io/\x01"),
    "DEL in the address": ask(path=b"/engine.io/\x7f"),
    "NUL in the address": ask(path=b"/engine.io/\x00"),
    "quotes in the address": ask(path=b"/engine.io/'\"<>{}|^`"),
    "two spaces": b"GET  /engine.io/?EIO=4&transport=polling HTTP/1.1\r\n\r\n",
    "a space behind": b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1 \r\n\r\n",
    "a space before": b" GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\n\r\n",
    "a tab": b"GET\t/engine.io/?EIO=4&transport=polling\tHTTP/1.1\r\n\r\n",
    "HTTP/1.0": ask(version=b"HTTP/1.0"),
    "HTTP/1.0 with keep-alive": ask(b"GET", None, b"Connection: keep-alive", version=b"HTTP/1.0"),
    "HTTP/1.0 POST": push(BODY, version=b"HTTP/1.0"),
    "HTTP/1.2": ask(version=b"HTTP/1.2"),
    "HTTP/2.0": ask(version=b"HTTP/2.0"),
    "http/1.1": ask(version=b"http/1.1"),
    "HTTP/1.10": ask(version=b"HTTP/1.10"),
    "no version": b"GET /engine.io/?EIO=4&transport=polling\r\n\r\n",
    "HTTP/0.9": b"GET /engine.io/\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
    "nothing but line ends": b"\r\n\r\n\r\n\r\n",
    "an empty line before": b"\r\n" + PUSH,
    "two empty lines before": b"\r\n\r\n" + PUSH,
    "a bare LF before": b"\n" + PUSH,
    "an empty line between": PUSH + b"\r\n" + PUSH,
    "bare LFs": PUSH.replace(b"\r\n", b"\n"),
    "bare CRs": PUSH.replace(b"\r\n", b"\r"),
    "one bare LF": PUSH.replace(b"localhost\r\n", b"localhost\n"),
    "one LF too many": PUSH.replace(b"localhost\r\n", b"localhost\r\n\n"),
    "empty query": ask(query=b"", sid=None),
    "no query": b"GET /engine.io/ HTTP/1.1\r\n\r\n",
    "empty session id": ask(sid=b""),
    "two session ids": ask(sid=b"sid0&sid=sid0"),
    "escaped": ask(sid=b"%73id0"),
    "plus": ask(sid=b"sid+0"),
    "wrongly escaped": ask(sid=b"sid0&%zz=%"),
    "escaped zero": ask(sid=b"sid0%00"),
    "escaped high bytes": ask(sid=b"%ff%e2%82%ac"),
    "questions": ask(query=b"EIO=4&transport=polling&a=?b?c"),
    "semicolons": ask(query=b"EIO=4;transport=polling"),
    "ampersands": ask(query=b"&&EIO=4&&transport=polling&"),
    "no values": ask(query=b"EIO&transport"),
    "many equals": ask(query=b"EIO=4&transport=polling=&=x"),
    "b64": ask(sid=None, query=b"EIO=4&transport=polling&b64=1"),
    "t": ask(query=b"EIO=4&transport=polling&t=abc123"),
    "JSONP": ask(sid=None, query=b"EIO=4&transport=polling&j=12"),
    "JSONP without digits": ask(sid=None, query=b"EIO=4&transport=polling&j=x"),
    "JSONP of one who isn't": push(b"d=4hello", query=b"EIO=4&transport=polling&j=0"),
    "revision 3": ask(sid=None, query=b"EIO=3&transport=polling"),
    "no revision": ask(sid=None, query=b"transport=polling"),
    "WebSocket as a transport": ask(sid=None, query=b"EIO=4&transport=websocket"),
    "unknown transport": ask(sid=None, query=b"EIO=4&transport=pigeon"),
    "chunks": ask(b"POST", b"sid0", b"Transfer-Encoding: chunked") + b"3\r\n4he\r\n3;x=y\r\nllo\r\n0\r\nX: y\r\n\r\n",
    "broken chunks": ask(b"POST", b"sid0", b"Transfer-Encoding: chunked") + b"x\r\n4hello\r\n",
    "chunks without an end": ask(b"POST", b"sid0", b"Transfer-Encoding: chunked") + b"6\r\n4hello\r\n",
    "large chunks": ask(b"POST", b"sid0", b"Transfer-Encoding: chunked") + b"bb8\r\n4%b\r\n0\r\n\r\n" % (b"x" * 2999),
}
"""Requests that are odd as a whole."""


@pytest.mark.parametrize("name", WHOLE)
def test_requests(name: str) -> None:
    """Odd requests, in one read and cut."""
    for pieces in whole(WHOLE[name]):
        compare(exchange(*pieces), asked=[len(pieces) == 1])
    compare(exchange(WHOLE[name]), asked=[False])


@pytest.mark.parametrize("name", ["no revision", "revision 3", "JSONP", "b64", "without a slash", "below"])
def test_requestsWithOptions(name: str) -> None:
    """The same where such requests are served, or not."""
    for pieces in whole(WHOLE[name]):
        compare(exchange(*pieces), allowEIO3=True, cookie=True, initialPacket="€")
        compare(exchange(*pieces), addTrailingSlash=False, allowedOrigins=["http://example.org"])


def test_limitsOfAHead() -> None:
    """Around the bytes and the headers that a head may have."""
    for data in (b"GET", b"POST"):
        sizes = [16384 + each for each in (*range(-40, 8), 100, 20_000)]
        room = [size - len(ask(data, body=None if data == b"GET" else BODY)) for size in sizes]
        heads = [
            *(ask(data, b"sid0", b"X: " + b"x" * each, body=None if data == b"GET" else BODY) for each in room),
            *(ask(data, b"sid0&x=" + b"x" * each, body=None if data == b"GET" else BODY) for each in room[::8]),
            *(
                ask(data, b"sid0", *[b"X: %d" % number for number in range(count)])
                for count in (497, 498, 499, 500, 501, 1000)
            ),
            *(
                ask(data, b"sid0", *[b"X: %d" % number for number in range(count)], body=BODY)
                for count in (496, 497, 498, 499, 500)
            ),
        ]

        def play(here: Here, heads: list[bytes] = heads) -> None:
            here.say(OPEN)
            for each in heads:
                peer = here.say(each)
                here.send("x")
                peer.say(PUSH)

        compare(play)


def test_limitsOfAnAddress() -> None:
    """Around the longest line there may be."""

    def play(here: Here) -> None:
        here.say(OPEN)
        start = len(ask(sid=b"sid0&x="))
        for size in (16384 + each for each in (*range(-45, 5), 100, 5000)):
            peer = here.say(ask(sid=b"sid0&x=" + b"x" * (size - start)))
            here.send("x")
            peer.say(PUSH)

    compare(play)


@pytest.mark.parametrize("limit", ["totalHeadersSize", "maxHeaders", "MAX_LENGTH"])
def test_limitsOfAnApplication(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site whose channels allow less than others."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peer = here.say(push(BODY, b"X-Long: " + b"x" * 3000, *[b"X: y"] * 50))
        peer.say(PUSH)

    for kind in (Channel, FastChannel):
        monkeypatch.setattr(kind, limit, {"totalHeadersSize": 2000, "maxHeaders": 20, "MAX_LENGTH": 1000}[limit])
    story = compare(play)
    assert not noted(story, "message")


# WebSockets

WEBSOCKETS = {
    "good": webSocket(),
    "of a session": webSocket(sid=b"sid0"),
    "of nobody": webSocket(sid=b"nobody"),
    "polling": webSocket(query=b"EIO=4&transport=polling"),
    "polling of a session": webSocket(sid=b"sid0", query=b"EIO=4&transport=polling"),
    "short key": webSocket(key=b"short"),
    "no key": webSocket(key=b""),
    "subprotocol": webSocket(b"Sec-WebSocket-Protocol: a, b"),
    "no subprotocol": webSocket(b"Sec-WebSocket-Protocol:"),
    "compression": webSocket(b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
    "a byte that ends lines": webSocket(b"X-Odd: \x85"),
    "close": webSocket(b"Connection: close"),
    "by POST": webSocket(method=b"POST", body=b""),
    "by POST with a body": webSocket(method=b"POST", body=BODY),
    "with a length": webSocket(body=b""),
    "with a body": webSocket(body=BODY),
    "with chunks": webSocket(b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "HTTP/1.0": webSocket(version=b"HTTP/1.0"),
    "elsewhere": webSocket(path=b"/form"),
    "by HEAD": webSocket(method=b"HEAD"),
}


@pytest.mark.parametrize("name", WEBSOCKETS)
def test_webSockets(name: str) -> None:
    """Handshakes, good and bad, with frames in the same read, in the next one, and later."""
    frames = makeFrame("2probe") + makeFrame("5") + makeFrame("4€") + makeFrame(b"\x01\x02")
    for pieces in (*whole(WEBSOCKETS[name]), *whole(WEBSOCKETS[name] + frames)):

        def play(here: Here, pieces: list[bytes] = pieces) -> None:
            first = here.say(OPEN)
            first.say(POLL)
            peer = here.say(*pieces)
            here.advance(1)
            peer.say(makeFrame("4later"), makeFrame("3"))
            here.send("x")
            peer.say(PUSH)
            peer.say(makeFrame(b"\x03\xe8", 8))

        compare(play, asked=[len(pieces) == 1])
        compare(play, asked=[False], perMessageDeflate=True, cookie=True, transports=["websocket"])


@pytest.mark.parametrize("version", [b"7", b"", b"13, 13", b"x", b"13\r\nSec-WebSocket-Version: 8"])
def test_wrongVersionsOfWebSocket(version: bytes) -> None:
    """The client is told which ones there are."""
    data = webSocket().replace(b"Version: 13", b"Version: " + version)
    assert b"13, 8" in written(compare(exchange(data)), 1)


def test_aWebSocketBehindOtherRequests() -> None:
    """On a connection that was used before, and left waiting before it began."""

    def play(here: Here) -> None:
        peer = here.say(OPEN)
        peer.say(PUSH)
        here.advance(59.9)
        peer.say(webSocket(), makeFrame("4a"))
        # A WebSocket has no idle timeout.
        here.advance(20, 5, 60)
        peer.say(makeFrame("4b"))
        here.close()

    compare(play, pingInterval=300_000)


# Anything at all


_NAMES = [b"Connection", b"Content-Length", b"Transfer-Encoding", b"Upgrade", b"Expect", b"Host", b"Origin", b"Cookie"]
_VALUES = [b"close", b"keep-alive", b"upgrade", b"websocket", b"chunked", b"0", b"6", b"7", b"100-continue", b""]

headers = st.builds(
    lambda name, colon, value: name + colon + value,
    st.one_of(st.sampled_from(_NAMES), st.sampled_from(_NAMES).map(bytes.upper), st.binary(max_size=4)),
    st.sampled_from([b":", b": ", b":\t ", b" :", b""]),
    st.one_of(st.sampled_from(_VALUES), st.binary(max_size=6)),
)

queries = st.one_of(
    st.sampled_from([b"EIO=4&transport=polling", b"EIO=4&transport=websocket", b"EIO=3&transport=polling"]),
    st.binary(max_size=6).map(lambda data: b"EIO=4&transport=polling&a=" + data),
)

sids = st.sampled_from([None, b"sid0", b"sid0", b"sid0", b"sid1", b"nobody"])

right = st.one_of(
    st.sampled_from([OPEN, POLL, POLL, PUSH, PUSH, push(b""), push(b"1"), OTHER, webSocket(), webSocket(sid=b"sid0")]),
    st.builds(
        lambda method, sid, body, query, lines: ask(method, sid, *lines, body=body, query=query),
        st.sampled_from([b"GET", b"GET", b"POST", b"POST", b"POST", b"PUT", b"OPTIONS", b"HEAD", b"post"]),
        sids,
        st.one_of(st.none(), st.binary(max_size=30), st.sampled_from([BODY, b"4a\x1e4b", b"3", b"4" + b"x" * LIMIT])),
        queries,
        st.lists(headers, max_size=2),
    ),
    st.builds(
        lambda sid, pieces: (
            ask(b"POST", sid, b"Transfer-Encoding: chunked")
            + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in [*pieces, b""])
        ),
        sids,
        st.lists(st.binary(min_size=1, max_size=10), max_size=3),
    ),
)


@st.composite
def mutated(draw: Any) -> bytes:
    """A request in which something may be wrong."""
    data: bytes = draw(right)
    for kind in draw(st.lists(st.sampled_from(["flip", "delete", "double", "insert", "cut"]), max_size=2)):
        lines = data.split(b"\r\n")
        place = draw(st.integers(0, len(lines) - 1))
        if kind == "flip" and data:
            at = draw(st.integers(0, len(data) - 1))
            byte = draw(st.one_of(st.sampled_from(b"\r\n\0 :\t"), st.integers(0, 255)))
            data = data[:at] + bytes([byte]) + data[at + 1 :]
        elif kind == "delete":
            data = b"\r\n".join(lines[:place] + lines[place + 1 :])
        elif kind == "double":
            data = b"\r\n".join([*lines[: place + 1], *lines[place:]])
        elif kind == "insert":
            data = b"\r\n".join([*lines[: place + 1], draw(headers), *lines[place + 1 :]])
        elif kind == "cut":
            data = data[: draw(st.integers(0, len(data)))]
    return data


said = st.builds(
    lambda number, requests, places: ("say", number, cut(b"".join(requests), *places)),
    st.integers(0, 2),
    st.lists(st.one_of(right, right, mutated()), min_size=1, max_size=3),
    st.lists(st.integers(0, 10_000), max_size=2),
)
acts = st.one_of(
    said,
    said,
    said,
    st.tuples(st.just("advance"), st.sampled_from([0.001, 1.0, 2.0, 24.9, 59.999, 60.0, 3.0])),
    st.tuples(st.just("send"), st.sampled_from(["a", b"\0", "x" * 3000])),
    st.tuples(st.sampled_from(["fills", "drains", "lose"]), st.integers(0, 2)),
    st.just(("close",)),
)


def playing(script: list[Any]) -> Play:
    """A client or three, and an application, that do as they are told."""

    def play(here: Here) -> None:
        here.say(OPEN)
        peers = [here.connect() for _ in range(3)]
        for what, *rest in script:
            if what in ("advance", "send"):
                getattr(here, what)(*rest)
            elif what == "close":
                here.close()
            else:
                number, *rest = rest
                if what == "say":
                    if peers[number].isLost:
                        peers[number] = here.connect()
                    peers[number].say(*rest[0])
                else:
                    getattr(peers[number], what)()

    return play


@settings(max_examples=200, deadline=None)
@given(st.lists(acts, min_size=1, max_size=7), st.sampled_from([{}, {"cors": {"origin": "*"}}, {"cookie": True}]))
@example([("say", 0, [PUSH[:-1]]), ("say", 1, [PUSH]), ("say", 0, [PUSH[-1:]])], {})
@example([("say", 0, [POLL]), ("lose", 0), ("say", 1, [POLL]), ("send", "a")], {})
def test_anything(script: list[Any], options: dict[str, Any]) -> None:
    """Requests, mostly right, cut and mixed, in any order, with time between them."""
    play = playing(script)
    plain, fast = (told(kind, play, **options) for kind in (Site, FastSite))
    theSame(plain, fast)
