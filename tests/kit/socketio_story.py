"""
For the tests with stock clients of Socket.IO: the application that they talk to, and what each has to notice.

The clients' side is in tests/interop: socketio_story.mjs and python_socketio_client.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from engineio_twisted.socketio import ConnectRefused, SocketIO

from .clients import INTEROP, TRANSPORTS, Program, Run

PATH = "/socket.io"
ALL = "all"
"""The room of every socket in `/`."""

VALUES = [None, True, 0, -1.5, 'é € 😀 \u2028 \\ " \x00', "", {"a": [1, {"b": None}], "ä": {}}, []]
BINARY = [{"binary": [0, 255]}, {"deep": [{"binary": []}, "text", {"er": {"binary": [1]}}]}]


class Story:
    """
    The application. Give it to `serve` as `setup`, with the path above.

    @param options: of the `SocketIO`.
    @ivar ended: the namespaces and reasons of sockets that have ended.
    """

    io: SocketIO

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.ended: list[tuple[str, str]] = []

    def __call__(self, server: Any) -> None:
        self.io = SocketIO(server, **self._options)
        admin = self.io.of("/admin")
        admin.use(self._authenticate)
        for namespace in (self.io, admin, self.io.of(re.compile(r"/rooms/\d+"))):
            namespace.on("connection", self._connected)
            namespace.on("disconnect", self._ended)
            namespace.on("echo", lambda socket, *args: socket.emit("echoed", *args))
            namespace.on("ask", self._asked)
            namespace.on("nothing", lambda socket: None)
            namespace.on("heard", lambda socket: socket.data["heard"])
            namespace.on("ask me", lambda socket, data: socket.emitWithAck("question", "really?", data))
            namespace.on("join", lambda socket, room: socket.join(room))
            namespace.on("say", lambda socket, room, *args: socket.to(room).emit("said", *args))
            namespace.on("volatile", lambda socket: socket.volatile.emit("volatile", "came"))
            namespace.on("throw me out", lambda socket: socket.disconnect())
            namespace.on("end my session", lambda socket: socket.disconnect(close=True))

    def _authenticate(self, socket: Any) -> None:
        if socket.auth.get("token") != "secret":
            raise ConnectRefused("wrong password", {"code": 401})

    def _connected(self, socket: Any) -> None:
        if not socket.recovered:
            socket.data["heard"] = []
            socket.join(ALL)
            socket.emit("hello", socket.id, socket.auth, socket.conn.protocol)

    def _asked(self, socket: Any, *args: Any) -> tuple[Any, ...]:
        # The number of the question, if it has one.
        socket.data["heard"] += [each for each in args[1:2] if isinstance(each, int)]
        return args

    def _ended(self, socket: Any, reason: str, description: object) -> None:
        self.ended.append((socket.namespace.name, str(reason)))

    @property
    def connected(self) -> list[Any]:
        """The sockets in `/`, in the order in which they connected."""
        return list(self.io.sockets.values())


Client = dict[str, Any]


def javaScriptClients(packages: Iterable[str], **more: Any) -> list[Client]:
    """The clients of some packages, over every transport."""
    return [
        {"name": f"{package} {name}", "client": package, "options": {"transports": transports}, **more}
        for package in packages
        for name, transports in TRANSPORTS.items()
    ]


def pythonClients(**more: Any) -> list[Client]:
    """Both clients of python-socketio, over every transport."""
    return [
        {"name": f"{client} {name}", "client": client, "transports": transports, **more}
        for client in ("Client", "AsyncClient")
        for name, transports in TRANSPORTS.items()
    ]


def noticedByJavaScript(client: Client) -> dict[str, Any]:
    """Return what has to be noticed in the story of socketio_story.mjs."""
    isOld = client["client"] == "socket.io-client-2"
    auth = {} if isOld else {"token": "mine"}
    return {
        "hello": [True, auth, 3 if isOld else 4],
        "values": VALUES,
        "binary": BINARY,
        "large": [True, True],
        "answer": [1, {"binary": [2]}, "three"],
        "answerOfNothing": [],
        "answered": ["really? yes", {"binary": [7, 8]}],
        "inOrder": [True, True],
        "transport": client["options"]["transports"][-1],
        "refused": {"code": 401} if isOld else {"message": "wrong password", "data": {"code": 401}},
        "unknown": "Invalid namespace" if isOld else {"message": "Invalid namespace"},
        "namespaces": [True, {"token": "secret"}, True, 3],
        "askedElsewhere": [[each, {"binary": [9]}] for each in ("/", "/admin", "/rooms/7")],
        "volatile": ["came"],
        "said": ["hi", {"binary": [1, 2]}, "io server disconnect"],
        "goesOn": ["without admin"],
        "backAgain": [True],
        "thrownOut": ["io server disconnect", "still here"],
        "left": ["io client disconnect"],
    }


ENDED_OF_JAVASCRIPT = [
    # Of those that speak to others, the other.
    ("/", "server namespace disconnect"),
    ("/admin", "client namespace disconnect"),
    ("/admin", "server namespace disconnect"),
    ("/rooms/7", "client namespace disconnect"),
    ("/", "client namespace disconnect"),
]
"""How the sockets of one client end in its story."""


def noticedByPython(client: Client) -> dict[str, Any]:
    """Return what has to be noticed in the story of python_socketio_client.py."""
    return {
        "transport": client["transports"][-1],
        "hello": [[True, {"token": "secret"}, 4]] * 3,
        "values": VALUES,
        "binary": BINARY,
        "answer": [1, {"binary": [2]}, "three"],
        "answerOfNothing": None,
        "answered": ["really? yes", {"binary": [7, 8]}],
        "elsewhere": ["/admin", "/rooms/7"],
        "heard": list(range(14)),
        "said": ["hi", {"binary": [1, 2]}],
        "saidToSpeaker": 0,
        "ended": True,
        "refused": [{"message": "wrong password", "data": {"code": 401}}],
        "thrownOut": ["server disconnect", "still here"],
        "left": ["client disconnect"],
    }


def javaScript(start: Run, interpreter: str) -> Callable[[str, str, list[Client]], Program]:
    """A function that starts clients in a scenario of socketio_client.mjs."""
    return lambda url, scenario, clients: start([interpreter, INTEROP / "socketio_client.mjs", url, scenario], clients)


async def assertNoticed(program: Program, clients: list[Client], expected: Callable[[Client], dict[str, Any]]) -> None:
    """Wait for the end of a program, and compare what its clients noticed."""
    await program.finish()
    noticed = {each["name"]: each["noticed"] for each in program.named("noticed")}
    for each in clients:
        assert noticed.pop(each["name"]) == expected(each), each["name"]
    assert noticed == {}


def assertNothingLeft(io: SocketIO) -> None:
    """No client is left, nor anything of one."""
    stats = io.stats()
    left = {name: getattr(stats, name) for name in ("clients", "sockets", "rooms", "acks", "joining", "attachments")}
    assert set(left.values()) == {0}, left
    assert stats.invalidPackets == 0
