"""
A million numbered messages through a network that cuts connections all the time, resumed and plain.

A client and a server of this package, in one process, with a proxy between them. With resume each message has to arrive
once and in order; without it each session that is cut has to end in order.

In the environment: SOAK_MESSAGES, SOAK_SECONDS (for each of the two), SOAK_SEED.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from ..kit.lanes import Lane, Outcome, run

MESSAGES = int(os.environ.get("SOAK_MESSAGES", "1000000"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "1200"))
SEED = int(os.environ.get("SOAK_SEED", "5"))

SHARES = (
    # The transports, hundredths of the messages, messages of a session, and after how many bytes it is cut at most.
    (("websocket",), 44, 20_000, 400_000),
    (("websocket",), 10, 2000, 30_000),
    (("polling", "websocket"), 40, 5000, 200_000),
    (("polling", "websocket"), 4, 500, 8000),
    (("polling",), 2, 1000, 60_000),
)
"""Polling alone takes the most time for a message."""


def lanesFor(messages: int) -> list[Lane]:
    """Return lanes that exchange so many messages, half of them in each direction."""
    return [Lane(transports, max(1, messages * share // 200), each, cut) for transports, share, each, cut in SHARES]


def report(what: str, outcome: Outcome, seconds: float) -> bool:
    """Print what has become of the messages; return whether that is right."""
    print(
        f"{what}: {outcome.arrived} messages, {len(outcome.wrong)} wrong, {outcome.connections} connections, "
        f"{outcome.cut} cut, {outcome.resumed} returns, sessions that ended before their time: "
        f"{sum(outcome.ended.values())} {dict(outcome.ended)}; {seconds:.0f} s"
    )
    for each in outcome.wrong[:10]:
        print(f"  {each}")
    return not outcome.wrong


async def main() -> None:
    isRight = True
    for what, isResumed in (("resumed", True), ("plain", False)):
        began = time.monotonic()
        outcome = await run(lanesFor(MESSAGES), isResumed, SEED, SECONDS)
        isRight &= report(what, outcome, time.monotonic() - began)
    if not isRight:
        sys.exit(1)


if __name__ == "__main__":

    def begin(_: Any) -> Any:
        return ensureDeferred(main())

    react(begin)
