"""
When the heartbeats of sessions are due. docs/architecture.md, "The states of a session".

A session waits for its next ping, for a pong or for a ping of the client's, each for a time that is the same in all
sessions of a server.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from ..clock import TURNS, AfterReading, cancel
from ..ends import attempt
from ..interfaces import Closing
from ..protocol.errors import CloseReason
from ..protocol.packet import Packet, PacketType
from .ending import NO_POLL
from .patience import Patience
from .states import HeartbeatState, Input, ReadyState, change

_log = Logger()

MAX_PER_TURN = 256
"""
Heartbeats in one turn of the reactor; if more are due, others are served in between.

With very many sessions it is C{1 / MIN_FRACTION} of them, or a server whose turns are long would fall behind.
"""

MIN_FRACTION = 64
"""In how many turns the heartbeats of all sessions get their turn, at most."""

STOOD_STILL = 1.0
"""Seconds by which a reactor is late that stood still: what clients sent meanwhile may need some time to arrive."""

MILLISECOND = 0.001
"""What the protocol counts in: sessions that begin to wait in the same one may be due at the same time."""

PER_TURN = 64
"""Sessions whose connections are read in a turn of the reactor, at least."""

_WAITING_FOR_CLIENT = (HeartbeatState.AWAITING, HeartbeatState.LISTENING)

# What comes of adding to numbers as large as the reactor's.
_ROUNDING = 1e-6


class HeartbeatTimes(Protocol):
    """The times of heartbeats: options of a server, or what it has said of them in its handshake."""

    @property
    def pingInterval(self) -> int:
        """Return the milliseconds from a heartbeat to the next ping."""
        ...

    @property
    def pingTimeout(self) -> int:
        """Return the milliseconds that the answer to a ping may take."""
        ...


class Beating(Protocol):
    """The heartbeat of a session."""

    def heartbeatDue(self) -> None:
        """Called when its time is over."""
        ...


class HeartbeatTimer(Protocol):
    """
    The heartbeats of sessions that wait for the same.

    @ivar late: by how many seconds the one that is being called is late.
    """

    late: float

    def add(self, heartbeat: Beating) -> None:
        """Add one that doesn't wait. It is called when its time is over, and waits no longer then."""
        ...

    def left(self, heartbeat: Beating) -> float:
        """Return how many seconds one that waits has left; 0 if it is overdue."""
        ...

    def remove(self, heartbeat: Beating) -> None:
        """Remove one that waits."""
        ...


def _call(heartbeat: Beating) -> None:
    try:
        heartbeat.heartbeatDue()
    except BaseException:
        # Whatever it is, the others are to be called too.
        _log.failure("A heartbeat failed")


class HeartbeatQueue:
    """
    Heartbeats in the order in which they began to wait, which is the one in which they are due.

    The reactor has one timer for all of them. One that comes or goes in between doesn't change it.

    @param seconds: how long each waits.
    """

    late: float = 0.0

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._due: OrderedDict[Beating, float] = OrderedDict()
        # One number for all that are due at the same time, and not one in each session.
        self._newest = 0.0
        self._same = min(MILLISECOND, seconds / 2)
        self._call: IDelayedCall | None = None

    def add(self, heartbeat: Beating) -> None:
        due = self._clock.seconds() + self._seconds
        if not 0 <= due - self._newest < self._same:
            if due < self._newest:
                self._clockWentBack(due)
            self._newest = due
        self._due[heartbeat] = self._newest
        if self._call is None:
            self._call = self._clock.callLater(self._seconds, self._look)

    def _clockWentBack(self, due: float) -> None:
        """Let none be due later than one that comes now: the reactor goes by a clock that may be set."""
        for heartbeat, before in self._due.items():
            self._due[heartbeat] = min(before, due)
        self._arm()

    def __len__(self) -> int:
        return len(self._due)

    def left(self, heartbeat: Beating) -> float:
        return max(0.0, self._due[heartbeat] - self._clock.seconds())

    def remove(self, heartbeat: Beating) -> None:
        del self._due[heartbeat]
        if not self._due:
            cancel(self._call)
            self._call = None

    def _look(self) -> None:
        """Call those that are due, and set the timer for the next one."""
        now = self._clock.seconds()
        try:
            for _ in range(max(MAX_PER_TURN, len(self._due) // MIN_FRACTION)):
                if not self._due:
                    break
                heartbeat, due = next(iter(self._due.items()))
                if due - now > _ROUNDING:
                    break
                self.late = now - due
                del self._due[heartbeat]
                _call(heartbeat)
        finally:
            self._arm()

    def _arm(self) -> None:
        """Set the timer for the first that is due."""
        # There may be one for one that has begun to wait meanwhile, which is too late for those before it.
        cancel(self._call)
        self._call = None
        for due in self._due.values():
            self._call = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._look)
            break


class Reading:
    """
    Heartbeats that are overdue, until the reactor has read what came before they were.

    @param reading: what counts the turns of the reactor.
    @param count: returns how many sessions there are.
    """

    late: float = 0.0

    def __init__(self, reading: AfterReading, count: Callable[[], int]) -> None:
        self._reading = reading
        self._count = count
        self._calls: dict[Beating, IDelayedCall] = {}

    def add(self, heartbeat: Beating) -> None:
        turns = TURNS + self._count() // PER_TURN
        self._calls[heartbeat] = self._reading.call(self._read, heartbeat, turns=turns)

    def left(self, heartbeat: Beating) -> float:
        return 0.0

    def remove(self, heartbeat: Beating) -> None:
        self._calls.pop(heartbeat).cancel()

    def _read(self, heartbeat: Beating) -> None:
        del self._calls[heartbeat]
        _call(heartbeat)


class Heartbeats:
    """
    The heartbeats of all sessions of a server, or of one client, and what is done when one is due or comes.

    In revision 4 the server pings, in revision 3 the client does: C{isPinging} of a session says whether this end is
    the one. What a session has of it besides are its C{heartbeatState}, C{heartbeatTimer}, C{isHeard} and C{patience}.

    @ivar resting: the sessions that wait for their next ping.
    @ivar awaiting: those that wait for a pong.
    @ivar listening: those that wait for the client's ping.
    @ivar reading: those that are overdue, until the reactor has read.
    @ivar timeouts: what else ends by timeout, when the reactor has read.
    """

    def __init__(self, options: HeartbeatTimes, clock: IReactorTime) -> None:
        self._options = options
        self._clock = clock
        self.resting: HeartbeatQueue = HeartbeatQueue(clock, options.pingInterval / 1000)
        self.awaiting: HeartbeatQueue = HeartbeatQueue(clock, options.pingTimeout / 1000)
        self.listening: HeartbeatQueue = HeartbeatQueue(clock, (options.pingInterval + options.pingTimeout) / 1000)
        self.timeouts: AfterReading = AfterReading(clock)
        self.reading: Reading = Reading(self.timeouts, self._count)

    def _count(self) -> int:
        return len(self.resting) + len(self.awaiting) + len(self.listening)

    def _untilNext(self, session: Any) -> HeartbeatTimer:
        """Return the timer by which a session waits for its next ping, or for that of the client."""
        return self.resting if session.isPinging else self.listening

    def _timeout(self, session: Any) -> float:
        """Return for how many seconds a session waits for the client's heartbeat."""
        options = self._options
        return (options.pingTimeout + (0 if session.isPinging else options.pingInterval)) / 1000

    @staticmethod
    def _isUnsent(session: Any) -> bool:
        """
        Return whether our last ping or pong, or the noop in its place, hasn't gone to the client.

        Until it has, nothing of the client's answers it: one that doesn't poll isn't kept by what it posts.
        """
        if session.readyState is not ReadyState.OPEN:
            return True
        if session._resumption is not None:
            return bool(session.transport.owesHeartbeat)
        outbox = session._outbox
        return outbox is not None and outbox.hasHeartbeat

    def start(self, session: Any) -> None:
        """Begin to wait, as a session is open."""
        self._step(session, Input.START if session.isPinging else Input.LISTEN)
        timer = session.heartbeatTimer = self._untilNext(session)
        timer.add(session)

    def stop(self, session: Any) -> None:
        """Let a session wait for nothing any more."""
        self._step(session, Input.STOP)
        self._waitNoLonger(session)
        self._forget(session)

    @staticmethod
    def _step(session: Any, given: Input) -> bool:
        return change(session, "heartbeatState", given)

    def waitFor(self, session: Any, timer: HeartbeatTimer) -> None:
        """Let a session begin to wait, for something else or anew."""
        self._forget(session)
        self._waitOn(session, timer)

    @staticmethod
    def _forget(session: Any) -> None:
        """Forget what was out of the ordinary in the time of the client's heartbeat."""
        # Nearly always there is nothing, and each attribute that is set takes memory.
        if not session.isHeard:
            session.isHeard = True
        if session.patience is not None:
            session.patience = None

    @staticmethod
    def _patienceWith(session: Any) -> Patience:
        patience: Patience | None = session.patience
        if patience is None:
            patience = session.patience = Patience()
        return patience

    def _waitOn(self, session: Any, timer: HeartbeatTimer) -> None:
        """Let a session go on waiting for the same, somewhere else."""
        self._waitNoLonger(session)
        session.heartbeatTimer = timer
        timer.add(session)

    def _waitMore(self, session: Any, seconds: float) -> None:
        """Let a session go on waiting for the same, for a time of its own."""
        self._waitOn(session, HeartbeatQueue(self._clock, seconds))

    @staticmethod
    def _waitNoLonger(session: Any) -> None:
        timer, session.heartbeatTimer = session.heartbeatTimer, None
        if timer is not None:
            timer.remove(session)

    def due(self, session: Any) -> None:
        """Send a ping, or end a session that waited for the client's, or its pong: its time is over."""
        if not attempt(self._due, session, session=session):
            session._end(Closing(CloseReason.TRANSPORT_ERROR, "the transport failed"))

    def _due(self, session: Any) -> None:
        timer, session.heartbeatTimer = session.heartbeatTimer, None
        if self._step(session, Input.INTERVAL):
            self.waitFor(session, self.awaiting)
            session.isHeard = False
            if session._inbox is not None:
                self._patienceWith(session).pause(self._clock.seconds(), self._timeout(session))
            session.sendPacket(Packet(PacketType.PING))
        elif (session._inbox is not None or self._isAnswerDelayed(session)) and not self._isUnsent(session):
            # The peer is to hear of us, but what it answers isn't read.
            self._waitOn(session, self._whileUnread(session))
            if self._patienceWith(session).mayBeat(self._clock.seconds(), self._secondsUnread(session)):
                session.sendPacket(Packet(session.keepAlive))
        else:
            self._timedOut(session, timer)

    def _secondsUnread(self, session: Any) -> float:
        """Return after how many seconds the peer is to hear of us while nothing of its is read."""
        options = self._options
        # A ping of the peer's may have come at any time, and its answer is awaited.
        milliseconds = options.pingTimeout / 2 if session.keepAlive is PacketType.PONG else options.pingInterval
        return milliseconds / 1000

    def _whileUnread(self, session: Any) -> HeartbeatTimer:
        """Return the timer by which a session waits for its next heartbeat while nothing of the peer's is read."""
        if session.keepAlive is PacketType.PONG:
            return HeartbeatQueue(self._clock, self._secondsUnread(session))
        return self._untilNext(session)

    def _isAnswerDelayed(self, session: Any) -> bool:
        """Return whether the client's heartbeat may be behind what is delivered since before the time was over."""
        return bool(session.transport.isDelivering) and self._patienceWith(session).mayBeBehind()

    def _timedOut(self, session: Any, timer: HeartbeatTimer | None) -> None:
        """End a session, unless what its client sent in time lies unread, or a message of its is arriving."""
        transport = session.transport
        patience = self._patienceWith(session)
        now = self._clock.seconds()
        if not patience.isOverdue:
            patience.end(now, transport.arriving, session.isHeard)
            session.isHeard = False
            if timer is not None and timer.late > STOOD_STILL:
                self._waitMore(session, min(timer.late, self._timeout(session)))
                return
        elif timer is self.reading or now >= patience.until:
            isHeard = session.isHeard or bool(transport.isDelivering)
            seconds = patience.more(now, transport.arriving, isHeard)
            session.isHeard = False
            if seconds > 0:
                self._waitMore(session, seconds)
            else:
                session.silent(Closing(CloseReason.PING_TIMEOUT, self._whyTimedOut(session)))
            return
        self._waitOn(session, self.reading)

    def _whyTimedOut(self, session: Any) -> str:
        options = self._options
        if session.readyState is ReadyState.CLOSING:
            return NO_POLL
        if not session.isPinging:
            return f"no ping within pingInterval and pingTimeout, {options.pingInterval + options.pingTimeout} ms"
        return f"no pong within pingTimeout, {options.pingTimeout} ms"

    def received(self, session: Any, type_: PacketType) -> None:
        """Called when a packet of L{HEARTBEATS} has come."""
        if type_ is PacketType.NOOP:
            return
        isPing = type_ is PacketType.PING
        if isPing is bool(session.isPinging):
            session._end(Closing(CloseReason.TRANSPORT_ERROR, "invalid heartbeat direction"))
        elif not self._isUnsent(session) and self._step(session, Input.PING if isPing else Input.PONG):
            self.waitFor(session, self._untilNext(session))
            if isPing:
                session.sendPacket(Packet(PacketType.PONG))
            if session.readyState is not ReadyState.CLOSED:
                session.emit("heartbeat")

    def hear(self, session: Any) -> None:
        """Called when something that is no heartbeat has come, unless C{isHeard} is True already."""
        session.isHeard = True
        mayBeginAnew = session.patience is None or not session.patience.hasBegunAnew
        if session.heartbeatState is HeartbeatState.AWAITING and mayBeginAnew:
            # Once for each ping, as the reference does. It may be in the way of the pong.
            self.waitFor(session, self.awaiting)

    @staticmethod
    def delivered(session: Any) -> None:
        """Called when everything that waited to be delivered was."""
        if session.patience is not None:
            session.patience.delivered()

    def pause(self, session: Any) -> None:
        """Let the time of the client's heartbeat stand still, as the application receives nothing."""
        if session.heartbeatTimer is not None and session.heartbeatState in _WAITING_FOR_CLIENT:
            self._patienceWith(session).pause(self._clock.seconds(), session.heartbeatTimer.left(session))
            if session.keepAlive is PacketType.PONG:
                self._waitOn(session, self._whileUnread(session))

    def resume(self, session: Any) -> None:
        """Go on counting the time of the client's heartbeat, if it stood still."""
        patience = session.patience
        if patience is None:
            return
        if not session.transport.isDelivering:
            patience.delivered()
        left = patience.resume(self._clock.seconds(), self._timeout(session))
        if left:
            self._waitMore(session, left)
        elif left is not None:
            # At once, or the application might hold the client back again before it is noticed.
            self._waitNoLonger(session)
            self._timedOut(session, None)
