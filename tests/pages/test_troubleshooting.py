"""docs/troubleshooting.md quotes what a client really gets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.web.resource import Resource

from engineio_twisted import Server, Site, attach
from engineio_twisted.protocol.errors import ERROR_MESSAGES
from engineio_twisted.socketio import NotSupported, SocketIO
from engineio_twisted.socketio.testing import MemorySocketIO, Refused
from engineio_twisted.testing import HandshakeRefused, MemoryCluster, MemoryServer
from engineio_twisted.workers.slots import Life, Patience, Slots

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def quoted() -> dict[int, tuple[int, str]]:
    """Return the refusals in the headings by their codes, each with its status and its text."""
    found = re.findall(r'^## (\d{3}) `(\{"code".*\})`$', PAGE, re.MULTILINE)
    bodies = [(int(status), json.loads(body)) for status, body in found]
    return {body["code"]: (status, body["message"]) for status, body in bodies}


def test_everyCode() -> None:
    """The page has a heading for each code of the protocol."""
    assert {code: text for code, (_, text) in quoted().items()} == dict(ERROR_MESSAGES)


@pytest.mark.parametrize(
    ("code", "arguments", "options"),
    [
        (0, {"query": {"transport": "pigeon"}}, {}),
        (0, {"transport": "polling"}, {"transports": ["websocket"]}),
        (1, {"query": {"sid": "gone"}}, {}),
        (2, {"method": "POST"}, {}),
        (3, {"query": {"transport": "websocket"}}, {}),
        (4, {"headers": {"Origin": "https://elsewhere.example"}}, {"allowedOrigins": "self"}),
        (4, {}, {"allowRequest": lambda request: False}),
        (5, {"query": {"EIO": "3"}}, {}),
    ],
)
def test_refusals(code: int, arguments: dict[str, Any], options: dict[str, Any]) -> None:
    """What the page gives as the cause of a refusal causes it."""
    query = {"EIO": "4", "transport": "polling", **arguments.get("query", {})}
    address = "/engine.io/?" + "&".join(f"{name}={value}" for name, value in query.items())
    with MemoryServer(lambda server: None, **options) as kit:
        response = kit.request(arguments.get("method", "GET"), address, headers=arguments.get("headers", {}))
    assert (response.status, json.loads(response.body)) == (
        quoted()[code][0],
        {"code": code, "message": quoted()[code][1]},
    )


def test_full() -> None:
    """A server with `maxSessions` sessions answers 503 with the name of the option; one that closes says so."""
    with MemoryServer(lambda server: None, maxSessions=1) as kit:
        kit.connect()
        with pytest.raises(HandshakeRefused) as refused:
            kit.connect()
        assert refused.value.status == 503
        assert "maxSessions" in refused.value.message
        kit.server.drain()
        with pytest.raises(HandshakeRefused) as refused:
            kit.connect()
    assert f'{refused.value.status} `{{"message":"{refused.value.message}"}}`' in PAGE


class Workers:
    """Notes what becomes of workers that are no processes: they do nothing, and end if they are killed."""

    patience = Patience(start=30, hang=30, drain=5)

    def __init__(self) -> None:
        self.killed: list[str] = []
        self.clock = Clock()
        self.slots: Slots[Any, Any] = Slots(self.clock, 1, self, None)

    def spawn(self, life: Life[Any, Any]) -> Any:
        return self

    def kills(self, life: Life[Any, Any], why: str) -> None:
        self.killed.append(f"is killed: {why}")

    def kill(self) -> None:
        (life,) = self.slots
        life.ended("SIGKILL")

    def patienceWith(self, generation: object) -> Patience:
        return self.patience

    def nothing(self, *_: object) -> None:
        """Nothing is noted."""

    ping = drain = hurry = abort = becameReady = ended = firstFailed = reloaded = allEnded = nothing


@pytest.mark.parametrize("what", ["hung", "not ready", "not drained"])
def test_workersThatAreKilled(what: str) -> None:
    """Why a worker is killed stands in the log with the words of the page, at the times of the default options."""
    workers = Workers()
    workers.slots.start()
    (life,) = workers.slots
    if what != "not ready":
        life.ready()
    if what == "not drained":
        workers.slots.stop()
    workers.clock.pump([1] * 40)
    (line,) = workers.killed[:1]
    assert line.startswith(f"is killed: {what}")
    assert f"| `{line}` |" in PAGE


def test_sessionOfAWorkerThatDied() -> None:
    """The session of a worker that died, and an old id, are unknown to all others at once; the others' go on."""
    with MemoryCluster(lambda server: None) as kit:
        lost, kept = kit.connect("websocket", worker=1), kit.connect(worker=2)
        target = f"/engine.io/?EIO=4&transport=polling&sid={lost.sid}"
        kit.kill(1)
        responses = [kit.request("GET", target, worker=number) for number in (2, 3)]
        status, message = quoted()[1]
        assert [(each.status, json.loads(each.body)) for each in responses] == [
            (status, {"code": 1, "message": message})
        ] * 2
        assert kept.readyState == "open"


def greet():  # type: ignore[no-untyped-def]
    """Take no message, although a handler of `message` is given one."""


def twice(kit: MemoryServer) -> None:
    site = Site(Resource())
    attach(site, reactor=kit.clock)
    attach(site, reactor=kit.clock)


MISTAKES: list[Callable[[MemoryServer], object]] = [
    lambda kit: kit.server.on("connect", print),  # type: ignore[call-overload]
    lambda kit: kit.connect().socket.on("mesage", print),  # type: ignore[call-overload]
    lambda kit: kit.connect().socket.emit("hello", "world"),
    lambda kit: kit.server.on(connected),  # type: ignore[call-overload]
    lambda kit: kit.connect().socket.on("message", greet),  # type: ignore[call-overload]
    lambda kit: kit.connect().socket.send({"a": 1}),
    lambda kit: Server(reactor=kit.clock, xyzzy=1),  # type: ignore[call-arg]
    twice,
]


def connected(socket: object) -> None:
    """Be a handler of `connection`."""


def errorsBelow(text: str) -> list[str]:
    """Return the errors in the first table behind a text."""
    table = PAGE[PAGE.index(text) :].partition("\n| --- |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(.+?)` \| ", table, re.MULTILINE)


@pytest.mark.parametrize("number", range(8))
def test_mistakes(number: int) -> None:
    """Each error in the table is what the mistake raises, in this order."""
    texts = errorsBelow("## Errors in your program")
    assert len(texts) == len(MISTAKES)
    with MemoryServer(lambda server: None) as kit, pytest.raises((TypeError, ValueError)) as raised:
        MISTAKES[number](kit)
    assert texts[number] in str(raised.value)


WITH_SOCKETIO: list[Callable[[SocketIO], object]] = [
    lambda io: io.on("connect", print),
    lambda io: io.on("connection", greet),  # type: ignore[call-overload]
    lambda io: io.emit("connect"),
    lambda io: io.emit("at", {"when": datetime(2026, 11, 30, tzinfo=UTC)}),
    lambda io: io.to(["garden", "kitchen"]),  # type: ignore[arg-type]
    lambda io: SocketIO(io.engine),
    lambda io: io.serverSideEmit("reload"),
]


@pytest.mark.parametrize("number", range(7))
def test_mistakesWithSocketIO(number: int) -> None:
    """The same for the layer."""
    texts = errorsBelow("With Socket.IO:")
    assert len(texts) == len(WITH_SOCKETIO)
    with MemorySocketIO(lambda io: None) as kit, pytest.raises((TypeError, ValueError, NotSupported)) as raised:
        WITH_SOCKETIO[number](kit.io)
    assert texts[number] in str(raised.value)


def test_refusalsOfSocketIO(loggedErrors: list[LogEvent]) -> None:
    """A client is refused with each message that the page has."""

    def application(io: SocketIO) -> None:
        @io.of("/fails").use
        def fails(socket: Any) -> None:
            raise LookupError

    said: list[str] = []

    def refused(namespace: str) -> None:
        with pytest.raises(Refused) as error:
            client.of(namespace)
        said.append(error.value.message)

    with MemorySocketIO(application, maxNamespacesPerClient=2) as kit:
        client = kit.connect()
        refused("/nowhere")
        refused("/fails")
        kit.io.of("/one")
        client.of("/one")
        refused("/fails")
        waiting: Deferred[None] = Deferred()
        kit.io.on("wait", lambda socket: waiting)
        client.emit("wait")
        kit.io.drain()
        kit.settle()
        refused("/two")
        waiting.callback(None)
        assert [type(each) for each in kit.errors] == [LookupError]
        kit.errors.clear()
    loggedErrors.clear()
    assert said == errorsBelow("## A Socket.IO client gets")[:4]


def test_milliseconds(warnings: list[str]) -> None:
    """The line about milliseconds is the one that the log has."""
    Server(pingInterval=25)
    (line,) = warnings
    assert f"`{line}`" in PAGE
