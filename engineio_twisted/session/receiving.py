"""What came from a client and has to wait; a session has an L{Inbox} only while something has to."""

from __future__ import annotations

from collections import deque
from typing import Any

from ..ends import attempt
from ..interfaces import Closing
from ..protocol.packet import Packet, PacketType
from .outbox import sizeOf
from .states import ReadyState


class Inbox:
    """
    What is held while the application receives nothing, or while what came by an earlier transport is delivered.

    @param session: the L{Session}. This removes itself from it when nothing has to wait any more.
    @ivar messages: how many messages there are.
    @ivar isPaused: whether the application receives nothing.
    @ivar earlier: the transport before an upgrade, until what came by it is delivered; None if there is none.
    """

    __slots__ = ("_end", "_isDelivering", "_packets", "_session", "earlier", "isPaused", "messages")
    messages: int

    def __init__(self, session: Any, isPaused: bool = False) -> None:
        self._session = session
        self._packets: deque[Packet] = deque()
        self.messages = 0
        # The end of the client, behind what came before it.
        self._end: Closing | None = None
        self._isDelivering = False
        self.isPaused: bool = isPaused
        self.earlier: Any = None

    @property
    def heldBytes(self) -> int:
        """How many bytes there are, with those that the earlier transport holds."""
        held = sum([sizeOf(each.data) for each in self._packets])
        return held if self.earlier is None else held + int(self.earlier.heldBytes)

    def add(self, packet: Packet) -> None:
        """Hold a packet."""
        self._packets.append(packet)
        self.messages += packet.type is PacketType.MESSAGE

    def pause(self) -> None:
        """Hold what comes from now on; called once until L{resume}."""
        self.isPaused = True
        if self.earlier is not None:
            self.earlier.pauseReceiving()

    def resume(self) -> None:
        """Deliver what is held."""
        if self.isPaused:
            self.isPaused = False
            self._deliver()

    def earlierDelivered(self) -> None:
        """Called when everything that came by the earlier transport was delivered."""
        self.earlier = None
        if not self.isPaused:
            self._deliver()

    def endLater(self, closing: Closing) -> bool:
        """
        End the session behind what is held, as its client has left.

        @return: whether anything is held; otherwise nothing is done.
        """
        if not self._packets and self.earlier is None:
            return False
        if self._end is None:
            self._end = closing
        return True

    def _deliver(self) -> None:
        # A handler may pause and resume as often as it likes.
        if self._isDelivering:
            return
        session = self._session
        if self.earlier is not None:
            self.earlier.resumeReceiving()
            return
        self._isDelivering = True
        try:
            while self._packets and not self.isPaused:
                packet = self._packets.popleft()
                self.messages -= packet.type is PacketType.MESSAGE
                session.receive(packet)
        finally:
            self._isDelivering = False
        if session._inbox is self and not self.isPaused:
            session._inbox = None
            session.transport.resumeReceiving()
            if self._end is not None:
                session._end(self._end)
                return
            session._host.heartbeats.resume(session)
            if session._resumption is not None:
                session.transport.acknowledge()
            if session.readyState is ReadyState.CLOSING:
                # What the last of it came with may have been all that was waited for.
                session.flush()

    def drop(self, closing: Closing) -> None:
        """Drop what is held: the server is ending the session."""
        session = self._session
        session._inbox = None
        earlier, self.earlier = self.earlier, None
        if earlier is not None:
            attempt(earlier.close, closing, session=session)
        self.forget()
        self._end = None
        self.isPaused = False
        session.transport.resumeReceiving(False)

    def leaveEarlier(self, closing: Closing) -> None:
        """Let go of the earlier transport: the connections of the session are lost."""
        earlier, self.earlier = self.earlier, None
        if earlier is not None:
            earlier.lose(closing)

    def forget(self) -> int:
        """
        Drop what is held, which the other end sends again.

        @return: how many messages it is.
        """
        messages, self.messages = self.messages, 0
        self._packets.clear()
        if not self.isPaused:
            self._session._inbox = None
        return messages
