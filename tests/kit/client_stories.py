"""A client of a scripted server, in memory, and what its application saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure

from engineio_twisted.client import Client

from .client_servers import MemoryServer, ScriptedServer, Step

EVENTS = (
    "open",
    "handshake",
    "packet",
    "message",
    "heartbeat",
    "upgrading",
    "upgrade",
    "upgradeError",
    "suspend",
    "resume",
    "drain",
    "error",
    "close",
)


class Story:
    """
    A client of a scripted server, in memory, and what its application saw.

    @ivar happened: the events, each a name with its arguments.
    @ivar result: the client once it is connected, or the exception by which that failed.
    """

    def __init__(self, server: ScriptedServer, url: str, factory: Any, options: Mapping[str, Any]) -> None:
        self.server = server
        self.clock: Clock = server.clock
        self.endpoint = MemoryServer(server, factory)
        self.network = self.endpoint.network
        given = {"reactor": self.clock, "endpoint": self.endpoint, **options}
        self.client: Any = Client(url, **given)
        self.happened: list[tuple[Any, ...]] = []
        self.result: Any = None
        for name in EVENTS:
            self.client.on(name, self._saw(name))

    def _saw(self, name: str) -> Callable[..., None]:
        def saw(*args: Any) -> None:
            self.happened.append((name, *args))

        return saw

    def connect(self) -> Story:
        """Connect, and let happen what does so at once."""
        self.connecting: Any = self.client.connect()
        self.connecting.addBoth(self._connected)
        self.network.settle()
        return self

    def _connected(self, result: Any) -> None:
        assert self.result is None, "connected twice"
        self.result = result.value if isinstance(result, Failure) else result

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.network.advance(seconds)

    def say(self, data: bytes) -> None:
        """Let the server send bytes on the latest connection."""
        self.server.peer.say(data)
        self.network.settle()

    def do(self, step: Step) -> None:
        """Have it do something there."""
        self.server.peer.does(step)
        self.network.settle()

    def names(self) -> list[str]:
        """The names of the events."""
        return [name for name, *_ in self.happened]

    def all(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of each event of a name."""
        return [tuple(args) for each, *args in self.happened if each == name]

    def messages(self) -> list[str | bytes]:
        """The messages that came."""
        return [data for (data,) in self.all("message")]

    @property
    def isQuiet(self) -> bool:
        """Whether the client has nothing left: no connection, no timer."""
        return not self._ends and not self.clock.getDelayedCalls() and not self.endpoint.waiting

    @property
    def _ends(self) -> list[Any]:
        """The client's ends of connections."""
        return list(self.network.processes[0].ends)

    def left(self) -> str:
        """What it has left."""
        calls = [str(each) for each in self.clock.getDelayedCalls()]
        return f"connections {self._ends}, timers {calls}, connecting {self.endpoint.waiting}"


@contextmanager
def telling(
    server: ScriptedServer, url: str = "http://localhost", factory: Any = None, **options: Any
) -> Iterator[Story]:
    """
    Connect a client to a scripted server; after the test it is closed, which ends soon, and nothing of it is left.

    @param factory: as of L{MemoryServer}.
    @param options: of the client.
    """
    story = Story(server, url, factory, options)
    yield story
    over: list[object] = []
    story.client.close().addBoth(over.append)
    # Nobody answers any more, which is waited for only so long.
    story.advance(40)
    assert over == [None], f"the client isn't over: {over}, {story.left()}"
    assert story.isQuiet, story.left()
    assert story.client.readyState == "closed"
    assert len(story.all("close")) <= 1
    # A handler of the last event may fail.
    assert not story.all("close") or [each for each in story.names() if each != "error"][-1] == "close"
