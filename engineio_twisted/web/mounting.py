"""What goes where: a server on a site, a server in a resource. What was mistaken for another is an error at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.web import resource, server

from ..interfaces import IEngineServer
from ..protocol.options import ServerOptions


class Layer(Protocol):
    """A server, or a layer on one that adapts to what that provides."""

    def __conform__(self, interface: Any, /) -> Any: ...


def checkSite(site: object) -> None:
    """
    Refuse to attach a server to what isn't a site.

    @raise TypeError: it is something else.
    """
    if not isinstance(site, server.Site):
        raise TypeError(f"site of type {_nameOf(site)}: expected a twisted.web.server.Site; {_cureOfSite(site)}")


def _cureOfSite(site: Any) -> str:
    name = _nameOf(site)
    if isinstance(site, resource.Resource) or resource.IResource.providedBy(site):
        child = 'putChild(b"engine.io", EngineIOResource(server))'
        return f"make a site of the resource, Site({name}(…)), or call {child} on it"
    if isinstance(site, int | str) or IStreamServerEndpoint.providedBy(site):
        return f"to listen on a port, call listen({site!r:.100})" if isinstance(site, int | str) else "call listen()"
    if isOptions(site):
        return "options are given by name, such as Server(pingInterval=25000) or Server(options=options)"
    if isServer(site):
        return "a server is attached by server.attach(site)"
    if hasattr(site, "wrappedFactory"):
        return "attach to the site that is wrapped in it, its wrappedFactory"
    return "such as Site(resource)"


def engineServerOf(given: Any) -> IEngineServer:
    """
    Return what serves the requests of a server.

    @raise TypeError: it isn't a server.
    """
    if isServer(given):
        found: IEngineServer = IEngineServer(given)
        return found
    if isinstance(given, server.Site):
        cure = "to serve on a site, call attach(site)"
    elif isinstance(given, resource.Resource):
        cure = 'put this into the resource, putChild(b"engine.io", EngineIOResource(Server()))'
    elif isinstance(given, int | str):
        cure = f"to listen on a port, call listen({given!r:.100})"
    elif isOptions(given):
        cure = "options are those of the server, such as EngineIOResource(Server(pingInterval=25000))"
    else:
        cure = "such as EngineIOResource(Server())"
    raise TypeError(f"server of type {_nameOf(given)}: expected a Server; {cure}")


def checkRoot(root: object) -> None:
    """
    Refuse a server, or another site, as the root of a site.

    @raise TypeError: it is one.
    """
    if isinstance(root, server.Site):
        raise TypeError(f"root of type {_nameOf(root)}: expected a resource, such as that of a site, site.resource")
    if isServer(root):
        raise TypeError(
            f"root of type {_nameOf(root)}: expected a resource; wrap it, Site(EngineIOResource(server)), or attach it "
            "to a site, server.attach(site)"
        )


def isServer(given: Any) -> bool:
    """Return whether something is a server, and not the class of one."""
    return not isinstance(given, type) and IEngineServer(given, None) is not None


def isOptions(given: object) -> bool:
    """Return whether something is a set of options."""
    return isinstance(given, Mapping | ServerOptions)


def _nameOf(given: object) -> str:
    return type(given).__name__
