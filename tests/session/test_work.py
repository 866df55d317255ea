"""What an application begins for a session, and what it remembers of it: all of it is over when the session is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater

from engineio_twisted import CloseReason, Server, SessionWork
from engineio_twisted.interfaces import Closing
from engineio_twisted.session.socket import Socket
from engineio_twisted.session.work import FEW
from engineio_twisted.testing import MemoryServer

from ..kit.sessions import Session, arrive

END = [
    pytest.param(lambda session: session.socket.close(discard=True), "forced close", id="close"),
    pytest.param(lambda session: session.socket.shutDown(), "server shutting down", id="shutdown"),
    pytest.param(
        lambda session: session.socket.transportClosed(
            session.transport, Closing(CloseReason.TRANSPORT_ERROR, "reset")
        ),
        "transport error",
        id="lost",
    ),
    pytest.param(
        lambda session: session.clock.advance(25) or session.clock.advance(20), "ping timeout", id="ping timeout"
    ),
]


def errors(session: Session) -> list[Any]:
    """What was emitted as `error`."""
    return [each[1] for each in session.events if each[0] == "error"]


def forgive(loggedErrors: Any, session: Session, count: int = 1) -> None:
    """So many errors were to be logged, each with the session."""
    assert [each["session"] for each in loggedErrors] == [session.socket.logName] * count
    loggedErrors.clear()


# whenClosed


@pytest.mark.parametrize(("end", "reason"), END)
def test_whenClosed(end: Callable[[Session], Any], reason: str) -> None:
    """It fires with the reason behind the handlers of `close`, in the order of asking; after the end at once."""
    session = Session()
    told: list[Any] = []
    session.socket.on("close", lambda *_: told.append("close"))
    for name in ("first", "second"):
        session.socket.whenClosed().addCallback(lambda given, name=name: told.append((name, given)))
    end(session)
    assert told[0] == "close"
    assert told[1:] == [("first", reason), ("second", reason)]
    session.socket.whenClosed().addCallback(told.append)
    assert told[3:] == [reason]
    assert isinstance(told[3], CloseReason)


def test_whenClosedInsideAHandlerOfClose() -> None:
    """There it has fired."""
    session = Session()
    told: list[Any] = []
    session.socket.on("close", lambda *_: session.socket.whenClosed().addCallback(told.append) and None)
    session.socket.close()
    assert told == ["forced close"]


def test_whenClosedCancelled() -> None:
    """Who waits no longer is forgotten, and the others aren't touched."""
    session = Session()
    told: list[Any] = []
    patient, other = session.socket.whenClosed(), session.socket.whenClosed()
    patient.addCallback(told.append)
    other.addErrback(lambda failure: told.append(failure.check(CancelledError)))
    other.cancel()
    assert told == [CancelledError]
    session.socket.close()
    assert told == [CancelledError, "forced close"]


def test_whenClosedCancelsTheOthers() -> None:
    """Who is told first may cancel the rest: those are told that, and the session ends as ever."""
    session = Session()
    told: list[Any] = []
    waiting = [session.socket.whenClosed() for _ in range(4)]

    def first(reason: CloseReason) -> None:
        told.append(reason)
        for each in waiting[1:]:
            each.cancel()

    waiting[0].addCallback(first)
    for each in waiting[1:]:
        each.addBoth(lambda failure: told.append(failure.check(CancelledError)))
    session.socket.close()
    assert told == ["forced close", *[CancelledError] * 3]
    assert session.isQuiet()


def test_waitingInACoroutine() -> None:
    """It can be awaited, where the application waits for nothing else."""
    session = Session()
    told: list[Any] = []

    async def watch() -> None:
        told.append(await session.socket.whenClosed())

    waiting = Deferred.fromCoroutine(watch())
    session.socket.close()
    assert (told, waiting.called) == (["forced close"], True)


# data


def test_data() -> None:
    """What one session's handlers put there is there for the others, and no other session's; also on `close`."""
    session, other = Session(), Session()
    seen: list[Any] = []
    session.socket.on("close", lambda *_: seen.append(session.socket.data["name"]))
    session.socket.data["name"] = "ann"
    assert other.socket.data == {}
    session.socket.close()
    assert seen == ["ann"]


def test_nothingUnused() -> None:
    """A session of which nothing of this is used has no more attributes than without."""
    session = Session()
    assert not {"data", "work", "ending"} & vars(session.socket).keys()


# follow


def test_followCoroutine() -> None:
    """What comes of it is for who asks; at the end of the session it is cancelled, and can clean up."""
    session = Session()
    happened: list[Any] = []

    async def work(seconds: float) -> str:
        try:
            await deferLater(session.clock, seconds)
            return f"{seconds} s"
        finally:
            happened.append(session.socket.readyState)

    for seconds in (1, 2):
        session.socket.follow(work(seconds)).addBoth(happened.append)
    session.clock.advance(1)
    assert happened == ["open", "1 s"]
    session.socket.on("close", lambda *_: happened.append("close"))
    session.socket.close()
    assert happened[2:] == ["closed", None, "close"]
    assert (errors(session), session.isQuiet()) == ([], True)


def test_followDeferred() -> None:
    """A Deferred is followed as it is, and cancelled."""
    session = Session()
    cancelled: list[Any] = []
    done: Deferred[int] = Deferred()
    pending: Deferred[int] = Deferred(cancelled.append)
    assert session.socket.follow(done) is done
    session.socket.follow(pending)
    done.callback(3)
    assert done.result == 3
    session.socket.close()
    assert cancelled == [pending]


def test_followCancelled() -> None:
    """Work can be given up before the session ends."""
    session = Session()
    happened: list[str] = []

    async def work() -> None:
        try:
            await Deferred()
        finally:
            happened.append("over")

    session.socket.follow(work()).cancel()
    assert happened == ["over"]
    session.socket.close()
    assert (happened, errors(session)) == (["over"], [])


@pytest.mark.parametrize("given", ["Deferred", "coroutine", "handler"])
def test_followedTaskOfAsyncio(given: str) -> None:
    """A task of asyncio is cancelled with its Deferred, and fails with an exception of its own, which is no fault."""
    session = Session()
    future: asyncio.Future[Any] = asyncio.Future(loop=(loop := asyncio.new_event_loop()))
    deferred = Deferred.fromFuture(future)

    async def work() -> None:
        await deferred

    if given == "handler":

        async def received(_data: str) -> None:
            await deferred

        session.socket.on("message", received)
        arrive(session, "hello")
        deferred.cancel()
    else:
        session.socket.follow(deferred if given == "Deferred" else work())
    session.socket.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert (future.cancelled(), errors(session)) == (True, [])


def test_followThatFails(loggedErrors: Any) -> None:
    """What it raises is logged with the session, and emitted as `error`; nothing else stops."""
    session = Session()
    failing: Deferred[Any] = Deferred()
    told: list[Any] = []

    async def work() -> None:
        await failing

    session.socket.follow(work()).addBoth(told.append)
    failure = LookupError("no work")
    failing.errback(failure)
    assert (told, errors(session), session.socket.readyState) == ([None], [failure], "open")
    forgive(loggedErrors, session)
    session.socket.close()


def test_followThatFailsInTheEnd(loggedErrors: Any) -> None:
    """What it raises when it is cancelled comes before `close`, which is the last event; the others are stopped too."""
    session = Session()
    happened: list[str] = []

    async def work() -> None:
        try:
            await Deferred()
        except CancelledError:
            raise LookupError("not cancelled so easily") from None

    def canceller(_: object) -> None:
        raise LookupError("not cancelled at all")

    async def last() -> None:
        try:
            await Deferred()
        finally:
            happened.append("stopped")

    session.socket.follow(work())
    session.socket.follow(Deferred(canceller)).addErrback(lambda _: None)
    session.socket.follow(last())
    session.socket.close()
    assert happened == ["stopped"]
    assert [each[0] for each in session.events if each[0] in ("error", "close")] == ["error", "error", "close"]
    forgive(loggedErrors, session, 2)


def test_followAnythingElse() -> None:
    """What can't be followed is an error."""
    session = Session()
    with pytest.raises(TypeError, match="3 can't be followed: expected a coroutine or a Deferred"):
        session.socket.follow(3)  # type: ignore[arg-type]


def test_workThatEndsTheSession() -> None:
    """Work whose beginning closes the session is cancelled where it first waits."""
    session = Session()
    happened: list[str] = []

    async def work() -> None:
        session.socket.close()
        try:
            await Deferred()
        finally:
            happened.append("over")

    session.socket.follow(work())
    assert happened == ["over"]
    again = Session()
    loop = again.socket.callEvery(1, lambda: again.socket.close() or Deferred(), now=True)
    assert not loop.running
    assert again.isQuiet()
    later = Session()
    later.socket.callLater(1, lambda: later.socket.close() or Deferred())
    later.clock.advance(1)
    assert later.isQuiet()


def test_afterTheEnd() -> None:
    """What is begun then doesn't run; a handler of `close` need not ask."""
    session = Session()
    happened: list[Any] = []
    cancelled: list[Any] = []

    async def work() -> None:
        happened.append("work")

    def closed(*_: Any) -> None:
        session.socket.follow(work()).addCallback(lambda result: cancelled.append(result))
        session.socket.follow(Deferred(cancelled.append))
        assert not session.socket.callLater(1, happened.append, "later").active()
        assert not session.socket.callEvery(1, happened.append, "every", now=True).running

    session.socket.on("close", closed)
    session.socket.close()
    closed()
    session.clock.advance(5)
    assert (happened, len(cancelled), errors(session)) == ([], 4, [])
    assert session.isQuiet()


# A layer's own


def test_workOfALayer() -> None:
    """Anything that takes failures may have work of its own, which ends when that says so, for its own reason."""
    failed: list[tuple[str, Any]] = []

    class Room:
        def handlerFailed(self, event: str, args: tuple[Any, ...], failure: Any) -> None:
            failed.append((event, failure.value.args))

    clock = Clock()
    work: SessionWork[str] = SessionWork(Room(), clock)
    ended: list[str] = []
    pending: Deferred[None] = Deferred()

    def fail() -> None:
        raise LookupError("no")

    work.whenClosed().addCallback(ended.append)
    work.callLater(1, fail)
    work.callEvery(1, lambda: None, now=False)
    work.follow(pending)
    clock.advance(1)
    assert failed == [("callLater", ("no",))]
    work.stop()
    work.closed("the last one has left")
    assert (ended, pending.called, clock.getDelayedCalls()) == (["the last one has left"], True, [])


# callLater


def test_callLater() -> None:
    """It is called in time, with what was given; never after the end."""
    session = Session()
    happened: list[Any] = []
    session.socket.callLater(1, lambda *args, **keywords: happened.append((args, keywords)), 1, two=2)
    session.socket.callLater(3, happened.append, "never")
    session.clock.advance(0.99)
    assert happened == []
    session.clock.advance(0.01)
    assert happened == [((1,), {"two": 2})]
    session.socket.close()
    assert session.isQuiet()
    session.clock.advance(5)
    assert len(happened) == 1


def test_callLaterOfACoroutine(loggedErrors: Any) -> None:
    """What it returns is followed: cancelled at the end, and what it raises told."""
    session = Session()
    happened: list[Any] = []

    async def work() -> None:
        try:
            await Deferred()
        finally:
            happened.append("over")

    def fail() -> None:
        raise LookupError("no")

    session.socket.callLater(0, work)
    session.socket.callLater(0, fail)
    session.clock.advance(0)
    assert [str(each) for each in errors(session)] == ["no"]
    session.socket.close()
    assert happened == ["over"]
    forgive(loggedErrors, session)


def test_callLaterMoved() -> None:
    """What it returns is the clock's own: it can be moved and cancelled. Cancelled ones don't pile up."""
    session = Session()
    happened: list[str] = []
    session.socket.callLater(1, happened.append, "moved").reset(2)
    for _ in range(FEW * 50):
        session.socket.callLater(1, happened.append, "cancelled").cancel()
    assert session.socket._work is not None
    assert len(session.socket._work._calls) <= FEW
    session.clock.advance(1)
    assert happened == []
    session.clock.advance(1)
    assert happened == ["moved"]
    session.socket.close()


def test_manyCalls() -> None:
    """As many may wait as there are."""
    session = Session()
    happened: list[int] = []
    for number in range(FEW * 5):
        session.socket.callLater(1, happened.append, number)
    session.clock.advance(1)
    assert sorted(happened) == list(range(FEW * 5))
    session.socket.close()


# callEvery


def test_callEvery() -> None:
    """It is called at each interval, the first time after one, or at once; until it is stopped, or the session ends."""
    session = Session()
    happened: list[str] = []
    stopped = session.socket.callEvery(1, happened.append, "first")
    session.socket.callEvery(1, happened.append, "now", now=True)
    assert happened == ["now"]
    session.clock.advance(1)
    assert happened == ["now", "first", "now"]
    stopped.stop()
    session.clock.advance(1)
    assert happened[3:] == ["now"]
    session.socket.close()
    assert session.isQuiet()


def test_callEveryWaits() -> None:
    """What it returns is waited for, and cancelled at the end."""
    session = Session()
    happened: list[Any] = []

    async def work() -> None:
        happened.append("begun")
        try:
            await Deferred()
        finally:
            happened.append(session.socket.readyState)

    session.socket.callEvery(1, work)
    session.clock.pump([1] * 5)
    assert happened == ["begun"]
    session.socket.close()
    assert happened == ["begun", "closed"]
    assert (errors(session), session.isQuiet()) == ([], True)


def test_callEveryStoppedWhileItWaits() -> None:
    """A loop that was stopped lets what it waits for go on; the end of the session doesn't."""
    session = Session()
    cancelled: list[Any] = []
    loop = session.socket.callEvery(1, lambda: Deferred(cancelled.append))
    session.clock.advance(1)
    loop.stop()
    assert cancelled == []
    session.socket.close()
    assert len(cancelled) == 1
    assert (errors(session), session.isQuiet()) == ([], True)


def test_callEveryThatFails(loggedErrors: Any) -> None:
    """What it raises ends it, as with any LoopingCall; it is logged with the session, and emitted as `error`."""
    session = Session()

    def fail() -> None:
        raise LookupError("no")

    loop = session.socket.callEvery(1, fail)
    session.clock.advance(1)
    assert not loop.running
    assert [str(each) for each in errors(session)] == ["no"]
    forgive(loggedErrors, session)
    session.clock.advance(5)
    session.socket.close()


def test_closingFromInside() -> None:
    """The call may be what ends the session."""
    session = Session()
    session.socket.callEvery(1, lambda: session.socket.close())
    session.clock.advance(1)
    assert session.closes == [("forced close", "closed by the server")]
    assert (errors(session), session.isQuiet()) == ([], True)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_wrongSeconds(seconds: float) -> None:
    """A time that isn't one is an error."""
    session = Session()
    for begin in (session.socket.callLater, session.socket.callEvery):
        with pytest.raises(ValueError, match="seconds: expected 0 or more"):
            begin(seconds, int)


# All together


@pytest.mark.parametrize(("end", "reason"), END)
def test_everyEnd(end: Callable[[Session], Any], reason: str) -> None:
    """Whatever ends the session, all is over when `close` is emitted."""
    session = Session()
    over: list[bool] = []
    calls: list[int] = []
    pending: Deferred[Any] = Deferred()
    pending.addErrback(lambda _: None)

    @session.socket.on("close")
    def closed(given: str, _: str) -> None:
        over.append(given == reason and pending.called and not later.active() and not loop.running)

    later = session.socket.callLater(100, int)
    loop = session.socket.callEvery(7, calls.append, 1)
    session.socket.follow(pending)
    end(session)
    assert over == [True]
    assert session.isQuiet()


def test_aSessionOfAServer() -> None:
    """All of it works from inside handlers, by the clock of the server, and ends with its session alone."""
    ticks: list[str] = []

    def application(server: Server) -> None:
        @server.on("connection")
        def opened(socket: Socket) -> None:
            socket.data["count"] = 0

            def tick() -> None:
                socket.data["count"] += 1
                ticks.append(socket.id)

            @socket.on("message")
            def begin(_: object) -> None:
                socket.callEvery(1, tick)

    with MemoryServer(application) as kit:
        first, second = kit.connect(), kit.connect("websocket")
        for each in (first, second):
            each.send("go")
        kit.advance(1)
        assert ticks == [first.sid, second.sid]
        first.close()
        kit.advance(1)
        assert ticks[2:] == [second.sid]
        assert second.socket.data == {"count": 2}


def test_nothingIsKept() -> None:
    """A session that is over isn't kept alive by what was begun for it."""
    session = Session()
    socket = session.socket
    socket.callLater(9, socket.send, "x")
    socket.callEvery(9, socket.send, "x")
    socket.follow(Deferred())
    socket.whenClosed().addCallback(lambda _: None)
    socket.close()
    work = socket._work
    assert work is not None
    assert not any((work._calls, work._loops, work._pending, work._waiting))
