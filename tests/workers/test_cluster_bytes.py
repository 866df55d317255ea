"""What a request at the wrong worker is answered, by a move and by a relay: byte for byte what one process answers."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from engineio_twisted.protocol.frames import BINARY, CLOSE, FINAL, TEXT, maskedFrame
from engineio_twisted.testing import MemoryCluster

from ..kit.workers import POLLING, SID, Story, application, assertIdle, onOne, pairs, play, request

MODES = ("move", "relay")
MASK = b"abcd"


def frame(data: bytes, opcode: int = TEXT, bits: int = 0) -> bytes:
    return maskedFrame(FINAL | bits | opcode, data, MASK)


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in (*pieces, b""))


def deflated(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return (made.compress(data) + made.flush(zlib.Z_SYNC_FLUSH))[:-4]


GET = request("GET", POLLING)
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: ZW5naW5laW9fdHdpc3RlZA==",
    "Sec-WebSocket-Version: 13",
)
WEBSOCKET = "EIO=4&transport=websocket&sid=SID"
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


def post(body: bytes, *headers: str, query: str = POLLING) -> bytes:
    return request("POST", query, *headers, body=body)


# Small ones, which are cut at every byte too.
SMALL: dict[str, Story] = {
    "a poll of what waits": [("right", post(b"4a")), ("a", GET)],
    "a poll that waits": [("a", GET), ("right", post(b"4a"))],
    "a POST": [("right", GET), ("a", post(b"4a"))],
    "several in one body": [("a", post(b"4a\x1e4b\x1e4c")), ("b", GET)],
    "binary": [("a", post(b"bAAEC\x1e4x")), ("a", GET)],
    "chunks": [
        ("a", request("POST", POLLING, "Transfer-Encoding: chunked") + chunks(b"4hel", b"lo")),
        ("a", GET),
    ],
    "a POST that asks before": [("a", post(b"4a", "Expect: 100-continue")), ("a", GET)],
    "HTTP/1.0": [("right", post(b"4a")), ("a", request("GET", POLLING, version="1.0"))],
    "HTTP/1.0 that stays": [
        ("right", post(b"4a")),
        ("a", request("GET", POLLING, "Connection: keep-alive", version="1.0")),
    ],
    "a last request": [("right", post(b"4a")), ("a", request("GET", POLLING, "Connection: close"))],
    "HEAD": [("a", request("HEAD", POLLING))],
    "PUT": [("a", request("PUT", POLLING, body=b"4a"))],
    "DELETE": [("a", request("DELETE", POLLING))],
    "OPTIONS": [("a", request("OPTIONS", POLLING, "Origin: http://a", "Access-Control-Request-Method: POST"))],
    "pipelined": [("a", post(b"4a") + post(b"4b") + GET)],
    "pipelined behind a poll": [("a", GET + post(b"4b")), ("right", post(b"4a"))],
    "a body that is none": [("a", post(b"nonsense")), ("a", GET)],
    "a POST that closes": [("a", GET), ("b", post(b"1"))],
    "an unknown transport": [("a", request("GET", "EIO=4&transport=tube&sid=SID"))],
    "a sid twice": [("a", request("GET", POLLING + "&sid=SID"))],
    "a sid that is escaped": [("right", post(b"4a")), ("a", GET.replace(b"sid=SID", b"s%69d=SID"))],
    "a whole address": [("right", post(b"4a")), ("a", GET.replace(b"GET /", b"GET http://localhost/"))],
    "another path": [("a", request("GET", POLLING, path="/elsewhere/"))],
    "no head": [("a", b"nonsense\r\n\r\n")],
    "two polls": [("a", GET), ("b", GET)],
    "an upgrade": [
        ("right", GET),
        ("a", request("GET", WEBSOCKET, *UPGRADE)),
        ("a", frame(b"2probe")),
        ("right", GET),
        ("a", frame(b"5") + frame(b"4a")),
        ("a", frame(b"\x00\x01", BINARY)),
        ("a", frame(b"\x03\xe8", CLOSE)),
    ],
    "a probe in the same segment": [
        ("right", post(b"4waits")),
        ("a", request("GET", WEBSOCKET, *UPGRADE) + frame(b"2probe")),
        ("b", GET),
        ("a", frame(b"5") + frame(b"4a")),
        ("a", frame(b"1")),
    ],
    "an upgrade that compresses": [
        ("a", request("GET", WEBSOCKET, *UPGRADE, DEFLATE) + frame(b"2probe")),
        ("a", frame(b"5") + frame(deflated(b"4" + b"a" * 3000), bits=0x40)),
    ],
    "an upgrade that is refused": [("a", request("GET", WEBSOCKET, *UPGRADE[:3])), ("b", post(b"4a")), ("b", GET)],
    "an upgrade without a probe": [("a", request("GET", WEBSOCKET, *UPGRADE) + frame(b"4a")), ("b", GET)],
}
LARGE: dict[str, Story] = {
    "1 MB": [("a", post(b"4" + b"x" * 999_999)), ("a", GET)],
    "too much": [("a", post(b"4" + b"x" * 1_000_000)), ("b", GET)],
    "1 MB in chunks": [
        ("a", request("POST", POLLING, "Transfer-Encoding: chunked") + chunks(*[b"4" + b"x" * 9999] * 100)),
        ("a", GET),
    ],
    "a compressed poll": [("a", post(b"4big" + b"ab" * 300)), ("a", request("GET", POLLING, "Accept-Encoding: gzip"))],
    "over 64 KiB": [("a", post(b"4" + b"x" * 70_000) + GET)],
    "a head of 15 KiB": [("right", post(b"4a")), ("a", request("GET", POLLING, f"X-Long: {'y' * 15_000}"))],
    "a head that is too large": [("a", request("GET", POLLING, f"X-Long: {'y' * 20_000}"))],
}
JSONP = "EIO=4&transport=polling&j=0"
OTHER: dict[str, tuple[str, Story]] = {
    "JSONP": (JSONP, [("a", post(b"d=4a%20b", query=JSONP + "&sid=SID")), ("b", request("GET", JSONP + "&sid=SID"))]),
    "revision 3": (
        "EIO=3&transport=polling",
        [
            ("a", post("3:4h\xe9".encode(), query="EIO=3&transport=polling&sid=SID")),
            ("b", request("GET", "EIO=3&transport=polling&sid=SID")),
            ("b", post(b"1:2", query="EIO=3&transport=polling&sid=SID")),
            ("a", request("GET", "EIO=3&transport=polling&sid=SID")),
        ],
    ),
    "revision 3 in base64": (
        "EIO=3&transport=polling&b64=1",
        [
            ("a", post(b"6:b4AAEC", query="EIO=3&transport=polling&b64=1&sid=SID")),
            ("b", request("GET", "EIO=3&transport=polling&b64=1&sid=SID")),
        ],
    ),
}
OPTIONS: dict[str, Any] = {
    "allowEIO3": True,
    "cors": {"origin": "http://a"},
    "perMessageDeflate": {"threshold": 1000},
    "pingInterval": 10**6,
}
QUERY = "EIO=4&transport=polling"
STORIES = {name: (QUERY, each) for name, each in (SMALL | LARGE).items()} | OTHER


# What is answered where it comes.
ON_THE_SPOT = {"OPTIONS", "another path", "no head", "a head that is too large"}


@pytest.fixture(params=MODES)
def cluster(request: Any) -> Iterator[MemoryCluster]:
    with MemoryCluster(application, workers=3, mode=request.param, **OPTIONS) as kit:
        yield kit


@pytest.mark.parametrize("name", STORIES)
def test_answersAtTheWrongWorker(name: str, cluster: MemoryCluster) -> None:
    """Over every ordered pair of workers, what a client gets and what the application hears is the same."""
    query, story = STORIES[name]
    with onOne(**OPTIONS) as kit:
        expected = play(kit, story, query=query)
    for right, wrong in pairs(cluster):
        assert play(cluster, story, right, wrong, query=query) == expected
        assertIdle(cluster)
    travelled = {each.cluster.moved + each.cluster.front.relayed > 0 for each in cluster.workers.values()}
    assert travelled == {name not in ON_THE_SPOT}


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.apart)])
@pytest.mark.parametrize("name", SMALL)
def test_cut(name: str, cluster: MemoryCluster, step: int) -> None:
    """Wherever what is sent is cut, the answers are the same, and nothing is left."""
    story = SMALL[name]
    longest = max(len(text.replace(SID, b"2-" + b"x" * 24)) for each, text in story if each != "right")
    with onOne(**OPTIONS) as kit:
        for cut in range(1, longest, step):
            expected = play(kit, story, cut=cut)
            assert play(cluster, story, 2, 1, cut=cut) == expected, f"cut at {cut}"
    assertIdle(cluster)
