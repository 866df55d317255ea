"""The page for those who come from python-socketio and Flask-SocketIO: complete, and all that it names is run."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogEvent

from engineio_twisted import EngineIOResource
from engineio_twisted.socketio import DisconnectReason, SocketIO
from engineio_twisted.socketio.redis import RedisAdapter
from engineio_twisted.socketio.testing import Event, MemorySocketIO, Refused

from ..kit.markdown import blocksOf
from ..kit.scene import Check, Scene, SceneReactor, gives, heard
from ..kit.tables import body, names, ownText, rows, section, spans
from ..kit.tools import require

PATH = Path(__file__).parents[2] / "docs" / "python-socketio.md"
PAGE = PATH.read_text(encoding="utf-8")
THEIRS = ("python-socketio", "method of a manager", "Flask-SocketIO", "option of Flask-SocketIO")


# What the programs of the tables do


def nothing(scene: Scene, values: list[Any]) -> None:
    """Nothing is run in this row."""
    assert values == []


SAID = ("said", "hello")


def everybody(event: tuple[Any, ...]) -> Check:
    return heard(ann=[event], bob=[event], eve=[event])


def decided(scene: Scene, values: list[Any]) -> None:
    scene.kit.connect()
    # As a middleware, and as a handler of the event.
    assert scene.calls == [(), ()]


def refused(message: str, data: Any = None) -> Check:
    def check(scene: Scene, values: list[Any]) -> None:
        assert scene.refused is not None
        assert (scene.refused.message, scene.refused.data) == (message, data)

    return check


def sockets(scene: Scene, values: list[Any]) -> None:
    assert values == [scene.ann.id, scene.socket]


def disconnects(scene: Scene, values: list[Any]) -> None:
    scene.ann.disconnect()
    assert scene.calls == [(DisconnectReason.CLIENT_NAMESPACE_DISCONNECT, "")]


def asksSay(*namespaces: str) -> Check:
    """Return a check that the handler answers the event `say` in namespaces, with the text alone."""

    def check(scene: Scene, values: list[Any]) -> None:
        for each in namespaces:
            client = scene.ann if each == "/" else scene.kit.connect(each)
            assert client.emitWithAck("say", "hi") == "an answer"
            assert scene.calls.pop() == ("hi",)
        assert scene.calls == []

    return check


def decorates(scene: Scene, values: list[Any]) -> None:
    (decorator,) = values
    assert decorator(scene.handler) == scene.handler
    asksSay("/")(scene, values)


def unhandled(scene: Scene, values: list[Any]) -> None:
    assert scene.ann.emitWithAck("anything", 1) == "an answer"
    assert scene.calls == [("anything", 1)]


def removed(scene: Scene, values: list[Any]) -> None:
    scene.io.on("say", scene.handler)
    scene.run('io.removeListener("say", handler)')
    assert not scene.ann.ask("say", "hi").isAnswered


def works(scene: Scene, values: list[Any]) -> None:
    assert scene.worked == ["begun"] * len(values)
    scene.kit.advance(1)
    assert scene.worked[len(values) :] == ["over"] * len(values)


def blocks(scene: Scene, values: list[Any]) -> None:
    assert scene.worked == ["blocked"]


def worksOrBlocks(scene: Scene, values: list[Any]) -> None:
    assert scene.worked == ["begun", "blocked"]


def sleeps(scene: Scene, values: list[Any]) -> None:
    assert values[0] is None
    scene.calls.clear()
    scene.kit.advance(3)
    assert scene.calls == [()] * 3


def slept(scene: Scene, values: list[Any]) -> None:
    assert values == [None]


def inRoom(room: str, *expected: str) -> Check:
    """Return a check of who is in a room now."""

    def check(scene: Scene, values: list[Any]) -> None:
        known = {scene.socket: "ann", scene.bob.socket: "bob", scene.eve.socket: "eve"}
        assert {known[each] for each in scene.io.rooms.get(room, ())} == {*expected}

    return check


def asked(scene: Scene, values: list[Any]) -> None:
    assert scene.calls == [("fine",)]


def answered(scene: Scene, values: list[Any]) -> None:
    assert values == ["fine"]


def roomsOfAnn(scene: Scene, values: list[Any]) -> None:
    assert values == [{scene.ann.id, "lobby"}]


def dataOfAnn(**expected: Any) -> Check:
    def check(scene: Scene, values: list[Any]) -> None:
        assert scene.socket.data == {"user": "ann", **expected}

    return check


def requests(scene: Scene, values: list[Any]) -> None:
    request, handshake = values
    assert request.getHeader("x-name") == handshake.headers["x-name"] == "Ann"


def disconnected(*those: str) -> Check:
    def check(scene: Scene, values: list[Any]) -> None:
        for name in ("ann", "bob", "eve"):
            expected = "io server disconnect" if name in those else None
            assert getattr(scene, name).disconnected == expected

    return check


def chats(scene: Scene, values: list[Any]) -> None:
    assert scene.dan.emitWithAck("say", "hi") == "/chat: hi"


def serves(scene: Scene, values: list[Any]) -> None:
    (resource,) = values
    assert resource.engineServer is EngineIOResource(scene.io.engine).engineServer


def attaches(scene: Scene, values: list[Any]) -> None:
    for each in values:
        assert isinstance(each, SocketIO)
        assert each.engine.opts.path == "/socket.io"
        each.close()


def closed(scene: Scene, values: list[Any]) -> None:
    assert values == [None]
    assert [scene.ann.connected, scene.io.stats().clients] == [False, 0]


def reason(scene: Scene, values: list[Any]) -> None:
    assert values == ["ping timeout"]


def isAdapter(channel: str) -> Check:
    def check(scene: Scene, values: list[Any]) -> None:
        (adapter,) = values
        assert isinstance(adapter, RedisAdapter)
        assert repr(adapter).startswith(f"<RedisAdapter {channel!r} ")

    return check


def isPath(scene: Scene, values: list[Any]) -> None:
    assert values == ["/socket.io"]


def statistics(scene: Scene, values: list[Any]) -> None:
    (stats,) = values
    assert (stats.sockets, stats.rooms) == (4, 1)


def unhandledOfChat(scene: Scene, values: list[Any]) -> None:
    assert scene.dan.emitWithAck("anything", 1) == "an answer"


def namespaces(scene: Scene, values: list[Any]) -> None:
    assert [*values[0]] == ["/", "/chat"]


def participants(scene: Scene, values: list[Any]) -> None:
    here, all_ = values
    assert here == {scene.socket, scene.bob.socket}
    assert sorted(each.id for each in all_) == sorted(each.id for each in here)


def secret(scene: Scene, values: list[Any]) -> None:
    assert values == [scene.ann.engine.sid]


def listens(scene: Scene, values: list[Any]) -> None:
    assert [each[0] for each in scene.reactor.tcpServers] == [5000]


def acceptsAll(scene: Scene, values: list[Any]) -> None:
    named, _ = values
    assert named is scene.io.of("/chat")
    assert scene.kit.connect("/anything").connected


def hearsJson(scene: Scene, values: list[Any]) -> None:
    scene.ann.emit("json", {"a": 1})
    scene.ann.send("text")
    assert scene.calls == [({"a": 1},), ("text",)]


def hearsErrors(namespace: str) -> Check:
    def check(scene: Scene, values: list[Any]) -> None:
        scene.io.of(namespace).on("fail", lambda socket: 1 / 0)
        (scene.ann if namespace == "/" else scene.dan).emit("fail")
        assert [str(each[0]) for each in scene.calls] == ["division by zero"]
        scene.kit.errors.clear()
        scene.logged.clear()

    return check


def hearsAny(scene: Scene, values: list[Any]) -> None:
    scene.ann.emit("say", "hi")
    assert scene.calls == [("say", "hi")]


def ofRequest(scene: Scene, values: list[Any]) -> None:
    headers, query, cookie = values
    assert (headers["x-name"], query["room"], cookie) == ("Ann", "garden", b"yes")


def idOfAnn(scene: Scene, values: list[Any]) -> None:
    assert values == [scene.ann.id]


def connects(scene: Scene, values: list[Any]) -> None:
    assert [each.namespace for each in values] == ["/chat", "/chat"]
    assert all(each.connected for each in values)


def shouted(scene: Scene, values: list[Any]) -> None:
    assert scene.shouts == ["hello"]


def sent(scene: Scene, values: list[Any]) -> None:
    assert scene.shouts == ["message: hello"]


def left(scene: Scene, values: list[Any]) -> None:
    assert not scene.eve.connected


def connectsHere(scene: Scene, values: list[Any]) -> None:
    assert values[0].connected


CONNECTIONS: dict[str, Check] = {
    "`connect(sid, environ, auth)`": decided,
    "it returns `False`": refused("Connection refused"),
    '`raise ConnectionRefusedError("no", {"code": 1})`': refused("no", {"code": 1}),
    "it raises anything else": nothing,
    "`sid`": sockets,
    "`auth`": gives({"token": "5f1c0e"}),
    '`environ["HTTP_X_NAME"]`': gives("Ann"),
    '`environ["HTTP_COOKIE"]`': gives(b"yes"),
    '`environ["QUERY_STRING"]`': gives("garden"),
    '`environ["REMOTE_ADDR"]`': gives("127.0.0.1"),
    "`disconnect(sid, reason)`": disconnects,
}

OPTIONS: dict[str, Check] = {
    "`client_manager`": isAdapter("socketio"),
    "`logger`": nothing,
    "`serializer`": gives("msgpack"),
    "`json`": gives(str),
    "`async_handlers`": nothing,
    "`always_connect`": nothing,
    "`namespaces`": acceptsAll,
    "`kwargs`": nothing,
}

EVENTS: dict[str, Check] = {
    '`on("say", handler)`': asksSay("/"),
    '`on("say")`, `event`': decorates,
    '`on("say", handler, namespace="/chat")`': asksSay("/chat"),
    '`on("say", handler, namespace="*")`': asksSay("/new", "/newer"),
    '`on("*", handler)`': unhandled,
    "several handlers of one event": removed,
    "the result of a handler": nothing,
    "`start_background_task(target)`": works,
    "the same, for code that blocks": blocks,
    "`sleep(seconds)`": sleeps,
    "an emit of another thread": everybody(SAID),
}

METHODS: dict[str, Check] = {
    '`emit("said", text)`': everybody(SAID),
    '`emit("said")`': everybody(("said",)),
    '`emit("said", (text, 2))`': everybody(("said", "hello", 2)),
    '`emit("said", text, to=sid)`': heard(ann=[SAID, SAID]),
    '`emit("said", text, room="lobby")`': heard(ann=[SAID], bob=[SAID]),
    '`emit("said", text, room=["lobby", "garden"])`': heard(ann=[SAID], bob=[SAID]),
    '`emit("said", text, skip_sid=sid)`': heard(bob=[SAID, SAID], eve=[SAID, SAID]),
    '`emit("said", text, room="lobby", skip_sid=sid)`': heard(bob=[SAID]),
    '`emit("said", text, namespace="/chat")`': heard(dan=[SAID]),
    '`emit("mood?", to=sid, callback=handler)`': asked,
    '`emit("said", text, ignore_queue=True)`': everybody(SAID),
    "`send(text)`": everybody(("message", "hello")),
    '`call("mood?", text, to=sid, timeout=60)`': answered,
    '`enter_room(sid, "garden")`': inRoom("garden", "ann"),
    '`leave_room(sid, "lobby")`': inRoom("lobby"),
    '`close_room("lobby")`': inRoom("lobby"),
    "`rooms(sid)`": roomsOfAnn,
    "`get_session(sid)`": gives({"user": "ann"}),
    '`save_session(sid, {"name": "Ann"})`': dataOfAnn(name="Ann"),
    "`session(sid)`": dataOfAnn(name="Ann"),
    "`get_environ(sid)`": requests,
    "`transport(sid)`": gives("websocket"),
    "`disconnect(sid)`": disconnected("ann", "bob"),
    '`register_namespace(ChatNamespace("/chat"))`': chats,
    "`handle_request(environ, start_response)`": serves,
    '`attach(app, socketio_path="socket.io")`': attaches,
    "`shutdown()`": closed,
    "`instrument(auth)`": statistics,
    "`reason`": reason,
    "`reserved_events`": nothing,
    "`is_asyncio_based()`": nothing,
}

MANAGERS: dict[str, Check] = {
    "`Manager`, `AsyncManager`": nothing,
    '`RedisManager(url, channel="socketio")`, `AsyncRedisManager`': isAdapter("socketio"),
    "`RedisManager(url, write_only=True)`": nothing,
    "`KombuManager`, `KafkaManager`, `ZmqManager`, `AsyncAioPikaManager`, `PubSubManager`": nothing,
    "`emit`, `enter_room`, `leave_room`, `close_room`, `disconnect`": nothing,
    "`get_namespaces()`": namespaces,
    '`get_participants("/", "lobby")`': participants,
    '`get_rooms(sid, "/")`': roomsOfAnn,
    '`is_connected(sid, "/")`, `can_disconnect(sid, "/")`': gives(True),
    '`is_sid_room("/", sid)`': gives(True),
    '`eio_sid_from_sid(sid, "/")`': secret,
    "`sid_from_eio_sid`": nothing,
    "`initialize`, `set_server`, `trigger_callback`": nothing,
    "`connect`, `pre_connect`, `is_pre_connected`, `pre_disconnect`": nothing,
    "`basic_enter_room`, `basic_leave_room`, `basic_close_room`, `basic_disconnect`, `zmq_listen`": nothing,
    "`name`": nothing,
}

APPLICATIONS: dict[str, Check] = {
    "`WSGIApp(sio, app)`, `Middleware`": attaches,
    "`static_files=`": attaches,
    "`socketio_path=`": isPath,
    "`ASGIApp`, `get_tornado_handler`": nothing,
    "`Client`, `AsyncClient`, `SimpleClient`, `AsyncSimpleClient`": nothing,
    "`ClientNamespace`, `AsyncClientNamespace`": nothing,
}

FLASK: dict[str, Check] = {
    "`SocketIO(app)`, `init_app(app)`": attaches,
    '`on("say", namespace="/chat")`': asksSay("/chat"),
    '`on_event("say", handler)`': asksSay("/"),
    "`event`": decorates,
    '`on("connect")`': decided,
    '`on("json")`, `on("message")`': hearsJson,
    "`on_error()`": hearsErrors("/"),
    "`on_error_default`": hearsErrors("/chat"),
    '`on_namespace(ChatNamespace("/chat"))`': chats,
    '`emit("said", text)`': heard(ann=[SAID] * 2, bob=[SAID] * 2, eve=[SAID] * 2),
    '`emit("said", text, to="lobby", include_self=False)`': heard(bob=[SAID]),
    '`call("mood?", text, to=sid)`': answered,
    "`send(text)`": everybody(("message", "hello")),
    "`send(text, json=True)`": everybody(("json", "hello")),
    '`close_room("lobby")`': inRoom("lobby"),
    "`run(app, host, port)`": listens,
    "`stop()`": closed,
    "`start_background_task(target)`": worksOrBlocks,
    "`sleep(seconds)`": slept,
    "`test_client(app)`": connectsHere,
    "`reason`": reason,
    "`manage_session`": gives({"user": "ann"}),
    "`message_queue`": isAdapter("flask-socketio"),
    "`channel`": nothing,
    "`path`, `resource`": isPath,
    "`async_mode`": nothing,
    "`cors_allowed_origins` and other options": nothing,
}

FUNCTIONS: dict[str, Check] = {
    '`emit("said", text)`': heard(ann=[SAID]),
    '`emit("said", text, broadcast=True)`': everybody(SAID),
    '`emit("said", text, broadcast=True, include_self=False)`': heard(bob=[SAID], eve=[SAID]),
    '`emit("said", text, to="lobby")`': heard(ann=[SAID], bob=[SAID]),
    '`emit("mood?", callback=handler)`': asked,
    "`send(text)`": heard(ann=[("message", "hello")]),
    '`call("mood?", text)`': answered,
    '`join_room("garden")`': inRoom("garden", "ann"),
    '`leave_room("lobby")`': inRoom("lobby", "bob"),
    '`close_room("lobby")`': inRoom("lobby"),
    "`rooms()`": roomsOfAnn,
    "`disconnect()`": disconnected("ann"),
    '`ConnectionRefusedError("no")`': refused("no"),
    "`request.sid`": idOfAnn,
    "`request.namespace`": gives("/"),
    "`request.event`": hearsAny,
    "`request.headers`, `request.args`, `request.cookies`": ofRequest,
    "`session`": gives({"user": "ann"}),
    "`current_user`": gives("ann"),
}

TESTING: dict[str, Check] = {
    '`client.connect("/chat")`': connects,
    "`client.is_connected()`": gives(True),
    '`client.emit("shout", text)`': shouted,
    '`client.emit("shout", text, callback=True)`': gives("HELLO"),
    "`client.send(text)`": sent,
    "`client.get_received()`": gives([Event("shouted", ("HELLO",))]),
    "`client.disconnect()`": left,
}

CHECKS: dict[str, dict[str, Check]] = {
    "## Connections": CONNECTIONS,
    "## Options": OPTIONS,
    "## Events": EVENTS,
    "## Methods of the server": METHODS,
    "## Managers": MANAGERS,
    "## Applications and clients": APPLICATIONS,
    "## Exceptions": dict.fromkeys(
        (
            "`SocketIOError`",
            "`ConnectionRefusedError`",
            "`TimeoutError`",
            "`DisconnectedError`",
            "`BadNamespaceError`, `ConnectionError`",
        ),
        nothing,
    ),
    "### SocketIO": FLASK,
    "### Functions in handlers": FUNCTIONS,
    "### Test client": TESTING,
}
"""For each row of each table below a heading what its programs do, all of them together."""


def tableRows() -> Iterator[tuple[str, list[str]]]:
    """The rows that say what something of theirs is here, each with its heading."""
    for heading in CHECKS:
        for header in THEIRS:
            for row in body(ownText(PAGE, heading), header):
                yield heading, row


ROWS = [pytest.param(heading, *row, id=f"{heading.strip('# ')}: {row[0]}") for heading, row in tableRows()]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, loggedErrors: list[LogEvent]) -> Iterator[Scene]:
    """A server with clients, in the reactor of which programs listen."""
    reactor = SceneReactor()
    monkeypatch.setattr("twisted.internet.reactor", reactor)
    scene = Scene(reactor, loggedErrors)
    yield scene
    scene.close()


@pytest.mark.parametrize(("heading", "theirs", "here"), ROWS)
def test_row(heading: str, theirs: str, here: str, scene: Scene) -> None:
    """What a row says to write instead does what it should: all programs of the row, one behind the other."""
    if heading == "### Test client":
        scene.eve.emit("shout", "hello") if "get_received" in theirs else None
    values = [scene.run(each) for each in scene.programs(here)]
    CHECKS[heading][theirs](scene, values)


def test_everyRowIsChecked() -> None:
    """There is a check for each row, and none without one."""
    for heading, checks in CHECKS.items():
        assert {row[0] for each, row in tableRows() if each == heading} == checks.keys()


# Nothing of theirs is left out


def socketioThere() -> Any:
    require(importlib.util.find_spec("socketio") is not None, "python-socketio")
    import socketio

    return socketio


def callables(*kinds: type[Any]) -> set[str]:
    return {name for kind in kinds for name in dir(kind) if name[0] != "_"}


def firstNames(heading: str, header: str) -> set[str]:
    """The names in the first column of the tables with a header: those before a parenthesis, or alone."""
    return {name for row in body(ownText(PAGE, heading), header) for name in names(row[0])}


def test_everyOptionThereIsNamed() -> None:
    """Whatever the constructors there take is in the table, and in its first column nothing else is."""
    there = socketioThere()
    taken: set[str] = set()
    for kind in (there.Server, there.AsyncServer):
        for each in (every.__init__ for every in kind.__mro__[:-1] if "__init__" in vars(every)):
            taken |= inspect.signature(each).parameters.keys() - {"self"}
    assert {"client_manager", "kwargs"} <= taken
    assert firstNames("## Options", "python-socketio") == taken


def test_everyMethodOfTheServerThereIsNamed() -> None:
    """Each method is in the tables of methods or of events; and each that is there exists."""
    there = socketioThere()
    found = callables(there.Server, there.AsyncServer)
    assert {"emit", "attach", "sleep"} <= found
    shown = firstNames("## Methods of the server", "python-socketio")
    assert found - shown - firstNames("## Events", "python-socketio") == set()
    assert shown - found == set()


def test_everyMethodOfNamespacesThereIsNamed() -> None:
    """The same for class-based namespaces."""
    there = socketioThere()
    found = callables(there.Namespace, there.AsyncNamespace)
    assert "trigger_event" in found
    shown = firstNames("## Class-based namespaces", "python-socketio")
    assert shown - {"on_say", "on_connect", "on_disconnect"} == found


def test_everyMethodOfManagersThereIsNamed() -> None:
    """The same for managers, of which there are some."""
    there = socketioThere()
    managers = [getattr(there, name) for name in there.__all__ if name.endswith("Manager")]
    found = callables(*managers)
    assert {"get_participants", "pre_connect"} <= found
    assert firstNames("## Managers", "method of a manager") == found
    assert firstNames("## Managers", "python-socketio") == {each.__name__ for each in managers}


def test_everyNameThereIsNamed() -> None:
    """What the package exports, and its exceptions, are somewhere on the page."""
    there = socketioThere()
    assert "ASGIApp" in there.__all__
    assert {*there.__all__} - names(PAGE) == set()
    exceptions = {name for name, each in vars(there.exceptions).items() if inspect.isclass(each)}
    assert firstNames("## Exceptions", "python-socketio") == exceptions


def test_everyReasonThereIsNamed() -> None:
    """Each reason of an end there has one here, which exists."""
    there = socketioThere()
    reasons = {value for name, value in vars(there.Server.reason).items() if name.isupper()}
    table = body(section(PAGE, "## Connections"), "`reason` of python-socketio")
    assert {row[0].strip("`") for row in table} == reasons
    here = {span for row in table for span in spans(row[1])} - {"close()"}
    assert here <= {*DisconnectReason}


FLASK_SOCKETIO = {
    "### SocketIO": {
        *(
            "init_app",
            "on",
            "on_event",
            "event",
            "on_error",
            "on_error_default",
            "on_namespace",
            "emit",
            "call",
            "send",
        ),
        *("close_room", "run", "stop", "start_background_task", "sleep", "test_client", "reason", "SocketIO"),
        *("manage_session", "message_queue", "channel", "path", "resource", "async_mode"),
    },
    "### Functions in handlers": {
        *("emit", "send", "call", "join_room", "leave_room", "close_room", "rooms", "disconnect", "session"),
        *("ConnectionRefusedError", "current_user"),
    },
    "### Namespace": {"trigger_event", "emit", "send", "close_room"},
    "### Test client": {"connect", "is_connected", "emit", "send", "get_received", "disconnect"},
}
"""What the documentation of Flask-SocketIO 5 describes: by the heading below which it is here."""


@pytest.mark.parametrize("heading", FLASK_SOCKETIO)
def test_everyNameOfFlaskSocketIOIsThere(heading: str) -> None:
    """Each method, function and argument of its documentation is in the first column of a table."""
    first = " ".join(row[0] for row in rows(ownText(PAGE, heading)))
    shown = {*re.findall(r"`(?:client\.)?([A-Za-z_]\w*)", first)}
    assert FLASK_SOCKETIO[heading] - shown == set()


# The programs


def blockOf(text: str) -> str:
    """The one program of the page that has a text."""
    (block,) = (each for each in blocksOf(PATH) if text in each.text)
    return block.text


def test_theProgramThere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program that is replaced is one: it makes a server with three handlers."""
    socketioThere()
    require(importlib.util.find_spec("aiohttp") is not None, "aiohttp")
    ran: list[Any] = []
    monkeypatch.setattr("aiohttp.web.run_app", lambda app, port: ran.append((app, port)))
    made: dict[str, Any] = {}
    exec(blockOf("web.run_app"), made)
    assert {*made["sio"].handlers["/"]} == {"connect", "say", "disconnect"}
    assert ran == [(made["app"], 3000)]


def test_theProgramHere() -> None:
    """The program that replaces it does what that does."""
    made: dict[str, Any] = {}
    exec(blockOf("react(main)").replace("\nreact(main)", ""), made)
    with MemorySocketIO(made["application"]) as kit:
        with pytest.raises(Refused) as refused:
            kit.connect()
        assert (refused.value.message, refused.value.data) == ("a name is needed", {"code": 401})
        ann, bob = kit.connect(auth={"name": "Ann"}), kit.connect(auth={"name": "Bob"})
        assert ann.emitWithAck("say", "hello") == 5
        ann.disconnect()
        assert bob.receiveAll() == [Event("said", ("Ann", "hello")), Event("left", ("Ann",))]
        assert ann.receiveAll() == []


def test_theClass(scene: Scene) -> None:
    """Methods of the class that the page shows are handlers, with the arguments of the table."""
    exec(blockOf("class Chat"), scene.names)
    client = scene.kit.connect("/chat")
    client.emit("say", "hi")
    other = scene.kit.connect("/chat")
    client.disconnect()
    assert client.receiveAll() == [Event("said", ("hi",))]
    assert other.receiveAll() == [Event("left", (client.id,))]
    for row in body(ownText(PAGE, "## Class-based namespaces"), "python-socketio"):
        for name, arguments in re.findall(r"`(\w+)\((self[^)]*)\)`", row[1]):
            assert str(inspect.signature(getattr(scene.names["Chat"], name))) == f"({arguments})"


def test_flask(scene: Scene) -> None:
    """The program with Flask has a site that serves both, and its view emits."""
    require(importlib.util.find_spec("flask") is not None, "flask")
    made: dict[str, Any] = {"__name__": "__main__"}
    exec(blockOf("from flask"), made)
    assert [each[0] for each in scene.reactor.tcpServers] == [5000]
    assert scene.reactor.tcpServers[0][1] is made["site"]
    heard: list[Any] = []
    made["io"].emit = lambda *arguments: heard.append(arguments)
    assert made["app"].test_client().get("/announce/tea").text == "done"
    assert heard == [("announced", "tea")]


# Behaviour


BEHAVIOUR = {
    "handlers of one client": "test_events.py::test_resultsThatTakeTime",
    "a handler that raises": "test_events.py::test_handlerThatFails",
    "`call` to a client that leaves": "test_acks.py::test_disconnected",
    "events before a client is connected": "test_connecting.py::test_whatConnectionEmitsComesAfterConnect",
    "values that JSON cannot carry": "test_events.py::test_unsendable",
    "names of rooms": "test_rooms.py::test_onlyText",
    "an unknown option": "test_listening.py::test_wrongOptions",
    "a client of Socket.IO 2": "test_connecting.py::test_connect",
}
"""By which test each row of the table is held."""


def test_everyBehaviourIsShown() -> None:
    """Each row that differs has a test that shows it."""
    assert {row[0] for row in body(section(PAGE, "## Behaviour"), "subject")} == BEHAVIOUR.keys()
    for each in BEHAVIOUR.values():
        assertTest(each)


def assertTest(where: str) -> None:
    module, _, name = where.partition("::")
    tree = ast.parse((PATH.parents[1] / "tests" / "socketio" / module).read_text(encoding="utf-8"))
    assert name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}, where


@pytest.mark.usefixtures("scene")
def test_noHandlerForConnect(scene: Scene) -> None:
    """An event `connect` or `connection` of a client calls no handler and no middleware."""
    scene.run('io.on("connection", handler)')
    scene.run("io.use(middleware)")
    scene.ann.emit("connection", "forged")
    assert scene.calls == []
    scene.ann.sendRaw('2["connect",{}]')
    assert (scene.calls, scene.ann.disconnected) == ([], "transport close")
