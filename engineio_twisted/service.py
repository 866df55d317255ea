"""A server as a part of an application that Twisted starts and stops: a service."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Unpack

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource

from .ends import attempt
from .listening import NotImplementedResource, endpointOf
from .protocol.options import OptionKeywords
from .server import Server
from .web.descriptions import urlOf
from .web.fast import siteFor
from .web.ports import Ports
from .web.site import Site


class SiteService(Service):
    """
    The ports of a site, and of a server that is attached to it.

    @param endpoints: the endpoints to listen on, each with its name for an error.
    """

    _log = Logger()

    def __init__(self, server: Server, site: Site, endpoints: Iterable[tuple[str, IStreamServerEndpoint]]) -> None:
        self.server = server
        self.site = site
        self._endpoints = [*endpoints]
        self._missing = len(self._endpoints)
        self._ports = Ports(site)
        self._isOpen = False
        self._isStopped = False

    @property
    def ports(self) -> list[IListeningPort]:
        """The ports that are open."""
        return self._ports.open

    @property
    def whyNotReady(self) -> str | None:
        """Why no new sessions are opened: not all ports are open, or the server drains or closes."""
        return "not listening" if self._missing else self.server.whyNotReady

    def privilegedStartService(self) -> None:
        """Open the ports, before privileges are shed."""
        if self._isStopped:
            raise RuntimeError("the service was stopped, and its server is closed for good: make another")
        if self._isOpen:
            return
        self._isOpen = True
        for what, endpoint in self._endpoints:
            self._open(self._ports, endpoint, what, self.portOpened)

    def _open(
        self, ports: Ports, endpoint: IStreamServerEndpoint, what: str, opened: Callable[[IListeningPort], object]
    ) -> None:
        def failed(failure: Failure) -> None:
            if not failure.check(CancelledError):
                self.portFailed(failure, what)

        maybeDeferred(ports.listen, endpoint).addCallback(opened).addErrback(failed)

    def startService(self) -> None:
        """Open the ports, unless L{privilegedStartService} did."""
        self.privilegedStartService()
        super().startService()

    def portOpened(self, port: IListeningPort) -> None:
        """Called when a port is open. Logs its address."""
        self._missing -= 1
        attempt(self._sayWhere, port)

    def _sayWhere(self, port: IListeningPort) -> None:
        where = urlOf(port)
        what = "Socket.IO" if self.server.socketIONotice.isBound else "Engine.IO"
        self._log.info("{what} is served at {where}{path}/", what=what, where=where, path=self.server.opts.path)

    def portFailed(self, failure: Failure, what: str) -> None:
        """Called when a port can't be opened."""
        raise NotImplementedError

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, drain the server, then close every connection.

        @return: a Deferred that fires when nothing is left, at the latest three seconds after C{drainTimeout}: then
            what is left is aborted.
        """
        super().stopService()
        if not self._isStopped:
            self._isStopped = True
            self.server._stopping.closeWith(self._ports)
        return self.server.close(drain=True)


class EngineIOService(SiteService):
    """
    A server as a service, such as a child of a C{MultiService}: it listens from the start, and is drained at the stop.

    Handlers are added to its C{server}, before it starts or later. Once stopped it can't start again.

    @param endpoints: port numbers, for all interfaces, descriptions of endpoints, or endpoints.
    @param root: the resource of everything outside the path of the server; by default that is refused with 501.
    @param reactor: the reactor; by default the running one.
    @param options: as in L{ServerOptions}.
    @raise OptionError: an option is unknown, of a wrong type or out of range.
    @raise ValueError: what should be an endpoint isn't one.
    @ivar server: the L{Server}.
    @ivar site: the L{Site} it is attached to.
    """

    def __init__(
        self,
        *endpoints: int | str | IStreamServerEndpoint,
        root: IResource | Resource | None = None,
        reactor: Any = None,
        **options: Unpack[OptionKeywords],
    ) -> None:
        server = Server(reactor=reactor, **options)
        beside = NotImplementedResource() if root is None else root
        site = siteFor(beside, server.reactor, takesBodies=root is not None)
        server.attach(site)
        named = [(f"endpoint {each!r}", endpointOf(server.reactor, each)) for each in endpoints]
        super().__init__(server, site, named)
        self._isStarting = False
        # The Deferreds that wait for the ports, and the reason why one of them couldn't be opened.
        self._waiting: list[Deferred[None]] = []
        self._problem: Failure | None = None

    def privilegedStartService(self) -> None:
        """
        Open the ports, before privileges are shed.

        @raise CannotListenError: one can't be opened: the others are closed. The service may be started again. If that
            turns out only later, it is logged, and the service stops.
        @raise RuntimeError: the service was stopped.
        """
        self._problem = None
        self._isStarting = True
        try:
            super().privilegedStartService()
        finally:
            self._isStarting = False
        if self._problem is not None:
            self._ports.stop()
            self._ports = Ports(self.site)
            self._missing = len(self._endpoints)
            self._isOpen = False
            self._tellWaiting(self._problem)
            self._problem.raiseException()

    def whenListening(self) -> Deferred[None]:
        """
        Return a Deferred that fires when all ports are open.

        It fails with the reason if one can't be opened, and with C{CancelledError} if the service stops before.
        """
        if self._problem is not None:
            return fail(self._problem)
        if not self._missing:
            return succeed(None)
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def _tellWaiting(self, result: Failure | None) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                each.callback(result)

    def portOpened(self, port: IListeningPort) -> None:
        super().portOpened(port)
        if not self._missing:
            self._tellWaiting(None)

    def portFailed(self, failure: Failure, what: str) -> None:
        """Let the start fail; if that is over, log it and stop."""
        if self._isStarting and self._problem is None:
            self._problem = failure
            return
        self._log.failure("{what}: cannot listen", failure, what=what)
        if not self._isStarting:
            self._problem = failure
            self._tellWaiting(failure)
            self.stopService()

    def stopService(self) -> Deferred[None]:
        self._tellWaiting(Failure(CancelledError()))
        return super().stopService()
