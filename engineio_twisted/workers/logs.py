"""
The log of workers: a worker hands its events to the parent, which logs them as its own.

An event is a line of JSON on its way. What the parent logs has the fields C{worker}, the number, and C{slot}.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python import log
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str
from zope.interface import implementer

MAX_WAITING = 1024 * 1024
"""Bytes of events that may wait for the parent."""

MAX_EVENT = 64 * 1024
"""Bytes of an event as JSON: of a larger one only its text is kept, cut."""

MAX_TEXT = 8 * 1024
"""Characters of the text, and of the traceback, of such an event."""

MAX_BATCH = 32 * 1024
"""Bytes of events that are handed to the parent together, if they are several."""

MAX_LINE = 8 * 1024
"""Bytes of a line that a worker writes to stdout or stderr: a longer one becomes several."""

MAX_NESTED = 16
"""Events that may be logged while one is handed over, until there is another: objects that are logged may log too."""

# What the legacy API adds, which is made anew where the event is logged; and objects without a meaning elsewhere.
_LEGACY = frozenset({"message", "format", "time", "system", "why", "failure", "isError", "log_legacy"})
_LEFT_OUT = frozenset({"log_level", "log_logger", "log_failure", "log_source", "log_trace"})

Sent = Callable[[bool], object]
Send = Callable[[str, Sent], object]


def eventAsLine(event: LogEvent) -> str:
    """
    Return an event as a line of JSON.

    A value that JSON can't say becomes its text, and a failure its traceback.

    @raise Exception: it can't be done, as when an object that is logged fails.
    """
    text = formatEvent(event)
    isLegacy = isinstance(event.get("message"), tuple)
    leftOut = _LEFT_OUT | _LEGACY if isLegacy else _LEFT_OUT
    kept = {key: value for key, value in event.items() if key not in leftOut}
    try:
        fields = json.loads(_asJSON(kept))
    except (ValueError, TypeError, RecursionError):
        fields = {str(key): _sayable(value) for key, value in kept.items()}
    if formatEvent({"log_format": None, **fields}) != text:
        # The format asks objects for more than their text.
        fields["log_format"] = text.replace("{", "{{").replace("}", "}}")
    level = event.get("log_level")
    said = {"fields": fields, "level": getattr(level, "name", "info")}
    failure = event.get("log_failure")
    if failure is not None:
        said["traceback"] = _tracebackOf(failure)
    line = _asJSON(said)
    if len(line) > MAX_EVENT:
        said["fields"] = {
            **{key: fields[key] for key in ("log_namespace", "log_system", "log_time") if key in fields},
            "log_format": "{log_text}",
            "log_text": _cut(text),
        }
        if failure is not None:
            said["traceback"] = _cut(said["traceback"])
        line = _asJSON(said)
    return line


def _asJSON(said: object) -> str:
    return json.dumps(said, default=safe_str, skipkeys=True, separators=(",", ":"))


def _sayable(value: object) -> Any:
    try:
        return json.loads(_asJSON(value))
    except (ValueError, TypeError, RecursionError):
        # It refers to itself, or is too deep.
        return safe_str(value)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ({len(text) - MAX_TEXT} more characters)"


def _tracebackOf(failure: Any) -> str:
    try:
        return str(failure.getTraceback())
    except Exception:
        return safe_str(failure)


class _Inside(threading.local):
    """
    How far a thread is inside of a L{LogSender}.

    @ivar isBusy: whether it is.
    @ivar nested: how many events were logged meanwhile.
    """

    isBusy = False
    nested = 0


@implementer(ILogObserver)
class LogSender:
    """
    Hands the events that a worker logs to its parent. Never raises, and may be called in any thread.

    @param send: called, in the thread that this is made in, with lines of JSON, and a function: that is to be called
        with whether they are sent. Until then nothing more is handed over. If they aren't, nothing ever is again.
    @param callFromThread: calls a function in that thread, C{reactor.callFromThread}.
    """

    def __init__(self, send: Send, callFromThread: Callable[..., object]) -> None:
        self._send = send
        self._callFromThread = callFromThread
        self._thread = threading.get_ident()
        # Anything may log, also what is collected as garbage meanwhile.
        self._lock = threading.RLock()
        self._lines: deque[str] = deque()
        self._size = 0
        self._dropped = 0
        self._isSending = False
        self._isOver = False
        self._inside = _Inside()
        self._waiting: list[Deferred[None]] = []

    def __call__(self, event: LogEvent) -> None:
        """Take an event; one that doesn't fit any more is counted."""
        inside = self._inside
        if inside.isBusy:
            if inside.nested < MAX_NESTED:
                inside.nested += 1
                self._take(event)
            return
        inside.isBusy, inside.nested = True, 0
        try:
            self._take(event)
        finally:
            inside.isBusy = False

    def whenEmpty(self) -> Deferred[None]:
        """Return a Deferred that fires when nothing waits for the parent, or nothing can be sent any more."""
        if self._isOver or not (self._lines or self._isSending):
            return succeed(None)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def _take(self, event: LogEvent) -> None:
        try:
            line = eventAsLine(event)
        except Exception:
            line = None
        with self._lock:
            if self._isOver:
                return
            if line is None or self._size + len(line) > MAX_WAITING:
                self._dropped += 1
            else:
                self._size += len(line)
                self._lines.append(line)
        if threading.get_ident() == self._thread:
            self._flush()
        else:
            self._callFromThread(self._flush)

    def _flush(self) -> None:
        if self._isSending or self._isOver:
            return
        with self._lock:
            batch = self._nextBatch()
        if not batch:
            self._tellWaiting()
            return
        self._isSending = True
        size = sum(map(len, batch))
        inside = self._inside
        isBusy, inside.isBusy = inside.isBusy, True
        try:
            self._send("\n".join(batch), lambda isSent: self._sent(size, isSent))
        except Exception:
            self._end()
        finally:
            inside.isBusy = isBusy

    def _nextBatch(self) -> list[str]:
        batch: list[str] = []
        room = MAX_BATCH
        while self._lines and (not batch or len(self._lines[0]) <= room):
            batch.append(self._lines.popleft())
            room -= len(batch[-1])
        if self._dropped and not self._lines:
            # Behind those that were there before them.
            batch.append(eventAsLine(_droppedEvent(self._dropped)))
            self._size += len(batch[-1])
            self._dropped = 0
        return batch

    def _sent(self, size: int, isSent: bool) -> None:
        with self._lock:
            self._size -= size
        self._isSending = False
        if isSent:
            self._flush()
        else:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._isOver = True
            self._lines.clear()
        self._tellWaiting()

    def _tellWaiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)


def _droppedEvent(count: int) -> LogEvent:
    return {
        "log_format": "{count} events of the log were dropped",
        "log_level": LogLevel.warn,
        "log_namespace": __name__,
        "log_time": time.time(),
        "count": count,
    }


class WorkerError(Exception):
    """An exception that was raised in a worker, of which the traceback is known as text."""


class WorkerFailure(Failure):
    """A failure that was logged in a worker."""

    def __init__(self, traceback: str) -> None:
        super().__init__(WorkerError(traceback.rstrip().rpartition("\n")[2].strip()))  # type: ignore[no-untyped-call]
        self._text = traceback

    def printTraceback(self, file: Any = None, *args: object, **kwargs: object) -> None:
        """Write the traceback as the worker wrote it."""
        (log.logerr if file is None else file).write(self._text)


class WorkerLog:
    """
    Logs what a worker has logged or written, in its parent.

    @param number: the number of the worker.
    @param slot: its slot.
    @param publish: takes the events; by default all observers of the log.
    """

    def __init__(self, number: int, slot: int, publish: Callable[[LogEvent], object] = globalLogPublisher) -> None:
        self._fields = {"worker": number, "slot": slot}
        self._where = f"worker={number} slot={slot}"
        self._publish = publish
        self._rest: dict[str, bytes] = {}

    def eventsCame(self, lines: str) -> None:
        """Log the events that a L{LogSender} has sent."""
        for each in lines.split("\n"):
            try:
                event = self._eventOf(json.loads(each))
            except (ValueError, TypeError, LookupError, AttributeError):
                # Of another version of this package, that was installed meanwhile.
                self._publishLine("log", LogLevel.warn, each[:MAX_LINE])
            else:
                self._publish(event)

    def bytesCame(self, stream: str, data: bytes) -> None:
        """
        Log the lines that a worker has written.

        @param stream: C{stdout}, at the level info, or C{stderr}, at the level error, as Twisted logs those of its own
            process.
        """
        *lines, rest = (self._rest.get(stream, b"") + data).split(b"\n")
        for each in lines:
            self._lineCame(stream, each)
        while len(rest) > MAX_LINE:
            self._lineCame(stream, rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        self._rest[stream] = rest

    def ended(self) -> None:
        """Log the lines that the worker didn't finish: its process has ended."""
        rests, self._rest = self._rest, {}
        for stream, rest in rests.items():
            if rest:
                self._lineCame(stream, rest)

    def _lineCame(self, stream: str, line: bytes) -> None:
        level = LogLevel.error if stream == "stderr" else LogLevel.info
        line = line.removesuffix(b"\r")
        for start in range(0, max(1, len(line)), MAX_LINE):
            self._publishLine(stream, level, line[start : start + MAX_LINE].decode(errors="backslashreplace"))

    def _publishLine(self, stream: str, level: Any, line: str) -> None:
        self._publish(
            {
                "log_format": "{line}",
                "log_level": level,
                "log_namespace": __name__,
                "log_system": f"{self._where} {stream}",
                "log_time": time.time(),
                "line": line,
                "stream": stream,
                **self._fields,
            }
        )

    def _eventOf(self, said: Any) -> LogEvent:
        fields: LogEvent = said["fields"]
        level = LogLevel.lookupByName(said["level"])
        system = fields.get("log_system") or f"{fields.get('log_namespace', '-')}#{level.name}"
        event = {**fields, **self._fields, "log_level": level, "log_system": f"{self._where} {system}"}
        event.setdefault("log_time", time.time())
        if "traceback" in said:
            event["log_failure"] = WorkerFailure(said["traceback"])
        return event
