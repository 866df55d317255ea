"""A server as a part of an application that Twisted starts and stops: a service."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Unpack

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from .fast_http import siteFor
from .options import OptionKeywords
from .resource import Site
from .server import NotImplementedResource, Server, endpointOf


class SiteService(Service):
    """
    The ports of a site, and of a server that is attached to it.

    @param endpoints: where it is to listen, each with what it is called where that fails.
    @ivar ports: those that are open.
    """

    _log = Logger()

    def __init__(self, server: Server, site: Site, endpoints: Iterable[tuple[str, IStreamServerEndpoint]]) -> None:
        self.server = server
        self.site = site
        self.ports: list[IListeningPort] = []
        self._endpoints = [*endpoints]
        self._missing = len(self._endpoints)
        self._opening: list[Deferred[IListeningPort]] = []
        self._isStopped = False

    @property
    def whyNotReady(self) -> str | None:
        """Why no new sessions are opened: not all ports are open, or the server drains or closes."""
        return "not listening" if self._missing else self.server.whyNotReady

    def privilegedStartService(self) -> None:
        """Open the ports, before privileges are shed."""
        if self._isStopped:
            raise RuntimeError("the service was stopped, and its server is closed for good: make another")
        endpoints, self._endpoints = self._endpoints, []
        for what, endpoint in endpoints:
            listening: Deferred[IListeningPort] = endpoint.listen(self.site)
            self._opening.append(listening)
            listening.addCallbacks(self.portOpened, self.portFailed, errbackArgs=(what,))

    def startService(self) -> None:
        """Open the ports, unless L{privilegedStartService} did."""
        self.privilegedStartService()
        super().startService()

    def portOpened(self, port: IListeningPort) -> None:
        """Learn that a port is open, and say where it is."""
        self.ports.append(port)
        self._missing -= 1
        where = asURL(port.getHost())
        self._log.info("Engine.IO is served at {where}{path}/", where=where, path=self.server.opts.path)

    def portFailed(self, failure: Failure, what: str) -> None:
        """Learn that a port can't be opened."""
        raise NotImplementedError

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, drain the server, then close every connection.

        @return: a Deferred that fires when nothing is left.
        """
        super().stopService()
        self._isStopped = True
        for each in self._opening:
            each.cancel()
        ports, self.ports = self.ports, []
        stopped = gatherResults([maybeDeferred(port.stopListening) for port in ports])
        # The ports are closed at once, whenever that is done.
        both: Deferred[Any] = gatherResults([stopped, self.server.close(drain=True)])
        return both.addCallback(lambda _: self.site.closeConnections(self.server.drainSeconds))


def asURL(address: object) -> str:
    """Return an address as one that can be opened, for a log."""
    if isinstance(address, IPv4Address | IPv6Address):
        host = "localhost" if address.host in ("0.0.0.0", "::") else address.host  # noqa: S104
        return f"http://[{host}]:{address.port}" if ":" in host else f"http://{host}:{address.port}"
    if isinstance(address, UNIXAddress) and address.name:
        return f"unix:{os.fsdecode(address.name)}:"
    return str(address)


class EngineIOService(SiteService):
    """
    A server as a service, such as a child of a C{MultiService}: it listens from the start, and is drained at the stop.

    Handlers are added to its C{server}, before it starts or later. Once stopped it can't start again.

    @param endpoints: where it listens: port numbers, for all interfaces, descriptions of endpoints, and endpoints.
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
        root: IResource | None = None,
        reactor: Any = None,
        **options: Unpack[OptionKeywords],
    ) -> None:
        server = Server(reactor=reactor, **options)
        beside = NotImplementedResource() if root is None else root
        site = siteFor(beside, server.opts, server.reactor, takesBodies=root is not None)
        server.attach(site)
        named = [(f"endpoint {each!r}", endpointOf(server.reactor, each)) for each in endpoints]
        super().__init__(server, site, named)
        self._isStarting = False

    def privilegedStartService(self) -> None:
        """
        Open the ports, before privileges are shed.

        @raise CannotListenError: one can't be opened. Where that turns out only later it is logged.
        @raise RuntimeError: the service was stopped.
        """
        self._problem: Failure | None = None
        self._isStarting = True
        try:
            super().privilegedStartService()
        finally:
            self._isStarting = False
        if self._problem is not None:
            self._problem.raiseException()

    def portFailed(self, failure: Failure, what: str) -> None:
        """Have the start fail, or log it where that is over."""
        if self._isStarting:
            self._problem = failure
        elif not failure.check(CancelledError):
            self._log.failure("{what}: cannot listen", failure, what=what)
