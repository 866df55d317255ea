"""All sessions of a server: the one place where they are added and removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from ..ends import Ends, attempt
from ..interfaces import ISessionHost
from ..logs import SocketIONotice
from ..observer import Counters
from ..protocol.errors import BufferLimitExceeded
from ..protocol.options import ServerOptions
from ..protocol.packet import PacketType, SharedPacket
from ..protocol.resume import Bounds
from .heartbeats import Heartbeats
from .limited import LimitedSession
from .limits import Admission, SessionLimitExceeded, SessionLimits
from .outbox import messagesOf
from .resumption import ResumableTransport, Resumption
from .session import Session
from .socket import Socket
from .states import ReadyState


@implementer(ISessionHost)
class SocketFactory:
    """
    The sessions of a server, by id; made by the server, as its C{factory}.

    The server calls this with each accepted handshake and when it closes; each session, once, when it has ended.

    @param server: the L{Server}: its options, its counters, and its handlers of what sessions emit to it.
    @param clock: the time of the server, an C{IReactorTime}.
    @param addressOf: returns the address of the client that sent a request.
    @ivar clients: the live sessions, by id.
    @ivar countElsewhere: returns how many sessions other processes have that C{maxSessions} counts too.
    """

    _log = Logger()

    def __init__(self, server: Any, clock: IReactorTime, addressOf: Callable[[Any], str | None]) -> None:
        self.clients: dict[str, Session] = {}
        self.server = server
        self.clock = clock
        self.addressOf = addressOf
        self.opts: ServerOptions = server.opts
        self.counters: Counters = server._counters
        self._socketIONotice: SocketIONotice = server.socketIONotice
        self.heartbeats: Heartbeats = Heartbeats(self.opts, clock)
        self.ends: Ends = Ends(clock)
        self._limits = SessionLimits(self.opts)
        options = self.opts
        isLimited = (options.maxMessagesPerSecond, options.maxBytesPerSecond, options.firstPacketTimeout) != (None,) * 3
        self._class = LimitedSession if isLimited else Session
        self._waiting: list[Deferred[None]] = []
        self.countElsewhere: Callable[[], int] | None = None

    @property
    def pending(self) -> int:
        """How many handshakes are being decided about."""
        return self._limits.pending

    def admit(self, exchange: Any) -> Admission:
        """
        Let a handshake in, so that it may open a session.

        @raise SessionLimitExceeded: a limit is reached.
        """
        now = self.clock.seconds()
        address = self.addressOf(exchange) if self._limits.needsAddress else None
        sessions = len(self.clients) + (0 if self.countElsewhere is None else self.countElsewhere())
        try:
            return self._limits.admit(address, sessions, now)
        except SessionLimitExceeded as refusal:
            if self.counters.throttle.allows(refusal.name):
                self._log.warn("A handshake was refused: {reason}", reason=refusal.message, name=refusal.name)
            raise

    def open(
        self,
        sid: str,
        transport: Any,
        exchange: Any,
        protocol: int,
        admission: Admission | None = None,
        resume: Bounds | None = None,
    ) -> Session:
        """
        Open a session: its open packet is sent, or buffered for the transport to get ready; its heartbeat runs.

        @param admission: that of its handshake.
        @param resume: the bounds of a client that asks for a session that can be resumed.
        """
        options = self.opts
        resumption = None
        if resume is not None and options.resumeTimeout is not None and protocol == 4:
            own = Bounds(options.maxBufferedPackets, options.maxBufferedBytes)
            resumption = Resumption(own, resume, options.resumeTimeout)
            transport = ResumableTransport(transport, resumption)
        socket = self._class(sid, self, transport, exchange, protocol)
        key = None if admission is None else admission.take()
        if key is not None:
            socket.addressKey = key
        if resumption is not None:
            socket._resumption = resumption
        self.clients[sid] = socket
        if protocol == 4 and self._socketIONotice.isDue:
            # So that the first message isn't taken for an ordinary one.
            socket.isHeard = False
        try:
            socket.open()
        except BaseException:
            # The application never hears of it.
            socket.close(discard=True)
            raise
        return socket

    def firstMessage(self, session: Session, data: str | bytes) -> None:
        self._socketIONotice.firstMessage(data, session.logName)

    def sessionEnded(self, socket: Session) -> None:
        del self.clients[socket.id]
        self._limits.leave(socket.addressKey)
        if self._waiting and not self.clients:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    def whenEmpty(self) -> Deferred[None]:
        """Return a Deferred that fires when no session is live."""
        deferred: Deferred[None] = Deferred()
        if self.clients:
            self._waiting.append(deferred)
        else:
            deferred.callback(None)
        return deferred

    def broadcast(
        self,
        data: object,
        exclude: Socket | str | Iterable[Socket | str],
        to: Iterable[Socket] | None,
        compress: bool,
        isVolatile: bool,
        others: Any = None,
    ) -> int:
        """
        Send a message, or several, to every session or to some, and return to how many.

        @param others: sends them to the sessions of other processes, a L{RemoteSessions}; None sends them to none.
        """
        messages = messagesOf(data if isinstance(data, list | tuple) else (data,))
        excluded, absent = self._excludedOf(exclude) if exclude else ((), ())
        sockets: Iterable[Any] = tuple(self.clients.values()) if to is None else _socketsOf(to)
        if not messages:
            return 0
        if others is not None:
            # First, so that what a handler sends meanwhile arrives behind it. Nothing is delivered during the call.
            others.broadcast([each for each, _ in messages], absent, compress, isVolatile)
        packets = [SharedPacket(PacketType.MESSAGE, each, compress) for each, _ in messages]
        count = 0
        for socket in sockets:
            if socket in excluded:
                continue
            try:
                if socket.sendShared(packets, isVolatile):
                    count += 1
            except BufferLimitExceeded as error:
                # The caller could not tell which session it was.
                if self.counters.throttle.allows(error.option):
                    self._log.warn(
                        "Session {session} not sent a message: {reason}", session=socket.logName, reason=str(error)
                    )
            except BaseException:
                # Whatever it is, the others are to get theirs.
                if self.counters.throttle.allows("broadcast"):
                    self._log.failure("Session {session} could not be sent a message", session=socket.logName)
        return count

    def _excludedOf(self, exclude: Socket | str | Iterable[Socket | str]) -> tuple[set[Socket], list[str]]:
        """Return the sockets that are excluded from a broadcast, and the ids of sessions that aren't here."""
        given = _eachOf("exclude", (exclude,) if isinstance(exclude, Socket | str) else exclude, (Socket, str))
        ids = [each for each in given if isinstance(each, str)]
        sockets = {each if isinstance(each, Socket) else self.clients.get(each) for each in given}
        return sockets - {None}, [each for each in ids if each not in self.clients]  # type: ignore[return-value]

    def sendTo(self, sid: str, data: object, compress: bool) -> bool:
        """Send a message, or several, to one session, and return whether it is open and took them."""
        socket = self.clients.get(sid)
        return self.broadcast(data, (), () if socket is None else (socket,), compress, False) == 1

    def closeSession(self, sid: str, discard: bool) -> bool:
        """Close one session, and return whether it was open."""
        socket = self.clients.get(sid)
        isOpen = socket is not None and socket.readyState is ReadyState.OPEN
        return socket is not None and attempt(socket.close, discard, session=socket) and isOpen

    def closeAll(self) -> None:
        """End every session, because the server closes."""
        self._each(Session.shutDown)

    def drainAll(self, closesBy: float) -> None:
        """Let every session end in its own time, because the server is drained; as L{Session.goAway}."""
        self._each(lambda socket: socket.goAway(closesBy))

    def _each(self, end: Callable[[Session], None]) -> None:
        for socket in list(self.clients.values()):
            try:
                end(socket)
            except BaseException:
                # Whatever it is, the others are to end too.
                self._log.failure("Session {session} could not be ended", session=socket.logName)


def _socketsOf(to: Iterable[Socket]) -> dict[Socket, None]:
    """Return each of some sockets once, in their order."""
    return _eachOf("to", (to,) if isinstance(to, Socket) else to, Socket)


def _eachOf(what: str, given: Iterable[Any], kinds: Any) -> dict[Any, None]:
    """
    Return each of some sockets, or ids, once, in their order.

    @param what: what they are given as.
    @param kinds: the classes of what may be among them.
    @raise TypeError: something else is, or they are the keys of a mapping.
    """
    each = dict.fromkeys(given)
    for kind in {type(given)} if isinstance(given, dict) else set(map(type, each)):
        if not issubclass(kind, kinds):
            # Not the thing itself, which may be an id.
            expected = "sockets" if kinds is Socket else "sockets, or ids of sessions"
            raise TypeError(f"{what} with something of type {kind.__name__}: expected {expected}")
    return each
