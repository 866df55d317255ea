"""Handlers of an application that raise, close, or send from wherever they are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from ..kit.wire import CLOSE, Arena, Client, Hostile, Record, eventually, http, pause, target, upgrade, within

pytestmark = [pytest.mark.no_cover, pytest.mark.everySite]

EVENTS = ("connection", *Record.EVENTS, "server flush", "server drain")
TRANSPORTS = ("polling", "websocket")
ONLY_ON_POLLING = ("upgrading", "upgrade")
CASES = [(event, each) for event in EVENTS for each in TRANSPORTS if each == "polling" or event not in ONLY_ON_POLLING]
everyEvent = pytest.mark.parametrize(("event", "transport"), CASES)


class Trap:
    """Does something, once, when an event of the next session comes; that is, after the session's record."""

    def __init__(self, here: Arena, event: str, do: Callable[[Any], object]) -> None:
        self.here = here
        self.event = event
        self.do = do
        self.isSprung = False
        self.bystanders = set(here.server.clients)
        if event == "connection" or event.startswith("server "):
            here.server.on(event.removeprefix("server "), lambda socket, *rest: self.spring(socket))
        else:
            here.server.on("connection", self.set)

    def set(self, socket: Any) -> None:
        if self.event == "error":
            socket.once("message", raising)
        socket.on(self.event, lambda *args: self.spring(socket))

    def spring(self, socket: Any) -> object:
        # The first events of the server come before the session is announced, and with that recorded.
        if self.isSprung or socket.id in self.bystanders or socket.id not in self.here.records:
            return None
        self.isSprung = True
        return self.do(socket)

    async def sprung(self) -> None:
        await eventually(lambda: self.isSprung, f"the event {self.event}")


def raising(*args: object) -> None:
    raise ZeroDivisionError("raised by a handler")


async def raisingLater(*args: object) -> None:
    await pause(0)
    raise ZeroDivisionError("raised by a handler")


def forget(event: str, loggedErrors: list[LogEvent]) -> None:
    """Where the event is `error`, something has raised before, on purpose."""
    if event == "error":
        assert len(loggedErrors) == 1
        loggedErrors.clear()


async def live(here: Arena, transport: str, event: str) -> Client:
    """Lead a session through everything that can happen to one, up to the event or its end."""
    client = Client(here)
    await client.start(transport)
    await client.say("4hello")
    if event == "heartbeat":
        await client.until(
            lambda: client.isOver or "heartbeat" in here.records[client.sid].happened, "a heartbeat", None
        )
    if event in ONLY_ON_POLLING and not await client.upgrade():
        await client.over()
    if event == "close":
        await client.close()
    return client


def options(event: str) -> dict[str, int]:
    return {"pingInterval": 50, "pingTimeout": 5000} if event == "heartbeat" else {}


@everyEvent
@pytest.mark.parametrize("isLater", [False, True], ids=["raises", "fails later"])
@pytest_twisted.ensureDeferred
async def test_raises(
    hostile: Hostile, event: str, transport: str, isLater: bool, loggedErrors: list[LogEvent]
) -> None:
    """What a handler raises is logged with its session and emitted as `error`; the session goes on."""
    async with hostile(**options(event)) as here:
        trap = Trap(here, event, raisingLater if isLater else raising)
        client = await live(here, transport, event)
        await trap.sprung()
        record = here.records[client.sid]
        expected = 2 if event == "error" else 1
        await eventually(lambda: len(loggedErrors) == expected, "the log of the failure")
        for each in loggedErrors:
            assert each["log_failure"].check(ZeroDivisionError)
            assert client.sid[:6] in each["session"]
        loggedErrors.clear()
        assert [type(each) for each in record.errors] == [ZeroDivisionError]
        if event != "close":
            await client.until(lambda: "hello" in client.messages, "the echo of what was sent first")
            await client.echo("still here")
            await client.close()
        assert record.happened.count("close") == 1
        assert (await record.closed())[0] == "transport close"


@everyEvent
@pytest.mark.parametrize("discard", [False, True], ids=["close", "discard"])
@pytest_twisted.ensureDeferred
async def test_closes(
    hostile: Hostile, event: str, transport: str, discard: bool, loggedErrors: list[LogEvent]
) -> None:
    """A handler may close its session from anywhere; the client is told, and `close` comes once and last."""
    async with hostile(**options(event)) as here:
        trap = Trap(here, event, lambda socket: socket.close(discard))
        client = await live(here, transport, event)
        await client.over()
        forget(event, loggedErrors)
        record = here.records[client.sid]
        reason, _ = await record.closed()
        await trap.sprung()
        assert reason == ("transport close" if event == "close" else "forced close")
        assert record.happened.count("close") == 1
        assert client.sid not in here.server.clients
        assert record.socket.readyState == "closed"
        assert record.happened[-1] == "close"


@everyEvent
@pytest_twisted.ensureDeferred
async def test_closesServer(hostile: Hostile, event: str, transport: str, loggedErrors: list[LogEvent]) -> None:
    """A handler may close the server from anywhere: everybody is told, and nothing is left."""
    async with hostile(**options(event)) as here:
        here.serverEnds = True
        ends: list[Deferred[None]] = []
        trap = Trap(here, event, lambda socket: ends.append(socket.server.close()))
        client = await live(here, transport, event)
        await client.over()
        await trap.sprung()
        forget(event, loggedErrors)
        await within(ends[0], "the end of the server")
        record = here.records[client.sid]
        assert record.end is not None
        assert record.end[0] == ("transport close" if event == "close" else "server shutting down")
        assert record.happened.count("close") == 1
        assert here.server.clientsCount == 0


@everyEvent
@pytest_twisted.ensureDeferred
async def test_sends(hostile: Hostile, event: str, transport: str, loggedErrors: list[LogEvent]) -> None:
    """A handler may send from anywhere; the message arrives, once, but not after the end."""
    async with hostile(**options(event)) as here:
        trap = Trap(here, event, lambda socket: socket.send("from inside") and None)
        client = await live(here, transport, event)
        await trap.sprung()
        forget(event, loggedErrors)
        if event != "close":
            await client.until(lambda: "from inside" in client.messages, "the message from inside")
            await client.echo("end")
        assert client.messages.count("from inside") == (event != "close")
        if event != "close":
            assert client.messages.count("hello") == 1
            await client.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("event", ["flush", "drain"])
@pytest.mark.parametrize("discard", [False, True], ids=["close", "discard"])
@pytest_twisted.ensureDeferred
async def test_closesBeforeConnection(hostile: Hostile, transport: str, event: str, discard: bool) -> None:
    """A session closed while its very first packet goes out is over; the application isn't handed a dead session."""
    async with hostile() as here:
        announced: list[str] = []
        closed = []
        bystanders = set(here.server.clients)

        def close(socket: Any, *packets: object) -> None:
            if socket.id not in bystanders and socket not in closed:
                closed.append(socket)
                socket.close(discard)

        here.server.on(event, close)
        here.server.on("connection", lambda socket: announced.append(str(socket.readyState)))
        wire = await here.say(http("GET", target()) if transport == "polling" else upgrade())
        await eventually(lambda: closed, "the event")
        if transport == "polling":
            assert (await wire.response()).status == 200
            if event == "drain" and not discard:
                # The client knows its id by now, and polls to learn that this is the end.
                assert (await here.get(closed[0].id)).packets == ["1"]
        else:
            assert (await wire.response()).status == 101
            while (await wire.frame()).opcode != CLOSE:
                pass
        await eventually(lambda: closed[0].readyState == "closed", "the end of the session")
        assert "closed" not in announced


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("what", ["raises", "closes", "discards", "sends", "fails later"])
@pytest_twisted.ensureDeferred
async def test_callback(hostile: Hostile, transport: str, what: str, loggedErrors: list[LogEvent]) -> None:
    """The same goes for the callback of a message that was sent."""
    async with hostile() as here:
        client = await here.client(transport)
        record = here.records[client.sid]
        socket = record.socket
        do: Callable[[Any], object] = {
            "raises": raising,
            "closes": lambda _: socket.close(),
            "discards": lambda _: socket.close(True),
            "sends": lambda _: socket.send("from inside") and None,
            "fails later": raisingLater,
        }[what]
        socket.send("called back", do)
        await client.until(lambda: "called back" in client.messages, "the message")
        if what in ("closes", "discards"):
            await client.over()
            assert (await record.closed())[0] == "forced close"
            assert record.happened[-1] == "close"
            return
        if what == "sends":
            await client.until(lambda: "from inside" in client.messages, "the message from inside")
        else:
            await record.saw("error")
            assert len(loggedErrors) == 1
            assert client.sid[:6] in loggedErrors[0]["session"]
            loggedErrors.clear()
        await client.echo("still here")
        await client.close()


@pytest_twisted.ensureDeferred
async def test_connectionError(hostile: Hostile, loggedErrors: list[LogEvent]) -> None:
    """A handler of `connection_error` that raises is logged; the client gets its answer all the same."""
    async with hostile() as here:
        here.server.on("connection_error", raising)
        response = await here.get("unknown")
        assert response.json == {"code": 1, "message": "Session ID unknown"}
        assert len(loggedErrors) == 1
        loggedErrors.clear()
