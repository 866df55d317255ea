"""
Connection state recovery: what clients missed while they had no connection. docs/socketio-recovery.md.

Each namespace has one ring of the events it sent, with increasing numbers, and the sessions that may come back.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

from .. import DeadlineQueue, generateId
from .errors import DisconnectReason
from .interfaces import Encoded, Target
from .listeners import deferredOf
from .options import ConnectionStateRecovery
from .packet import PacketType
from .remote_messages import Position

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

    __slots__ = ("auth", "begin", "data", "id", "joined", "lastSent", "newest", "pid", "remoteId", "rooms", "socket")

    def __init__(self, pid: str, socket: Any, begin: int) -> None:
        self.pid = pid
        self.id = socket.id
        self.remoteId = socket.remoteId
        self.socket: Any = socket
        # Numbers of events: the newest one when it joined, the last one sent to it, the newest one when it ended.
        self.begin = self.lastSent = self.newest = begin
        self.rooms: frozenset[str] = frozenset()
        # For each room, the number of the newest event when the socket joined it.
        self.joined: dict[str, int] = {}
        self.data: dict[str, Any] = {}
        self.auth = socket.auth


class _Entry:
    """One event of the ring."""

    __slots__ = ("encoded", "size", "target", "time")

    def __init__(self, encoded: Encoded, target: Target, size: int, time: float) -> None:
        self.encoded = encoded
        self.target = target
        self.size = size
        self.time = time


def _sizeOf(encoded: Encoded) -> int:
    return sum(map(len, encoded)) if isinstance(encoded, list) else len(encoded)


class Recovery:
    """
    The events and the sessions that one namespace keeps.

    @param namespace: the L{Namespace}.
    @param settings: how much is kept, and how long.
    @ivar newest: the number of the newest event.
    """

    def __init__(self, namespace: Any, settings: ConnectionStateRecovery) -> None:
        self._namespace = namespace
        self.settings = settings
        self._clock: Any = namespace.io.engine.clock
        # So that an offset of another process is known to be one.
        self._epoch = inBase36(int.from_bytes(generateId(6).encode("ascii")))
        self._ring: deque[_Entry] = deque()
        self._size = 0
        self.newest: int = 0
        self._sessions: dict[str, Kept] = {}
        self._waiting: OrderedDict[str, Kept] = OrderedDict()
        self._idsWaiting: set[str] = set()
        self._expired: OrderedDict[str, None] = OrderedDict()
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
        @raise UnsendableValue: an argument can't be sent.
        """
        namespace = self._namespace
        offset = f"{self._epoch}.{inBase36(self.newest + 1)}"
        encoded: Encoded = namespace.encode(PacketType.EVENT, namespace.name, None, [*data, offset])
        self.newest += 1
        entry = _Entry(encoded, target, _sizeOf(encoded), self._clock.seconds())
        self._ring.append(entry)
        self._size += entry.size
        self._trim()
        return encoded

    def _trim(self) -> None:
        ring, settings = self._ring, self.settings
        oldest = self._clock.seconds() - settings.maxDisconnectionDuration / 1000
        while ring and (len(ring) > settings.maxEvents or self._size > settings.maxBytes or ring[0].time < oldest):
            self._size -= ring.popleft().size

    # Sessions

    def begin(self, socket: Any) -> str:
        """Keep a session from its CONNECT on, and return its secret."""
        pid = generateId(PID_BYTES)
        self._sessions[pid] = Kept(pid, socket, self.newest)
        socket.pid = pid
        return pid

    def ended(self, socket: Any, reason: DisconnectReason) -> None:
        """Keep the session of a socket that ends for its client to come back, or forget it."""
        kept = None if socket.pid is None else self._sessions.get(socket.pid)
        if kept is None or kept.socket is not socket:
            return
        if reason not in RECOVERABLE or self._namespace.io.isClosing:
            del self._sessions[kept.pid]
            return
        kept.socket = None
        kept.rooms = self._namespace.adapter.roomsOf(socket.id)
        kept.data = socket.data
        kept.lastSent, kept.newest = max(kept.begin, socket.lastSent), self.newest
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
        kept = self._known(socket.auth)
        sameUser = self.settings.sameUser
        if kept is None or sameUser is None:
            return kept and self._taken(kept, socket.auth)
        if kept.socket is not None:
            kept.rooms, kept.data = self._namespace.adapter.roomsOf(kept.id), kept.socket.data
        isSame = sameUser(kept, socket)
        waited = deferredOf(isSame)
        if waited is not None:
            isSame = await waited
        if not isSame:
            self._lost("other user")
            return None
        return self._taken(kept, socket.auth)

    def _known(self, auth: dict[str, Any]) -> Kept | None:
        """Return the session whose secret a client has."""
        pid = auth.get("pid")
        if not isinstance(pid, str):
            return None
        kept = self._sessions.get(pid)
        if kept is None:
            isForeign = isinstance(offset := auth.get("offset"), str) and not offset.startswith(f"{self._epoch}.")
            self._lost("expired" if pid in self._expired else "foreign" if isForeign else "unknown")
        return kept

    def _taken(self, kept: Kept, auth: dict[str, Any]) -> Kept | None:
        """
        Return a session for its client, unless it can't be gone on with.

        If it has a connection, that is ended: the client knows better that it is lost.
        """
        if kept.socket is not None:
            kept.socket.client.replaced()
        self._trim()
        if self._sessions.get(kept.pid) is not kept or kept.socket is not None:
            # Another may have come back to it meanwhile.
            self._lost("unknown")
            return None
        if self._lastReceived(kept, auth.get("offset")) < self.newest - len(self._ring):
            self._lost("evicted")
            self.forget(kept)
            return None
        return kept

    def missed(self, kept: Kept, offset: Any) -> list[Encoded]:
        """Return the events that a client has missed, in their order."""
        first, after = self.newest - len(self._ring), self._lastReceived(kept, offset)
        ids = (kept.id, kept.remoteId)

        def wasIn(names: frozenset[str], number: int) -> bool:
            return any(each in ids or (each in kept.rooms and kept.joined.get(each, 0) < number) for each in names)

        found = [
            (number, each.encoded)
            for number, each in enumerate(islice(self._ring, max(0, after - first), None), max(first, after) + 1)
            if (not each.target.rooms or wasIn(each.target.rooms, number)) and not wasIn(each.target.excluded, number)
        ]
        if found:
            kept.lastSent = found[-1][0]
        else:
            # It has all that there was for it until now.
            kept.begin = kept.lastSent = self.newest
        return [encoded for _, encoded in found]

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
        if epoch != self._epoch or not number.isascii() or not number.isalnum() or len(number) > 12:
            # It may be of a session before this one: the stock client doesn't forget it.
            return kept.begin
        return min(max(int(number, 36), kept.begin), self.newest)

    def _lost(self, why: str) -> None:
        notRecovered = self._namespace.io.counters.notRecovered
        notRecovered[why] = notRecovered.get(why, 0) + 1

    def close(self) -> None:
        """Forget everything."""
        for each in [*self._waiting.values()]:
            self._stopWaiting(each)
        self._sessions.clear()
        self._ring.clear()
        self._size = 0
