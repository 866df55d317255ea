"""Applications of a client that raise, close, connect or send from wherever they are called, and at the wrong time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.logger import LogEvent

from engineio_twisted.client import Client, ConnectionFailed, FailureType, MessageTooLarge

from ..kit.client_servers import (
    OPEN,
    UPGRADABLE,
    WEBSOCKET,
    ScriptedServer,
    Step,
    answer,
    both,
    cuts,
    frame,
)
from ..kit.client_stories import EVENTS, Story, telling

TRANSPORTS = ("polling", "websocket")
# Those of a life without losses.
LIVED = [each for each in EVENTS if each not in ("suspend", "resume")]
MORE_EVENTS = ("data", "packetCreate", "flush")
ONLY_ON_POLLING = ("upgrading", "upgrade", "upgradeError")
CASES = [
    (event, transport)
    for event in (*LIVED, *MORE_EVENTS)
    for transport in TRANSPORTS
    if transport == "polling" or event not in ONLY_ON_POLLING
]
everyEvent = pytest.mark.parametrize(("event", "transport"), CASES)


def raising(*args: object) -> None:
    raise ZeroDivisionError("raised by a handler")


def server(transport: str, upgrades: bool) -> ScriptedServer:
    """A server for a whole life: it lets a client upgrade, or not, says something, pings, and leaves."""
    if transport == "websocket":
        return ScriptedServer(webSockets=[WEBSOCKET + frame(OPEN.decode())])
    switching: Step = WEBSOCKET if upgrades else answer(b"", "404 Not Found")
    return ScriptedServer(
        [answer(UPGRADABLE)], webSockets=[switching], frames={b"2probe": frame("3probe"), b"5": frame("6")}
    )


def transportsOf(first: str) -> list[str]:
    return ["polling", "websocket"] if first == "polling" else [first]


def tell(story: Story, *packets: str) -> None:
    """Let the server send packets on the transport of the session, if it has one."""
    server = story.server
    peers = [each for each in server.peers if not each.isLost and each.asked is not None]
    webSockets = [each for each in peers if each.isWebSocket]
    polls = [each for each in peers if each.isPolled]
    if story.client.transport is not None and story.client.transport.name == "websocket":
        for each in webSockets[-1:]:
            each.say(b"".join(frame(packet) for packet in packets))
    else:
        for each in polls[:1]:
            each.say(answer("\x1e".join(packets).encode()))
    story.advance(0)


def live(story: Story, event: str) -> None:
    """Lead a session through everything that can happen to one, as far as the application lets it."""
    story.connect()
    tell(story, "4one")
    tell(story, "6")
    story.advance(0.1)
    if story.client.readyState == "open":
        story.client.send("two", lambda _: None)
    story.advance(0)
    tell(story, "2")
    tell(story, "4three", "4four")
    tell(story, "1")
    story.advance(0.1)


class Trap:
    """Does something, once, when an event comes."""

    def __init__(self, story: Story, event: str, do: Callable[[Any], object]) -> None:
        self.story, self.do = story, do
        self.isSprung = False
        if event == "error":
            story.client.once("message", raising)
        story.client.on(event, self.spring)

    def spring(self, *args: object) -> object:
        if self.isSprung:
            return None
        self.isSprung = True
        return self.do(self.story.client)


def forget(event: str, loggedErrors: list[LogEvent]) -> None:
    if event == "error":
        assert len(loggedErrors) == 1
        loggedErrors.clear()


@everyEvent
def test_raises(event: str, transport: str, loggedErrors: list[LogEvent]) -> None:
    """What a handler raises is logged and emitted as `error`, and the session goes on."""
    with telling(server(transport, event != "upgradeError"), transports=transportsOf(transport)) as story:
        trap = Trap(story, event, raising)
        live(story, event)
        assert trap.isSprung
        assert len(loggedErrors) == (2 if event == "error" else 1)
        assert all(each["log_failure"].check(ZeroDivisionError) for each in loggedErrors)
        loggedErrors.clear()
        assert [type(error) for (error,) in story.all("error")] == [ZeroDivisionError]
        assert story.result is story.client
        assert [str(each) for each in story.messages()] == ["one", "three", "four"]
        assert story.all("close")[0][0] == "transport close"


@everyEvent
@pytest.mark.parametrize("discard", [False, True], ids=["close", "discard"])
def test_closes(event: str, transport: str, discard: bool, loggedErrors: list[LogEvent]) -> None:
    """A handler may close the client from anywhere; `close` comes once, and nothing behind it."""
    with telling(server(transport, event != "upgradeError"), transports=transportsOf(transport)) as story:
        over: list[object] = []
        trap = Trap(story, event, lambda client: client.close(discard).addBoth(over.append) and None)
        live(story, event)
        assert trap.isSprung
        forget(event, loggedErrors)
        story.advance(34)
        assert over == [None]
        assert story.client.readyState == "closed"
        if story.result is story.client:
            assert len(story.all("close")) == 1
            assert story.names()[-1] == "close"
        else:
            assert isinstance(story.result, ConnectionFailed)
            assert story.result.type == FailureType.CLOSED


@everyEvent
def test_connects(event: str, transport: str, loggedErrors: list[LogEvent]) -> None:
    """A handler that connects the same client again is told how it is done, and changes nothing."""
    with telling(server(transport, event != "upgradeError"), transports=transportsOf(transport)) as story:
        told: list[object] = []

        def again(client: Any) -> None:
            try:
                client.connect().addErrback(lambda failure: told.append(failure.value))
            except Exception as error:
                told.append(error)

        trap = Trap(story, event, again)
        live(story, event)
        assert trap.isSprung
        forget(event, loggedErrors)
        (error,) = told
        assert "make another one" in str(error), error
        assert story.result is story.client
        assert [str(each) for each in story.messages()] == ["one", "three", "four"]


@everyEvent
def test_cancels(event: str, transport: str, loggedErrors: list[LogEvent]) -> None:
    """To cancel what `connect` has returned ends the session if it isn't open, and is no error otherwise."""
    with telling(server(transport, event != "upgradeError"), transports=transportsOf(transport)) as story:
        trap = Trap(story, event, lambda client: story.connecting.cancel())
        story.connecting = story.client.connect()
        story.connecting.addBoth(story._connected)
        live2(story)
        assert trap.isSprung
        forget(event, loggedErrors)
        assert story.result is story.client or isinstance(story.result, CancelledError | ConnectionFailed)


def live2(story: Story) -> None:
    story.connect = lambda: story  # type: ignore[method-assign]
    story.network.settle()
    live(story, "")


@everyEvent
@pytest.mark.parametrize("how", ["reset", "pause", "send"])
def test_does(event: str, transport: str, how: str, loggedErrors: list[LogEvent]) -> None:
    """A handler may cut the connection, pause, or send, from anywhere."""
    with telling(server(transport, event != "upgradeError"), transports=transportsOf(transport)) as story:

        def do(client: Any) -> None:
            if how == "reset":
                for each in story.server.peers:
                    if not each.isLost:
                        each.cut()
            elif how == "pause":
                client.pauseReceiving()
                client.resumeReceiving()
            else:
                client.send("from a handler")
                client.sendAll(["a", b"b"])

        trap = Trap(story, event, do)
        live(story, event)
        assert trap.isSprung
        forget(event, loggedErrors)
        if how == "pause" and story.result is story.client:
            assert [str(each) for each in story.messages()] == ["one", "three", "four"]


class TestCalls:
    """Calls at the wrong time."""

    def test_closeFirst(self) -> None:
        """A client that was never connected can be closed, and connects no more."""
        with telling(ScriptedServer()) as story:
            over: list[object] = []
            story.client.close().addBoth(over.append)
            assert over == [None]
            failed: list[Any] = []
            try:
                story.client.connect().addErrback(lambda failure: failed.append(failure.value))
            except Exception as error:
                failed.append(error)
            assert len(failed) == 1
            assert story.server.asked == []

    def test_connectAfterClose(self) -> None:
        """So does one that was."""
        with telling(ScriptedServer([answer(OPEN)] * 2)) as story:
            story.connect()
            story.client.close()
            story.advance(1)
            failed: list[Any] = []
            try:
                story.client.connect().addErrback(lambda failure: failed.append(failure.value))
            except Exception as error:
                failed.append(error)
            assert len(failed) == 1
            assert len([each for each in story.server.asked if each.method == "GET"]) <= 2

    def test_closeOften(self) -> None:
        """Each call of close has a Deferred of its own, and all fire."""
        with telling(ScriptedServer([answer(OPEN)])) as story:
            story.connect()
            over: list[object] = []
            for _ in range(5):
                story.client.close().addBoth(over.append)
            cancelled = story.client.close().addErrback(lambda failure: failure.trap(CancelledError))
            cancelled.cancel()
            story.advance(4)
            story.client.close().addBoth(over.append)
            assert over == [None] * 6
            assert story.server.bodies() == [b"1"]

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_sendFirst(self, transport: str) -> None:
        """What is sent before the session is open is dropped or refused, but never half."""
        with telling(server(transport, True), transports=[transport]) as story:
            story.client.send("early")
            story.connect()
            story.client.send("in time")
            story.advance(0)
            said = b" ".join([*story.server.bodies(), *story.server.texts()])
            assert b"in time" in said
            assert story.client.readyState == "open"

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_allBefore(self, transport: str) -> None:
        """Nothing that can be asked of a client fails before it is connected, or after it is closed."""
        with telling(server(transport, True), transports=[transport]) as story:
            self.ask(story.client)
            story.connect()
            self.ask(story.client)
            story.client.close(discard=True)
            self.ask(story.client)
            story.advance(4)
            self.ask(story.client)

    def ask(self, client: Any) -> None:
        repr(client)
        str(client)
        for name in ("id", "readyState", "upgrading", "upgraded", "writeBuffer", "bufferedAmount", "heldBytes"):
            getattr(client, name)
        for name in ("writable", "isDrained", "logName", "protocol", "transport", "failure"):
            getattr(client, name)
        client.pauseReceiving()
        client.resumeReceiving()

    def test_cancel(self) -> None:
        """To cancel connect closes the client at once."""
        for transport in TRANSPORTS:
            for isReachable in (True, False):
                with telling(ScriptedServer(), transports=[transport]) as story:
                    story.endpoint.isReachable = isReachable
                    story.connect()
                    story.connecting.cancel()
                    story.advance(4)
                    assert isinstance(story.result, CancelledError | ConnectionFailed)
                    assert story.client.readyState == "closed"
                    assert story.isQuiet, story.left()

    def test_connectsInClose(self) -> None:
        """Another client may be connected from the close event of one."""
        with telling(ScriptedServer([answer(OPEN + b"\x1e1")])) as first:
            others: list[Any] = []

            def another(*args: object) -> None:
                client: Any = Client("http://localhost", reactor=first.clock, endpoint=first.endpoint)
                client.connect().addBoth(others.append)
                first.others = client  # type: ignore[attr-defined]

            first.client.on("close", another)
            first.server.gets.append(answer(OPEN))
            first.connect()
            first.advance(0.1)
            assert others == [first.others]  # type: ignore[attr-defined]
            first.others.close(discard=True)  # type: ignore[attr-defined]


class TestTooLarge:
    """Messages that wait for the open packet, and are larger than what it allows."""

    def opening(self) -> ScriptedServer:
        return ScriptedServer([answer(OPEN.replace(b"1000000", b"10"))])

    @pytest.mark.parametrize("discard", [False, True])
    def test_closes(self, discard: bool) -> None:
        """A callback that closes the client is the last thing that is told but the close."""
        told: list[object] = []
        with telling(self.opening()) as story:

            def close(error: object) -> None:
                told.append(error)
                story.client.close(discard)

            for _ in range(3):
                story.client.send("x" * 100, close)
            story.connect()
            story.advance(1)
            if discard:
                assert len(told) == 1
                assert story.names() == ["close"]
            assert isinstance(told[0], MessageTooLarge)
            assert story.names()[-1] == "close"

    def test_sends(self) -> None:
        """A callback may send the next one."""
        told: list[object] = []
        with telling(self.opening()) as story:

            def again(result: object) -> None:
                told.append(result)
                if len(told) < 5:
                    story.client.send("x" * 100, again)

            story.client.send("x" * 100, again)
            story.client.send("y")
            story.connect()
            assert [type(each) for each in told] == [MessageTooLarge] * 5
            assert story.server.bodies() == [b"4y"]


class TestRecursion:
    """Applications that call themselves."""

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_sendInCallback(self, transport: str) -> None:
        """Each callback sends the next message, more often than the stack is deep."""
        sent: list[int] = []
        with telling(server(transport, False), transports=[transport]) as story:
            story.connect()

            def more(_: object) -> None:
                if len(sent) < 2_500:
                    sent.append(len(sent))
                    story.client.send(f"{len(sent)}", more)

            more(None)
            story.advance(1)
            story.advance(0)
            assert len(sent) == 2_500
            heard = (
                story.server.texts() if transport == "websocket" else b"\x1e".join(story.server.bodies()).split(b"\x1e")
            )
            assert heard == [b"4%d" % (each + 1) for each in range(2_500)]

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_sendInDrain(self, transport: str) -> None:
        """So with the event of it."""
        with telling(server(transport, False), transports=[transport]) as story:
            story.connect()
            count = 0

            def more(*_: object) -> None:
                nonlocal count
                count += 1
                if count < 2_000:
                    story.client.send("x")

            story.client.on("drain", more)
            story.client.send("x")
            story.advance(1)
            assert count == 2_000

    def test_closeDeep(self) -> None:
        """A client that is closed where the stack is nearly full is closed or not, but not half."""
        for depth in range(0, 120, 3):
            with telling(
                ScriptedServer(webSockets=[WEBSOCKET + frame(OPEN.decode())]), transports=["websocket"]
            ) as story:
                story.connect()
                deep(story, depth)
                story.advance(4)


def deep(story: Story, room: int) -> None:
    def descend() -> None:
        try:
            descend()
        except RecursionError:
            pass
        nonlocal left
        left -= 1
        if left == 0:
            try:
                story.client.close()
            except RecursionError:
                pass

    left = room + 1
    descend()


class TestMemory:
    """What is left of clients."""

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_closed(self, transport: str) -> None:
        """Of one that is closed nothing is."""
        story = Story(server(transport, True), "http://localhost", None, {"transports": transportsOf(transport)})
        live(story, "")
        reference = weakref.ref(story.client)
        story.client.close()
        story.advance(40)
        assert story.isQuiet, story.left()
        # All that refers to it is of this test.
        del story
        gc.collect()
        assert reference() is None

    def test_never(self) -> None:
        """Nor of one that never was connected."""
        story = Story(ScriptedServer(), "http://localhost", None, {})
        reference = weakref.ref(story.client)
        del story
        gc.collect()
        assert reference() is None

    def test_dropped(self) -> None:
        """One that is open and that nobody refers to lives as long as its session."""
        with telling(ScriptedServer([answer(OPEN)])) as story:
            story.connect()
            gc.collect()
            assert story.client.readyState == "open"


class TestTwo:
    """Two clients that share something."""

    def test_endpoint(self) -> None:
        """One that fails doesn't harm the other."""
        with telling(ScriptedServer([answer(OPEN), b""])) as story:
            story.connect()
            other: Any = Client("http://localhost", reactor=story.clock, endpoint=story.endpoint)
            failed: list[Any] = []
            story.server.gets.append(both(answer(b"<html>", "200 OK", "Connection: close"), cuts()))
            other.connect().addErrback(lambda failure: failed.append(failure.value))
            story.advance(1)
            assert [each.type for each in failed] == [FailureType.NOT_ENGINEIO]
            assert story.client.readyState == "open"
            tell(story, "4still")
            assert story.messages() == ["still"]
