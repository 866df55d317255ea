"""How a session loses its connection and goes on on another one, if it can be resumed. docs/protocol.md, "Resume"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..clock import cancel
from ..interfaces import Closing
from ..protocol.packet import Packet
from .states import Input, ReadyState, change


def suspend(session: Any, closing: Closing) -> bool:
    """
    Let an open session that has lost its connection wait for another one.

    @param closing: how it ends if none comes in time.
    @return: whether it waits; if not, the caller ends it.
    """
    resumption = session._resumption
    if resumption is None or session.readyState is not ReadyState.OPEN:
        return False
    if resumption.suspended is not None:
        return True
    resumption.suspended = closing
    host = session._host
    resumption.deadline = host.heartbeats.timeouts.callLater(resumption.timeout / 1000, session._end, closing)
    host.heartbeats.stop(session)
    if session._upgrade is not None:
        session._upgrade.abandon()
    inbox = session._inbox
    if inbox is not None:
        inbox.leaveEarlier(closing)
    session.transport.lose(closing)
    # A handler may have closed the session, here and below.
    if session.readyState is ReadyState.OPEN:
        host.counters.sessionSuspended(session, closing.description)
    if session.readyState is ReadyState.OPEN:
        session.hasLost()
        session.emit("suspend", closing.description)
    return True


def goOn(
    session: Any,
    transport: Any,
    number: int,
    acknowledged: int,
    opening: Callable[[], Sequence[Packet]],
) -> None:
    """
    Let a session that waits for a connection go on.

    @param transport: the transport that it goes on with, a L{ResumableTransport}.
    @param number: that of the return.
    @param acknowledged: how many messages the other end has.
    @param opening: returns what is sent first.
    """
    resumption, host = session._resumption, session._host
    cancel(resumption.deadline)
    resumption.deadline = resumption.suspended = None
    if session._inbox is not None:
        resumption.forget(session._inbox.forget())
    resumption.comeBack(number, acknowledged)
    before, session.transport = session.transport.name, transport
    transport.owner = session
    # It may move to WebSocket once more.
    change(session, "_upgradeState", Input.RETURN)
    host.heartbeats.start(session)
    if session._inbox is not None:
        transport.pauseReceiving()
    host.counters.sessionResumed(session, before)
    transport.begin(opening())
    if session.readyState is ReadyState.OPEN:
        session.emit("resume")
    session.transportReady(transport)


def stopWaiting(session: Any) -> None:
    """Called when a session ends: nothing waits for its client any more."""
    if session._resumption is not None:
        cancel(session._resumption.deadline)


def isSuspended(session: Any) -> bool:
    """Return whether a session waits for a connection."""
    resumption = session._resumption
    return resumption is not None and resumption.suspended is not None
