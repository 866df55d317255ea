"""
The parent of workers: it opens the ports, starts a process in each slot, and keeps it running.

No application is imported in it, and no session handled. docs/architecture/workers.md, "Life of a worker".
"""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.process import reapAllProcesses
from twisted.logger import Logger

from ..clock import TURNS, steadyClock
from ..ends import CLOSE_TIMEOUT, alsoWhen, attempt, attemptLater
from ..web.access_log import AccessLog
from .control import ACCESS_LOG, CONTROL, PAGE, PORTS, controlPair
from .notify import Notifier
from .page import SharedPage
from .process import Generation, Observers, ParentObserver, WorkerProcess, commandOf
from .slots import Life, Patience, Slots, State


class _SharedAccessLog(AccessLog):
    """The access log that workers write to: when it is reopened, so is theirs."""

    def __init__(self, path: str, reopened: Callable[[], object]) -> None:
        super().__init__(path)
        self._reopened = reopened

    def reopen(self) -> None:
        """Go on with the file that has the path now, here and in the workers."""
        super().reopen()
        self._reopened()


class Parent(Service):
    """
    The service that keeps workers running. What it serves is a subclass's: its ports, and how a failure is told.

    @param reactor: the reactor.
    @param count: how many workers there are.
    @param generation: what they run.
    @param accessLog: the path of the access log, if there is one.
    @ivar slots: the slots.
    @ivar page: the shared page.
    @ivar observers: what is told of workers.
    @ivar notifier: what tells the service manager.
    @ivar hasFailed: whether it has stopped because something failed.
    """

    _log = Logger()

    def __init__(self, reactor: Any, count: int, generation: Generation, accessLog: str | None = None) -> None:
        self.reactor = reactor
        self.clock = steadyClock(reactor)
        self.count = count
        self.hasFailed: bool = False
        self.observers: list[ParentObserver] = []
        self._told = Observers(self.observers)
        self.notifier: Notifier = Notifier(self.clock)
        self.slots: Slots[WorkerProcess, Generation] = Slots(self.clock, count, self, generation)
        self._fixed = generation.fixed
        self._accessLogPath = accessLog
        self._accessLog: AccessLog | None = None
        self._undo: list[Callable[[], object]] = []
        self._isOpen = False
        self._isWaiting = False
        self._isDecided = False
        self._problem: str | None = None
        self._stopped: Deferred[None] | None = None

    # What a subclass says

    def openPorts(self) -> str | None:
        """Open the ports, before privileges are shed. Returns what is wrong if one can't be opened."""
        raise NotImplementedError

    def inherited(self) -> tuple[Sequence[int], Any]:
        """Return the descriptors of the listening sockets, and what says of each what it is, as JSON can carry it."""
        raise NotImplementedError

    def closePorts(self) -> object:
        """Close the ports; may return a Deferred."""
        raise NotImplementedError

    def closeLast(self) -> object:
        """Close what stays until all workers have ended; may return a Deferred."""

    def readAnew(self) -> Generation:
        """
        Read the settings for a reload.

        @raise Exception: they are wrong; its text is the line about it. C{SystemExit} too.
        """
        raise NotImplementedError

    def serves(self, what: str, path: str) -> None:
        """Called when the first worker is ready: what it serves, and at which path."""

    def failedToStart(self, problem: str) -> NoReturn:
        """
        Called when the start fails and nothing is left open.

        @raise OSError: by default, which ends twistd.
        """
        raise OSError(problem)

    def failedLater(self, problem: str) -> None:
        """Called when the first worker fails while the reactor runs: by default the service stops by itself."""
        self._log.critical("{problem}", problem=problem)
        self.hasFailed = True
        self.stopService()

    # Starting

    def privilegedStartService(self) -> None:
        """Open the access log and the ports, before privileges are shed."""
        if self._stopped is not None:
            raise RuntimeError("the service was stopped, and its workers have ended: make another")
        if self._isOpen:
            return
        self._isOpen = True
        self.page, self._pageDescriptor = SharedPage.create(2 * self.count)
        problem = self._openAccessLog() or self.openPorts()
        if problem is not None:
            self._endStart(problem)

    def _openAccessLog(self) -> str | None:
        path = self._accessLogPath
        if path is None:
            return None
        try:
            self._accessLog = _SharedAccessLog(path, self._reopened)
        except OSError as error:
            return f"--access-log {path}: {error.strerror}"
        return None

    def _endStart(self, problem: str) -> NoReturn:
        self._problem = problem
        stopped = self.stopService()
        for _ in range(TURNS):
            # What is closed is closed in the next turns, of which there are no others.
            if stopped.called or self.reactor.running:
                break
            self.reactor.iterate(0)
        self.failedToStart(problem)

    def startService(self) -> None:
        """
        Start the workers. If the reactor doesn't run yet, this returns when the first one is ready.

        @raise Exception: what L{failedToStart} raises: the first one has failed.
        """
        self.privilegedStartService()
        super().startService()  # type: ignore[no-untyped-call]
        self._takeSignals()
        self._isWaiting = not self.reactor.running
        self.slots.start()
        while self._isWaiting and not self._isDecided and self._problem is None:
            # Before the reactor runs, it isn't woken by the end of a process.
            self.reactor.iterate(0.05)
            reapAllProcesses()
        self._isWaiting = False
        if self._problem is not None and not self.hasFailed:
            self._endStart(self._problem)

    def _takeSignals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if self._accessLog is not None:
            self._undo.append(self._accessLog.reopenOnSignal(self.reactor.callFromThread))

        def received(*_: object) -> None:
            self.reactor.callFromThread(self.reload)

        before = signal.signal(signal.SIGHUP, received)

        def undo() -> None:
            if signal.getsignal(signal.SIGHUP) is received:
                signal.signal(signal.SIGHUP, signal.SIG_DFL if before is None else before)

        self._undo.append(undo)

    # What the slots want

    def spawn(self, life: Life[WorkerProcess, Generation]) -> WorkerProcess:
        """Start the process of a worker, and join it to the others."""
        descriptors, ports = self.inherited()
        others = [each.process for each in self.slots if each.isServing and each.process is not None]
        row = self.page.claim(life.slot, life.number)
        opened: list[socket.socket] = []
        try:
            for _ in range(len(others) + 1):
                opened += controlPair()
            ours, theirs, *ends = opened
            with open(os.devnull, "r+b") as nothing:
                process = WorkerProcess(self.reactor, self.clock, life, ours, self._told)
                log = nothing if self._accessLog is None else self._accessLog
                inherits: dict[int, int | str] = {0: nothing.fileno(), 1: "r", 2: "r", ACCESS_LOG: log.fileno()}
                inherits |= {CONTROL: theirs.fileno(), PAGE: self._pageDescriptor}
                inherits |= {PORTS + index: each for index, each in enumerate(descriptors)}
                try:
                    self.reactor.spawnProcess(
                        process, sys.executable, commandOf(life, self.reactor), os.environ, childFDs=inherits
                    )
                except BaseException:
                    process.control.close()
                    raise
        except BaseException:
            row.clear()
            for each in opened:
                each.close()
            raise
        process.row = row
        if life.state is State.GONE:
            # It has ended so fast that it was told of it within the call.
            row.clear()
            for each in opened:
                each.close()
            return process
        theirs.close()
        process.control.send(
            "configuration",
            {
                "configuration": life.generation.configuration,
                "number": life.number,
                "row": row.index,
                "count": self.count,
                "ports": ports,
                "accessLog": self._accessLogPath,
                "patience": life.generation.patience.drain,
                "arguments": sys.argv,
            },
        )
        for index, other in enumerate(others):
            of, to = ends[2 * index : 2 * index + 2]
            process.control.give("neighbour", {"number": other.number, "slot": other.slot}, of.detach())
            other.control.give("neighbour", {"number": life.number, "slot": life.slot}, to.detach())
        self._told.started(process)
        return process

    def patienceWith(self, generation: Generation) -> Patience:
        """Return how long to wait for workers of a generation."""
        return generation.patience

    def becameReady(self, life: Life[WorkerProcess, Generation]) -> None:
        """Called when a worker is ready."""
        process = life.process
        if process is None:
            return
        self._log.info("{worker} is ready", worker=process)
        self._told.ready(process)
        if not self._isDecided:
            self._isDecided = True
            self.serves(process.serves, process.path)
            self.notifier.ready(self.status)
        else:
            self.notifier.status(self.status)

    def kills(self, life: Life[WorkerProcess, Generation], why: str) -> None:
        """Called before a worker is killed."""
        self._log.error("{worker} is killed: {why}", worker=life.process, why=why)

    def ended(self, life: Life[WorkerProcess, Generation], how: str, wasExpected: bool, delay: float | None) -> None:
        """Called when a process has ended."""
        process = life.process
        if process is not None:
            process.row.clear()
            self._told.ended(process)
        if self._isDecided:
            why = "" if life.problem is None else f": {life.problem}"
            back = "" if delay is None else "; the next one starts " + (f"in {delay:g} s" if delay else "at once")
            log = self._log.info if wasExpected else self._log.error
            log("{worker} has ended with {how}{why}{back}", worker=process or life.name, how=how, why=why, back=back)
            if not self.slots.isStopping:
                self.notifier.status(self.status)

    def firstFailed(self, problem: str) -> None:
        """Called when the first worker ended before it was ready."""
        self._problem = problem
        if not self._isWaiting:
            self.failedLater(problem)

    def allEnded(self) -> None:
        """Called when no process is left, after a stop."""
        if self._stopped is not None:
            stopped = self._stopped
            last = self._portsClosed.addCallback(lambda _: attemptLater(self.closeLast))
            last.addCallback(lambda _: self._closeAll(stopped))

    @property
    def status(self) -> str:
        """What the service manager shows."""
        return f"{self.slots.readyCount} of {self.count} workers ready"

    # Reload

    def reload(self) -> None:
        """Read the settings anew, and replace every worker, slot by slot; during a reload, after it."""
        self.slots.reload(self._readAnew)

    def _readAnew(self) -> Generation:
        self._log.info("Reloading")
        self.notifier.reloading()
        try:
            generation = self.readAnew()
        except SystemExit as error:
            raise ValueError(str(getattr(error, "problem", error))) from error
        changed = [name for name, value in generation.fixed.items() if value != self._fixed.get(name)]
        if changed:
            raise ValueError(f"{', '.join(changed)}: can't be changed by a reload, only by a restart")
        return generation

    def reloaded(self, problem: str | None) -> None:
        """Called when a reload is over."""
        if problem is None:
            self._log.info("Reloaded: {status}", status=self.status)
        else:
            self._log.error("Not reloaded, nothing is changed: {problem}", problem=problem)
        self.notifier.ready(self.status)

    def _reopened(self) -> None:
        log = self._accessLog
        if log is None:
            return
        for each in self.slots:
            if each.process is not None:
                each.process.control.give("reopen", {}, os.dup(log.fileno()))

    # Stopping

    def stopService(self) -> Deferred[None]:
        """
        Close the ports, let all workers drain, and end what is left.

        @return: a Deferred that fires when no worker is left: at the latest eight seconds after C{drainTimeout}.
        """
        if self.running:
            super().stopService()  # type: ignore[no-untyped-call]
        if self._stopped is None:
            self._stopped = Deferred()
            for each in [lambda: self.notifier.stopping(), *self._undo]:
                attempt(each)
            self._undo = []
            self._portsClosed = attemptLater(self.closePorts)
            self._sayWhatIsWaitedFor()
            self.slots.stop()
        return alsoWhen(self._stopped)

    def _sayWhatIsWaitedFor(self) -> None:
        lives = [*self.slots]
        if lives and self._isDecided:
            seconds = max(each.generation.patience.drain for each in lives)
            self._log.info(
                "Waiting for {what} to end, for {seconds} s at most. Another Ctrl-C or SIGTERM ends the waiting",
                what=f"{len(lives)} worker{'s' * (len(lives) > 1)}",
                seconds=math.ceil(seconds + CLOSE_TIMEOUT),
            )

    def _closeAll(self, stopped: Deferred[None]) -> None:
        self.notifier.stop()
        if self._accessLog is not None:
            self._accessLog.close()
        if self._isOpen:
            self.page.close()
            os.close(self._pageDescriptor)
        stopped.callback(None)

    def hurry(self) -> None:
        """Wait for sessions no more."""
        self._log.info(
            "Nothing is waited for any more: what is left is aborted in {seconds} s", seconds=math.ceil(CLOSE_TIMEOUT)
        )
        self.slots.hurry()
