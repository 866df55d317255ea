"""Stock clients against the command with workers, for which nothing is configured: fleets of them, and a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from ..kit.clients import (
    BOTH,
    INTEROP,
    MIXED,
    TRANSPORTS,
    Message,
    Program,
    Run,
    assertUneventful,
    firstDifference,
    pack,
    sentDuring,
)
from ..kit.fleet import Fleet, fleets
from ..kit.metrics import numbersOf
from ..kit.pages import Client as PageClient
from ..kit.pages import Page, PageSite
from ..kit.pages import chromium as chromium
from ..kit.pages import freshPage as freshPage
from ..kit.pages import oneBrowser as oneBrowser
from ..kit.pages import pageSite as pageSite
from ..kit.services import talking
from ..kit.wire import http

pytestmark = pytest.mark.slow

WORKERS = [1, 2, 3]

APPLICATION = """
from engineio_twisted.socketio import SocketIO


def application(server):
    io = SocketIO(server, connectionStateRecovery=True)

    @io.on("connection")
    def connected(socket):
        if not socket.recovered:
            socket.data["name"] = socket.auth["name"]

    @io.on("emit")
    def emit(socket, rooms, excepted, *args):
        io.to(*rooms).except_(*excepted).emit("said", *args)

    @io.on("who")
    async def who(socket, room):
        found = await io.to(room).fetchSockets()
        return [[each.data["name"], sorted(each.rooms - {each.id})] for each in found]

    @io.on("ask")
    async def ask(socket, room, *args):
        # One packet must not have as many attachments as there are sockets.
        return [[text, list(data)] for text, data in await io.to(room).emitWithAck("question", *args)]

    io.on("where", lambda socket: server.workers.number)
    io.on("join", lambda socket, *rooms: socket.join(*rooms))
    io.on("say", lambda socket, room, *args: socket.to(room).emit("said", *args))
    io.on("numbers", lambda socket: io.serverSideEmitWithAck("number"))
    io.on("shout", lambda socket, *args: io.serverSideEmit("shout", *args))
    io.on("move", lambda socket, room, other: io.to(room).socketsJoin(other))
    io.on("end", lambda socket, room: io.to(room).disconnectSockets(True))
    io.onServerSide("number", lambda: server.workers.number)
    io.onServerSide("shout", lambda *args: io.local.emit("said", *args))
"""


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three workers of an application of Socket.IO."""
    folder = tmp_path_factory.mktemp("rooms")
    (folder / "rooms.py").write_text(APPLICATION)
    with fleets(folder) as start:
        yield start(3, "--socketio", app="rooms:application")


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_rooms(rooms: Fleet, start: Run, node: str) -> None:
    """A dozen clients at three workers are one server's: rooms, acknowledgements, and what concerns all sockets."""
    program = start([node, INTEROP / "socketio_fleet.mjs", rooms.ports["http"], "rooms"])
    await program.finish()
    members = program.named("member")
    worker = {each["name"]: each["worker"] for each in members}
    assert len(members) >= 12
    (told,) = program.named("answers")
    asker = {each["worker"]: each["name"] for each in told["answers"]}
    assert sorted(asker) == WORKERS
    few = set(asker.values())

    def heard(name: str, origin: int) -> list[list[Any]]:
        """Return what a client has to hear from a worker, in order."""
        isOfFew = name in few
        words = {
            "few": isOfFew,
            "all but few": not isOfFew,
            "to others": isOfFew and name != asker[origin],
            "shouted": worker[name] != origin,
            "moved": not isOfFew,
            "last": True,
        }
        return [["all", origin, {"binary": [origin, 255]}], *([text, origin] for text, isFor in words.items() if isFor)]

    for each in members:
        for origin in WORKERS:
            assert [args for args in each["heard"] if args[1] == origin] == heard(each["name"], origin), each["name"]
        assert {args[1] for args in each["heard"]} == set(WORKERS)
        assert [isRecovered for _, isRecovered in each["connects"]] == [False]
        assert each["disconnects"] == ["io client disconnect" if each["name"] in few else "io server disconnect"]
    moved: list[str] = []
    for each in told["answers"]:
        here = each["worker"]
        assert sorted(each["answers"]) == sorted([f"{name}: asked by {here}", [here]] for name in worker)
        ofFew = [[name, ["all", "few"]] for name in few]
        assert sorted(each["few"]) == sorted(ofFew)
        assert sorted(each["all"]) == sorted(
            [*ofFew, *([name, sorted(["all", "many", *moved])] for name in worker if name not in few)]
        )
        assert sorted(each["numbers"]) == [number for number in WORKERS if number != here]
        moved.append(f"moved by {here}")
    assert sorted(told["left"]) == sorted(ofFew)
    assert len({id_ for each in members for id_, _ in each["connects"]}) == len(members)
    assert "Traceback" not in rooms.said


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_recovery(rooms: Fleet, start: Run, node: str) -> None:
    """Clients whose connections are cut come back as the same, at other workers too, and get all in its order, once."""
    program = start([node, INTEROP / "socketio_fleet.mjs", rooms.ports["http"], "recovery"])
    await program.finish()
    (told,) = program.named("said")
    assert sorted(told["speakers"]) == WORKERS
    assert told["moved"] > 0
    said, rounds = told["said"], told["rounds"]
    assert [number for _, number in said] == list(range(3 * (2 * rounds + 1)))
    members = program.named("member")
    assert sorted(told["who"]) == sorted([each["name"], ["all"]] for each in members)
    for each in members:
        assert firstDifference(each["heard"], said) is None, each["name"]
        times = rounds if each["name"] in told["lose"] else 0
        (first, isRecovered), *again = each["connects"]
        assert isRecovered is False
        assert again == [[first, True]] * times, each["name"]
        *losses, last = each["disconnects"]
        assert set(losses) <= {"transport close", "transport error"}
        assert (len(losses), last) == (times, "io client disconnect")
    assert "Traceback" not in rooms.said


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_relayed(tmp_path: Path, client: Run) -> None:
    """Without moves clients over every transport, each with words of its own, lose nothing and swap nothing."""
    with fleets(tmp_path) as run:
        fleet = await deferToThread(run, 2, "--no-workers-move", "--metrics=listen")
        await deferToThread(askElsewhere, fleet)
        words: dict[str, list[Message]] = {}
        echoing: dict[str, Program] = {}
        for name, transports in TRANSPORTS.items():
            texts = [f"{name} {number}" for number in range(150)]
            words[name] = [*MIXED, *(text if number % 3 else text.encode() for number, text in enumerate(texts))]
            echoing[name] = client(fleet.url, "echo", transports, messages=[*map(pack, words[name])])
        # Over both transports, before, during and after the upgrade.
        sending = [client(fleet.url, "during", BOTH) for _ in range(2)]
        for name, program in echoing.items():
            await program.finish()
            assertUneventful(program, TRANSPORTS[name])
            assert firstDifference(program.messages, words[name]) is None, name
        for program in sending:
            await program.finish()
            assert program.names == ["open", "upgrading", "upgrade", "sent", "close"]
            assert firstDifference(program.messages, sentDuring(program)) is None
        numbers = await deferToThread(metricsOf, fleet)
        # The clients' own come on top, as many as chance brings to the other worker.
        assert numbers["engineio_requests_relayed_total"] >= 4
        assert numbers["engineio_connections_moved_total"] == 0
        assert "Traceback" not in fleet.said


def askElsewhere(fleet: Fleet) -> None:
    """Send a message and read its echo at the worker that doesn't have the session, for each of two workers."""
    for owner, other in ((1, 2), (2, 1)):
        sid = fleet.open(owner)
        talk = fleet.connect(other)
        talk.echo(f"of {owner}", sid)
        assert fleet.numberOf(talk) == other
        fleet.close(talk)


def metricsOf(fleet: Fleet) -> dict[str, float]:
    """Return the numbers of all workers together, by name."""
    found: dict[str, float] = {}
    with talking(fleet.ports["http"]) as talk:
        for (name, _), value in numbersOf(talk.ask(http("GET", "/metrics")).decode()).items():
            found[name] = found.get(name, 0) + value
    return found


@pytest.mark.browser
@pytest_twisted.ensureDeferred
async def test_browser(tmp_path: Path, page: Page, pageSite: PageSite, serve: Any) -> None:
    """Clients on a page poll and upgrade, get back what they send, and all of them what one has the server say."""
    origin = await pageSite()
    with fleets(tmp_path) as run:
        fleet = await deferToThread(run, 2, f"--cors-origin={origin}")
        await page.visit(origin)
        clients: list[PageClient] = []
        workers: set[str] = set()
        # Handshakes are passed on only if a worker has clearly more sessions than another.
        while len(clients) < 4 or (len(workers) < 2 and len(clients) < 30):
            clients.append(await page.connect(fleet.url, f"first of {len(clients)}"))
            await clients[-1].saw("upgrade to websocket")
            workers.add((await clients[-1].get("client.id")).partition("-")[0])
        assert workers == {"1", "2"}
        wanted: list[list[Message]] = []
        for number, each in enumerate(clients):
            sent: list[Message] = [f"{number} then", bytes([number, 255])]
            await each.send(*sent)
            wanted.append([f"first of {number}", *sent])
            assert await each.received(3) == wanted[-1]
        for number, each in enumerate(clients):
            await each.send("!" + json.dumps(["broadcast", f"by {number}: ", 3]))
            for words, other in zip(wanted, clients, strict=True):
                words += [f"by {number}: {count}" for count in range(3)]
                assert await other.received(len(words)) == words
        for each in clients:
            await each.close()
            await each.saw("close: forced close")
            assert await each.happened() == ["open on polling", "upgrade to websocket", "close: forced close"]
        assert await page.errors() == []
        assert "Traceback" not in fleet.said
