"""The stock JavaScript clients, socket.io-client 4.x and 2.x under Node.js, against a Socket.IO server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted

from ..kit.chaos import Proxy, Trouble, chaos
from ..kit.clients import Program, Run
from ..kit.socketio_story import (
    ALL,
    ENDED_OF_JAVASCRIPT,
    PATH,
    Client,
    Story,
    assertNothingLeft,
    assertNoticed,
    javaScript,
    javaScriptClients,
    noticedByJavaScript,
)
from ..kit.wire import eventually

pytestmark = [pytest.mark.node, pytest.mark.slow]

NEW, OLD = "socket.io-client", "socket.io-client-2"

LOST = {"transport close", "transport error"}
"""What a client says of its connection, depending on what it was doing."""


@pytest.fixture
def clients(start: Run, node: str) -> Callable[..., Program]:
    """Start clients in a scenario of socketio_client.mjs: `clients(url, scenario, clients)`."""
    return javaScript(start, node)


@pytest.mark.parametrize(
    ("packages", "options", "more"),
    [([NEW, OLD], {}, {}), ([NEW], {"parser": "msgpack"}, {"msgpack": True})],
    ids=["default", "msgpack"],
)
@pytest_twisted.ensureDeferred
async def test_story(serve: Any, clients: Any, packages: list[str], options: Any, more: Any) -> None:
    """Clients of both protocols, side by side over every transport, notice all that they should; nothing is left."""
    story = Story(**options)
    running = await serve(story, path=PATH, allowEIO3=True)
    those = javaScriptClients(packages, **more)
    program = clients(running.url, "story", those)
    await assertNoticed(program, those, noticedByJavaScript)
    await eventually(lambda: len(story.ended) == len(ENDED_OF_JAVASCRIPT) * len(those), "the end of all sockets")
    assert Counter(story.ended) == Counter(ENDED_OF_JAVASCRIPT * len(those))
    await eventually(lambda: story.io.stats().clients == 0, "the end of all sessions")
    assertNothingLeft(story.io)


@pytest_twisted.ensureDeferred
async def test_together(serve: Any, clients: Any) -> None:
    """What a client of one protocol says in a room, binary too, those of the other hear."""
    story = Story()
    running = await serve(story, path=PATH, allowEIO3=True)
    those = javaScriptClients([NEW, OLD])
    program = clients(running.url, "stay", those)
    await eventually(lambda: len(story.connected) == len(those), "the clients")
    for number, socket in enumerate(story.connected):
        assert await socket.emitWithAck("do", ["say", ALL, number, bytes([number])]) is None
    await came(program, "said", len(those) * (len(those) - 1))
    story.io.emit("leave")
    await program.finish()
    said = [[number, {"binary": [number]}] for number in range(len(those))]
    unheard = []
    for each in those:
        heard = saidTo(program, each)
        unheard += [words for words in said if words not in heard]
        assert len(heard) == len(those) - 1
    # Each has heard all but what it said itself.
    assert sorted(unheard, key=said.index) == said


async def came(program: Program, event: str, times: int) -> None:
    """Wait until an event has come that many times, to all clients together."""
    await eventually(lambda: len(program.named(event)) >= times, f"{event}, {times} times")


async def upgraded(story: Story, clients: list[Client]) -> None:
    """
    Wait until those that upgrade have done it.

    In the middle of it, a client that loses its connections may notice by a ping timeout only.
    """
    expected = sum(each["options"]["transports"][-1] == "websocket" for each in clients)

    def onWebSocket() -> int:
        return sum(each.conn.transport.name == "websocket" for each in story.connected)

    await eventually(lambda: onWebSocket() == expected, "the upgrades")


def saidTo(program: Program, client: Client) -> list[list[Any]]:
    """Return the arguments of what a client heard."""
    return [each["args"] for each in program.named("said") if each["name"] == client["name"]]


class Network:
    """
    A network between clients and a server that fails, and comes back.

    Give it to L{chaos}.
    """

    def __init__(self) -> None:
        self.isUp = True

    def __call__(self, number: int) -> Trouble:
        return Trouble() if self.isUp else Trouble(after=0, how="rst")

    def fail(self, proxy: Proxy) -> None:
        """Cut all connections, and each that is tried, until it is up."""
        self.isUp = False
        for each in proxy.links:
            each.abort()


@pytest_twisted.ensureDeferred
async def test_reconnect(serve: Any, clients: Any) -> None:
    """Clients whose connections are lost come back as others, into the namespaces where they were."""
    story, network = Story(), Network()
    running = await serve(story, path=PATH, allowEIO3=True)
    those = javaScriptClients([NEW, OLD], namespaces=["/", "/admin"], auth={"token": "secret"})
    async with chaos(running.port, network) as proxy:
        program = clients(f"http://127.0.0.1:{proxy.port}", "stay", those)
        await came(program, "connect", 2 * len(those))
        await upgraded(story, those)
        network.fail(proxy)
        await came(program, "disconnect", 2 * len(those))
        network.isUp = True
        await came(program, "connect", 4 * len(those))
        story.io.to(ALL).emit("said", "again")
        await came(program, "said", len(those))
        story.io.emit("leave")
        await program.finish()
    assert len({each["id"] for each in program.named("connect")}) == 4 * len(those)
    assert {each["reason"] for each in program.named("disconnect")[: 2 * len(those)]} <= LOST
    assert all(saidTo(program, each) == [["again"]] for each in those)


@pytest_twisted.ensureDeferred
async def test_restart(serve: Any, clients: Any, freePort: int) -> None:
    """Clients of a server that closes come back by themselves, to the one that takes its place."""
    story = Story()
    await serve(story, port=freePort, path=PATH, allowEIO3=True)
    those = javaScriptClients([NEW, OLD])
    program = clients(f"http://127.0.0.1:{freePort}", "stay", those)
    await came(program, "connect", len(those))
    await upgraded(story, those)
    await story.io.close()
    assert story.ended == [("/", "server shutting down")] * len(those)
    assertNothingLeft(story.io)
    await came(program, "disconnect", len(those))
    assert {each["reason"] for each in program.named("disconnect")} <= LOST
    again = Story()
    await serve(again, port=freePort, path=PATH, allowEIO3=True)
    await came(program, "connect", 2 * len(those))
    again.io.emit("leave")
    await program.finish()


@pytest_twisted.ensureDeferred
async def test_recovery(serve: Any, clients: Any) -> None:
    """Clients whose connections are lost come back as the same, in their rooms, and get what they have missed."""
    story, network = Story(connectionStateRecovery=True), Network()
    running = await serve(story, path=PATH)
    those = javaScriptClients([NEW])
    async with chaos(running.port, network) as proxy:
        program = clients(f"http://127.0.0.1:{proxy.port}", "stay", those)
        await came(program, "connect", len(those))
        for socket in story.connected:
            socket.data["mark"] = socket.id
        story.io.to(ALL).emit("said", "before")
        await came(program, "said", len(those))
        for loss in range(2):
            await upgraded(story, those)
            network.fail(proxy)
            await came(program, "disconnect", (loss + 1) * len(those))
            for number in range(3):
                story.io.to(ALL).emit("said", f"missed {loss} {number}", bytes([number]))
            network.isUp = True
            await came(program, "connect", (loss + 2) * len(those))
        assert [socket.data["mark"] for socket in story.connected] == [socket.id for socket in story.connected]
        assert all(socket.recovered for socket in story.connected)
        story.io.to(ALL).emit("said", "after")
        await came(program, "said", 8 * len(those))
        story.io.emit("leave")
        await program.finish()
    for each in those:
        connects = [event for event in program.named("connect") if event["name"] == each["name"]]
        assert [event["recovered"] for event in connects] == [False, True, True]
        assert len({event["id"] for event in connects}) == 1
        missed = [f"missed {loss} {number}" for loss in range(2) for number in range(3)]
        assert [args[0] for args in saidTo(program, each)] == ["before", *missed, "after"]
        assert [args[1] for args in saidTo(program, each)[1:-1]] == [
            {"binary": [number]} for _ in range(2) for number in range(3)
        ]
    assert story.io.stats().recovered == 2 * len(those)
