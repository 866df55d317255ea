"""
`twistd engineio`: the service, and the orderly stop.

twistd finds this through `twisted/plugins/engineio_plugin.py` and imports it only when the command is used.
"""

from __future__ import annotations

import math
import os
import re
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from ..ends import CLOSE_TIMEOUT, attempt
from ..listening import endpointOf
from ..observer import LogObserver
from ..protocol.errors import HTTPRefusal
from ..server import Server
from ..service import SiteService
from ..session.socket import Socket
from ..web.access_log import AccessLog, absolute, formatAccess
from ..web.descriptions import describedEndpoint, urlOf
from ..web.fast import siteFor
from ..web.ports import Ports
from ..web.site import Site
from .commandline import Options as Options
from .commandline import fail
from .configuration import ServiceOptions
from .health import HealthResource, ReadyResource
from .named_objects import DEFAULT_APP, described


def echo(server: Server) -> None:
    """Send every message back: the application that runs if none is named."""

    def connected(socket: Socket) -> None:
        socket.on("message", socket.send)

    server.on("connection", connected)


class CommandService(SiteService):
    """
    What the command runs: besides the ports of the server, those for operators, and failures that end the process.

    @param options: the command line.
    @param reactor: the reactor.
    @ivar server: the L{Server}.
    @ivar hasFailed: whether it has ended the process because something failed after the start.
    """

    def __init__(self, options: Options, reactor: Any) -> None:
        self._reactor = reactor
        self._twistd: Any = getattr(options, "parent", None) or {}
        service = options["serviceOptions"]
        site = siteFor(options["root"], reactor, logFormatter=self._formatAccess)
        server = Server(site, options["serverOptions"], reactor=reactor)
        endpoints = {each: _endpoint(reactor, each) for each in service.listen}
        super().__init__(server, site, [(f"--listen {each}", endpoint) for each, endpoint in endpoints.items()])
        # Whatever folder is the current one when it is opened.
        self._accessLogPath = None if service.accessLog is None else absolute(service.accessLog)
        self._accessLog: AccessLog | None = None
        self._undoSignal: Callable[[], None] | None = None
        if service.logSessions:
            self.server.addObserver(LogObserver(self.server))
        self._inside = self._placesInside(service, options["root"])
        self._portsInside: list[Ports] = []
        self._problem: str | None = None
        self._isStarted = False
        self.hasFailed: bool = False
        self._settings = service
        self._setUp(options["application"])

    def _setUp(self, application: Callable[[Server], object]) -> None:
        """Let the application set itself up; if that fails at once, end the command before anything is listened on."""
        app = self._settings.app
        try:
            result = application(self.server)
        except Exception as error:
            self._log.failure("The application could not be set up")
            fail(f"--app {app}: failed {described(error)}")
        if isinstance(result, Awaitable):
            setUp = Deferred.fromCoroutine(_awaited(result)).addErrback(self._stop, f"--app {app}: failed")
            if not setUp.called:
                setUp.addCallback(lambda _: self._stopUnlessBound())
                return
        problem = self._whyNotBound()
        if problem is not None:
            fail(problem)

    def _whyNotBound(self) -> str | None:
        """Return what is wrong if a Socket.IO server is asked for, and the application has made none."""
        if not self._settings.socketio or self.hasFailed or self.server.socketIONotice.isBound:
            return None
        if self._settings.app == DEFAULT_APP:
            return "--socketio: name an application with --app, which calls SocketIO(server)"
        return f"--socketio: --app {self._settings.app} made no SocketIO: call SocketIO(server) in it"

    def _stopUnlessBound(self) -> None:
        problem = self._whyNotBound()
        if problem is not None:
            self._log.critical("{problem}", problem=problem)
            self._stopReactor()

    def privilegedStartService(self) -> None:
        """
        Open the access log and the ports, before privileges are shed.

        One that can't be opened ends the command with one line.
        """
        self._openAccessLog()
        if not self._isOpen:
            self._sayWhatIsServed()
        inside, self._inside = self._inside, []
        for what, endpoint, site in inside:
            ports = Ports(site, isLast=True)
            self._portsInside.append(ports)
            self._open(ports, endpoint, what, partial(self._listeningInside, site=site))
        super().privilegedStartService()
        self._isStarted = True
        if self._problem is not None:
            self._failToStart(self._problem)

    def _sayWhatIsServed(self) -> None:
        app, static = self._settings.app, self._settings.static
        isEcho = app == DEFAULT_APP
        self._log.info("Application: {app}", app="every message is sent back (--app names another)" if isEcho else app)
        if static is not None:
            self._log.info("Static files: {directory}, at /", directory=absolute(static))

    def _openAccessLog(self) -> None:
        path = self._accessLogPath
        if path is None or self._accessLog is not None:
            return
        try:
            self._accessLog = self.site.accessLog = AccessLog(path)
        except OSError as error:
            self._failToStart(f"--access-log {path}: {error.strerror}")
        self._undoSignal = self._accessLog.reopenOnSignal(self._reactor.callFromThread)

    def _closeAccessLog(self, result: Any) -> Any:
        if self._undoSignal is not None and self._accessLog is not None:
            self._undoSignal()
            self._accessLog.close()
            self._undoSignal = self.site.accessLog = None
        return result

    def _failToStart(self, problem: str) -> NoReturn:
        if "statusPipe" in self._twistd:
            # In the background nobody sees what is written, but twistd, in the foreground, is told of an exception.
            self._log.critical("{problem}", problem=problem)
            raise OSError(problem)
        # Which twistd removes only if the reactor has run, or after an exception.
        pidfile = self._twistd.get("pidfile")
        if pidfile and os.path.exists(pidfile):
            os.unlink(pidfile)
        fail(problem)

    def _placesInside(self, service: ServiceOptions, root: Any) -> list[tuple[str, Any, Site]]:
        """
        Return the places of the resources for operators, each with the flag that names it.

        @param root: what is served beside the sessions, to which is added what goes there.
        """
        places: dict[str, tuple[str, Any]] = {}

        def put(flag: str, where: str, **resources: Resource) -> None:
            if where == "listen":
                there = root
            else:
                _, there = places.setdefault(where, (f"--{flag} {where}", Resource()))
            for name, each in resources.items():
                there.putChild(name.encode(), each)

        if service.metrics is not None:
            try:
                from .metrics import MetricsResource
            except ImportError as error:
                fail(f"--metrics {service.metrics}: {error}")
            put("metrics", service.metrics, metrics=MetricsResource(self.server))
        if service.health is not None:
            ready = ReadyResource(self.server, [self._whyNotListening])
            put("health", service.health, health=HealthResource(), ready=ready)

        def siteOf(resource: Resource) -> Site:
            site = Site(resource, reactor=self._reactor)
            site.takesBodies = False
            site.addServer(self.server)
            return site

        return [
            (what, _endpoint(self._reactor, where, what), siteOf(resource))
            for where, (what, resource) in places.items()
        ]

    def _whyNotListening(self) -> str | None:
        return "not listening" if self._missing else None

    def _listeningInside(self, port: IListeningPort, site: Site) -> None:
        paths = ", ".join(sorted(f"/{name.decode()}" for name in site.resource.listNames()))
        self._log.info("For operators: {paths} at {where}", paths=paths, where=urlOf(port))

    def _formatAccess(self, timestamp: str, request: Any) -> str:
        try:
            address = self.server.clientOf(request).address
        except HTTPRefusal:
            # A proxy that contradicts itself.
            address = None
        line: str = formatAccess(timestamp, request, address, self.server.opts.idPrefix)
        return line

    def portFailed(self, failure: Failure, what: str) -> None:
        """End the command, or the process if the command has started."""
        reason: Any = failure.value
        if isinstance(reason, CannotListenError):
            # Of a UNIX socket that is locked it is text.
            reason = getattr(reason.socketError, "strerror", None) or reason.socketError
        self._problem = f"{what}: cannot listen ({reason})"
        if self._isStarted:
            # An endpoint that took its time.
            self._stop(failure, self._problem)

    def _stop(self, failure: Failure, problem: str) -> None:
        """End the process: the command line has done its part, and can't be ended any more."""
        self._log.failure("{problem}", failure, problem=problem)
        self._stopReactor()

    def _stopReactor(self) -> None:
        self.hasFailed = True
        self._reactor.callWhenRunning(self._reactor.stop)

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, drain the server, then close every connection; those for operators last.

        @return: as L{SiteService.stopService}.
        """
        # The last to go, so that all else can be watched as it goes.
        inside, self._portsInside = self._portsInside, []
        for each in inside:
            self.server._stopping.closeWith(each)
        stopped = super().stopService()
        attempt(self._sayWhatIsWaitedFor, stopped)
        return stopped.addBoth(self._closeAccessLog)

    def _sayWhatIsWaitedFor(self, stopped: Deferred[None]) -> None:
        what = self.server._stopping.whatIsLeft()
        if what and not stopped.called:
            self._log.info(
                "Waiting for {what} to end, for {seconds} s at most. Another Ctrl-C or SIGTERM ends the waiting",
                what=what,
                seconds=math.ceil(self.server._stopping.secondsLeft),
            )

    def hurryOnSignal(self) -> None:
        """Let another SIGTERM or Ctrl-C end the wait."""

        def hurry(*_: object) -> None:
            self._reactor.callFromThread(self._hurry)

        for each in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, hurry)

    def _hurry(self) -> None:
        self._log.info(
            "Nothing is waited for any more: what is left is aborted in {seconds} s", seconds=math.ceil(CLOSE_TIMEOUT)
        )
        self.server.close()


async def _awaited(result: Awaitable[object]) -> None:
    await result


def _endpoint(reactor: Any, description: str, what: str = "") -> Any:
    try:
        # A number is a port, as with `listen`.
        return (
            endpointOf(reactor, int(description))
            if re.fullmatch("[0-9]+", description)
            else describedEndpoint(reactor, description)
        )
    except Exception as error:
        # Whatever a parser of descriptions, Twisted's or a plugin's, may raise at a wrong one.
        address = re.fullmatch(r"(?:(\[[0-9A-Fa-f:.]+\])|([\w.-]*)):([0-9]+)", description)
        cure = f"; did you mean {_asDescription(*address.groups(''))}?" if address is not None else ""
        problem = str(error).removeprefix(f"endpoint {description}: ")
        fail(f"{what or f'--listen {description}'}: {problem}{cure}")


def _asDescription(ipv6: str, host: str, port: str) -> str:
    """Return what describes an address as browsers write it."""
    if ipv6:
        return f"tcp6:{port}:interface={quoteStringArgument(ipv6[1:-1])}"
    return f"tcp:{port}:interface={host}" if host else port


def makeService(options: Options) -> CommandService:
    """Return the service that twistd runs."""
    from twisted.internet import reactor

    service = CommandService(options, reactor)
    trigger: Any = reactor
    trigger.addSystemEventTrigger("before", "shutdown", service.hurryOnSignal)
    return service
