"""
What systemd is told of the command by C{sd_notify}: that it serves, reloads, stops, and is alive.

A unit with C{Type=notify} or C{Type=notify-reload} waits for it, as does C{WatchdogSec=}.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from time import monotonic_ns
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ..clock import cancel


class Notifier:
    """
    Sends notifications to the service manager; without one it does nothing.

    @param clock: an C{IReactorTime}, for the watchdog.
    @param environment: the variables of the process: C{NOTIFY_SOCKET}, C{WATCHDOG_USEC}, C{WATCHDOG_PID}.
    """

    _log = Logger()

    def __init__(self, clock: Any, environment: Mapping[str, str] = os.environ) -> None:
        self._clock = clock
        where = environment.get("NOTIFY_SOCKET", "")
        # Either a path, or a name in the abstract namespace.
        self._address = f"\0{where[1:]}" if where.startswith("@") else where
        self._interval = _watchdog(environment) / 2 if self._address else 0.0
        self._timer: IDelayedCall | None = None
        self._isBroken = False

    def ready(self, status: str) -> None:
        """Say that the command serves, for the first time or after a reload."""
        self.send("READY=1", f"STATUS={status}")
        if self._interval and self._timer is None:
            self._alive()

    def status(self, status: str) -> None:
        """Say in a line what the command does."""
        self.send(f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload begins; L{ready} is its end."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the command stops."""
        self.send("STOPPING=1", "STATUS=Stopping")

    def stop(self) -> None:
        """Send nothing any more by itself."""
        cancel(self._timer)
        self._timer = None
        self._interval = 0.0

    def _alive(self) -> None:
        self._timer = self._clock.callLater(self._interval, self._alive)
        self.send("WATCHDOG=1")

    def send(self, *lines: str) -> None:
        """Send lines of one notification. What can't be sent is logged once, until it works again."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.setblocking(False)
                connection.sendto("\n".join(lines).encode(), self._address)
            self._isBroken = False
        except (OSError, ValueError) as error:
            if not self._isBroken:
                self._log.warn("The service manager can't be notified: {reason}", reason=str(error))
            self._isBroken = True


def _watchdog(environment: Mapping[str, str]) -> float:
    """Return in how many seconds the service manager wants to hear from this process; 0 if it doesn't."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    digits = environment.get("WATCHDOG_USEC", "")
    return int(digits) / 1e6 if digits.isascii() and digits.isdigit() else 0.0
