"""The parent, without processes: what it opens and claims for a worker, and that it gives that back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from engineio_twisted.workers.page import SharedPage
from engineio_twisted.workers.parent import Parent
from engineio_twisted.workers.process import Generation, WorkerProcess
from engineio_twisted.workers.slots import Patience


class Reactor(Clock):
    """
    Starts no process.

    @ivar how: what becomes of the next one: C{runs}, C{ends} before it is known, or C{raises}.
    """

    running = True
    how = "runs"

    def __init__(self) -> None:
        super().__init__()
        self.started: list[WorkerProcess] = []

    def spawnProcess(self, process: Any, *arguments: object, **more: object) -> None:
        if self.how == "raises":
            raise OSError(12, "Cannot allocate memory")
        self.started.append(process)
        process.pid = 4711
        if self.how == "ends":
            process.processExited(Failure(ProcessTerminated(exitCode=127)))

    def addReader(self, reader: Any) -> None:
        pass

    addWriter = removeReader = removeWriter = addReader


class Bare(Parent):
    """A parent without ports."""

    def inherited(self) -> tuple[Sequence[int], Any]:
        return [], []


class Told:
    """What is told of workers."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()

    def started(self, worker: WorkerProcess) -> None:
        self.numbers.add(worker.number)

    def ready(self, worker: WorkerProcess) -> None:
        pass

    draining = ready

    def ended(self, worker: WorkerProcess) -> None:
        self.numbers.discard(worker.number)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_workersThatEndAtOnce(mayLog: None) -> None:
    """
    A process that has ended before its start returns, or that can't be started, leaves nothing behind.

    Neither a row of the page, nor a descriptor, nor a worker that observers take for one that runs.
    """
    reactor, told = Reactor(), Told()
    parent = Bare(reactor, 2, Generation("", {}, Patience(30.0, None, 5.0)))
    parent.observers.append(told)  # type: ignore[arg-type]
    parent.page, parent._pageDescriptor = SharedPage.create(4)
    parent.slots.start()
    reactor.how = "ends"
    before = descriptors()
    reactor.started[0].life.ready()
    for reactor.how in ["ends", "raises"] * 3:
        reactor.advance(30)
    assert descriptors() == before
    assert [row.number for row in parent.page] == [1, 0, 0, 0]
    assert told.numbers == {1}
    reactor.how = "runs"
    reactor.advance(30)
    last = reactor.started[-1]
    assert [row.number for row in parent.page] == [1, 0, last.number, 0]
    assert told.numbers == {1, last.number}
    for each in reactor.started:
        each.control.close()
    os.close(parent._pageDescriptor)
    parent.page.close()
