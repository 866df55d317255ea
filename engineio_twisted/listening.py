"""Listening: ports, and sites, for a server."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Any, Unpack

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, quoteStringArgument
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.python.failure import Failure
from twisted.web import resource
from twisted.web import server as web
from twisted.web.pages import errorPage
from zope.interface import implementer

from .protocol.options import OptionKeywords
from .server import Server
from .web.descriptions import BACKLOG, describedEndpoint, leavingAlone
from .web.fast import siteFor
from .web.mounting import checkSite, isOptions, isServer
from .web.ports import Ports
from .web.site import Site


class NotImplementedResource(resource.Resource):
    """The page beside the sessions if nothing else is served: 501."""

    isLeaf = True

    def render(self, request: web.Request) -> Any:
        """Refuse a request."""
        return errorPage(501, "Not Implemented", "Only Engine.IO is served here.").render(request)


def attach(site: web.Site, *, reactor: Any = None, **options: Unpack[OptionKeywords]) -> Server:
    """
    Make a server that captures its path on a site.

    @param site: a L{twisted.web.server.Site}, ours or any other.
    @param options: as in L{ServerOptions}.
    @return: the L{Server}.
    @raise OptionError: an option is unknown, of a wrong type or out of range; or another server of the site would get
        no request any more, and isn't closed.
    @raise TypeError: the site isn't one.
    """
    checkSite(site)
    return Server(site, reactor=reactor, **options)


def listen(
    endpoint: int | str | IStreamServerEndpoint,
    callback: Callable[[], object] | None = None,
    *,
    reactor: Any = None,
    **options: Unpack[OptionKeywords],
) -> Server:
    """
    Make a server that listens by itself; requests outside its path get a 501.

    @param endpoint: a port number, for all interfaces, by IPv6 and IPv4; or the description of an endpoint, such as
        C{"tcp:3000:interface=127.0.0.1"}, C{"unix:/run/app.sock"} or C{"tls:/etc/certificates:443"}; or an endpoint.
    @param callback: called when the server listens.
    @param options: as in L{ServerOptions}.
    @return: the L{Server}, whose C{listening} is a Deferred of the port, or of the reason why there is none, such as
        L{twisted.internet.error.CannotListenError}.
    @raise OptionError: an option is unknown, of a wrong type or out of range.
    @raise ValueError: the description isn't one, or the number isn't a port.
    @raise TypeError: the callback can't be called.
    """
    if callback is not None and not callable(callback):
        cure = _cureOfCallback(endpoint, callback)
        raise TypeError(f"callback {callback!r:.100}: expected something to call when the server listens; {cure}")
    server = Server(reactor=reactor, **options)
    site = siteFor(NotImplementedResource(), server.reactor)
    server.attach(site)
    listenOn(server, endpoint, site)
    if callback is not None:
        call = callback

        def listening(port: IListeningPort) -> IListeningPort:
            maybeDeferred(call).addErrback(lambda failure: server.handlerFailed("listening", (), failure))
            return port

        server.listening.addCallback(listening)
    return server


def listenOn(server: Server, endpoint: int | str | IStreamServerEndpoint, site: Site) -> None:
    """
    Open a port for a site of a server's own, which is closed with it.

    @param endpoint: as in L{listen}.
    """
    ports = Ports(site)
    server._ownPorts = ports
    server._stopping.closeWith(ports)
    # What the application does with this one is its own affair.
    server.listening = Deferred()
    opening = ports.listen(endpointOf(server.reactor, endpoint))
    opening.addCallbacks(server.listening.callback, server.listening.errback)


def endpointOf(reactor: Any, endpoint: int | str | IStreamServerEndpoint) -> IStreamServerEndpoint:
    """
    Return the endpoint that a port number, or a description, stands for, or one itself.

    @raise ValueError: the description isn't one, or the number isn't a port.
    """
    if IStreamServerEndpoint.providedBy(endpoint):
        return leavingAlone(endpoint)
    if isinstance(endpoint, str):
        try:
            return describedEndpoint(reactor, endpoint)
        except (ValueError, TypeError) as error:
            meant = _HOST_AND_PORT.fullmatch(endpoint)
            example = "tcp:3000" if meant is None else _description(int(meant[2]), meant[1])
            raise ValueError(f"endpoint {endpoint!r}: expected a description such as {example!r} ({error})") from error
    if type(endpoint) is not int or not 0 <= endpoint <= 65535:
        cure = "; to serve on a site, call attach(site)" if isinstance(endpoint, web.Site) else ""
        cure = "; listen makes a server itself: its options are given by name" if isServer(endpoint) else cure
        raise ValueError(
            f"endpoint {endpoint!r}: expected a port number, 0 to 65535, a description, or an endpoint{cure}"
        )
    return _AllInterfaces(reactor, endpoint)


_HOST_AND_PORT = re.compile(r"(?:https?://)?(?:([^/:]*|\[[0-9a-fA-F:.]+\]):)?(\d{1,5})/?")
"""An address as other programs take it, in place of a description."""


def _description(port: object, host: str | None) -> str:
    """Return the description of the endpoint that a host and a port stand for."""
    host = (host or "").strip("[]")
    kind = "tcp6" if ":" in host else "tcp"
    return f"{kind}:{port}:interface={quoteStringArgument(host)}" if host else f"tcp:{port}"


def _cureOfCallback(endpoint: object, callback: object) -> str:
    """Return what was meant by the second argument of L{listen}, and how it is written."""
    if isinstance(endpoint, int) and isinstance(callback, str):
        return f"to listen on one interface, call listen({_description(endpoint, callback)!r})"
    if isinstance(endpoint, str) and isinstance(callback, int):
        return f"to listen on one interface, call listen({_description(callback, endpoint)!r})"
    if isOptions(callback):
        return "options are given by name, such as listen(3000, pingInterval=25000)"
    return "such as listen(3000, started)"


@implementer(IStreamServerEndpoint)
class _AllInterfaces:
    """A port of all interfaces, by IPv6 if there is that, and by IPv4."""

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        self._port = port

    def listen(self, factory: Any) -> Deferred[IListeningPort]:
        def withoutIPv6(failure: Failure) -> Any:
            problem: Any = failure.value
            if isinstance(problem, CannotListenError) and problem.socketError.errno in _NO_IPV6:
                return TCP4ServerEndpoint(self._reactor, self._port, BACKLOG).listen(factory)
            return failure

        # If the system lets a socket have both, "::" is all of IPv4 too.
        listening: Deferred[IListeningPort] = TCP6ServerEndpoint(self._reactor, self._port, BACKLOG).listen(factory)
        return listening.addErrback(withoutIPv6)


_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
