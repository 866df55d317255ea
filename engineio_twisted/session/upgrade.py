"""The move of a session from polling to WebSocket; a session has an L{Upgrade} only while it tries one."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall

from ..clock import cancel
from ..ends import attempt
from ..interfaces import LEFT, Closing
from ..protocol.packet import PROBE, Packet, PacketType
from .receiving import Inbox
from .states import Input, ReadyState, UpgradeState, change

NOOP_INTERVAL = 0.1
"""
Seconds between two noops that end a waiting GET, at least.

A client that hasn't read yet that its probe was answered polls again at once, which must not go round and round.
"""


class Upgrade:
    """
    A WebSocket that tries to replace polling.

    The client goes on only when none of its GETs waits: one that does when the probe comes, and one that arrives
    later, are answered with a noop.

    @param session: the L{Session}.
    @param candidate: the transport that is that WebSocket.
    """

    __slots__ = ("_call", "_deadline", "_nextNoop", "_session", "candidate")

    def __init__(self, session: Any, candidate: Any) -> None:
        self._session = session
        self.candidate: Any = candidate
        self._nextNoop = 0.0
        self._call: IDelayedCall | None = None
        host = session._host
        self._deadline = host.heartbeats.timeouts.callLater(host.opts.upgradeTimeout / 1000, self.abandon)

    def received(self, packet: Packet) -> None:
        """Called when a packet has come on the WebSocket."""
        session = self._session
        if packet.type is PacketType.PING and packet.data == PROBE and self._step(Input.PROBE):
            self.candidate.send([Packet(PacketType.PONG, PROBE)])
            session.emit("upgrading", self.candidate)
            self.pollWaits()
        elif packet.type is PacketType.UPGRADE and self._step(Input.UPGRADE):
            self._complete()
        else:
            self.abandon()

    def _step(self, given: Input) -> bool:
        return change(self._session, "_upgradeState", given)

    def pollWaits(self) -> None:
        """Called when a GET waits, or may: it is answered with a noop, once the WebSocket was tried out."""
        session = self._session
        if session._upgradeState is not UpgradeState.PROBED or not session.answersPoll:
            return
        clock = session._host.clock
        now = clock.seconds()
        if now >= self._nextNoop:
            self._nextNoop = now + NOOP_INTERVAL
            session.transport.send([Packet(PacketType.NOOP)])
        elif self._call is None:
            self._call = clock.callLater(self._nextNoop - now, self._intervalOver)

    def _intervalOver(self) -> None:
        self._call = None
        self._nextNoop = 0.0
        self.pollWaits()

    def _complete(self) -> None:
        session = self._session
        polling, session.transport = session.transport, self.candidate
        self._leave()
        if session.readyState is ReadyState.CLOSING:
            session._host.heartbeats.stop(session)
        attempt(polling.close, LEFT, session=session)
        if polling.isDelivering:
            # What came by polling comes first.
            if session._inbox is None:
                session._inbox = Inbox(session)
            session._inbox.earlier = polling
            session.transport.pauseReceiving()
        elif session._inbox is not None:
            # What came by polling is held here; for its response the client needs to wait no longer.
            polling.resumeReceiving()
            session.transport.pauseReceiving()
        session._host.counters.sessionUpgraded(session, polling.name)
        if session._resumption is not None:
            session.transport.goOn()
        session.emit("upgrade", session.transport)
        session.transportReady(session.transport)

    def abandon(self, closing: Closing = LEFT) -> None:
        """
        Give the WebSocket up.

        @param closing: why: the session goes on, or ends.
        """
        self._step(Input.ABANDON)
        self._leave()
        attempt(self.candidate.close, closing, session=self._session)

    def _leave(self) -> None:
        self._session._upgrade = None
        cancel(self._deadline)
        cancel(self._call)
