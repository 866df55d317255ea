"""
Numbered messages in both directions, through a proxy that cuts connections: what becomes of them?

The client and the server are ours. With resume each message has to arrive once and in order, and no session may end
before all of its messages are there; without it a session may end at any time, but in order and for a named reason.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall

from engineio_twisted import listen
from engineio_twisted.client import Client, ConnectionFailed

from .chaos import DOWN, UP, Trouble, chaos
from .wire import pause, within

BURST = 40
"""Messages that an end sends at once, if they go out."""

INTERVAL = 0.002
"""Seconds between two bursts."""

OPTIONS: dict[str, Any] = {
    "pingInterval": 1000,
    "pingTimeout": 1000,
    "upgradeTimeout": 2000,
    "maxBufferedPackets": 400,
    "maxBufferedBytes": 400_000,
}

REASONS = {"transport close", "transport error", "ping timeout"}
"""Why a session may end whose connection was cut."""


@attrs.define
class Lane:
    """
    One client after the other, each with a session of its own until that has had its messages.

    @ivar transports: those of the client.
    @ivar count: how many messages go in each direction, in all.
    @ivar each: how many of them are of one session.
    @ivar cut: a connection is cut after so many bytes at most.
    """

    transports: Sequence[str]
    count: int
    each: int
    cut: int


@attrs.define
class Outcome:
    """
    What has become of the messages.

    @ivar arrived: how many messages arrived.
    @ivar wrong: what arrived that wasn't next, or why a session ended that mustn't.
    @ivar resumed: how often a client came back.
    @ivar ended: how sessions ended before they had all messages.
    @ivar connections: how many connections there were.
    @ivar cut: how many of them were cut.
    """

    arrived: int = 0
    wrong: list[str] = attrs.Factory(list)
    resumed: int = 0
    ended: Counter[str] = attrs.Factory(Counter)
    connections: int = 0
    cut: int = 0


class Stream:
    """
    What one end of a session sends, and what has come from the other end.

    @ivar isDone: whether all has come.
    """

    def __init__(self, outcome: Outcome, name: str, count: int, seed: int, changed: Callable[[], None]) -> None:
        self._outcome, self._name, self._count, self._seed = outcome, name, count, seed
        self._changed = changed
        self._sent = self._turns = self.arrived = 0

    @property
    def isDone(self) -> bool:
        return self.arrived == self._count

    def message(self, number: int) -> str | bytes:
        """The message with a number: text or bytes, short or not so short."""
        size = (number * 7919 + self._seed) % 200 if number % 50 else 1500
        text = f"{number}:" + "é" * size
        return text if number % 3 else text.encode()

    def turn(self, socket: Any) -> None:
        """Send some messages; now and then receive nothing until the next turn."""
        self._turns += 1
        if self._turns % 16 == 7:
            socket.pauseReceiving()
        elif self._turns % 16 == 9:
            socket.resumeReceiving()
        for _ in range(BURST):
            if self._sent >= self._count or not socket.isDrained:
                return
            number, self._sent = self._sent, self._sent + 1
            socket.send(self.message(number))

    def came(self, data: str | bytes) -> None:
        if data != self.message(self.arrived):
            self._outcome.wrong.append(f"{self._name}: {data!r:.40} instead of {self.arrived}")
        self.arrived += 1
        self._outcome.arrived += 1
        if self.isDone:
            self._changed()


def _troubles(seed: int, most: int) -> Callable[[int], Trouble]:
    chance = random.Random(seed)

    def trouble(number: int) -> Trouble:
        how: Any = chance.choice(["fin", "rst"]) if chance.random() > 0.01 else "stall"
        pieces = (701, 1, 90, 3000) if chance.random() < 0.1 else ()
        return Trouble(pieces=pieces, direction=chance.choice([UP, DOWN]), after=chance.randrange(most), how=how)

    return trouble


async def run(lanes: Sequence[Lane], isResumed: bool, seed: int, seconds: float) -> Outcome:
    """
    Let all lanes exchange their messages, side by side.

    @param seconds: how long that may take.
    """
    outcome = Outcome()
    options = {**OPTIONS, "resumeTimeout": 60_000} if isResumed else OPTIONS
    server = listen("tcp:0:interface=127.0.0.1", **options)
    port = (await server.listening).getHost().port
    waiting: dict[str, Callable[[Any], None]] = {}
    server.on("connection", lambda socket: waiting[socket.request.args[b"lane"][0].decode()](socket))
    try:
        running = [
            Deferred.fromCoroutine(_lane(lane, name, port, waiting, isResumed, seed + name, outcome))
            for name, lane in enumerate(lanes)
        ]
        await within(gatherResults(running, consumeErrors=True), "all messages", seconds)
    finally:
        await server.close()
        # What waits for a later turn finds out then that nothing is left to do.
        await pause(0.01)
    assert server.stats().sessions == {"polling": 0, "websocket": 0}
    outcome.resumed = server.stats().resumed
    return outcome


async def _lane(
    lane: Lane, name: int, port: int, waiting: dict[str, Any], isResumed: bool, seed: int, outcome: Outcome
) -> None:
    left = lane.count
    closing: list[Deferred[None]] = []
    async with chaos(port, _troubles(seed, lane.cut)) as proxy:
        while left > 0:
            count = min(left, lane.each)
            left -= await _session(lane, str(name), proxy.port, waiting, isResumed, count, seed, outcome, closing)
            # What has passed is remembered by each.
            over = [each for each in proxy.links if each.isOver]
            outcome.connections += len(over)
            outcome.cut += sum([each.isCut for each in over])
            proxy.links[:] = [each for each in proxy.links if not each.isOver]
        # Of the last ones too nothing may be left.
        await gatherResults(closing)


async def _session(
    lane: Lane,
    name: str,
    port: int,
    waiting: dict[str, Any],
    isResumed: bool,
    count: int,
    seed: int,
    outcome: Outcome,
    closing: list[Deferred[None]],
) -> int:
    """
    Exchange messages in one session; return how many were exchanged in both directions.

    @param closing: where it is told when nothing is left of the client.
    """
    done: Deferred[None] = Deferred()
    loops: list[LoopingCall] = []

    def changed() -> None:
        if streams and all(each.isDone for each in streams) and not done.called:
            done.callback(None)

    def begin(socket: Any, mine: Stream) -> None:
        loop = LoopingCall(lambda: mine.turn(socket))
        loops.append(loop)
        loop.start(INTERVAL)

    streams = [Stream(outcome, f"{end} of lane {name}", count, seed, changed) for end in ("server", "client")]
    closed: list[tuple[str, str]] = []

    def over(reason: str, description: str) -> None:
        closed.append((str(reason), description))
        if not done.called:
            done.callback(None)

    def connected(socket: Any) -> None:
        socket.on("message", lambda data: streams[0].came(data))
        socket.on("close", left)
        begin(socket, streams[0])

    def left(reason: str, description: str) -> None:
        # Of a handshake whose response was lost nobody knows at the other end.
        isExpected = reason in REASONS or (reason == "server shutting down" and not isOpen)
        if not isExpected or (isResumed and isOpen and not done.called):
            outcome.wrong.append(f"lane {name} ended at the server: {reason}, {description}")

    isOpen = False
    waiting[name] = connected
    client = Client(
        f"http://127.0.0.1:{port}/",
        transports=lane.transports,
        query={"lane": name},
        resume=isResumed,
        maxBufferedPackets=OPTIONS["maxBufferedPackets"],
        maxBufferedBytes=OPTIONS["maxBufferedBytes"],
    )
    client.on("message", lambda data: streams[1].came(data))
    client.on("close", over)
    try:
        await client.connect()
    except ConnectionFailed as failure:
        outcome.ended[f"not opened: {failure.type}"] += 1
        return 0
    finally:
        if client.readyState != "open":
            for loop in loops:
                loop.stop()
            closing.append(client.close())
    isOpen = True
    begin(client, streams[1])
    await done
    isOpen = False
    for loop in loops:
        loop.stop()
    if closed:
        reason, description = closed[0]
        outcome.ended[reason] += 1
        if isResumed or reason not in REASONS:
            outcome.wrong.append(f"lane {name} ended: {reason}, {description}")
    closing.append(client.close())
    return min(each.arrived for each in streams)
