"""A request that another worker answers: what its client and the session see is what they see with one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ..kit.relays import Pair, plainly, story


def http(
    method: str, sid: str, body: bytes | None = None, *headers: str, version: str = "1.1", more: str = ""
) -> bytes:
    """Return a request of a session."""
    lines = [
        f"{method} /engine.io/?EIO=4&transport=polling&sid={sid}{more} HTTP/{version}",
        "Host: a.example",
        *headers,
    ]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def upgrade(sid: str, *headers: str, version: int = 13) -> bytes:
    """Return a request for a WebSocket."""
    lines = [
        f"GET /engine.io/?EIO=4&transport=websocket&sid={sid} HTTP/1.1",
        "Host: a.example",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Sec-WebSocket-Version: {version}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def requests(*made: Callable[[str], bytes], before: Callable[[Any], object] | None = None) -> Callable[[Pair], Any]:
    """Return a story: these requests one after the other on one connection, each answered, and what came."""

    def tell(pair: Pair) -> Any:
        sid = pair.open()
        client = pair.connect()
        answers = []
        for each in made:
            if before is not None:
                before(pair.socket)
            pair.send(client, each(sid))
            answers.append((plainly(client.received), client.isLost))
            client.received.clear()
        return answers

    return tell


def sends(socket: Any) -> None:
    socket.send("one")
    socket.send(b"\0\1")


LONG = "x" * 300_000

SAME: dict[str, tuple[Callable[[Pair], Any], dict[str, Any]]] = {
    "read what waits": (requests(lambda sid: http("GET", sid), before=sends), {}),
    "read twice": (requests(lambda sid: http("GET", sid), lambda sid: http("GET", sid), before=sends), {}),
    "write": (requests(lambda sid: http("POST", sid, b"4a\x1e4b"), lambda sid: http("POST", sid, b"4c")), {}),
    "binary": (requests(lambda sid: http("POST", sid, b"4a\x1ebAAE=")), {}),
    "chunked": (
        requests(lambda sid: http("POST", sid, None, "Transfer-Encoding: chunked") + b"2\r\n4a\r\n1\r\nb\r\n0\r\n\r\n"),
        {},
    ),
    "continue": (
        requests(lambda sid: http("POST", sid, b"", "Expect: 100-continue").replace(b"h: 0", b"h: 2") + b"4a"),
        {},
    ),
    "HEAD": (requests(lambda sid: http("HEAD", sid)), {}),
    "PUT": (requests(lambda sid: http("PUT", sid, b"4a")), {}),
    "DELETE": (requests(lambda sid: http("DELETE", sid)), {}),
    "HTTP/1.0": (requests(lambda sid: http("GET", sid, version="1.0"), before=sends), {}),
    "kept by HTTP/1.0": (
        requests(lambda sid: http("GET", sid, None, "Connection: keep-alive", version="1.0"), before=sends),
        {},
    ),
    "close": (requests(lambda sid: http("GET", sid, None, "Connection: close"), before=sends), {}),
    "unknown id": (requests(lambda sid: http("GET", "2-nobody"), lambda sid: http("POST", "2-nobody", b"4a")), {}),
    "no packet": (requests(lambda sid: http("POST", sid, b"x")), {}),
    "JSONP": (
        requests(lambda sid: http("POST", sid, b"d=4a%5Cnb", more="&j=1"), lambda sid: http("GET", sid, more="&j=1")),
        {},
    ),
    "pipelined": (
        requests(lambda sid: http("POST", sid, b"4a") + http("POST", sid, b"4b") + http("GET", sid), before=sends),
        {},
    ),
    "pipelined behind a page": (
        requests(lambda sid: b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n" + http("GET", sid), before=sends),
        {},
    ),
    "long": (requests(lambda sid: http("GET", sid), before=lambda socket: socket.send(LONG)), {}),
    "longer than a request may be": (
        requests(lambda sid: http("GET", sid), before=lambda socket: socket.send(LONG * 10)),
        {"maxHttpBufferSize": 100_000},
    ),
    "compressed": (
        requests(
            lambda sid: http("GET", sid, None, "Accept-Encoding: gzip"), before=lambda socket: socket.send("x" * 20_000)
        ),
        {},
    ),
    "origin": (
        requests(lambda sid: http("GET", sid, None, "Origin: http://b.example"), before=sends),
        {"cors": {"origin": "http://b.example"}},
    ),
    "refused by HTTP version of a WebSocket": (requests(lambda sid: upgrade(sid, version=8)), {}),
    "too large by its length": (requests(lambda sid: http("POST", sid, b"4" * 101)), {"maxHttpBufferSize": 100}),
    "too large by chunks": (
        requests(lambda sid: http("POST", sid, None, "Transfer-Encoding: chunked") + b"ff\r\n" + b"4" * 255),
        {"maxHttpBufferSize": 100},
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_answers(name: str) -> None:
    """Byte by byte, and the same becomes of the session."""
    tell, options = SAME[name]
    expected, found = story(tell, **options)
    assert found == expected
    assert expected[0][0][0], "nothing came at all"


@pytest.mark.parametrize("name", ["write", "pipelined", "JSONP", "chunked", "close", "unknown id"])
@pytest.mark.parametrize("pieceSize", [1, 2, 7])
def test_answersInPieces(name: str, pieceSize: int) -> None:
    """Links may deliver any pieces."""
    tell, options = SAME[name]
    expected, found = story(tell, pieceSize=pieceSize, **options)
    assert found == expected
