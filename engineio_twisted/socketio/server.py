"""The Socket.IO server, on a server of the engine. docs/socketio.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Unpack, overload

import attrs
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger

from .. import DeadlineQueue, Ends, LogThrottle, Measure, OptionError, Server
from .. import Socket as EngineSocket
from .acks import AckTimeouts
from .adapter import MemoryAdapter
from .bundle import serveBundle
from .client import Client
from .errors import InvalidPacket
from .measuring import Measuring
from .namespace import Namespace
from .options import (
    ConnectionStateRecovery,
    SocketIOKeywords,
    SocketIOOptions,
    optionsOf,
    recoveryOf,
)
from .packet import JSONParser
from .parent import ParentNamespace
from .socket import Socket

JOINING_TIMEOUT = 30.0
"""Seconds that middlewares may take."""

NamespaceName = str | re.Pattern[str] | Callable[[str, dict[str, Any]], object]


@attrs.frozen
class SocketIOStats:
    """
    The numbers of a L{SocketIO}: of what is there now, and of what was counted since it was made.

    @ivar clients: sessions of the engine.
    @ivar sockets: connected sockets of all namespaces.
    @ivar namespaces: namespaces.
    @ivar rooms: rooms of all namespaces, without the rooms of ids.
    @ivar acks: awaited acknowledgements.
    @ivar joining: clients that wait for a middleware.
    @ivar attachments: packets whose attachments have not all arrived.
    @ivar waitingSessions: sessions kept for clients that may come back.
    @ivar events: events received.
    @ivar invalidPackets: invalid packets, each of which ended a session.
    @ivar refused: clients refused by a namespace.
    @ivar lateAcks: acknowledgements that were not awaited.
    @ivar volatileDropped: volatile events that were not sent.
    @ivar recovered: clients that were recovered.
    @ivar notRecovered: clients that could not be recovered, by cause: C{unknown}, C{expired}, C{evicted}, C{foreign},
        C{other user}; with several workers C{no answer} or C{unsendable} too.
    """

    clients: int
    sockets: int
    namespaces: int
    rooms: int
    acks: int
    joining: int
    attachments: int
    waitingSessions: int
    events: int
    invalidPackets: int
    refused: int
    lateAcks: int
    volatileDropped: int
    recovered: int
    notRecovered: Mapping[str, int]


_GAUGES = {
    "clients": ("clients", "Sessions of the engine."),
    "sockets": ("sockets", "Connected sockets of all namespaces."),
    "namespaces": ("namespaces", "Namespaces."),
    "rooms": ("rooms", "Rooms of all namespaces, without the rooms of ids."),
    "acks": ("acks", "Awaited acknowledgements."),
    "joining": ("joining", "Clients that wait for a middleware."),
    "attachments": ("attachments", "Packets whose attachments have not all arrived."),
    "waiting_sessions": ("waitingSessions", "Sessions kept for clients that may come back."),
}
_COUNTERS = {
    "events": ("events", "Events received."),
    "invalid_packets": ("invalidPackets", "Invalid packets, each of which ended a session."),
    "refused": ("refused", "Clients refused by a namespace."),
    "late_acks": ("lateAcks", "Acknowledgements that were not awaited."),
    "volatile_dropped": ("volatileDropped", "Volatile events that were not sent."),
    "recovered": ("recovered", "Clients that were recovered."),
}


class Counters:
    """What the layer counts."""

    __slots__ = (
        "acks",
        "events",
        "invalidPackets",
        "lateAcks",
        "notRecovered",
        "recovered",
        "refused",
        "volatileDropped",
    )

    def __init__(self) -> None:
        self.acks = self.events = self.invalidPackets = self.lateAcks = 0
        self.recovered = self.refused = self.volatileDropped = 0
        self.notRecovered: dict[str, int] = {}


class SocketIO(Namespace):
    """
    A Socket.IO server, on a server of the engine. It is the namespace C{/} itself.

    Besides the events of a L{Namespace} it emits C{new_namespace(namespace)} when another namespace was made.

    @param engine: the L{Server}. Its path should be C{/socket.io}, which clients expect.
    @param options: the options, instead of keyword arguments.
    @param keywords: options by name, as in L{SocketIOOptions}.
    @raise OptionError: an option is unknown, of a wrong type or out of range.
    @raise TypeError: the engine is no L{Server}, or has a L{SocketIO} already.
    @ivar engine: the server.
    @ivar opts: the L{SocketIOOptions}.
    """

    _log = Logger()
    elsewhere: ClassVar[dict[str, str]] = {}
    argumentsOf: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **Namespace.argumentsOf,
        "new_namespace": ("namespace",),
    }
    isDraining: bool = False
    isClosing: bool = False

    def __init__(
        self, engine: Server, options: SocketIOOptions | None = None, **keywords: Unpack[SocketIOKeywords]
    ) -> None:
        if not isinstance(engine, Server):
            cure = "; SocketIO(listen(3000, path='/socket.io')) makes both" if isinstance(engine, int | str) else ""
            raise TypeError(f"engine {engine!r:.100}: expected a Server{cure}")
        if engine.socketIONotice.isBound:
            raise TypeError(f"engine {engine!r}: it has a Socket.IO layer already")
        if options is not None and not isinstance(options, SocketIOOptions):
            raise TypeError(
                f"options {options!r:.100}: expected SocketIOOptions, or options by name, as ackTimeout=5000"
            )
        if options is not None and keywords:
            raise OptionError("options", options, f"expected either SocketIOOptions or {', '.join(keywords)}, not both")
        self.opts: SocketIOOptions = optionsOf(keywords) if options is None else options
        self.engine: Server = engine
        self.parser: Any = self._parser()
        if self.opts.serveClient is not False:
            serveBundle(engine, str(self.opts.serveClient))
        self.makeAdapter: Callable[[Any], Any] = self.opts.adapter or self._adapter()
        self.counters = Counters()
        self._clients: set[Client] = set()
        self._namespaces: dict[str, Namespace] = {}
        self.namespaces: Mapping[str, Namespace] = MappingProxyType(self._namespaces)
        self._parents: list[ParentNamespace] = []
        self._throttle = LogThrottle(lambda: engine.clock)
        # Handlers that have not come to their end, and who waits for that.
        self._handlersRunning: int = 0
        self._idle: list[Deferred[None]] = []
        super().__init__(self, "/")
        self._namespaces["/"] = self
        self.recover(self.opts.connectionStateRecovery)
        engine.socketIONotice.layerBound()
        engine.addObserver(Measuring(self.measures))
        engine.on("connection", self._opened)
        engine.addShutdownTrigger("drain", self._drain)
        engine.addShutdownTrigger("close", self._close)

    def __repr__(self) -> str:
        return f"<SocketIO {self.engine.opts.path}, {len(self._clients)} clients, {len(self._namespaces)} namespaces>"

    def __conform__(self, interface: Any) -> Any:
        """Adapt to the interfaces of the server, so that C{EngineIOResource(io)} serves it."""
        return interface(self.engine, None)

    def _adapter(self) -> Callable[[Any], Any]:
        """Return what makes the adapter of a namespace if the application doesn't say."""
        if self.engine.workers is None:
            return MemoryAdapter
        from .exchange import ExchangeAdapter

        return ExchangeAdapter()

    def _parser(self) -> Any:
        options = self.opts
        maxBytes = self.engine.opts.maxHttpBufferSize
        if options.parser == "msgpack":
            from .msgpack import MsgpackParser  # type: ignore[import-not-found, unused-ignore]

            return MsgpackParser(default=options.default)
        if options.parser == "default":
            return JSONParser(maxAttachments=options.maxAttachments, maxBytes=maxBytes, default=options.default)
        return options.parser

    # What is made when there is a reactor

    @cached_property
    def connecting(self) -> DeadlineQueue:
        """The clients that have joined no namespace yet."""
        return DeadlineQueue(self.engine.clock, self.opts.connectTimeout / 1000, lambda client: client.late())

    @cached_property
    def joining(self) -> DeadlineQueue:
        """The attempts to join a namespace that wait for something."""
        return DeadlineQueue(self.engine.clock, JOINING_TIMEOUT, lambda joining: joining.timedOut())

    @cached_property
    def ackTimeouts(self) -> AckTimeouts:
        """The deadlines of acknowledgements."""
        return AckTimeouts(self.engine.clock)

    @cached_property
    def ends(self) -> Ends:
        """The ends of sockets that are running."""
        return Ends(self.engine.clock)

    # Namespaces

    @overload
    def of(
        self,
        name: str,
        *,
        connectionStateRecovery: bool | ConnectionStateRecovery | Mapping[str, Any] | None = ...,
    ) -> Namespace: ...

    @overload
    def of(
        self,
        name: re.Pattern[str] | Callable[[str, dict[str, Any]], object],
        *,
        connectionStateRecovery: bool | ConnectionStateRecovery | Mapping[str, Any] | None = ...,
    ) -> ParentNamespace: ...

    def of(
        self,
        name: NamespaceName,
        *,
        connectionStateRecovery: bool | ConnectionStateRecovery | Mapping[str, Any] | None = None,
    ) -> Namespace | ParentNamespace:
        """
        Return a namespace, or a parent that makes namespaces when clients ask for them.

        @param name: text for the namespace with this name, which is made if there is none; a leading slash is added.
            If a parent has a pattern for the name, it is a namespace of that parent. A compiled pattern for a
            L{ParentNamespace} of all names in which it is found, so anchor it. A function for a L{ParentNamespace} of
            all names for which it returns a true value, plain or asynchronous; it is called with
            the name and the client's C{auth}.
        @param connectionStateRecovery: the option for this namespace; None for that of the L{SocketIO}.
        @raise TypeError: the name is none of these.
        """
        settings = (
            self.opts.connectionStateRecovery
            if connectionStateRecovery is None
            else recoveryOf(connectionStateRecovery)
        )
        if isinstance(name, str):
            name = name if name.startswith("/") else f"/{name}"
            namespace = self._namespaces.get(name)
            if namespace is None:
                parent = next((each for each in self._parents if each.matches(name)), None)
                if parent is None:
                    namespace = self._namespaces[name] = Namespace(self, name)
                    namespace.recover(settings)
                    self.fire("new_namespace", namespace)
                    return namespace
                # Its middlewares are to be called, whether a client or the application names it first.
                namespace = parent.make(name)
            if connectionStateRecovery is not None:
                namespace.recover(settings)
            namespace._isFixed = True
            return namespace
        if not isinstance(name, re.Pattern) and not callable(name):
            raise TypeError(f"namespace {name!r:.100}: expected a name, a compiled pattern, or a function of a name")
        parent = ParentNamespace(self, name, settings)
        self._parents.append(parent)
        return parent

    async def _namespaceFor(self, name: str, auth: dict[str, Any]) -> Namespace | None:
        """Return the namespace of a name, or make it if one of the parents takes the name; None if none does."""
        for parent in self._parents:
            if await parent.accepts(name, auth):
                # It may have been made while the function was waited for.
                known = self._namespaces.get(name)
                return parent.make(name) if known is None else known
        return self._namespaces.get(name)

    def _addNamespace(self, name: str, parent: ParentNamespace) -> Namespace:
        """Make a namespace of a parent."""
        namespace = Namespace(self, name, parent)
        namespace.recover(parent.recoverySettings)
        namespace._isFixed = not self.opts.cleanupEmptyChildNamespaces
        self._namespaces[name] = namespace
        return namespace

    def _namespaceEmpty(self, namespace: Namespace) -> None:
        """Called when a namespace that a client has asked for is empty, unless it stays."""
        if namespace.recovery is not None and namespace.recovery.waiting and not self.isClosing:
            # Its clients may come back.
            assert namespace.parent is not None
            namespace.parent.keep(namespace)
            return
        if self._namespaces.get(namespace.name) is namespace:
            del self._namespaces[namespace.name]
            if namespace.parent is not None:
                namespace.parent.forget(namespace.name)
            namespace._closeAdapter()

    # Clients

    def _opened(self, conn: EngineSocket) -> None:
        client = Client(self, conn)
        self._clients.add(client)
        self.connecting.add(client)
        if client.isProtocol4:
            client.joinFirst()

    def gone(self, client: Client) -> None:
        """Called when the session of a client has ended."""
        self._clients.discard(client)
        self.connecting.remove(client)

    def _invalidPacket(self, conn: EngineSocket, error: InvalidPacket) -> None:
        """Count and log what a client sent, which ends its session."""
        self.counters.invalidPackets += 1
        if self._throttle.allows("invalid packet"):
            option = "" if error.option is None else f" ({error.option})"
            self._log.warn(
                "Session {session} sent an invalid packet: {problem}{option}",
                session=conn.logName,
                problem=error.problem,
                option=option,
            )

    def _allowsLine(self, kind: str) -> bool:
        """Return whether a line of a kind that clients can cause may be logged now; see L{LogThrottle.allows}."""
        return self._throttle.allows(kind)

    def _handlerUnfit(self, socket: Socket, event: str, error: BaseException) -> None:
        """Log that a client sent an event with arguments that its handler doesn't take."""
        if self._throttle.allows("arguments"):
            self._log.warn(
                "Session {session} sent {event} with arguments that its handler does not take: {problem}",
                session=socket.logName,
                event=event[:100],
                problem=str(error),
            )

    def watch(self, deferred: Deferred[Any]) -> None:
        """Let a drain wait for work that a client has caused."""
        self._handlersRunning += 1
        deferred.addBoth(self._handlerOver)

    def _handlerOver(self, result: Any) -> Any:
        """Called when a handler has come to its end; returns what it is given."""
        self._handlersRunning -= 1
        if not self._handlersRunning and self._idle:
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)
        return result

    def stats(self) -> SocketIOStats:
        """Return the numbers of the layer. It looks at every client, so call it once in some seconds."""
        counters = self.counters
        namespaces = [*self._namespaces.values()]
        return SocketIOStats(
            clients=len(self._clients),
            sockets=sum([len(each.sockets) for each in namespaces]),
            namespaces=len(namespaces),
            rooms=sum([len(each.adapter.rooms) for each in namespaces]),
            acks=counters.acks,
            joining=sum([each.joiningCount for each in self._clients]),
            attachments=sum([each.isReceivingAttachments for each in self._clients]),
            waitingSessions=sum([each.recovery.waiting for each in namespaces if each.recovery is not None]),
            events=counters.events,
            invalidPackets=counters.invalidPackets,
            refused=counters.refused,
            lateAcks=counters.lateAcks,
            volatileDropped=counters.volatileDropped,
            recovered=counters.recovered,
            notRecovered=dict(counters.notRecovered),
        )

    def measures(self) -> list[Measure]:
        """Return what L{stats} says, for Prometheus."""
        stats = self.stats()
        return [
            *[
                Measure(f"socketio_{name}", text, getattr(stats, field), isCounter=isCounter)
                for isCounter, numbers in ((False, _GAUGES), (True, _COUNTERS))
                for name, (field, text) in numbers.items()
            ],
            Measure(
                "socketio_not_recovered",
                "Clients that could not be recovered.",
                stats.notRecovered,
                "cause",
                isCounter=True,
            ),
        ]

    # The end

    def drain(self) -> Deferred[None]:
        """
        Refuse new clients for good, and let every client end in its own time.

        No client can join a namespace any more. Running handlers may finish and acknowledge, for up to C{drainTimeout}
        of the server. Then the server drains: see L{Server.drain}.

        @return: a Deferred that fires when no session is left.
        """
        return self.engine.drain()

    def close(self, *, drain: bool = False) -> Deferred[None]:
        """
        End all sockets with C{server shutting down}, and close the adapters and the server.

        @param drain: whether to L{drain} first.
        @return: a Deferred that fires when nothing is left.
        """
        return self.engine.close(drain=drain)

    async def _drain(self) -> None:
        self.isDraining = True
        # A handler that drains its own server is to come to its end, and to be acknowledged.
        await deferLater(self.engine.clock, 0)
        if self._handlersRunning:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle

    def _close(self) -> Deferred[Any]:
        self.isDraining = self.isClosing = True
        closing = [each._closeAdapter() for each in [*self._namespaces.values()]]
        self._throttle.flush()
        return gatherResults(closing)
