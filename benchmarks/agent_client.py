"""
What Twisted's Agent alone costs on polling: a POST and a GET for each message, and next to nothing around them.

    python benchmarks/agent_client.py 3000

It does what `clients.py` says on stdin, `open polling` and `echo 1` alone.
"""

from __future__ import annotations

import json
import sys
from io import BytesIO
from typing import Any

from echo_client import fail, main
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody

_pool = HTTPConnectionPool(reactor)
_pool.maxPersistentPerHost = 1000
_agent = Agent(reactor, pool=_pool)


class Session:
    """A session by hand."""

    def __init__(self, transport: str) -> None:
        self._url = f"http://127.0.0.1:{sys.argv[1]}/engine.io/?EIO=4&transport={transport}".encode()

    async def _ask(self, method: bytes, body: bytes = b"") -> bytes:
        producer: Any = FileBodyProducer(BytesIO(body)) if body else None
        return await readBody(await _agent.request(method, self._url, None, producer))

    async def open(self) -> None:
        self._url += b"&sid=" + json.loads((await self._ask(b"GET"))[1:])["sid"].encode()

    def echo(self, messages: list[Any], depth: int, count: int) -> Deferred[None]:
        return Deferred.fromCoroutine(self._echo(messages, count))

    async def _echo(self, messages: list[Any], count: int) -> None:
        for number in range(count):
            packet = b"4" + messages[number % len(messages)].encode()
            polled = Deferred.fromCoroutine(self._ask(b"GET"))
            await self._ask(b"POST", packet)
            if await polled != packet:
                fail(f"message {number} didn't come back")


if __name__ == "__main__":
    react(main, [Session])
