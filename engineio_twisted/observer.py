"""
The events of a server, counted, and reported to observers.

Every part counts into the L{Counters} of its server, always; each observer is told the same. This
knows no part of the server, and nothing here changes what the server does. docs/monitoring.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
from twisted.logger import Logger
from zope.interface import Interface, implementer

from .logs import LogThrottle
from .protocol.errors import CloseReason, HTTPRefusal
from .protocol.packet import Packet


@attrs.frozen
class Measure:
    """
    A number of a layer on top of the server, for Prometheus.

    @ivar name: such as C{socketio_sockets}, without C{_total}.
    @ivar text: what it is, in a sentence.
    @ivar value: the number; or the numbers by the value of a label.
    @ivar label: the name of that label, or None.
    @ivar isCounter: whether it only grows.
    """

    name: str
    text: str
    value: float | Mapping[str, float]
    label: str | None = None
    isCounter: bool = False


class IServerObserver(Interface):
    """
    An observer of a server, added by L{Server.addObserver}.

    An observer looks on. It is called in the middle of what it is told of, so it neither sends nor closes anything, and
    takes little time. What it raises is logged and stops nothing. Extend L{ServerObserver}, and override what you
    want to know: the interface may grow.
    """

    def opened(socket: Any) -> None:
        """Called when a session was opened; nothing was sent on it yet."""

    def upgraded(socket: Any) -> None:
        """Called when a session has moved from polling to WebSocket."""

    def suspended(socket: Any, description: str) -> None:
        """Called when a session that can be resumed has lost its connection, and waits for its client."""

    def resumed(socket: Any) -> None:
        """Called when the client of such a session has come back, on whichever transport."""

    def closed(socket: Any, reason: CloseReason, description: str) -> None:
        """Called when a session has ended. Bytes of its connection may still be reported after this."""

    def refused(request: Any, refusal: HTTPRefusal) -> None:
        """
        Called when a request is being refused.

        @param request: the L{twisted.web.server.Request}, which is answered next.
        @param refusal: why, by its C{name}, which is one of few; C{status}, C{message}, and C{code} if it has one.
        """

    def limited(socket: Any, option: str) -> None:
        """
        Called when a limit was reached without a request to refuse: the session is closed or held back, or a message
        is not sent.

        @param socket: the session; None if there is none.
        @param option: the name of the option that sets the limit.
        """

    def stateChanged(socket: Any, before: Any, after: Any) -> None:
        """
        Called when one of the states of a session has changed.

        @param before: a member of the enumeration of its readyState, of its upgrade or of its heartbeat; the C{value}
            says in words which.
        @param after: another one of the same enumeration.
        """

    def packetsReceived(socket: Any, packets: Sequence[Packet], transport: Any) -> None:
        """
        Called when packets of any type came from a client; they are delivered next, or were just now.

        @param packets: what came, which is not to be changed.
        @param transport: by which it came. During an upgrade that may be another than the session's.
        """

    def packetsSent(socket: Any, packets: Sequence[Packet], transport: Any) -> None:
        """
        Called when packets of any type are being given to a transport that can take them.

        @param packets: what is sent, which is not to be changed.
        @param transport: by which it is sent. During an upgrade that may be another than the session's.
        """

    def bytesReceived(socket: Any, size: int) -> None:
        """Called when bytes came from a client, as L{ServerStats.bytesReceived} counts them."""

    def bytesSent(socket: Any, size: int) -> None:
        """Called when bytes are being sent to a client, as L{ServerStats.bytesSent} counts them."""

    def buffered(socket: Any, packets: int, size: int) -> None:
        """
        Called when a packet has to wait, because the transport takes none now.

        @param packets: how many wait, with it.
        @param size: the bytes that wait, L{Socket.bufferedAmount}.
        """

    def measures() -> Iterable[Measure]:
        """Return the numbers of a layer that are shown beside the server's, each time they are asked for."""


@implementer(IServerObserver)
class ServerObserver:
    """
    An observer that does nothing, to be extended by those that do something.

    An observer that overrides none of the methods from C{packetsReceived} on costs messages nothing.
    """

    def opened(self, socket: Any) -> None:
        pass

    def upgraded(self, socket: Any) -> None:
        pass

    def suspended(self, socket: Any, description: str) -> None:
        pass

    def resumed(self, socket: Any) -> None:
        pass

    def closed(self, socket: Any, reason: CloseReason, description: str) -> None:
        pass

    def refused(self, request: Any, refusal: HTTPRefusal) -> None:
        pass

    def limited(self, socket: Any, option: str) -> None:
        pass

    def stateChanged(self, socket: Any, before: Any, after: Any) -> None:
        pass

    def packetsReceived(self, socket: Any, packets: Sequence[Packet], transport: Any) -> None:
        pass

    def packetsSent(self, socket: Any, packets: Sequence[Packet], transport: Any) -> None:
        pass

    def bytesReceived(self, socket: Any, size: int) -> None:
        pass

    def bytesSent(self, socket: Any, size: int) -> None:
        pass

    def buffered(self, socket: Any, packets: int, size: int) -> None:
        pass

    def measures(self) -> Iterable[Measure]:
        return ()


@attrs.frozen(kw_only=True)
class ServerStats:
    """
    What a server has done since it was made, and what it has now. From L{Server.stats}.

    Bytes are those of the bodies of GETs' answers and of POSTs that carry packets, as they are sent, compressed or not;
    and those of WebSocket frames, with their headers, control frames included. Heads of HTTP, refused bodies and TLS
    aren't counted.

    @ivar sessions: how many sessions are live, by the name of their transport.
    @ivar opened: how many sessions were opened.
    @ivar upgraded: how many moved from polling to WebSocket.
    @ivar suspended: how often a session has lost its connection and waited for its client.
    @ivar resumed: how often a client has come back to its session.
    @ivar closed: how many ended, by reason, a L{CloseReason}.
    @ivar refused: how many requests were refused, by the name of the refusal.
    @ivar limited: how often a limit was reached other than by a request, by the option that sets it.
    @ivar packetsReceived: packets of any type that came.
    @ivar packetsSent: packets of any type that transports took.
    @ivar bytesReceived: bytes that came.
    @ivar bytesSent: bytes that were sent.
    @ivar bufferedPackets: packets that wait for a transport to take them, of all sessions.
    @ivar mostBufferedPackets: those of the session that has the most.
    @ivar bufferedBytes: what clients haven't taken of what was sent to them, as far as it is here, of all sessions
        (L{Socket.bufferedAmount}).
    @ivar mostBufferedBytes: that of the session that has the most.
    @ivar heldBytes: what clients sent that applications haven't got yet, of all sessions (L{Socket.heldBytes}).
    @ivar undecided: requests that wait for a middleware, C{allowRequest} or C{generateId}.
    @ivar reading: requests whose bodies are being read.
    @ivar webSockets: connections that are WebSockets, also of sessions that have ended.
    """

    sessions: Mapping[str, int]
    opened: int
    upgraded: int
    suspended: int
    resumed: int
    closed: Mapping[str, int]
    refused: Mapping[str, int]
    limited: Mapping[str, int]
    packetsReceived: int
    packetsSent: int
    bytesReceived: int
    bytesSent: int
    bufferedPackets: int
    mostBufferedPackets: int
    bufferedBytes: int
    mostBufferedBytes: int
    heldBytes: int
    undecided: int
    reading: int
    webSockets: int


TRAFFIC = ("packetsReceived", "packetsSent", "bytesReceived", "bytesSent", "buffered")
"""The methods that may be called with each message: only observers that override one are called."""


def _overrides(observer: Any, methods: Iterable[str]) -> bool:
    return any(getattr(getattr(observer, each), "__func__", None) is not vars(ServerObserver)[each] for each in methods)


class Counters:
    """
    The counters of a server, and its observers.

    Where it is done for each message, what passes is added in place, and observers told after that, if there are any: a
    call would cost more than all the rest.

    @param throttle: how much of what clients cause is logged; by default one without a clock.
    @ivar throttle: says whether a line that clients can cause may be logged.
    @ivar observers: all observers. Never changed in place, so that a loop over it needs no copy.
    @ivar trafficObservers: those of them that override a method of L{TRAFFIC}.
    @ivar stateObservers: those of them that override C{stateChanged}.
    @ivar sessions: as in L{ServerStats}; so are the others.
    """

    _log: ClassVar[Logger] = Logger()
    __slots__ = (
        "bytesReceived",
        "bytesSent",
        "closed",
        "limited",
        "observers",
        "opened",
        "packetsReceived",
        "packetsSent",
        "refused",
        "resumed",
        "sessions",
        "stateObservers",
        "suspended",
        "throttle",
        "trafficObservers",
        "upgraded",
    )

    def __init__(self, throttle: LogThrottle | None = None) -> None:
        self.throttle: LogThrottle = LogThrottle() if throttle is None else throttle
        self.observers: tuple[Any, ...] = ()
        self.trafficObservers: tuple[Any, ...] = ()
        self.stateObservers: tuple[Any, ...] = ()
        self.sessions: dict[str, int] = {}
        self.opened: int = 0
        self.upgraded: int = 0
        self.suspended: int = 0
        self.resumed: int = 0
        self.closed: dict[str, int] = {str(each): 0 for each in CloseReason}
        self.refused: dict[str, int] = {}
        self.limited: dict[str, int] = {}
        self.packetsReceived: int = 0
        self.packetsSent: int = 0
        self.bytesReceived: int = 0
        self.bytesSent: int = 0

    def add(self, observer: Any) -> None:
        """
        Call the methods of an observer from now on.

        @raise TypeError: it is none, or lacks a method.
        """
        if not IServerObserver.providedBy(observer):
            raise TypeError(f"observer {observer!r}: expected one that provides IServerObserver")
        for name in IServerObserver:
            if not callable(getattr(observer, name, None)):
                cure = "extend ServerObserver, which has all methods"
                raise TypeError(f"observer {observer!r}: expected a method {name}; {cure}")
        self._setObservers((*self.observers, observer))

    def remove(self, observer: Any) -> None:
        """Remove an observer. One that wasn't added is no error."""
        self._setObservers(tuple(each for each in self.observers if each is not observer))

    def _setObservers(self, observers: tuple[Any, ...]) -> None:
        self.observers = observers
        self.trafficObservers = tuple(each for each in observers if _overrides(each, TRAFFIC))
        self.stateObservers = tuple(each for each in observers if _overrides(each, ("stateChanged",)))

    def sessionOpened(self, socket: Any) -> None:
        """Count a session, which is on the transport it was opened on."""
        self.opened += 1
        self._moved(socket.transport.name, 1)
        if self.observers:
            self.tell("opened", socket)

    def sessionUpgraded(self, socket: Any, before: str) -> None:
        """
        Count a session that has moved to another transport.

        @param before: the name of the transport it was on.
        """
        self.upgraded += 1
        self._moved(before, -1)
        self._moved(socket.transport.name, 1)
        if self.observers:
            self.tell("upgraded", socket)

    def sessionSuspended(self, socket: Any, description: str) -> None:
        """Count a session that has lost its connection and waits for its client."""
        self.suspended += 1
        if self.observers:
            self.tell("suspended", socket, description)

    def sessionResumed(self, socket: Any, before: str) -> None:
        """
        Count a session whose client has come back.

        @param before: the name of the transport it was on.
        """
        self.resumed += 1
        self._moved(before, -1)
        self._moved(socket.transport.name, 1)
        if self.observers:
            self.tell("resumed", socket)

    def sessionClosed(self, socket: Any, reason: CloseReason, description: str) -> None:
        """Count a session that has ended."""
        self.closed[reason] = self.closed.get(reason, 0) + 1
        self._moved(socket.transport.name, -1)
        if self.observers:
            self.tell("closed", socket, reason, description)

    def requestRefused(self, exchange: Any, refusal: HTTPRefusal) -> None:
        """
        Count a request that is being refused; called once, before it is answered.

        @param exchange: an L{IExchange}.
        """
        self.refused[refusal.name] = self.refused.get(refusal.name, 0) + 1
        if self.observers:
            self.tell("refused", exchange.request, refusal)

    def limitReached(self, socket: Any, option: str) -> None:
        """
        Count that a limit was reached for which no request is refused.

        @param socket: the session; None if there is none.
        @param option: the name of the option that sets the limit.
        """
        self.limited[option] = self.limited.get(option, 0) + 1
        if self.observers:
            self.tell("limited", socket, option)

    def addBytesReceived(self, socket: Any, size: int) -> None:
        """Count bytes that came."""
        self.bytesReceived += size
        if self.trafficObservers:
            self.tell("bytesReceived", socket, size)

    def addBytesSent(self, socket: Any, size: int) -> None:
        """Count bytes that are sent."""
        self.bytesSent += size
        if self.trafficObservers:
            self.tell("bytesSent", socket, size)

    def tell(self, event: str, *args: Any) -> None:
        """
        Call a method of every observer.

        @param event: its name in L{IServerObserver}.
        """
        observers = self.observers
        if event in TRAFFIC:
            # A session that can be resumed has something between it and its transports.
            observers = self.trafficObservers
            args = (getattr(args[0], "observed", args[0]), *args[1:])
        for observer in observers:
            try:
                getattr(observer, event)(*args)
            except BaseException:
                self._log.failure(
                    "Observer {observer} failed to take {event}", observer=type(observer).__name__, event=event
                )

    def measures(self) -> list[Measure]:
        """Return the numbers of all observers; one that fails is logged."""
        found: list[Measure] = []
        for observer in self.observers:
            try:
                found += observer.measures()
            except BaseException:
                name = type(observer).__name__
                self._log.failure("Observer {observer} failed to take {event}", observer=name, event="measures")
        return found

    def _moved(self, transport: str, by: int) -> None:
        self.sessions[transport] = self.sessions.get(transport, 0) + by


class LogObserver(ServerObserver):
    """
    Logs the beginning and the end of each session, each refused request and each limit that is reached.

    By twisted.logger at the level info, with fields: C{session}, as much of its id as may stand in a log; C{peer}, the
    client's address; C{transport}, C{reason}, C{name}, C{status}, C{option}. What a client sent is in none of them.

    @param server: the L{Server} that it is added to.
    """

    _log = Logger()

    def __init__(self, server: Any) -> None:
        self._server = server

    def opened(self, socket: Any) -> None:
        self._log.info(
            "Session {session} of {peer} opened on {transport}",
            session=socket.logName,
            peer=socket.remoteAddress,
            transport=socket.transport.name,
        )

    def upgraded(self, socket: Any) -> None:
        self._log.info(
            "Session {session} moved to {transport}", session=socket.logName, transport=socket.transport.name
        )

    def suspended(self, socket: Any, description: str) -> None:
        self._log.info("Session {session} suspended: its connection is lost", session=socket.logName)

    def resumed(self, socket: Any) -> None:
        self._log.info(
            "Session {session} resumed on {transport}", session=socket.logName, transport=socket.transport.name
        )

    def closed(self, socket: Any, reason: CloseReason, description: str) -> None:
        # Not the description, which may show what the client sent.
        self._log.info("Session {session} closed: {reason}", session=socket.logName, reason=str(reason))

    def refused(self, request: Any, refusal: HTTPRefusal) -> None:
        try:
            peer = self._server.clientOf(request).address
        except HTTPRefusal:
            # A proxy that contradicts itself, which may be why.
            peer = None
        self._log.info(
            "A request of {peer} was refused: {name}, {status}", peer=peer, name=refusal.name, status=refusal.status
        )

    def limited(self, socket: Any, option: str) -> None:
        session = None if socket is None else socket.logName
        self._log.info("Session {session} reached {option}", session=session, option=option)
