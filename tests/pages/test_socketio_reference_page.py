"""The page that compares the documentation of the Node.js server: complete, in step with the code, and run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.logger import LogEvent

from engineio_twisted import ServerOptions
from engineio_twisted.socketio import (
    AckTimeout,
    ConnectionStateRecovery,
    DisconnectReason,
    Handshake,
    MemoryAdapter,
    RemoteSocket,
    SocketIO,
    SocketIOOptions,
)
from engineio_twisted.socketio.redis import RedisAdapter
from engineio_twisted.socketio.testing import MemorySocketIO, Refused

from ..kit.markdown import blocksOf
from ..kit.scene import Check, Scene, SceneReactor, gives, heard
from ..kit.tables import body, defaults, names, ownText, rows, section, spans

PATH = Path(__file__).parents[2] / "docs" / "socketio-reference.md"
PAGE = PATH.read_text(encoding="utf-8")


# The documentation of the other server

DOCUMENTED = {
    "## Options": {
        *("path", "serveClient", "adapter", "parser", "connectTimeout", "cleanupEmptyChildNamespaces"),
        *(
            "connectionStateRecovery",
            "addTrailingSlash",
            "allowEIO3",
            "allowRequest",
            "allowUpgrades",
            "cookie",
            "cors",
        ),
        *("httpCompression", "maxHttpBufferSize", "perMessageDeflate", "pingInterval", "pingTimeout", "transports"),
        *("upgradeTimeout", "wsEngine"),
    },
    "## Server": {
        *(
            "connect",
            "connection",
            "new_namespace",
            "engine",
            "sockets",
            "adapter",
            "attach",
            "attachApp",
            "bind",
            "close",
        ),
        *("listen", "of", "on", "onconnection", "path", "serveClient", "httpServer", "encoder", "connectTimeout"),
    },
    "## Namespace": {
        *("adapter", "name", "sockets", "server", "connect", "connection", "allSockets", "disconnectSockets", "emit"),
        *("emitWithAck", "except", "fetchSockets", "in", "serverSideEmit", "serverSideEmitWithAck", "socketsJoin"),
        *("socketsLeave", "timeout", "to", "use", "local", "volatile", "compress", "send", "write"),
    },
    "## Socket": {
        *("disconnect", "disconnecting", "client", "conn", "data", "handshake", "id", "recovered", "request", "rooms"),
        *("compress", "emit", "emitWithAck", "eventNames", "except", "in", "join", "leave", "listenersAny", "off"),
        *("listenersAnyOutgoing", "offAny", "offAnyOutgoing", "on", "onAny", "onAnyOutgoing", "once", "prependAny"),
        *("prependAnyOutgoing", "removeAllListeners", "removeListener", "send", "timeout", "to", "use", "broadcast"),
        *("volatile", "local", "nsp", "connected", "disconnected", "write", "error"),
    },
    "### Handshake": {"headers", "time", "address", "xdomain", "secure", "issued", "url", "query", "auth"},
    "### Remote sockets": {"id", "handshake", "rooms", "data", "emit", "join", "leave", "disconnect", "timeout"},
    "## Client and Engine": {"client", "io", "clientsCount", "generateId", "handleUpgrade", "use"},
}
"""What the pages of options and of the server's API describe: by the heading below which it is here."""


@pytest.mark.parametrize("heading", DOCUMENTED)
def test_everythingDocumentedIsThere(heading: str) -> None:
    """Nothing of their documentation is left out."""
    text = ownText(PAGE, heading)
    shown = names(text) if heading == "## Options" else {each for row in rows(text) for each in names(row[0])}
    assert DOCUMENTED[heading] - shown == set()


# Options


def test_everyOptionIsNamedWithItsDefault() -> None:
    """No option is left out, and what the page gives as a default is what an option is that isn't given."""
    text = ownText(PAGE, "## Options")
    shown = defaults(text)
    assert shown.keys() == attrs.fields_dict(SocketIOOptions).keys()
    assert SocketIOOptions(**shown) == SocketIOOptions()
    assert names(text.rpartition("`path` is")[2]) <= {*attrs.fields_dict(ServerOptions), "listen", "attach"}


def test_everySettingOfRecoveryIsNamedWithItsDefault() -> None:
    """The same for recovery."""
    shown = defaults(section(PAGE, "## Connection state recovery"))
    assert shown.keys() == attrs.fields_dict(ConnectionStateRecovery).keys()
    assert ConnectionStateRecovery(**shown) == ConnectionStateRecovery()


def test_everyReasonIsNamed() -> None:
    """Each reason that is the same is one here; those that are only here are named."""
    text = ownText(PAGE, "### Reasons")
    table = {row[0].strip("`"): row[1] for row in body(text, "`reason` of socket.io")}
    ours = {name for name, here in table.items() if not here.startswith("none")}
    assert ours | {each for each in spans(text.rpartition("Only here:")[2]) if " " in each} == {*DisconnectReason}


# The tables of the interface


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, loggedErrors: list[LogEvent]) -> Iterator[Scene]:
    """A server with clients, in the reactor of which programs listen."""
    reactor = SceneReactor()
    monkeypatch.setattr("twisted.internet.reactor", reactor)
    scene = Scene(reactor, loggedErrors)
    yield scene
    scene.close()


TABLES = (
    *("## Server", "## Namespace", "### Events of clients", "## Socket", "## Client and Engine", "## Emit cheatsheet"),
    *("## Middlewares", "## Rooms", "## Adapters", "## Migration notes"),
)

PROSE = ("## Middlewares", "## Rooms")
"""Tables whose rows have no name that is the same."""


def tableRows() -> Iterator[tuple[str, str, str]]:
    for heading in TABLES:
        for header in ("socket.io", "from 2 to 3", "from 3 to 4"):
            for row in body(ownText(PAGE, heading), header):
                yield heading, row[0], row[1]


ROWS = [pytest.param(*each, id=f"{each[0].strip('# ')}: {each[1]}") for each in tableRows()]


def makes(scene: Scene, values: list[Any]) -> None:
    """A server at the path of Socket.IO."""
    (io,) = values
    assert isinstance(io, SocketIO)
    assert io.engine.opts.path == "/socket.io"
    io.close()


def nothing(scene: Scene, values: list[Any]) -> None:
    """Nothing is run in this row."""
    assert values == []


def asksChat(scene: Scene, values: list[Any]) -> None:
    scene.kit.connect("/chat")
    assert scene.calls == [()]


def matches(*accepted: str) -> Check:
    def check(scene: Scene, values: list[Any]) -> None:
        for each in accepted:
            assert scene.kit.connect(each).connected
        with pytest.raises(Refused, match="Invalid namespace"):
            scene.kit.connect("/other")

    return check


def closes(scene: Scene, values: list[Any]) -> None:
    assert (values, scene.ann.connected) == ([None], False)


def middleware(scene: Scene, values: list[Any]) -> None:
    scene.kit.connect()
    assert scene.calls == [()]


def doesNotAnswer(scene: Scene, values: list[Any]) -> None:
    # Eve doesn't.
    (error,) = values
    assert isinstance(error, AckTimeout)
    assert (error.answers, error.missing) == (["fine", "fine"], [scene.eve.id])


def answers(scene: Scene, values: list[Any]) -> None:
    """The Deferreds have the answer of a client."""
    got: list[Any] = []
    for each in values:
        each.addCallback(got.append)
    assert got == ["fine"] * len(values)


def sendsWith(*clients: str) -> Check:
    """Return a check that what a row gives sends to these clients alone."""

    def check(scene: Scene, values: list[Any]) -> None:
        for each in values:
            each.emit("x")
        scene.kit.settle()
        assert scene.heard() == {each: [("x",)] * len(values) for each in clients}

    return check


def allSockets(scene: Scene, values: list[Any]) -> None:
    here, everywhere = values
    assert sorted(here) == sorted(each.id for each in everywhere)


def asksOthers(scene: Scene, values: list[Any]) -> None:
    assert scene.io.adapter.published == [["ping"]]


def tellsOthers(scene: Scene, values: list[Any]) -> None:
    assert scene.io.adapter.published == [["hello", "world"]]


def hearsOthers(scene: Scene, values: list[Any]) -> None:
    got: list[Any] = []
    scene.io.serverSideReceived("reload", ["prices"]).addCallback(got.append)
    assert (scene.calls, got) == ([("prices",)], ["an answer"])


def says(scene: Scene, values: list[Any]) -> None:
    """Both handlers have the text, the one of the namespace without the socket, which isn't noted."""
    scene.ann.emit("say", "hi")
    assert scene.calls == [("hi",), ("hi",)]


def saysAny(scene: Scene, values: list[Any]) -> None:
    scene.ann.emit("say", "hi")
    assert scene.calls == [("say", "hi"), ("say", "hi")]


def hearsErrors(scene: Scene, values: list[Any]) -> None:
    scene.socket.on("fail", lambda: 1 / 0)
    scene.ann.emit("fail")
    assert scene.calls == []
    scene.socket.on("error", scene.handler)
    scene.ann.emit("fail")
    assert [type(error) for (error,) in scene.calls] == [ZeroDivisionError]
    scene.kit.errors.clear()
    scene.logged.clear()


def removes(scene: Scene, values: list[Any]) -> None:
    for again in range(2):
        scene.socket.on("say", scene.handler)
        scene.run('socket.removeListener("say", handler)')
        assert scene.socket.listeners("say") == [], again


def removesAll(scene: Scene, values: list[Any]) -> None:
    scene.socket.on("say", scene.handler)
    scene.socket.on("say", print)
    scene.run('[socket.removeListener("say", each) for each in socket.listeners("say")]')
    assert scene.socket.listeners("say") == []


def checked(scene: Scene, values: list[Any]) -> None:
    scene.socket.on("say", scene.handler)
    scene.ann.emit("say", "hi")
    assert scene.calls == [("hi", "checked")]


def isMemory(scene: Scene, values: list[Any]) -> None:
    assert values[0] is MemoryAdapter
    assert values[1] is scene.io.adapter


def isPath(scene: Scene, values: list[Any]) -> None:
    assert values == ["/socket.io", "/socket.io"]


def isRedis(scene: Scene, values: list[Any]) -> None:
    assert isinstance(values[0], RedisAdapter)


def listening(scene: Scene, values: list[Any]) -> None:
    ports: list[Any] = []
    values[0].addCallback(ports.append)
    assert [each.getHost().port for each in ports] == [3000]


def sameSocket(attribute: str) -> Check:
    def check(scene: Scene, values: list[Any]) -> None:
        assert values == [getattr(scene.socket, attribute)]

    return check


def exceptAndRooms(scene: Scene, values: list[Any]) -> None:
    for each, name in zip(values, ("x", "y"), strict=True):
        each.emit(name)
    scene.kit.settle()
    assert scene.heard() == {"ann": [("y",)], "bob": [("y",)], "eve": [("x",)]}


def fetched(scene: Scene, values: list[Any]) -> None:
    assert {each.id for each in values[0]} == {*scene.io.sockets}


def refused(message: str, data: Any = None) -> Check:
    def check(scene: Scene, values: list[Any]) -> None:
        assert scene.refused is not None
        assert (scene.refused.message, scene.refused.data) == (message, data)

    return check


def requested(scene: Scene, values: list[Any]) -> None:
    scene.kit.connect(transport="websocket")
    assert [request.path for (request,) in scene.calls] == [b"/socket.io/"]


def joined(*those: str) -> Check:
    def check(scene: Scene, values: list[Any]) -> None:
        assert scene.socket.rooms == {scene.ann.id, *those}

    return check


def room(scene: Scene, values: list[Any]) -> None:
    assert values == [{scene.socket, scene.bob.socket}]


def fetchedRoom(scene: Scene, values: list[Any]) -> None:
    assert {each.id for each in values[0]} == {scene.ann.id, scene.bob.id}


HELLO = ("hello",)
INTERFACE: dict[tuple[str, str], Check] = {
    ("## Server", "`new Server(httpServer, options)`"): makes,
    ("## Server", "`new Server(port, options)`"): makes,
    ("## Server", "`new Server(options)`"): makes,
    ("## Server", "`httpServer`"): listening,
    ("## Server", "`sockets`"): lambda scene, values: gives(scene.io.sockets)(scene, values[:1]),
    ("## Server", "`adapter(value)`"): isMemory,
    ("## Server", "`attach(httpServer)`, `listen(httpServer)`"): makes,
    ("## Server", "`attach(port)`, `listen(port)`"): makes,
    ("## Server", "`bind(engine)`"): makes,
    ("## Server", "`path(value)`"): isPath,
    ("## Server", "`serveClient(value)`"): nothing,
    ("## Server", "`connectTimeout(value)`"): gives(45000),
    ("## Server", "`of(name, listener)`"): asksChat,
    ("## Server", "`of(pattern)`"): matches("/dynamic-1", "/dynamic-22"),
    ("## Server", "`of(function)`"): matches("/allowed"),
    ("## Server", "`close(callback)`"): closes,
    ("## Namespace", "`server`"): lambda scene, values: gives(scene.io)(scene, values),
    ("## Namespace", "`use(fn)`"): middleware,
    ("## Namespace", "`emit(event, …, ack)`"): doesNotAnswer,
    ("## Namespace", "`write(…)`"): heard(**{name: [("message", "hello")] for name in ("ann", "bob", "eve")}),
    ("## Namespace", "`in(room)`"): sendsWith("ann", "bob"),
    ("## Namespace", "`except(rooms)`"): sendsWith("eve"),
    ("## Namespace", "`allSockets()`"): allSockets,
    ("## Namespace", "`serverSideEmit(event, …, ack)`"): asksOthers,
    ("## Namespace", "`on(event)`, for `serverSideEmit`"): hearsOthers,
    ("### Events of clients", '`socket.on("say", (text) => …)`'): says,
    ("### Events of clients", "`socket.onAny((event, …args) => …)`"): saysAny,
    ("## Socket", "event `error`"): hearsErrors,
    ("## Socket", "`disconnected`"): gives(False),
    ("## Socket", "`nsp`"): sameSocket("namespace"),
    ("## Socket", "`emit(event, …, ack)`"): answers,
    ("## Socket", "`except(rooms)`"): sendsWith("eve"),
    ("## Socket", "`in(room)`"): sendsWith("bob"),
    ("## Socket", "`off(event, listener)`"): removes,
    ("## Socket", "`removeAllListeners(event)`"): removesAll,
    ("## Socket", "`write(…)`"): heard(ann=[("message", "hello")]),
    ("## Socket", "`use(fn)`"): checked,
    ("## Client and Engine", "`client.conn`"): sameSocket("conn"),
    ("## Client and Engine", "`client.request`"): sameSocket("request"),
    ("## Emit cheatsheet", '`socket.emit("hello", 1, "2", { 3: "4", 5: Buffer.from([6]) })`'): heard(
        ann=[("hello", 1, "2", {"3": "4", "5": b"\x06"})]
    ),
    ("## Emit cheatsheet", '`await socket.emitWithAck("mood?", "world")`'): gives("fine"),
    ("## Emit cheatsheet", '`await socket.timeout(5000).emitWithAck("mood?")`'): gives("fine"),
    ("## Emit cheatsheet", '`io.emit("hello")`'): heard(ann=[HELLO], bob=[HELLO], eve=[HELLO]),
    ("## Emit cheatsheet", '`socket.broadcast.emit("hello")`'): heard(bob=[HELLO], eve=[HELLO]),
    ("## Emit cheatsheet", '`await io.timeout(5000).emitWithAck("mood?")`'): gives(["fine", "fine"]),
    ("## Emit cheatsheet", '`io.to("my room").emit("hello")`'): heard(ann=[HELLO], bob=[HELLO]),
    ("## Emit cheatsheet", '`io.except("my room").emit("hello")`'): heard(eve=[HELLO]),
    ("## Emit cheatsheet", '`io.to("a").to(["b", "c"]).except("d").emit("hello")`'): heard(bob=[HELLO]),
    ("## Emit cheatsheet", '`io.of("/my-namespace").emit("hello")`'): heard(dan=[HELLO]),
    ("## Emit cheatsheet", '`socket.timeout(5000).to("a").except("b").emit("mood?", ack)`'): gives(["fine"]),
    ("## Emit cheatsheet", '`socket.to(id).emit("private")`'): heard(bob=[("private",)]),
    ("## Emit cheatsheet", '`io.to(socket.id).emit("hello")`'): heard(ann=[HELLO]),
    ("## Emit cheatsheet", '`socket.compress(false).emit("hello")`'): heard(ann=[HELLO]),
    ("## Emit cheatsheet", '`socket.volatile.emit("hello")`'): heard(ann=[HELLO]),
    ("## Emit cheatsheet", '`io.local.emit("hello")`'): heard(ann=[HELLO], bob=[HELLO], eve=[HELLO]),
    ("## Emit cheatsheet", '`io.serverSideEmit("hello", "world")`'): tellsOthers,
    ("## Middlewares", "`io.use((socket, next) => next())`"): middleware,
    ("## Middlewares", '`next(new Error("no"))`'): refused("no"),
    ("## Middlewares", "`error.data = { code: 401 }`"): refused("no", {"code": 401}),
    ("## Middlewares", "a client's `auth`, an object or a function"): gives(*[{"token": "5f1c0e"}] * 2),
    ("## Middlewares", "middlewares of Express, `io.engine.use(helmet())`"): requested,
    ("## Rooms", '`socket.join(["garden", "kitchen"])`'): joined("garden", "kitchen", "lobby"),
    ("## Rooms", '`io.of("/").adapter.rooms`'): room,
    ("## Rooms", '`io.of("/").adapter.sids`'): joined("lobby"),
    ("## Rooms", "a room for each user, `io.in(userId).fetchSockets()`"): fetchedRoom,
    ("## Adapters", "the adapter in memory"): nothing,
    ("## Adapters", "Redis adapter"): isRedis,
    ("## Adapters", "Cluster adapter"): nothing,
    ("## Adapters", "emitters"): nothing,
    ("## Adapters", "a class with `addAll`, `del`, `delAll`, `broadcast` and more"): nothing,
    ("## Adapters", "`serverCount()`"): nothing,
    ("## Migration notes", "`clients()` became `allSockets()`"): fetched,
    ("## Migration notes", "rooms are not made into text"): nothing,
    ("## Migration notes", "`wsEngine` takes a class"): nothing,
    ("## Migration notes", "`except`, arrays of rooms"): exceptAndRooms,
    ("## Migration notes", "typed events"): nothing,
}
"""What the programs of each row do that isn't the same, by its heading and its first cell."""


@pytest.mark.parametrize(("heading", "theirs", "here"), ROWS)
def test_row(heading: str, theirs: str, here: str, scene: Scene) -> None:
    """What is the same is there by that name; what isn't does what it should; all programs of the row run."""
    isSame = here.startswith("same")
    if isSame and heading in ("## Server", "## Namespace", "## Socket"):
        subject = scene.socket if heading == "## Socket" else scene.io
        (name, *_) = names(theirs)
        if theirs.startswith("event"):
            assert name in subject.argumentsOf
        else:
            assert hasattr(subject, name)
    values = [scene.run(each) for each in scene.programs(here)]
    if not isSame and not here.startswith("none"):
        INTERFACE[heading, theirs](scene, values)


def test_everyCheckHasARow() -> None:
    """No check is left of a row that is gone, or became the same."""
    assert INTERFACE.keys() - {(heading, theirs) for heading, theirs, _ in tableRows()} == set()


@pytest.mark.parametrize("heading", ["## Server", "## Namespace"])
def test_whatIsOnlyHereIsHere(heading: str, scene: Scene) -> None:
    """Members that the page names as only here exist."""
    only = ownText(PAGE, heading).rpartition("Only here:")[2]
    found = {span.removeprefix("io.").removesuffix("()") for span in spans(only)}
    assert found
    assert [each for each in found if not hasattr(scene.io, each)] == []


def test_onlyHereOfASocket(scene: Scene) -> None:
    """The same for sockets."""
    only = ownText(PAGE, "## Socket").rpartition("Only here:")[2]
    assert spans(only)
    assert [each for each in spans(only) if not hasattr(scene.socket, each)] == []


def test_handshake(scene: Scene) -> None:
    """Each field is there, by its name or by the one that the page gives, and no other is."""
    shown = set()
    for row in body(ownText(PAGE, "### Handshake"), "`handshake` of socket.io"):
        (name,) = names(row[0])
        shown.add(name if row[1].startswith("same") else "crossDomain")
        for each in spans(row[1]):
            assert each == "Date" or scene.run(each) is False
    assert shown == {each for each in dir(Handshake) if not each.startswith("_")} | {"auth"}


def test_remoteSockets(scene: Scene) -> None:
    """The members of what `fetchSockets` returns."""
    (remote,) = scene.run("await io.in_(sid).fetchSockets()")
    assert isinstance(remote, RemoteSocket)
    (data, methods, timeout) = body(ownText(PAGE, "### Remote sockets"), "member of what `fetchSockets` returns")
    for each in names(data[0]) | names(methods[0]) | {"emitWithAck"}:
        assert hasattr(remote, each)
    assert spans(timeout[1]) == ["emitWithAck", "timeout"]


# The programs


def blockOf(text: str) -> str:
    """The one program of the page that has a text."""
    (block,) = (each for each in blocksOf(PATH) if text in each.text)
    return block.text


def test_theFirstProgram(scene: Scene) -> None:
    """It refuses, asks and acknowledges as the page says."""
    made: dict[str, Any] = {}
    exec(blockOf("pingInterval"), made)
    io = made["io"]
    assert (io.opts.connectTimeout, io.engine.opts.pingInterval) == (20_000, 10_000)
    io.close()
    with MemorySocketIO(lambda io: None) as kit:
        kit.io.use(made["authenticate"])
        kit.io.on("say", made["say"])
        with pytest.raises(Refused) as refused:
            kit.connect(auth={"token": "guess"})
        assert (refused.value.message, refused.value.data) == ("not authorized", {"content": "log in first"})
        ann, bob = (kit.connect(auth={"token": "5f1c0e"}) for _ in range(2))
        for each in (ann, bob):
            each.socket.join("lobby")
            each.on("mood?", "fine")
        assert ann.emitWithAck("say", "hi") == {"stored": True}
        assert bob.receive().args == ("hi", "fine")


def test_theAdapter(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """It tells of each room that is made, once."""
    made: dict[str, Any] = {}
    exec(blockOf("TellingAdapter"), made)
    made["io"].close()
    with MemorySocketIO(lambda io: None, adapter=made["TellingAdapter"]) as kit:
        first, second = kit.connect(), kit.connect()
        first.socket.join("lobby", "garden")
        second.socket.join("lobby")
    assert sorted(capsys.readouterr().out.splitlines()) == ["created: garden", "created: lobby"]


def test_atLeastOnce(scene: Scene) -> None:
    """A client that says what it had last gets what came since."""
    made = {"io": scene.io}
    exec(blockOf("def publish"), made)
    publish: Any = made["publish"]
    publish("one")
    publish("two")
    client = scene.kit.connect(auth={"offset": 1})
    publish("three")
    assert [each.args for each in client.receiveAll()] == [("two", 2), ("three", 3)]


# Behaviour

BEHAVIOUR = {
    "a middleware fails": "test_connecting.py::test_middlewareThatFails",
    "a middleware never ends": "test_connecting.py::test_middlewareThatNeverEnds",
    "`join` and `emit` in a middleware": "test_connecting.py::test_joinAndEmitDuringAMiddleware",
    "a handler raises": "test_events.py::test_handlerThatFails",
    "an acknowledgement that never comes": "test_acks.py::test_timeout",
    "an answer with several arguments": "test_acks.py::test_answers",
    "a broadcast with acknowledgements": "test_operators.py::test_emitWithAckTimeout",
    "a recipient that leaves meanwhile": "test_operators.py::test_whoLeavesIsMissing",
    "an asynchronous middleware of events": "test_events.py::test_useKeepsTheOrder",
    "an invalid packet": "test_ends.py::test_reasons",
    "a packet for a namespace that the server has ended": "test_ends.py::test_oneNamespace",
    "arguments": "test_events.py::test_unsendable",
    "the room of another socket's id": "test_rooms.py::test_roomOfItsId",
    "several handlers of one event": "test_events.py::test_severalHandlers",
    "a client's event `connection`, `new_namespace` or `error`": "test_namespaces.py::test_newNamespaceFromTheWire",
    "draining": "test_draining.py::test_drainWaitsForHandlers",
}
"""By which test each row of the table is held."""


SAME = {
    "several, one after the other": "test_connecting.py::test_middlewaresInOrder",
    "once for each connection, and not for each request": "test_connecting.py::test_middlewaresInOrder",
    "no `disconnect` if the client is refused or leaves": "test_connecting.py::test_leavingDuringAMiddleware",
    "`connect_error` of the client": "test_connecting.py::test_refuse",
    "known to the server only": "test_rooms.py::test_join",
    '`io.to("garden").to("lobby")`, each recipient once': "test_operators.py::test_targets",
    '`socket.to("lobby")`, without the socket itself': "test_operators.py::test_targets",
    "a room for the id of each socket, for private messages": "test_rooms.py::test_roomOfItsId",
    "rooms are left at the end; `disconnecting` still has them": "test_ends.py::test_order",
    "several servers: an adapter": "test_redis.py::test_broadcasts",
}
"""By which test each row about middlewares and rooms is held that is the same."""


def test_everyBehaviourIsShown() -> None:
    """Each row that differs has a test that shows it, and so has what is the same without a name to look for."""
    assert {row[0] for row in body(section(PAGE, "## Behaviour"), "subject")} == BEHAVIOUR.keys()
    same = {theirs for heading, theirs, here in tableRows() if here.startswith("same") and heading in PROSE}
    assert same == SAME.keys()
    for where in [*BEHAVIOUR.values(), *SAME.values()]:
        module, _, name = where.partition("::")
        tree = ast.parse((PATH.parents[1] / "tests" / "socketio" / module).read_text(encoding="utf-8"))
        assert name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}, where


def test_linksLeadSomewhere() -> None:
    """The pages that this page points to are there."""
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (PATH.parent / target).is_file(), target
