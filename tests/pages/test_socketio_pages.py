"""The programs of the pages about Socket.IO do what the pages say: in memory, and with the stock client in Node.js."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource

from engineio_twisted import EngineIOResource, Server
from engineio_twisted.service import EngineIOService
from engineio_twisted.socketio import (
    AdapterError,
    ConnectionStateRecovery,
    ConnectRefused,
    Disconnected,
    DisconnectReason,
    SocketIO,
    SocketIOError,
    SocketIOOptions,
    SocketIOStats,
    UnsendableValue,
)
from engineio_twisted.socketio.testing import Event, MemorySocket, MemorySocketIO, Refused

from ..kit.browser import Chromium, browse, inThread
from ..kit.browser import chromium as chromium
from ..kit.clients import INTEROP
from ..kit.markdown import Block, blocksOf
from ..kit.tools import require

DOCS = Path(__file__).parents[2] / "docs"
PATIENCE = 60


def section(page: str, heading: str) -> tuple[int, int]:
    """The lines of a page from a heading to the next of its level or above; the whole page where it is its title."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines, 1) if re.fullmatch(rf"#+ {re.escape(heading)}", line))
    level = lines[first - 1].index(" ")
    inBlock = False
    for number, line in enumerate(lines[first:], first + 1):
        inBlock ^= line.startswith("```")
        if not inBlock and re.match(rf"#{{1,{level}}} |#{{2,}} " if level == 1 else rf"#{{1,{level}}} ", line):
            return first, number
    return first, len(lines) + 1


def blocks(page: str, heading: str, language: str = "python") -> list[Block]:
    """The blocks below a heading; below a title, up to the next heading."""
    first, last = section(page, heading)
    return [each for each in blocksOf(DOCS / page) if first < each.line < last and each.language == language]


def run(page: str, heading: str, made: dict[str, Any], *numbers: int) -> dict[str, Any]:
    """Run the programs below a heading, all or some of them, one behind the other; return what they have made."""
    found = blocks(page, heading)
    assert found
    for number, each in enumerate(found):
        if not numbers or number in numbers:
            exec(compile(each.text, str(each), "exec"), made)
    return made


Start = Callable[..., MemorySocketIO]


@pytest.fixture
def serving(socketio: Start) -> Callable[..., Any]:
    """Serve the programs below a heading: `kit, made = serving("socketio-rooms.md", "Presence")`."""

    def start(page: str, heading: str, *numbers: int, options: Any = None, **given: Any) -> Any:
        made: dict[str, Any] = given

        def application(io: SocketIO) -> None:
            made["io"] = io
            run(page, heading, made, *numbers)

        kit = socketio(application, **(options or {}))
        return kit, made

    return start


def names(client: MemorySocket) -> list[str]:
    """The names of the events that a client got since this was last asked."""
    return [each.name for each in client.receiveAll()]


def socketOf(kit: MemorySocketIO, client: MemorySocket) -> Any:
    """The server's socket of a client."""
    return kit.io.namespaces[client.namespace].sockets[client.id or ""]


# Every block


OURS = ["socketio", *(f"socketio-{each}" for each in ("rooms", "authentication", "acks", "recovery", "options"))]


@pytest.mark.parametrize("page", OURS)
def test_wholePage(page: str, reactor: Any, socketio: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program of a page runs where what it speaks of is there; the first one of all is run as a process."""
    require((INTEROP / "node_modules").is_dir(), "the packages of tests/interop (run `npm ci` there)")
    (tmp_path / "node_modules").symlink_to(INTEROP / "node_modules")
    (tmp_path / "public").mkdir()
    monkeypatch.chdir(tmp_path)
    programs = [each for each in blocksOf(DOCS / f"{page}.md") if each.language == "python"]
    assert programs
    for number, each in enumerate(programs):
        if "react(main)" not in each.text:
            kit = socketio(lambda io: None)
            made = {"io": kit.io, "database": SimpleNamespace(load=_load), "userOf": _userOf}
            made |= {"ConnectRefused": ConnectRefused, "authenticate": lambda socket: None}
            made["socket"] = socketOf(kit, kit.connect())
            exec(compile(each.text, f"{page} {number}", "exec"), made)


# docs/socketio.md


@pytest.fixture
def reactor(monkeypatch: pytest.MonkeyPatch) -> MemoryReactorClock:
    reactor = MemoryReactorClock()
    monkeypatch.setattr("twisted.internet.reactor", reactor)
    return reactor


def test_waysToStart(reactor: Any) -> None:
    """Those of the table that no other test of this page shows make a server that has the layer."""
    made: dict[str, Any] = {}
    run("socketio.md", "Ways to start", made)
    server = Server(path="/socket.io", reactor=reactor)
    made["application"](server)
    assert server.socketIONotice.isBound
    with pytest.raises(TypeError, match="already"):
        SocketIO(server)
    Resource().putChild(b"socket.io", EngineIOResource(SocketIO(Server(path="/socket.io", reactor=reactor))))
    service = EngineIOService("tcp:3000", path="/socket.io", reactor=reactor)
    assert SocketIO(service.server).engine is service.server


def test_namespace(serving: Any) -> None:
    """A client of the namespace is greeted; one that names another is refused as the page says."""
    kit, _ = serving("socketio.md", "Namespaces", 0)
    assert kit.connect("/news").receiveAll() == [Event("headline", ("It rains.",))]
    assert kit.connect().receiveAll() == []
    with pytest.raises(Refused, match="Invalid namespace"):
        kit.connect("/other")


def test_namespacesForClients(serving: Any) -> None:
    """A pattern and a function make namespaces, which `io` hears of, and which end with their last socket."""
    kit, made = serving("socketio.md", "Namespaces", 1)
    heard: list[str] = []
    kit.io.on("new_namespace", lambda namespace: heard.append(namespace.name))
    client = kit.connect("/board-17")
    assert client.receiveAll() == [Event("board", ("/board-17",))]
    for name in ("/board-", "/x/board-1", "/board-1\n", "/board-1234567"):
        with pytest.raises(Refused, match="Invalid namespace"):
            kit.connect(name)
    kit.connect("/team-red", {"token": "secret"})
    with pytest.raises(Refused, match="Invalid namespace"):
        kit.connect("/team-red2", {"token": "guess"})
    assert heard == ["/board-17", "/team-red"]
    made["boards"].emit("for all boards")
    assert names(client) == ["for all boards"]
    client.disconnect()
    assert [*kit.io.namespaces] == ["/", "/team-red"]


def test_handlers(serving: Any) -> None:
    """One for all sockets, which gets the socket, and one for each, which doesn't."""
    kit, _ = serving("socketio.md", "Events and handlers", 0)
    ann, bob = kit.connect(), kit.connect()
    assert ann.receive() == Event("welcome", ({"id": ann.id},))
    ann.emit("rename", "Ann")
    ann.emit("say", "hello")
    bob.emit("say", "hi")
    assert ann.receiveAll() == bob.receiveAll()[1:] == [Event("said", ("Ann", "hello")), Event("said", ("guest", "hi"))]


def test_unhandled(serving: Any) -> None:
    """What has no other handler is answered by the one on the page, and nothing else is."""
    kit, _ = serving("socketio.md", "Events without a handler")
    kit.io.on("known", lambda socket: "here")
    client = kit.connect()
    assert client.emitWithAck("known") == "here"
    assert client.emitWithAck("shout", 1) == {"error": "there is no shout"}


def test_ownEvents(serving: Any) -> None:
    """The table of the layer's own events: when they come, and with what; a client cannot call their handlers."""
    kit, _ = serving("socketio.md", "Catch-all listeners")
    heard: list[Any] = []
    for event in ("connection", "disconnecting", "disconnect", "error"):
        kit.io.on(event, lambda socket, *arguments, event=event: heard.append((event, len(socket.rooms), *arguments)))
    client = kit.connect()
    socketOf(kit, client).join("lobby")
    for event in ("connection", "error", "new_namespace"):
        client.emit(event, "forged")
    assert heard == [("connection", 1)]
    client.disconnect()
    reason = "client namespace disconnect"
    assert heard[1:] == [("disconnecting", 2, reason, ""), ("disconnect", 0, reason, "")]


def test_catchAll(serving: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """They print all that comes and goes, broadcasts too."""
    kit, _ = serving("socketio.md", "Catch-all listeners")
    client = kit.connect()
    client.emit("hello", 1)
    kit.io.emit("news", 2)
    assert capsys.readouterr().out == f"from {client.id} hello (1,)\nto {client.id} news (2,)\n"


def test_whatIsSent(serving: Any) -> None:
    """The event of the page arrives with its bytes and its values."""
    kit, made = serving("socketio.md", "Namespaces", 0)
    client = kit.connect()
    made["socket"] = socketOf(kit, client)
    run("socketio.md", "What can be sent", made)
    sent = ("picture.png", b"\x89PNG", {"tags": ["cat", "sleeping"], "size": 4})
    assert client.receiveAll() == [Event("file", sent)]


def test_eventMiddleware(serving: Any, loggedErrors: Any) -> None:
    """What is for administrators alone reaches no handler of another."""
    kit, _ = serving("socketio.md", "Middlewares of events")
    heard: list[str] = []
    kit.io.on("admin:stop", lambda socket: heard.append("stop"))
    kit.io.on("hello", lambda socket: heard.append("hello"))
    client = kit.connect()
    client.emit("admin:stop")
    client.emit("hello")
    assert heard == ["hello"]
    assert [type(each) for each in kit.errors] == [PermissionError]
    kit.errors.clear()
    loggedErrors.clear()
    socketOf(kit, client).data["isAdmin"] = True
    client.emit("admin:stop")
    assert heard == ["hello", "stop"]


def test_errors() -> None:
    """The table names every error of the layer."""

    def below(kind: type[BaseException]) -> set[type[BaseException]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    first, last = section("socketio.md", "Errors")
    text = "\n".join((DOCS / "socketio.md").read_text(encoding="utf-8").splitlines()[first:last])
    ours = {each for each in below(SocketIOError) if each.__module__ == "engineio_twisted.socketio.errors"}
    assert {each.__name__ for each in ours} - set(re.findall(r"`(\w+)`", text)) == set()
    assert {each.__name__ for each in below(AdapterError)} >= {"NotSupported", "RemoteTimeout"}


def rowsOf(page: str, heading: str) -> set[str]:
    """What stands in backticks in the first cells of the tables below a heading."""
    first, last = section(page, heading)
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()[first : last - 1]
    return {name for line in lines if line.startswith("|") for name in re.findall(r"`([^`]+)`", line.split("|")[1])}


def test_reasons() -> None:
    """The table has all reasons."""
    assert rowsOf("socketio.md", "Why a socket ends") == {str(each) for each in DisconnectReason}


def test_stats(serving: Any) -> None:
    """The tables have all that is counted."""
    _, made = serving("socketio.md", "Statistics")
    assert isinstance(made["stats"], SocketIOStats)
    assert rowsOf("socketio.md", "Statistics") == {*SocketIOStats.__annotations__}


def test_metrics(serving: Any) -> None:
    """The table of the metrics has all of them, and their numbers are those of the statistics."""
    kit, _ = serving("socketio.md", "Statistics")
    measures = {f"{each.name}{'_total' if each.isCounter else ''}": each.value for each in kit.io.engine.measures()}
    assert {each for each in rowsOf("monitoring.md", "Prometheus") if each.startswith("socketio_")} == {*measures}
    assert len(measures) == len(rowsOf("socketio.md", "Statistics"))
    kit.connect()
    measures = {each.name: each.value for each in kit.io.engine.measures()}
    assert (measures["socketio_sockets"], measures["socketio_rooms"], measures["socketio_waiting_sessions"]) == (
        1,
        0,
        0,
    )


@pytest.mark.parametrize(("how", "seen"), [("namespace", "io server disconnect"), ("session", "transport close")])
def test_disconnecting(serving: Any, how: str, seen: str) -> None:
    """What a client sees: the one keeps it away, the other lets it come back."""
    kit, _ = serving("socketio.md", "Namespaces", 0)
    client = kit.connect()
    socket = socketOf(kit, client)
    if how == "namespace":
        socket.disconnect()
    else:
        socket.conn.close()
    kit.settle()
    assert client.disconnected == seen


@pytest.mark.parametrize("end", ["close", "drain"])
def test_stopping(serving: Any, end: str) -> None:
    """No packet tells the client to stay away; handlers that run owe nothing when it is over."""
    kit, _ = serving("socketio.md", "Namespaces", 0)
    answers: list[Deferred[str]] = []
    reasons: list[str] = []

    @kit.io.on("ask")
    def ask(socket: Any) -> Deferred[str]:
        answers.append(Deferred())
        return answers[-1]

    kit.io.on("disconnect", lambda socket, reason, description: reasons.append(reason))
    client = kit.connect()
    question = client.ask("ask")
    kit.settle()
    ended = getattr(kit.io, end)()
    kit.settle()
    if end == "drain":
        assert client.connected
        with pytest.raises(Refused, match="Server is closing"):
            client.of("/news")
        answers[0].callback("done")
        kit.settle()
        assert question.answer == "done"
    kit.advance(10)
    assert ended.called
    assert reasons == ["server shutting down"]
    assert client.disconnected == "transport close"


def test_work(serving: Any) -> None:
    """Every ten seconds a number; after an hour the end, and nothing more."""
    kit, _ = serving("socketio.md", "State and work of a socket")
    client, other = kit.connect(), kit.connect()
    other.disconnect()
    kit.advance(20)
    assert client.receiveAll() == [Event("online", (1,))] * 2
    kit.advance(3600)
    assert client.disconnected == "io server disconnect"


def test_olderClients(reactor: Any) -> None:
    """The option lets them in."""
    made = run("socketio.md", "Clients of version 2", {})
    with MemorySocketIO(made["io"]) as kit:
        assert kit.connect(protocol=4).connected


def test_beside(reactor: Any) -> None:
    """Both servers of the site serve."""
    made = run("socketio.md", "Embedding beside Engine.IO", {"reactor": reactor})
    assert made["plain"].opts.path == "/engine.io"
    assert made["io"].engine.opts.path == "/socket.io"
    assert made["plain"].isReady


# docs/socketio-rooms.md


def test_rooms(serving: Any) -> None:
    """Others hear of who comes and goes, and everybody of what is said."""
    kit, _ = serving("socketio-rooms.md", "Rooms and broadcasts")
    ann, bob = kit.connect(), kit.connect()
    bob.emit("say", "hello")
    bob.disconnect()
    assert ann.receiveAll() == [
        Event("joined", (bob.id,)),
        Event("said", (bob.id, "hello")),
        Event("left", (bob.id,)),
    ]
    assert kit.io.rooms.keys() == {ann.id, "lobby"}


def test_roomsOfClients(serving: Any) -> None:
    """Only what may be a board is one, and no more than fifty."""
    kit, _ = serving("socketio-rooms.md", "Rooms that clients choose")
    ann = kit.connect()
    assert ann.emitWithAck("watch", "chess") == {"watching": "chess"}
    for wrong in (5, None, "", "a b", "../b", "x" * 21):
        assert ann.emitWithAck("watch", wrong) == {"error": "no such board"}
    assert socketOf(kit, ann).rooms == {ann.id, "board:chess"}
    answers = [ann.emitWithAck("watch", str(number)) for number in range(60)]
    assert answers[-1] == {"error": "too many boards"}
    assert len(socketOf(kit, ann).rooms) == 51


def test_operators(serving: Any) -> None:
    """Each line reaches whom it says."""
    kit, made = serving("socketio-rooms.md", "Presence")
    clients = {name: kit.connect() for name in ("self", "garden", "kitchen", "both", "none")}
    sockets = {name: socketOf(kit, client) for name, client in clients.items()}
    for name, rooms in (("self", ["garden"]), ("garden", ["garden"]), ("kitchen", ["kitchen"])):
        sockets[name].join(*rooms)
    sockets["both"].join("garden", "kitchen")
    made["socket"] = sockets["self"]
    run("socketio-rooms.md", "Operators", made)
    said = {
        "to everybody in the namespace": ["self", "garden", "kitchen", "both", "none"],
        "to everybody in one of two rooms": ["self", "garden", "kitchen", "both"],
        "to those in the garden alone": ["self", "garden"],
        "to everybody but this socket": ["garden", "kitchen", "both", "none"],
        "to everybody in the garden but this socket": ["garden", "both"],
        "to everybody outside the garden but this socket": ["kitchen", "none"],
        "to this socket": ["self"],
    }
    for name, client in clients.items():
        assert client.receiveAll() == [Event("news", (each,)) for each, to in said.items() if name in to], name


def test_volatile(serving: Any) -> None:
    """A client that reads gets each; one that doesn't gets no more than fits, and the others are counted."""
    kit, _ = serving("socketio-rooms.md", "Volatile events")
    client = kit.connect(transport="websocket")
    kit.advance(1)
    assert len(client.receiveAll()) == 4
    client.drop()
    waiting = kit.connect(transport="polling", upgrade=False)
    waiting.pauseReading()
    kit.advance(10)
    assert kit.io.stats().volatileDropped >= 35


def test_manySockets(serving: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A game ends: its players are named, and in the lobby; cheaters are out."""
    kit, made = serving("socketio-rooms.md", "Do something with many sockets")
    clients = [kit.connect() for _ in range(3)]
    sockets = [socketOf(kit, each) for each in clients]
    for name, socket in zip(("Bob", "Ann", "Eve"), sockets, strict=True):
        socket.data["name"] = name
        socket.join("game:1" if name != "Eve" else "cheaters")
    ended = ensureDeferred(made["endGame"](1))
    kit.settle()
    assert ended.called
    assert capsys.readouterr().out == "players: ['Ann', 'Bob']\n"
    assert [each.rooms for each in sockets] == [{sockets[0].id, "lobby"}, {sockets[1].id, "lobby"}, frozenset()]
    assert clients[2].disconnected == "io server disconnect"


def test_whoIsThere(socketio: Start) -> None:
    """Everybody has the list of those that are there, and never of others."""
    kit = socketio(run("socketio-rooms.md", "Presence", {})["application"])
    ann, bob = kit.connect(), kit.connect()
    ann.emit("enter", "Ann")
    assert bob.emitWithAck("enter", 5) == {"error": "not a name"}
    bob.emit("enter", "Bob")
    bob.drop()
    kit.settle()
    assert [each.args for each in ann.receiveAll()] == [(["Ann"],), (["Ann", "Bob"],), (["Ann"],)]


# docs/socketio-authentication.md

AUTHENTICATION = "socketio-authentication.md"


def test_authentication(serving: Any) -> None:
    """Who has a token is let in, known, and in a room; others hear why not."""
    kit, _ = serving(AUTHENTICATION, "Authentication for Socket.IO")
    assert kit.connect(auth={"token": "5f1c0e"}).receiveAll() == [Event("hello", ("ann",))]
    assert kit.io.rooms.keys() >= {"user:ann"}
    for auth in ({}, {"token": "guess"}, {"token": None}):
        with pytest.raises(Refused) as refused:
            kit.connect(auth=auth)
        assert (refused.value.message, refused.value.data) == ("log in first", {"code": 401})
    assert kit.io.stats().refused == 3


def test_middlewaresOfAnother(serving: Any) -> None:
    """A namespace has its own."""
    kit, made = serving(AUTHENTICATION, "Authentication for Socket.IO")
    run(AUTHENTICATION, "Middlewares", made)
    assert kit.connect("/admin", {"token": "5f1c0e"}).connected
    with pytest.raises(Refused, match="for administrators only"):
        kit.connect("/admin", {"token": "77a3d1"})


def test_cookies(serving: Any) -> None:
    """The cookie of the request says who it is."""
    kit, _ = serving(AUTHENTICATION, "Cookies", userOf=_userOf, ConnectRefused=ConnectRefused)
    client = kit.connect(headers={"Cookie": "login=5f1c0e"})
    assert socketOf(kit, client).data == {"user": "ann"}
    for headers in ({}, {"Cookie": "login=guess"}):
        with pytest.raises(Refused, match="log in first"):
            kit.connect(headers=headers)


async def _userOf(token: str) -> str | None:
    return {"5f1c0e": "ann"}.get(token)


def test_handshakeIsDescribed(serving: Any) -> None:
    """Each attribute of the table is one."""
    kit, _ = serving("socketio.md", "Namespaces", 0)
    client = kit.connect(query={"room": "garden"})
    handshake = socketOf(kit, client).handshake
    names = rowsOf(AUTHENTICATION, "Headers and the address")
    assert names == {each for each in dir(handshake) if not each.startswith("_")}
    assert (handshake.query["room"], handshake.auth) == ("garden", {})
    assert handshake.headers.get("authorization") is None


def test_loggedOut(serving: Any) -> None:
    """All sockets of one user end, and those of another stay."""
    kit, made = serving(AUTHENTICATION, "Authentication for Socket.IO")
    run(AUTHENTICATION, "Disconnect a user who has logged out", made, 0)
    ann, again, bob = (kit.connect(auth={"token": each}) for each in ("5f1c0e", "5f1c0e", "77a3d1"))
    made["logOut"]("ann")
    kit.settle()
    assert [each.disconnected for each in (ann, again, bob)] == ["io server disconnect"] * 2 + [None]


def test_expires(serving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket ends with its token, and without a valid one none begins."""
    monkeypatch.setattr("time.time", lambda: 1000.0)
    kit, _ = serving(AUTHENTICATION, "Disconnect a user who has logged out", 1, ConnectRefused=ConnectRefused)
    client = kit.connect(auth={"expires": 1060})
    with pytest.raises(Refused, match="expired"):
        kit.connect(auth={"expires": 1000})
    kit.advance(59)
    assert client.connected
    kit.advance(2)
    assert client.disconnected == "io server disconnect"


# docs/socketio-acks.md

ACKS = "socketio-acks.md"


async def _load(key: str) -> str:
    return f"the {key}"


def test_aClientAsks(serving: Any) -> None:
    """It is answered, by what is there and by what comes later."""
    kit, _ = serving(ACKS, "A client asks", database=SimpleNamespace(load=_load))
    client = kit.connect()
    assert client.emitWithAck("add", 20, 22) == 42
    assert client.emitWithAck("load", "colour") == "the colour"


def test_theServerAsks(serving: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One answers, one doesn't in time, one leaves."""
    kit, _ = serving(ACKS, "The server asks")
    fine, silent, leaving = kit.connect(), kit.connect(), kit.connect()
    question = fine.receive()
    assert (question.name, question.isAsked) == ("mood?", True)
    question.answer("fine")
    leaving.disconnect()
    kit.settle()
    assert capsys.readouterr().out == "left without an answer: client namespace disconnect\n"
    assert names(silent) == ["mood?", "mood"]
    kit.advance(5)
    assert names(silent) == ["reminder"]


def resultOf(deferred: Deferred[Any]) -> Any:
    """What a Deferred has already."""
    results: list[Any] = []
    deferred.addCallback(results.append)
    (result,) = results
    return result


def test_manyAnswer(serving: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """All votes count, and those that came in time if some did not."""
    kit, made = serving(ACKS, "Many sockets answer")
    clients = [kit.connect() for _ in range(3)]
    for each, vote in zip(clients, ("yes", "no", "yes"), strict=True):
        socketOf(kit, each).join("council")
        each.on("vote", vote)
    votes = ensureDeferred(made["vote"]("more tests?"))
    kit.settle()
    assert resultOf(votes) == 2
    socketOf(kit, kit.connect()).join("council")
    votes = ensureDeferred(made["vote"]("still more?"))
    kit.settle()
    assert not votes.called
    kit.advance(10)
    assert resultOf(votes) == 2
    assert capsys.readouterr().out == "1 did not vote\n"


def test_again(serving: Any) -> None:
    """An event that comes twice is done once."""
    kit, _ = serving(ACKS, "What an acknowledgement says")
    client = kit.connect()
    assert client.emitWithAck("order", 1, "tea") == "tea ordered"
    assert client.emitWithAck("order", 1, "coffee") == "tea ordered"


# docs/socketio-recovery.md

RECOVERY = "socketio-recovery.md"


def test_recovery(reactor: Any) -> None:
    """A client that lost its connection has what it had, and what it missed."""
    made = run(RECOVERY, "Connection state recovery", {})
    with MemorySocketIO(made["io"]) as kit:
        client = kit.connect()
        client.drop()
        kit.settle()
        made["io"].to("lobby").emit("said", "missed")
        again = kit.connect(recover=client)
        assert (again.recovered, again.id) == (True, client.id)
        assert [each.args[0] for each in again.receiveAll()] == ["missed"]
        assert socketOf(kit, again).data == {"name": "guest"}
        again.drop()
        kit.advance(121)
        assert not kit.connect(recover=again).recovered
        stats = made["io"].stats()
        assert (stats.recovered, stats.notRecovered) == (1, {"expired": 1})


def test_settings(reactor: Any) -> None:
    """The settings are those of the table, with its defaults."""
    made = run(RECOVERY, "Settings", {})
    settings = made["io"].recovery.settings
    assert settings == ConnectionStateRecovery(maxDisconnectionDuration=60_000, maxEvents=5000, maxBytes=10_000_000)
    assert made["news"].recovery is None
    first, last = section(RECOVERY, "Settings")
    lines = (DOCS / RECOVERY).read_text(encoding="utf-8").splitlines()[first : last - 1]
    shown = dict(re.findall(r"^\| `(\w+)` \| `?(\w+)`? \|", "\n".join(lines), re.MULTILINE))
    defaults = {each.name: each.default for each in attrs.fields(ConnectionStateRecovery)}
    assert shown == {name: str(default).lower() for name, default in defaults.items()}


def test_identity(reactor: Any) -> None:
    """Another user with the secret of the first gets a socket of its own."""
    made = run(RECOVERY, "Identity", {})
    with MemorySocketIO(made["io"]) as kit:
        client = kit.connect(auth={"user": "ann"})
        client.drop()
        kit.settle()
        other = kit.connect(auth={"user": "bob"}, recover=client)
        assert (other.recovered, other.id == client.id) == (False, False)
        assert kit.connect(auth={"user": "ann"}, recover=client).recovered
        assert made["io"].stats().notRecovered == {"other user": 1}


def test_causes() -> None:
    """The page has each cause that is counted."""
    described = " ".join((SocketIOStats.__doc__ or "").partition("notRecovered:")[2].split())
    assert rowsOf(RECOVERY, "Limits and memory") == set(re.findall(r"C\{([^}]+)\}", described))


def test_onTheWire(reactor: Any) -> None:
    """CONNECT has the secret, and events have offsets, but volatile ones and questions."""
    made = run(RECOVERY, "Connection state recovery", {})
    with MemorySocketIO(made["io"]) as kit:
        client = kit.connect()
        socket = socketOf(kit, client)
        socket.emit("plain", 1)
        socket.volatile.emit("volatile", 1)
        socket.emitWithAck("question", 1).addErrback(lambda failure: failure.trap(Disconnected))
        assert {each.name: len(each.args) for each in client.receiveAll()} == {"plain": 2, "volatile": 1, "question": 1}
        raw = kit.engine.connect()
        raw.send("0")
        assert re.fullmatch(r'0\{"sid":"[^"]{20}","pid":"[^"]{22,}"\}', str(raw.receive()))
        socket.disconnect()
        raw.close()


# docs/socketio-options.md


def test_options(reactor: Any) -> None:
    """Both ways to give them work."""
    made = run("socketio-options.md", "Socket.IO options", {}, 0)
    assert (made["io"].opts.ackTimeout, made["io"].engine.opts.pingInterval) == (10_000, 10_000)
    assert made["other"].opts == SocketIOOptions(ackTimeout=10_000)


def test_conversion(reactor: Any) -> None:
    """What JSON hasn't is converted, or refused as without the function."""
    made = run("socketio-options.md", "Socket.IO options", {}, 1)
    with MemorySocketIO(made["io"]) as kit:
        client = kit.connect()
        made["io"].emit("time", datetime(2026, 11, 30, tzinfo=UTC))
        assert client.receiveAll() == [Event("time", ("2026-11-30T00:00:00+00:00",))]
        with pytest.raises(UnsendableValue, match="args"):
            made["io"].emit("things", {1, 2})


# With the stock client


def node() -> str:
    found = shutil.which("node")
    require(found is not None, "Node.js")
    packages = INTEROP / "node_modules" / "socket.io-client"
    require(packages.is_dir(), "the packages of tests/interop (run `npm ci` there)")
    return str(found)


def sayHello(io: SocketIO) -> None:
    """Say what the listener of the page prints."""
    io.on("connection", lambda socket: socket.emit("said", "hello"))


CLIENTS: dict[tuple[str, str], tuple[str, list[str]]] = {
    (AUTHENTICATION, "Authentication for Socket.IO"): ("", ["logged in as ann"]),
    (ACKS, "A client asks"): ("", ["42", "the colour"]),
    (ACKS, "The server asks"): ("", ["fine"]),
    (RECOVERY, "Connection state recovery"): ("", ["new here"]),
    (RECOVERY, "What is on the wire"): ("Connection state recovery", ["hello"]),
}
"""The programs in JavaScript: the heading below which their server is, if it is another one, and what they print."""


def test_allClientsAreRun() -> None:
    """There is no program in JavaScript but the first one and those that the next tests run."""
    there = sum(each.language == "js" for page in (AUTHENTICATION, ACKS, RECOVERY) for each in blocksOf(DOCS / page))
    assert there == len(CLIENTS)
    assert len(blocks("socketio.md", "Socket.IO", "js")) == 1


def prints(program: str, expected: list[str], folder: Path) -> str | None:
    """Run a program in Node.js until it has printed all that is expected; return what it printed if it hasn't."""
    (folder / "client.mjs").write_text(program)
    (folder / "node_modules").symlink_to(INTEROP / "node_modules")
    said: list[str] = []
    output: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([node(), "client.mjs"], cwd=folder, **output) as process:
        killing = threading.Timer(PATIENCE, process.kill)
        killing.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line.strip())
                if said == expected:
                    return None
        finally:
            killing.cancel()
            process.kill()
    return "\n".join(said)


@pytest.mark.node
@pytest.mark.slow
def test_firstProgram(freePort: int, tmp_path: Path) -> None:
    """The first program and its client, as they stand."""
    (server,), (client,) = (blocks("socketio.md", "Socket.IO", language) for language in ("python", "js"))
    here, port = f"listen('tcp:{freePort}:interface=127.0.0.1')", str(freePort)
    program = server.text.replace("listen(3000)", here).replace("# raises", "; print('open', flush=True)  # raises")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            assert prints(client.text.replace("3000", port), ["hello", "5"], tmp_path) is None
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=PATIENCE)
            assert said == ""
        finally:
            process.kill()


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.usefixtures("serve")
@pytest.mark.filterwarnings("ignore:twisted.web.resource._Unsafe:DeprecationWarning")
@pytest_twisted.ensureDeferred
async def test_page(chromium: Chromium, freePort: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page loads the client from the server, and shows what everybody said."""
    node()
    (tmp_path / "node_modules").symlink_to(INTEROP / "node_modules")
    (tmp_path / "public").mkdir()
    (html,) = blocks("socketio.md", "A page", "html")
    (tmp_path / "public" / "index.html").write_text(html.text)
    monkeypatch.chdir(tmp_path)
    (program,) = blocks("socketio.md", "A page")
    here = program.text.replace("tcp:3000", f"tcp:{freePort}:interface=127.0.0.1").replace(
        "serverFrom", "port = serverFrom"
    )
    made: dict[str, Any] = {}
    exec(compile(here.replace("import port = ", "import "), str(program), "exec"), made)
    port = await made["port"]
    try:

        def look() -> str:
            from selenium.webdriver.support.wait import WebDriverWait

            with browse(chromium) as driver:
                driver.get(f"http://127.0.0.1:{freePort}/")
                wait = WebDriverWait(driver, PATIENCE, poll_frequency=0.05)
                wait.until(lambda driver: driver.find_element("id", "said").text, "waited for what is said")
                said: str = driver.find_element("id", "said").text
                return said

        assert await inThread(look) == "somebody has come"
    finally:
        await port.stopListening()
        await made["io"].close()


@pytest.mark.node
@pytest.mark.parametrize(("page", "heading"), CLIENTS)
@pytest_twisted.ensureDeferred
async def test_clients(serve: Any, freePort: int, page: str, heading: str, tmp_path: Path) -> None:
    """The stock client prints what the page has it print."""
    server, expected = CLIENTS[page, heading]
    made: dict[str, Any] = {"database": SimpleNamespace(load=_load)}

    def setup(engine: Server) -> None:
        isSettingsPage = page == RECOVERY
        options = {"connectionStateRecovery": True} if isSettingsPage else {}
        made["io"] = SocketIO(engine, **options)
        for each in blocks(page, server or heading):
            # This server is there already.
            text = re.sub(r"^io = listen\(.*\)$", "", each.text, flags=re.MULTILINE)
            exec(compile(text, str(each), "exec"), made)
        if server:
            sayHello(made["io"])

    running = await serve(setup, port=freePort, path="/socket.io")
    (client,) = blocks(page, heading, "js")
    program = client.text.replace("3000", str(running.port))
    assert await deferToThread(prints, program, expected, tmp_path) is None
