"""What workers log, in the log of their parent: in memory."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from twisted.logger import (
    LegacyLogObserverWrapper,
    LogEvent,
    Logger,
    LogLevel,
    LogPublisher,
    formatEvent,
    globalLogPublisher,
    jsonFileLogObserver,
    textFileLogObserver,
)
from twisted.python import log
from twisted.python.failure import Failure

from engineio_twisted.workers.logs import (
    MAX_BATCH,
    MAX_EVENT,
    MAX_LINE,
    MAX_NESTED,
    MAX_TEXT,
    MAX_WAITING,
    LogSender,
    WorkerLog,
)


class Worker:
    """A worker that logs, and what its parent logs of that."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []
        self.text = io.StringIO()
        self.batches: list[str] = []
        # What is to be called when a batch is sent; while not held back, that is at once.
        self.isHeldBack = False
        self.unsent: list[Callable[[bool], object]] = []
        self.inThread: list[Callable[[], object]] = []
        self.publisher = LogPublisher(self.events.append, textFileLogObserver(self.text))
        self.parent = WorkerLog(7, 1, self.publisher)
        self.sender = LogSender(self.send, self.inThread.append)
        self.log = Logger("some.module", observer=self.sender)

    def send(self, lines: str, sent: Callable[[bool], object]) -> None:
        self.batches.append(lines)
        self.parent.eventsCame(lines)
        if self.isHeldBack:
            self.unsent.append(sent)
        else:
            sent(True)

    @property
    def event(self) -> LogEvent:
        """The only event."""
        (event,) = self.events
        return event

    @property
    def lines(self) -> list[str]:
        """The text log, without the times."""
        return [each.partition(" ")[2] if each[0].isdigit() else each for each in self.text.getvalue().splitlines()]


@pytest.fixture
def worker() -> Worker:
    return Worker()


class Thing:
    """What JSON can't say."""

    size = 3

    def __str__(self) -> str:
        return "a thing"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("broken")

    __str__ = __repr__


def test_event(worker: Worker) -> None:
    """An event has its own fields, format, level, namespace and time, and besides where it is from."""
    worker.log.warn("Session {session} waits for {count}", session="abc…", count=3, nested={"a": [1, None, 0.5]})
    event = worker.event
    assert {key: value for key, value in event.items() if key != "log_time"} == {
        "log_format": "Session {session} waits for {count}",
        "log_level": LogLevel.warn,
        "log_namespace": "some.module",
        "log_system": "worker=7 slot=1 some.module#warn",
        "session": "abc…",
        "count": 3,
        "nested": {"a": [1, None, 0.5]},
        "worker": 7,
        "slot": 1,
    }
    assert isinstance(event["log_time"], float)
    assert worker.lines == ["[worker=7 slot=1 some.module#warn] Session abc… waits for 3"]


@pytest.mark.parametrize("level", [*LogLevel.iterconstants()], ids=lambda each: each.name)
def test_levels(worker: Worker, level: Any) -> None:
    """Levels are kept, so that filters in the parent are those of one process."""
    worker.log.emit(level, "x")
    assert worker.event["log_level"] is level


def test_failure(worker: Worker) -> None:
    """A failure comes with its traceback, in the text log and for whoever asks the event for it."""
    try:
        raise ValueError("it is wrong")
    except ValueError:
        worker.log.failure("Handler of {event} failed", event="message")
    failure = worker.event["log_failure"]
    assert isinstance(failure, Failure)
    assert failure.getErrorMessage() == "builtins.ValueError: it is wrong"
    assert 'raise ValueError("it is wrong")' in failure.getTraceback()
    first, second, *_, last = [each.strip() for each in worker.lines if each.strip()]
    assert first == "[worker=7 slot=1 some.module#critical] Handler of message failed"
    assert second == "Traceback (most recent call last):"
    assert last == "builtins.ValueError: it is wrong"


def test_failureForOldObservers(worker: Worker) -> None:
    """An observer of the old kind gets what it expects."""
    old: list[dict[str, Any]] = []
    worker.publisher.addObserver(LegacyLogObserverWrapper(old.append))
    worker.log.failure("bad", Failure(ValueError("wrong")))
    (event,) = old
    assert event["isError"] == 1
    text = log.textFromEventDict(event)
    assert text is not None
    assert text.startswith("bad\n")
    assert "ValueError: wrong" in text
    assert event["system"] == "worker=7 slot=1 some.module#critical"


def test_whatJSONCannotSay(worker: Worker) -> None:
    """A value becomes its text; what the format asks of it is in the text, which has the same words."""
    things: dict[Any, Any] = {Thing(): 1, 2: Thing()}
    worker.log.info(
        "{thing} of {thing.size}: {thing!r:.6} {{}}", thing=Thing(), things=things, data=b"\xff", broken=Broken()
    )
    event = worker.event
    assert event["thing"] == "a thing"
    assert event["things"] == {"2": "a thing"}
    assert "RuntimeError" in event["broken"]
    assert formatEvent(event) == "a thing of 3: <tests {}"


def test_whatRefersToItself(worker: Worker) -> None:
    """A structure without an end is text too."""
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    worker.log.info("{loop}", loop=loop, other=1)
    worker.log.info("{other}", deep=deep, other=2)
    assert [formatEvent(each) for each in worker.events] == ["[[...]]", "2"]
    assert worker.events[0]["other"] == 1
    # Which would take as long to forget by itself.
    while deep:
        deep = deep.pop()


def test_whatCannotBeFormatted(worker: Worker) -> None:
    """What fails in a worker's own log comes as it would stand there."""
    worker.log.info("{broken} {nothing}", broken=Broken())
    assert "Recoverable data" in formatEvent(worker.event)
    worker.events.clear()
    worker.log.info("{nothing}", x=1)
    assert formatEvent(worker.event).startswith("Unable to format event")
    assert worker.event["x"] == 1


def test_oldAPI(worker: Worker) -> None:
    """C{log.msg} and C{log.err} come too, with the system that they name."""
    globalLogPublisher.addObserver(worker.sender)
    try:
        log.msg("old", "words", system="-", extra=5)
        log.msg(format="%(count)d of them", count=2, logLevel=10)
    finally:
        globalLogPublisher.removeObserver(worker.sender)
    assert [formatEvent(each) for each in worker.events] == ["old words", "2 of them"]
    assert [each["log_level"] for each in worker.events] == [LogLevel.info, LogLevel.debug]
    assert (worker.events[0]["extra"], worker.events[1]["count"]) == (5, 2)
    assert worker.lines[0] == "[worker=7 slot=1 -] old words"
    publisher = log.LogPublisher(publishPublisher=LogPublisher(worker.sender))
    publisher.msg(failure=Failure(ValueError("wrong")), why="Oh", isError=1)
    assert formatEvent(worker.events[-1]).startswith("Oh\n")
    assert "ValueError: wrong" in formatEvent(worker.events[-1])
    assert worker.events[-1]["log_level"] is LogLevel.critical


def test_eventAsJSONInTheParent(worker: Worker) -> None:
    """Programs that read logs as JSON have the fields."""
    out = io.StringIO()
    worker.publisher.addObserver(jsonFileLogObserver(out, ""))
    worker.log.failure("{thing}", Failure(ValueError("wrong")), thing=Thing())
    read = json.loads(out.getvalue())
    assert (read["worker"], read["slot"], read["thing"]) == (7, 1, "a thing")


def test_largeEvents(worker: Worker) -> None:
    """Of an event that is too large the beginning of its text comes, and how much is left out."""
    worker.log.info("{data} is large", data="x" * MAX_EVENT, other=1)
    text = formatEvent(worker.event)
    assert text == "x" * MAX_TEXT + f" ({MAX_EVENT + len(' is large') - MAX_TEXT} more characters)"
    assert "other" not in worker.event
    assert worker.event["log_system"] == "worker=7 slot=1 some.module#info"
    worker.log.failure("bad", Failure(ValueError("y" * MAX_EVENT)))
    assert formatEvent(worker.events[1]) == "bad"
    assert len(worker.events[1]["log_failure"].getTraceback()) < 2 * MAX_TEXT


# Handing over


def test_oneBatchAtATime(worker: Worker) -> None:
    """What is logged while something is being sent goes together, and in order."""
    worker.isHeldBack = True
    for each in range(10):
        worker.log.info("{n}", n=each)
    assert [each["n"] for each in worker.events] == [0]
    worker.unsent.pop()(True)
    assert [each["n"] for each in worker.events] == [*range(10)]
    assert len(worker.batches) == 2
    worker.unsent.pop()(True)
    assert len(worker.batches) == 2
    # Batches are bounded.
    for each in range(10):
        worker.log.info("{n}", n=each, data="x" * (MAX_BATCH // 3))
    worker.isHeldBack = False
    worker.unsent.pop()(True)
    assert [each["n"] for each in worker.events[10:]] == [*range(10)]
    assert all(len(each) <= MAX_BATCH + 10 for each in worker.batches)


def test_parentThatTakesNothing(worker: Worker) -> None:
    """No more than the bound waits; what is beyond is counted, and the count is logged when there is room."""
    worker.isHeldBack = True
    for each in range(200):
        worker.log.info("{n}", n=each, data="x" * 10_000)
    assert sum(map(len, worker.batches)) < 20_000
    worker.isHeldBack = False
    worker.unsent.pop()(True)
    *kept, last = worker.events
    assert [each["n"] for each in kept] == [*range(len(kept))]
    assert MAX_WAITING - 20_000 < sum(map(len, worker.batches)) <= MAX_WAITING + 1000
    assert last["log_level"] is LogLevel.warn
    assert formatEvent(last) == f"{200 - len(kept)} events of the log were dropped"
    assert (last["worker"], last["slot"], last["count"]) == (7, 1, 200 - len(kept))
    # It goes on as if nothing had been.
    worker.log.info("again")
    assert formatEvent(worker.events[-1]) == "again"


def test_parentThatIsGone(worker: Worker) -> None:
    """Nothing more is sent, nothing is kept, nothing is raised."""
    worker.isHeldBack = True
    worker.log.info("1")
    worker.log.info("2")
    empty: list[Any] = []
    worker.sender.whenEmpty().addBoth(empty.append)
    assert not empty
    worker.unsent.pop()(False)
    assert empty == [None]
    worker.log.info("3")
    assert len(worker.batches) == 1
    assert worker.sender.whenEmpty().called


def test_whenEmpty(worker: Worker) -> None:
    """A worker that ends can wait until what it has logged is with its parent."""
    assert worker.sender.whenEmpty().called
    worker.isHeldBack = True
    worker.log.info("1")
    worker.log.info("2")
    empty = worker.sender.whenEmpty()
    worker.unsent.pop()(True)
    assert not empty.called
    worker.unsent.pop()(True)
    assert empty.called
    assert len(worker.events) == 2


def test_sendingFails() -> None:
    """A connection that raises is one that is gone."""

    def send(lines: str, sent: Any) -> None:
        raise OSError("gone")

    sender = LogSender(send, lambda _: None)
    Logger(observer=sender).info("1")
    assert sender.whenEmpty().called


def test_noRecursion(worker: Worker) -> None:
    """What is logged by sending comes too, but has an end, even if each sending logs."""
    send = worker.send

    def sendAndLog(lines: str, sent: Callable[[bool], object]) -> None:
        worker.log.info("sending")
        send(lines, sent)

    worker.sender = LogSender(sendAndLog, worker.inThread.append)
    worker.log = Logger("some.module", observer=worker.sender)
    worker.log.info("first")
    assert [formatEvent(each) for each in worker.events] == ["first", *["sending"] * MAX_NESTED]
    worker.log.info("second")
    assert len(worker.events) == 2 * (MAX_NESTED + 1)


def test_objectsThatLog(worker: Worker) -> None:
    """An object that logs when it is shown has an end too, and the event that shows it comes."""

    class Talking:
        def __str__(self) -> str:
            worker.log.info("{me}", me=self)
            return "talking"

    worker.log.info("{me}", me=Talking())
    assert {formatEvent(each) for each in worker.events} == {"talking"}
    assert len(worker.events) <= MAX_NESTED + 1


def test_otherThreads(worker: Worker) -> None:
    """An event of another thread is handed over by the reactor's."""
    thread = threading.Thread(target=worker.log.info, args=("from elsewhere",))
    thread.start()
    thread.join()
    assert not worker.batches
    (later,) = worker.inThread
    later()
    assert formatEvent(worker.event) == "from elsewhere"


@pytest.mark.parametrize(
    "line",
    ["", "nonsense", "[]", "{}", "3", '{"fields":3,"level":"info"}', '{"fields":{},"level":"loud"}'],
)
def test_whatIsNoEvent(worker: Worker, line: str) -> None:
    """What the parent can't read stands in the log as it came, and harms nothing."""
    worker.parent.eventsCame(line)
    assert formatEvent(worker.event) == line
    assert (worker.event["worker"], worker.event["log_level"]) == (7, LogLevel.warn)


# What a worker writes


def test_lines(worker: Worker) -> None:
    """Lines come one by one, however they are cut, each with where it is from."""
    data = "one\ntwo – €\r\n\nrest".encode()
    for at in range(len(data)):
        worker.parent.bytesCame("stdout", data[at : at + 1])
    worker.parent.bytesCame("stderr", b"Fatal Python error\nCurrent")
    assert [each["line"] for each in worker.events] == ["one", "two – €", "", "Fatal Python error"]
    worker.parent.ended()
    assert [each["line"] for each in worker.events[4:]] == ["rest", "Current"]
    first, last = worker.events[0], worker.events[-1]
    assert (first["worker"], first["slot"], first["stream"], first["log_level"]) == (7, 1, "stdout", LogLevel.info)
    assert (last["stream"], last["log_level"]) == ("stderr", LogLevel.error)
    assert worker.lines[0] == "[worker=7 slot=1 stdout] one"
    worker.parent.ended()
    assert len(worker.events) == 6


def test_linesAreText(worker: Worker) -> None:
    """Bytes that are no text, and braces, are shown and not read."""
    worker.parent.bytesCame("stdout", b"{line!r} \xff {0}\n")
    assert formatEvent(worker.event) == "{line!r} \\xff {0}"


@pytest.mark.parametrize("size", [1, 1000, 1_000_000])
def test_longLines(worker: Worker, size: int) -> None:
    """A line without an end comes in pieces, and no more than one piece is kept."""
    data = b"x" * (3 * MAX_LINE + 5) + b"\nnext\n"
    for at in range(0, len(data), size):
        worker.parent.bytesCame("stdout", data[at : at + size])
        assert len(worker.parent._rest["stdout"]) <= MAX_LINE
    assert [len(each["line"]) for each in worker.events] == [MAX_LINE, MAX_LINE, MAX_LINE, 5, 4]
