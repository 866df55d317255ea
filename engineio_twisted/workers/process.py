"""The process of a worker, as its parent sees it: how it is started, what it says, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any, Protocol

import attrs
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..ends import attempt
from .control import Control
from .logs import WorkerLog
from .page import Row
from .slots import Life, Patience

BOOT = (
    "import json, signal, sys\n"
    "for name in ('SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1'): signal.signal(getattr(signal, name), lambda *_: None)\n"
    "sys.path[:] = json.loads(sys.argv[1])\n"
    "from engineio_twisted.workers.worker import main\n"
    "main(sys.argv[2])\n"
)
"""
What a worker runs first: signals are the parent's affair, and modules are found where the parent finds them.

Handlers that do nothing, as a program that the application starts would go on to ignore what is ignored.
"""


@attrs.frozen
class Generation:
    """
    What workers run until a reload.

    @ivar configuration: what a worker makes its server of: the settings as text.
    @ivar fixed: what no reload changes, by the names of the settings.
    @ivar patience: how long they are waited for.
    """

    configuration: str
    fixed: Mapping[str, Any]
    patience: Patience


class ParentObserver(Protocol):
    """What is told of workers. Each method does nothing by itself."""

    def started(self, worker: WorkerProcess) -> None:
        """Called when the process of a worker was started."""

    def ready(self, worker: WorkerProcess) -> None:
        """Called when a worker serves."""

    def draining(self, worker: WorkerProcess) -> None:
        """Called when a worker is told to end."""

    def ended(self, worker: WorkerProcess) -> None:
        """Called when the process of a worker has ended."""

    def messageReceived(self, worker: WorkerProcess, kind: str, fields: dict[str, Any]) -> object:
        """Called with each message that isn't the parent's own affair; returns the answer, or a Deferred of it."""
        return None


class Observers(ParentObserver):
    """
    Tells several observers.

    @param observers: these, in their order.
    """

    def __init__(self, observers: list[ParentObserver]) -> None:
        self._observers = observers

    def started(self, worker: WorkerProcess) -> None:
        """Called when the process of a worker was started."""
        for each in self._observers:
            attempt(each.started, worker)

    def ready(self, worker: WorkerProcess) -> None:
        """Called when a worker serves."""
        for each in self._observers:
            attempt(each.ready, worker)

    def draining(self, worker: WorkerProcess) -> None:
        """Called when a worker is told to end."""
        for each in self._observers:
            attempt(each.draining, worker)

    def ended(self, worker: WorkerProcess) -> None:
        """Called when the process of a worker has ended."""
        for each in self._observers:
            attempt(each.ended, worker)

    def messageReceived(self, worker: WorkerProcess, kind: str, fields: dict[str, Any]) -> object:
        """Return the first answer."""
        answers = (each.messageReceived(worker, kind, fields) for each in self._observers)
        return next((each for each in answers if each is not None), None)


class WorkerProcess(ProcessProtocol):
    """
    The process of a worker, and the parent's end of its control connection.

    @ivar life: the worker, as the slots know it.
    @ivar control: the control connection.
    @ivar row: its row of the shared page, once it was started.
    @ivar pid: the id of the process.
    @ivar serves: what it serves, once it is ready.
    @ivar path: the path at which it does.
    """

    _log = Logger()
    row: Row
    pid: int = 0
    serves: str = ""
    path: str = ""

    def __init__(
        self,
        reactor: Any,
        clock: Any,
        life: Life[WorkerProcess, Generation],
        connection: socket.socket,
        observer: ParentObserver,
    ) -> None:
        self.life = life
        self._observer = observer
        self._written = WorkerLog(life.number, life.slot)
        self.control: Control = Control(reactor, connection, self, clock)

    @property
    def number(self) -> int:
        """The number of the worker."""
        return self.life.number

    @property
    def slot(self) -> int:
        """The slot of the worker."""
        return self.life.slot

    def __str__(self) -> str:
        return f"Worker {self.number} (slot {self.slot}, process {self.pid})"

    def connectionMade(self) -> None:
        """Called when the process was started."""
        transport: Any = self.transport
        self.pid = transport.pid

    # What the slots want

    def ping(self) -> None:
        """Ask whether it is alive."""
        self.control.send("ping")

    def drain(self) -> None:
        """Let its sessions end, and then the process."""
        self.control.send("drain")
        self._observer.draining(self)

    def hurry(self) -> None:
        """End the wait of its sessions."""
        self.control.send("hurry")

    def abort(self) -> None:
        """Send SIGABRT, which a process that was stopped gets when it goes on."""
        self._signal(signal.SIGABRT)
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        try:
            if self.transport is not None:
                self.transport.signalProcess(number)
        except ProcessExitedAlready:
            # Which is about to be told.
            self._log.debug("Worker {number} had ended", number=self.number)

    # What the process does

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Called with what it has written to stdout or stderr."""
        self._written.bytesCame("stdout" if childFD == 1 else "stderr", data)

    def processExited(self, reason: Failure) -> None:
        """Called when it has ended; what it has written may still come."""
        # The last messages first: why it has ended.
        self.control.readAll()
        self.control.close()
        ended: Any = reason.value
        how = f"status {ended.exitCode}" if ended.signal is None else signalName(ended.signal)
        self.life.ended(how)

    def processEnded(self, reason: Failure) -> None:
        """Called when it has ended and nothing more of what it has written comes."""
        self._written.ended()

    # What the worker says

    def messageReceived(self, kind: str, fields: dict[str, Any], descriptors: list[int]) -> object:
        """Called with each message."""
        for each in descriptors:
            os.close(each)
        if kind == "pong":
            self.life.pong()
        elif kind == "log":
            self._written.eventsCame(fields["lines"])
        elif kind == "ready":
            self.serves, self.path = fields["serves"], fields["path"]
            self.life.ready()
        elif kind == "problem":
            self.life.problem = fields["problem"]
        else:
            return self._observer.messageReceived(self, kind, fields)
        return None

    def controlLost(self) -> None:
        """Called when the control connection is closed: the process ends, or is about to."""


def signalName(number: int) -> str:
    """Return the name of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_FLAGS = {
    "optimize": "-O",
    "dont_write_bytecode": "-B",
    "bytes_warning": "-b",
    "no_user_site": "-s",
    "safe_path": "-P",
    "ignore_environment": "-E",
    "dev_mode": "-Xdev",
    "utf8_mode": "-Xutf8",
}


def interpreterFlags() -> list[str]:
    """Return the flags of this interpreter that a new one doesn't have by the environment."""
    flags = [flag for name, flag in _FLAGS.items() for _ in range(getattr(sys.flags, name, 0))]
    return [*flags, *(f"-W{each}" for each in sys.warnoptions)]


def commandOf(life: Life[WorkerProcess, Generation], reactor: Any) -> list[str]:
    """Return the program of a worker and its arguments: this interpreter, its flags, its modules, its reactor."""
    kind = type(reactor)
    path = [each for each in sys.path if isinstance(each, str)]
    name = f"{kind.__module__}:{kind.__qualname__}"
    return [sys.executable, *interpreterFlags(), "-c", BOOT, json.dumps(path), name, f"slot {life.slot}"]
