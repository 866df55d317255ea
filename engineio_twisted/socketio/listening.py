"""Both servers made at once: one of the engine, at the path of Socket.IO's clients, and a L{SocketIO} on it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Unpack

import attrs

from .. import OptionKeywords, Server, ServerOptions
from .. import listen as listenOn
from .options import SocketIOKeywords, SocketIOOptions, optionsOf
from .server import SocketIO

if TYPE_CHECKING:
    from twisted.internet.interfaces import IStreamServerEndpoint
    from twisted.web.server import Site


PATH = "/socket.io"
"""The path to which clients connect by default."""


class Keywords(OptionKeywords, SocketIOKeywords, total=False):
    """The options of both servers by name, for type checkers."""


_OWN = {each.name for each in attrs.fields(SocketIOOptions)}
_ENGINES = {each.name for each in attrs.fields(ServerOptions)}


def attach(site: Site, *, reactor: Any = None, **options: Unpack[Keywords]) -> SocketIO:
    """
    Make a L{SocketIO} that captures its path on a site, C{/socket.io} by default.

    @param site: a L{twisted.web.server.Site}, ours or any other.
    @param reactor: the reactor; by default the running one.
    @param options: as in L{SocketIOOptions} and in L{ServerOptions}.
    @return: the L{SocketIO}, whose C{engine} is the L{Server}.
    @raise OptionError: an option is unknown, of a wrong type or out of range; or another server of the site would get
        no request any more, and isn't closed.
    @raise TypeError: the site isn't one.
    """
    own, engines = apart(options)
    io = SocketIO(Server(reactor=reactor, **engines), own)
    io.engine.attach(site)
    return io


def listen(
    endpoint: int | str | IStreamServerEndpoint,
    callback: Callable[[], object] | None = None,
    *,
    reactor: Any = None,
    **options: Unpack[Keywords],
) -> SocketIO:
    """
    Make a L{SocketIO} that listens by itself, at the path C{/socket.io} by default.

    @param endpoint: a port number, the description of an endpoint, or an endpoint, as in L{engineio_twisted.listen}.
    @param callback: called when the server listens.
    @param reactor: the reactor; by default the running one.
    @param options: as in L{SocketIOOptions} and in L{ServerOptions}.
    @return: the L{SocketIO}. The C{listening} of its C{engine} is a Deferred of the port, or of the reason why there is
        none, such as L{twisted.internet.error.CannotListenError}.
    @raise OptionError: an option is unknown, of a wrong type or out of range.
    @raise ValueError: the description isn't one, or the number isn't a port.
    @raise TypeError: the callback can't be called.
    """
    own, engines = apart(options)
    engine = listenOn(endpoint, callback, reactor=reactor, **engines)
    try:
        return SocketIO(engine, own)
    except BaseException:
        # Such as for a folder that isn't there: no port is left open for it.
        engine.listening.addErrback(lambda _: None)
        engine.close()
        raise


def apart(given: Mapping[str, Any]) -> tuple[SocketIOOptions, Any]:
    """
    Return the options of the layer, which are checked, and those of the engine by name: C{path} is among them.

    @param given: options of both, by name.
    @raise OptionError: one of the layer's is of a wrong type or out of range.
    """
    own = {name: value for name, value in given.items() if _isOwn(name)}
    engines = {"path": PATH} | {name: value for name, value in given.items() if name not in own}
    return optionsOf(own), engines


def _isOwn(name: str) -> bool:
    """Return whether a name is that of an option of the layer, or most like one if it is misspelt."""
    near = difflib.get_close_matches(name, [*_OWN, *_ENGINES], n=1)
    return name in _OWN or (name not in _ENGINES and bool(near) and near[0] in _OWN)
