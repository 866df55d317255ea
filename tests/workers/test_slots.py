"""The slots of the parent: every state by every input, on a clock, without processes."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from engineio_twisted.workers.slots import ABORT_GRACE, BACKOFF, DRAIN_GRACE, HURRY_GRACE, Life, Patience, Slots, State

PATIENCE = Patience(start=30.0, hang=20.0, drain=5.0)


class Process:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def ping(self) -> None:
        self.told.append("ping")

    def drain(self) -> None:
        self.told.append("drain")

    def hurry(self) -> None:
        self.told.append("hurry")

    def abort(self) -> None:
        self.told.append("abort")

    def kill(self) -> None:
        self.told.append("kill")


class Host:
    """The parent: its processes, and what it was told, as lines."""

    def __init__(self, count: int = 2, patience: Patience = PATIENCE) -> None:
        self.clock = Clock()
        self.patience = patience
        self.said: list[str] = []
        self.lives: list[Life[Process, str]] = []
        self.failing: Exception | None = None
        self.slots: Slots[Process, str] = Slots(self.clock, count, self, "old")

    def spawn(self, life: Life[Process, str]) -> Process:
        if self.failing is not None:
            raise self.failing
        self.lives.append(life)
        self.said.append(f"start {life.number} in {life.slot}: {life.generation}")
        return Process()

    def patienceWith(self, generation: str) -> Patience:
        return self.patience

    def becameReady(self, life: Life[Process, str]) -> None:
        self.said.append(f"ready {life.number}")

    def kills(self, life: Life[Process, str], why: str) -> None:
        self.said.append(f"kill {life.number}: {why}")

    def ended(self, life: Life[Process, str], how: str, wasExpected: bool, delay: float | None) -> None:
        self.said.append(f"ended {life.number}: {how}, {'expected' if wasExpected else 'unexpected'}, {delay}")

    def firstFailed(self, problem: str) -> None:
        self.said.append(f"failed: {problem}")

    def reloaded(self, problem: str | None) -> None:
        self.said.append(f"reloaded: {problem}")

    def allEnded(self) -> None:
        self.said.append("all ended")

    def news(self) -> list[str]:
        """Return what was said since the last time."""
        said, self.said = self.said, []
        return said

    def told(self, number: int) -> list[str]:
        """Return what the process of a worker was told since the last time."""
        process = self.lives[number - 1].process
        assert process is not None
        told, process.told = process.told, []
        return told

    def life(self, number: int) -> Life[Process, str]:
        return self.lives[number - 1]

    def running(self) -> None:
        """Start all, and let them be ready."""
        self.slots.start()
        for index in range(len(self.slots)):
            self.lives[index].ready()
        self.news()
        for index in range(len(self.slots)):
            self.told(index + 1)


def test_startsOneAfterTheOther() -> None:
    """The first has to be ready before there is a second."""
    host = Host(3)
    host.slots.start()
    assert host.news() == ["start 1 in 0: old"]
    host.life(1).ready()
    assert host.news() == ["ready 1", "start 2 in 1: old"]
    # One that fails keeps nobody waiting.
    host.life(2).ended("status 1")
    assert host.news() == ["ended 2: status 1, unexpected, 0.0", "start 3 in 2: old"]
    assert [each.number for each in host.slots] == [1, 3]
    assert host.slots.readyCount == 1
    host.slots.stop()


@pytest.mark.parametrize(
    ("problem", "expected"),
    [("--app x: failed", "failed: --app x: failed"), (None, "failed: the first worker has ended: status 1")],
)
def test_theFirstFails(problem: str | None, expected: str) -> None:
    """Nothing else is started, and the command is told why."""
    host = Host()
    host.slots.start()
    host.life(1).problem = problem
    host.life(1).ended("status 1")
    assert host.news()[-1] == expected
    host.clock.advance(1000)
    host.slots.reload(lambda: "new")
    assert host.news() == []
    host.slots.stop()
    assert host.news() == ["all ended"]


def test_theFirstIsSlow() -> None:
    """It is killed, with its stacks in the log, and that ends the command."""
    host = Host()
    host.slots.start()
    host.clock.advance(30)
    assert host.news()[1:] == ["kill 1: not ready within 30 s"]
    assert host.told(1) == ["abort"]
    host.clock.advance(ABORT_GRACE)
    assert host.told(1) == ["kill"]
    host.life(1).ended("SIGKILL")
    assert host.news()[-1] == "failed: not ready within 30 s (workersStartTimeout)"


def test_noRoomForAProcess(loggedErrors: list[LogEvent]) -> None:
    """A process that can't be started is one that has failed."""
    host = Host()
    host.failing = OSError(11, "Resource temporarily unavailable")
    host.slots.start()
    assert host.news()[-1] == "failed: cannot be started (Resource temporarily unavailable)"
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_backoff() -> None:
    """A slot waits longer each time, up to 30 s, and begins anew after a minute of being ready."""
    host = Host(1)
    host.running()
    for delay in (*BACKOFF, 30.0, 30.0):
        life = host.lives[-1]
        life.ended("SIGSEGV")
        assert host.news() == [f"ended {life.number}: SIGSEGV, unexpected, {delay}"]
        if delay:
            host.clock.advance(delay - 0.5)
            assert host.news() == []
        host.clock.advance(0.5)
        assert host.lives[-1].number == life.number + 1
        host.news()
    host.lives[-1].ready()
    host.clock.advance(59)
    host.lives[-1].pong()
    host.lives[-1].ended("SIGSEGV")
    assert host.news()[-1].endswith("30.0")
    host.clock.advance(30)
    host.lives[-1].ready()
    for _ in range(60):
        host.clock.advance(1)
        host.lives[-1].pong()
    host.lives[-1].ended("SIGSEGV")
    assert host.news()[-1].endswith(", 0.0")
    host.slots.stop()
    assert host.clock.getDelayedCalls() == []


def test_hang() -> None:
    """A worker that doesn't answer is killed; one that does isn't, and a pause of the parent kills nobody."""
    host = Host(1)
    host.running()
    for _ in range(100):
        host.clock.advance(5)
        assert host.told(1) == ["ping"]
        host.life(1).pong()
    # The parent stood still: it is late for one look, not for many.
    host.clock.advance(5)
    host.clock.advance(1000)
    assert host.news() == []
    host.life(1).pong()
    host.clock.pump([5] * 5)
    assert host.news() == ["kill 1: hung: no answer for 20 s"]
    assert host.told(1)[-1] == "abort"
    host.life(1).pong()
    host.clock.advance(ABORT_GRACE)
    assert host.told(1) == ["kill"]
    host.life(1).ended("SIGKILL")
    assert host.news() == ["ended 1: SIGKILL, unexpected, 0.0"]
    host.slots.stop()
    assert host.clock.getDelayedCalls() == []


def test_neverHung() -> None:
    """Without workersHangTimeout nobody is asked."""
    host = Host(1, Patience(30.0, None, 5.0))
    host.running()
    host.clock.advance(10000)
    assert host.told(1) == []
    assert host.life(1).state is State.READY
    host.slots.stop()
    host.life(1).ended("status 0")


def test_stop() -> None:
    """All drain, also one that is starting; a slot that waits is done; the second signal hurries them."""
    host = Host(3)
    host.running()
    host.life(1).ended("SIGKILL")
    host.clock.advance(0)
    host.life(2).ended("SIGKILL")
    host.life(4).ended("SIGKILL")
    host.news()
    # Slot 0 waits for a second; slot 1 is about to start; slot 2 is ready.
    host.clock.advance(0)
    host.news()
    host.slots.stop()
    host.slots.stop()
    assert host.news() == []
    assert host.told(3) == ["drain"]
    assert host.told(5) == ["drain"]
    host.slots.hurry()
    assert host.told(3) == host.told(5) == ["hurry"]
    host.life(3).ended("status 0")
    host.clock.advance(HURRY_GRACE)
    assert host.news() == ["ended 3: status 0, expected, None", "kill 5: not ended within 5 s"]
    assert host.told(5) == ["kill"]
    host.life(5).ended("SIGKILL")
    assert host.news()[-1] == "all ended"
    assert host.clock.getDelayedCalls() == []


def test_drainTakesTooLong() -> None:
    """What doesn't drain in its time is killed."""
    host = Host(1)
    host.running()
    host.slots.stop()
    host.clock.advance(5 + DRAIN_GRACE)
    assert host.told(1) == ["drain", "kill"]
    host.life(1).ended("SIGKILL")
    assert host.news()[-1] == "all ended"


def test_stopsDuringTheStart() -> None:
    """The first drains too, and is no failure."""
    host = Host()
    host.slots.start()
    host.slots.stop()
    host.life(1).ready()
    assert host.told(1) == ["drain"]
    host.life(1).ended("status 0")
    assert host.news() == ["start 1 in 0: old", "ended 1: status 0, expected, None", "all ended"]


def test_reload() -> None:
    """Slot by slot: a new one is ready before its old one drains. It is over when the old ones have ended."""
    host = Host()
    host.running()
    host.slots.reload(lambda: "new")
    assert host.news() == ["start 3 in 0: new"]
    assert host.told(1) == []
    host.life(3).ready()
    assert host.news() == ["ready 3", "start 4 in 1: new"]
    assert host.told(1) == ["drain"]
    assert host.told(2) == []
    host.life(4).ready()
    assert host.told(2) == ["drain"]
    host.life(2).ended("status 0")
    assert host.news() == ["ready 4", "ended 2: status 0, expected, None"]
    host.life(1).ended("status 0")
    assert host.news() == ["ended 1: status 0, expected, None", "reloaded: None"]
    # What starts later is new as well.
    host.life(3).ended("SIGKILL")
    host.clock.advance(0)
    assert host.news()[-1] == "start 5 in 0: new"
    host.slots.stop()


def test_reloadFails() -> None:
    """Settings that can't be read, or a first new worker that ends, leave all as it is."""
    host = Host()
    host.running()

    def broken() -> str:
        raise ValueError("line 3 is no TOML")

    host.slots.reload(broken)
    assert host.news() == ["reloaded: line 3 is no TOML"]
    host.slots.reload(lambda: "new")
    host.life(3).problem = "--app x: failed"
    host.life(3).ended("status 1")
    assert host.news()[1:] == ["reloaded: --app x: failed", "ended 3: status 1, unexpected, None"]
    assert host.told(1) == host.told(2) == []
    host.life(1).ended("SIGKILL")
    host.clock.advance(0)
    assert host.news()[-1] == "start 4 in 0: old"
    host.life(4).ready()
    # The next one may do better.
    host.slots.reload(lambda: "newer")
    assert host.news()[-1] == "start 5 in 0: newer"
    host.slots.stop()


def test_reloadFailsLater() -> None:
    """A later new worker that ends leaves its slot as it is, and the reload comes to its end."""
    host = Host()
    host.running()
    host.slots.reload(lambda: "new")
    host.life(3).ready()
    host.life(1).ended("status 0")
    host.news()
    logged: list[Any] = []
    host.slots._log = type("Log", (), {"error": lambda self, *args, **fields: logged.append(fields)})()
    host.life(4).ended("SIGSEGV")
    assert logged == [{"slot": 1, "problem": "its worker has ended: SIGSEGV"}]
    assert host.news() == ["ended 4: SIGSEGV, unexpected, None", "reloaded: None"]
    assert host.told(2) == []
    host.slots.stop()


def test_reloadTwice() -> None:
    """During a reload, or the start, others are remembered as one, which reads the settings when it begins."""
    host = Host(1)
    host.slots.start()
    host.slots.reload(lambda: "second")
    host.slots.reload(lambda: "third")
    host.news()
    host.life(1).ready()
    assert host.news() == ["ready 1", "start 2 in 0: third"]
    host.slots.reload(lambda: "fourth")
    host.life(2).ready()
    assert host.news() == ["ready 2"]
    host.life(1).ended("status 0")
    assert host.news() == ["ended 1: status 0, expected, None", "reloaded: None", "start 3 in 0: fourth"]
    host.slots.stop()


def test_crashesDuringAReload() -> None:
    """An old one that dies is not started again if its successor is on its way; one that waits starts at once."""
    host = Host()
    host.running()
    host.slots.reload(lambda: "new")
    host.life(1).ended("SIGKILL")
    assert host.news() == ["start 3 in 0: new", "ended 1: SIGKILL, unexpected, None"]
    host.life(2).ended("SIGKILL")
    host.clock.advance(0)
    host.life(4).ended("SIGKILL")
    assert host.news()[-1] == "ended 4: SIGKILL, unexpected, 1.0"
    host.life(3).ready()
    assert host.news() == ["ready 3", "start 5 in 1: new"]
    host.life(5).ready()
    assert host.news() == ["ready 5", "reloaded: None"]
    host.slots.stop()


def test_successorDiesToo() -> None:
    """Then the slot waits, as it does when one dies without a reload, and runs what it ran."""
    host = Host()
    host.running()
    host.slots.reload(lambda: "new")
    host.life(1).ended("SIGKILL")
    host.life(3).ended("SIGSEGV")
    assert host.news()[-1] == "ended 3: SIGSEGV, unexpected, 0.0"
    host.clock.advance(0)
    assert host.news() == ["start 4 in 0: old"]
    host.slots.stop()


def test_stopsDuringAReload() -> None:
    """Old and new drain, and nothing more begins."""
    host = Host()
    host.running()
    host.slots.reload(lambda: "new")
    host.slots.reload(lambda: "newer")
    host.slots.stop()
    assert [host.told(each) for each in (1, 2, 3)] == [["drain"]] * 3
    for each in (3, 1, 2):
        host.life(each).ended("status 0")
    assert [each for each in host.news() if not each.startswith("ended")] == ["start 3 in 0: new", "all ended"]
    assert host.clock.getDelayedCalls() == []
