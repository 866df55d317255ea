"""What must never be in a log: session ids, cookies, and whatever else clients send."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, eventAsText, globalLogPublisher

from engineio_twisted import LogObserver, Server
from engineio_twisted.logs import beginningOfId
from engineio_twisted.protocol.packet import Packet, PacketType, describe

from ..kit.asking import OPEN, opened
from ..kit.fakes import FakeRequest
from ..kit.observed import ask, fails, session
from ..kit.wire import Arena, Hostile, eventually, http, makeFrame, target, upgrade

pytestmark = pytest.mark.everySite

SECRET = "kept-to-ourselves"
# What a client's requests carry besides: in the query, as a cookie, for a proxy, and as a subprotocol.
QUERY = {"token": f"query-{SECRET}"}
HEADERS = [("Cookie", f"io=cookie-{SECRET}"), ("Authorization", f"Bearer header-{SECRET}")]
PROTOCOL = f"protocol-{SECRET}"


class Logged:
    """All that was logged during a test, whatever the level, and what was shown by DEBUG."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.events: list[LogEvent] = []
        self._capture = capture
        self._shown = ""

    @property
    def shown(self) -> str:
        self._shown += self._capture.readouterr().err
        return self._shown

    def text(self) -> str:
        """Every event as it would be written, with its traceback, and each of its fields."""
        lines = [eventAsText(event) for event in self.events]
        fields = [f"{name}={value!r}" for event in self.events for name, value in event.items() if name != "log_source"]
        return "\n".join([*lines, *fields, self.shown])

    def formats(self) -> list[str]:
        return [event.get("log_format") or "" for event in self.events]


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Logged]:
    """Log all that there is, as with DEBUG=engine*."""
    monkeypatch.setenv("DEBUG", "engine*")
    logged = Logged(capsys)
    globalLogPublisher.addObserver(logged.events.append)
    yield logged
    globalLogPublisher.removeObserver(logged.events.append)


@asynccontextmanager
async def watched(hostile: Hostile, **options: Any) -> AsyncIterator[tuple[Arena, list[str]]]:
    """A server that logs its sessions, and their ids."""
    async with hostile(cookie=True, **options) as here:
        here.server.addObserver(LogObserver(here.server))
        sids: list[str] = []
        here.server.on("connection", lambda socket: sids.append(socket.id))
        yield here, sids


def assertSilent(logged: Logged, sids: list[str]) -> None:
    """Nothing of what is secret was logged, while enough was that it could have been."""
    text = logged.text()
    assert {each.split(" ", 1)[0] for each in logged.shown.splitlines()} >= {"engine", "engine:socket"}
    for sid in sids:
        assert sid not in text
        assert beginningOfId(sid, "") in text
    at = text.find(SECRET)
    assert at < 0, text[max(0, at - 300) : at + 300]


@pytest_twisted.ensureDeferred
async def test_sessionsOnPolling(hostile: Hostile, logged: Logged) -> None:
    """Their ids are shortened, and what is sent on them isn't shown, nor what the requests carry."""
    async with watched(hostile, allowEIO3=True) as (here, sids):
        for changes in ({}, {"j": 0}, {"EIO": 3}, {"EIO": 3, "b64": 1}):
            opening = await here.ask(http("GET", target(**QUERY, **changes), HEADERS))
            assert opening.status == 200
            where = target(sid=sids[-1], **QUERY, **changes)
            here.server.clients[sids[-1]].send(f"out-{SECRET}")
            assert SECRET.encode() in (await here.ask(http("GET", where, HEADERS))).body
            here.server.clients[sids[-1]].send(b"out-" + SECRET.encode())
            assert (await here.ask(http("GET", where, HEADERS))).status == 200
            bodies = {0: f"4in-{SECRET}", 1: f"d=4in-{SECRET}", 2: f"{4 + len(SECRET)}:4in-{SECRET}"}
            body = bodies[1 if "j" in changes else 2 if "EIO" in changes else 0]
            assert (await here.ask(http("POST", where, HEADERS, body.encode()))).status == 200
            # And what isn't a payload.
            assert (await here.ask(http("POST", where, HEADERS, f"x{SECRET}".encode()))).status == 400
            assert sids[-1] not in here.server.clients
        assertSilent(logged, sids)
    assert "message, " in logged.shown


@pytest_twisted.ensureDeferred
async def test_sessionsOnWebSocket(hostile: Hostile, logged: Logged) -> None:
    """So are those on WebSocket, and those that move there."""
    async with watched(hostile, maxHttpBufferSize=1000) as (here, sids):
        sid, wire = await here.openWebSocket()
        for frame in (makeFrame(f"4in-{SECRET}"), makeFrame(SECRET.encode())):
            wire.send(frame)
            assert SECRET.encode() in (await wire.frame()).payload
        wire.send(makeFrame(f"x{SECRET}"))
        await wire.frame()
        await eventually(lambda: sid not in here.server.clients, "the end of the session")
        _, large = await here.openWebSocket()
        large.send(makeFrame(f"4{SECRET}" * 100))
        assert (await large.frame()).code == 1009
        client = await here.client()
        assert await client.upgrade()
        await client.echo(SECRET)
        await client.close()
        request = upgrade(
            target(transport="websocket", **QUERY),
            extra=f"Sec-WebSocket-Protocol: {PROTOCOL}\r\nCookie: io={SECRET}\r\n",
        )
        offering = await here.webSocket(request)
        await offering.frame()
        offering.drop()
        await eventually(lambda: sids[-1] not in here.server.clients, "the end of the session")
        assertSilent(logged, sids)


@pytest_twisted.ensureDeferred
async def test_refusals(hostile: Hostile, logged: Logged) -> None:
    """A request that is refused shows nothing of its query, its headers or its body; an id from before is one still."""
    async with watched(hostile, maxHttpBufferSize=1000) as (here, sids):
        sid = await here.open()
        await here.end(sid)
        live = await here.open()
        requests = [
            http("GET", target(sid=sid, **QUERY), HEADERS),
            http("GET", target(sid=f"id-{SECRET}"), HEADERS),
            http("GET", target(transport=SECRET), HEADERS),
            http("GET", target(sid=live) + f"&sid={sid}", HEADERS),
            http("GET", target(sid=live, transport="websocket"), HEADERS),
            http("PUT", target(sid=live, **QUERY), HEADERS),
            http("GET", target(j=SECRET), HEADERS),
            http("GET", target(), [*HEADERS, ("Origin", f"{SECRET}\x01")]),
            http("POST", target(sid=live, **QUERY), HEADERS, b"4" + SECRET.encode() * 100),
            upgrade(target(sid=sid, transport="websocket", **QUERY)),
            upgrade(Sec_WebSocket_Key=SECRET),
            upgrade(extra=f"Sec-WebSocket-Protocol: {SECRET} and more\r\n"),
        ]
        for request in requests:
            assert 400 <= (await here.ask(request)).status < 500
        # By the body that was too large.
        assert (await here.records[live].closed())[0] == "transport error"
        assertSilent(logged, sids)
    assert logged.formats().count("A request of {peer} was refused: {name}, {status}") == len(requests)


@pytest_twisted.ensureDeferred
async def test_handlersThatFail(hostile: Hostile, logged: Logged, loggedErrors: list[LogEvent]) -> None:
    """What a handler raises is logged with the session's short name, and a traceback that shows no values."""
    async with watched(hostile) as (here, sids):
        sid = await here.open()
        here.server.clients[sid].on("message", fails)
        assert (await here.post(sid, f"4{SECRET}")).status == 200
        await here.get(sid)
        await here.end(sid)
        assertSilent(logged, sids)
    assert [event["session"] for event in loggedErrors] == [beginningOfId(sid, "") + "…"]
    loggedErrors.clear()


@pytest.mark.parametrize("wrong", [SECRET.encode(), [SECRET], f"\ud800{SECRET}", "live"])
def test_idsThatAreNone(logged: Logged, loggedErrors: list[LogEvent], wrong: Any) -> None:
    """What generateId returned, and isn't an id, might have been one."""
    server = Server(reactor=Clock())
    live = opened(ask(server, OPEN))
    answer = live if wrong == "live" else wrong
    server.generateId = lambda request: answer  # type: ignore[method-assign]
    assert ask(server, OPEN).status == 400
    server.close()
    assertSilent(logged, [live])
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_requestsThatFail(logged: Logged, loggedErrors: list[LogEvent]) -> None:
    """A fault, an observer that fails, and a decision that takes too long don't show what the request was either."""
    server = Server(reactor=Clock())
    server._router._classify = fails  # type: ignore[method-assign]
    request = FakeRequest(uri=OPEN + b"&token=" + SECRET.encode(), headers={"Cookie": [SECRET]})
    server.handleRequest(request)
    assert request.status == 500
    clock = Clock()
    waiting: Deferred[bool] = Deferred()
    slow = Server(reactor=clock, allowRequest=lambda request: waiting)
    request = FakeRequest(uri=OPEN + b"&token=" + SECRET.encode(), headers={"Cookie": [SECRET]})
    slow.handleRequest(request)
    clock.advance(31)
    assert request.status == 403
    live = Server(reactor=clock, allowRequest=lambda request: succeed(True))
    sid = session(live).partition(b"sid=")[2].decode()
    live.close()
    assertSilent(logged, [sid])
    assert len(loggedErrors) == 1
    loggedErrors.clear()


# The parts


@pytest.mark.parametrize(
    ("sid", "prefix", "shown"),
    [
        ("a_lvm1zfYYw0weZGMB68AAAAAAAC", "", 6),
        ("worker1-a_lvm1zfYYw0weZGMB68AAAAAAAC", "worker1-", 14),
        ("worker2-a_lvm1zfYYw0weZGMB68AAAAAAAC", "worker1-", 6),
        ("abcd", "", 2),
        ("a", "", 0),
        ("worker1-ab", "worker1-", 9),
    ],
)
def test_beginningOfId(sid: str, prefix: str, shown: int) -> None:
    """Six characters behind the prefix, and never more than half of what is secret."""
    assert beginningOfId(sid, prefix) == sid[:shown]
    assert beginningOfId(sid.encode(), prefix.encode()) == sid[:shown].encode()


def test_describe() -> None:
    """A packet in a log is its type and its size."""
    assert describe(Packet(PacketType.MESSAGE, "secret")) == "message, 6 characters"
    assert describe(Packet(PacketType.MESSAGE, b"secret")) == "message, 6 bytes"
    assert describe(Packet(PacketType.PING)) == "ping, 0 characters"


# The log of sessions


def test_logOfSessions(logged: Logged) -> None:
    """A line at the beginning and one at the end, at the level info, with fields for whoever reads logs by program."""
    server = Server(reactor=Clock())
    server.addObserver(LogObserver(server))
    address = session(server)
    name = next(iter(server.clients.values())).logName
    server._counters.limitReached(next(iter(server.clients.values())), "someLimit")
    server._counters.limitReached(None, "someLimit")
    ask(server, address, b"1")
    ask(server, address)
    events = [each for each in logged.events if each["log_namespace"] == "engineio_twisted.observer.LogObserver"]
    assert {each["log_level"] for each in events} == {LogLevel.info}
    fields = ("session", "peer", "transport", "reason", "name", "status", "option")
    assert [{name: each[name] for name in fields if name in each} for each in events] == [
        {"session": name, "peer": "192.0.2.7", "transport": "polling"},
        {"session": name, "option": "someLimit"},
        {"session": None, "option": "someLimit"},
        {"session": name, "reason": "transport close"},
        {"peer": "192.0.2.7", "name": "UNKNOWN_SID", "status": 400},
    ]


def test_logOfAContradiction(logged: Logged) -> None:
    """Where a proxy leaves open who a client is, the log doesn't say who."""
    server = Server(reactor=Clock(), trustedProxies="192.0.2.7")
    server.addObserver(LogObserver(server))
    headers = {"Forwarded": ["for=198.51.100.1"], "X-Forwarded-For": ["198.51.100.2"]}
    server.handleRequest(FakeRequest(uri=OPEN, headers=headers))
    (event,) = [each for each in logged.events if each["log_namespace"] == "engineio_twisted.observer.LogObserver"]
    assert (event["peer"], event["name"], event["status"]) == (None, "trustedProxies", 400)
