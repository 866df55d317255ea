"""
What a session has that goes on after its connections were lost. docs/protocol.md, "Resume".

L{Resumption} counts, and keeps what the other end may not have got. L{ResumableTransport} stands between a session and
each transport of it. A session that can't be resumed has neither.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from zope.interface import implementer

from ..ends import attempt
from ..interfaces import Closing, ITransport, ITransportOwner
from ..protocol.errors import CloseReason, DecodeError, HTTPRefusal
from ..protocol.packet import PROBE, Packet, PacketType
from ..protocol.payload import SEPARATOR
from ..protocol.resume import Bounds, acknowledged, waitsForReturn
from .outbox import HEARTBEATS, sizeOf

_MESSAGE, _NOOP, _CLOSE = PacketType.MESSAGE, PacketType.NOOP, PacketType.CLOSE

MOST_AT_ONCE = 1_000_000
"""Bytes of messages that are sent again at once, at most: by polling they are one body."""

SPLIT = r"text with \x1e can't go by polling on a session that can be resumed: send it as bytes"
"""Why a session ends whose application sends text that polling can't carry (docs/protocol.md, "Payloads")."""

CAME_BACK = "the client came back on another connection"
"""Why a connection is closed that the server took for open when its client came back."""


def _isSplit(data: str | bytes) -> bool:
    """Return whether the data of a packet is text that arrives in pieces by polling."""
    return isinstance(data, str) and SEPARATOR in data


class Resumption:
    """
    The numbers of one session, and what it keeps.

    Messages are numbered in each direction, from 1, by counting. What was sent is kept until it is acknowledged.

    @param bounds: how much of what this end sends may be unacknowledged.
    @param theirs: the same of the other end.
    @param timeout: for how many milliseconds the session waits while it has no connection.
    @ivar attempt: how often the client has come back: the number of the last time.
    @ivar acknowledged: how many of the messages sent the other end has.
    @ivar size: the bytes of those that it may not have.
    @ivar received: how many have come.
    @ivar suspended: how the session ends unless the client comes back; None while it has a connection.
    @ivar deadline: while it has none, what ends it.
    @ivar again: after a return, what is to be sent again before anything else, each with its bytes; None when it was.
    @ivar owed: the packet of a heartbeat that waits to be sent; it gets its number when it is. None if none does.
    """

    __slots__ = (
        "_bounds",
        "_dueAt",
        "_halfBytes",
        "_halfPackets",
        "_kept",
        "_quarterBytes",
        "_quarterPackets",
        "_receivedBytes",
        "acknowledged",
        "again",
        "attempt",
        "deadline",
        "owed",
        "received",
        "size",
        "suspended",
        "theirs",
        "timeout",
    )

    def __init__(self, bounds: Bounds, theirs: Bounds, timeout: int) -> None:
        self._bounds = bounds
        self.theirs: Bounds = theirs
        self.timeout: int = timeout
        self._halfPackets, self._halfBytes = bounds.packets // 2, bounds.bytes // 2
        self._quarterPackets, self._quarterBytes = max(1, theirs.packets // 4), max(1, theirs.bytes // 4)
        # Of most messages the data alone, of which a packet is made if it is sent again.
        self._kept: deque[tuple[Packet | str | bytes, int]] = deque()
        self.attempt: int = 0
        self.acknowledged: int = 0
        self.size: int = 0
        self.received: int = 0
        self._receivedBytes = 0
        # When so many have come, the other end is told.
        self._dueAt = self._quarterPackets
        self.suspended: Closing | None = None
        self.deadline: Any = None
        self.owed: PacketType | None = None
        self.again: deque[tuple[Packet, int]] | None = None

    def serves(self, attempt: int) -> bool:
        """Return whether a request of an attempt may be served: it is the present one, and there is a connection."""
        return attempt == self.attempt and self.suspended is None

    # What is sent

    @property
    def count(self) -> int:
        """How many messages the other end may not have."""
        return len(self._kept)

    @property
    def sent(self) -> int:
        """How many messages were sent."""
        return self.acknowledged + len(self._kept)

    @property
    def isWritable(self) -> bool:
        """Whether no more than half of what may be unacknowledged is."""
        return self.isFew(0)

    def isFew(self, waiting: int) -> bool:
        """
        Return whether no more than half of what may be unacknowledged is, or would be.

        @param waiting: how many further messages count.
        """
        return len(self._kept) + waiting <= self._halfPackets and self.size <= self._halfBytes

    def exceeds(self, sizes: Sequence[int]) -> bool:
        """
        Return whether messages would exceed the bounds, which what is sent while nothing is kept never does.

        @param sizes: the bytes of each.
        """
        bounds = self._bounds
        isTooMuch = len(self._kept) + len(sizes) > bounds.packets or self.size + sum(sizes) > bounds.bytes
        return isTooMuch and bool(self._kept)

    def keep(self, message: Packet | str | bytes, size: int) -> None:
        """
        Keep a message that is being sent.

        @param message: its packet; or, if that may be compressed and goes to nobody else, its data.
        @param size: the bytes of the data.
        """
        self._kept.append((message, size))
        self.size += size

    def unkeep(self, count: int) -> None:
        """Forget the newest messages: the transport hasn't taken them."""
        for _ in range(count):
            self.size -= self._kept.pop()[1]

    def mayHave(self, number: int, unsent: int = 0) -> bool:
        """
        Return whether the other end may have so many messages: no fewer than it said before, no more than were sent.

        @param unsent: how many of the last were not sent on its present connection.
        """
        return self.acknowledged <= number <= self.sent - unsent

    def acknowledge(self, number: int) -> None:
        """Forget what the other end has: so many messages, as L{mayHave} allows."""
        for _ in range(number - self.acknowledged):
            self.size -= self._kept.popleft()[1]
        self.acknowledged = number

    def kept(self) -> list[tuple[Packet, int]]:
        """Return what the other end may not have, each with its bytes."""
        return [(each if isinstance(each, Packet) else Packet(_MESSAGE, each), size) for each, size in self._kept]

    # What comes

    @property
    def isDue(self) -> bool:
        """Whether a quarter of what the other end may have unacknowledged has come since it was last told."""
        return self.received >= self._dueAt or self._receivedBytes >= self._quarterBytes

    def arrived(self, size: int) -> None:
        """Count a message that has come, of so many bytes."""
        self.received += 1
        self._receivedBytes += size

    def tell(self, held: int) -> str:
        """
        Return what the other end is told now: how many messages have reached the application.

        @param held: how many have come and wait for it.
        """
        told = self.received - held
        self._dueAt = told + self._quarterPackets
        self._receivedBytes = 0
        return str(told)

    def forget(self, count: int) -> None:
        """Count so many of the last messages no longer, as they won't reach the application: they are sent again."""
        self.received -= count

    def comeBack(self, attempt: int, acknowledged: int) -> None:
        """
        Go on, on another connection.

        @param attempt: its number.
        @param acknowledged: how many messages the other end has, as L{mayHave} allows.
        """
        self.attempt = attempt
        self._dueAt = self.received + self._quarterPackets
        self._receivedBytes = 0
        self.owed = None
        self.acknowledge(acknowledged)


@implementer(ITransport, ITransportOwner)
class ResumableTransport:
    """
    A transport of a session that can be resumed: what the session sees of it, and what it sees of the session.

    It counts the messages that are given to the session, and keeps those that the transport takes. Whatever isn't here
    is that of the transport. Heartbeats and acknowledgements pass messages that wait.

    @param transport: the transport.
    @param resumption: that of the session.
    @ivar owner: the session.
    @ivar name: as in L{ITransport}.
    @ivar isPolled: as in L{ITransport}.
    """

    owner: Any = None
    # Whether it is no transport of the session any more, as the connection was lost.
    _isLost = False
    # Whether the session has ended it.
    _isClosed = False

    def __init__(self, transport: Any, resumption: Resumption) -> None:
        self._transport = transport
        self._resumption = resumption
        self.name: str = transport.name
        self.isPolled: bool = transport.isPolled
        # Of what goes out at once in one request.
        self._isBatched = self.name == "polling"
        transport.owner = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    # ITransport

    @property
    def writable(self) -> bool:
        """Whether it takes messages: not while there are some to send again, or half of the bounds is kept."""
        # Asked with each message: no call that can be spared.
        resumption = self._resumption
        if resumption.again is None and len(resumption._kept) <= resumption._halfPackets:
            isHeld = resumption.size > resumption._halfBytes
        else:
            isHeld = True
        return (not isHeld or self._isClosed) and not self._isLost and bool(self._transport.writable)

    @property
    def takesHeartbeats(self) -> bool:
        """Whether it takes what is no message."""
        return not self._isLost and bool(self._transport.writable)

    @property
    def owesHeartbeat(self) -> bool:
        """Whether a ping or a pong waits."""
        return self._resumption.owed not in (None, _NOOP)

    @property
    def bufferedAmount(self) -> int:
        """How many bytes of messages the other end may not have."""
        return self._resumption.size

    def send(self, packets: Sequence[Packet]) -> int:
        attempt = self._resumption.attempt
        batch = self._batchOf(packets)
        try:
            taken = self._sendOwing(batch)
        except BaseException:
            self._failed()
            raise
        if taken == len(batch):
            return taken
        if self._resumption.attempt != attempt:
            # The client came back meanwhile, and gets all that was kept.
            return len(batch)
        self._resumption.unkeep(sum([each.type is _MESSAGE for each in batch[taken:]]))
        return taken

    def _batchOf(self, packets: Sequence[Packet], isLast: bool = False) -> list[Packet]:
        """Keep messages, up to half of the bounds unless they are the last; return what goes to the transport."""
        resumption = self._resumption
        batch: list[Packet] = []
        for packet in packets:
            if packet.type is _MESSAGE:
                if batch and not isLast and not resumption.isWritable:
                    break
                resumption.keep(packet, sizeOf(packet.data))
            elif packet.type in HEARTBEATS and packet.data != PROBE:
                packet = self._numbered(packet.type)
            batch.append(packet)
        return batch

    def _sendOwing(self, batch: list[Packet]) -> int:
        """Send packets, by polling behind what is owed; return how many of them were taken."""
        resumption = self._resumption
        owed = resumption.owed
        if not self._isBatched:
            return int(self._transport.send(batch))
        if any(_isSplit(each.data) for each in batch):
            return self._refuseSplit()
        if owed is None:
            return int(self._transport.send(batch))
        resumption.owed = None
        return int(self._transport.send([self._numbered(owed), *batch])) - 1

    def sendMessage(self, data: str | bytes, utf8: bytes | None, compress: bool) -> None:
        size = sizeOf(data) if utf8 is None else len(utf8)
        resumption = self._resumption
        if self._isBatched and _isSplit(data):
            self._refuseSplit()
            return
        # As this is writable, no other can.
        if size > resumption._halfBytes and resumption.exceeds((size,)):
            # There it is refused.
            self.owner.sendBuffered((Packet(_MESSAGE, data, compress),))
            return
        resumption.keep(data if compress else Packet(_MESSAGE, data, False), size)
        try:
            self._transport.sendMessage(data, utf8, compress)
        except BaseException:
            self._failed()
            raise

    def _refuseSplit(self) -> int:
        """End the session: the other end would count text that arrives in pieces as several messages."""
        self.owner.transportClosed(self, Closing(CloseReason.PARSE_ERROR, SPLIT))
        return 0

    def _failed(self) -> None:
        # Whether it has gone out isn't known here. The numbers are right when the client comes back.
        self.owner.transportClosed(self, Closing(CloseReason.TRANSPORT_ERROR, "the transport failed", isLoss=True))

    def sendHeartbeat(self, type_: PacketType) -> None:
        """Send a ping, a pong or a noop with the number of messages that have come, as soon as it goes out."""
        if not self.owesHeartbeat:
            self._resumption.owed = type_
        self.sendOwed()

    def sendOwed(self) -> None:
        """Send the packet of a heartbeat that waits, if it goes out now."""
        resumption = self._resumption
        owed = resumption.owed
        if owed is not None and self.takesHeartbeats and self.owner.transport is self:
            resumption.owed = None
            self._transport.send((self._numbered(owed),))

    def _numbered(self, type_: PacketType) -> Packet:
        inbox = self.owner._inbox
        return Packet(type_, self._resumption.tell(0 if inbox is None else inbox.messages))

    def acknowledge(self) -> None:
        """Tell the other end what has come, if that is due and reached the application."""
        if self._resumption.isDue and self.owner._inbox is None:
            self.sendHeartbeat(_NOOP)

    def close(self, closing: Closing, packets: Sequence[Packet] = ()) -> int:
        if self._isLost:
            return 0
        self._isClosed = True
        batch = self._batchOf(packets, isLast=True)
        isLast = closing.reason is not None and self.owner.transport is self
        if isLast and not self._isBatched and not closing.isByClient:
            # Without a close packet, which by polling there is anyway, the other end would come back.
            return min(len(batch), int(self._transport.close(closing, [*batch, Packet(_CLOSE)])))
        return int(self._transport.close(closing, batch))

    def pauseReceiving(self) -> None:
        if not self._isLost:
            self._transport.pauseReceiving()

    def resumeReceiving(self, isDelivered: bool = True) -> None:
        if not self._isLost:
            self._transport.resumeReceiving(isDelivered)

    def lose(self, closing: Closing) -> None:
        """Let go of the transport: nothing more goes out on it, and nothing of what still comes on it counts."""
        if not self._isLost:
            self._isLost = True
            # No close packet: the session isn't over.
            closing = closing._replace(isByClient=True, refusal=waitsForReturn())
            attempt(self._transport.close, closing, session=self.owner)

    def begin(self, opening: Sequence[Packet]) -> None:
        """
        Begin as the transport of a session that goes on: send again what the other end hasn't got.

        @param opening: what comes first.
        """
        self._resumption.again = deque([*((each, 0) for each in opening), *self._resumption.kept()])
        self.goOn()

    def goOn(self) -> None:
        """Send what is owed, and go on sending again what the other end hasn't got: this is the session's transport."""
        if not self._isBatched:
            self.sendOwed()
        again = self._resumption.again
        while again and self.takesHeartbeats:
            batch: list[Packet] = []
            room = MOST_AT_ONCE
            for packet, size in again:
                room -= size
                if batch and room < 0:
                    break
                batch.append(packet)
            for _ in range(self._sendOwing(batch)):
                again.popleft()
        # The client may have come back meanwhile.
        if not again and self._resumption.again is again:
            self._resumption.again = None

    # ITransportOwner

    @property
    def logName(self) -> str:
        name: str = self.owner.logName
        return name

    @property
    def observed(self) -> Any:
        """The session, which is what observers are told of."""
        return self.owner

    def transportReady(self, transport: ITransport) -> None:
        if self.owner is None or self._isLost:
            return
        if self.owner.transport is self:
            self.goOn()
        self.owner.transportReady(self)
        # By polling behind messages, with which it might have gone.
        self.sendOwed()

    def transportMessage(self, transport: ITransport, data: str | bytes) -> HTTPRefusal | None:
        owner, resumption = self.owner, self._resumption
        if self._isLost:
            return waitsForReturn()
        if owner.transport is not self and not owner.isFrom(self):
            refusal: HTTPRefusal | None = owner.transportMessage(self, data)
            return refusal
        # Before it is delivered: the client may be back when a handler returns.
        resumption.arrived(sizeOf(data))
        refusal = owner.transportMessage(self, data)
        if refusal is not None:
            resumption.forget(1)
        elif resumption.isDue:
            self.acknowledge()
        return refusal

    def transportPacket(self, transport: ITransport, packet: Packet) -> HTTPRefusal | None:
        if self._isLost:
            return waitsForReturn()
        if packet.type in HEARTBEATS and packet.data != PROBE and self.owner.isFrom(self):
            try:
                self._takeNumber(acknowledged(packet.data))
            except DecodeError as error:
                self.owner.transportClosed(self, Closing(CloseReason.PARSE_ERROR, str(error)))
                return HTTPRefusal(str(error), name="PARSE_ERROR")
        refusal: HTTPRefusal | None = self.owner.transportPacket(self, packet)
        return refusal

    def _takeNumber(self, number: int | None) -> None:
        if number is None:
            return
        resumption = self._resumption
        if number < resumption.acknowledged and self.owner.transport is not self:
            # After an upgrade what comes on the WebSocket may overtake what came before it.
            return
        if not resumption.mayHave(number, len(resumption.again or ())):
            raise DecodeError(f"{number} messages acknowledged, of {resumption.sent} sent")
        wasFull = not resumption.isWritable
        resumption.acknowledge(number)
        if wasFull and resumption.isWritable:
            self.owner.transportReady(self.owner.transport)

    def transportDelivered(self, transport: ITransport) -> None:
        self.owner.transportDelivered(self)

    def transportClosed(self, transport: ITransport, closing: Closing) -> None:
        if not self._isLost:
            self.owner.transportClosed(self, closing)
