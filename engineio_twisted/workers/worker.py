"""
A worker: the process that the parent starts, with a server and the application, and its end of the control connection.

docs/architecture/workers.md, "Life of a worker".
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import select
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.main import installReactor
from twisted.logger import Logger, globalLogBeginner

from ..clock import cancel, steadyClock
from ..ends import attempt
from ..observer import ServerStats
from ..operation.application import ApplicationService
from ..operation.commandline import CommandFailed, Options, optionsOfWorker, startedIn
from ..operation.named_objects import described
from ..web.access_log import AccessLog
from .cluster import Cluster
from .control import ACCESS_LOG, CONTROL, PAGE, PORTS, Control
from .handover import Neighbour
from .inherited import InheritedReactor
from .logs import LogSender
from .operators import REPORT_TIMEOUT, Reporter, askStats, operatorsPages
from .owners import prefixOf
from .page import RowState, SharedPage
from .slots import DRAIN_GRACE

REPORT_INTERVAL = 10.0
"""Seconds between two reports that nobody has asked for: a crash loses what was counted since the last one."""


class _Application(ApplicationService):
    """What a worker serves, joined to the others before the application sets itself up."""

    def __init__(self, worker: Worker, options: Options, ports: InheritedReactor) -> None:
        self._worker = worker
        super().__init__(options, worker.reactor, ports=ports)

    def prepare(self) -> None:
        """Join the others."""
        self._worker.join(self, self._settings, self._root)

    def failedLater(self, problem: str) -> None:
        """Tell the parent what has failed, and end the process."""
        self._worker.control.send("problem", {"problem": problem})
        super().failedLater(problem)

    def portOpened(self, port: IListeningPort) -> None:
        """Called when a port was adopted. Its address is logged by the parent alone."""
        self._missing -= 1
        self._tellWaiting()


class Worker:
    """
    The process.

    @param reactor: the reactor.
    @ivar control: this end of the control connection.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._clock = steadyClock(reactor)
        self.control: Control = Control(reactor, socket.socket(fileno=CONTROL), self, self._clock)
        self._told: dict[str, Any] | None = None
        self._service: _Application | None = None
        self._cluster: Cluster | None = None
        self._reporter: Reporter | None = None
        self._reports: Any = None
        self._sender = LogSender(self._sendLog, reactor.callFromThread)
        # What came before there was a cluster.
        self._early: list[tuple[int, int, int]] = []
        self._accessLogDescriptor: int = ACCESS_LOG
        self._orphan = Orphan()
        self._isEnding = False

    def run(self) -> int:
        """
        Serve until the parent says otherwise, or is gone.

        @return: the exit status.
        """
        globalLogBeginner.beginLoggingTo([self._sender], redirectStandardIO=False, discardBuffer=True)
        while self._told is None and not self._isEnding:
            self.reactor.iterate(1)
        if self._told is None:
            return 0
        problem = self._start(self._told)
        if problem is not None:
            self.control.send("problem", {"problem": problem})
            return 1
        self.reactor.callWhenRunning(self._running)
        self.reactor.addSystemEventTrigger("before", "shutdown", self._stop)
        self.reactor.run()
        self.control.close()
        assert self._service is not None
        return 1 if self._service.hasFailed else 0

    def _start(self, told: dict[str, Any]) -> str | None:
        """Set everything up. Returns what is wrong, if anything is."""
        inherited = InheritedReactor(self.reactor, [(each, PORTS + index) for index, each in enumerate(told["ports"])])
        try:
            options = optionsOfWorker(told["configuration"])
            opts = options["serverOptions"]
            self._prefix = opts.idPrefix
            options["serverOptions"] = attrs.evolve(opts, idPrefix=prefixOf(told["number"], opts.idPrefix))
            with startedIn(options.given.directory):
                self._service = service = _Application(self, options, inherited)
            if told["accessLog"] is not None:
                service.writeAccessTo(AccessLog(told["accessLog"], self._accessLogDescriptor))
            service.privilegedStartService()
            service.startService()
            return inherited.whatIsLeft()
        except CommandFailed as error:
            return error.problem
        except SystemExit as error:
            # The application's, as it ends the command without workers.
            return error.code if isinstance(error.code, str) else f"the application ended it with {error.code}"
        except Exception as error:
            self._log.failure("The worker could not be set up")
            return f"failed {described(error)}"
        finally:
            inherited.close()

    def join(self, service: _Application, settings: Any, root: Any) -> None:
        """Make this worker's view of all of them, once there is a server."""
        told = self._told or {}
        page = SharedPage.open(PAGE, 2 * told["count"])
        os.close(PAGE)
        row = page.row(told["row"])
        row.state = RowState.STARTING
        self._cluster = Cluster(
            service.server,
            service.site,
            page,
            row,
            prefix=self._prefix,
            count=told["count"],
            stats=self._stats,
            mayMove=settings.workersMove,
        )
        self._reporter = Reporter(service.server, settings.metrics is not None)
        for kind, names in (("metrics", ["metrics"]), ("health", ["health", "ready"])):
            if getattr(settings, kind) == "listen":
                for name, each in operatorsPages(self._askParent, self._clock, *names).items():
                    root.putChild(name, each)

    def _askParent(self, question: dict[str, Any]) -> Deferred[Any]:
        return self.control.ask("operators", question, timeout=REPORT_TIMEOUT)

    def _stats(self) -> Deferred[Mapping[int, ServerStats]]:
        return askStats(self._askParent)  # type: ignore[return-value]

    def _running(self) -> None:
        assert self._service is not None
        assert self._cluster is not None
        self._orphan.grace = self._service.server.opts.drainTimeout / 1000 + DRAIN_GRACE
        early, self._early = self._early, []
        for number, slot, descriptor in early:
            self._addNeighbour(number, slot, descriptor)
        if self._isEnding:
            self.reactor.stop()
        else:
            self._service.whenReady().addCallback(lambda _: self._ready())

    def _ready(self) -> None:
        assert self._service is not None
        assert self._cluster is not None
        if self._isEnding:
            return
        server = self._service.server
        self._cluster.start()
        what = "Socket.IO" if server.socketIONotice.isBound else "Engine.IO"
        self.control.send("ready", {"serves": what, "path": server.opts.path})
        self._report()

    def _report(self) -> None:
        self._reports = self._clock.callLater(REPORT_INTERVAL, self._report)
        if not self.control.isFull:
            self._sendReport()

    def _sendReport(self) -> None:
        if self._reporter is not None:
            self.control.send("report", self._reporter.report())

    # What the parent says

    def messageReceived(self, kind: str, fields: dict[str, Any], descriptors: list[int]) -> object:
        """Called with each message."""
        if kind == "ping":
            self.control.send("pong")
        elif kind == "configuration":
            self._told = fields
            sys.argv = fields["arguments"]
        elif kind == "neighbour" and len(descriptors) == 1:
            self._addNeighbour(fields["number"], fields["slot"], descriptors[0])
        elif kind == "reopen" and len(descriptors) == 1:
            self._reopen(descriptors[0])
        elif kind == "drain":
            self._end()
        elif kind == "hurry":
            if self._service is not None:
                self._service.server.close()
        elif kind == "report":
            return None if self._reporter is None else self._reporter.report(fields["what"])
        return None

    def controlLost(self) -> None:
        """Called when the parent is gone: nobody else would end this process."""
        if not self._isEnding:
            self._log.error("The parent is gone: this worker ends")
            self._end()

    def _addNeighbour(self, number: int, slot: int, descriptor: int) -> None:
        if self._cluster is None:
            self._early.append((number, slot, descriptor))
            return
        connection = socket.socket(fileno=descriptor)
        self._cluster.addNeighbour(Neighbour(self.reactor, connection, number, slot, self._cluster))

    def _reopen(self, descriptor: int) -> None:
        log = None if self._service is None else self._service.accessLog
        if log is not None:
            log.replace(descriptor)
        else:
            os.close(descriptor)

    def _end(self) -> None:
        self._isEnding = True
        if self.reactor.running:
            self.reactor.stop()

    # The end

    def _stop(self) -> Deferred[None]:
        """Drain the server, as when a process that serves alone is stopped."""
        assert self._service is not None
        self._isEnding = True
        cancel(self._reports)
        return self._service.stopService().addBoth(lambda _: self._stopped())

    def _stopped(self) -> Deferred[None]:
        assert self._cluster is not None
        for step in (self._cluster.stop, self._sendReport):
            attempt(step)
        return self._sender.whenEmpty()

    def _sendLog(self, lines: str, sent: Any) -> None:
        self.control.send("log", {"lines": lines}, sent=sent)


class Orphan:
    """
    Ends the process if the parent is gone and it doesn't end by itself: when the application hangs, nothing else does.

    @ivar grace: seconds that it has, which are none before it serves.
    """

    grace: float = 0.0

    def __init__(self) -> None:
        self._copy = os.dup(CONTROL)
        threading.Thread(target=self._watch, name="engineio-parent", daemon=True).start()

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._copy, 0)
        poll.poll()
        threading.Event().wait(self.grace)
        os._exit(1)


def main(reactorName: str) -> None:
    """
    Run a worker.

    @param reactorName: the class of the reactor, C{module:class}.
    @raise SystemExit: at the end, with the exit status.
    """
    faulthandler.enable()
    for descriptor in _inherited():
        os.set_inheritable(descriptor, False)
    module, _, name = reactorName.partition(":")
    reactor: Any = getattr(importlib.import_module(module), name)()
    installReactor(reactor)
    reactor.sigTerm = lambda *_: None
    raise SystemExit(Worker(reactor).run())


def _inherited() -> list[int]:
    """Return the descriptors that the process has been given besides the standard ones."""
    found = [int(each) for each in os.listdir("/proc/self/fd")]
    # That of the folder is closed by now.
    return [each for each in found if each > 2 and _isOpen(each)]


def _isOpen(descriptor: int) -> bool:
    try:
        os.get_inheritable(descriptor)
    except OSError:
        return False
    return True
