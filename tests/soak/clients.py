"""
The clients of the soak that behave, and are those of the package: a few of all sessions, beside those of L{.load}.

    python -m tests.soak.clients PORT SEED FIRST SECONDS RATE

The arguments are those of L{.load}, and so is what it prints; in the end nothing of any client may be left.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.task import deferLater, react
from twisted.logger import LogEvent, LogLevel, globalLogBeginner

from engineio_twisted.client import Client, ConnectionFailed, FailureType

from .load import HOST, MOST_OPENING, MOST_PROBLEMS, TOO_LONG
from .plan import COMPLETE, FROM_CLIENT, FROM_SERVER, Checked, message, planOf

reactor: Any = installed

TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": ["polling", "websocket"]}
REASONS = {"client": "forced close", "client early": "forced close"}
"""By which reason a session ends for its client; else it is C{transport close}."""
TURN = 0.01
"""Seconds after which it is looked whether new sessions are due."""


class Session:
    """One session, as its plan wants it."""

    def __init__(self, clients: Clients, serial: int) -> None:
        self.clients = clients
        self.plan = plan = planOf(clients.seed, serial)
        self.checked = Checked(serial, FROM_SERVER)
        self.said = 0
        self.isOpen = False
        self.timers = [reactor.callLater(TOO_LONG, self.tooLong)]
        self.problem = ""
        self.client = client = Client(
            f"http://{HOST}:{clients.port}",
            transports=TRANSPORTS[plan.way],
            EIO=plan.revision,
            forceBase64=plan.base64,
            query={"serial": serial, "client": plan.fromClient, "server": plan.fromServer, "end": plan.end},
        )
        client.on("open", self.opened)
        client.on("message", self.received)
        client.on("upgrade", self.upgraded)
        client.on("upgradeError", self.upgradeFailed)
        client.on("error", lambda error: self.failed(f"raised: {error!r}"))
        client.on("heartbeat", self.pinged)
        client.on("close", self.closed)
        client.connect().addErrback(self.refused)

    def refused(self, failure: Any) -> None:
        # One that has nothing to say leaves while it comes.
        if failure.value.type is not FailureType.CLOSED or self.plan.fromClient:
            self.failed(f"{failure.value!r}")

    def opened(self) -> None:
        self.isOpen = True
        self.clients.opening -= 1
        self.clients.totals["opened"] += 1
        self.talk(0)

    def upgraded(self, transport: object) -> None:
        self.clients.totals["upgraded"] += 1

    def upgradeFailed(self, failure: ConnectionFailed) -> None:
        # The session may have ended meanwhile, as was planned.
        if not self.plan.end.startswith("server"):
            self.failed(f"the upgrade failed: {failure}")

    def pinged(self) -> None:
        self.clients.totals["pings"] += 1

    def later(self, seconds: float, what: Any, *arguments: object) -> None:
        self.timers.append(reactor.callLater(seconds, what, *arguments))

    def talk(self, number: int) -> None:
        """Say what is to be said, from a delay on."""
        if number < len(self.plan.delays):
            delay, count = self.plan.delays[number]
            self.later(delay, self.say, number, count)
        else:
            self.perhapsLeave()

    def say(self, number: int, count: int) -> None:
        for _ in range(count):
            self.client.send(message(self.plan.serial, FROM_CLIENT, self.said))
            self.said += 1
        self.talk(number + 1)

    def received(self, data: str | bytes) -> None:
        self.checked.take(data)
        self.perhapsLeave()

    def perhapsLeave(self) -> None:
        plan = self.plan
        if self.said == plan.fromClient and plan.end == "client early":
            self.client.close()
        elif plan.end == "client" and (self.said, self.checked.count) == (plan.fromClient, plan.fromServer):
            self.later(plan.linger, self.client.close)

    def failed(self, problem: str) -> None:
        self.problem = self.problem or problem

    def tooLong(self) -> None:
        self.failed(f"not over after {TOO_LONG} s")
        self.client.close(discard=True)

    def closed(self, reason: str, description: object) -> None:
        plan = self.plan
        for each in self.timers:
            try:
                each.cancel()
            except (AlreadyCalled, AlreadyCancelled):
                continue
        failure = self.client.failure
        # What is sent to a server that is closing the session is refused, which ends it here.
        isLate = plan.end.startswith("server") and failure is not None and failure.type is FailureType.REFUSED
        if reason != REASONS.get(plan.end, "transport close") and not isLate:
            self.failed(f"closed by {reason}: {description}")
        if "server" in COMPLETE[plan.end] and self.checked.count != plan.fromServer and not isLate:
            self.failed(f"{self.checked.count} of {plan.fromServer} messages came")
        # When it is gone, and not only over.
        self.client.close().addCallback(lambda _: self.clients.finished(self))


class Clients:
    """All sessions."""

    def __init__(self, port: int, seed: int) -> None:
        self.port, self.seed = port, seed
        self.live = self.opening = 0
        self.totals: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.ways: Counter[str] = Counter()
        self.problems: list[str] = []

    def report(self, problem: str) -> None:
        self.totals["problemCount"] += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)

    def logged(self, event: LogEvent) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            self.report(f"logged: {event.get('log_failure') or event.get('log_format')}")

    def finished(self, session: Session) -> None:
        plan = session.plan
        self.live -= 1
        self.opening -= not session.isOpen
        self.totals["sent"] += session.said
        self.totals["received"] += session.checked.count
        self.ends[plan.end] += 1
        self.ways[f"{plan.way}, revision {plan.revision}, our client"] += 1
        for each in filter(None, (session.problem, session.checked.problem)):
            self.report(f"our client of session {plan.serial} ({plan.way}, {plan.end}): {each}")

    async def soak(self, first: int, seconds: float, rate: float) -> dict[str, Any]:
        began = last = reactor.seconds()
        serial, mostLive, longest = first, 0, 0.0
        while (now := reactor.seconds()) < began + seconds or self.live:
            longest, last = max(longest, now - last), now
            while now < began + seconds and (serial - first) < (now - began) * rate and self.opening < MOST_OPENING:
                if planOf(self.seed, serial).isOurs:
                    self.live += 1
                    self.opening += 1
                    self.totals["sessions"] += 1
                    Session(self, serial)
                serial += 1
            mostLive = max(mostLive, self.live)
            await deferLater(reactor, TURN)
        left = [
            *reactor.getReaders(),
            *reactor.getWriters(),
            *filter(lambda call: call.active(), reactor.getDelayedCalls()),
        ]
        # What the reactor has for itself.
        left = [each for each in left if "twisted.internet" not in type(each).__module__ or hasattr(each, "func")]
        if left:
            self.report(f"left in the reactor of our clients: {left[:5]}")
        names = ("sessions", "opened", "upgraded", "pings", "sent", "received", "problemCount")
        return {
            **{name: self.totals[name] for name in names},
            "seconds": reactor.seconds() - began,
            "mostLive": mostLive,
            "longest": longest,
            "ends": self.ends,
            "ways": self.ways,
            "problems": self.problems,
        }


async def main(port: str, seed: str, first: str, seconds: str, rate: str) -> None:
    clients = Clients(int(port), int(seed))
    globalLogBeginner.beginLoggingTo([clients.logged], redirectStandardIO=False)
    print(json.dumps(await clients.soak(int(first), float(seconds), float(rate))))


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(*arguments)), sys.argv[1:])
