"""
A network that delays, splits, reorders, stalls and cuts connections, at every byte of every phase (tests/kit/chaos.py).

Whatever it does, a session either goes on, with each message once and in order, or ends: once, for a reason that is
documented, and leaving nothing. No half message is seen on either side, and bystanders aren't harmed.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults

from engineio_twisted import FastSite, Site
from engineio_twisted.session.heartbeats import HeartbeatQueue
from engineio_twisted.session.states import HeartbeatState

from ..kit.chaos import DOWN, UP, How, Proxy, Trouble, chaos
from ..kit.clients import TRANSPORTS, Application, Run
from ..kit.wire import (
    BINARY,
    Arena,
    Client,
    Hostile,
    LostError,
    Record,
    Wire,
    eventually,
    http,
    makeFrame,
    pause,
    target,
    upgrade,
    within,
)

pytestmark = [pytest.mark.no_cover, pytest.mark.sockets]

# Nothing is due by itself, however slow the machine. Pings come when a test wants one: each is a connection more, and
# the number of a connection says what it is for.
TIMES = {"pingInterval": 60_000, "pingTimeout": 60_000, "upgradeTimeout": 60_000}
# Where something stalls, a deadline is what ends it.
SHORT = {"pingInterval": 60_000, "pingTimeout": 2000, "upgradeTimeout": 1000}
# Longer than what a frame says in one byte.
LONG = "long " * 30
AT_ONCE = 60

# How long the head of the 101 is.
ANSWER = 187
WAYS = ["upgrade", "polling", "websocket"]


@pytest.fixture(autouse=True)
def unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listen to nothing that happens while a message is sent: it would take another way."""
    events = [each for each in Record.EVENTS if each not in ("packetCreate", "flush", "drain")]
    monkeypatch.setattr(Record, "EVENTS", events)


# All as long as each other, so that what is sent is.
_numbers = itertools.count(100_000)


class Through(Arena):
    """
    An arena by way of a proxy.

    @ivar number: what the session that is opened this way is known by on the server.
    """

    def __init__(self, here: Arena, port: int) -> None:
        vars(self).update(vars(here))
        self.port = port
        self.number = next(_numbers)

    async def open(self) -> str:
        opening = (await self.ask(http("GET", target(number=self.number)))).packets[0]
        return str(json.loads(opening[1:])["sid"])

    async def openWebSocket(self, wires: list[Wire] | None = None) -> tuple[str, Wire]:
        wire = await self.webSocket(upgrade(target(transport="websocket", number=self.number)), wires=wires)
        return str(json.loads((await wire.text())[1:])["sid"]), wire

    def opened(self) -> list[Record]:
        """The sessions that the server opened this way."""
        number = b"%d" % self.number
        return [each for each in self.records.values() if number in each.socket.request.args.get(b"number", [])]


class Over(Exception):
    """The session is over for the client."""


class Talker(Client):
    """
    A client that does as the stock one does: when a request of its fails, it gives the session up.

    @ivar sent: what it sent.
    @ivar answered: how much of that the server said it has.
    """

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self.sent: list[str | bytes] = []
        self.answered = 0
        self.posting = 0

    async def say(self, packet: str) -> int:
        self.posting += 1
        status = await super().say(packet)
        self.posting -= 1
        if status != 200:
            self.isOver = True
            self.go()
        self.changed()
        return status

    async def converse(self, message: str | bytes) -> None:
        """Send a message, and wait until it comes back."""
        count = len(self.messages)
        self.sent.append(message)
        if isinstance(message, bytes):
            assert self._socket is not None
            self._socket.send(makeFrame(message, BINARY))
        elif await self.say("4" + message) == 200 and self._socket is None:
            self.answered = len(self.sent)
        await self.until(lambda: len(self.messages) > count or self.isOver, f"the echo of {message!r:.20}")
        self.goOn()
        self.answered = len(self.sent)

    def goOn(self) -> None:
        if self.isOver:
            raise Over

    async def upgrade(self) -> bool:
        """Move to WebSocket, as in L{Client.upgrade}, but only when no POST is on its way."""
        try:
            wire = await self.arena.connect(self.wires)
            wire.send(upgrade(target(transport="websocket", sid=self.sid)) + makeFrame("2probe"))
            # A server that is still busy with another one closes this; one that has lost a poll refuses it.
            if (await wire.response()).status != 101 or (await wire.frame()).payload != b"3probe":
                wire.drop()
                return False
        except LostError:
            return False
        self._isPausing = True
        await eventually(
            lambda: self.isOver or wire.isLost or (not self.posting and self._running.called), "the end of polling"
        )
        if self.isOver:
            return False
        if wire.isLost:
            self._isPausing = False
            if self._running.called:
                self._running = Deferred.fromCoroutine(self._poll())
            return False
        wire.send(makeFrame("5"))
        self._socket = wire
        self._running = Deferred.fromCoroutine(self._read(wire))
        return True

    def go(self) -> None:
        """Be gone."""
        for each in self.wires:
            each.drop()


def due(socket: Any) -> None:
    """Have what the heartbeat of a session waits for be over."""
    socket._host.heartbeats.waitFor(socket, HeartbeatQueue(socket.server.reactor, 0))


async def forget(record: Record) -> None:
    """Have a session be over whose client has gone without a word: nobody answers a ping."""
    due(record.socket)
    await eventually(lambda: record.end or record.socket.heartbeatState is HeartbeatState.AWAITING, "a ping")
    if not record.end:
        due(record.socket)


async def talk(here: Arena, client: Talker, way: str) -> None:
    """Go through all phases that a session has."""
    await client.start("websocket" if way == "websocket" else "polling")
    record = here.records[client.sid]
    if way != "websocket":
        await eventually(lambda: client.isOver or record.end or record.socket.transport.writable, "a waiting GET")
    client.goOn()
    await client.converse("one")
    await beat(client, record)
    if way == "upgrade":
        if not await client.upgrade():
            # What became of the WebSocket is nothing to the session, which may try again.
            client.goOn()
            await client.converse("two, still by polling")
            while not await client.upgrade():
                client.goOn()
                await pause(0.01)
        await client.converse("three")
        await record.saw("upgrade")
    await client.converse(LONG)
    if way != "polling":
        await client.converse(bytes(range(130)))
        await beat(client, record)
    await client.close()


async def beat(client: Talker, record: Record) -> None:
    """Go through a ping and its pong."""
    heard = record.happened.count("heartbeat")
    if not record.end:
        due(record.socket)
    await eventually(
        lambda: client.isOver or record.end or record.happened.count("heartbeat") > heard, "the answer to a ping"
    )
    client.goOn()


@attrs.frozen
class Outcome:
    """What became of a session."""

    case: str
    isComplete: bool
    reason: str | None


async def session(here: Arena, way: str, trouble: Callable[[int], Trouble], case: str = "") -> tuple[Outcome, Proxy]:
    """Have a client talk through a proxy, and check what has to be so whatever the proxy does."""
    async with chaos(here.port, trouble) as proxy:
        through = Through(here, proxy.port)
        client = Talker(through)
        isComplete = True
        try:
            await talk(here, client, way)
        except (LostError, Over):
            isComplete = False
        client.go()
    records = through.opened()
    assert len(records) < 2, case
    if not records:
        assert not isComplete
        return Outcome(case, False, None), proxy
    (record,) = records
    if record.end is None and record.socket.readyState == "open":
        await forget(record)
    reason, description = await record.closed()
    assert record.happened.count("close") == 1, (case, record)
    assert record.happened[-1] == "close", (case, record)
    assert record.errors == [], case
    assert record.socket.id not in here.server.clients, case
    # Each once, in order, and whole.
    assert record.messages == client.sent[: len(record.messages)], case
    assert client.messages == client.sent[: len(client.messages)], case
    assert len(record.messages) >= client.answered, case
    if isComplete:
        assert record.messages == client.messages == client.sent, case
        if not any(each.isCut for each in proxy.links):
            assert (reason, description) == ("transport close", "close packet"), case
    # Thousands would be searched for each of the next.
    del here.records[record.socket.id]
    return Outcome(case, isComplete, reason), proxy


async def together(cases: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of coroutine functions, many of which run at the same time."""
    semaphore = DeferredSemaphore(AT_ONCE)
    running = [semaphore.run(lambda case=case: Deferred.fromCoroutine(case())) for case in cases]
    return list(await gatherResults(running, consumeErrors=True))


def nothing(number: int) -> Trouble:
    return Trouble()


@attrs.frozen
class Stream:
    """All that goes one way on one connection, where nothing happens to it."""

    way: str
    number: int
    direction: str
    data: bytes

    @property
    def head(self) -> int:
        """How long the first request or response is, without its body."""
        return self.data.index(b"\r\n\r\n") + 4

    @property
    def boundaries(self) -> set[int]:
        """Where something ends: a line, a word of the first one, a frame, as all bytes of the short ones."""
        found = {match.end() for match in re.finditer(rb"\r\n|\r|[^\r\n]+|^[^ ]+ |^[^ ]+ [^ ]+ ", self.data)}
        frames = range(self.head, self.head + 60) if self.isWebSocket else range(0)
        ends = range(len(self.data) - 12, len(self.data) + 1)
        return {each for each in {0, 1, *found, *frames, *ends} if each <= len(self.data)}

    @property
    def isWebSocket(self) -> bool:
        return b"\r\nUpgrade: " in self.data[: self.head]

    def trouble(self, after: int, how: How) -> Callable[[int], Trouble]:
        """Cut this connection in this direction after so many bytes, and let all others be."""
        cut = Trouble(direction=self.direction, after=after, how=how)
        return lambda number: cut if number == self.number else Trouble()

    def allowed(self, after: int) -> set[tuple[bool, str | None]]:
        """
        Return what may become of a session where this is cut: whether all is said that was to be said, and how it ends.
        """
        isUp = self.direction == UP
        goesOn: tuple[bool, str | None] = (True, "transport close")
        isOver: tuple[bool, str | None] = (False, "transport close")
        isForgotten: tuple[bool, str | None] = (False, "ping timeout")
        if self.number == 0 and isUp and after < self.head:
            # What is no request yet opens no session.
            return {(False, None)}
        # Behind the last message comes the farewell.
        lost = {isOver, goesOn} if after > len(self.data) - 30 else {isOver}
        if self.way == "websocket":
            return lost
        if not self.isWebSocket:
            if self.number == 0:
                return {isForgotten, goesOn} if after >= len(self.data) else {isForgotten}
            # The client gives up, and with that a GET may be waiting or not; or it has said all but its farewell. One
            # that keeps its connection, or has its last answer, may notice nothing.
            ends = ("transport error", "ping timeout")
            return {goesOn, *((isComplete, reason) for isComplete in (True, False) for reason in ends)}
        probe, answer = len(makeFrame("2probe")), len(makeFrame("3probe", isMasked=False))
        if after < self.head + (probe if isUp else answer):
            # Nobody has given up polling.
            return {goesOn}
        if (isUp and after == self.head + probe) or (not isUp and after == self.head + answer):
            # Nobody has on the server; the client has if the answer came through.
            return {goesOn, isForgotten}
        if isUp and after < self.head + probe + len(makeFrame("5")):
            return {isForgotten}
        return lost


async def streams(here: Arena, way: str) -> list[Stream]:
    """What goes over all connections of a session to which nothing happens."""
    outcome, proxy = await session(here, way, nothing)
    assert outcome.isComplete
    return [
        Stream(way, each.number, direction, bytes(flow.passed))
        for each in proxy.links
        for direction, flow in ((UP, each.up), (DOWN, each.down))
    ]


async def cutAt(here: Arena, places: Iterable[tuple[Stream, int, How]]) -> None:
    """Have a session for each of the places in which a connection is cut, and check what becomes of it."""

    wrong = []

    async def cut(stream: Stream, after: int, how: How) -> None:
        case = f"{stream.way}, connection {stream.number} {stream.direction}, {how} after {after}"
        outcome, _ = await session(here, stream.way, stream.trouble(after, how), case)
        allowed = stream.allowed(after)
        if how == "stall":
            # What stalls is given up by whoever waits first.
            allowed |= {(whole, reason) for whole, _ in allowed for reason in ("ping timeout", "transport error")}
        if (outcome.isComplete, outcome.reason) not in allowed:
            wrong.append((outcome, allowed))

    await together([lambda place=place: cut(*place) for place in places])
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize(
    ("siteClass", "how"),
    [(FastSite, "fin"), (FastSite, "rst"), (Site, "fin"), pytest.param(Site, "rst", marks=pytest.mark.apart)],
)
@pytest.mark.parametrize("way", WAYS)
@pytest_twisted.ensureDeferred
async def test_cut(hostile: Hostile, siteClass: type[Site], way: str, how: How) -> None:
    """
    A connection is cut between any two parts of what is said: of a handshake, a poll, a POST, an opening, a probe, an
    upgrade, a message. Before the upgrade is complete, what becomes of the WebSocket is nothing to the session.
    """
    async with hostile(**TIMES) as here:
        places = [(each, after, how) for each in await streams(here, way) for after in sorted(each.boundaries)]
        assert len(places) > 100
        await cutAt(here, places)


@pytest.mark.apart
@pytest.mark.everySite
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("way", WAYS)
@pytest_twisted.ensureDeferred
async def test_cutAnywhere(hostile: Hostile, siteClass: type[Site], way: str, how: How) -> None:
    """The same after every single byte; on the site without the fast path after every fourth."""
    async with hostile(**TIMES) as here:
        step = 1 if siteClass is FastSite else 4
        places = [
            (each, after, how) for each in await streams(here, way) for after in range(0, len(each.data) + 1, step)
        ]
        assert len(places) > 1000 // step
        await cutAt(here, places)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest_twisted.ensureDeferred
async def test_stall(hostile: Hostile, way: str) -> None:
    """One direction of a connection stalls, so that nothing says that it is gone: a deadline ends what waits for it."""
    async with hostile(**SHORT) as here:
        places: list[tuple[Stream, int, How]] = [
            (each, after, "stall") for each in await streams(here, way) for after in sorted(each.boundaries)[::4]
        ]
        await cutAt(here, places)


PIECES = {"bytes": [1], "two": [2], "some": [3, 1, 7, 2, 20, 1, 1], "unlike": [50, 1], "whole": []}


@pytest.mark.parametrize("delay", [0.0, 0.002])
@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
@pytest_twisted.ensureDeferred
async def test_pieces(hostile: Hostile, pieces: list[int], delay: float) -> None:
    """Whatever the pieces in which bytes come, and however late each, all that is said arrives."""
    async with hostile(**TIMES) as here:
        ways = await together(
            [lambda way=way: session(here, way, lambda _: Trouble(pieces=pieces, delay=delay)) for way in WAYS]
        )
        assert all(outcome.isComplete for outcome, _ in ways)


@attrs.define
class Holding:
    """
    Hold one connection back until another has come so far, which was made after it.

    @ivar late: the number of the one that is held.
    @ivar early: that of the one that overtakes it.
    @ivar has: what the client has to have been sent on that one.
    """

    late: int
    early: int
    has: bytes
    proxy: Proxy | None = None
    held: Deferred[None] = attrs.field(factory=Deferred)

    def __call__(self, number: int) -> Trouble:
        return Trouble(held=self.held) if number == self.late else Trouble()

    async def overtake(self) -> None:
        def isAhead() -> bool:
            links = self.proxy.links if self.proxy is not None else []
            return len(links) > max(self.early, self.late) and self.has in links[self.early].down.passed

        await eventually(isAhead, f"connection {self.early} overtaking {self.late}")
        self.held.callback(None)


@pytest.mark.parametrize(
    ("late", "early", "has"),
    [
        pytest.param(1, 2, b"\r\nok", id="a POST before the first poll"),
        pytest.param(1, 3, b" 101 ", id="an opening before the first poll"),
        pytest.param(1, 3, b"3probe", id="a probe before the first poll"),
        pytest.param(2, 3, b" 101 ", id="an opening before a POST"),
        pytest.param(2, 3, b"3probe", id="a probe before a POST"),
        pytest.param(3, 4, b"\r\nok", id="a POST before an opening"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_overtaken(hostile: Hostile, late: int, early: int, has: bytes) -> None:
    """Connections come in another order than they were made in: all the same, each message arrives once, in order."""
    async with hostile(**TIMES) as here:
        holding = Holding(late, early, has)
        async with chaos(here.port, holding) as proxy:
            holding.proxy = proxy
            through = Through(here, proxy.port)
            client = Talker(through)
            await client.start()
            ahead = Deferred.fromCoroutine(holding.overtake())
            first = Deferred.fromCoroutine(client.converse("one"))
            await eventually(lambda: len(proxy.links) == 3, "the POST")
            upgraded = Deferred.fromCoroutine(client.upgrade())
            if late == 3:
                await eventually(lambda: len(proxy.links) == 4, "the opening")
                await first
                await client.converse("meanwhile")
            await within(ahead, "the one that was held")
            assert await within(upgraded, "the upgrade")
            await within(first, "the echo")
            await client.converse("two")
            (record,) = through.opened()
            await client.close()
            assert record.messages == client.messages == client.sent
            assert await record.closed() == ("transport close", "close packet")
            assert record.happened.count("upgrade") == 1


OPENING = b"Upgrade: websocket"
NODE = {
    "bytes": Trouble(pieces=[1]),
    "late": Trouble(pieces=[40, 3], delay=0.002),
    "no opening": Trouble(only=OPENING, after=40, how="rst"),
    "half an answer": Trouble(only=OPENING, direction=DOWN, after=40),
    "half a probe": Trouble(only=OPENING, direction=DOWN, after=ANSWER + 4, how="rst"),
}


@pytest.mark.node
@pytest.mark.parametrize("trouble", NODE.values(), ids=NODE)
@pytest_twisted.ensureDeferred
async def test_stockClient(serve: Any, client: Run, trouble: Trouble) -> None:
    """The stock client talks on, whatever becomes of its attempt to upgrade, and each message comes back once."""
    application = Application()
    running = await serve(application)
    async with chaos(running.port, lambda _: trouble) as proxy:
        program = client(f"http://127.0.0.1:{proxy.port}", "steady", TRANSPORTS["upgrade"], count=60)
        seen = await application.session()
        await program.finish()
        assert program.messages == seen.messages == [str(number) for number in range(60)]
        assert await seen.closed() == "transport close"
        assert ("upgrade" in program.names) is not bool(trouble.only), str(program)
        assert ("upgradeError" in program.names) is bool(trouble.only), str(program)
