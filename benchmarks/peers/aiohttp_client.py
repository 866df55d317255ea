"""
python-engineio's client for asyncio, on aiohttp: `python aiohttp_client.py PORT`.

It does what `clients.py` says on stdin: there the words are explained.
"""

from __future__ import annotations

import asyncio
import sys

import engineio
from messages import fail, messagesOf


class Session:
    """A client that sends messages and compares what comes back."""

    def __init__(self) -> None:
        self.client = engineio.AsyncClient(handle_sigint=False)
        self.client.on("message", self._received)
        self._messages: list[str] | list[bytes] = []
        self._sent = self._came = self._wanted = 0
        self._over: asyncio.Future[None] | None = None

    async def open(self, transport: str) -> None:
        transports = ["polling", "websocket"] if transport == "upgrade" else [transport]
        await self.client.connect(f"http://127.0.0.1:{sys.argv[1]}", transports=transports)
        if self.client.transport() != transports[-1]:
            fail(f"the transport is {self.client.transport()}")

    async def echo(self, messages: list[str] | list[bytes], depth: int, count: int) -> None:
        self._messages, self._sent, self._came, self._wanted = messages, min(depth, count), 0, count
        self._over = asyncio.get_running_loop().create_future()
        for number in range(self._sent):
            await self.client.send(messages[number % len(messages)])
        await self._over

    async def _received(self, data: str | bytes) -> None:
        messages = self._messages
        if data != messages[self._came % len(messages)]:
            fail(f"message {self._came} came back as {data[:80]!r}")
        self._came += 1
        if self._sent < self._wanted:
            self._sent += 1
            await self.client.send(messages[(self._sent - 1) % len(messages)])
        elif self._came == self._wanted:
            assert self._over is not None
            self._over.set_result(None)


class Program:
    def __init__(self) -> None:
        self._sessions: list[Session] = []

    async def open(self, transport: str, count: str) -> None:
        for _ in range(int(count)):
            session = Session()
            await session.open(transport)
            self._sessions.append(session)

    async def echo(self, depth: str, count: str, kind: str, size: str) -> None:
        messages = messagesOf(kind, int(size))
        each = int(count) // len(self._sessions)
        await asyncio.gather(*(session.echo(messages, int(depth), each) for session in self._sessions))

    async def renew(self, transport: str, atOnce: str, count: str) -> None:
        left = int(count)

        async def one() -> None:
            nonlocal left
            while left:
                left -= 1
                session = Session()
                await session.open(transport)
                await session.client.disconnect()

        await asyncio.gather(*(one() for _ in range(int(atOnce))))


async def main() -> None:
    program, lines = Program(), asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        word, *arguments = line.decode().split()
        await getattr(program, word)(*arguments)
        print("ok", flush=True)


asyncio.run(main())
