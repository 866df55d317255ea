"""
A chat room for the browser, in one process and with nothing to configure.

    npm ci                                                         # once, in this folder: the client for the page
    python examples/chat/chat.py                                   # port 3000, all interfaces
    python examples/chat/chat.py tcp:8080:interface=127.0.0.1      # any endpoint description of Twisted

Messages are JSON objects in text packets; README.md lists them. Three layers, each of which knows only the one
above it here: `Room` (members and messages), `Visitor` (what one connection may ask for), and
`application` and `serve`, the few lines that join them to the network.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
import unicodedata
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.web.static import File

from engineio_twisted import Server, Site, Socket

HERE = Path(__file__).resolve().parent
CLIENT = HERE / "node_modules" / "engine.io-client" / "dist"

# Everything that a client can make grow has a limit. The limits also bound the first message to a new member: all
# names and the whole history.
NAME_LIMIT = 24  # characters: fits beside a message on a phone
TEXT_LIMIT = 1000  # characters: a long paragraph
MEMBER_LIMIT = 100  # a message costs one send for each member
HISTORY_LIMIT = 50  # messages: a few screens

# Bytes of one incoming message. The largest legal one is TEXT_LIMIT characters outside the basic plane, which
# JSON may write with 12 bytes each. A larger one is not parsed.
MESSAGE_LIMIT = 16 * 1024

#: Takes one message for a peer, as JSON text.
Send = Callable[[str], object]


class Refused(Exception):
    """A request that cannot be served: `code` is for the client's program, `message` for its user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@attrs.define(eq=False)
class Member:
    """A member of the room."""

    name: str
    send: Send
    # Proves on a later join that it is the same person, whose old connection the server may still consider open.
    key: str = attrs.field(factory=lambda: secrets.token_urlsafe(16), repr=False)


class Room:
    """
    The members of the room, and what was said.

    It knows nothing of networks: a member is reached through the `send` given when it joined. `now` tells the
    time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lastTime = 0
        self._members: dict[str, Member] = {}
        self._history: deque[dict[str, object]] = deque(maxlen=HISTORY_LIMIT)

    @property
    def names(self) -> list[str]:
        """The names of the members, in the order in which they joined."""
        return [member.name for member in self._members.values()]

    def join(self, name: object, key: object, send: Send) -> Member:
        """
        Add a member, greet it, and tell the others.

        A client that returns with the `key` of an earlier greeting replaces the member of that name. The others
        are not told, because for them nobody came or went.
        """
        name = cleanName(name)
        place = _place(name)
        present = self._members.get(place)
        member = Member(name, send)
        if present is None:
            if len(self._members) >= MEMBER_LIMIT:
                raise Refused("room-full", f"The room is full: {MEMBER_LIMIT} people are here. Try again later.")
            self._tellAll(type="joined", name=name, time=self._stamp())
        elif _sameKey(present.key, key):
            member = attrs.evolve(present, send=send)
            present.send(_encode(type="replaced"))
        else:
            raise Refused("name-taken", f"Somebody here is called {present.name} already. Choose another name.")
        self._members[place] = member
        send(_encode(type="welcome", name=member.name, key=member.key, members=self.names, history=[*self._history]))
        return member

    def say(self, member: Member, text: object) -> None:
        """Send what a member says to all members, the sender included."""
        if not self.has(member):
            raise Refused("not-joined", "Join with a name first.")
        if not isinstance(text, str) or not text.strip():
            raise Refused("text-empty", "There is nothing to say in an empty message.")
        if len(text) > TEXT_LIMIT:
            raise Refused("text-too-long", f"A message has at most {TEXT_LIMIT} characters; this has {len(text)}.")
        said = {"type": "said", "name": member.name, "text": text.strip(), "time": self._stamp()}
        self._history.append(said)
        self._tellAll(**said)

    def leave(self, member: Member) -> None:
        """Remove a member and tell the others. A member that has left already or was replaced changes nothing."""
        if self.has(member):
            del self._members[_place(member.name)]
            self._tellAll(type="left", name=member.name, time=self._stamp())

    def has(self, member: Member) -> bool:
        """Return whether `member` is in the room, and was not replaced."""
        return self._members.get(_place(member.name)) is member

    def _tellAll(self, **message: object) -> None:
        # Encoded once. The list is copied, because a send may find a lost connection and remove a member.
        text = _encode(**message)
        for member in [*self._members.values()]:
            member.send(text)

    def _stamp(self) -> int:
        """
        Milliseconds since 1970, always more than the last: a page that lost its connection knows by the time of
        the last message it showed which ones of the history are new to it.
        """
        self._lastTime = max(int(self._now() * 1000), self._lastTime + 1)
        return self._lastTime


class Visitor:
    """One connection: turns its messages into calls on the room, and refusals into messages that explain them."""

    def __init__(self, room: Room, send: Send) -> None:
        self._room = room
        self._send = send
        self._member: Member | None = None

    def receive(self, data: str | bytes) -> None:
        """Handle a message. An invalid one is answered with an error, and affects no other member."""
        try:
            self._obey(_decode(data))
        except Refused as refused:
            self._send(_encode(type="error", code=refused.code, message=refused.message))

    def leave(self) -> None:
        """Leave the room, if this visitor is in it. Called when the connection has closed."""
        if self._member is not None:
            self._room.leave(self._member)
            self._member = None

    def _obey(self, message: dict[str, object]) -> None:
        match message.get("type"):
            case "join":
                if self._member is not None and self._room.has(self._member):
                    raise Refused("already-joined", f"You are here already, as {self._member.name}.")
                self._member = self._room.join(message.get("name"), message.get("key"), self._send)
            case "say":
                if self._member is None:
                    raise Refused("not-joined", "Join with a name first.")
                self._room.say(self._member, message.get("text"))
            case "leave":
                self.leave()
            case _:
                raise Refused("unknown-type", "The type of a message is one of join, say, leave.")


def cleanName(name: object) -> str:
    """Return `name` as the room shows it, or raise `Refused`."""
    if not isinstance(name, str) or not name.strip():
        raise Refused("name-empty", "Enter a name.")
    # Composed, so that two encodings of the same letters are one name, and with single spaces.
    cleaned = " ".join(unicodedata.normalize("NFC", name).split())
    if len(cleaned) > NAME_LIMIT:
        raise Refused("name-too-long", f"A name has at most {NAME_LIMIT} characters; this has {len(cleaned)}.")
    if not cleaned.isprintable():
        # Invisible characters could make two names look the same, or reverse the text beside them.
        raise Refused("name-invisible", "A name may hold only characters that can be seen.")
    return cleaned


def _place(name: str) -> str:
    """Return a key that is equal for names that look the same to a reader: `ada` and `Ada`, `ﬁn` and `fin`."""
    return unicodedata.normalize("NFKC", name).casefold()


def _sameKey(expected: str, key: object) -> bool:
    # In constant time, so that a guess reveals nothing. The function takes only ASCII.
    return isinstance(key, str) and key.isascii() and secrets.compare_digest(expected, key)


def _encode(**message: object) -> str:
    # ASCII, the default: a client may have sent half of a surrogate pair, which UTF-8 cannot encode.
    return json.dumps(message, separators=(",", ":"))


def _decode(data: str | bytes) -> dict[str, object]:
    if not isinstance(data, str):
        raise Refused("bad-message", "A message has to be text, and this is binary.")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):  # the latter for thousands of nested brackets
        raise Refused("bad-message", "A message has to be JSON, and this is not.") from None
    if not isinstance(message, dict):
        raise Refused("bad-message", "A message has to be a JSON object.")
    return message


def application(server: Server) -> None:
    """Open one room on `server`."""
    room = Room()

    @server.on("connection")
    def connected(socket: Socket) -> None:
        visitor = Visitor(room, socket.send)
        socket.on("message", visitor.receive)

        @socket.on("close")
        def closed(_reason: str, _description: object) -> None:
            visitor.leave()


def serve(endpoint: str, reactor: Any) -> Server:
    """
    Serve the page and the chat from one port.

    The port belongs to the site, not to the Engine.IO server: to stop all of it, close the server and the port,
    which `server.listening` is a Deferred of.
    """
    root = File(str(HERE / "public"))
    root.putChild(b"engine.io-client", File(str(CLIENT)))
    site = Site(root)
    # The server gets the requests to /engine.io/, and the site all others.
    server = Server(site, reactor=reactor, maxHttpBufferSize=MESSAGE_LIMIT)
    application(server)
    server.listening = serverFromString(reactor, endpoint).listen(site)
    return server


async def run(reactor: Any, endpoint: str) -> None:
    """Serve until Ctrl-C."""
    try:
        server = serve(endpoint, reactor)
        port = await server.listening
    except (ValueError, CannotListenError) as error:
        sys.exit(str(error))
    # Clients are told that the server stops, instead of noticing by a timeout.
    reactor.addSystemEventTrigger("before", "shutdown", server.close)
    address = port.getHost()
    where = f"http://127.0.0.1:{address.port}/" if hasattr(address, "port") else endpoint
    print(f"Chat: open {where} in two windows of a browser", flush=True)
    await Deferred()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="A chat room for the browser.")
    parser.add_argument("endpoint", nargs="?", default="tcp:3000", help="where to listen (default: %(default)s)")
    arguments = parser.parse_args()
    if not CLIENT.is_dir():
        sys.exit(f"The client for the page is missing: run `npm ci` in {HERE}")
    task.react(run, [arguments.endpoint])


if __name__ == "__main__":
    main()
