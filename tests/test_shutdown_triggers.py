"""What an application has to do when its server stops: when it is called, and how long it is waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from engineio_twisted import Server
from engineio_twisted.ends import CLOSE_TIMEOUT, GRACE
from engineio_twisted.service import EngineIOService

from .kit.draining import ask, start


class Stopping:
    """A server with one session, whose client polls when it is told to, and with a trigger for each phase."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.server = Server(reactor=self.clock, drainTimeout=9000, **options)
        self.socket, self.here = start(self.server)
        self.happened: list[Any] = []
        self.draining: Deferred[None] = Deferred()
        self.closing: Deferred[None] = Deferred()
        self.socket.on("close", lambda reason, _: self.happened.append(str(reason)))
        self.socket.on("message", self.happened.append)
        self.server.addShutdownTrigger("drain", lambda: self.called("drain", self.draining))
        self.server.addShutdownTrigger("close", lambda: self.called("close", self.closing))

    def called(self, phase: str, result: object) -> object:
        self.happened.append((phase, self.server.whyNotReady, str(self.socket.readyState), len(self.server.clients)))
        return result


DRAIN = ("drain", "draining", "open", 1)
CLOSE = ("close", "closing", "closed", 0)


def test_drain() -> None:
    """
    New sessions are refused, and those that there are go on until the trigger is over. Then they are drained.
    """
    here = Stopping()
    drained = here.server.drain()
    assert here.server.drain().called is False
    assert here.happened == [DRAIN]
    assert ask(here.server).status == 503
    here.clock.advance(4)
    assert ask(here.server, here.here, b"POST", b"4asked").written == b"ok"
    here.socket.send("answered")
    assert ask(here.server, here.here).written == b"4answered"
    assert here.happened == [DRAIN, "asked"]
    here.socket.send("last")
    here.draining.callback(None)
    assert here.socket.readyState == "closing"
    assert ask(here.server, here.here).written == b"4last\x1e1"
    here.clock.advance(0)
    assert (drained.called, here.clock.getDelayedCalls()) == (True, [])
    assert here.happened == [DRAIN, "asked", "server shutting down"]


def test_drainTimeout(warnings: list[str]) -> None:
    """A trigger that is never over takes no more than `drainTimeout`."""
    here = Stopping()
    closed = here.server.close(drain=True)
    here.closing.callback(None)
    here.clock.advance(8.9)
    assert here.happened == [DRAIN]
    here.clock.advance(0.1)
    assert here.happened == [DRAIN, "server shutting down", CLOSE]
    assert (closed.called, here.clock.getDelayedCalls()) == (True, [])
    assert warnings == ["drainTimeout is over before shutdown triggers of a drain: 1"]
    # It has no effect any more.
    here.draining.callback(None)


def test_whatIsLeftOfDrainTimeout() -> None:
    """Clients have no more time than without a trigger."""
    here = Stopping()
    drained = here.server.drain()
    here.clock.advance(6)
    here.draining.callback(None)
    here.clock.advance(2.9)
    assert here.socket.readyState == "closing"
    here.clock.advance(0.1)
    here.clock.advance(0)
    assert here.happened == [DRAIN, "server shutting down"]
    assert drained.called


def test_waitedForWithoutASession() -> None:
    """A trigger is waited for if there is no session at all."""
    here = Stopping()
    here.socket.close(discard=True)
    here.happened.clear()
    closed = here.server.close(drain=True)
    here.clock.advance(1)
    assert here.happened == [("drain", "draining", "closed", 0)]
    here.draining.callback(None)
    assert here.happened[1:] == [CLOSE]
    assert not closed.called
    here.closing.callback(None)
    assert (closed.called, here.clock.getDelayedCalls()) == (True, [])


def test_closingEndsTheWait(warnings: list[str]) -> None:
    """Whoever closes the server at once doesn't wait for what a drain does first."""
    here = Stopping()
    drained = here.server.drain()
    closed = here.server.close()
    assert here.happened == [DRAIN, "server shutting down", CLOSE]
    here.closing.callback(None)
    here.clock.advance(0)
    assert (drained.called, closed.called, here.clock.getDelayedCalls()) == (True, True, [])
    assert warnings == []


def test_closingWithoutADrain() -> None:
    """What is for a drain isn't called then, and not later either."""
    here = Stopping()
    closed = here.server.close()
    assert here.happened == ["server shutting down", CLOSE]
    assert not closed.called
    assert here.server.close().called is False
    here.server.drain()
    here.closing.callback(None)
    assert closed.called
    assert here.happened == ["server shutting down", CLOSE]


def test_closingInTime(loggedErrors: list[LogEvent]) -> None:
    """A trigger that is never over is given up after three seconds, and the log says so."""
    here = Stopping()
    closed = here.server.close()
    here.clock.advance(CLOSE_TIMEOUT)
    assert not closed.called
    here.clock.advance(GRACE)
    assert (closed.called, here.clock.getDelayedCalls()) == (True, [])
    (event,) = loggedErrors
    assert event["what"] == "1 shutdown trigger"
    loggedErrors.clear()


def wrongOnes() -> list[Callable[[], object]]:
    """Triggers that fail, each in its own way."""

    def raises() -> None:
        raise LookupError("at once")

    async def raisesLater() -> None:
        raise LookupError("later")

    def fails() -> Deferred[None]:
        failing: Deferred[None] = Deferred()
        failing.errback(LookupError("by a Deferred"))
        return failing

    return [raises, raisesLater, fails]


@pytest.mark.parametrize("phase", ["drain", "close"])
def test_triggersThatFail(phase: Any, loggedErrors: list[LogEvent]) -> None:
    """They are logged, and everything else happens as without them."""
    here = Stopping()
    for each in wrongOnes():
        here.server.addShutdownTrigger(phase, each)
    here.server.addShutdownTrigger(phase, lambda: here.happened.append("the last one"))
    here.draining.callback(None)
    here.closing.callback(None)
    closed = here.server.close(drain=True)
    assert ask(here.server, here.here).written == b"1"
    here.clock.advance(0)
    assert closed.called
    assert "the last one" in here.happened
    assert [each for each in here.happened if each != "the last one"] == [DRAIN, "server shutting down", CLOSE]
    failures = [str(each["log_failure"].value) for each in loggedErrors]
    assert failures == ["at once", "later", "by a Deferred"]
    loggedErrors.clear()


def test_aTriggerThatCloses() -> None:
    """It may close the server itself."""
    clock = Clock()
    server = Server(reactor=clock)
    start(server)
    closed: list[Deferred[None]] = []
    server.addShutdownTrigger("drain", lambda: closed.append(server.close()))
    server.addShutdownTrigger("close", lambda: closed.append(server.close()))
    assert server.drain().called
    assert [each.called for each in closed] == [True, True]
    assert clock.getDelayedCalls() == []


def test_removing() -> None:
    """One that was removed isn't called, nor is one that comes too late; one that wasn't added is no error."""
    server = Server(reactor=Clock())
    called: list[str] = []

    def first() -> None:
        called.append("first")

    def second() -> None:
        called.append("second")
        server.addShutdownTrigger("close", first)

    for each in (first, second):
        server.addShutdownTrigger("close", each)
    server.removeShutdownTrigger("close", first)
    server.removeShutdownTrigger("close", first)
    server.removeShutdownTrigger("drain", second)
    assert server.close().called
    assert called == ["second"]


def test_misuse() -> None:
    """Another phase, and what can't be called, are errors at once."""
    server: Any = Server(reactor=Clock())
    for method in (server.addShutdownTrigger, server.removeShutdownTrigger):
        with pytest.raises(ValueError, match="phase 'during': expected 'drain' or 'close'"):
            method("during", print)
    with pytest.raises(TypeError, match="shutdown trigger None: expected something to call when the server stops"):
        server.addShutdownTrigger("drain", None)


def test_theStopOfAService() -> None:
    """It drains, and so calls both."""
    clock = Clock()
    service = EngineIOService(reactor=clock)
    called: list[str] = []
    service.server.addShutdownTrigger("drain", lambda: called.append("drain"))
    service.server.addShutdownTrigger("close", lambda: called.append("close"))
    service.startService()
    assert service.stopService().called
    assert called == ["drain", "close"]
