"""Sessions whose client may send only so much; without such options sessions are plain ones, which costs nothing."""

from __future__ import annotations

from typing import Any

from ..clock import Timeout, cancel
from ..interfaces import Closing, ITransport
from ..protocol.errors import CloseReason, HTTPRefusal, RateLimitExceeded
from ..protocol.packet import Packet
from .limits import Meter
from .outbox import sizeOf
from .session import Session
from .states import ReadyState


class LimitedSession(Session):
    """A session whose client may send only so much in a second, or has to send something soon after its opening."""

    _firstDeadline: Timeout | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        options = self._host.opts
        self._meter = Meter(options.maxMessagesPerSecond, options.maxBytesPerSecond)

    def open(self) -> None:
        timeout = self._host.opts.firstPacketTimeout
        if timeout is not None:
            timeouts = self._host.heartbeats.timeouts
            self._firstDeadline = timeouts.callLater(timeout / 1000, self._nothingCame, timeout)
        super().open()

    def tryUpgrade(self, candidate: Any) -> bool:
        cancel(self._firstDeadline)
        return super().tryUpgrade(candidate)

    def transportReady(self, transport: ITransport) -> None:
        if transport.name == "polling":
            cancel(self._firstDeadline)
        super().transportReady(transport)

    def transportPacket(self, transport: ITransport, packet: Packet) -> HTTPRefusal | None:
        return self._refusalOf(transport, packet.data) or super().transportPacket(transport, packet)

    def transportMessage(self, transport: ITransport, data: str | bytes) -> HTTPRefusal | None:
        return self._refusalOf(transport, data) or super().transportMessage(transport, data)

    def _refusalOf(self, transport: ITransport, data: str | bytes) -> HTTPRefusal | None:
        """Count a packet, and end the session if it is one too many; return why it isn't taken then."""
        if self._readyState is ReadyState.CLOSED or not self.isFrom(transport):
            return None
        cancel(self._firstDeadline)
        exceeded = self._meter.count(sizeOf(data) + 1, self._host.clock.seconds())
        if exceeded is None:
            return None
        option, limit = exceeded
        refusal = RateLimitExceeded(option, limit)
        counters = self._host.counters
        if counters.throttle.allows(option):
            self._log.warn(
                "Session {session} ends: {reason}", session=self.logName, reason=refusal.message, name=option
            )
        if self.transport.name != "polling":
            # There the request is refused, and counted by that.
            counters.limitReached(self, option)
        self._end(Closing(CloseReason.RATE_LIMIT_EXCEEDED, refusal.message, refusal=refusal))
        return refusal

    def _nothingCame(self, timeout: int) -> None:
        self._host.counters.limitReached(self, "firstPacketTimeout")
        self._end(Closing(CloseReason.PING_TIMEOUT, f"nothing came within firstPacketTimeout, {timeout} ms"))

    def _end(self, closing: Closing) -> None:
        cancel(self._firstDeadline)
        super()._end(closing)
