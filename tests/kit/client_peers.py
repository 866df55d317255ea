"""Servers of several kinds as programs, and sessions that our client has with them."""

from __future__ import annotations

import fcntl
import shutil
import sys
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from engineio_twisted.client import Client, ConnectionFailed

from .clients import INTEROP, Event, Message, Program, Run, firstDifference, pythonPath, within
from .tools import require

BENCHMARKS = INTEROP.parents[1] / "benchmarks"
PROGRAMS = INTEROP / "peers"


def _node(package: str) -> Callable[[], tuple[list[Any], dict[str, str]]]:
    def command() -> tuple[list[Any], dict[str, str]]:
        found = shutil.which("node")
        require(found is not None, "Node.js")
        require((INTEROP / "node_modules" / package).is_dir(), "the packages of tests/interop (run `npm ci` there)")
        return [found, PROGRAMS / "node.mjs", package], {}

    return command


def _own() -> tuple[list[Any], dict[str, str]]:
    return [sys.executable, PROGRAMS / "own.py"], pythonPath()


def _aiohttp() -> tuple[list[Any], dict[str, str]]:
    return [sys.executable, PROGRAMS / "engineio_peer.py", "aiohttp"], {}


def _installed(name: str) -> Any:
    """Return a server of the benchmarks, once what it needs is installed where they have it."""
    require(shutil.which("npm") is not None, "npm")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from harness import processes, servers
    finally:
        sys.path.remove(str(BENCHMARKS))
    processes.BUILD.mkdir(exist_ok=True)
    (server,) = servers.choose([name])
    with (processes.BUILD / "lock").open("w") as lock:
        # One of several processes of tests installs.
        fcntl.flock(lock, fcntl.LOCK_EX)
        servers.install([server])
    return server


def _uvicorn() -> tuple[list[Any], dict[str, str]]:
    return [_installed("uvicorn").command[0], PROGRAMS / "engineio_peer.py", "uvicorn"], {}


def _bun() -> tuple[list[Any], dict[str, str]]:
    server = _installed("bun")
    return [server.command[0], PROGRAMS / "bun.mjs"], server.environment


@attrs.frozen
class Peer:
    """
    A server as a program.

    @ivar command: what starts it, but for the port, and its environment.
    @ivar revision: the revision of the protocol that is spoken with it.
    @ivar tellsPackets: whether it prints the packets of its clients, and their upgrades.
    @ivar refusal: the status, the code and the message with which it refuses on polling, and on WebSocket.
    @ivar clientCloses: the reasons it gives when its client closes, on polling and on WebSocket.
    @ivar serverCloses: the same, when it closes itself.
    @ivar closedOnPolling: the reason that its client gives on polling, when it closes.
    @ivar compresses: whether it compresses messages on WebSocket.
    """

    command: Callable[[], tuple[list[Any], dict[str, str]]]
    revision: int = 4
    tellsPackets: bool = True
    refusal: tuple[tuple[int, int | None, str | None], tuple[int, int | None, str | None]] = (
        (403, 4, "not today"),
        (400, None, None),
    )
    clientCloses: tuple[str, str] = ("transport close", "transport close")
    serverCloses: str = "forced close"
    closedOnPolling: str = "transport close"
    compresses: bool = True


_PYTHON: dict[str, Any] = {
    "tellsPackets": False,
    "clientCloses": ("client disconnect", "transport close"),
    "serverCloses": "server disconnect",
}
_FORBIDDEN = (403, 4, "not today")

PEERS: dict[str, Peer] = {
    "ours": Peer(_own, refusal=(_FORBIDDEN, (403, None, None))),
    "ours, revision 3": Peer(_own, 3, refusal=(_FORBIDDEN, (403, None, None))),
    "engine.io 6": Peer(_node("engine.io")),
    "engine.io 3": Peer(_node("engine.io-3"), 3),
    "aiohttp": Peer(_aiohttp, refusal=((401, None, None), (401, None, None)), **_PYTHON),
    "uvicorn": Peer(_uvicorn, refusal=((401, None, None), (403, None, None)), **_PYTHON),
    "bun": Peer(_bun, refusal=(_FORBIDDEN, _FORBIDDEN), closedOnPolling="transport error", compresses=False),
}


class RunningPeer:
    """A server that has been started."""

    def __init__(self, peer: Peer, program: Program) -> None:
        self.peer = peer
        self.program = program
        self.port = 0

    @classmethod
    async def start(cls, name: str, start: Run, port: int = 0) -> RunningPeer:
        """Start it, and wait until it listens."""
        peer = PEERS[name]
        command, environment = peer.command()
        running = cls(peer, start([*command, str(port)], env=environment))
        running.port = (await running.program.saw("listening"))["port"]
        return running

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def session(self, transports: list[str], **options: Any) -> Story:
        """A session with it, which is still to connect."""
        return Story(self.url, transports, **{"EIO": self.peer.revision, **options})

    def requests(self, story: Story) -> list[Event]:
        """The requests of a session, without the one that opened it."""
        return [each for each in self.program.named("request") if each["query"].get("sid") == story.client.id]


class Story:
    """A session of our client, and what its application was told."""

    def __init__(self, url: str, transports: list[str], **options: Any) -> None:
        self.transports = transports
        self.client = Client(url, transports=transports, **options)
        self.messages: list[Message] = []
        self.happened: list[str] = []
        self.closed: tuple[str, object] | None = None
        self._waiting: list[Deferred[None]] = []
        client: Any = self.client
        client.on("message", self._message)
        client.on("close", self._closed)
        for event in ("open", "heartbeat", "suspend", "resume"):
            client.on(event, lambda *_, event=event: self._note(event))
        for event in ("upgrading", "upgrade"):
            client.on(event, lambda transport, event=event: self._note(f"{event} to {transport.name}"))
        client.on("upgradeError", lambda failure: self._note(f"upgradeError: {failure}"))

    def _message(self, data: Message) -> None:
        self.messages.append(data)
        self._wake()

    def _closed(self, reason: str, description: object) -> None:
        self.closed = (reason, description)
        self._note(f"close: {reason}")

    def _note(self, what: str) -> None:
        self.happened.append(what)
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something is so; the session's end, if it comes before, is a failure."""
        while not condition():
            assert self.closed is None, f"closed before {what}: {self.closed}, {self.client.failure!r}, {self.happened}"
            news: Deferred[None] = Deferred()
            self._waiting.append(news)
            await within(news, what)

    async def connect(self) -> Story:
        """Connect, and wait until the session is on the last of its transports."""
        assert await within(self.client.connect(), "the connection") is self.client
        if len(self.transports) > 1:
            await self.until(lambda: "upgrade to websocket" in self.happened, "the upgrade")
        assert self.client.transport.name == self.transports[-1]
        return self

    async def got(self, count: int) -> list[Message]:
        """Wait for so many messages, all that have come."""
        await self.until(lambda: len(self.messages) >= count, f"message {count}")
        return self.messages

    async def echoes(self, messages: list[Message]) -> None:
        """Send messages; the same ones have to come back, in order."""
        before = len(self.messages)
        for message in messages:
            self.client.send(message)
        came = (await self.got(before + len(messages)))[before:]
        assert firstDifference(came, messages) is None

    async def ended(self) -> str:
        """Wait until the session is over, and nothing of it is left; return the reason."""
        await self.until(lambda: self.closed is not None, "the end of the session")
        await within(self.client.close(), "the end of the connections")
        assert self.closed is not None
        return self.closed[0]

    async def close(self) -> str:
        """Close the session, and wait until nothing of it is left; return the reason."""
        await within(self.client.close(), "the end of the connections")
        assert self.closed is not None
        return self.closed[0]

    @property
    def changes(self) -> list[str]:
        """All that happened but heartbeats."""
        return [each for each in self.happened if each != "heartbeat"]


async def refusedBy(story: Story) -> ConnectionFailed:
    """The failure of a session that can't be opened."""
    try:
        await within(story.client.connect(), "the refusal")
    except ConnectionFailed as failure:
        await within(story.client.close(), "the end of the connections")
        return failure
    raise AssertionError("it connected")


def named(who: str, count: int) -> list[Message]:
    """Messages with numbers, every third of them binary."""
    texts = [f"{who} {number}" for number in range(count)]
    return [text if number % 3 else text.encode() for number, text in enumerate(texts)]
