"""
`twistd engineio`: the command line, the service, the orderly stop.

twistd finds this through `twisted/plugins/engineio_plugin.py` and imports it only when the command is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any, ClassVar, NoReturn

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.python.filepath import FilePath
from twisted.web.pages import notFound
from twisted.web.static import File

from .errors import OptionError
from .fast_http import siteFor
from .options import ServerOptions
from .server import Server
from .socket import Socket

DEFAULT_LISTEN = "tcp:3000"
DEFAULT_APP = "engineio_twisted.tap:echo"

_FLAGS = {
    "path": "path",
    "pingInterval": "ping-interval",
    "pingTimeout": "ping-timeout",
    "maxHttpBufferSize": "max-http-buffer-size",
    "idPrefix": "id-prefix",
}


def echo(server: Server) -> None:
    """Send every message back: the application that runs where none is named."""

    def connected(socket: Socket) -> None:
        socket.on("message", socket.send)

    server.on("connection", connected)


def fail(message: str) -> NoReturn:
    """End the command before it runs, with one line and a non-zero exit."""
    raise SystemExit(f"twistd engineio: {message}")


def findApp(name: str) -> Callable[[Server], object]:
    """Return the callable that C{module:callable} names, or end the command."""
    moduleName, _, path = name.partition(":")
    if not moduleName or not path:
        fail(f"--app {name}: expected module:callable, such as {DEFAULT_APP}")
    # As with `python -m`: a module beside which the command is run is found.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = import_module(moduleName)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except Exception as error:
        fail(f"--app {name}: cannot be imported ({type(error).__name__}: {error})")
    if not callable(found):
        fail(f"--app {name}: expected something to call with the server, not {found!r}")
    app: Callable[[Server], object] = found
    return app


class Options(usage.Options):
    """The command line of `twistd engineio`."""

    synopsis = "[options]"
    longdesc = (
        "Serve Engine.IO sessions over HTTP long-polling and WebSocket. Without --app, every message is sent back."
    )
    optParameters: ClassVar[list[list[Any]]] = [
        ["path", None, ServerOptions().path, "The path of the Engine.IO server."],
        ["app", None, DEFAULT_APP, "The application, as module:callable; called with the Server."],
        ["static", None, None, "A directory to serve at /."],
        ["ping-interval", None, ServerOptions().pingInterval, "Milliseconds from a client's pong to the next ping."],
        ["ping-timeout", None, ServerOptions().pingTimeout, "Milliseconds a client has to answer a ping."],
        [
            "max-http-buffer-size",
            None,
            ServerOptions().maxHttpBufferSize,
            "Bytes of the largest POST body or WebSocket message that a client may send.",
        ],
        ["id-prefix", None, ServerOptions().idPrefix, "What session ids begin with, for a balancer to route by."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_version(self) -> None:
        """Display the version and exit."""
        raise SystemExit(print(f"engineio_twisted {version('engineio_twisted')}"))  # noqa: T201

    def opt_listen(self, description: str) -> None:
        """Where to listen, as an endpoint description; may be given more than once. [default: tcp:3000]"""
        self["listen"].append(description)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the command line; what is wrong with it ends the command with one line."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            fail(f"{error} (twistd engineio --help lists the options)")

    def postOptions(self) -> None:
        """Check what was given, and make of it C{serverOptions}, C{application} and C{root}."""
        self["listen"] = self["listen"] or [DEFAULT_LISTEN]
        try:
            self["serverOptions"] = ServerOptions(
                **{name: _asOption(name, self[flag]) for name, flag in _FLAGS.items()}
            )
        except OptionError as error:
            fail(f"--{_FLAGS[error.name]} {error.value}: {error.problem}")
        self["application"] = findApp(self["app"])
        if self["static"] is None:
            self["root"] = notFound(message="Engine.IO is served here, and nothing else.")
        elif FilePath(self["static"]).isdir():
            self["root"] = File(self["static"])
        else:
            fail(f"--static {self['static']}: there is no such directory")


def _asOption(name: str, given: Any) -> Any:
    # What isn't a number stays text: the option's own check then says what is wrong with it.
    isNumber = isinstance(getattr(ServerOptions(), name), int) and isinstance(given, str) and given.isdecimal()
    return int(given) if isNumber else given


class EngineIOService(Service):
    """
    The running server: its ports, and the sessions that end before it does.

    @param options: the command line.
    @param reactor: the reactor.
    @ivar server: the L{Server}.
    """

    _log = Logger()

    def __init__(self, options: Options, reactor: Any) -> None:
        self._reactor = reactor
        # twistd removes the file only if the reactor has run.
        self._pidfile: str | None = (getattr(options, "parent", None) or {}).get("pidfile")
        self._site = siteFor(options["root"], options["serverOptions"], reactor)
        self.server = Server(self._site, options["serverOptions"], reactor=reactor)
        self._endpoints = {each: _endpoint(reactor, each) for each in options["listen"]}
        self._opening: list[Deferred[IListeningPort]] = []
        self._ports: list[IListeningPort] = []
        self._problem: str | None = None
        self._isStarted = False
        try:
            result = options["application"](self.server)
        except Exception as error:
            self._log.failure("The application could not be set up")
            fail(f"--app {options['app']}: failed ({type(error).__name__}: {error})")
        if isinstance(result, Awaitable):
            Deferred.fromCoroutine(_awaited(result)).addErrback(self._stop, f"--app {options['app']}: failed")

    def privilegedStartService(self) -> None:
        """Open the ports, before privileges are shed; one that can't be opened ends the command with one line."""
        for description, endpoint in self._endpoints.items():
            listening: Deferred[IListeningPort] = endpoint.listen(self._site)
            self._opening.append(listening)
            listening.addCallbacks(self._listening, self._notListening, errbackArgs=(description,))
        self._endpoints = {}
        self._isStarted = True
        if self._problem is not None:
            if self._pidfile and os.path.exists(self._pidfile):
                os.unlink(self._pidfile)
            fail(self._problem)

    def startService(self) -> None:
        """Open the ports, unless L{privilegedStartService} did."""
        super().startService()
        self.privilegedStartService()

    def _listening(self, port: IListeningPort) -> None:
        self._ports.append(port)
        where = _asURL(port.getHost())
        self._log.info("Engine.IO is served at {where}{path}/", where=where, path=self.server.opts.path)

    def _notListening(self, failure: Failure, description: str) -> None:
        reason: Any = failure.value
        if isinstance(reason, CannotListenError):
            reason = reason.socketError.strerror or reason.socketError
        self._problem = f"--listen {description}: cannot listen ({reason})"
        if self._isStarted and not failure.check(CancelledError):
            # An endpoint that took its time.
            self._stop(failure, self._problem)

    def _stop(self, failure: Failure, problem: str) -> None:
        """End the process: the command line has done its part, and can't be ended any more."""
        self._log.failure("{problem}", failure, problem=problem)
        self._reactor.callWhenRunning(self._reactor.stop)

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, end every session, and close every connection.

        @return: a Deferred that fires when nothing is left.
        """
        super().stopService()
        for each in self._opening:
            each.cancel()
        ports, self._ports = self._ports, []
        stopped = gatherResults([maybeDeferred(port.stopListening) for port in ports])
        # At the same time as the ports, which are closed at once, so that no client waits for another's end.
        closed = self.server.close()
        both: Deferred[Any] = gatherResults([stopped, closed])
        return both.addCallback(lambda _: self._site.closeConnections())


async def _awaited(result: Awaitable[object]) -> None:
    await result


def _endpoint(reactor: Any, description: str) -> Any:
    try:
        return serverFromString(reactor, description)
    except Exception as error:
        # Whatever a parser of descriptions, Twisted's or a plugin's, may raise at a wrong one.
        fail(f"--listen {description}: {error}")


def _asURL(address: object) -> str:
    if isinstance(address, IPv4Address | IPv6Address):
        host = "localhost" if address.host in ("0.0.0.0", "::") else address.host  # noqa: S104
        return f"http://[{host}]:{address.port}" if ":" in host else f"http://{host}:{address.port}"
    if isinstance(address, UNIXAddress) and address.name:
        return f"unix:{os.fsdecode(address.name)}:"
    return str(address)


def makeService(options: Options) -> EngineIOService:
    """Return the service that twistd runs."""
    from twisted.internet import reactor

    return EngineIOService(options, reactor)
