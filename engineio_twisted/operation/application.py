"""What one process of the command serves, the application on its server at its ports; and how the command ends."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from ..listening import endpointOf
from ..observer import LogObserver
from ..protocol.errors import HTTPRefusal
from ..server import Server
from ..service import SiteService
from ..web.access_log import AccessLog, absolute, formatAccess
from ..web.descriptions import describedEndpoint
from ..web.fast import siteFor
from .commandline import Options, fail
from .named_objects import DEFAULT_APP, described
from .service_options import ServiceOptions


class ApplicationService(SiteService):
    """
    A server with an application, and its ports, as the settings of the command say; of the process it knows nothing.

    @param options: the command line, parsed.
    @param reactor: the reactor; what the endpoints listen by, if that is another one, is C{ports}.
    @param makeSite: called with the root resource, the reactor and C{logFormatter}; returns the site.
    @param ports: what the endpoints listen by in place of the reactor.
    @raise CommandFailed: the application can't be set up, or an endpoint is none.
    @ivar server: the L{Server}.
    @ivar accessLog: the open access log, if there is one; it is closed at the end of the service.
    @ivar hasFailed: whether something has failed after the start.
    """

    accessLog: AccessLog | None = None

    def __init__(
        self, options: Options, reactor: Any, makeSite: Callable[..., Any] = siteFor, ports: Any = None
    ) -> None:
        self._reactor = reactor
        service = options["serviceOptions"]
        self._settings = service
        self._root = options["root"]
        site = makeSite(self._root, reactor, logFormatter=self._formatAccess)
        server = Server(site, options["serverOptions"], reactor=reactor)
        opening = reactor if ports is None else ports
        endpoints = {each: commandEndpoint(opening, each) for each in service.listen}
        super().__init__(server, site, [(f"--listen {each}", endpoint) for each, endpoint in endpoints.items()])
        if service.logSessions:
            self.server.addObserver(LogObserver(self.server))
        self._problem: str | None = None
        self._isStarted = False
        self._settingUp: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self.hasFailed: bool = False
        self.prepare()
        self._setUp(options["application"])

    def prepare(self) -> None:
        """Called once there are server and site, before the application sets itself up."""

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
                self._settingUp = setUp.addCallback(lambda _: self._stopUnlessBound())
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
        self._settingUp = None
        problem = self._whyNotBound()
        if problem is not None:
            self._log.critical("{problem}", problem=problem)
            self.failedLater(problem)
        self._tellWaiting()

    def privilegedStartService(self) -> None:
        """Open the ports, before privileges are shed. One that can't be opened ends the command."""
        super().privilegedStartService()
        self._isStarted = True
        if self._problem is not None:
            self.failedToStart(self._problem)

    def failedToStart(self, problem: str) -> NoReturn:
        """
        Called when a port can't be opened at the start.

        @raise CommandFailed: always.
        """
        fail(problem)

    def failedLater(self, problem: str) -> None:
        """Called when something has failed after the start, and was logged. Ends the process."""
        self.hasFailed = True
        self._reactor.callWhenRunning(self._reactor.stop)

    def whenReady(self) -> Deferred[None]:
        """
        Return a Deferred that fires when all ports are open and the application is set up.

        It doesn't fire if one of that fails: L{failedLater} is called then.
        """
        ready: Deferred[None] = Deferred()
        self._waiting.append(ready)
        self._tellWaiting()
        return ready

    def _tellWaiting(self) -> None:
        if self._missing or self._settingUp is not None or self.hasFailed:
            return
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def portOpened(self, port: Any) -> None:
        """Called when a port is open. Logs its address."""
        super().portOpened(port)
        self._tellWaiting()

    def portFailed(self, failure: Failure, what: str) -> None:
        """End the command, or the process if the command has started."""
        self._problem = cannotListen(failure, what)
        if self._isStarted:
            # An endpoint that took its time.
            self._stop(failure, self._problem)

    def _stop(self, failure: Failure, problem: str) -> None:
        """End the process: the command line has done its part, and can't be ended any more."""
        self._log.failure("{problem}", failure, problem=problem)
        self.failedLater(problem)

    def writeAccessTo(self, accessLog: AccessLog) -> None:
        """Write a line about each request to a log that is open. It is closed with the service."""
        self.accessLog = self.site.accessLog = accessLog

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, drain the server, then close every connection, and the access log.

        @return: as L{SiteService.stopService}.
        """
        return super().stopService().addBoth(self._closeAccessLog)

    def _closeAccessLog(self, result: Any) -> Any:
        accessLog, self.accessLog, self.site.accessLog = self.accessLog, None, None
        if accessLog is not None:
            accessLog.close()
        return result

    def _formatAccess(self, timestamp: str, request: Any) -> str:
        try:
            address = self.server.clientOf(request).address
        except HTTPRefusal:
            # A proxy that contradicts itself.
            address = None
        line: str = formatAccess(timestamp, request, address, self.server.opts.idPrefix)
        return line


async def _awaited(result: Awaitable[object]) -> None:
    await result


def cannotListen(failure: Failure, what: str) -> str:
    """
    Return the line about a port that can't be opened.

    @param what: names the port.
    """
    reason: Any = failure.value
    if isinstance(reason, CannotListenError):
        # Of a UNIX socket that is locked it is text.
        reason = getattr(reason.socketError, "strerror", None) or reason.socketError
    return f"{what}: cannot listen ({reason})"


def commandEndpoint(reactor: Any, description: str, what: str = "") -> Any:
    """
    Return the endpoint that a setting names.

    @param what: names the setting for an error; by default it is C{--listen}.
    @raise CommandFailed: it names none.
    """
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


def sayWhatIsServed(settings: ServiceOptions, log: Any) -> None:
    """Log which application runs, and which files are served."""
    isEcho = settings.app == DEFAULT_APP
    log.info("Application: {app}", app="every message is sent back (--app names another)" if isEcho else settings.app)
    if settings.static is not None:
        log.info("Static files: {directory}, at /", directory=absolute(settings.static))


def endCommand(problem: str, twistd: Any, log: Any) -> NoReturn:
    """
    End the command because it can't start.

    @param twistd: the options of twistd; empty without it.
    @raise CommandFailed: in the foreground.
    @raise OSError: in the background.
    """
    if "statusPipe" in twistd:
        # A daemon has no terminal. Twistd, still in the foreground, prints the text of an exception.
        log.critical("{problem}", problem=problem)
        raise OSError(problem)
    # Which twistd removes only if the reactor has run, or after an exception.
    pidfile = twistd.get("pidfile")
    if pidfile and os.path.exists(pidfile):
        os.unlink(pidfile)
    fail(problem)


def onNextSignal(reactor: Any, call: Callable[[], object]) -> None:
    """Call something in the reactor's thread at each SIGTERM and Ctrl-C from now on, unless it is ignored."""

    def received(*_: object) -> None:
        reactor.callFromThread(call)

    for each in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, received)
