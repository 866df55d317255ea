"""A client's socket of one namespace, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlencode

from ... import ReadyState
from ...testing import MemoryClient, MemoryServer, ProtocolViolation
from ..errors import RESERVED_EVENTS, ReservedEvent
from ..interfaces import IParser
from ..packet import Packet, PacketType
from .events import Event, NothingReceived, Question, Refused, argumentsOf
from .session import Session

if TYPE_CHECKING:
    from ..socket import Socket


class _State(Enum):
    # Before CONNECT is answered.
    JOINING = 1
    JOINED = 2
    # The client has left: what the server has sent before it knew is ignored.
    LEFT = 3
    # The server has ended or refused it, or the session has ended: nothing may come any more.
    ENDED = 4


class MemorySocket:
    """
    A client's socket of one namespace: what L{MemorySocketIO.connect} returns.

    It does what the stock client does, and is strict: what the server may not send raises L{ProtocolViolation}, in the
    test.

    @ivar namespace: the name of its namespace.
    @ivar id: the id that the server gave it; None until it is connected.
    @ivar recovered: whether the server has restored the socket that was named in C{recover}.
    @ivar refused: a L{Refused}, if it was refused.
    @ivar disconnected: why it ended, in the words of the stock client: C{io server disconnect},
        C{io client disconnect}, C{transport close}, C{transport error}, C{ping timeout}, C{forced close}. None before.
    """

    def __init__(
        self,
        session: Session,
        namespace: str,
        auth: Mapping[str, Any] | None = None,
        recover: MemorySocket | None = None,
        isWanted: bool = True,
    ) -> None:
        """
        @param session: what carries it.
        @param recover: the socket as whose successor it connects.
        @param isWanted: whether the test asked for it; in protocol 4 the server connects C{/} by itself.
        """
        self._session = session
        self.namespace = namespace
        self._auth = auth
        self._isWanted = isWanted
        self.id: str | None = None
        self.recovered: bool = False
        self.refused: Refused | None = None
        self.disconnected: str | None = None
        self._privateId: str | None = None if recover is None else recover._privateId
        self._offset: str | None = None if recover is None else recover._offset
        self._socket: Socket | None = None
        self._state = _State.JOINING
        self._events: list[Event] = []
        self._taken = 0
        self._answers: dict[str, Any] = {}
        self._questions: dict[int, Question] = {}
        self._asked = 0
        self._serversIds: set[int] = set()
        before = session.add(self)
        # What was sent to the one before may still be under way.
        self._followsOneThatLeft = isinstance(before, MemorySocket) and before._state is _State.LEFT

    def __repr__(self) -> str:
        ended = f", {self.disconnected}" if self.disconnected else f", refused: {self.refused}" if self.refused else ""
        return f"<MemorySocket {self.id} in {self.namespace}, {self._state.name.lower()}{ended}>"

    # What a test does

    @property
    def connected(self) -> bool:
        """Whether it is connected to its namespace."""
        return self._state is _State.JOINED

    @property
    def engine(self) -> MemoryClient:
        """The client of the session that carries it, with its transport, handshake and raw messages."""
        return self._session.engine

    @property
    def socket(self) -> Socket:
        """
        The server's end of it, which is kept when it has ended.

        @raise AssertionError: it was never connected, or had ended before the client was told that it was.
        """
        if self._socket is None and self.id is not None:
            self._socket = self._session.find(self.namespace, self.id)
        assert self._socket is not None, f"the server has no socket of {self!r}"
        return self._socket

    @property
    def transport(self) -> str:
        """The name of the transport."""
        return self.engine.transport

    def emit(self, event: str, *args: Any) -> None:
        """
        Send an event. When this returns, the handlers were called, unless something is late on its way.

        @raise ReservedEvent: the protocol keeps its name for itself.
        @raise UnsendableValue: an argument can't be sent.
        @raise AssertionError: it isn't connected.
        """
        self._emit(event, args, None)

    def send(self, *args: Any) -> None:
        """Send the event C{message}, as L{emit} does."""
        self._emit("message", args, None)

    def ask(self, event: str, *args: Any) -> Question:
        """Send an event as L{emit} does, and return a L{Question}, which has the acknowledgement when it comes."""
        question = Question(self._describe)
        self._emit(event, args, question)
        return question

    def emitWithAck(self, event: str, *args: Any) -> Any:
        """
        Send an event as L{emit} does, and return the acknowledgement: None for no argument, one value, or a tuple.

        @raise NothingReceived: it didn't come at once; L{ask} waits for it.
        """
        return self.ask(event, *args).answer

    def sendRaw(self, *messages: str | bytes) -> None:
        """Send messages of the session as they are, such as C{'2["say"]'}: for input that no client sends."""
        self._settle()
        self._session.sendRaw(*messages)

    def on(self, event: str, answer: Any) -> None:
        """
        Answer what the server asks with an event, from now on.

        An event without an answer of this kind is acknowledged by its L{Event.answer}, when the test pleases.

        @param answer: a value; or a function that is called with the arguments of each such event, also of one that
            asks for nothing. None stands for no argument, a tuple for several.
        """
        self._answers[event] = answer

    @property
    def received(self) -> list[Event]:
        """All events that came, in order."""
        self._settle()
        return list(self._events)

    @property
    def unread(self) -> list[Event]:
        """Those that L{receive} hasn't returned yet."""
        return self.received[self._taken :]

    def receive(self) -> Event:
        """
        Return the next event, that this hasn't returned before.

        @raise NothingReceived: none has come.
        """
        unread = self.unread
        if not unread:
            raise NothingReceived(f"no event: {self._describe()}")
        self._taken += 1
        return unread[0]

    def receiveAll(self) -> list[Event]:
        """Return all events that L{receive} hasn't returned yet; it won't any more."""
        unread = self.unread
        self._taken += len(unread)
        return unread

    def of(self, namespace: str, auth: Mapping[str, Any] | None = None, *, wait: bool = True) -> MemorySocket:
        """
        Connect to another namespace on the same session, as L{MemorySocketIO.connect} does.

        @raise Refused: it was refused.
        @raise AssertionError: it wasn't answered, as the application takes its time; or it is connected already.
        """
        self._settle()
        there = self._session.socketOf(namespace)
        if isinstance(there, MemorySocket) and there.isActive:
            raise AssertionError(f"{namespace} is connected already: {there!r}")
        if isinstance(there, MemorySocket) and not there._isWanted:
            there._isWanted = True
            return there.waited() if wait else there
        socket = MemorySocket(self._session, namespace, auth)
        if self.engine.readyState is not ReadyState.OPENING:
            socket.connect()
        return socket.waited() if wait else socket

    def waited(self) -> Self:
        """
        Return the socket if it has been connected.

        @raise Refused: it was refused.
        @raise HandshakeRefused: its session was refused.
        @raise AssertionError: it wasn't answered.
        """
        self._settle()
        refused = self.engine.refused or self.refused
        if refused is not None:
            raise refused
        if self.id is None:
            said = self._describe()
            self.drop()
            raise AssertionError(
                f"the client wasn't answered yet, to let time pass, pass wait=False and advance(): {said}"
            )
        return self

    def disconnect(self) -> None:
        """Leave the namespace as the stock client does, which closes the session with its last one."""
        self._settle()
        if self.isActive:
            if self.connected:
                self._sendPacket(PacketType.DISCONNECT, None, None)
            self._ended(_State.LEFT, "io client disconnect")
        self._settle()

    # The network

    def drop(self, connection: str | None = None) -> None:
        """Lose connections of the session: L{MemoryClient.drop}."""
        self.engine.drop(connection)

    def vanish(self) -> None:
        """Be gone without the server's being told: L{MemoryClient.vanish}."""
        self.engine.vanish()

    def delay(self, seconds: float) -> None:
        """Delay what is sent from now on, in both directions: L{MemoryClient.delay}."""
        self.engine.delay(seconds)

    def split(self, size: int | None) -> None:
        """Split what is sent from now on into pieces: L{MemoryClient.split}."""
        self.engine.split(size)

    def pauseReading(self) -> None:
        """Read nothing any more: L{MemoryClient.pauseReading}."""
        self.engine.pauseReading()

    def resumeReading(self) -> None:
        """Read again: L{MemoryClient.resumeReading}."""
        self.engine.resumeReading()

    def upgrade(self) -> None:
        """Move from polling to WebSocket: L{MemoryClient.upgrade}."""
        self.engine.upgrade()

    def advance(self, seconds: float) -> None:
        """Let time pass: L{MemorySocketIO.advance}."""
        self._session.server.advance(seconds)

    # Sending

    def _settle(self) -> None:
        self._session.server.settle()

    def _describe(self) -> str:
        errors = self._session.server.errors
        return f"{self!r}" + "".join(f"; the application failed: {each!r}" for each in errors)

    def _sendPacket(self, type: PacketType, id: int | None, data: Any) -> None:  # noqa: A002
        if self._session.isOpen:
            self._session.send(type, self.namespace, id, data)

    def _emit(self, event: str, args: tuple[Any, ...], question: Question | None) -> None:
        self._settle()
        if event in RESERVED_EVENTS:
            raise ReservedEvent(event)
        if not self.connected:
            raise AssertionError(f"{event!r:.100} can't be sent: {self!r}")
        asked = None
        if question is not None:
            asked, self._asked = self._asked, self._asked + 1
            self._questions[asked] = question
        self._session.send(PacketType.EVENT, self.namespace, asked, [event, *args])

    def _reply(self, id: int) -> Callable[..., None]:  # noqa: A002
        isAnswered = False

        def reply(*args: Any) -> None:
            nonlocal isAnswered
            self._settle()
            if isAnswered or not self.connected:
                raise AssertionError(f"{'answered already' if isAnswered else 'nobody waits for it'}: {self!r}")
            isAnswered = True
            self._sendPacket(PacketType.ACK, id, list(args))

        return reply

    # As the session sees it

    @property
    def isActive(self) -> bool:
        """Whether it is connected, or waits for it, by the test's wish."""
        return self._isWanted and self._state in (_State.JOINING, _State.JOINED)

    def connect(self) -> None:
        """Send CONNECT, when the session is open."""
        namespace, auth = self.namespace, self._auth
        if self._session.protocol == 4:
            if namespace == "/":
                return
            namespace += f"?{urlencode(auth, quote_via=quote)}" if auth else ""
            auth = None
        elif self._privateId is not None:
            offset = {} if self._offset is None else {"offset": self._offset}
            auth = {"pid": self._privateId, **offset, **(auth or {})}
        self._session.send(PacketType.CONNECT, namespace, None, auth)

    def take(self, packet: Packet) -> None:
        """
        Take a packet of the namespace.

        @raise ProtocolViolation: the server may not send it.
        """
        isAnswer = packet.type in (PacketType.CONNECT, PacketType.CONNECT_ERROR)
        if self._state is _State.LEFT or (self._followsOneThatLeft and not isAnswer):
            return
        self._followsOneThatLeft = False
        if self._state is not (_State.JOINING if isAnswer else _State.JOINED):
            raise ProtocolViolation(f"{packet!r:.200}, which no server may send now: {self!r}")
        match packet.type:
            case PacketType.CONNECT:
                self._takeConnect(packet.data)
            case PacketType.CONNECT_ERROR:
                self.refused = self._refusalOf(packet.data)
                self._ended(_State.ENDED, None)
            case PacketType.EVENT:
                self._takeEvent(packet)
            case PacketType.ACK:
                question = None if packet.id is None else self._questions.pop(packet.id, None)
                if question is None:
                    raise ProtocolViolation(f"{packet!r:.200}, an acknowledgement of nothing: {self!r}")
                question.args = tuple(packet.data)
            case _:
                self._ended(_State.ENDED, "io server disconnect")

    def sessionEnded(self, reason: str) -> None:
        """End, unless it has ended before."""
        if self._state in (_State.JOINING, _State.JOINED):
            self._state, self.disconnected = _State.ENDED, reason

    def _ended(self, state: _State, reason: str | None) -> None:
        self._state, self.disconnected = state, reason
        self._session.closeUnlessUsed()

    def _takeConnect(self, data: Any) -> None:
        self._state = _State.JOINED
        if self._session.protocol == 4:
            if data is not None:
                raise ProtocolViolation(f"CONNECT with {data!r:.200}: expected nothing in protocol 4")
            sid = self.engine.sid or ""
            self.id = sid if self.namespace == "/" else f"{self.namespace}#{sid}"
        else:
            self._takeIds(data)
        self._socket = self._session.find(self.namespace, self.id or "")

    def _takeIds(self, data: Any) -> None:
        names = set(data) if isinstance(data, dict) else set()
        if "sid" not in names or names - {"sid", "pid"} or not all(isinstance(data[each], str) for each in names):
            raise ProtocolViolation(f"CONNECT with {data!r:.200}: expected sid, and with recovery pid")
        self.id = data["sid"]
        privateId = data.get("pid")
        self.recovered = privateId is not None and privateId == self._privateId
        self._privateId = privateId

    def _refusalOf(self, data: Any) -> Refused:
        if self._session.protocol == 4:
            return Refused(data) if isinstance(data, str) else Refused("", data)
        names = set(data) if isinstance(data, dict) else set()
        if "message" not in names or names - {"message", "data"} or not isinstance(data["message"], str):
            raise ProtocolViolation(f"CONNECT_ERROR with {data!r:.200}: expected message, and with data that")
        return Refused(data["message"], data.get("data"))

    def _takeEvent(self, packet: Packet) -> None:
        name, *args = packet.data
        if packet.id is None:
            event = Event(name, args)
        else:
            if packet.id in self._serversIds:
                raise ProtocolViolation(f"{packet!r:.200}: its id was used before")
            self._serversIds.add(packet.id)
            event = Event(name, args, True, self._reply(packet.id))
        self._events.append(event)
        if self._privateId is not None and args and isinstance(args[-1], str):
            self._offset = args[-1]
        if name in self._answers:
            answer = self._answers[name]
            result = answer(*args) if callable(answer) else answer
            if event.isAsked and self.connected:
                event.answer(*argumentsOf(result))


def connect(
    server: MemoryServer,
    parser: IParser,
    namespace: str = "/",
    auth: Mapping[str, Any] | None = None,
    *,
    protocol: int = 5,
    recover: MemorySocket | None = None,
    find: Callable[[str, str], Socket | None] | None = None,
    **engine: Any,
) -> MemorySocket:
    """
    Connect a client to a server in memory, as L{MemorySocketIO.connect} says, and wait for nothing.

    @param parser: reads what servers send, and writes what clients send.
    @param find: returns the server's socket by its namespace and id, if there is one.
    @param engine: arguments of L{MemoryServer.connect}.
    """
    if protocol not in (5, 4):
        raise ValueError(f"protocol {protocol!r}: expected 5 or 4")
    if not namespace.startswith("/"):
        raise ValueError(f"namespace {namespace!r}: expected a name that begins with a slash")
    if protocol == 4 and namespace == "/" and auth:
        raise ValueError("auth of / in protocol 4: such clients have none; pass it as query")
    session = Session(server, parser, protocol, find)
    if protocol == 4 and namespace != "/":
        MemorySocket(session, "/", isWanted=False)
    socket = MemorySocket(session, namespace, auth, recover)
    session.engine = server.connect(protocol=protocol - 1, listener=session, wait=False, **engine)
    return socket
