"""Turns of the reactor, passed one by one with a clock."""

from __future__ import annotations

from twisted.internet.task import Clock

from engineio_twisted.turns import TURN

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
