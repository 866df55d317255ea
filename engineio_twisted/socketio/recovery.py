"""
Connection state recovery: what clients missed while they had no connection. docs/socketio-recovery.md.

Each namespace has one ring of the events it sent, with increasing numbers, and the sessions that may come back.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from .. import DeadlineQueue, generateId
from .errors import DisconnectReason
from .interfaces import Encoded, Target
from .listeners import deferredOf
from .options import ConnectionStateRecovery
from .packet import PacketType

if TYPE_CHECKING:
    from .remote_messages import Position
    from .remote_recovery import RemoteRecovery

RECOVERABLE = frozenset(
    (
        DisconnectReason.TRANSPORT_CLOSE,
        DisconnectReason.TRANSPORT_ERROR,
        DisconnectReason.PING_TIMEOUT,
        DisconnectReason.FORCED_CLOSE,
        DisconnectReason.SERVER_SHUTTING_DOWN,
    )
)
"""Reasons of an end after which a client may come back to what it had."""

PID_BYTES = 18
"""Random bytes of the secret by which a client comes back."""

MOST_EXPIRED = 1000
"""Of how many sessions that were kept too long it is remembered that they were."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def inBase36(number: int) -> str:
    """Return a number as text in base 36."""
    digits = ""
    while True:
        number, rest = divmod(number, 36)
        digits = _DIGITS[rest] + digits
        if not number:
            return digits


class Kept:
    """
    The session of a client that may come back.

    @ivar id: the id of its socket.
    @ivar rooms: the names of its rooms, without its id.
    @ivar data: the C{data} of its socket.
    @ivar auth: the C{auth} with which it joined.
    @ivar socket: the socket, or None after its end.
    """

    __slots__ = (
        "auth",
        "backlog",
        "backlogEnd",
        "begin",
        "data",
        "id",
        "joined",
        "lastSent",
        "newest",
        "pid",
        "remoteId",
        "rooms",
        "socket",
    )

    def __init__(self, pid: str, id: str, remoteId: str, auth: dict[str, Any], begin: int) -> None:  # noqa: A002
        self.pid = pid
        self.id = id
        self.remoteId = remoteId
        self.socket: Any = None
        # Numbers of events: the newest one when it joined, the last one sent to it, the newest one when it ended.
        self.begin = self.lastSent = self.newest = begin
        self.rooms: frozenset[str] = frozenset()
        # For each room, the number of the newest event when the socket joined it.
        self.joined: dict[str, int] = {}
        self.data: dict[str, Any] = {}
        self.auth = auth
        # Of one that came from another process: the events that come before the first one of this process, each
        # behind its offset; and, if they are kept no more, the offset of the last one.
        self.backlog: list[tuple[str, Encoded]] = []
        self.backlogEnd: str | None = None


class _Entry:
    """One event of the ring."""

    __slots__ = ("encoded", "position", "size", "target", "time")

    def __init__(self, encoded: Encoded, target: Target, position: Position | None, size: int, time: float) -> None:
        self.encoded = encoded
        self.target = target
        self.position = position
        self.size = size
        self.time = time


def _isFor(target: Target, kept: Kept, number: int) -> bool:
    """Return whether an event with a number was for a session."""
    ids = (kept.id, kept.remoteId)

    def wasIn(names: frozenset[str]) -> bool:
        return any(each in ids or (each in kept.rooms and kept.joined.get(each, 0) < number) for each in names)

    return (not target.rooms or wasIn(target.rooms)) and not wasIn(target.excluded)


def _sizeOf(encoded: Encoded) -> int:
    return sum(map(len, encoded)) if isinstance(encoded, list) else len(encoded)


class Recovery:
    """
    The events and the sessions that one namespace keeps.

    @param namespace: the L{Namespace}.
    @param settings: how much is kept, and how long.
    @ivar newest: the number of the newest event.
    @ivar epoch: what its offsets begin with, which no other process and no other namespace has.
    @ivar elsewhere: the sessions that the other processes keep, a L{RemoteRecovery}, if the adapter reaches them.
    """

    elsewhere: RemoteRecovery | None = None

    def __init__(self, namespace: Any, settings: ConnectionStateRecovery) -> None:
        self._namespace = namespace
        self.settings = settings
        self._clock: Any = namespace.io.engine.clock
        # So that an offset of another process is known to be one.
        self.epoch: str = inBase36(int.from_bytes(generateId(6).encode("ascii")))
        self._ring: deque[_Entry] = deque()
        self._size = 0
        self.newest: int = 0
        self._sessions: dict[str, Kept] = {}
        self._waiting: OrderedDict[str, Kept] = OrderedDict()
        self._idsWaiting: set[str] = set()
        self._expired: OrderedDict[str, None] = OrderedDict()
        # Those that have a backlog, each with when that was kept first, and the bytes of all backlogs.
        self._backlogs: OrderedDict[Kept, float] = OrderedDict()
        self._backlogSize = 0
        self._deadlines = DeadlineQueue(self._clock, settings.maxDisconnectionDuration / 1000, self._expire)

    @property
    def waiting(self) -> int:
        """How many sessions are kept whose client has no connection."""
        return len(self._waiting)

    def keepsId(self, id: str) -> bool:  # noqa: A002
        """Return whether a client may come back to a socket with this id."""
        return id in self._idsWaiting

    # Events

    def record(self, data: list[Any], target: Target, position: Position | None = None) -> Encoded:
        """
        Keep an event, and return it encoded, with its offset behind its arguments.

        @param data: its name and its arguments.
        @param position: its place among the events that its process sends to all, if it has one.
        @raise UnsendableValue: an argument can't be sent.
        """
        namespace = self._namespace
        offset = self._offsetOf(self.newest + 1)
        encoded: Encoded = namespace.encode(PacketType.EVENT, namespace.name, None, [*data, offset])
        self.newest += 1
        entry = _Entry(encoded, target, position, _sizeOf(encoded), self._clock.seconds())
        if position is not None and self.elsewhere is not None and position.epoch == self.epoch:
            self.elsewhere.sent(position)
        self._ring.append(entry)
        self._size += entry.size
        self._trim()
        return encoded

    def _trim(self) -> None:
        ring, settings = self._ring, self.settings
        oldest = self._clock.seconds() - settings.maxDisconnectionDuration / 1000
        while ring and (len(ring) > settings.maxEvents or self._size > settings.maxBytes or ring[0].time < oldest):
            entry = ring.popleft()
            self._size -= entry.size
            if entry.position is not None and self.elsewhere is not None:
                self.elsewhere.evicted(entry.position)
        backlogs = self._backlogs
        while backlogs:
            kept, began = next(iter(backlogs.items()))
            # The newest one is about to be sent.
            if began >= oldest and (self._backlogSize <= settings.maxBytes or len(backlogs) == 1):
                break
            end = kept.backlog[-1][0]
            self._setBacklog(kept, [])
            kept.backlogEnd = end

    def _setBacklog(self, kept: Kept, backlog: list[tuple[str, Encoded]]) -> None:
        self._backlogSize += sum(_sizeOf(each) for _, each in backlog) - sum(_sizeOf(each) for _, each in kept.backlog)
        kept.backlog, kept.backlogEnd = backlog, None
        if not backlog:
            self._backlogs.pop(kept, None)
        elif kept not in self._backlogs:
            self._backlogs[kept] = self._clock.seconds()

    def _offsetOf(self, number: int) -> str:
        return f"{self.epoch}.{inBase36(number)}"

    # Sessions

    def begin(self, socket: Any) -> str:
        """Keep a session from its CONNECT on, and return its secret."""
        pid = generateId(PID_BYTES)
        kept = self._sessions[pid] = Kept(pid, socket.id, socket.remoteId, socket.auth, self.newest)
        kept.socket = socket
        socket.pid = pid
        return pid

    def ended(self, socket: Any, reason: DisconnectReason) -> None:
        """Keep the session of a socket that ends for its client to come back, or forget it."""
        kept = None if socket.pid is None else self._sessions.get(socket.pid)
        if kept is None or kept.socket is not socket:
            return
        if reason not in RECOVERABLE or self._namespace.io.isClosing:
            self.forget(kept)
            return
        kept.socket = None
        kept.rooms = self._namespace.adapter.roomsOf(socket.id)
        kept.data = socket.data
        kept.lastSent, kept.newest = max(kept.begin, socket.lastSent), self.newest
        self._wait(kept)

    def _wait(self, kept: Kept) -> None:
        """Keep a session whose client has no connection."""
        self._waiting[kept.pid] = kept
        self._idsWaiting.add(kept.id)
        self._deadlines.add(kept)
        if len(self._waiting) > self.settings.maxWaitingSessions:
            self.forget(next(iter(self._waiting.values())))

    def _expire(self, kept: Kept) -> None:
        self.forget(kept)
        self._expired[kept.pid] = None
        if len(self._expired) > MOST_EXPIRED:
            self._expired.popitem(last=False)
        self._namespace._endIfEmpty()

    async def comeBack(self, socket: Any) -> Kept | None:
        """
        Return the session that a client comes back to, if it is of the same user; None if it doesn't, or can't, which
        is counted.

        @param socket: its new socket.
        @raise Exception: what C{sameUser} raised.
        """
        pid, offset = socket.auth.get("pid"), socket.auth.get("offset")
        if not isinstance(pid, str):
            return None
        kept, elsewhere, sameUser = self._sessions.get(pid), self.elsewhere, self.settings.sameUser
        why: str | None = None
        began = self._clock.seconds()
        if kept is None and elsewhere is not None:
            kept, why = await elsewhere.find(pid, offset, takes=sameUser is None)
        # Another client with the same secret may have brought it here meanwhile.
        if kept is None:
            kept, why = self._sessions.get(pid), why
        if kept is None:
            self._lost(why or self.whyUnknown(pid, offset) or "foreign")
            return None
        if sameUser is not None:
            if kept.socket is not None:
                self._update(kept)
            spent = self._clock.seconds() - began
            isSame = sameUser(kept, socket)
            waited = deferredOf(isSame)
            if waited is not None:
                isSame = await waited
            if not isSame:
                self._lost("other user")
                return None
            if elsewhere is not None and pid not in self._sessions:
                # It was only shown.
                _, why = await elsewhere.find(pid, offset, takes=True, spent=spent)
                kept = self._sessions.get(pid, kept)
        if why is None:
            why = self._take(kept, offset)
        if why is not None:
            self._lost(why)
            return None
        return kept

    def whyUnknown(self, pid: str, offset: Any) -> str | None:
        """Return why there is no session with a secret; None if it may be one of another process."""
        if pid in self._expired:
            return "expired"
        isForeign = isinstance(offset, str) and not offset.startswith(f"{self.epoch}.")
        return None if isForeign else "unknown"

    def _update(self, kept: Kept) -> None:
        """Let what is kept of a socket that is connected be as it is now."""
        kept.rooms, kept.data = self._namespace.adapter.roomsOf(kept.id), kept.socket.data

    def _take(self, kept: Kept, offset: Any) -> str | None:
        """
        Let a client go on with a session, or return why it can't.

        If it has a connection, that is ended: the client knows better that it is lost.
        """
        if kept.socket is not None:
            kept.socket.client.replaced()
        self._trim()
        if self._sessions.get(kept.pid) is not kept or kept.socket is not None:
            # Another may have come back to it meanwhile.
            return "unknown"
        isPast = kept.backlogEnd in (None, offset) or self._after(kept, offset) > kept.begin
        if not isPast or self._lastReceived(kept, offset) < self.newest - len(self._ring):
            self.forget(kept)
            return "evicted"
        return None

    def missed(self, kept: Kept, offset: Any) -> list[Encoded]:
        """Return the events that a client has missed, in their order."""
        return [encoded for _, encoded in self._missedBy(kept, offset)]

    def _missedBy(self, kept: Kept, offset: Any) -> list[tuple[str, Encoded]]:
        """Return the events that a client has missed, each behind its offset."""
        first, after = self.newest - len(self._ring), self._lastReceived(kept, offset)
        found = [
            (number, each.encoded)
            for number, each in enumerate(islice(self._ring, max(0, after - first), None), max(first, after) + 1)
            if _isFor(each.target, kept, number)
        ]
        backlog = self._backlogOf(kept, offset)
        if found:
            kept.lastSent = found[-1][0]
        elif not backlog:
            # It has all that there was for it until now.
            kept.begin = kept.lastSent = self.newest
        self._setBacklog(kept, backlog)
        return [*backlog, *((self._offsetOf(number), encoded) for number, encoded in found)]

    def _backlogOf(self, kept: Kept, offset: Any) -> list[tuple[str, Encoded]]:
        """Return the part of its backlog that a client has not received."""
        if self._after(kept, offset) > kept.begin:
            return []
        offsets = [each for each, _ in kept.backlog]
        return kept.backlog[offsets.index(offset) + 1 :] if offset in offsets else kept.backlog

    # Sessions that move between processes

    def find(self, pid: str) -> Kept | None:
        """Return the session with a secret as it is now."""
        kept = self._sessions.get(pid)
        if kept is not None and kept.socket is not None:
            self._update(kept)
        return kept

    def give(
        self, kept: Kept, offset: Any, write: Callable[[list[tuple[str, Encoded]]], list[bytes]]
    ) -> tuple[list[bytes], str | None]:
        """
        Let another process have a session, and forget it.

        @param write: called with what its client has missed, each event behind its offset; it returns that as it goes
            to the other process. If it raises, the session stays.
        @return: what C{write} returned, and why the session can't be given, or None.
        """
        why = self._take(kept, offset)
        if why is not None:
            return [], why
        written = write(self._missedBy(kept, offset))
        self.forget(kept)
        self._namespace._endIfEmpty()
        return written, None

    def adopt(self, kept: Kept, backlog: list[tuple[str, Encoded]], has: Mapping[str, int], mark: int) -> None:
        """
        Keep a session that comes from another process, for its client to come back.

        @param backlog: the events that its client had missed there, each behind its offset.
        @param has: up to which event of each epoch the other process has looked.
        @param mark: the newest event here when the session was asked for: of epochs that the other process doesn't
            know, what came later is for the session too.
        """
        first = self.newest - len(self._ring) + 1
        more = [
            (self._offsetOf(number), each.encoded)
            for number, each in enumerate(self._ring, first)
            if each.position is not None
            and (each.position.number > has[each.position.epoch] if each.position.epoch in has else number > mark)
            and _isFor(each.target, kept, number)
        ]
        kept.begin = kept.lastSent = kept.newest = self.newest
        self._sessions[kept.pid] = kept
        self._setBacklog(kept, [*backlog, *more])
        self._wait(kept)

    def restored(self, kept: Kept, socket: Any) -> None:
        """Let a socket go on with a session that is kept."""
        self._stopWaiting(kept)
        kept.socket = socket
        kept.auth = socket.auth
        socket.pid, socket.lastSent = kept.pid, kept.lastSent
        self._namespace.io.counters.recovered += 1

    def forget(self, kept: Kept) -> None:
        """Keep a session no more."""
        self._stopWaiting(kept)
        self._setBacklog(kept, [])
        self._sessions.pop(kept.pid, None)

    def _stopWaiting(self, kept: Kept) -> None:
        self._waiting.pop(kept.pid, None)
        self._idsWaiting.discard(kept.id)
        self._deadlines.remove(kept)

    def joined(self, socket: Any, rooms: Iterable[str]) -> None:
        """Called when a socket is about to join rooms: events that they got before are not for it."""
        kept = None if socket.pid is None else self._sessions.get(socket.pid)
        if kept is not None:
            before = self._namespace.adapter.roomsOf(socket.id)
            for each in rooms:
                if each not in before:
                    kept.joined[each] = self.newest

    def left(self, socket: Any, room: str) -> None:
        """Called when a socket has left a room."""
        kept = None if socket.pid is None else self._sessions.get(socket.pid)
        if kept is not None:
            kept.joined.pop(room, None)

    def _lastReceived(self, kept: Kept, offset: Any) -> int:
        """Return the number of the event up to which a client has all that it was sent."""
        after = self._after(kept, offset)
        # Of what came while it was connected, nothing is missing if it has the last event that was sent to it.
        return max(after, kept.newest) if kept.lastSent <= after else after

    def _after(self, kept: Kept, offset: Any) -> int:
        """Return the number of the last event that a client has got."""
        epoch, _, number = offset.partition(".") if isinstance(offset, str) else ("", "", "")
        if epoch != self.epoch or not number.isascii() or not number.isalnum() or len(number) > 12:
            # It may be of a session before this one: the stock client doesn't forget it.
            return kept.begin
        return min(max(int(number, 36), kept.begin), self.newest)

    def _lost(self, why: str) -> None:
        notRecovered = self._namespace.io.counters.notRecovered
        notRecovered[why] = notRecovered.get(why, 0) + 1

    def close(self) -> None:
        """Forget everything."""
        if self.elsewhere is not None:
            self.elsewhere.close()
        for each in [*self._waiting.values()]:
            self._stopWaiting(each)
        self._sessions.clear()
        self._backlogs.clear()
        self._backlogSize = 0
        self._ring.clear()
        self._size = 0
