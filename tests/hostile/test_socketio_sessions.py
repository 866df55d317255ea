"""Sessions of Socket.IO at random: whatever is said, and whatever happens, nothing is raised and nothing is left."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from twisted.logger import LogEvent

from ..kit.socketio_sessions import Sessions, play, scriptOf

pytestmark = pytest.mark.no_cover

SEEDS = range(60)


def test_sessions(loggedErrors: list[LogEvent], monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts of each setting are played; all that can come of a session does."""
    seen: Counter[str] = Counter()
    end = Sessions.end

    def counted(sessions: Sessions) -> None:
        stats = sessions.kit.io.stats()
        for name in ("events", "invalidPackets", "refused", "lateAcks", "recovered"):
            seen[name] += getattr(stats, name)
        end(sessions)

    monkeypatch.setattr(Sessions, "end", counted)
    for seed in SEEDS:
        try:
            seen["sessions"] += play(scriptOf(random.Random(seed)))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert min(seen.values()) > 0
    assert seen["sessions"] > 300
    assert seen["events"] > 300
    loggedErrors.clear()


def test_theSameAgain() -> None:
    """A seed always makes the same script."""
    scripts: list[Any] = [scriptOf(random.Random(seed)) for seed in SEEDS]
    assert scripts == [scriptOf(random.Random(seed)) for seed in SEEDS]
    assert len(set(scripts)) == len(SEEDS)
    assert {each[0] & 3 for each in scripts} == {0, 1, 2, 3}
