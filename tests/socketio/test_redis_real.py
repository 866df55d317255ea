"""Several processes as one server: with a real Redis, and python-socketio's servers, emitters and clients."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from engineio_twisted.socketio import SocketIO, listen
from engineio_twisted.socketio.redis import RedisAdapter

from ..kit.clients import INTEROP, Program
from ..kit.redis import RedisServer, redisServers
from ..kit.wire import eventually, within

LOOPBACK = "tcp:0:interface=127.0.0.1"
# Long enough for a Redis that has to share its processor with other tests.
QUICK = {"pingInterval": 200, "pingTimeout": 1000, "connectTimeout": 1000}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts servers of Redis."""
    with redisServers(tmp_path) as start:
        yield start


class Ours:
    """A server of ours, as a process of its own would have it."""

    def __init__(self, name: str, url: str, **settings: Any) -> None:
        self.name = name
        self.adapter = RedisAdapter(url, **settings)
        self.io: SocketIO = listen(LOOPBACK, adapter=self.adapter)
        self.io.of("/admin")
        self.io.on("connection", lambda socket: socket.join("red"))

    async def ready(self) -> str:
        """Wait until it listens, and return where."""
        port = await within(self.io.engine.listening, "the port")
        await within(self.adapter.whenConnected(), "the connection to Redis")
        return f"http://127.0.0.1:{port.getHost().port}"


class Story:
    """What the clients in a program have got so far."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def got(self, by: str, namespace: str = "/") -> list[tuple[Any, ...]]:
        """Return the name and the arguments of each event that a client got, without those that told it what to do."""
        mine = [each for each in self.program.named("got") if (each["by"], each["namespace"]) == (by, namespace)]
        return [(each["name"], *each["args"]) for each in mine if each["name"] != "do"]

    async def all(self, names: tuple[str, ...], *event: Any) -> None:
        """Wait until each of some clients got an event, and make sure that it got it once."""
        await eventually(lambda: all(event in self.got(each) for each in names), f"{event} at {names}: {self.program}")
        assert [self.got(each).count(event) for each in names] == [1] * len(names)


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_withPythonSocketIO(redis: Any, serve: Any, start: Any) -> None:
    """
    Two servers of ours, one of python-socketio and an emitter of it are one server for their clients.

    Rooms, namespaces, binary, callbacks, orders for a client that is elsewhere; Redis is restarted, and hangs.
    """
    server = redis()
    one, other = Ours("one", server.url, **QUICK), Ours("other", server.url, **QUICK)
    try:
        urls = {each.name: await each.ready() for each in (one, other)}
        program = start(
            [sys.executable, INTEROP / "python_socketio_cluster.py"], {"redis": server.url, "servers": urls}
        )
        await program.saw("ready")
        await eventually(lambda: server.subscribers("socketio") == 3, "the subscription of python-socketio")
        sids = {each["by"]: each["sid"] for each in program.named("connected")}
        await _story(one, other, Story(program), sids)
        await _withoutRedis(server, one, other, Story(program))
    finally:
        await within(one.io.close(), "the end of one server")
        await within(other.io.close(), "the end of the other")


async def _story(one: Ours, other: Ours, story: Story, sids: dict[str, str]) -> None:
    ours, everybody = ("one", "other"), ("one", "other", "python")
    io = one.io

    def do(*what: Any) -> None:
        io.to(sids["one"]).emit("do", [*what])

    # Ours to all.
    io.emit("all", 1, None, {"k": "ü"})
    await story.all(everybody, "all", 1, None, {"k": "ü"})
    io.emit("bytes", b"\x01", [b"\x02"])
    await story.all(everybody, "bytes", {"bytes": "01"}, [{"bytes": "02"}])
    io.to("red", "blue").emit("rooms")
    await story.all(ours, "rooms")
    await eventually(lambda: ("rooms",) in story.got("python"), "an event without arguments at python-socketio")
    io.to(sids["python"]).emit("you", 7)
    await story.all(("python",), "you", 7)
    one.io.of("/admin").emit("admin", 1)
    for each in everybody:
        await eventually(lambda: ("admin", 1) in story.got(each, "/admin"), each)  # noqa: B023
    # Theirs to all.
    do("emitter", "from the emitter", [1, {"a": None}], {})
    await story.all(everybody, "from the emitter", [1, {"a": None}])
    do("bytes of emitter")
    await story.all(everybody, "bytes", {"data": [{"bytes": "00ff"}]})
    do("tuple of emitter")
    await story.all(everybody, "tuple", 1, {"bytes": "32"})
    do("emitter", "room", 1, {"room": "red", "skip_sid": sids["one"]})
    await story.all(("other", "python"), "room", 1)
    do("emit", "from their server", {"b": 2}, {"to": sids["other"]})
    await story.all(("other",), "from their server", {"b": 2})
    # Their server calls a client of ours, and gets its answer.
    do("call", sids["other"])
    assert (await story.program.saw("called"))["answer"] == ["other", "6f6b"]
    # They put a client of ours into a room, take it out, and disconnect it; and we theirs.
    do("enter_room", sids["other"], "green", {})
    socket = other.io.sockets[sids["other"]]
    await eventually(lambda: "green" in socket.rooms, "their enter_room")
    io.in_(sids["python"]).socketsJoin("green")
    io.to("green").emit("green", 1)
    await story.all(("other", "python"), "green", 1)
    do("leave_room", sids["other"], "green", {})
    await eventually(lambda: "green" not in socket.rooms, "their leave_room")
    do("close_room", "red", {})
    await eventually(lambda: "red" not in socket.rooms, "their close_room")
    # Between ours alone.
    assert sorted(await within(io.timeout(30_000).emitWithAck("ask"), "answers")) == sorted(
        [(each, "6f6b") for each in ours]
    )
    sockets = await within(io.fetchSockets(), "sockets")
    assert {each.id for each in sockets} == {sids["one"], sids["other"]}
    other.io.onServerSide("who", lambda: "other")
    assert await within(io.serverSideEmitWithAck("who"), "processes") == ["other"]
    io.except_(sids["other"]).emit("not other")
    io.in_(sids["python"]).disconnectSockets()
    await eventually(lambda: story.program.named("disconnected") != [], "our disconnecting of theirs")
    do("disconnect", sids["other"], {})
    await eventually(lambda: not socket.connected, "their disconnecting of ours")
    assert ("not other",) not in story.got("other")
    assert [each.adapter.stats().invalid for each in (one, other)] == [0, 0]


async def _withoutRedis(server: RedisServer, one: Ours, other: Ours, story: Story) -> None:
    """Redis is restarted, and hangs: clients are served meanwhile, and afterwards all is as before."""
    both = (one, other)
    admin = other.io.of("/admin")
    server.stop()
    await eventually(lambda: not any(each.adapter.connection.isConnected for each in both), "the loss of Redis")
    admin.emit("meanwhile", 1)
    await eventually(lambda: ("meanwhile", 1) in story.got("other", "/admin"), "an event without Redis")
    server.start()
    for each in both:
        await within(each.adapter.whenConnected(), "the connection after the restart")
    one.io.of("/admin").emit("again", 2)
    await eventually(lambda: ("again", 2) in story.got("other", "/admin"), "an event after the restart")
    server.hang()
    await eventually(lambda: not any(each.adapter.connection.isConnected for each in both), "the notice that it hangs")
    admin.emit("while it hangs", 3)
    await eventually(lambda: ("while it hangs", 3) in story.got("other", "/admin"), "an event while Redis hangs")
    server.wake()
    for each in both:
        await within(each.adapter.whenConnected(), "the connection after it hung")
    one.io.of("/admin").emit("at last", 4)
    await eventually(lambda: ("at last", 4) in story.got("other", "/admin"), "an event after it hung")
    assert await within(one.io.serverSideEmitWithAck("who"), "the answer of the other") == ["other"]
    # The servers end although it hangs.
    server.hang()
