"""
What a session has to send and its transport doesn't take yet: the buffer, its limits, and the callbacks.

A session has an L{Outbox} only while it buffers something, has listeners for what is sent, or owes a C{drain}.
docs/architecture.md, "The states of a session".
"""

from __future__ import annotations

import inspect
from array import array
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from twisted.logger import Logger

from ..interfaces import Closing
from ..protocol.errors import BufferLimitExceeded, CloseReason
from ..protocol.packet import Packet, PacketType
from .states import ReadyState

SendCallback = Callable[[Any], object]

Message: TypeAlias = "str | bytes | bytearray | memoryview | array[Any] | float"
"""
What type checkers let pass as a message; an int too. They can't see whether a class has a C{__str__} of its own, so
that objects of one are sent at run time, and written as C{str(value)} in a program that is checked.
"""

HEARTBEATS = (PacketType.PING, PacketType.PONG, PacketType.NOOP)
"""Packets of heartbeats. A noop takes the place of a ping if the client pings; nothing reads it."""

_MESSAGE = PacketType.MESSAGE


def messageOf(data: object) -> tuple[str | bytes, bytes | None]:
    """
    Return what is sent of what L{Socket.send} is given, and the UTF-8 of text that isn't ASCII.

    @raise TypeError: it is something else than bytes or text, of which C{str} makes no text meant for others.
    @raise ValueError: the text holds a lone surrogate, which no encoding can carry.
    """
    if isinstance(data, bytes):
        return data, None
    if not isinstance(data, str):
        try:
            return memoryview(data).tobytes(), None  # type: ignore[arg-type]
        except TypeError:
            data = _textOf(data)
    if data.isascii():
        return data, None
    try:
        return data, data.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"message text with {data[error.start]!r} at index {error.start}: expected text that UTF-8 can"
            " carry, which a lone surrogate is not"
        ) from None


def messagesOf(messages: object) -> list[tuple[str | bytes, bytes | None]]:
    """
    Return what is sent of several messages, each as L{messageOf} does.

    @raise TypeError: one can't be sent, or it isn't a list or a tuple.
    @raise ValueError: a text holds a lone surrogate.
    """
    if not isinstance(messages, list | tuple):
        cure = "to send one, call send()" if isinstance(messages, str | bytes) else "such as a list"
        raise TypeError(f"messages of type {type(messages).__name__}: expected a list or a tuple of messages; {cure}")
    return [messageOf(each) for each in messages]


def _textOf(data: object) -> str:
    kind = type(data)
    isNumber = isinstance(data, int | float | complex) and kind is not bool
    isLater = inspect.isawaitable(data)
    if isNumber or (kind.__str__ is not object.__str__ and not isLater):
        return str(data)
    what = repr(data) if data is None or kind is bool else f"of type {kind.__name__}"
    cure = "await it, and send its result" if isLater else "encode it first, for example with json.dumps()"
    raise TypeError(f"message {what}: expected text, bytes or a number; {cure}") from None


def sizeOf(data: str | bytes) -> int:
    """Return how many bytes the data of a packet takes, text as UTF-8."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode("utf-8", "surrogatepass"))


class Outbox:
    """
    The buffer of one session.

    @param session: the L{Session}, which makes this when it is needed. This removes itself from it when it is empty.
    @ivar packets: those that the transport hasn't taken.
    @ivar size: the bytes of their data.
    @ivar hasHeartbeat: whether a packet of L{HEARTBEATS} is among them.
    @ivar isAwaited: whether the application waits for C{drain}, as it was told that the session isn't writable.
    @ivar isFlushing: whether handlers and callbacks of a flush are running.
    """

    __slots__ = (
        "_callbacks",
        "_hasDropped",
        "_session",
        "hasHeartbeat",
        "isAwaited",
        "isFlushing",
        "packets",
        "size",
    )
    hasHeartbeat: bool
    isAwaited: bool
    isFlushing: bool

    _log = Logger()

    def __init__(self, session: Any) -> None:
        self._session = session
        self.packets: list[Packet] = []
        self.size: int = 0
        self._callbacks: list[tuple[Packet, SendCallback]] = []
        self.hasHeartbeat = self.isAwaited = self.isFlushing = self._hasDropped = False

    def send(self, packets: Sequence[Packet], callback: SendCallback | None = None) -> bool:
        """
        Buffer packets, all or none, and give the transport what it takes.

        @param packets: at least one; messages, or one that isn't.
        @param callback: as in L{Socket.sendAll}.
        @return: whether they were sent or buffered. Messages that have to wait aren't if there are too many.
        @raise BufferLimitExceeded: that is so, and C{bufferLimitAction} is C{"raise"}.
        """
        session = self._session
        if packets[0].type is _MESSAGE and (self.packets or self._kept or not session.transport.writable):
            exceeded = self._limitExceededBy(packets)
            if exceeded is not None:
                try:
                    self._refuse(exceeded, callback)
                finally:
                    self._leaveIfEmpty()
                return False
        # In the buffer first: a handler may close the session, and then what is buffered still goes out.
        self.put(packets, callback)
        session.flush()
        counters = session._host.counters
        # What is sent from inside a flush goes out in its next round, if the transport takes that too.
        if counters.trafficObservers and self.packets and not self._canFlush():
            counters.tell("buffered", session, len(self.packets), session.bufferedAmount)
        return True

    def put(self, packets: Sequence[Packet], callback: SendCallback | None = None) -> None:
        """Buffer packets, of which no other comes in between."""
        session = self._session
        for packet in packets:
            if packet.type is _MESSAGE or not self.packets or session.transport.isPolled:
                self.packets.append(packet)
            else:
                # A slow client is to hear of us before it has taken all that waits.
                self.packets.insert(0, packet)
            self.size += sizeOf(packet.data)
            if packet.type in HEARTBEATS:
                self.hasHeartbeat = True
        if callback is not None:
            self._callbacks.append((packet, callback))
        for packet in packets:
            # A handler may have closed the session, and nothing comes after its close event.
            if session.readyState is not ReadyState.CLOSED:
                session.emit("packetCreate", packet)

    @property
    def _kept(self) -> int:
        """How many messages were sent, and are kept until they are acknowledged."""
        resumption = self._session._resumption
        return 0 if resumption is None else resumption.count

    def _limitExceededBy(self, packets: Sequence[Packet]) -> BufferLimitExceeded | None:
        """Return which limit messages that have to wait would exceed, if any."""
        session = self._session
        options = session._host.opts
        if self._kept + len(self.packets) + len(packets) > options.maxBufferedPackets:
            return BufferLimitExceeded("maxBufferedPackets", options.maxBufferedPackets, session._peer)
        amount = session.bufferedAmount
        if amount and amount + sum([sizeOf(each.data) for each in packets]) > options.maxBufferedBytes:
            return BufferLimitExceeded("maxBufferedBytes", options.maxBufferedBytes, session._peer)
        return None

    def _refuse(self, exceeded: BufferLimitExceeded, callback: SendCallback | None) -> None:
        """Do with a message over a limit what C{bufferLimitAction} says: the one place where that happens."""
        session = self._session
        counters = session._host.counters
        counters.limitReached(session, exceeded.option)
        action = session._host.opts.bufferLimitAction
        if action == "raise":
            raise exceeded
        if action == "drop":
            if not self._hasDropped:
                # Until all is taken, there may be many more.
                self._hasDropped = True
                if counters.throttle.allows(exceeded.option):
                    self._log.warn(
                        "Messages to {session} dropped: {reason}", session=session.logName, reason=str(exceeded)
                    )
            if callback is not None:
                session._callHandler("send callback", callback, exceeded)
            return
        if counters.throttle.allows(exceeded.option):
            self._log.warn("Session {session} closed: {reason}", session=session.logName, reason=str(exceeded))
        session._end(Closing(CloseReason.BUFFER_LIMIT_EXCEEDED, str(exceeded)))

    def flush(self) -> None:
        """Give the transport what it takes, and close it behind the last of it if the session is closing."""
        # Handlers and callbacks, run from here, may send: what they send goes out in the next round, in order.
        if self.isFlushing:
            return
        self.isFlushing = True
        try:
            while self._canFlush():
                self._flushOnce()
        finally:
            self.isFlushing = False
            self._leaveIfEmpty()

    def _canFlush(self) -> bool:
        session = self._session
        if session.readyState is ReadyState.CLOSING:
            return bool(session.transport.writable) and not session._ending.waitsForClient
        return bool(self.packets and session.readyState is ReadyState.OPEN and session.transport.writable)

    def _flushOnce(self) -> None:
        session = self._session
        if self.packets:
            self._emitWithServer("flush", self.packets)
            if not self._canFlush():
                return
        transport, ending = session.transport, session._ending
        # A WebSocket is closed only after its last buffered packet was taken.
        isLast = session.readyState is ReadyState.CLOSING and (transport.isPolled or not self.packets)
        hadPackets = bool(self.packets)
        callbacks = self._give(ending.closeTransport if isLast else transport.send)
        isEmpty = not self.packets
        self._callBack(callbacks, transport)
        if hadPackets and isEmpty:
            self._hasDropped = False
            self.isAwaited = self.isAwaited and not transport.writable
            self._emitWithServer("drain")
        if isLast:
            session._end(ending.closing)

    def ready(self) -> None:
        """Called when the transport takes packets again, and was given those that waited."""
        if self.isAwaited and self._session.isDrained:
            self.isAwaited = False
            self._leaveIfEmpty()
            self._emitWithServer("drain")

    def _emitWithServer(self, event: str, *args: Any) -> None:
        session = self._session
        # What ran before may have closed the session, and nothing comes after its close event.
        if session.readyState is not ReadyState.CLOSED:
            session.emit(event, *args)
        if session.readyState is not ReadyState.CLOSED:
            session._host.server.emit(event, session, *args)

    def closeTransport(self) -> None:
        """Give the transport what it takes at once, and close it."""
        session = self._session
        if session.transport.writable:
            self._callBack(self._give(session._ending.closeTransport), session.transport)

    def _give(self, take: Callable[[Sequence[Packet]], int]) -> list[tuple[Packet, SendCallback]]:
        """Give the transport what it takes of the buffer, and return the callbacks of that."""
        packets, self.packets = self.packets, []
        callbacks, self._callbacks = self._callbacks, []
        size, self.size = self.size, 0
        hadHeartbeat, self.hasHeartbeat = self.hasHeartbeat, False
        taken = take(packets)
        if taken == len(packets):
            return callbacks
        # The rest comes before what was sent meanwhile. What there is to do here depends on what was taken alone.
        rest = packets[taken:]
        self.packets = [*rest, *self.packets]
        self.size += max(0, size - sum([sizeOf(each.data) for each in packets[:taken]]))
        if hadHeartbeat and any(each.type in HEARTBEATS for each in rest):
            self.hasHeartbeat = True
        gone = {id(each) for each in packets[:taken]}
        count = next((index for index, (each, _) in enumerate(callbacks) if id(each) not in gone), len(callbacks))
        self._callbacks = [*callbacks[count:], *self._callbacks]
        return callbacks[:count]

    def _callBack(self, callbacks: list[tuple[Packet, SendCallback]], transport: Any) -> None:
        for _, callback in callbacks:
            self._session._callHandler("send callback", callback, transport)

    def dropCallbacks(self) -> None:
        """Call no callback any more: what is buffered isn't sent. It can still be looked at."""
        self._callbacks = []

    def drop(self, packets: Sequence[Packet]) -> list[SendCallback | None]:
        """
        Drop some packets of what is buffered.

        @return: the callback of each, which isn't called any more; None if it has none.
        """
        dropped = {id(each) for each in packets}
        self.packets = [each for each in self.packets if id(each) not in dropped]
        self.size -= sum([sizeOf(each.data) for each in packets])
        callbacks = {id(each): callback for each, callback in self._callbacks}
        self._callbacks = [each for each in self._callbacks if id(each[0]) not in dropped]
        self._leaveIfEmpty()
        return [callbacks.get(id(each)) for each in packets]

    def clear(self) -> None:
        """Drop what is buffered."""
        self.packets = []
        self.size = 0
        self.hasHeartbeat = False
        self._callbacks = []

    def _leaveIfEmpty(self) -> None:
        isNeeded = self.packets or self.isAwaited or self.isFlushing or self._hasDropped
        if not isNeeded and self._session._outbox is self:
            self._session._outbox = None
