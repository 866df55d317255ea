"""WebSocket of a client: it masks what it sends. docs/architecture/engines.md"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from ..protocol.frame_reader import ClientFrameReader
from ..protocol.frames import (
    MASK_SIZE,
    MASKED,
    SHORT,
    TOO_LARGE,
    WHOLE_BINARY,
    WHOLE_TEXT,
    maskedFrame,
)
from .connection import Turns, WebSockets
from .engine_autobahn import GATHERED, AutobahnWebSocket, NativeReader
from .engine_deflate import Deflate

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from ..protocol.packet import Form

_HEADER_SIZE = 2
"""Bytes of the header of a short frame, without the mask."""

_MASKS = 1024
"""Number of masks that the system is asked for together: once for each would take longer than all the rest."""


def _maskedBegin(first: int, length: int) -> tuple[int, int, int, int]:
    """
    Return what makes a short frame of its payload and a mask, all three of them integers.

    @return: its header in front of as many zeros as the rest has; what the mask is multiplied with to cover itself
        and the payload; the bits by which that is longer; and the bytes of the frame.
    """
    words = 1 - (-length // MASK_SIZE)
    return (
        (first << 8 | MASKED | length) << 8 * (MASK_SIZE + length),
        int.from_bytes(b"\0\0\0\1" * words),
        8 * (-length % MASK_SIZE),
        _HEADER_SIZE + MASK_SIZE + length,
    )


_MASKED = {
    isText: [_maskedBegin(WHOLE_TEXT if isText else WHOLE_BINARY, length) for length in range(SHORT + 1)]
    for isText in (True, False)
}

_integer = int.from_bytes


def _newMasks() -> Iterator[int]:
    """Return masks without end. Nobody can foresee one from those before (RFC 6455, 5.3)."""
    while True:
        yield from array("I", os.urandom(_MASKS * MASK_SIZE))


class ClientEngine(Turns):
    """
    What the WebSockets of all clients on one reactor share.

    @ivar connections: those that are connected.
    @ivar nextMask: returns the next mask.
    """

    echoCloseCodeReason = failByDrop = False

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self.connections: WebSockets = WebSockets(clock)
        self.turn = object()
        self.nextMask: Callable[[], int] = _newMasks().__next__


engineOn = lru_cache(maxsize=4)(ClientEngine)
"""Return the engine on a reactor: the same one for each call with the same reactor, as long as that is in use."""


class ClientWebSocket(AutobahnWebSocket):
    """
    A WebSocket of a client: what it sends is masked, and what it receives is not.

    @param engine: a L{ClientEngine}.
    @param receiver: an L{IWebSocketReceiver} with a method C{gone}, called when nothing of this is left.
    @ivar violation: the code of the close frame with which the server was told that it broke the protocol or sent too
        much; None if it didn't.
    @ivar loss: why the connection was lost, if that is how this ended.
    """

    readerClass = ClientFrameReader
    violation: int | None = None
    loss: Failure | None = None
    _hasEnded = False

    def __init__(self, engine: ClientEngine, receiver: Any, limit: int, deflate: Deflate | None = None) -> None:
        super().__init__(engine, receiver, limit, deflate)
        self._nextMask = engine.nextMask

    # Writing

    def send(self, payload: bytes, isText: bool, compress: bool, form: Form | None = None) -> None:
        # Whatever form there is: each frame has a mask of its own.
        if (length := len(payload)) <= SHORT and self._deflate is None:
            # As frame does, without a call, and in half of the time.
            header, repeated, surplus, size = _MASKED[isText][length]
            made = (header ^ (self._nextMask() * repeated >> surplus) ^ _integer(payload)).to_bytes(size)
        else:
            made = self._framed(payload, isText, compress, None)
        gathered = self._gathered
        if gathered is None or self._gatheredSize > GATHERED - len(made):
            self.write(made)
        else:
            gathered.append(made)
            self._gatheredSize += len(made)

    def frame(self, first: int, payload: bytes) -> bytes:
        return maskedFrame(first, payload, self._nextMask().to_bytes(MASK_SIZE), NativeReader.unmaskLong)

    # The end

    def _closeConnection(self) -> None:
        # The server closes it first, and keeps what the system remembers of it (RFC 6455, 7.1.1).
        self.setDeadline()

    def logFailure(self, code: int, reason: str) -> None:
        # The receiver has it as its failure.
        self.violation = code
        if code == TOO_LARGE:
            self.counters.limitReached(self.receiver.owner, "maxHttpBufferSize")

    def _logLoss(self, reason: Failure) -> None:
        pass

    def lost(self, reason: Failure) -> None:
        if self.isOpen:
            self.loss = reason
        super().lost(reason)
        if self._hasEnded:
            self.receiver.gone()

    def connectionEnded(self) -> None:
        super().connectionEnded()
        self._hasEnded = True
        # Otherwise what came before is to be read still.
        if self._loss is None:
            self.receiver.gone()
