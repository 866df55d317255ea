r"""
A chat by lines: the same Twisted protocol over TCP and over Engine.IO sessions, in one room.

    python examples/lines/lines.py                                             # sessions on port 3000, TCP on port 4000
    python examples/lines/lines.py 'engineio:tcp\:8080:text=true' tcp:4000      # any endpoint descriptions of Twisted
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

# Sessions as text, so that a page can show messages as they come.
ENDPOINTS = (r"engineio:tcp\:3000:text=true", "tcp:4000:interface=127.0.0.1")
MAX_NAME = 20


class Visitor(LineOnlyReceiver):
    """A visitor of the room, before and after giving a name. The class does not know how the client is connected."""

    # Lines that end with \r\n, as those of telnet, are accepted too.
    delimiter = b"\n"
    MAX_LENGTH = 1000
    name = ""

    def __init__(self, room: list[Visitor]) -> None:
        self.room = room

    def connectionMade(self) -> None:
        self.say("What is your name?")

    def lineReceived(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if self.name:
            self.tell(f"{self.name}: {text}")
        elif not text or len(text) > MAX_NAME or text in [each.name for each in self.room]:
            self.say(f"That won't do: a name of up to {MAX_NAME} characters that nobody else has.")
        else:
            self.say(f"Hello {text}. Here are: {', '.join(each.name for each in self.room) or 'nobody'}")
            self.name = text
            self.room.append(self)
            self.tell(f"* {self.name} comes in")

    def connectionLost(self, reason: Any = None) -> None:
        if self.name:
            self.room.remove(self)
            self.tell(f"* {self.name} leaves")

    def say(self, text: str) -> None:
        """Send a line to this visitor."""
        self.sendLine(text.encode())

    def tell(self, text: str) -> None:
        """Send a line to all other visitors."""
        for each in list(self.room):
            if each is not self:
                each.say(text)


class Room(Factory):
    """One room for all connections, TCP and sessions."""

    noisy = False

    def __init__(self) -> None:
        self.visitors: list[Visitor] = []

    def buildProtocol(self, address: IAddress | None) -> Visitor:
        return Visitor(self.visitors)


async def main(reactor: Any, *endpoints: str) -> None:
    """Serve until Ctrl-C."""
    room = Room()
    for endpoint in endpoints or ENDPOINTS:
        try:
            port = await serverFromString(reactor, endpoint).listen(room)
        except (ValueError, CannotListenError) as error:
            sys.exit(f"{endpoint}: {error}")
        # Clients are told that the server stops.
        reactor.addSystemEventTrigger("before", "shutdown", port.stopListening)
        address = port.getHost()
        scheme = "http" if endpoint.startswith("engineio:") else "tcp"
        print(f"Lines: {scheme}://127.0.0.1:{address.port}" if hasattr(address, "port") else endpoint, flush=True)
    await Deferred()


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
