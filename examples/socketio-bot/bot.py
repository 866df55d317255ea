"""
A bot in the chat of examples/socketio-chat: a program that is a client, with python-socketio and asyncio.

    python examples/socketio-bot/bot.py                                   # Lobby at http://127.0.0.1:3000
    python examples/socketio-bot/bot.py http://127.0.0.1:8080 Tea         # another server, another room
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import socketio

NAME = "Bot"
HELP = "I know !help, !roll with a number of sides, !time and !who."
MOST_SIDES = 1000


def answerTo(text: str, members: set[str]) -> str | None:
    """Return what the bot says to a message, or None for nothing."""
    match text.split():
        case ["!help", *_]:
            return HELP
        case ["!time", *_]:
            return f"It is {datetime.now(UTC):%H:%M} UTC."
        case ["!who", *_]:
            return f"{len(members)} here: {', '.join(sorted(members))}"
        case ["!roll"]:
            return f"{random.randint(1, 6)}"  # noqa: S311 (a game)
        case ["!roll", sides] if sides.isdecimal() and len(sides) < 5 and 1 <= int(sides) <= MOST_SIDES:
            return f"{random.randint(1, int(sides))}"  # noqa: S311 (a game)
        case ["!roll", *_]:
            return f"!roll takes a number of sides from 1 to {MOST_SIDES}."
    # Also to its own kind: two bots must not answer each other.
    return None


async def run(url: str, room: str) -> None:
    """Answer in a room until Ctrl-C. The client connects again by itself."""
    client = socketio.AsyncClient()
    members: set[str] = set()
    problem = ""

    async def connect_error(why: Any) -> None:
        # The refusal of the chat, with its message, or the text of what is wrong with the connection.
        nonlocal problem
        problem = why["message"] if isinstance(why, dict) else str(why)

    async def welcome(_name: str, _rooms: list[str]) -> None:
        nonlocal problem
        # With each connection, as the server has forgotten the one before.
        answer = await client.call("join", room)
        if "error" in answer:
            problem = answer["error"]["message"]
            await client.disconnect()
            return
        problem = ""
        members.clear()
        members.update(answer["members"])
        print(f"Bot: answers in {answer['room']} at {url}", flush=True)

    async def joined(_room: str, name: str) -> None:
        members.add(name)

    async def left(_room: str, name: str) -> None:
        members.discard(name)

    async def said(where: str, message: dict[str, Any]) -> None:
        reply = answerTo(message["text"], members)
        if reply is not None:
            answer = await client.call("say", (where, reply))
            if "error" in answer:
                print(f"not said: {answer['error']['message']}", file=sys.stderr)

    for handler in (connect_error, welcome, joined, left, said):
        client.on(handler.__name__, handler)
    try:
        # With the key it may come back before the server has noticed that its connection is lost.
        await client.connect(url, auth={"name": NAME, "key": secrets.token_urlsafe(16)}, transports=["websocket"])
    except socketio.exceptions.ConnectionError:
        await client.disconnect()
    else:
        await client.wait()
    if problem:
        sys.exit(f"{url}: {problem}")


def main(url: str = "http://127.0.0.1:3000", room: str = "Lobby") -> None:
    """Run the bot."""
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(run(url, room))


if __name__ == "__main__":
    main(*sys.argv[1:])
