"""One session of the engine, and the namespaces that its client has joined. docs/socketio-protocol.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from .. import BufferLimitExceeded, CloseReason, ReadyState
from .errors import ConnectRefused, DisconnectReason, InvalidPacket, UnsendableValue
from .listeners import deferredOf
from .packet import Packet, PacketType
from .socket import Socket

if TYPE_CHECKING:
    from .. import Socket as EngineSocket
    from .interfaces import Encoded
    from .packet import IncompletePacket
    from .recovery import Kept

_CONNECT, _DISCONNECT, _EVENT, _ACK, _CONNECT_ERROR = (
    PacketType.CONNECT,
    PacketType.DISCONNECT,
    PacketType.EVENT,
    PacketType.ACK,
    PacketType.CONNECT_ERROR,
)

REFUSED = "Connection refused"
INVALID_NAMESPACE = "Invalid namespace"
CLOSING = "Server is closing"
TOO_MANY_NAMESPACES = "Too many namespaces"

LEVELS = 10
"""Levels of the stack from the disconnecting of a client to the end of its session, at most."""


class Client:
    """
    The Socket.IO side of one session.

    @ivar conn: the engine's socket.
    @ivar isProtocol4: whether it is a client of 2.x.
    @ivar sockets: those of the namespaces that it has joined, by name.
    @ivar openedAt: when the session opened, in seconds by the clock of the server.
    """

    __slots__ = ("_decode", "_ended", "_incomplete", "_io", "_joining", "conn", "isProtocol4", "openedAt", "sockets")

    _log = Logger()

    def __init__(self, io: Any, conn: EngineSocket) -> None:
        self._io = io
        self._decode = io.parser.decode
        self.conn = conn
        self.isProtocol4: bool = conn.protocol == 3
        self.openedAt: float = io.engine.clock.seconds()
        self.sockets: dict[str, Socket] = {}
        # A packet whose attachments have not all come.
        self._incomplete: IncompletePacket | None = None
        self._joining: dict[str, Joining] | None = None
        # Namespaces that the server has ended, for what the client sent before it knew.
        self._ended: dict[str, None] | None = None
        conn.on("message", self.received)
        conn.on("close", self.closed)

    @property
    def isReceivingAttachments(self) -> bool:
        """Whether a packet has come whose attachments have not."""
        return self._incomplete is not None

    @property
    def joiningCount(self) -> int:
        """How many namespaces it is about to join."""
        return len(self._joining or ())

    # Receiving

    def received(self, message: str | bytes) -> None:
        """Called with each message of the client."""
        try:
            if self._incomplete is None:
                packet: Any = self._decode(message)
                if type(packet) is not Packet:
                    self._incomplete = packet
                    return
            else:
                packet = self._incomplete.add(message)
                if packet is None:
                    return
                self._incomplete = None
        except InvalidPacket as error:
            self._violated(error)
            return
        except Exception:
            self._log.failure("The parser failed on a message of session {session}", session=self.conn.logName)
            self._violated(InvalidPacket("a message on which the parser failed"))
            return
        kind, name, packetId, data = packet
        socket = self.sockets.get(name)
        if socket is not None:
            if kind == _EVENT:
                self._io.counters.events += 1
                socket.received(data, packetId)
            elif kind == _ACK:
                socket._acknowledged(packetId, data)
            elif kind == _DISCONNECT:
                socket.end(DisconnectReason.CLIENT_NAMESPACE_DISCONNECT)
            else:
                self._violated(InvalidPacket("a CONNECT for a namespace that the client has joined"))
        elif self.isProtocol4 and "?" in name:
            # Clients go on naming a namespace as they joined it.
            path, _, query = name.partition("?")
            if kind == _CONNECT:
                self._connect(path, dict(parse_qsl(query, keep_blank_values=True)))
            else:
                self._receivedFor(path, packet._replace(namespace=path))
        elif kind == _CONNECT:
            self._connect(name, {} if data is None else data)
        else:
            self._receivedFor(name, packet)

    def _receivedFor(self, name: str, packet: Packet) -> None:
        """Receive a packet that may be for a namespace that isn't joined."""
        socket = self.sockets.get(name)
        if socket is None:
            # What comes for one that the server has ended was on its way.
            if self._ended is None or name not in self._ended:
                self._violated(InvalidPacket(f"a packet of type {packet.type} for a namespace that isn't joined"))
        elif packet.type == _EVENT:
            self._io.counters.events += 1
            socket.received(packet.data, packet.id)
        elif packet.type == _ACK:
            socket._acknowledged(packet.id, packet.data)
        else:
            socket.end(DisconnectReason.CLIENT_NAMESPACE_DISCONNECT)

    def _violated(self, error: InvalidPacket) -> None:
        """End the session of a client that doesn't keep to the protocol."""
        self._io._invalidPacket(self.conn, error)
        for each in [*self.sockets.values()]:
            each._clientViolated(error)
        self._incomplete = None
        self.conn.close(discard=True, reason=CloseReason.PARSE_ERROR, description=error.problem)

    # Joining

    def _connect(self, name: str, auth: dict[str, Any]) -> None:
        io = self._io
        if name in self.sockets or (self._joining is not None and name in self._joining):
            self._violated(InvalidPacket("a CONNECT for a namespace that the client has joined or is joining"))
            return
        if io.isDraining:
            self.refuse(name, CLOSING)
            return
        if len(self.sockets) + self.joiningCount >= io.opts.maxNamespacesPerClient:
            self.refuse(name, TOO_MANY_NAMESPACES)
            return
        namespace = io.namespaces.get(name)
        if namespace is not None and namespace.recovery is None and not namespace.middlewares:
            # Nearly always.
            self.accept(Socket(namespace, self, auth, namespace._idFor(self)), None)
            return
        if self._joining is None:
            self._joining = {}
        joining = self._joining[name] = Joining(self, name, auth, io)
        joining.begin(namespace)

    def joinFirst(self) -> None:
        """Join the default namespace, as a client of protocol 4 does by opening a session."""
        self._connect("/", {})

    def joined(self, name: str) -> None:
        """Called when an attempt to join a namespace is over."""
        if self._joining is not None:
            self._joining.pop(name, None)
            if not self._joining:
                self._joining = None

    def accept(self, socket: Socket, kept: Kept | None) -> None:
        """Let a socket be connected: its client is told first, then it is in its room, and handlers are called."""
        namespace: Any = socket.namespace
        name = namespace.name
        missed = namespace._welcome(socket, kept)
        if self._ended is not None:
            self._ended.pop(name, None)
        self._io.connecting.remove(self)
        self.sockets[name] = socket
        data: dict[str, Any] | None = None
        if not self.isProtocol4:
            data = {"sid": socket.id} if socket.pid is None else {"sid": socket.id, "pid": socket.pid}
        self._sendPacket(_CONNECT, name, data)
        if missed:
            self._sendMissed(missed)
        if self.conn.readyState is not ReadyState.OPEN or self.sockets.get(name) is not socket:
            return
        namespace.add(socket)
        asked = socket.begin()
        for each in asked:
            try:
                each()
            except BaseException:
                socket.handlerFailed("use", (), Failure())
        if socket.connected:
            namespace.connected(socket)

    def refuse(self, name: str, message: str, data: Any = None) -> None:
        """Refuse the client a namespace."""
        self._io.counters.refused += 1
        # If one can't be sent, the next one is.
        for text, more in ((message, data), (message, None), (REFUSED, None)):
            answer: Any
            if self.isProtocol4:
                answer = text if more is None else more
            else:
                answer = {"message": text} if more is None else {"message": text, "data": more}
            try:
                encoded = self._io.parser.encode(_CONNECT_ERROR, name, None, answer)
            except UnsendableValue:
                self._log.failure("A refusal of session {session} can't be sent", session=self.conn.logName)
            else:
                self._send(encoded)
                return

    # Sending

    def _sendPacket(self, kind: int, name: str, data: Any) -> None:
        self._send(self._io.parser.encode(kind, name, None, data))

    def _send(self, encoded: Any) -> None:
        """Send a packet that the client has to get. If that fails, as with a full buffer, the session is closed."""
        try:
            if type(encoded) is list:
                self.conn.sendAll(encoded)
            else:
                self.conn.send(encoded)
        except BaseException:
            self._log.failure("Session {session} could not be sent a packet", session=self.conn.logName)
            self.conn.close(discard=True)

    def _sendMissed(self, missed: list[Encoded]) -> None:
        """Send what a client has missed: all of it, or else the session is closed, and not kept."""
        messages: list[str | bytes] = []
        for each in missed:
            messages += each if isinstance(each, list) else [each]

        def sent(result: object) -> None:
            if isinstance(result, BufferLimitExceeded):
                self._closeFull()

        try:
            self.conn.sendAll(messages, sent)
        except BufferLimitExceeded:
            self._closeFull()

    def _closeFull(self) -> None:
        # Not a reason after which it may come back: it would miss the same events again.
        self.conn.close(
            discard=True, reason=CloseReason.BUFFER_LIMIT_EXCEEDED, description="it missed more than may be buffered"
        )

    # The end

    def left(self, socket: Socket) -> None:
        """Called when a socket of this has ended."""
        name = socket.namespace.name
        if self.sockets.get(name) is socket:
            del self.sockets[name]

    def leave(self, socket: Socket) -> None:
        """Disconnect a socket, as the application wants it."""
        name = socket.namespace.name
        if self.sockets.get(name) is not socket:
            joining = None if self._joining is None else self._joining.get(name)
            if joining is not None and joining.socket is socket:
                joining.refuse(REFUSED)
            return
        # Not that the client is told, and the end fails.
        self._io.ends.needRoom()
        if self._ended is None:
            self._ended = {}
        elif len(self._ended) >= self._io.opts.maxNamespacesPerClient:
            del self._ended[next(iter(self._ended))]
        self._ended[name] = None
        self._sendPacket(_DISCONNECT, name, None)
        socket.end(DisconnectReason.SERVER_NAMESPACE_DISCONNECT)

    def disconnect(self) -> None:
        """Disconnect all sockets, and close the session."""
        # Not that the sockets end, and the session stays.
        self._io.ends.needRoom(LEVELS)
        for joining in [*(self._joining or {}).values()]:
            joining.refuse(REFUSED)
        for each in [*self.sockets.values()]:
            self.leave(each)
        self.conn.close()

    def replaced(self) -> None:
        """End the session, as its client has come back by another one."""
        self.conn.close(
            discard=True, reason=CloseReason.TRANSPORT_CLOSE, description="the client came back on another connection"
        )

    def late(self) -> None:
        """Close the session, as the client has joined no namespace in time."""
        self.conn.close()

    def closed(self, reason: str, description: str) -> None:
        """Called when the session has ended."""
        self._io.gone(self)
        # A half received packet goes with it.
        self._incomplete = None
        why = DisconnectReason(str(reason))
        for joining in [*(self._joining or {}).values()]:
            joining.stop(why)
        for each in [*self.sockets.values()]:
            each.end(why, description)


class Joining:
    """
    An attempt of a client to join a namespace, while it is asked for, or middlewares are waited for.

    @ivar socket: the socket that the middlewares get, once there is one.
    """

    __slots__ = ("_auth", "_client", "_io", "_isOver", "_kept", "_name", "_namespace", "_running", "socket")

    _log = Logger()

    def __init__(self, client: Client, name: str, auth: dict[str, Any], io: Any) -> None:
        self._client = client
        self._name = name
        self._auth = auth
        self._io = io
        self._namespace: Any = None
        self._kept: Kept | None = None
        self._isOver = False
        self._running: Deferred[None] | None = None
        self.socket: Socket | None = None

    def begin(self, namespace: Any) -> None:
        """Begin, with a namespace or with what may make it."""
        if namespace is not None:
            self._enter(namespace)
        self._io.joining.add(self)
        running = self._running = Deferred.fromCoroutine(self._run())
        running.addCallbacks(self._accepted, self._failed)
        if self._isOver:
            # A middleware has disconnected its socket, and waits for something.
            running.cancel()

    def _enter(self, namespace: Any) -> None:
        self._namespace = namespace
        # It doesn't end while this waits.
        namespace._joiningHere += 1

    async def _run(self) -> None:
        namespace = self._namespace
        if namespace is None:
            namespace = await self._io._namespaceFor(self._name, self._auth)
            if self._isOver:
                if namespace is not None:
                    # It may have been made for this.
                    namespace._endIfEmpty()
                return
            if namespace is None:
                raise ConnectRefused(INVALID_NAMESPACE)
            self._enter(namespace)
        recovery = None if self._client.isProtocol4 else namespace.recovery
        socket = self.socket = Socket(namespace, self._client, self._auth, namespace._idFor(self._client))
        if recovery is not None and recovery.settings.skipMiddlewares:
            self._kept = await recovery.comeBack(socket)
            if self._kept is not None:
                return
        for each in namespace.middlewares:
            result = each(socket)
            deferred = deferredOf(result)
            if deferred is not None:
                result = await deferred
            if self._isOver:
                return
            if result is False:
                # It means to refuse, and would let everybody in.
                raise TypeError(f"middleware {each!r:.100} returned False: raise ConnectRefused to refuse a client")
        if recovery is not None and not recovery.settings.skipMiddlewares:
            self._kept = await recovery.comeBack(socket)

    def _accepted(self, _: object) -> None:
        if self._isOver:
            return
        socket, kept = self.socket, self._kept
        assert socket is not None
        self._leave()
        try:
            self._client.accept(socket, kept)
        finally:
            self._left()

    def _failed(self, failure: Failure) -> None:
        if self._isOver:
            # It was cancelled, or doesn't matter any more.
            if not failure.check(CancelledError, ConnectRefused, GeneratorExit):
                self._log.failure(
                    "A middleware failed after session {session} had left", failure, session=self._session
                )
            return
        error = failure.value
        if isinstance(error, ConnectRefused):
            self.refuse(error.message, error.data)
            return
        self._log.failure("A middleware failed for session {session}", failure, session=self._session)
        self.refuse(REFUSED)

    @property
    def _session(self) -> str:
        return f"{self._client.conn.logName} in {self._name:.100}"

    def refuse(self, message: str, data: Any = None) -> None:
        """End, and refuse the client the namespace."""
        self.stop(DisconnectReason.SERVER_NAMESPACE_DISCONNECT)
        self._client.refuse(self._name, message, data)

    def timedOut(self) -> None:
        """Called when the middlewares have taken too long."""
        self._log.warn("Middlewares took too long for session {session}", session=self._session)
        self.refuse(REFUSED)

    def stop(self, reason: DisconnectReason) -> None:
        """End: nothing more is called, and what is waited for is cancelled."""
        if self._isOver:
            return
        self._io.ends.needRoom()
        self._leave()
        socket = self.socket
        if socket is not None:
            socket.end(reason)
        try:
            if self._running is not None:
                self._running.cancel()
        finally:
            self._left()

    def _leave(self) -> None:
        self._isOver = True
        self._io.joining.remove(self)
        self._client.joined(self._name)

    def _left(self) -> None:
        if self._namespace is not None:
            self._namespace._joiningHere -= 1
            self._namespace._endIfEmpty()
