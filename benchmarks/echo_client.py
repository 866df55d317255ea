"""
The client that `clients.py` measures, written as the documentation shows it.

    python benchmarks/echo_client.py 3000

It does what `clients.py` says on stdin: there the words are explained.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import stdio
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver

from engineio_twisted.client import Client

sys.path.append(str(Path(__file__).parent / "peers"))

from messages import fail, messagesOf


class Session:
    """A client that sends messages and compares what comes back."""

    def __init__(self, transport: str) -> None:
        self._isUpgraded = transport == "upgrade"
        transports = ("polling", "websocket") if self._isUpgraded else (transport,)
        self.client = Client(f"http://127.0.0.1:{sys.argv[1]}", transports=transports)
        self.client.on("message", self._received)
        self._messages: list[Any] = []
        self._sent = self._came = self._wanted = 0
        self._over: Deferred[None] = Deferred()

    async def open(self) -> None:
        upgraded: Deferred[object] = Deferred()
        if self._isUpgraded:
            self.client.once("upgrade", upgraded.callback)
        await self.client.connect()
        if self._isUpgraded:
            await upgraded

    def echo(self, messages: list[Any], depth: int, count: int) -> Deferred[None]:
        self._messages, self._sent, self._came, self._wanted = messages, min(depth, count), 0, count
        self._over = Deferred()
        for number in range(self._sent):
            self.client.send(messages[number % len(messages)])
        return self._over

    def close(self) -> Deferred[None]:
        return self.client.close()

    def _received(self, data: str | bytes) -> None:
        messages = self._messages
        if data != messages[self._came % len(messages)]:
            fail(f"message {self._came} came back as {data[:80]!r}")
        self._came += 1
        if self._sent < self._wanted:
            self._sent += 1
            self.client.send(messages[(self._sent - 1) % len(messages)])
        elif self._came == self._wanted:
            self._over.callback(None)


class Program(LineOnlyReceiver):
    """
    What reads the words and does them.

    @param makeSession: called with a transport.
    """

    delimiter = b"\n"

    def __init__(self, makeSession: Callable[[str], Any]) -> None:
        self._makeSession = makeSession
        self.over: Deferred[None] = Deferred()
        self._sessions: list[Any] = []

    def lineReceived(self, line: bytes) -> None:
        word, *arguments = line.decode().split()
        done = Deferred.fromCoroutine(getattr(self, word)(*arguments))
        done.addCallbacks(lambda _: self.sendLine(b"ok"), lambda failure: fail(failure.getTraceback()))

    def connectionLost(self, reason: object = None) -> None:
        self.over.callback(None)

    async def open(self, transport: str, count: str) -> None:
        for _ in range(int(count)):
            session = self._makeSession(transport)
            await session.open()
            self._sessions.append(session)

    async def echo(self, depth: str, count: str, kind: str, size: str) -> None:
        messages = messagesOf(kind, int(size))
        each = int(count) // len(self._sessions)
        await gatherResults([session.echo(messages, int(depth), each) for session in self._sessions])

    async def renew(self, transport: str, atOnce: str, count: str) -> None:
        left = int(count)

        async def one() -> None:
            nonlocal left
            while left:
                left -= 1
                session = self._makeSession(transport)
                await session.open()
                await session.close()

        await gatherResults([Deferred.fromCoroutine(one()) for _ in range(int(atOnce))])


def main(reactor: Any, makeSession: Callable[[str], Any]) -> Deferred[None]:
    program = Program(makeSession)
    stdio.StandardIO(program)
    return program.over


if __name__ == "__main__":
    react(main, [Session])
