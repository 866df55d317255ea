"""Standard input and output of the terminal tool: lines both ways, each at the pace of whoever is at its other end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from ..clock import cancel

MAX_LINE = 10_000_000
"""Bytes of a line of the input at most."""

FLUSH_TIMEOUT = 10.0
"""Seconds that the output may take to be read when the tool ends."""


class ConsoleUser(Protocol):
    """The one for whom a L{Console} reads and prints. It isn't called after L{Console.close}."""

    def typed(self, line: bytes) -> None:
        """Called with a line of the input, without its end."""

    def inputEnded(self, problem: str | None) -> None:
        """Called when nothing more is read: the input has ended, or there is a problem with it."""

    def outputEnded(self) -> None:
        """Called when nobody reads the output any more."""

    def outputFull(self, isFull: bool) -> None:
        """Called when the output isn't read as fast as it is printed, and when it is again."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class Console(LineReceiver):
    """
    The lines of the input, and what is printed.

    It is a push producer, of lines. It is paused at first.

    @param clock: the time.
    """

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE
    # A StandardIO.
    transport: Any

    def __init__(self, user: ConsoleUser, clock: Any) -> None:
        self._user: ConsoleUser | None = user
        self._clock = clock
        self._closed: Deferred[None] = Deferred()
        self._isOutputLost = False
        self._isOver = False

    def connectionMade(self) -> None:
        self.transport.registerProducer(_Output(self), True)
        self.pauseProducing()

    def print(self, line: str) -> None:
        """Print a line, in UTF-8."""
        if not self._isOutputLost:
            self.transport.write(line.encode("utf-8", "backslashreplace") + b"\n")

    def close(self) -> Deferred[None]:
        """
        Read nothing more, and let go of the output. To be called once.

        @return: a Deferred that fires when all that was printed was read, in L{FLUSH_TIMEOUT} seconds at the latest.
        """
        self._user = None
        self.pauseProducing()
        timeout = self._clock.callLater(FLUSH_TIMEOUT, self._giveUp)
        self._closed.addCallback(lambda _: cancel(timeout))
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        if self._isOutputLost:
            self._giveUp()
        return self._closed

    def _giveUp(self) -> None:
        if not self._isOver:
            self.transport.connectionLost(Failure(ConnectionDone()))

    def pauseProducing(self) -> None:
        """Read no more lines."""
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Read lines."""
        super().resumeProducing()

    def stopProducing(self) -> None:
        """Called by the session when it ends, whose user closes this."""

    def full(self, isFull: bool) -> None:
        """Called when the output isn't read as fast as it is printed, and when it is again."""
        if self._user is not None:
            self._user.outputFull(isFull)

    # From the transport

    def lineReceived(self, line: bytes) -> None:
        if self._user is not None:
            self._user.typed(line.removesuffix(b"\r"))

    def lineLengthExceeded(self, line: bytes) -> None:
        self.pauseProducing()
        self._inputEnded(f"a line has more than {MAX_LINE} bytes")

    def readConnectionLost(self) -> None:
        rest = self.clearLineBuffer()
        if rest:
            self.lineReceived(rest)
        self._inputEnded(None)

    def _inputEnded(self, problem: str | None) -> None:
        if self._user is not None:
            self._user.inputEnded(problem)

    def writeConnectionLost(self) -> None:
        self._isOutputLost = True
        if self._user is not None:
            self._user.outputEnded()

    def connectionLost(self, reason: Any = None) -> None:
        self._isOver = True
        self._closed.callback(None)


@implementer(IPushProducer)
class _Output:
    """Told by the output how fast it is read."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def pauseProducing(self) -> None:
        self._console.full(True)

    def resumeProducing(self) -> None:
        self._console.full(False)

    def stopProducing(self) -> None:
        pass


@contextmanager
def standardConsole(user: ConsoleUser, reactor: Any, clock: Any) -> Iterator[Console]:
    """Return the console of the process, as a context in which standard input and output don't block."""
    console = Console(user, clock)
    areBlocking = [os.get_blocking(number) for number in (0, 1)]
    connect: Any = StandardIO
    # Those of the process stay open, and may be those of its shell too.
    connect(console, os.dup(0), os.dup(1), reactor)
    try:
        yield console
    finally:
        for number, isBlocking in enumerate(areBlocking):
            os.set_blocking(number, isBlocking)
