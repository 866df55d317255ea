"""What the heartbeat of one session waits for, and how long. docs/architecture.md, "The states of a session"."""

from __future__ import annotations

from typing import Any

from ..ends import attempt
from ..interfaces import Closing
from ..protocol.errors import CloseReason
from ..protocol.packet import Packet, PacketType
from .ending import NO_POLL
from .heartbeats import HeartbeatQueue, Heartbeats, HeartbeatTimer
from .states import HeartbeatState, Input, ReadyState, change

STOOD_STILL = 1.0
"""Seconds by which a reactor is late that stood still: what clients sent meanwhile may need some time to arrive."""

ARRIVING_TIMEOUT = 30.0
"""Seconds by which a session may be overdue while a message of its client's is arriving."""

QUIET_TIME = 5.0
"""Seconds in which nothing arrives of a message, after which it isn't waited for."""

STEP = 1.0
"""Seconds between two looks at a message that is arriving."""

GRACE = 5.0
"""Seconds that a client has at least, once, when receiving goes on: what it sent meanwhile was held up on its side."""

_WAITING_FOR_CLIENT = (HeartbeatState.AWAITING, HeartbeatState.LISTENING)


class Patience:
    """
    What is out of the ordinary in the time that a client has for its heartbeat: it is over, or stands still.

    It is over, and the session is not, as long as a message of the client's is arriving. It stands still while the
    application receives nothing.

    @ivar isOverdue: whether the time is over.
    @ivar hasBegunAnew: whether it had begun anew by then, as the client sent something else.
    @ivar until: when nothing is waited for any more, however often the time stands still for a moment.
    """

    __slots__ = (
        "_arriving",
        "_beatsFrom",
        "_hadGrace",
        "_isBehind",
        "_left",
        "_pausedAt",
        "_quietSince",
        "hasBegunAnew",
        "isOverdue",
        "until",
    )

    def __init__(self) -> None:
        self.isOverdue = self.hasBegunAnew = self._hadGrace = False
        self._isBehind: bool | None = None
        self._arriving: object = None
        self._quietSince = self.until = self._pausedAt = self._beatsFrom = 0.0
        self._left: float | None = None

    def end(self, now: float, arriving: object, hasBegunAnew: bool) -> None:
        """
        Called when the time is over.

        @param arriving: of the session's transport.
        """
        self.isOverdue = True
        self.hasBegunAnew = hasBegunAnew
        self._arriving = arriving
        self._quietSince = now
        self.until = now + ARRIVING_TIMEOUT

    def more(self, now: float, arriving: object, isHeard: bool) -> float:
        """
        Return for how many seconds more a client is waited for whose time is over; 0 if it isn't.

        @param arriving: of the session's transport.
        @param isHeard: whether a message has come since this was asked the last time.
        """
        if isHeard or arriving != self._arriving:
            self._arriving = arriving
            self._quietSince = now
        elif arriving is None:
            return 0.0
        return max(0.0, min(STEP, self.until - now, self._quietSince + QUIET_TIME - now))

    def mayBeBehind(self) -> bool:
        """
        Return whether the heartbeat may be behind what waited to be delivered when this was first asked.

        A client that sends on and on always has something that waits, which keeps its session no longer than that.
        """
        if self._isBehind is None:
            self._isBehind = True
        return self._isBehind

    def delivered(self) -> None:
        """Called when everything that waited was delivered."""
        if self._isBehind:
            self._isBehind = False

    def mayBeat(self, now: float, interval: float) -> bool:
        """
        Return whether the client may be sent a heartbeat to which no answer is expected, and take it as sent.

        An application that pauses and resumes all the time would send many.

        @param interval: seconds between two heartbeats.
        """
        if now < self._beatsFrom:
            return False
        self._beatsFrom = now + min(GRACE, interval / 2)
        return True

    def pause(self, now: float, left: float) -> None:
        """
        Stop the time. A second call does nothing.

        @param left: how many seconds the client has left.
        """
        if self._left is None:
            self._pausedAt = now
            self._left = left

    def resume(self, now: float, timeout: float) -> float | None:
        """
        Let the time go on.

        @param timeout: seconds that the client has in all.
        @return: how many seconds it has left; None if the time didn't stand still.
        """
        left, self._left = self._left, None
        if left is None:
            return None
        self._quietSince += now - self._pausedAt
        self.until += now - self._pausedAt
        grace = min(GRACE, timeout)
        if left < grace and not self._hadGrace:
            self._hadGrace = True
            return grace
        return left


class Heartbeat:
    """
    The heartbeat of one session, which waits in one of the queues of the server's L{Heartbeats}.

    In revision 4 the server pings, in revision 3 the client does.

    @param session: the L{Socket}.
    @ivar state: a L{HeartbeatState}.
    @ivar isHeard: whether a message has come since it was last asked whether one does; True if nobody asks.
    """

    __slots__ = ("_patience", "_session", "_timer", "isHeard", "state")

    def __init__(self, session: Any) -> None:
        self._session = session
        self.state = HeartbeatState.STOPPED
        self.isHeard = True
        # Where it waits, while it does.
        self._timer: HeartbeatTimer | None = None
        # While the time for the client's heartbeat is over, or stands still.
        self._patience: Patience | None = None

    @property
    def _clientPings(self) -> bool:
        isThree: bool = self._session.protocol == 3
        return isThree

    @property
    def _heartbeats(self) -> Heartbeats:
        heartbeats: Heartbeats = self._session.host.heartbeats
        return heartbeats

    @property
    def _untilNext(self) -> HeartbeatTimer:
        """Where it waits for the next ping of its own, or of the client."""
        return self._heartbeats.listening if self._clientPings else self._heartbeats.resting

    @property
    def _timeout(self) -> float:
        """How many seconds it waits for the client's heartbeat."""
        options = self._session.host.opts
        milliseconds: int = options.pingTimeout + (options.pingInterval if self._clientPings else 0)
        return milliseconds / 1000

    @property
    def _isUnsent(self) -> bool:
        """
        Whether our last ping or pong, or the noop in its place, hasn't gone to the client.

        Until it has, nothing of the client's answers it: one that doesn't poll isn't kept by what it posts.
        """
        session = self._session
        outbox = session.outbox
        return session.readyState is not ReadyState.OPEN or (outbox is not None and outbox.hasHeartbeat)

    def start(self) -> None:
        """Begin to wait, as the session is open."""
        self._step(Input.LISTEN if self._clientPings else Input.START)
        self._waitOn(self._untilNext)

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._step(Input.STOP)
        self._waitNoLonger()
        self._forget()

    def _step(self, given: Input) -> bool:
        return change(self, "state", given, self._session)

    def waitFor(self, timer: HeartbeatTimer) -> None:
        """Begin to wait, for something else or anew."""
        self._forget()
        self._waitOn(timer)

    def _forget(self) -> None:
        """Forget what was out of the ordinary in the time of the client's heartbeat."""
        self.isHeard = True
        self._patience = None

    def _beingPatient(self) -> Patience:
        if self._patience is None:
            self._patience = Patience()
        return self._patience

    def _waitOn(self, timer: HeartbeatTimer) -> None:
        """Go on waiting for the same, somewhere else."""
        self._waitNoLonger()
        self._timer = timer
        timer.add(self)

    def _waitMore(self, seconds: float) -> None:
        """Go on waiting for the same, for a time of its own."""
        self._waitOn(HeartbeatQueue(self._session.host.clock, seconds))

    def _waitNoLonger(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.remove(self)

    def heartbeatDue(self) -> None:
        """Send a ping, or end the session if it waited for the client's, or its pong."""
        session = self._session
        if not attempt(self._due, session=session):
            session.end(Closing(CloseReason.TRANSPORT_ERROR, "the transport failed"))

    def _due(self) -> None:
        session = self._session
        timer, self._timer = self._timer, None
        if self._step(Input.INTERVAL):
            self.waitFor(self._heartbeats.awaiting)
            self.isHeard = False
            if session.inbox is not None:
                self._beingPatient().pause(session.host.clock.seconds(), self._timeout)
            session.sendPacket(Packet(PacketType.PING))
        elif (session.inbox is not None or self._isAnswerDelayed) and not self._isUnsent:
            # The client is to hear of us, but what it answers isn't read.
            self._waitOn(self._untilNext)
            interval = session.host.opts.pingInterval / 1000
            if self._beingPatient().mayBeat(session.host.clock.seconds(), interval):
                session.sendPacket(Packet(PacketType.NOOP if self._clientPings else PacketType.PING))
        else:
            self._timedOut(timer)

    @property
    def _isAnswerDelayed(self) -> bool:
        """Whether the client's heartbeat may be behind what is being delivered since before the time was over."""
        return bool(self._session.transport.isDelivering) and self._beingPatient().mayBeBehind()

    def _timedOut(self, timer: HeartbeatTimer | None) -> None:
        """End the session, unless what the client sent in time lies unread, or a message of its is arriving."""
        session = self._session
        transport = session.transport
        heartbeats = self._heartbeats
        patience = self._beingPatient()
        now = session.host.clock.seconds()
        if not patience.isOverdue:
            patience.end(now, transport.arriving, self.isHeard)
            self.isHeard = False
            if timer is not None and timer.late > STOOD_STILL:
                self._waitMore(min(timer.late, self._timeout))
                return
        elif timer is heartbeats.reading or now >= patience.until:
            isHeard = self.isHeard or bool(transport.isDelivering)
            seconds = patience.more(now, transport.arriving, isHeard)
            self.isHeard = False
            if seconds > 0:
                self._waitMore(seconds)
            else:
                session.end(Closing(CloseReason.PING_TIMEOUT, self._whyTimedOut))
            return
        self._waitOn(heartbeats.reading)

    @property
    def _whyTimedOut(self) -> str:
        options = self._session.host.opts
        if self._session.readyState is ReadyState.CLOSING:
            return NO_POLL
        if self._clientPings:
            return f"no ping within pingInterval and pingTimeout, {options.pingInterval + options.pingTimeout} ms"
        return f"no pong within pingTimeout, {options.pingTimeout} ms"

    def received(self, type_: PacketType) -> None:
        """Called when a packet of L{HEARTBEATS} has come."""
        if type_ is PacketType.NOOP:
            return
        session = self._session
        isPing = type_ is PacketType.PING
        if isPing is not self._clientPings:
            session.end(Closing(CloseReason.TRANSPORT_ERROR, "invalid heartbeat direction"))
        elif not self._isUnsent and self._step(Input.PING if isPing else Input.PONG):
            self.waitFor(self._untilNext)
            if isPing:
                session.sendPacket(Packet(PacketType.PONG))
            if session.readyState is not ReadyState.CLOSED:
                session.emit("heartbeat")

    def hear(self) -> None:
        """Called when something that is no heartbeat has come, unless C{isHeard} is True already."""
        self.isHeard = True
        mayBeginAnew = self._patience is None or not self._patience.hasBegunAnew
        if self.state is HeartbeatState.AWAITING and mayBeginAnew:
            # Once for each ping, as the reference does. It may be in the way of the pong.
            self.waitFor(self._heartbeats.awaiting)

    def delivered(self) -> None:
        """Called when everything that waited to be delivered was."""
        if self._patience is not None:
            self._patience.delivered()

    def pause(self) -> None:
        """Let the time of the client's heartbeat stand still, as the application receives nothing."""
        if self._timer is not None and self.state in _WAITING_FOR_CLIENT:
            self._beingPatient().pause(self._session.host.clock.seconds(), self._timer.left(self))

    def resume(self) -> None:
        """Go on counting the time of the client's heartbeat, if it stood still."""
        patience = self._patience
        if patience is None:
            return
        session = self._session
        if not session.transport.isDelivering:
            patience.delivered()
        left = patience.resume(session.host.clock.seconds(), self._timeout)
        if left:
            self._waitMore(left)
        elif left is not None:
            # At once, or the application might hold the client back again before it is noticed.
            self._waitNoLonger()
            self._timedOut(None)
