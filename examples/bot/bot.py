"""
A bot in the chat of examples/chat: a program that is a client.

    python examples/bot/bot.py                                # the chat at http://127.0.0.1:3000
    python examples/bot/bot.py http://127.0.0.1:8080          # another one
"""

from __future__ import annotations

import json
import random
import sys
from datetime import UTC, datetime
from typing import Any

from twisted.application.internet import backoffPolicy
from twisted.internet import task
from twisted.internet.defer import Deferred

from engineio_twisted import OptionError
from engineio_twisted.client import Client, ConnectionFailed

NAME = "Bot"
HELP = "I know !help, !roll, !time and !who."


def answerTo(text: str, members: list[str]) -> str | None:
    """Return what the bot says to a message, or None for nothing."""
    match text.split():
        case ["!help", *_]:
            return HELP
        case ["!time", *_]:
            return f"It is {datetime.now(UTC):%H:%M} UTC."
        case ["!who", *_]:
            return f"{len(members)} here: {', '.join(sorted(members))}"
        case ["!roll", *_]:
            return f"{random.randint(1, 6)}"  # noqa: S311 (a game)
    # Also to its own kind: two bots must not answer each other.
    return None


class Bot:
    """The bot, in one session after the other."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client: Client | None = None
        self.members: list[str] = []
        self.problem = ""
        # Proves after a lost connection that it is the same bot, whose old one the chat may still consider open.
        self.key: str | None = None

    async def run(self, reactor: Any) -> None:
        """Be in the chat until Ctrl-C, and come back whenever the connection is lost."""
        delays, failures = backoffPolicy(), 0
        while True:
            # A client is one session. What the last one could not send was dropped with it.
            self.client = client = Client(self.url, reactor=reactor)
            client.on("message", self.heard)
            try:
                await client.connect()
            except ConnectionFailed as failure:
                if self.key is None:
                    sys.exit(f"{self.url}: {failure.type}: {failure}")
                failures += 1
            else:
                failures = 0
                self.send(type="join", name=NAME, key=self.key)
                await client.whenClosed()
                if self.problem:
                    sys.exit(f"{self.url}: {self.problem}")
            await task.deferLater(reactor, delays(failures))

    async def stop(self) -> None:
        """Leave: what was said goes out first."""
        if self.client is not None:
            await self.client.close()

    def send(self, **message: object) -> None:
        """Send a message to the chat."""
        assert self.client is not None
        self.client.send(json.dumps(message))

    def heard(self, data: str | bytes) -> None:
        """Take a message of the chat; its README lists them."""
        assert self.client is not None
        message = json.loads(data)
        match message["type"]:
            case "welcome":
                self.key, self.members = message["key"], message["members"]
                print(f"Bot: answers in the chat at {self.url}", flush=True)
            case "joined":
                self.members.append(message["name"])
            case "left":
                self.members.remove(message["name"])
            case "said":
                answer = answerTo(message["text"], self.members)
                if answer is not None:
                    self.send(type="say", text=answer)
            case "error":
                # Its name is taken, or the room is full.
                self.problem = message["message"]
                self.client.close()


async def main(reactor: Any, url: str = "http://127.0.0.1:3000") -> None:
    """Run the bot until Ctrl-C."""
    bot = Bot(url)
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(bot.stop()))
    try:
        await bot.run(reactor)
    except OptionError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
