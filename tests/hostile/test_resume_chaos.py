"""Numbered messages between our client and our server, through a network that cuts each connection at some byte."""

from __future__ import annotations

import attrs
import pytest
import pytest_twisted

from ..kit.lanes import Lane, Outcome, Stream, run
from ..soak.resume import lanesFor

pytestmark = [pytest.mark.no_cover, pytest.mark.sockets]

DEADLINE = 60.0

LANES = [
    Lane(["websocket"], 1500, 1500, 20_000),
    Lane(["polling", "websocket"], 1000, 500, 8000),
    Lane(["polling"], 200, 200, 30_000),
]


@pytest_twisted.ensureDeferred
async def test_resumed() -> None:
    """Nothing is lost, doubled or out of order, on whichever transport, and no session ends."""
    outcome = await run(LANES, True, 3, DEADLINE)
    assert outcome.wrong == []
    assert outcome.arrived == 2 * sum(each.count for each in LANES)
    assert outcome.resumed > 10
    # A handshake whose response is cut opens no session that anybody could come back to.
    assert {each for each in outcome.ended if not each.startswith("not opened")} == set()


@pytest_twisted.ensureDeferred
async def test_plain() -> None:
    """Without it sessions end, in order and for a reason that is named, and nothing of them is left."""
    lanes = [attrs.evolve(each, count=each.count // 5) for each in LANES]
    outcome = await run(lanes, False, 3, DEADLINE)
    assert outcome.wrong == []
    assert outcome.resumed == 0
    assert sum(outcome.ended.values()) > 5


def test_itIsNoticed() -> None:
    """A message that comes twice, or not at all, is."""
    for numbers, problem in (([0, 0], "instead of 1"), ([0, 2], "instead of 1")):
        outcome = Outcome()
        stream = Stream(outcome, "end", 3, 1, lambda: None)
        for number in numbers:
            stream.came(stream.message(number))
        assert len(outcome.wrong) == 1
        assert problem in outcome.wrong[0]


def test_theLongOne() -> None:
    """`make soak-resume` has a million messages by default."""
    assert 990_000 <= 2 * sum(each.count for each in lanesFor(1_000_000)) <= 1_000_000
