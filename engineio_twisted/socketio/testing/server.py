"""
A Socket.IO server and its clients in memory, for the tests of an application: no socket, no waiting.

docs/socketio-testing.md has examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from twisted.internet.task import Clock

from ... import OptionError, Server
from ...testing import MemoryServer, Response
from ..listening import Keywords, apart
from ..msgpack import MsgpackParser
from ..packet import JSONParser
from ..server import SocketIO
from ..socket import Socket
from .client import MemorySocket, connect

_GAUGES = ("clients", "sockets", "rooms", "acks", "joining", "attachments")
"""What has to be gone when a server is closed, of its L{SocketIOStats}."""


class EngineArguments(TypedDict, total=False):
    """Arguments of L{MemoryServer.connect} that concern the session of a client."""

    headers: Mapping[str, str]
    query: Mapping[str, str]
    path: str
    address: str
    jsonp: bool
    answersPings: bool
    split: int
    delay: float


class MemorySocketIO:
    """
    A Socket.IO server in memory, on a clock, for tests; and, as a context manager, closed behind them.

    Nothing waits: when a call returns, all has happened that does without time passing. L{advance} lets it pass.

    @param application: called with the L{SocketIO}; a coroutine function too. Or a L{SocketIO}, on a L{Server} that was
        made with a C{Clock} as its reactor.
    @param site: as of L{MemoryServer}.
    @param leavesTimers: whether the application may have timers of its own on the clock in the end.
    @param options: options of L{SocketIO}, and of L{Server}; C{path} is C{/socket.io} by default.
    @raise OptionError: an option is unknown, of a wrong type or out of range.
    @raise ValueError: the server, or the site, has another reactor than a clock.
    @ivar io: the L{SocketIO}.
    @ivar engine: the L{MemoryServer} below it: C{kit.engine.connect()} is a client that speaks no Socket.IO.
    @ivar clients: the L{MemorySocket}s that L{connect} has made, in this order.
    """

    io: SocketIO

    def __init__(
        self,
        application: Callable[[SocketIO], object] | SocketIO,
        *,
        site: Any = None,
        leavesTimers: bool = False,
        **options: Unpack[Keywords],
    ) -> None:
        self.clients: list[MemorySocket] = []
        self._isClosed = False
        start: Callable[[Server], object] | Server
        engines: Any = {}
        if isinstance(application, SocketIO):
            if options:
                raise OptionError("options", options, "expected none beside a SocketIO, which has its own")
            self.io, start = application, application.engine
        else:
            own, engines = apart(options)

            def start(server: Server) -> object:
                self.io = SocketIO(server, own)
                return application(self.io)

        self.engine = MemoryServer(start, site=site, leavesTimers=leavesTimers, **engines)

    @property
    def clock(self) -> Clock:
        """The clock that is the reactor of the server."""
        return self.engine.clock

    @property
    def errors(self) -> list[BaseException]:
        """What the application raised, or was logged with its failure. A test that expects some takes them out."""
        return self.engine.errors

    def connect(
        self,
        namespace: str | None = None,
        auth: Mapping[str, Any] | None = None,
        *,
        protocol: int = 5,
        transport: str = "polling",
        upgrade: bool = True,
        recover: MemorySocket | None = None,
        wait: bool = True,
        **engine: Unpack[EngineArguments],
    ) -> MemorySocket:
        """
        Connect a client to a namespace. When this returns, handlers of C{connection} were called.

        @param namespace: its name; by default C{/}, or that of the socket to recover.
        @param auth: what it says about itself, for C{socket.auth}; in protocol 4 texts, and none for C{/}.
        @param protocol: the revision of the protocol, 5 or 4; 4 needs the option C{allowEIO3}.
        @param transport: C{polling} or C{websocket}.
        @param upgrade: whether it moves from polling to WebSocket, if the server lets it.
        @param recover: the socket of a client that lost its connection, which this client continues.
        @param wait: False returns it in any case. Look at its C{connected} and C{refused}, and L{advance}.
        @param engine: other arguments of L{MemoryServer.connect}: C{headers}, C{query}, C{path}, C{address}, C{jsonp},
            C{answersPings}, C{split}, C{delay}.
        @raise Refused: it was refused.
        @raise HandshakeRefused: its session was refused.
        @raise AssertionError: it wasn't answered, as the application takes its time.
        @raise ValueError: an argument isn't one of those above.
        """
        if namespace is None:
            namespace = "/" if recover is None else recover.namespace
        client = connect(
            self.engine,
            self._clientsParser(),
            namespace,
            auth,
            protocol=protocol,
            recover=recover,
            find=self._socketOf,
            transport=transport,
            upgrade=upgrade,
            **engine,
        )
        self.clients.append(client)
        return client.waited() if wait else client

    def _socketOf(self, namespace: str, id: str) -> Socket | None:  # noqa: A002
        known = self.io.namespaces.get(namespace)
        return None if known is None else known.sockets.get(id)

    def _clientsParser(self) -> Any:
        """Return what the stock client with the server's parser has."""
        opts = self.io.opts
        if opts.parser == "default":
            return JSONParser(maxAttachments=opts.maxAttachments, maxBytes=None, fromServer=True)
        if opts.parser == "msgpack":
            return MsgpackParser(fromServer=True)
        return opts.parser

    def request(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Response:
        """Send a request that belongs to no session, and return the answer: L{MemoryServer.request}."""
        return self.engine.request(method, target, headers, body)

    def advance(self, seconds: float) -> None:
        """
        Let time pass: timers run, pings are sent and answered, and what is late arrives, each at its time.

        @raise ValueError: the time is negative.
        """
        self.engine.advance(seconds)

    def settle(self) -> None:
        """Let happen what does without time passing: after something was done to a socket of the server's directly."""
        self.engine.settle()

    # The end

    def close(self) -> None:
        """
        Close the server, with the clients that are left, and make sure that nothing else is. Again, it does nothing.

        @raise AssertionError: the application failed; or there is a socket, a room, an acknowledgement that is waited
            for, a half received packet, a session, a connection or a timer left.
        """
        if not self._isClosed:
            self._isClosed = True
            closing = self._beginToClose()
            self.engine.close()
            left = [] if closing.called else ["the Socket.IO server doesn't close"]
            stats = self.io.stats()
            left += [f"{getattr(stats, each)} {each} are left" for each in _GAUGES if getattr(stats, each)]
            if left:
                raise AssertionError("; ".join(left))

    def _beginToClose(self) -> Any:
        self.settle()
        return self.io.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif not self._isClosed:
            # What failed first is what matters.
            self._isClosed = True
            self._beginToClose()
            self.engine.__exit__(kind, error, traceback)
