"""Events and handlers."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent
from twisted.python.failure import Failure

from engineio_twisted import EventEmitter, Server


def test_handlersAreCalledInOrder() -> None:
    """As they were added, with the event's arguments; others aren't called."""
    emitter, calls = EventEmitter(), []
    emitter.on("a", lambda *args: calls.append(("first", *args)))
    emitter.on("a", lambda *args: calls.append(("second", *args)))
    emitter.on("b", lambda *args: calls.append(("other", *args)))
    assert emitter.emit("a", 1, 2) is True
    assert calls == [("first", 1, 2), ("second", 1, 2)]
    assert emitter.emit("nobody") is False


def test_decorators() -> None:
    """`on` and `once` decorate, and leave the function what it is."""
    emitter, calls = EventEmitter(), []

    @emitter.on("a")
    def always() -> None:
        calls.append("always")

    @emitter.once("a")
    def first() -> None:
        calls.append("first")

    emitter.emit("a")
    emitter.emit("a")
    assert calls == ["always", "first", "always"]
    assert emitter.listeners("a") == [always]


def test_once() -> None:
    """Called once, also when the event comes again from inside it, and removable before."""
    emitter, calls = EventEmitter(), []

    def again(*_: Any) -> None:
        calls.append("again")
        emitter.emit("a")

    emitter.once("a", again)
    assert emitter.listeners("a") == [again]
    emitter.emit("a")
    assert (calls, emitter.listeners("a")) == (["again"], [])
    emitter.once("a", again)
    emitter.removeListener("a", again)
    assert emitter.emit("a") is False


def test_onceWhenTheEventComesAgainFromInsideAnother() -> None:
    """Is still once."""
    emitter, calls = EventEmitter(), []
    inner = iter([True])
    emitter.on("a", lambda: emitter.emit("a") if next(inner, False) else None)
    emitter.once("a", lambda: calls.append("once"))
    emitter.emit("a")
    assert calls == ["once"]


def test_onceRemovedWhileItsEventIsEmitted() -> None:
    """Who was there when the event began is called, once."""
    emitter, calls = EventEmitter(), []

    def last() -> None:
        calls.append("last")

    emitter.on("a", lambda: emitter.removeListener("a", last))
    emitter.once("a", last)
    emitter.emit("a")
    emitter.emit("a")
    assert calls == ["last"]


def test_removeListener() -> None:
    """The one added last goes; bound methods are found too; one not there is no error."""
    emitter, calls = EventEmitter(), []

    class Handlers:
        def handle(self) -> None:
            calls.append("handle")

    handlers = Handlers()
    emitter.removeListener("a", handlers.handle)
    emitter.on("a", handlers.handle)
    emitter.on("a", handlers.handle)
    emitter.removeListener("a", handlers.handle)
    emitter.emit("a")
    assert calls == ["handle"]


def test_handlersMayChangeTheHandlers() -> None:
    """What one adds or removes counts from the next event on; nobody is skipped."""
    emitter, calls = EventEmitter(), []

    def first() -> None:
        calls.append("first")
        emitter.removeListener("a", first)
        emitter.on("a", lambda: calls.append("new"))

    emitter.on("a", first)
    emitter.on("a", lambda: calls.append("second"))
    emitter.emit("a")
    emitter.emit("a")
    assert calls == ["first", "second", "second", "new"]


def test_notCallable() -> None:
    """What can't be called is refused at once, by name."""
    with pytest.raises(TypeError, match="handler 5 of the event 'a': expected something to call"):
        EventEmitter().on("a", 5)  # type: ignore[type-var]


def test_whatAHandlerRaisesStopsNobody(loggedErrors: list[LogEvent]) -> None:
    """It is logged with the event; the next handler is called."""
    emitter, calls = EventEmitter(), []
    emitter.on("a", lambda: 1 / 0)
    emitter.on("a", lambda: calls.append("next"))
    emitter.emit("a")
    assert calls == ["next"]
    assert [(event["event"], event["log_failure"].type) for event in loggedErrors] == [("a", ZeroDivisionError)]
    loggedErrors.clear()


def test_coroutinesAndDeferredsAreFollowed(loggedErrors: list[LogEvent]) -> None:
    """What they raise later is logged as well; they are never waited for."""
    emitter, calls = EventEmitter(), []
    gate: Deferred[None] = Deferred()

    @emitter.on("a")
    async def slow() -> None:
        calls.append("begun")
        await gate
        raise ValueError("late")

    @emitter.on("a")
    def deferred() -> Deferred[None]:
        failing: Deferred[None] = Deferred()
        gate.addCallback(lambda _: failing.errback(KeyError("later")))
        return failing

    emitter.on("a", lambda: calls.append("next"))
    emitter.emit("a")
    assert calls == ["begun", "next"]
    assert loggedErrors == []
    gate.callback(None)
    assert [event["log_failure"].type for event in loggedErrors] == [ValueError, KeyError]
    loggedErrors.clear()


def test_cancelledWorkIsNoError() -> None:
    """A handler's Deferred that somebody cancels is not logged."""
    emitter = EventEmitter()
    deferred: Deferred[None] = Deferred()
    emitter.on("a", lambda: deferred)
    emitter.emit("a")
    deferred.cancel()
    assert deferred.called
    assert issubclass(CancelledError, Exception)


# Subclasses that call handlers themselves


def test_handlersOf() -> None:
    """They are as they are called, in a tuple that stays as it is; any name may be asked for."""
    emitter, calls = EventEmitter(), []
    assert emitter.handlersOf("a") == ()
    emitter.on("a", calls.append)
    emitter.once("a", calls.append)
    handlers = emitter.handlersOf("a")
    assert emitter.handlersOf("b") == ()
    for each in handlers:
        each("first")
    emitter.on("a", calls.append)
    assert (len(handlers), len(emitter.handlersOf("a"))) == (2, 2)
    for each in handlers:
        each("again")
    assert calls == ["first", "first", "again"]
    assert Server().handlersOf("no such event") == ()


def test_aSubclassThatDispatches() -> None:
    """One elsewhere can call handlers for what they return, and have failures in one place."""
    failures: list[Any] = []

    class Answering(EventEmitter):
        def ask(self, event: str, *args: Any) -> list[Any]:
            answers = []
            for handler in self.handlersOf(event):
                try:
                    answers.append(handler(*args))
                except BaseException:
                    self.handlerFailed(event, args, Failure())
            return answers

        def handlerFailed(self, event: str, args: tuple[Any, ...], failure: Failure) -> None:
            failures.append((event, args, failure.getErrorMessage()))

    emitter = Answering()
    emitter.on("divide", lambda a, b: a // b)
    emitter.once("divide", lambda a, b: a % b)
    assert emitter.ask("divide", 7, 4) == [1, 3]
    assert emitter.ask("divide", 7, 4) == [1]
    assert emitter.ask("divide", 1, 0) == []
    assert [each[:2] for each in failures] == [("divide", (1, 0))]
