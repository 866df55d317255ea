"""
`twistd engineio`: the command line, the service, the orderly stop.

twistd finds this through `twisted/plugins/engineio_plugin.py` and imports it only when the command is used.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from ..ends import CLOSE_TIMEOUT, attempt
from ..observer import LogObserver
from ..protocol.errors import HTTPRefusal, OptionError
from ..server import Server
from ..service import SiteService
from ..session.socket import Socket
from ..web.access_log import STANDARD_OUTPUT, AccessLog, absolute, formatAccess
from ..web.descriptions import describedEndpoint, urlOf
from ..web.fast import siteFor
from ..web.ports import Ports
from ..web.site import Site
from .configuration import (
    SETTINGS,
    CommandLineSettings,
    ConfigurationError,
    Path,
    ServiceOptions,
    described,
    findObject,
)
from .health import HealthResource, ReadyResource
from .static import Page, StaticFolder


def echo(server: Server) -> None:
    """Send every message back: the application that runs if none is named."""

    def connected(socket: Socket) -> None:
        socket.on("message", socket.send)

    server.on("connection", connected)


def fail(message: str) -> NoReturn:
    """End the command before it runs, with one line and a non-zero exit."""
    command = "twist" if os.path.basename(sys.argv[0]) == "twist" else "twistd"
    raise SystemExit(f"{command} engineio: {' '.join(message.splitlines())}")


def findApp(name: str) -> Callable[[Server], object]:
    """Return the callable that C{module:callable} names, or end the command."""
    try:
        found = findObject("app", name)
    except OptionError as error:
        fail(f"--app {name}: {error.problem}")
    if not callable(found):
        fail(f"--app {name}: expected something to call with the server, not {found!r}")
    app: Callable[[Server], object] = found
    return app


class NothingElse(Resource):
    """The page beside the sessions if no folder is served: 404."""

    def getChild(self, name: bytes, request: object) -> Resource:
        """Return the resource of any address."""
        return Page(HTTPStatus.NOT_FOUND, "Engine.IO is served here, and nothing else.")


class Options(usage.Options):
    """The command line of `twistd engineio`: besides what is here, a flag for each of L{SETTINGS}."""

    synopsis = "[options]"
    longdesc = (
        "Serve Engine.IO sessions over HTTP long-polling and WebSocket. Without --app, every message is sent back."
    )

    def __init__(self) -> None:
        super().__init__()
        self.given = CommandLineSettings()

    def opt_version(self) -> None:
        """Display the version and exit."""
        raise SystemExit(print(f"engineio_twisted {version('engineio_twisted')}"))  # noqa: T201

    def opt_config(self, name: str) -> None:
        """A TOML file with settings by their names: pingInterval = 25000, [cookie] and so on. Flags win."""
        self.given.file = name

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the command line; what is wrong with it ends the command with one line."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            fail(f"{error} (twistd engineio --help lists the options)")
        except ConfigurationError as error:
            fail(str(error))

    def postOptions(self) -> None:
        """Make of what was given C{serviceOptions}, C{serverOptions}, C{application} and C{root}."""
        self["serviceOptions"], self["serverOptions"] = self.given.options()
        service = self["serviceOptions"]
        self["application"] = findApp(service.app)
        if service.static is None:
            self["root"] = NothingElse()
        elif os.path.isdir(service.static):
            self["root"] = StaticFolder(service.static)
        else:
            fail(f"--static {service.static}: there is no such directory")
        if service.accessLog is not None:
            parent: Any = getattr(self, "parent", None) or {}
            if service.accessLog == STANDARD_OUTPUT and not parent.get("nodaemon", True):
                fail("--access-log -: there is no standard output in the background; twistd needs -n")
            try:
                AccessLog(service.accessLog).close()
            except (OSError, ValueError) as error:
                fail(f"--access-log {service.accessLog}: {getattr(error, 'strerror', None) or error}")


def _addFlags() -> None:
    """Give L{Options} the methods that stand for flags, whose docstrings are their help."""

    def add(flag: str, method: Any, help: str) -> None:  # noqa: A002
        method.__doc__ = help
        setattr(Options, f"opt_{flag.replace('-', '_')}", method)

    def addOf(path: Path) -> None:
        setting = SETTINGS[path]
        default = setting.field.default
        if setting.canBeOn:
            isDefault = " [default]" if default is True else ""
            add(setting.flag, lambda self: self.given.switch(path, True), setting.help + isDefault)
        if not setting.isSwitch:
            default = "" if default is None else f" [default: {_asText(default)}]"
            add(setting.flag, lambda self, text: self.given.flag(path, text), setting.help + default)
        if setting.off is not setting:
            what = f"Not --{setting.flag}." + (" [default]" if default is False else "")
            add(f"no-{setting.flag}", lambda self: self.given.switch(path, False), what)

    for path in SETTINGS:
        addOf(path)


def _asText(default: Any) -> str:
    return ",".join(default) if isinstance(default, tuple) else str(default)


_addFlags()


class CommandService(SiteService):
    """
    What the command runs: besides the ports of the server, those for operators, and failures that end the process.

    @param options: the command line.
    @param reactor: the reactor.
    @ivar server: the L{Server}.
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
        try:
            result = options["application"](self.server)
        except Exception as error:
            self._log.failure("The application could not be set up")
            fail(f"--app {service.app}: failed {described(error)}")
        if isinstance(result, Awaitable):
            Deferred.fromCoroutine(_awaited(result)).addErrback(self._stop, f"--app {service.app}: failed")

    def privilegedStartService(self) -> None:
        """
        Open the access log and the ports, before privileges are shed.

        One that can't be opened ends the command with one line.
        """
        self._openAccessLog()
        inside, self._inside = self._inside, []
        for what, endpoint, site in inside:
            ports = Ports(site, isLast=True)
            self._portsInside.append(ports)
            self._open(ports, endpoint, what, partial(self._listeningInside, site=site))
        super().privilegedStartService()
        self._isStarted = True
        if self._problem is not None:
            self._failToStart(self._problem)

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
        self._reactor.callWhenRunning(self._reactor.stop)

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, drain the server, then close every connection; those for operators last.

        @return: as L{SiteService.stopService}.
        """
        # The last to go, so that all else can be watched as it goes.
        inside, self._portsInside = self._portsInside, []
        for each in inside:
            self.server.stopping.closeWith(each)
        stopped = super().stopService()
        attempt(self._sayWhatIsWaitedFor, stopped)
        return stopped.addBoth(self._closeAccessLog)

    def _sayWhatIsWaitedFor(self, stopped: Deferred[None]) -> None:
        what = self.server.stopping.whatIsLeft()
        if what and not stopped.called:
            self._log.info(
                "Waiting for {what} to end, for {seconds} s at most. Another Ctrl-C or SIGTERM ends the waiting",
                what=what,
                seconds=math.ceil(self.server.stopping.secondsLeft),
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
        return describedEndpoint(reactor, description)
    except Exception as error:
        # Whatever a parser of descriptions, Twisted's or a plugin's, may raise at a wrong one.
        fail(f"{what or f'--listen {description}'}: {error}")


def makeService(options: Options) -> CommandService:
    """Return the service that twistd runs."""
    from twisted.internet import reactor

    service = CommandService(options, reactor)
    trigger: Any = reactor
    trigger.addSystemEventTrigger("before", "shutdown", service.hurryOnSignal)
    return service
