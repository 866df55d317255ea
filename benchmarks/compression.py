"""
How long everybody else waits while one polling client is sent ten megabytes, compressed.

Run as `python benchmarks/compression.py`. A call due every millisecond measures the longest gap: once with the payload
compressed at once, once in pieces, as the server does it. docs/architecture.md, "Compression in pieces".
"""

from __future__ import annotations

import http.client
import json
from time import perf_counter
from unittest import mock

from twisted.internet.task import LoopingCall, react
from twisted.internet.threads import deferToThread

from engineio_twisted import Server, listen
from engineio_twisted.transports import compression

TEXT = "".join(f"line {number} of some text {number * 7919}\n" for number in range(330_000))[:10_000_000]


class Gaps:
    """The longest time between two calls, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = perf_counter()

    def call(self) -> None:
        now = perf_counter()
        self.longest = max(self.longest, now - self._last)
        self._last = now


def ask(port: int, query: str) -> bytes:
    """Poll, in a thread, and leave what comes compressed."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"/engine.io/?EIO=4&transport=polling{query}", headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return body


async def longestWait(server: Server) -> float:
    port = (await server.listening).getHost().port
    opening = await deferToThread(ask, port, "")
    sid = json.loads(opening[1:])["sid"]
    server.clients[sid].send(TEXT)
    gaps = Gaps()
    loop = LoopingCall(gaps.call)
    loop.start(0.001)
    body = await deferToThread(ask, port, f"&sid={sid}")
    loop.stop()
    assert len(body) < len(TEXT) / 2
    await server.close()
    return gaps.longest


async def main(reactor: object) -> None:
    waits = {}
    for name, size in {"at once": 2**40, "in pieces": compression.COMPRESSED_AT_ONCE}.items():
        with mock.patch.object(compression, "COMPRESSED_AT_ONCE", size):
            waits[name] = await longestWait(listen("tcp:0:interface=127.0.0.1"))
        print(f"{name}: the longest wait of others is {waits[name] * 1000:.1f} ms")
    print(f"in pieces: {waits['in pieces'] / waits['at once']:.2f} of that at once")


react(main)
