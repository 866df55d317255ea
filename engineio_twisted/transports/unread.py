"""
The responses of a polling session that its client has not taken yet.

A client that polls on ever new connections, and never reads, would otherwise leave a response on each of them.
docs/architecture/backpressure.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from ..ends import attempt
from ..interfaces import IUnreadAnswer
from ..web.connections import isStream, unsent

if TYPE_CHECKING:
    from .compression import CompressedBody

UNREAD = 65536
"""
Bytes of earlier responses that a client may leave unread and still have its next GET answered.

As many as Twisted writes to a connection before it stops a producer. An ordinary client has read the last response
before it polls again.
"""

MAX_UNREAD = 16
"""The number of connections on which there may be unread responses."""


@implementer(IUnreadAnswer)
class UnreadAnswer:
    """
    A response that the client may not have read yet.

    If a proxy keeps the connection, requests of other sessions may follow on it. What these don't read, and their GETs
    that wait, have nothing to do with this session.

    @param channel: the channel of its request.
    @param connection: the connection, or the stream of HTTP/2, that it was written to.
    @param size: its bytes.
    @param taken: called when it is read, by a channel of ours.
    """

    def __init__(self, channel: Any, connection: Any, size: int, taken: Callable[[], object]) -> None:
        self.connection = connection
        self._channel = channel
        self._size = size
        tell = getattr(channel, "tellWhenRead", None)
        if tell is not None:
            # A channel of ours knows of each request that comes.
            tell(self)
        self._taken = taken

    # Whether another request has come on the connection, or everything was read.
    isOver: bool = False

    @property
    def left(self) -> int:
        """How many of its bytes the connection may not have given to the system."""
        return 0 if self.isOver else min(self._size, unsent(self.connection))

    def read(self) -> None:
        """Called when the client has taken everything that was written to the connection."""
        self.isOver = True
        self._taken()

    def abort(self) -> None:
        """Abort the connection, unless it carries other requests by now."""
        isAlone = isStream(self.connection) or (self.left and not getattr(self._channel, "requests", ()))
        if isAlone:
            _abort(self.connection)


class UntakenResponses:
    """
    The responses of one session that are being compressed, or that its client may not have read.

    @ivar compressing: those that are being compressed.
    """

    __slots__ = ("_unread", "compressing")

    def __init__(self) -> None:
        self.compressing: frozenset[CompressedBody] = frozenset()
        self._unread: tuple[UnreadAnswer, ...] = ()

    @property
    def bufferedAmount(self) -> int:
        """How many bytes of them the client has not taken."""
        # While a response is being compressed, its connection carries nothing else.
        compressed = sum([each.left + unsent(each.connection) for each in self.compressing])
        return compressed + sum([each.left for each in self._unread])

    @property
    def isTooMuch(self) -> bool:
        """Whether so much of them is unread that no other response is given."""
        return not self.isEmpty and self._isTooMuch()

    @property
    def isEmpty(self) -> bool:
        """Whether none is being compressed or unread. Those that were read are let go of."""
        if self._unread:
            self._unread = tuple([each for each in self._unread if each.left])
        return not self._unread and not self.compressing

    def _isTooMuch(self) -> bool:
        return len(self._unread) + len(self.compressing) > MAX_UNREAD or self.bufferedAmount > UNREAD

    def add(self, answer: UnreadAnswer) -> None:
        """Add a response that was written."""
        self._unread += (answer,)

    def compress(self, body: CompressedBody) -> None:
        """Add a response that is being compressed."""
        self.compressing |= {body}

    def compressed(self, body: CompressedBody, taken: Callable[[], object]) -> None:
        """Called when a response is compressed as a whole: from now on it may be unread."""
        self.compressing -= {body}
        if unsent(body.connection):
            self.add(UnreadAnswer(body.channel, body.connection, body.size, taken))

    def hurry(self, session: Any) -> None:
        """
        Write the rest of those that are being compressed.

        @param session: with whose name a failure is logged.
        """
        for each in self.compressing:
            attempt(each.hurry, session=session)

    def abort(self, session: Any) -> None:
        """
        Abort the connections on which they are unread.

        @param session: with whose name a failure is logged.
        """
        for body in self.compressing:
            attempt(_abort, body.connection, session=session)
        for answer in self._unread:
            attempt(answer.abort, session=session)


def _abort(connection: Any) -> None:
    # Connections that aren't Twisted's own, of which nothing is known that is unread, may not be able to.
    abort = getattr(connection, "abortConnection", None)
    if abort is not None:
        abort()
