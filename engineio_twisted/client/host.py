"""What a client's session knows of its surroundings, as that of a server knows its server."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from zope.interface import implementer

from ..clock import SteadyClock
from ..debug import debugObservers
from ..ends import Ends
from ..interfaces import ISessionHost
from ..observer import Counters
from ..session.emitter import EventEmitter
from ..session.heartbeats import Heartbeats
from .connecting import Connecting
from .handshake import Handshake
from .options import ClientOptions

# Until the server says otherwise; nothing waits for it before that.
UNKNOWN = Handshake("", (), 25000, 20000, None, {})

NOBODY = EventEmitter()
"""In place of a server: it hears what the sessions of one send."""


def clockOfStandstill(clock: Any) -> Callable[[], float]:
    """
    Return a function that returns the time, in seconds, and goes on while the machine sleeps, which timers don't.

    @param clock: the time that everything else goes by; one of a test is all there is.
    """
    if not isinstance(clock, SteadyClock):
        seconds: Callable[[], float] = clock.seconds
        return seconds
    # Asked for with each message: a partial adds no call in Python.
    return partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time


@implementer(ISessionHost)
class ClientHost:
    """
    The surroundings of one client.

    @ivar client: the client.
    """

    server = NOBODY

    def __init__(self, client: Any, connecting: Connecting) -> None:
        self.client = client
        self._connecting = connecting
        self.opts: ClientOptions = connecting.opts
        self.counters: Counters = connecting.counters
        for each in debugObservers():
            self.counters.add(each)

    @property
    def clock(self) -> Any:
        """The time."""
        return self._connecting.clock

    @cached_property
    def heartbeats(self) -> Heartbeats:
        """The heartbeat; set anew when the server has said how often it pings."""
        return Heartbeats(UNKNOWN, self.clock)

    @cached_property
    def ends(self) -> Ends:
        """The steps of the end."""
        return Ends(self.clock)

    def addressOf(self, exchange: Any) -> str | None:
        """Return None: no request came."""
        return None

    def firstMessage(self, session: Any, data: str | bytes) -> None:
        """Do nothing: a server is expected to know what it speaks."""

    def sessionEnded(self, socket: Any) -> None:
        self.client._hasEnded()


class Nowhere:
    """The transport of a client that has none yet, or none any more."""

    name = "none"
    owner: Any = None
    writable = False
    isPolled = False
    bufferedAmount = heldBytes = 0
    arriving = None
    isDelivering = False

    def close(self, closing: Any, packets: Any = ()) -> int:
        """Do nothing."""
        return 0

    def pauseReceiving(self) -> None:
        """Do nothing."""

    def resumeReceiving(self, isDelivered: bool = True) -> None:
        """Do nothing."""
