"""
The slots of the parent: which worker runs in each, from its start to its end, on a clock and without processes.

A worker is starting, ready, draining, killed or gone; between two workers a slot waits. docs/architecture/workers.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

import attrs
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ..clock import cancel
from ..ends import attempt

BACKOFF = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds until a slot starts its next worker, by how many have ended one soon after the other."""

STEADY = 60.0
"""Seconds for which a worker has to be ready so that its end is the first one again."""

PINGS = 4
"""Pings that a worker leaves unanswered before it is killed as hung: fewer would count a pause of the parent."""

DRAIN_GRACE = 5.0
"""Seconds behind C{drainTimeout} until a worker that drains is killed."""

HURRY_GRACE = 5.0
"""Seconds from the second signal until a worker that drains is killed."""

ABORT_GRACE = 2.0
"""Seconds from SIGABRT, by which a worker logs the stacks of its threads, to SIGKILL."""


class State(Enum):
    """What a worker does, as the parent sees it."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    KILLED = "killed"
    GONE = "gone"


@attrs.frozen
class Patience:
    """
    How long the parent waits for workers of a generation.

    @ivar start: seconds until a worker has to be ready.
    @ivar hang: seconds for which it may leave pings unanswered; None for ever.
    @ivar drain: seconds that its sessions have to end.
    """

    start: float
    hang: float | None
    drain: float


class Process(Protocol):
    """The process of a worker, as the slots know it. No method raises because it has ended."""

    def ping(self) -> None:
        """Ask whether it is alive."""
        ...

    def drain(self) -> None:
        """Let its sessions end, and then the process."""
        ...

    def hurry(self) -> None:
        """End the wait of its sessions."""
        ...

    def abort(self) -> None:
        """Send SIGABRT, by which it logs its stacks and ends."""
        ...

    def kill(self) -> None:
        """Send SIGKILL."""
        ...


P = TypeVar("P", bound=Process)
G = TypeVar("G")


class Host(Protocol[P, G]):
    """What the slots tell, and by which they start processes."""

    def spawn(self, life: Life[P, G]) -> P:
        """
        Start the process of a worker.

        @raise OSError: the system has no room for it.
        """
        ...

    def patienceWith(self, generation: G) -> Patience:
        """Return how long to wait for workers of a generation."""
        ...

    def becameReady(self, life: Life[P, G]) -> None:
        """Called when a worker is ready."""
        ...

    def kills(self, life: Life[P, G], why: str) -> None:
        """Called before a worker is killed."""
        ...

    def ended(self, life: Life[P, G], how: str, wasExpected: bool, delay: float | None) -> None:
        """Called when a process has ended: how, and in how many seconds the slot starts another one; None if not."""
        ...

    def firstFailed(self, problem: str) -> None:
        """Called when the first worker ended before it was ready. Nothing is started any more."""
        ...

    def reloaded(self, problem: str | None) -> None:
        """Called when a reload is over, or was given up: why."""
        ...

    def allEnded(self) -> None:
        """Called once after a stop, when no process is left."""
        ...


class Life(Generic[P, G]):
    """
    One worker, from its start to its end.

    @ivar number: its number, which no other one ever has.
    @ivar slot: its slot.
    @ivar generation: what it runs.
    @ivar state: what it does.
    @ivar problem: what it said of itself before it ended; None if nothing.
    @ivar process: its process; None if it couldn't be started.
    """

    process: P | None = None
    problem: str | None = None
    state: State = State.STARTING

    def __init__(self, slots: Slots[P, G], number: int, slot: int, generation: G) -> None:
        self._slots = slots
        self.number = number
        self.slot = slot
        self.generation = generation
        self._patience = slots.host.patienceWith(generation)
        self._readySince: float | None = None
        self._unanswered = 0
        self._timer: IDelayedCall | None = None
        self._ticks: IDelayedCall | None = None
        self._wait(self._patience.start, self._startTookTooLong)

    @property
    def name(self) -> str:
        """What it is called if it has no process."""
        return f"Worker {self.number} (slot {self.slot})"

    @property
    def isServing(self) -> bool:
        """Whether its process runs and wasn't killed, so that other workers may reach it."""
        return self.state in (State.STARTING, State.READY, State.DRAINING)

    @property
    def wasSteady(self) -> bool:
        """Whether it was ready for so long that its end counts as the first one."""
        since = self._readySince
        return since is not None and self._slots.clock.seconds() - since >= STEADY

    @property
    def wasReady(self) -> bool:
        """Whether it has ever been ready."""
        return self._readySince is not None

    def _wait(self, seconds: float, call: Callable[[], object]) -> None:
        cancel(self._timer)
        self._timer = self._slots.clock.callLater(seconds, call)

    def _startTookTooLong(self) -> None:
        seconds = self._patience.start
        self.problem = self.problem or f"not ready within {seconds:g} s (workersStartTimeout)"
        self._abort(f"not ready within {seconds:g} s")

    def ready(self) -> None:
        """Called when it says that it serves."""
        if self.state is not State.STARTING:
            return
        self.state = State.READY
        self._readySince = self._slots.clock.seconds()
        cancel(self._timer)
        self._timer = None
        self._tick()
        self._slots.host.becameReady(self)
        self._slots.lifeReady(self)

    def _tick(self) -> None:
        hang = self._patience.hang
        if hang is None or self.process is None or self.state is not State.READY:
            return
        if self._unanswered == PINGS:
            self._abort(f"hung: no answer for {hang:g} s")
            return
        self._unanswered += 1
        self._ticks = self._slots.clock.callLater(hang / PINGS, self._tick)
        self.process.ping()

    def pong(self) -> None:
        """Called when it has answered a ping."""
        self._unanswered = 0

    def drain(self) -> None:
        """Let it drain and end."""
        if self.state not in (State.STARTING, State.READY) or self.process is None:
            return
        self.state = State.DRAINING
        seconds = self._patience.drain + DRAIN_GRACE
        self._wait(seconds, lambda: self._kill(f"not drained within {seconds:g} s"))
        self.process.drain()

    def hurry(self) -> None:
        """Let it end its wait, if it drains."""
        if self.state is not State.DRAINING or self.process is None:
            return
        self._wait(HURRY_GRACE, lambda: self._kill(f"not ended within {HURRY_GRACE:g} s"))
        self.process.hurry()

    def _abort(self, why: str) -> None:
        self.state = State.KILLED
        self._wait(ABORT_GRACE, self._killAborted)
        attempt(self._slots.host.kills, self, why)
        if self.process is not None:
            self.process.abort()

    def _killAborted(self) -> None:
        self._timer = None
        if self.process is not None:
            self.process.kill()

    def _kill(self, why: str) -> None:
        self._timer = None
        self.state = State.KILLED
        attempt(self._slots.host.kills, self, why)
        if self.process is not None:
            self.process.kill()

    def ended(self, how: str) -> None:
        """
        Called when its process has ended.

        @param how: its exit status or the signal, as text.
        """
        if self.state is State.GONE:
            return
        wasExpected = self.state is State.DRAINING
        self.state = State.GONE
        for each in (self._timer, self._ticks):
            cancel(each)
        self._timer = self._ticks = None
        self._slots.lifeEnded(self, how, wasExpected)


class _Slot(Generic[P, G]):
    """
    One slot.

    @ivar current: the worker that serves, or is to serve; None while the slot waits.
    @ivar next: the one that is to take its place, during a reload.
    @ivar former: the one that drains since it was replaced.
    @ivar failures: how many have ended one soon after the other.
    @ivar timer: what starts the next one, while it waits.
    """

    def __init__(self) -> None:
        self.current: Life[P, G] | None = None
        self.next: Life[P, G] | None = None
        self.former: Life[P, G] | None = None
        self.failures = 0
        self.timer: IDelayedCall | None = None

    @property
    def lives(self) -> list[Life[P, G]]:
        return [each for each in (self.current, self.next, self.former) if each is not None]


class Slots(Generic[P, G]):
    """
    All slots.

    @param clock: an C{IReactorTime}.
    @param count: how many there are.
    @param host: what starts processes, and is told.
    @param generation: what workers run until a reload.
    @ivar isStopping: whether all are to end.
    """

    _log = Logger()
    isStopping: bool = False

    def __init__(self, clock: Any, count: int, host: Host[P, G], generation: G) -> None:
        self.clock = clock
        self.host = host
        self.generation = generation
        self._slots: list[_Slot[P, G]] = [_Slot() for _ in range(count)]
        self._last = 0
        # Whether any has ever been ready; until then an end is that of the command.
        self._isDecided = False
        self._hasFailed = False
        # The slots whose workers are still to be started, or replaced, one after the other.
        self._waitingSlots: list[int] = []
        self._isBusy = False
        # What a reload, which isn't decided until a worker runs it, would have all run.
        self._wanted: G | None = None
        self._remembered: Callable[[], G] | None = None
        self._hasEnded = False

    # What is there

    def __iter__(self) -> Iterator[Life[P, G]]:
        """Iterate over the workers whose processes have not ended."""
        return iter([life for slot in self._slots for life in slot.lives])

    def __len__(self) -> int:
        """Return how many slots there are."""
        return len(self._slots)

    @property
    def readyCount(self) -> int:
        """How many slots have a worker that is ready."""
        return sum(slot.current is not None and slot.current.state is State.READY for slot in self._slots)

    def current(self, slot: int) -> Life[P, G] | None:
        """Return the worker that serves in a slot, or None while it waits."""
        return self._slots[slot].current

    # Starting

    def start(self) -> None:
        """Start the first worker, and when it is ready the others, one after the other."""
        self._isBusy = True
        self._waitingSlots = [*range(len(self._slots))]
        self._goOn()

    def _start(self, slot: int, generation: G) -> Life[P, G]:
        self._last += 1
        return Life(self, self._last, slot, generation)

    def _spawn(self, life: Life[P, G]) -> None:
        try:
            life.process = self.host.spawn(life)
        except Exception as error:
            self._log.failure("Worker {number} could not be started", number=life.number)
            life.problem = f"cannot be started ({getattr(error, 'strerror', None) or error})"
            life.ended("not started")

    def _startCurrent(self, slot: int) -> None:
        here = self._slots[slot]
        here.timer = None
        here.current = self._start(slot, self.generation)
        self._spawn(here.current)

    def _goOn(self) -> None:
        """Do the next step of a start or a reload, if none is under way."""
        while self._waitingSlots and not self.isStopping and not self._hasFailed:
            slot = self._waitingSlots[0]
            here = self._slots[slot]
            if self._wanted is None:
                self._waitingSlots.pop(0)
                if here.current is None and here.timer is None:
                    self._startCurrent(slot)
                    return
            elif any(each.next is not None for each in self._slots):
                return
            elif here.current is not None and here.current.state is State.STARTING:
                # Its turn comes when that one is ready, or has ended.
                return
            else:
                self._waitingSlots.pop(0)
                cancel(here.timer)
                here.timer = None
                here.next = self._start(slot, self._wanted)
                self._spawn(here.next)
                return
        self._overIfDone()

    def _overIfDone(self) -> None:
        if self._waitingSlots or self.isStopping or self._hasFailed:
            return
        if self._wanted is not None:
            # The former ones too: the next reload needs their rows.
            if any(each.next is not None or each.former is not None for each in self._slots):
                return
            self._wanted = None
            attempt(self.host.reloaded, None)
        elif any(each.current is not None and each.current.state is State.STARTING for each in self._slots):
            return
        self._isBusy = False
        read, self._remembered = self._remembered, None
        if read is not None:
            self.reload(read)

    def lifeReady(self, life: Life[P, G]) -> None:
        """Called by a worker that has become ready."""
        here = self._slots[life.slot]
        self._isDecided = True
        if here.next is life:
            if self._wanted is not None:
                # The first one decides: from now on whatever starts runs the same.
                self.generation = self._wanted
            here.former, here.current, here.next = here.current, life, None
            if here.former is not None:
                here.former.drain()
        self._goOn()

    # Ends

    def lifeEnded(self, life: Life[P, G], how: str, wasExpected: bool) -> None:
        """Called by a worker whose process has ended."""
        here = self._slots[life.slot]
        if not self._isDecided and not self.isStopping:
            here.current = None
            self._hasFailed = True
            attempt(self.host.ended, life, how, False, None)
            self.host.firstFailed(life.problem or f"the first worker has ended: {how}")
            return
        delay = None
        if here.former is life:
            here.former = None
        elif here.next is life:
            here.next = None
            self._replacementFailed(life, how)
            if here.current is None:
                delay = self._waitToStart(life)
        elif here.current is life:
            here.current = None
            if here.next is None:
                delay = self._waitToStart(life)
        attempt(self.host.ended, life, how, wasExpected or self.isStopping, delay)
        if self.isStopping:
            self._endIfAllHave()
        else:
            self._goOn()

    def _replacementFailed(self, life: Life[P, G], how: str) -> None:
        if self.isStopping:
            return
        problem = life.problem or f"its worker has ended: {how}"
        if life.generation is self.generation:
            # Others run it already, so this slot goes on with what it has until the next reload.
            self._log.error("Slot {slot} is not reloaded: {problem}", slot=life.slot, problem=problem)
            return
        self._waitingSlots = []
        self._wanted = None
        attempt(self.host.reloaded, problem)

    def _waitToStart(self, life: Life[P, G]) -> float | None:
        if self.isStopping:
            return None
        here = self._slots[life.slot]
        here.failures = 1 if life.wasSteady else here.failures + 1
        delay = BACKOFF[min(here.failures, len(BACKOFF)) - 1]
        here.timer = self.clock.callLater(delay, self._startCurrent, life.slot)
        return delay

    # Reload

    def reload(self, read: Callable[[], G]) -> None:
        """
        Replace every worker, slot by slot. During a start or a reload it is remembered, once.

        @param read: called when it begins; returns what the new ones run. What it raises ends the reload, and its
            text is the reason.
        """
        if self.isStopping or self._hasFailed:
            return
        if self._isBusy:
            self._remembered = read
            return
        try:
            self._wanted = read()
        except Exception as error:
            attempt(self.host.reloaded, str(error))
            return
        self._isBusy = True
        self._waitingSlots = [*range(len(self._slots))]
        self._goOn()

    # Stop

    def stop(self) -> None:
        """Let all drain and end, and start none any more."""
        if self.isStopping:
            return
        self.isStopping = True
        self._waitingSlots = []
        self._remembered = None
        for slot in self._slots:
            cancel(slot.timer)
            slot.timer = None
        for life in self:
            life.drain()
        self._endIfAllHave()

    def hurry(self) -> None:
        """Let those that drain end their wait."""
        for life in self:
            life.hurry()

    def _endIfAllHave(self) -> None:
        if not self._hasEnded and not [*self]:
            self._hasEnded = True
            self.host.allEnded()
