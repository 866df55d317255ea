"""Turns of the reactor, passed one by one with a clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from engineio_twisted.protocol.errors import HTTPRefusal
from engineio_twisted.protocol.packet import Packet
from engineio_twisted.turns import TURN

from .fakes import FakeOwner

STEP = TURN * 1.01
"""Seconds in which a turn is over, whatever is lost in sums."""


def turn(clock: Clock, times: int = 1) -> None:
    """Let turns of the reactor pass: what is asked for on the way is left for the next."""
    for _ in range(times):
        for call in clock.getDelayedCalls():
            if call.active() and call.getTime() <= clock.seconds():
                clock.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


def texts(count: int) -> list[str]:
    """Return so many short texts, each another."""
    return [str(each) for each in range(count)]


class Takes:
    """
    A client of an application that takes its time, or holds the client back, with each packet: for what has an owner.

    @ivar seconds: how long each takes.
    @ivar pauses: whether the client is held back by each.
    """

    clock: Clock
    owner: FakeOwner
    seconds = 0.0
    pauses = False

    def begin(self) -> None:
        """Deliver packets to the owner in that way."""
        self._take = self.owner.transportPacket
        self.owner.transportPacket = self.take  # type: ignore[method-assign]

    def take(self, transport: Any, packet: Packet) -> HTTPRefusal | None:
        self.clock.rightNow += self.seconds
        if self.pauses:
            transport.pauseReceiving()
        return self._take(transport, packet)

    @property
    def data(self) -> list[str | bytes]:
        return [each.data for each in self.owner.packets]

    def turns(self) -> list[int]:
        """How many packets had come after each turn of the reactor until nothing waits."""
        counts = [len(self.data)]
        while self.clock.getDelayedCalls():
            turn(self.clock)
            counts.append(len(self.data))
        return counts
