"""
A chat with rooms on Socket.IO: names, typing notices, acknowledged messages, lists of rooms and members.

    npm ci                                                           # once, in this folder: the client for the page
    python examples/socketio-chat/rooms.py                           # port 3000, all interfaces
    python examples/socketio-chat/rooms.py tcp:8080:interface=127.0.0.1

README.md lists the events. `application` is the chat; `serve` puts it on one site with the pages.
"""

from __future__ import annotations

import argparse
import functools
import secrets
import sys
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.web.static import File

from engineio_twisted import Site
from engineio_twisted.socketio import ConnectRefused, Socket, SocketIO, attach

HERE = Path(__file__).resolve().parent
CLIENT = HERE / "node_modules" / "socket.io-client" / "dist"
REACT = HERE / "react" / "dist"

# Everything that a client can make grow has a limit. There are at most as many rooms as people can be in.
NAME_LIMIT = 24  # characters of a name, of a person or a room
TEXT_LIMIT = 1000  # characters of a message
PEOPLE_LIMIT = 100  # an event for a room costs one send for each member
ROOMS_EACH = 5  # rooms that one person is in
HISTORY_LIMIT = 50  # messages that a room keeps for those who join

OPTIONS: dict[str, Any] = {
    # Bytes of one packet. The largest legal one is a message of TEXT_LIMIT characters, 12 bytes each at most.
    "maxHttpBufferSize": 16 * 1024,
    # A faster client is disconnected.
    "maxMessagesPerSecond": 50,
}
"""Options of the server, for `serve` and for the tests."""

Answer = dict[str, object]
"""What acknowledges an event."""


class Refused(ConnectRefused):
    """
    A request that cannot be served: `code` is for the client's program, `message` for its user.

    From a middleware the client gets both with `connect_error`; from a handler, see `explained`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, {"code": code})


@attrs.define
class Room:
    """A room with at least one member; the layer knows who they are."""

    name: str
    history: deque[Answer] = attrs.field(factory=lambda: deque(maxlen=HISTORY_LIMIT))


def explained(handler: Callable[..., Answer]) -> Callable[..., Answer]:
    """Acknowledge an event with `{"error": …}` if its handler refuses it."""

    @functools.wraps(handler)
    def handle(*arguments: Any) -> Answer:
        try:
            return handler(*arguments)
        except Refused as refused:
            return {"error": {**refused.data, "message": refused.message}}

    return handle


def cleanName(name: object, what: str) -> str:
    """Return a name as others see it, or raise `Refused`."""
    if not isinstance(name, str) or not name.strip():
        raise Refused("name-empty", f"Enter {what}.")
    # Composed, so that two encodings of the same letters are one name, and with single spaces.
    cleaned = " ".join(unicodedata.normalize("NFC", name).split())
    if len(cleaned) > NAME_LIMIT:
        raise Refused("name-too-long", f"A name has at most {NAME_LIMIT} characters; this has {len(cleaned)}.")
    if not cleaned.isprintable():
        # Invisible characters could make two names look the same, or reverse the text beside them.
        raise Refused("name-invisible", "A name may hold only characters that can be seen.")
    return cleaned


def cleanText(text: object) -> str:
    """Return the text of a message, or raise `Refused`."""
    if not isinstance(text, str) or not text.strip():
        raise Refused("text-empty", "There is nothing to say in an empty message.")
    if len(text) > TEXT_LIMIT:
        raise Refused("text-too-long", f"A message has at most {TEXT_LIMIT} characters; this has {len(text)}.")
    return text.strip()


def folded(name: str) -> str:
    """Return what is equal for names that look the same to a reader: `ada` and `Ada`, `ﬁn` and `fin`."""
    return unicodedata.normalize("NFKC", name).casefold()


def placeOf(room: object) -> str:
    """Return the layer's room for the name of a room. The prefix keeps it apart from ids, which are rooms too."""
    return f"room {folded(cleanName(room, 'the name of a room'))}"


def isSamePerson(old: Socket, new: Socket) -> bool:
    """Return whether a client has the key that another one with its name had."""
    known, given = old.auth.get("key"), new.auth.get("key")
    if not isinstance(known, str) or not isinstance(given, str) or not known:
        return False
    # In constant time, so that a guess reveals nothing.
    return secrets.compare_digest(known.encode(errors="replace"), given.encode(errors="replace"))


def application(io: SocketIO, now: Callable[[], float] = time.time) -> None:
    """Open the chat on `io`. `now` tells the time in seconds."""
    rooms: dict[str, Room] = {}
    lastTime = 0

    def stamp() -> int:
        # Milliseconds since 1970, always more than the last: a client that comes back knows by it what it has missed.
        nonlocal lastTime
        lastTime = max(int(now() * 1000), lastTime + 1)
        return lastTime

    def namesIn(place: str) -> list[str]:
        return sorted(each.data["name"] for each in io.rooms.get(place, ()))

    def roomNames() -> list[str]:
        return sorted(each.name for each in rooms.values())

    def roomOf(socket: Socket, room: object) -> tuple[str, Room]:
        place = placeOf(room)
        if place not in socket.rooms:
            raise Refused("not-in-room", "Join the room first.")
        return place, rooms[place]

    def hasLeft(socket: Socket, place: str) -> None:
        room = rooms[place]
        socket.to(place).emit("left", room.name, socket.data["name"])
        if not namesIn(place):
            del rooms[place]
            io.emit("rooms", roomNames())

    @io.use
    def admit(socket: Socket) -> None:
        name = cleanName(socket.auth.get("name"), "your name")
        others = [each for each in io.sockets.values() if folded(each.data["name"]) == folded(name)]
        if not others and len(io.sockets) >= PEOPLE_LIMIT:
            raise Refused("full", f"{PEOPLE_LIMIT} people are here. Try again later.")
        for other in others:
            if not isSamePerson(other, socket):
                raise Refused("name-taken", f"Somebody here is called {other.data['name']} already.")
            # A client that has lost its connection is back before the server has noticed the loss.
            other.disconnect()
        socket.data["name"] = name

    @io.on("connection")
    def connected(socket: Socket) -> None:
        socket.emit("welcome", socket.data["name"], roomNames())

    # Clients choose the arguments of events, and how many there are.

    @io.on("join")
    @explained
    def join(socket: Socket, room: object = None, *_: object) -> Answer:
        place = placeOf(room)
        if place not in socket.rooms:
            # Its id is one of them.
            if len(socket.rooms) > ROOMS_EACH:
                raise Refused("too-many-rooms", f"You are in {ROOMS_EACH} rooms. Leave one first.")
            isNew = place not in rooms
            socket.join(place)
            if isNew:
                rooms[place] = Room(cleanName(room, "the name of a room"))
                io.emit("rooms", roomNames())
            socket.to(place).emit("joined", rooms[place].name, socket.data["name"])
        return {"room": rooms[place].name, "members": namesIn(place), "history": [*rooms[place].history]}

    @io.on("leave")
    @explained
    def leave(socket: Socket, room: object = None, *_: object) -> Answer:
        place, _room = roomOf(socket, room)
        socket.leave(place)
        hasLeft(socket, place)
        return {}

    @io.on("say")
    @explained
    def say(socket: Socket, room: object = None, text: object = None, *_: object) -> Answer:
        place, here = roomOf(socket, room)
        said: Answer = {"name": socket.data["name"], "text": cleanText(text), "time": stamp()}
        here.history.append(said)
        socket.to(place).emit("said", here.name, said)
        # The sender knows by the acknowledgement that the others get it, and when it was said.
        return said

    @io.on("typing")
    @explained
    def typing(socket: Socket, room: object = None, *_: object) -> Answer:
        place, here = roomOf(socket, room)
        # Volatile: it is of no use to a client that is slow to read.
        socket.to(place).volatile.emit("typing", here.name, socket.data["name"])
        return {}

    @io.on("disconnecting")
    def disconnecting(socket: Socket, _reason: str, _description: str) -> None:
        # It still has its rooms here; behind this handler it has none.
        for place in socket.rooms & rooms.keys():
            hasLeft(socket, place)


def serve(description: str, reactor: Any) -> tuple[SocketIO, Deferred[Any]]:
    """Serve the pages and the chat from one port. Return the chat, and a Deferred of the port."""
    endpoint = serverFromString(reactor, description)
    root = File(str(HERE / "public"))
    root.putChild(b"react", File(str(REACT)))
    site = Site(root)
    # It gets the requests to /socket.io/, the client for the page among them, and the site all others.
    io = attach(site, reactor=reactor, serveClient=CLIENT, **OPTIONS)
    application(io)
    return io, endpoint.listen(site)


async def run(reactor: Any, endpoint: str) -> None:
    """Serve until Ctrl-C."""
    try:
        io, listening = serve(endpoint, reactor)
        port = await listening
    except (ValueError, CannotListenError) as error:
        sys.exit(str(error))
    # Clients are told that the server stops, instead of noticing by a timeout.
    reactor.addSystemEventTrigger("before", "shutdown", io.close)
    address = port.getHost()
    where = f"http://127.0.0.1:{address.port}/" if hasattr(address, "port") else endpoint
    print(f"Rooms: open {where} in two windows of a browser", flush=True)
    await Deferred()


def main(arguments: Sequence[str]) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="A chat with rooms for the browser.")
    parser.add_argument("endpoint", nargs="?", default="tcp:3000", help="where to listen (default: %(default)s)")
    endpoint = parser.parse_args(arguments).endpoint
    if not CLIENT.is_dir():
        sys.exit(f"The client for the page is missing: run `npm ci` in {HERE}")
    task.react(run, [endpoint])


if __name__ == "__main__":
    main(sys.argv[1:])
