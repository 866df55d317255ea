"""What is allowed and hardly meant leaves one line in the log; what a server and a session say of themselves."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import Request
from twisted.web.server import Site as StockSite
from twisted.web.static import Data

from engineio_twisted import FastSite, Server, Site
from engineio_twisted.testing import MemoryServer

from .kit.packages import ROOT


def nothing(server: Server) -> None:
    """An application that does nothing."""


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"pingInterval": 25}, "pingInterval=25"),
        ({"pingTimeout": 20}, "pingTimeout=20"),
        ({"pingInterval": 99, "pingTimeout": 1}, "pingInterval=99, pingTimeout=1"),
        ({"pingInterval": 100, "pingTimeout": 100}, None),
        ({}, None),
    ],
)
def test_secondsInPlaceOfMilliseconds(warnings: list[str], options: Any, line: str | None) -> None:
    """Are one line when the server is made."""
    Server(**options)
    assert warnings == ([] if line is None else [f"{line}: these are milliseconds, and 25 seconds are 25000"])


# What is said of a server and a session


def test_theTextOfAServer() -> None:
    """Has its path, how many sessions there are, and why there will be no more; it needs no reactor."""
    server: Any = Server(path="/chat")
    assert repr(server) == "<Server /chat, 0 sessions>"
    assert "reactor" not in vars(server)
    with MemoryServer(nothing) as kit:
        kit.connect()
        assert repr(kit.server) == "<Server /engine.io, 1 session>"
        kit.connect()
        assert repr(kit.server) == "<Server /engine.io, 2 sessions>"
        kit.server.drain()
        assert repr(kit.server) == "<Server /engine.io, 0 sessions, draining>"
    assert repr(kit.server) == "<Server /engine.io, 0 sessions, closing>"


@pytest.mark.parametrize("options", [{}, {"idPrefix": "blue-"}, {"maxMessagesPerSecond": 100}])
def test_theTextOfASession(options: Any) -> None:
    """Has the beginning of its id, its state and its transport; never the whole id, which is a secret."""
    prefix = options.get("idPrefix", "")
    with MemoryServer(nothing, **options) as kit:
        polling, webSocket = kit.connect(upgrade=False).socket, kit.connect("websocket").socket
        for socket, name in ((polling, "polling"), (webSocket, "websocket")):
            begin = socket.id[: len(prefix) + 6]
            assert repr(socket) == f"<Socket {begin}… open on {name}>"
            assert len(socket.id) > len(begin) + 10
            socket.close()
        kit.settle()
        assert repr(polling) == f"<Socket {polling.id[: len(prefix) + 6]}… closed on polling>"
    with MemoryServer(nothing) as kit:
        kit.server.generateId = lambda request: "short"  # type: ignore[method-assign]
        assert repr(kit.connect().socket) == "<Socket sh… open on websocket>"


# Clients of Socket.IO

BELOW = "this server speaks Engine.IO; call SocketIO(server) for Socket.IO; see docs/socketio.md"
REQUESTED = f"A client of Socket.IO asked for /socket.io/, which nothing serves: {BELOW}"
POLL = "/socket.io/?EIO=4&transport=polling&t=abc"
WEBSOCKET = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}


@pytest.mark.parametrize("siteClass", [FastSite, Site, StockSite])
def test_aSocketIORequestOutsideThePath(warnings: list[str], siteClass: Any) -> None:
    """Is one line, once for each server."""
    for _ in range(2):
        with MemoryServer(nothing, site=siteClass(Resource(), reactor=Clock())) as kit:
            assert kit.request("GET", POLL).status == 404
            assert (ROOT / BELOW.rpartition(" ")[2]).is_file()
            assert warnings == [REQUESTED]
            kit.request("GET", POLL)
            kit.request("GET", "/socket.io/?EIO=4&transport=websocket", WEBSOCKET)
            kit.connect().send("0")
        assert warnings == [REQUESTED]
        warnings.clear()


def test_aSocketIOWebSocketOutsideThePath(warnings: list[str]) -> None:
    """Is a request as well."""
    with MemoryServer(nothing) as kit:
        kit.request("GET", "/socket.io/?EIO=4&transport=websocket", WEBSOCKET)
        assert warnings == [REQUESTED]


class Answering(Resource):
    """What serves Socket.IO beside the server."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return b"ok"


@pytest.mark.parametrize("root", ["child", "leaf"])
def test_whatElseServesSocketIO(warnings: list[str], root: str) -> None:
    """Leaves no line."""
    resource: Resource = Answering()
    if root == "child":
        resource = Resource()
        resource.putChild(b"socket.io", Answering())
    with MemoryServer(nothing, site=FastSite(resource, reactor=Clock())) as kit:
        assert kit.request("GET", POLL).status == 200
        kit.request("GET", POLL)
    assert warnings == []


def test_requestsThatAreNotOfSocketIO(warnings: list[str]) -> None:
    """Leave no line: another path, one below another, or a file that is called so."""
    root = Resource()
    root.putChild(b"page", Data(b"a page", "text/plain"))
    with MemoryServer(nothing, site=FastSite(root, reactor=Clock())) as kit:
        for target in ("/socket.io/", "/socket.io/socket.io.js", "/page?EIO=4", "/a/socket.io/?EIO=4", "/?EIO=4"):
            kit.request("GET", target)
    assert warnings == []


def test_anotherServerAtThatPath(warnings: list[str]) -> None:
    """A server of ours whose path that is gets the request."""
    site = FastSite(Resource(), reactor=Clock())
    with MemoryServer(nothing, site=site) as kit:
        other = Server(site, reactor=kit.clock, path="/socket.io")
        assert kit.request("GET", POLL).status == 200
        other.close()
        kit.settle()
    assert warnings == []


@pytest.mark.parametrize("how", [{"upgrade": False}, {}, {"transport": "websocket"}])
@pytest.mark.parametrize("first", ["0", '0{"token":"secret"}', "0/admin,", '0/admin,{"token":"secret"}'])
def test_aFirstMessageOfSocketIO(warnings: list[str], how: Any, first: str) -> None:
    """Is one line, with the session and nothing of the message; once for each server. The message is delivered."""
    received: list[object] = []

    def application(server: Server) -> None:
        server.on("connection", lambda socket: socket.on("message", received.append))

    with MemoryServer(application) as kit:
        client = kit.connect(**how)
        client.send(first)
        session = f"{client.socket.id[:6]}…"
        line = f"The first message of session {session} is that of a Socket.IO client: {BELOW}"
        assert warnings == [line]
        client.send(first)
        kit.connect(**how).send(first)
        kit.request("GET", POLL)
        assert warnings == [line]
    assert received == [first] * 3


@pytest.mark.parametrize("first", ["hello", "", "1", "00", "0hello", "2[]", '{"a":0}', b"0", b"0{}"])
def test_firstMessagesThatAreNot(warnings: list[str], first: str | bytes) -> None:
    """Leave no line; nor does any message behind them, of the same kind or after a ping."""
    with MemoryServer(nothing) as kit:
        client = kit.connect("websocket")
        client.send(first)
        client.send("0")
        kit.advance(60)
        client.send("0")
    assert warnings == []


def test_aSocketIOLayer(warnings: list[str]) -> None:
    """Its clients leave no line at its path; at that of another server of its site they do."""
    site = FastSite(Resource(), reactor=Clock())
    with MemoryServer(nothing, site=site) as kit:
        other = Server(site, reactor=kit.clock, path="/socket.io")
        other.socketIONotice.layerBound()
        client = kit.connect("websocket", path="/socket.io/")
        client.send("0")
        kit.request("GET", POLL)
        assert warnings == []
        kit.connect("websocket").send("0")
        assert len(warnings) == 1
        other.close()
        kit.settle()


@pytest.mark.parametrize("isFirst", [True, False])
def test_aSocketIOLayerAtAnotherPath(warnings: list[str], isFirst: bool) -> None:
    """Clients that ask for the usual path are one line, which says where the layer is, and what to do."""
    site = FastSite(Resource(), reactor=Clock())
    with MemoryServer(nothing, site=site) as kit:
        other = Server(site, reactor=kit.clock, path="/chat")
        (kit.server if isFirst else other).socketIONotice.layerBound()
        path = "/engine.io" if isFirst else "/chat"
        line = (
            "A client of Socket.IO asked for /socket.io/, which nothing serves: the Socket.IO server has the path "
            f"{path}; give it path='/socket.io'"
        )
        for _ in range(2):
            kit.request("GET", POLL)
            assert warnings == [line]
        kit.connect("websocket", path=f"{path}/").send("0")
        assert warnings == [line]
        other.close()
        kit.settle()
