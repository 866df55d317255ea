"""How a session ends: the steps, in their order; a session has an L{Ending} from its closing on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..clock import Timeout, cancel
from ..ends import attempt
from ..interfaces import Closing
from ..protocol.errors import CloseReason
from ..protocol.packet import Packet
from .states import ReadyState
from .suspension import stopWaiting

CLOSING_TIMEOUT = 30.0
"""
Seconds that a session closed by the server waits for the client to poll, or to take what is buffered, to tell it; as
the reference does.
"""

NO_POLL = "the client did not poll again"
"""Why a session on polling ends that is closing, and whose client can't be told."""

CLOSED_BY_SERVER = Closing(CloseReason.FORCED_CLOSE, "closed by the server")
SHUTTING_DOWN = Closing(CloseReason.SERVER_SHUTTING_DOWN, "the server is closing")


def closingFor(reason: CloseReason, description: str) -> Closing:
    """
    Return why an application closes a session.

    @raise ValueError: the reason isn't one.
    @raise TypeError: the description isn't text.
    """
    try:
        reason = CloseReason(reason)
    except ValueError:
        known = ", ".join(map(repr, map(str, CloseReason)))
        raise ValueError(f"reason {reason!r:.100}: expected a CloseReason, one of {known}") from None
    if not isinstance(description, str):
        raise TypeError(f"description of type {type(description).__name__}: expected text")
    return Closing(reason, description)


class Ending:
    """
    The closing of one session, and its end.

    @param session: the L{Session}.
    @ivar closing: why the server closes the session, or why it has ended.
    @ivar isDrain: whether the session closes because its server is drained: what the client sends is received
        meanwhile, and the server has the deadline.
    @ivar isOver: whether the last step of the end has run.
    """

    __slots__ = ("_deadline", "_isTold", "_session", "closing", "isDrain", "isOver")
    isDrain: bool
    isOver: bool

    def __init__(self, session: Any, closing: Closing) -> None:
        self._session = session
        self.closing: Closing = closing
        self._deadline: Timeout | None = None
        self._isTold = self.isDrain = self.isOver = False

    @property
    def reason(self) -> CloseReason:
        """The reason."""
        reason = self.closing.reason
        assert reason is not None
        return reason

    @property
    def waitsForClient(self) -> bool:
        """Whether what the client sent is still being delivered, which a server that is drained waits for."""
        session = self._session
        inbox = session._inbox
        if not self.isDrain or (inbox is not None and inbox.isPaused):
            return False
        return (inbox is not None and inbox.earlier is not None) or bool(session.transport.isDelivering)

    def begin(self) -> None:
        """Begin to close, or end the session if its transport fails: there is no waiting for that."""
        session = self._session
        if session.readyState is ReadyState.CLOSING and not attempt(self._begin, session=session):
            session._end(self.closing)

    def _begin(self) -> None:
        session = self._session
        isPolled = session.transport.isPolled
        if self.isDrain or not isPolled:
            # It may be taking what is buffered, and no pong is received.
            session._host.heartbeats.stop(session)
        if not self.isDrain:
            description = NO_POLL if isPolled else f"the {session._peer} did not take what was buffered"
            closing = self.closing
            if closing is session._closedHere:
                closing = closing._replace(description=description)
            self._deadline = session._host.heartbeats.timeouts.callLater(CLOSING_TIMEOUT, session._end, closing)
        _stopProducer(session)
        if not self.isDrain and session._inbox is not None:
            session._inbox.drop(self.closing)
        session.flush()

    def closeTransport(self, packets: Sequence[Packet] = ()) -> int:
        """Close the transport, unless that was done; return how many of some last packets it took."""
        transport = self._session.transport
        # Behind the GET whose response told the client another may have come meanwhile, which is to be answered too.
        if self._isTold and not (transport.isPolled and transport.writable):
            return 0
        self._isTold = True
        try:
            taken: int = transport.close(self.closing, packets)
        except BaseException:
            # Its end is tried once more.
            self._isTold = False
            raise
        return taken

    def run(self) -> None:
        """Take all steps of the end, now or behind the end of another session that is running."""
        session = self._session
        ends = session._host.ends
        ends.add(session, _STEPS)
        # Before the steps: behind the GET that is answered another may come at once, which is to find no session.
        attempt(session._host.sessionEnded, session, session=session)
        ends.run()

    def stopTimer(self) -> None:
        cancel(self._deadline)


# The steps, each of which is called with the session.


def _stopTimers(session: Any) -> None:
    session._host.heartbeats.stop(session)
    session._ending.stopTimer()
    stopWaiting(session)


def _closeCandidate(session: Any) -> None:
    if session._upgrade is not None:
        session._upgrade.abandon(session._ending.closing)


def _count(session: Any) -> None:
    ending = session._ending
    session._host.counters.sessionClosed(session, ending.reason, ending.closing.description)


def _closeTransport(session: Any) -> None:
    session._ending.closeTransport()


def _dropReceived(session: Any) -> None:
    if session._inbox is not None:
        session._inbox.drop(session._ending.closing)


def _dropCallbacks(session: Any) -> None:
    if session._outbox is not None:
        session._outbox.dropCallbacks()


def _stopProducer(session: Any) -> None:
    if session._pace is not None:
        session._pace.stop()


def _stopWork(session: Any) -> None:
    # Before the last event: what is cancelled may fail, and nothing of it is to run behind a handler's back.
    if session._work is not None:
        session._work.stop()


def _emitClose(session: Any) -> None:
    ending = session._ending
    session.emit("close", ending.reason, ending.closing.description)


def _tellWaiting(session: Any) -> None:
    session._ending.isOver = True
    if session._work is not None:
        session._work.closed(session._ending.reason)


_STEPS: tuple[Callable[[Any], object], ...] = (
    _stopTimers,
    _closeCandidate,
    _count,
    _closeTransport,
    _dropReceived,
    _dropCallbacks,
    _stopProducer,
    _stopWork,
    _emitClose,
    _tellWaiting,
)
"""The steps of an end, in their order: one that fails keeps no other from running."""
