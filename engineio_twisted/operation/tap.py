"""
`twistd engineio`: the service, and the orderly stop.

twistd finds this through `twisted/plugins/engineio_plugin.py` and imports it only when the command is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.web.resource import Resource

from ..ends import CLOSE_TIMEOUT, attempt
from ..server import Server
from ..session.socket import Socket
from ..web.access_log import AccessLog, absolute
from ..web.descriptions import urlOf
from ..web.ports import Ports
from ..web.site import Site
from .application import ApplicationService, commandEndpoint, endCommand, onNextSignal, sayWhatIsServed
from .commandline import Options as Options
from .commandline import fail
from .health import HealthResource, ReadyResource
from .service_options import ServiceOptions


def echo(server: Server) -> None:
    """Send every message back: the application that runs if none is named."""

    def connected(socket: Socket) -> None:
        socket.on("message", socket.send)

    server.on("connection", connected)


class CommandService(ApplicationService):
    """
    What the command runs: besides the ports of the server, those for operators, and failures that end the process.

    @param options: the command line.
    @param reactor: the reactor.
    @ivar server: the L{Server}.
    @ivar hasFailed: whether it has ended the process because something failed after the start.
    """

    def __init__(self, options: Options, reactor: Any) -> None:
        self._twistd: Any = getattr(options, "parent", None) or {}
        self._undoSignal: Callable[[], None] | None = None
        self._portsInside: list[Ports] = []
        super().__init__(options, reactor)

    def prepare(self) -> None:
        """Put the resources for operators in their places."""
        accessLog = self._settings.accessLog
        # Whatever folder is the current one when it is opened.
        self._accessLogPath = None if accessLog is None else absolute(accessLog)
        self._inside = self._placesInside(self._settings, self._root)

    def privilegedStartService(self) -> None:
        """
        Open the access log and the ports, before privileges are shed.

        One that can't be opened ends the command with one line.
        """
        self._openAccessLog()
        if not self._isOpen:
            sayWhatIsServed(self._settings, self._log)
        inside, self._inside = self._inside, []
        for what, endpoint, site in inside:
            ports = Ports(site, isLast=True)
            self._portsInside.append(ports)
            self._open(ports, endpoint, what, partial(self._listeningInside, site=site))
        super().privilegedStartService()

    def _openAccessLog(self) -> None:
        path = self._accessLogPath
        if path is None or self.accessLog is not None:
            return
        try:
            self.writeAccessTo(AccessLog(path))
        except OSError as error:
            self.failedToStart(f"--access-log {path}: {error.strerror}")
        if self.accessLog is not None:
            self._undoSignal = self.accessLog.reopenOnSignal(self._reactor.callFromThread)

    def _closeAccessLog(self, result: Any) -> Any:
        if self._undoSignal is not None:
            self._undoSignal()
            self._undoSignal = None
        return super()._closeAccessLog(result)

    def failedToStart(self, problem: str) -> NoReturn:
        """
        End the command, under twistd as that expects it.

        @raise CommandFailed: in the foreground.
        @raise OSError: in the background.
        """
        endCommand(problem, self._twistd, self._log)

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
            (what, commandEndpoint(self._reactor, where, what), siteOf(resource))
            for where, (what, resource) in places.items()
        ]

    def _whyNotListening(self) -> str | None:
        return "not listening" if self._missing else None

    def _listeningInside(self, port: IListeningPort, site: Site) -> None:
        paths = ", ".join(sorted(f"/{name.decode()}" for name in site.resource.listNames()))
        self._log.info("For operators: {paths} at {where}", paths=paths, where=urlOf(port))

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
        return stopped

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
        onNextSignal(self._reactor, self._hurry)

    def _hurry(self) -> None:
        self._log.info(
            "Nothing is waited for any more: what is left is aborted in {seconds} s", seconds=math.ceil(CLOSE_TIMEOUT)
        )
        self.server.close()


def makeService(options: Options) -> Any:
    """Return the service that twistd runs: one that serves, or one whose workers do."""
    from twisted.internet import reactor

    service: Any
    if options["serviceOptions"].workers is None:
        service = CommandService(options, reactor)
    else:
        from ..workers.service import WorkersCommand

        service = WorkersCommand(options, reactor)
    trigger: Any = reactor
    trigger.addSystemEventTrigger("before", "shutdown", service.hurryOnSignal)
    return service
