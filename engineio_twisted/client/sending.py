"""What a client sends: before its session is open, to a server that takes no more, and to one that may be gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Self

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from ..clock import cancel
from ..interfaces import Closing
from ..protocol.packet import Packet, PacketType
from ..session.base import checkCallback
from ..session.outbox import Message, Outbox, SendCallback, messageOf, messagesOf, sizeOf
from ..session.owner import TransportOwner
from ..session.states import ReadyState
from .connecting import Connecting
from .errors import ConnectionFailed, FailureType, MessageTooLarge
from .events import ClientEvents
from .handshake import Handshake
from .options import ClientOptions
from .payloads import postedSize

_OPEN, _OPENING, _CLOSED = ReadyState.OPEN, ReadyState.OPENING, ReadyState.CLOSED
_MESSAGE = PacketType.MESSAGE

STANDSTILL_GRACE = 2.0
"""Seconds in which a ping may be read that came while the machine stood still, before the session ends."""


class ClientSender(ClientEvents, TransportOwner):
    """
    The half of a L{Client} that sends.

    @ivar opts: the L{ClientOptions}.
    @ivar handshake: the L{Handshake} of the server; None until the session is open.
    @ivar failure: the L{ConnectionFailed} that ended the session, or kept it from opening; None if nothing failed.
    """

    opts: ClientOptions
    _connecting: Connecting
    # The time, as it goes on while the machine sleeps.
    _standstill: Callable[[], float]

    def __init__(self, sid: str, host: Any, transport: Any, protocol: int) -> None:
        super().__init__(sid, host, transport, protocol)
        self.handshake: Handshake | None = None
        self.failure: ConnectionFailed | None = None
        # When a ping is overdue, by that clock; and what ends the session then, while nothing is sent.
        self._heardUntil = inf
        self._overdue: IDelayedCall | None = None
        # Characters of a message that no limit of the server's can refuse.
        self._surelyTaken = inf
        # Messages that belong together, sent before it was known how much the server takes.
        self._together: list[list[Packet]] = []

    def send(self, data: Message, callback: SendCallback | None = None, *, compress: bool = True) -> Self:
        """
        Send a message, as L{Socket.send} does. Before the session is open it waits in the buffer.

        @param data: as of L{Socket.send}.
        @param callback: as of L{Socket.send}; or called at once with a L{MessageTooLarge}, if the message is larger
            than what the server takes.
        @param compress: whether the message may be compressed.
        @return: this client.
        @raise MessageTooLarge: the message is larger than what the server takes, and there is no callback.
        @raise TypeError: as L{Socket.send} does; C{ValueError} and L{BufferLimitExceeded} too.
        """
        message, utf8 = messageOf(data)
        if self._readyState is _OPEN:
            transport = self.transport
            if len(message) > self._surelyTaken and self._isRefused((message,), callback):
                return self
            if (
                self._outbox is None
                and callback is None
                and not self._hasSendListeners
                and transport.writable
                and self._standstill() < self._heardUntil
                and self._overdue is None
            ):
                transport.sendMessage(message, utf8, compress)
            else:
                checkCallback(callback)
                self._buffer([Packet(_MESSAGE, message, compress)], callback)
        elif self._readyState is _OPENING:
            checkCallback(callback)
            self._buffer([Packet(_MESSAGE, message, compress)], callback)
        if self._pace is not None:
            self._pace.wrote()
        return self

    write = send

    def sendAll(
        self, messages: Sequence[Message], callback: SendCallback | None = None, *, compress: bool = True
    ) -> Self:
        """Send several messages, all of them or none, as L{Socket.sendAll} does; otherwise as L{send}."""
        made = [message for message, _ in messagesOf(messages)]
        isOpen = self._readyState is _OPEN
        if made and (isOpen or self._readyState is _OPENING):
            checkCallback(callback)
            if isOpen and max(map(len, made)) > self._surelyTaken and self._isRefused(made, callback):
                return self
            packets = [Packet(_MESSAGE, each, compress) for each in made]
            if self._buffer(packets, callback) and not isOpen and len(packets) > 1:
                self._together.append(packets)
        if self._pace is not None:
            self._pace.wrote()
        return self

    def _buffer(self, packets: Sequence[Packet], callback: SendCallback | None) -> bool:
        """Send packets or buffer them, and return whether that was done."""
        if self._readyState is _OPEN and self._overdue is None and self._mayBeGone:
            self._overdue = self._host.clock.callLater(STANDSTILL_GRACE, self._stoodStill)
        return self._neededOutbox().send(packets, callback)

    @property
    def _mayBeGone(self) -> bool:
        """Whether a ping is overdue that no timer has missed yet."""
        isReading = self._inbox is None and (self.patience is None or not self.patience.isOverdue)
        return isReading and self._standstill() >= self._heardUntil

    def flush(self) -> None:
        # What is sent to nobody would be lost.
        if self._overdue is None:
            super().flush()

    def _sizeInRequest(self, message: str | bytes) -> int:
        """Return how many bytes a message takes in a request, or in a message on WebSocket, at most."""
        # A session that is resumed may go on by polling.
        if self.transport.name == "polling" or self.opts.resume:
            return postedSize(message, self._connecting.codec, not self.opts.forceBase64)
        if isinstance(message, bytes) and self.opts.forceBase64:
            return 1 + -(-len(message) // 3) * 4
        return sizeOf(message) + isinstance(message, str)

    def _isRefused(self, messages: Sequence[str | bytes], callback: SendCallback | None) -> bool:
        """Refuse messages of which one is larger than what the server takes, and return whether that is so."""
        limit = self.handshake.maxPayload if self.handshake is not None else None
        largest = max(map(self._sizeInRequest, messages))
        if limit is None or largest <= limit:
            return False
        error = MessageTooLarge(largest, limit)
        if callback is None:
            raise error
        checkCallback(callback)
        self._callHandler("send callback", callback, error)
        return True

    def _learnLimit(self, limit: int | None) -> None:
        """
        Note how much the server takes, and drop of the buffer what it doesn't.

        @param limit: the bytes; None if it doesn't say.
        """
        together, self._together = self._together, []
        if limit is None:
            return
        # A character has four bytes at most, and base64 makes four of three.
        self._surelyTaken = max(0, limit // 4 - 4)
        outbox = self._outbox
        if outbox is not None:
            self._refuse(outbox, together, limit)

    def _refuse(self, outbox: Outbox, together: list[list[Packet]], limit: int) -> None:
        """Drop what is larger than a limit, with what belongs together with it, and tell whoever sent it."""
        groups = {id(each): group for group in together for each in group}
        # By the last of those that belong together, which has their callback.
        refused: dict[int, tuple[Sequence[Packet], int]] = {}
        for packet in outbox.packets:
            size = self._sizeInRequest(packet.data)
            if size > limit:
                group = groups.get(id(packet), (packet,))
                largest = refused.get(id(group[-1]), (group, 0))[1]
                refused[id(group[-1])] = group, max(size, largest)
        if not refused:
            return
        lasts = [group[-1] for group, _ in refused.values()]
        rest = [each for group, _ in refused.values() for each in group[:-1]]
        callbacks = outbox.drop([*lasts, *rest])
        isLogged = False
        for (_, size), callback in zip(refused.values(), callbacks, strict=False):
            error = MessageTooLarge(size, limit)
            if self._readyState is _CLOSED:
                # By a callback.
                return
            if callback is not None:
                self._callHandler("send callback", callback, error)
            elif isLogged:
                self.emit("error", error)
            else:
                # One line: the server could have it filled with as many as there are messages.
                isLogged = True
                self.handlerFailed("send", (), Failure(error))

    # Whether the server is there

    def resumeReceiving(self) -> None:
        # What the server has sent meanwhile is yet to be read.
        self._hearPeer()
        super().resumeReceiving()

    def _hearPeer(self) -> None:
        """Note that the server is there, and go on sending if that wasn't sure."""
        handshake = self.handshake
        if handshake is None:
            return
        self._heardUntil = self._standstill() + (handshake.pingInterval + handshake.pingTimeout) / 1000
        if self._overdue is not None:
            cancel(self._overdue)
            self._overdue = None
            # In a later turn, unless the session ends in this one.
            self.callLater(0, self.flush)

    def _stoodStill(self) -> None:
        """Leave the connection, as nothing came from the server while this machine stood still, nor since."""
        failure = ConnectionFailed(FailureType.TIMEOUT, "no ping came in time, as this machine stood still")
        if self.failure is None:
            self.failure = failure
        self.silent(Closing(failure.reason, failure.description))
