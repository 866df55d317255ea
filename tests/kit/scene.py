"""A Socket.IO server with some clients in memory, in which the short programs of a page's tables are run."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.wsgi import WSGIResource

from engineio_twisted import EngineIOResource, Server, ServerOptions, Site, socketio
from engineio_twisted.operation.static import StaticFolder
from engineio_twisted.socketio import IAdapter, MemoryAdapter, SocketIO, SocketIOOptions
from engineio_twisted.socketio.errors import RESERVED_EVENTS
from engineio_twisted.socketio.exchange import ExchangeAdapter
from engineio_twisted.socketio.listening import apart
from engineio_twisted.socketio.redis import RedisAdapter
from engineio_twisted.socketio.testing import MemorySocket, MemorySocketIO, Refused

from .tables import spans

TEXT = "hello"

KNOWN = {
    *attrs.fields_dict(SocketIOOptions),
    *attrs.fields_dict(ServerOptions),
    *RESERVED_EVENTS,
    *IAdapter.names(),
    *(
        "connection",
        "error",
        "new_namespace",
        "Date",
        None,
        False,
        "*",
        "socketio",
        "flask-socketio",
        "IWebSocketEngine",
        "TypeError",
    ),
}
"""What may stand on its own beside the names of programs: options, events, methods of adapters, constants."""


class Threads:
    """A pool of threads in which everything is done at once."""

    def callInThreadWithCallback(self, onResult: Any, function: Any, *args: Any, **keywords: Any) -> None:
        onResult(True, function(*args, **keywords))


class SceneReactor(MemoryReactorClock):
    """A reactor in memory, on a clock, with threads."""

    def getThreadPool(self) -> Threads:
        return Threads()

    def callFromThread(self, function: Callable[..., object], *args: Any, **keywords: Any) -> None:
        function(*args, **keywords)


class ReachingAdapter(MemoryAdapter):
    """An adapter that notes what it should send to other processes."""

    def __init__(self, namespace: Any) -> None:
        super().__init__(namespace)
        self.published: list[Any] = []

    def serverSideEmit(self, event: str, arguments: list[Any]) -> None:
        self.published.append([event, *arguments])

    def serverSideEmitWithAck(self, event: str, arguments: list[Any], timeout: float | None) -> Deferred[list[Any]]:
        self.serverSideEmit(event, arguments)
        return succeed(["pong"])


class Chat:
    """An object whose methods are handlers."""

    def say(self, socket: Any, text: str) -> str:
        return f"{socket.namespace.name}: {text}"


class Scene:
    """
    A server with its clients: Ann and Bob in the room C{lobby}, Eve in none, and Dan in the namespace C{/chat}.

    @param reactor: the reactor of the server, which is also the one of programs that listen.
    @param logged: the errors that were logged.
    @ivar socket: the server's socket of Ann, as in the programs.
    @ivar calls: what C{handler} was called with, without the sockets.
    @ivar shouts: the texts of the events C{shout} and C{message} that came.
    @ivar worked: what C{task} and C{blocking} did.
    @ivar refused: how the client was refused that connected after a program raised.
    """

    def __init__(self, reactor: SceneReactor, logged: list[Any]) -> None:
        self.reactor, self.logged = reactor, logged
        server = Server(path="/socket.io", reactor=reactor)
        self.kit = MemorySocketIO(SocketIO(server, adapter=ReachingAdapter), leavesTimers=True)
        self.io: Any = self.kit.io
        self.io.of("/chat")
        self.ann = self.kit.connect(
            auth={"token": "5f1c0e"}, headers={"X-Name": "Ann", "Cookie": "login=yes"}, query={"room": "garden"}
        )
        self.bob, self.eve, self.dan = self.kit.connect(), self.kit.connect(), self.kit.connect("/chat")
        self.socket: Any = self.ann.socket
        self.socket.data["user"] = "ann"
        for each in (self.ann, self.bob):
            each.socket.join("lobby")
            each.on("mood?", "fine")
        self.calls: list[tuple[Any, ...]] = []
        self.shouts: list[str] = []
        self.io.on("shout", self._shouted)
        self.io.on("message", lambda _, text: self.shouts.append(f"message: {text}"))
        self.worked: list[str] = []
        self.refused: Refused | None = None
        self.names: dict[str, Any] = {
            **{name: getattr(socketio, name) for name in socketio.__all__},
            **{
                each.__name__: each
                for each in (
                    *(Chat, Deferred, EngineIOResource, ExchangeAdapter, MemorySocketIO),
                    *(RedisAdapter, Site, StaticFolder),
                )
            },
            **{each.__name__: each for each in (WSGIResource, deferLater, deferToThread, serverFromString)},
            "allows": lambda name, auth: name == "/allowed",
            "app": lambda environ, respond: [],
            "application": lambda io: None,
            "blocking": lambda: self.worked.append("blocked"),
            "chat": self.io.of("/chat"),
            "checks": lambda event, arguments: arguments.append("checked"),
            "client": self.eve,
            "convert": str,
            "handler": self.handler,
            "io": self.io,
            "kit": self.kit,
            "middleware": self.handler,
            "other": self.bob.id,
            "re": re,
            "reactor": reactor,
            "server": Server(path="/socket.io", reactor=reactor),
            "sid": self.ann.id,
            "site": Site(Resource()),
            "socket": self.socket,
            "task": self.task,
            "text": TEXT,
        }

    def handler(self, *arguments: Any) -> Any:
        """Note what it is called with, and answer."""
        self.calls.append(tuple(each for each in arguments if not isinstance(each, socketio.Socket)))
        return "an answer"

    def _shouted(self, socket: Any, text: str) -> str:
        self.shouts.append(text)
        socket.emit("shouted", text.upper())
        return text.upper()

    async def task(self) -> None:
        """Take a second."""
        self.worked.append("begun")
        await deferLater(self.reactor, 1)
        self.worked.append("over")

    def heard(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return what each client got since this was asked, without those that got nothing."""
        clients: Mapping[str, MemorySocket] = {"ann": self.ann, "bob": self.bob, "eve": self.eve, "dan": self.dan}
        found = {name: [(each.name, *each.args) for each in client.receiveAll()] for name, client in clients.items()}
        return {name: events for name, events in found.items() if events}

    def programs(self, cell: str) -> list[str]:
        """Return the code of a cell that is to be run: all but names and texts on their own, which are to be known."""
        found = []
        for span in spans(cell):
            (statement,) = ast.parse(span).body
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant):
                assert value.value in KNOWN, span
            elif isinstance(value, ast.Name):
                assert span in KNOWN or span in self.names or hasattr(self.socket, span), span
            else:
                found.append(span)
        return found

    def run(self, program: str) -> Any:
        """
        Run a program of one line; return its value, or what that fails with.

        An option, such as C{path="/x"}, is checked; its value is returned. What raises is a middleware, which a client
        meets.
        """
        (statement,) = ast.parse(program).body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
            value = eval(ast.unparse(statement.value), self.names)
            own, engines = apart({name: value})
            return getattr(own, name) if hasattr(own, name) else getattr(Server(**engines).opts, name)
        if isinstance(statement, ast.Raise):

            @self.io.use
            def middleware(_: Any) -> None:
                exec(program, self.names)

            self.refused = self.kit.connect(wait=False).refused
            return self.refused
        mode = "eval" if isinstance(statement, ast.Expr) else "exec"
        code = compile(program, program, mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        value = eval(code, self.names)
        if not program.startswith("await "):
            self.kit.settle()
            return value
        results: list[Any] = []
        ensureDeferred(value).addCallbacks(results.append, lambda failure: results.append(failure.value))
        self.kit.settle()
        if not results:
            self.kit.advance(1)
        (result,) = results
        return result

    def close(self) -> None:
        """Close the server, with the clients that are left."""
        self.kit.close()


Check = Callable[[Scene, list[Any]], None]
"""Looks whether the programs of a row did what they should; called with their values."""


def heard(**expected: list[tuple[Any, ...]]) -> Check:
    """Return a check that these clients got these events, and no other client any."""

    def check(scene: Scene, values: list[Any]) -> None:
        assert scene.heard() == expected

    return check


def gives(*expected: Any) -> Check:
    """Return a check of the values of the programs."""

    def check(scene: Scene, values: list[Any]) -> None:
        assert values == [*expected]

    return check
