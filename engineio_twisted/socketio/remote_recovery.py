"""Sessions that move between processes when their clients come back. docs/architecture/socketio.md, "Recovery"."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from .errors import UnsendableValue
from .interfaces import Encoded
from .remote_messages import InvalidMessage, Newest, Position, Session, idOf, positionOf, readItem, textOf, textsOf

TIMEOUT = 1.0
"""Seconds that a client that comes back waits for the other processes."""

MAX_EPOCHS = 1000
"""Epochs of other processes that are known for one namespace."""

MAX_LENGTH = 100
"""Characters of a secret or an offset: a longer one is none of ours."""

UNSENDABLE = "unsendable"
"""Why a session can't move: its data, or an event that it has missed, can't be sent to another process."""


class Others(Protocol):
    """The other processes, as far as the recovery of one namespace knows them."""

    host: str

    @property
    def hosts(self) -> Collection[str]: ...

    def makeKept(self, pid: str, id: str, auth: dict[str, Any]) -> Any: ...  # noqa: A002

    def askForSession(self, pid: str, offset: str | None, takes: bool, read: Any) -> Deferred[Any]: ...

    def tellNewest(self, host: str | None, position: Position, wantsAnswer: bool) -> None: ...

    def item(self, fields: dict[str, Any], values: list[Any]) -> bytes: ...


class _Epoch:
    """
    What this process has of the events of one epoch.

    @ivar host: the process.
    @ivar last: the number of the newest event.
    @ivar missing: the number of the newest event that is not here: it never came, or is kept no more.
    @ivar time: when the newest event came.
    """

    __slots__ = ("host", "last", "missing", "time")

    def __init__(self, host: str, last: int, time: float) -> None:
        self.host = host
        self.last = self.missing = last
        self.time = time


class _Arrival:
    """
    A session that was asked for.

    @ivar mark: the number of the newest event here when it was.
    @ivar kept: what came of it.
    @ivar has: up to which event of each epoch the other process has looked, behind the host of the epoch.
    @ivar isComplete: whether all of it came.
    @ivar isAnswered: whether all other processes have answered.
    """

    __slots__ = ("backlog", "call", "has", "isAnswered", "isComplete", "kept", "mark", "takes", "waiting", "why")

    def __init__(self, mark: int, takes: bool) -> None:
        self.mark = mark
        self.takes = takes
        self.kept: Any = None
        self.backlog: list[tuple[str, Encoded]] = []
        self.has: dict[str, tuple[str, int]] = {}
        self.isComplete = self.isAnswered = False
        self.why: str | None = None
        self.call: IDelayedCall | None = None
        self.waiting: Deferred[tuple[Any, str | None]] = Deferred()


class RemoteRecovery:
    """
    The sessions of one namespace that other processes keep.

    Each process records the events of all. A session that moves brings the events that its client has missed, and up to
    where its process had recorded those of each other: the rest is here, or on its way.

    @param recovery: the L{Recovery} of this process.
    @param others: the other processes.
    """

    _log = Logger()

    def __init__(self, recovery: Any, others: Others, clock: Any) -> None:
        self._recovery = recovery
        self._others = others
        self._clock = clock
        self._epochs: OrderedDict[str, _Epoch] = OrderedDict()
        self._own = self._epochs[recovery.epoch] = _Epoch(others.host, 0, 0.0)
        # The epoch of each process now.
        self._current: dict[str, str] = {}
        self._arrivals: dict[_Arrival, None] = {}
        # Of these, those that came and wait for events that are on their way.
        self._late: dict[_Arrival, None] = {}

    def start(self) -> None:
        """Ask the others how far they are."""
        self._others.tellNewest(None, self._position, True)

    def close(self) -> None:
        """Let nobody wait any more."""
        for each in [*self._arrivals]:
            self._over(each, "unknown")

    # Where everybody is

    @property
    def _position(self) -> Position:
        return Position(self._recovery.epoch, self._own.last)

    @property
    def nextPosition(self) -> Position:
        """The position of the next event that goes to all processes."""
        return Position(self._recovery.epoch, self._own.last + 1)

    def sent(self, position: Position) -> None:
        """Called when an event of this process was recorded."""
        self._own.last = position.number

    def evicted(self, position: Position) -> None:
        """Called when an event is kept no more."""
        epoch = self._epochs.get(position.epoch)
        if epoch is not None:
            epoch.missing = max(epoch.missing, position.number)

    def received(self, host: str, position: Position) -> None:
        """Called with an event of another process that is about to be recorded."""
        self._heard(host, Position(position.epoch, position.number - 1))
        self._epochs[position.epoch].last = max(self._epochs[position.epoch].last, position.number)

    def newest(self, message: Newest) -> None:
        """Called when another process says how far it is."""
        self._heard(message.host, message.position)
        if message.wantsAnswer:
            self._others.tellNewest(message.host, self._position, False)
        self.look()

    def hostCame(self, host: str) -> None:
        """Called when there is another process."""
        self._others.tellNewest(host, self._position, False)

    def _heard(self, host: str, position: Position) -> None:
        """Called when all has come that a process has sent up to a position."""
        known = self._epochs.get(position.epoch)
        if known is None:
            self._current[host] = position.epoch
            self._forgetOld()
            known = self._epochs[position.epoch] = _Epoch(host, position.number, 0.0)
        elif position.number > known.last:
            # What is between was lost on its way.
            known.last = known.missing = position.number
        known.time = self._clock.seconds()
        self._epochs.move_to_end(position.epoch)

    def _forgetOld(self) -> None:
        """Forget epochs that are over, when no event of theirs can be kept any more, nor be missed by anyone."""
        hosts = self._others.hosts
        self._current = {host: each for host, each in self._current.items() if host in hosts}
        oldest = self._clock.seconds() - 2 * self._recovery.settings.maxDisconnectionDuration / 1000
        for name, each in [*self._epochs.items()]:
            isOver = each is not self._own and self._current.get(each.host) != name
            if isOver and (each.time < oldest or len(self._epochs) >= MAX_EPOCHS):
                del self._epochs[name]

    # Asking for a session

    async def find(self, pid: str, offset: Any, *, takes: bool, spent: float = 0.0) -> tuple[Any, str | None]:
        """
        Return the session with a secret, which another process keeps, or why there is none.

        @param takes: whether the session moves to this worker; if not, its worker keeps it.
        @param spent: seconds of its time that the client has waited already.
        """
        if not self._others.hosts or len(pid) > MAX_LENGTH:
            return None, None
        offset = offset if isinstance(offset, str) and len(offset) <= MAX_LENGTH else None
        arrival = _Arrival(self._recovery.newest, takes)
        asked = self._others.askForSession(pid, offset, takes, lambda item: self._read(arrival, pid, item))
        self._arrivals[arrival] = None
        arrival.call = self._clock.callLater(max(0.0, TIMEOUT - spent), self._over, arrival, "no answer")
        # It goes on if the client leaves meanwhile: then it waits here for the next time.
        asked.addCallbacks(lambda result: self._answered(arrival, result[1]), lambda _: None)
        return await arrival.waiting

    def _read(self, arrival: _Arrival, pid: str, item: dict[str, Any]) -> None:
        """Called with each item of the answers."""
        if "id" in item:
            values = readItem(item)
            if len(values) != 2 or not all(isinstance(each, dict) for each in values):
                raise InvalidMessage("a session without data and auth")
            kept = self._others.makeKept(pid, textOf(item, "id"), values[1])
            kept.rooms, kept.data = textsOf(item.get("rooms")), values[0]
            arrival.has = _hasOf(item.get("has"))
            arrival.kept = kept
        elif "offset" in item:
            messages = readItem(item)
            if not messages or not all(isinstance(each, str | bytes) for each in messages):
                raise InvalidMessage("an event without messages")
            arrival.backlog.append((textOf(item, "offset"), messages[0] if len(messages) == 1 else messages))
        elif "why" in item:
            arrival.why = textOf(item, "why")
        elif "epoch" in item:
            self._heard(textOf(item, "host"), positionOf(item))
            self.look()
        else:
            arrival.isComplete = arrival.kept is not None
            self._look(arrival)

    def _answered(self, arrival: _Arrival, absent: int) -> None:
        """Called when all have answered, or some won't."""
        arrival.isAnswered = True
        if not arrival.isComplete:
            arrival.kept = None
            self._over(arrival, arrival.why or ("no answer" if absent else None))
        else:
            self._look(arrival)

    def look(self) -> None:
        """Called when something came that a session may wait for."""
        for each in [*self._late]:
            self._look(each)

    def _look(self, arrival: _Arrival) -> None:
        if arrival not in self._arrivals or not arrival.isComplete:
            return
        if not arrival.takes:
            self._over(arrival, None)
            return
        hosts, has = self._others.hosts, arrival.has
        for epoch, (host, number) in has.items():
            known = self._epochs.get(epoch)
            if (known is None or known.last < number) and host in hosts:
                isOver = arrival.isAnswered and self._current.get(host) != epoch
                if not isOver:
                    # The client has it, and it comes here too: not to be sent twice.
                    self._late[arrival] = None
                    return
        kept = arrival.kept
        for epoch, (_, number) in has.items():
            known = self._epochs.get(epoch)
            if known is not None and known.missing > number:
                self._over(arrival, "evicted")
                return
        self._recovery.adopt(kept, arrival.backlog, {each: number for each, (_, number) in has.items()}, arrival.mark)
        self._over(arrival, None)

    def _over(self, arrival: _Arrival, why: str | None) -> None:
        if arrival not in self._arrivals:
            return
        del self._arrivals[arrival]
        self._late.pop(arrival, None)
        if arrival.call is not None and arrival.call.active():
            arrival.call.cancel()
        arrival.waiting.callback((None, why) if why is not None else (arrival.kept, None))

    # Giving one away

    def items(self, about: Session) -> list[bytes]:
        """Return what answers another process that asks for a session."""
        recovery, item = self._recovery, self._others.item
        first = item({"host": self._others.host, "epoch": recovery.epoch, "number": self._own.last}, [])
        kept = recovery.find(about.pid)
        if kept is None:
            # Only if this process knows it for sure.
            why = recovery.whyUnknown(about.pid, about.offset or "")
        else:
            try:
                if not about.takes:
                    return [first, self._sessionItem(kept), item({}, [])]

                def write(missed: list[tuple[str, Encoded]]) -> list[bytes]:
                    events = [
                        item({"offset": offset}, [*each] if isinstance(each, list) else [each])
                        for offset, each in missed
                    ]
                    return [self._sessionItem(kept), *events, item({}, [])]

                written, why = recovery.give(kept, about.offset, write)
            except UnsendableValue as error:
                self._log.warn("A session can't move to another process: {problem}", problem=str(error))
                written, why = [], UNSENDABLE
            if why is None:
                return [first, *written]
        return [first] if why is None else [first, item({"why": why}, [])]

    def _sessionItem(self, kept: Any) -> bytes:
        self._forgetOld()
        has = {name: [each.host, each.last] for name, each in self._epochs.items()}
        fields = {"id": kept.id, "rooms": sorted(kept.rooms), "has": has}
        return self._others.item(fields, [kept.data, kept.auth])


def _hasOf(value: object) -> dict[str, tuple[str, int]]:
    """Return up to which event of each epoch a process has looked, behind the host of the epoch."""
    if not isinstance(value, dict) or not all(isinstance(each, list) and len(each) == 2 for each in value.values()):
        raise InvalidMessage("a session without positions")
    found: dict[str, tuple[str, int]] = {}
    for epoch, (host, number) in value.items():
        fields = {"host": host, "number": number}
        found[epoch] = (textOf(fields, "host"), idOf(fields, "number"))
    return found
