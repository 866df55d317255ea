"""
The clients of the soak of workers: those of L{.load}, whose workers die.

    python -m tests.soak.worker_load KIND PORT SEED FIRST SECONDS RATE

KIND is C{plain} or C{socketio}. Each session also checks the ticks that come from every worker, and goes on as far as
it may when a connection is lost. Whether that was due to the death of a worker is judged by whoever knows of it.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import attrs

from engineio_twisted.testing.websocket import Frame

from .load import Activity, Load, LostError, Session
from .plan import Message

MOST_REPEATS = 8
"""So often a session may repeat what was lost before it gives up."""


class GoneError(Exception):
    """The session is unknown, and wasn't to end: 400 with the code 1."""


def isUnknown(status: int, body: bytes) -> bool:
    """Return whether a response says that there is no such session."""
    return status == 400 and body.startswith(b"{") and json.loads(body).get("code") == 1


class WorkerSession(Session):
    """One session, whose worker may die, or a worker that has one of its connections."""

    load: WorkerLoad

    def __init__(self, load: WorkerLoad, serial: int) -> None:
        super().__init__(load, serial)
        self.plan = attrs.evolve(self.plan, isSocketIO=load.kind == "socketio")
        self.repeats = 0
        # Whether a connection was lost that its worker had already answered on.
        self.isCut = False
        self.ticks: dict[int, int] = {}

    @property
    def owner(self) -> int:
        return int(self.sid.partition("-")[0]) if self.isOpen else 0

    def lost(self, what: str) -> None:
        """Note that a connection was lost, and go on."""
        self.repeats += 1
        # A server that ends a session cuts what it still sends.
        if not self.mayEnd:
            self.load.losses.append((time.monotonic(), self.plan.serial, self.owner, what))
        if self.repeats > MOST_REPEATS:
            raise AssertionError(f"{what}: lost {self.repeats} times")

    def ask(self, method: str, body: bytes | None = None) -> Activity:
        while True:
            kept = self.kept.get(method)
            isNew = kept is None or kept.isLost
            try:
                status, answer = yield from super().ask(method, body)
            except LostError as lost:
                if self.isLeaving or self.isOver:
                    raise
                self.isCut = self.isCut or not isNew or lost.isPartial
                self.lost(f"{method} on a {'new' if isNew else 'kept'} connection")
                continue
            if not self.mayEnd and isUnknown(status, answer):
                raise GoneError(method)
            assert not self.isCut or self.mayEnd, f"a connection of a session that goes on was cut: {status}"
            return status, answer

    def open(self) -> Activity:
        while not self.isOpen:
            try:
                yield from super().open()
            except LostError:
                self.lost("handshake")

    def upgrade(self) -> Activity:
        try:
            yield from super().upgrade()
        except LostError:
            self.lost("upgrade")
            yield from self.upgrade()

    def upgradeRefused(self, status: int, body: bytes) -> None:
        if not self.mayEnd and isUnknown(status, body):
            raise GoneError("upgrade")
        super().upgradeRefused(status, body)

    def closed(self, frame: Frame) -> None:
        code = int.from_bytes(frame.payload[:2], "big")
        raise GoneError(f"closed {code}")

    def take(self, packet: Message) -> None:
        if isinstance(packet, str) and packet.startswith("4tick."):
            _, number, count = packet.split(".")
            self.tick(int(number), int(count))
        elif packet == "1" and not self.mayEnd:
            raise GoneError("closed")
        else:
            super().take(packet)

    def takeEvent(self, packet: Message) -> None:
        if isinstance(packet, str) and packet.startswith('42["tick",'):
            _, number, count = json.loads(packet[2:])
            self.tick(number, count)
        elif packet == "41" and not self.mayEnd:
            # The server has ended the socket, and the session will end too.
            raise GoneError("closed")
        elif packet == "41":
            self.isOver = True
        else:
            super().takeEvent(packet)

    def tick(self, number: int, count: int) -> None:
        self.load.ticks += 1
        self.load.foreignTicks += number != self.owner
        expected = self.ticks.get(number, count - 1) + 1
        if count != expected and not self.checked.problem:
            self.checked.problem = f"tick {expected} of worker {number} was to come, and {count} came"
        self.ticks[number] = count


class WorkerLoad(Load):
    """
    All sessions.

    @ivar losses: the connections that were lost: when, of which session, of which worker's (0 before it is known), and
        which. The session went on.
    @ivar broken: the sessions that ended before they were to: the same, and why.
    """

    sessionType = WorkerSession
    hasAll = True

    def __init__(self, kind: str, port: int, seed: int) -> None:
        super().__init__(port, seed)
        self.kind = kind
        self.losses: list[tuple[float, int, int, str]] = []
        self.broken: list[tuple[float, int, int, str]] = []
        self.ticks = self.foreignTicks = 0

    def finished(self, session: Session, problem: str) -> None:
        assert isinstance(session, WorkerSession)
        if problem:
            self.broken.append((time.monotonic(), session.plan.serial, session.owner, problem))
            self.again += 1
        super().finished(session, "")

    def soak(self, first: int, seconds: float, rate: float) -> dict[str, Any]:
        found = super().soak(first, seconds, rate)
        names = ("losses", "broken", "ticks", "foreignTicks", "again")
        return {**found, **{name: getattr(self, name) for name in names}}


if __name__ == "__main__":
    kind, port, seed, first, seconds, rate = sys.argv[1:]
    print(json.dumps(WorkerLoad(kind, int(port), int(seed)).soak(int(first), float(seconds), float(rate))))
