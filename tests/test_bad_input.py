"""What a hostile or broken client may say over HTTP: what it is answered, and that nobody else notices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any, TypeAlias

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import LogEvent
from twisted.web import http as webHTTP
from twisted.web.resource import Resource
from twisted.web.server import Site

import engineio_twisted.resource
from engineio_twisted import EngineIOResource, RequestRefused, Server

from .wire import (
    SEPARATOR,
    Arena,
    LostError,
    Response,
    arena,
    eventually,
    http,
    makeFrame,
    target,
    upgrade,
)

Hostile: TypeAlias = Callable[..., AbstractAsyncContextManager[Arena]]

plainAndUpgrade = pytest.mark.parametrize("isUpgrade", [False, True], ids=["plain", "upgrade"])
webSocket = partial(target, transport="websocket")

MESSAGES = {
    0: "Transport unknown",
    1: "Session ID unknown",
    2: "Bad handshake method",
    3: "Bad request",
    4: "Forbidden",
    5: "Unsupported protocol version",
}


@pytest.fixture
def hostile(serve: Callable[..., Any]) -> Hostile:
    """Start a server with bystanders: `async with hostile(pingInterval=300) as here:`."""
    return partial(arena, serve)


async def refused(here: Arena, request: bytes, code: int, message: str | None = None, **context: object) -> None:
    """Send a request that has to be refused with a code, in the form that fits it, and be emitted once."""
    before = len(here.refusals)
    method = request.partition(b" ")[0].decode()
    wire = await here.say(request)
    response = await wire.response(method)
    assert response.status == (403 if code == 4 else 400)
    text = message or MESSAGES[code]
    if method != "HEAD":
        if b"\r\nUpgrade: websocket\r\n" in request and b" HTTP/1.1" in request:
            assert response.headers["content-type"].startswith("text/plain")
            assert response.body == text.encode()
            assert await wire.lost() == b""
        else:
            assert response.json == {"code": code, "message": text}
    assert len(here.refusals) == before + 1
    event = here.refusals[-1]
    assert (event.req.method.decode(), event.code, event.message) == (method, code, text)
    assert {name: event.context[name] for name in context} == context


class TestRefusals:
    """Requests for a session that there won't be."""

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_transport(self, hostile: Hostile, isUpgrade: bool) -> None:
        """A client that asks for a transport there isn't learns so: code 0."""
        async with hostile() as here:
            for name in (
                None,
                "",
                "nope",
                "constructor",
                "__proto__",
                "webtransport",
                "Polling",
                "polling%00",
                "%ff%zz",
            ):
                where = target(transport=name)
                await refused(here, upgrade(where) if isUpgrade else http("GET", where), 0)
                assert set(here.refusals[-1].context) == {"transport"}

    @pytest.mark.parametrize(("enabled", "asked"), [("polling", "websocket"), ("websocket", "polling")])
    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_transportOff(self, hostile: Hostile, enabled: str, asked: str, isUpgrade: bool) -> None:
        """A transport that the server has switched off is as unknown as one that doesn't exist."""
        async with hostile(transports=[enabled]) as here:
            where = target(transport=asked)
            await refused(here, upgrade(where) if isUpgrade else http("GET", where), 0, transport=asked)

    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "upgrade"])
    @pytest_twisted.ensureDeferred
    async def test_sid(self, hostile: Hostile, method: str) -> None:
        """A client whose session has ended, or that guesses, learns that there is none: code 1."""
        async with hostile() as here:
            for sid in ("unknown", "__proto__", "constructor", "%00%0d%0a", "%ff", "x" * 10000):
                if method == "upgrade":
                    await refused(here, upgrade(webSocket(sid=sid)), 1)
                else:
                    await refused(here, http(method, target(sid=sid), body=b"4x" if method == "POST" else None), 1)
                if "%" not in sid:
                    assert here.refusals[-1].context == {"sid": sid}

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_method(self, hostile: Hostile, isUpgrade: bool) -> None:
        """Only GET opens a session: code 2."""
        async with hostile() as here:
            for method in ("POST", "PUT", "HEAD", "OPTIONS", "DELETE"):
                request = upgrade(method=method) if isUpgrade else http(method, target())
                await refused(here, request, 2, method=method)

    @pytest.mark.parametrize("byte", ["\x01", "\x1f", "\x7f", "\x0b"])
    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_origin(self, hostile: Hostile, byte: str, isUpgrade: bool) -> None:
        """An Origin with bytes that no header may hold is not echoed anywhere: INVALID_ORIGIN."""
        async with hostile() as here:
            origin = f"http://a{byte}b"
            request = upgrade(Origin=origin) if isUpgrade else http("GET", target(), [("Origin", origin)])
            await refused(here, request, 3, name="INVALID_ORIGIN")
            sid = await here.open()
            where = webSocket(sid=sid) if isUpgrade else target(sid=sid)
            request = upgrade(where, Origin=origin) if isUpgrade else http("GET", where, [("Origin", origin)])
            await refused(here, request, 3, name="INVALID_ORIGIN")
            await here.goesOn(sid)

    @pytest_twisted.ensureDeferred
    async def test_transportMismatch(self, hostile: Hostile) -> None:
        """A request on another transport than the session's is refused, and the session goes on."""
        async with hostile() as here:
            sid = await here.open()
            for method in ("GET", "POST"):
                request = http(method, webSocket(sid=sid), body=b"4x")
                names = {"transport": "websocket", "previousTransport": "polling"}
                await refused(here, request, 3, name="TRANSPORT_MISMATCH", **names)
            await here.goesOn(sid)
            sid, wire = await here.openWebSocket()
            for method in ("GET", "POST"):
                request = http(method, target(sid=sid), body=b"4x")
                names = {"transport": "polling", "previousTransport": "websocket"}
                await refused(here, request, 3, name="TRANSPORT_MISMATCH", **names)
            wire.send(makeFrame("4there"))
            assert await wire.text() == "4there"

    @pytest_twisted.ensureDeferred
    async def test_upgradesOff(self, hostile: Hostile) -> None:
        """With allowUpgrades off a polling session stays on polling, however hard the client tries."""
        async with hostile(allowUpgrades=False) as here:
            sid = await here.open()
            names = {"transport": "websocket", "previousTransport": "polling"}
            await refused(here, upgrade(webSocket(sid=sid)), 3, name="TRANSPORT_MISMATCH", **names)
            await here.goesOn(sid)

    @pytest.mark.parametrize("isLive", [False, True], ids=["handshake", "session"])
    @pytest_twisted.ensureDeferred
    async def test_halfAnUpgrade(self, hostile: Hostile, isLive: bool) -> None:
        """An upgrade request that names polling is not taken for a poll: what is buffered isn't lost."""
        async with hostile() as here:
            sid = await here.open() if isLive else None
            if sid is not None:
                here.server.clients[sid].send("kept")
            await refused(here, upgrade(target(sid=sid)), 3, name="TRANSPORT_HANDSHAKE_ERROR", transport="polling")
            if sid is not None:
                assert (await here.get(sid)).packets == ["4kept"]
                await here.goesOn(sid)

    @pytest.mark.parametrize(
        "request_",
        [
            http("GET", webSocket()),
            http("GET", webSocket(), [("Connection", "Upgrade")]),
            upgrade(Connection="keep-alive"),
            upgrade(Connection=None),
            upgrade(Upgrade="h2c"),
            upgrade(version="1.0"),
        ],
        ids=["plain", "no Upgrade", "keep-alive", "no Connection", "h2c", "HTTP/1.0"],
    )
    @pytest_twisted.ensureDeferred
    async def test_noUpgrade(self, hostile: Hostile, request_: bytes) -> None:
        """A request for a WebSocket without the headers for one, as a careless proxy makes it, gets an explanation."""
        async with hostile() as here:
            response = await here.ask(request_)
            assert response.status == 400
            assert response.json == {"code": 3, "message": "Bad request"}
            assert here.refusals[-1].context["name"] == "TRANSPORT_HANDSHAKE_ERROR"

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_revision(self, hostile: Hostile, isUpgrade: bool) -> None:
        """A client of another revision of the protocol is told so: code 5."""
        async with hostile() as here:
            for revision in (None, "", "3", "5", "4.0", "four", "04"):
                if isUpgrade:
                    await refused(here, upgrade(webSocket(EIO=revision)), 5, protocol=3)
                else:
                    await refused(here, http("GET", target(EIO=revision)), 5, protocol=3)

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_revisionMismatch(self, hostile: Hostile, isUpgrade: bool) -> None:
        """A client can't change the revision in the middle of a session, which goes on."""
        async with hostile() as here:
            sid = await here.open()
            for request in (
                [upgrade(webSocket(sid=sid, EIO=3))]
                if isUpgrade
                else [http("GET", target(sid=sid, EIO=3)), http("POST", target(sid=sid, EIO=None), body=b"4x")]
            ):
                await refused(here, request, 3, name="PROTOCOL_MISMATCH", protocol=3, previousProtocol=4)
            await here.goesOn(sid)

    @pytest.mark.parametrize("how", ["raises", "fails later", "duplicate", "not text", "empty", "None later"])
    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_generateId(self, hostile: Hostile, how: str, isUpgrade: bool, loggedErrors: list[LogEvent]) -> None:
        """Where the application fails to make an id, the client gets an answer without detail, the log the cause."""
        async with hostile() as here:
            taken = next(iter(here.server.clients))

            def generateId(request: Any) -> Any:
                if how == "raises":
                    raise ValueError("secret")
                if how == "fails later":
                    return failing("secret")
                if how == "None later":
                    return later(None)
                return {"duplicate": taken, "not text": 5, "empty": ""}[how]

            here.server.generateId = generateId
            request = upgrade() if isUpgrade else http("GET", target())
            await refused(here, request, 3, name="ID_GENERATION_ERROR")
            assert len(loggedErrors) == 1
            loggedErrors.clear()

    @pytest.mark.parametrize("isAsync", [False, True], ids=["sync", "async"])
    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_middleware(
        self, hostile: Hostile, isAsync: bool, isUpgrade: bool, loggedErrors: list[LogEvent]
    ) -> None:
        """A middleware that fails refuses the request, without telling why, and not the session that it was about."""
        async with hostile() as here:
            sid = await here.open()

            def middleware(request: Any) -> Any:
                if not request.getHeader("x-hostile"):
                    return None
                if isAsync:
                    return failing("secret")
                raise ValueError("secret")

            here.server.use(middleware)
            for query in ({}, {"sid": sid}):
                if isUpgrade:
                    request = upgrade(webSocket(**query), X_Hostile="yes")
                else:
                    request = http("GET", target(**query), [("X-Hostile", "yes")])
                await refused(here, request, 3, name="MIDDLEWARE_FAILURE")
                assert len(loggedErrors) == 1
                loggedErrors.clear()
            await here.goesOn(sid)

    @pytest.mark.parametrize("answer", ["false", "Deferred", "coroutine", "refused", "refused later", "raises"])
    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_allowRequest(
        self, hostile: Hostile, answer: str, isUpgrade: bool, loggedErrors: list[LogEvent]
    ) -> None:
        """A client that the application doesn't want gets 403, with the application's text if it gives one."""
        asked = []

        async def refusing() -> None:
            await later(None)
            raise RequestRefused("come back tomorrow")

        def allowRequest(request: Any) -> Any:
            asked.append(request)
            if not request.getHeader("x-hostile"):
                return True
            if answer == "refused":
                raise RequestRefused("come back tomorrow")
            if answer == "raises":
                raise ValueError("secret")
            return {
                "false": lambda: False,
                "Deferred": lambda: Deferred.fromCoroutine(later(False)),
                "coroutine": lambda: later(0),
                "refused later": refusing,
            }[answer]()

        async with hostile(allowRequest=allowRequest) as here:
            request = upgrade(X_Hostile="yes") if isUpgrade else http("GET", target(), [("X-Hostile", "yes")])
            text = "come back tomorrow" if answer.startswith("refused") else None
            await refused(here, request, 4, text)
            assert len(loggedErrors) == (answer == "raises")
            loggedErrors.clear()
            # Nobody is asked about a session that is open.
            sid = await here.open()
            before = len(asked)
            await here.goesOn(sid)
            assert len(asked) == before

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_goneWhileAsking(self, hostile: Hostile, isUpgrade: bool) -> None:
        """A client that leaves while the application thinks about it leaves no session, even if it is let in."""
        asked: list[Any] = []

        async def allowRequest(request: Any) -> bool:
            if request.getHeader("x-hostile"):
                answer: Deferred[None] = Deferred()
                asked.append(request)
                try:
                    await answer
                except Exception:
                    asked.append("cancelled")
            return True

        async with hostile(allowRequest=allowRequest) as here:
            before = dict(here.server.clients)
            wire = await here.say(
                upgrade(X_Hostile="yes") if isUpgrade else http("GET", target(), [("X-Hostile", "yes")])
            )
            await eventually(lambda: asked, "the question")
            wire.drop()
            await eventually(lambda: len(asked) == 2, "the end of the question")
            assert here.server.clients == before

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_duplicateParameter(self, hostile: Hostile, isUpgrade: bool) -> None:
        """A parameter given twice, which a proxy may read otherwise than the server, is refused."""
        async with hostile() as here:
            sid = await here.open()
            make = upgrade if isUpgrade else partial(http, "GET")
            base = webSocket if isUpgrade else target
            for where in (
                base(sid=sid) + "&sid=" + sid,
                base(sid=sid) + "&sid=other",
                base() + "&transport=polling",
                base() + "&EIO=4",
                base() + "&EIO=3",
            ):
                await refused(here, make(where), 3)
            await here.goesOn(sid)


async def later(answer: object) -> object:
    from .wire import pause

    await pause(0)
    return answer


async def failing(text: str) -> None:
    await later(None)
    raise ValueError(text)


RUBBISH = [
    "EIO=4&transport=%",
    "EIO=4&transport=%u0041",
    "%00=%00",
    "&&&===&;;",
    "?" * 1000,
    "EIO[]=4&transport[]=polling",
    "=4",
    "a=1&" * 3000,
]


WRONG_HEADERS: list[dict[str, Any]] = [
    {"Sec_WebSocket_Key": None},
    {"Sec_WebSocket_Key": ""},
    {"Sec_WebSocket_Key": "short"},
    {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ="},
    {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZS0t"},
    {"Sec_WebSocket_Key": "dGhlIHNhbXBsZS!ub25jZQ=="},
    {"extra": "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"},
    {"Sec_WebSocket_Version": None},
    {"Sec_WebSocket_Version": "12"},
    {"Sec_WebSocket_Version": "thirteen"},
    {"extra": "Sec-WebSocket-Version: 8\r\n"},
]


class TestAddress:
    """Addresses and headers as no client makes them."""

    @pytest_twisted.ensureDeferred
    async def test_long(self, hostile: Hostile) -> None:
        """An application may have long parameters."""
        async with hostile() as here:
            response = await here.ask(http("GET", target(token="x" * 15000)))
            assert response.packets[0].startswith("0{")
            await here.end(json.loads(response.packets[0][1:])["sid"])

    @pytest.mark.parametrize("size", [20_000, 100_000])
    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_tooLong(self, hostile: Hostile, size: int, isUpgrade: bool) -> None:
        """An address beyond all measure opens nothing, and the connection ends."""
        async with hostile() as here:
            where = (webSocket if isUpgrade else target)(token="x" * size)
            wire = await here.say(upgrade(where) if isUpgrade else http("GET", where))
            said = await wire.lost()
            assert said == b"" or said.startswith(b"HTTP/1.1 4")

    @plainAndUpgrade
    @pytest_twisted.ensureDeferred
    async def test_rubbish(self, hostile: Hostile, isUpgrade: bool) -> None:
        """A query that makes no sense is an unknown transport, not an error of the server."""
        async with hostile() as here:
            for query in RUBBISH:
                where = "/engine.io/?" + query
                await refused(here, upgrade(where) if isUpgrade else http("GET", where), 0)

    @pytest.mark.parametrize("where", ["line", "name", "value"])
    @pytest_twisted.ensureDeferred
    async def test_nul(self, hostile: Hostile, where: str) -> None:
        """A request with a NUL byte is no HTTP; the connection ends."""
        async with hostile() as here:
            path = target(t="\0") if where == "line" else target()
            header = {"line": ("A", "b"), "name": ("A\0", "b"), "value": ("A", "\0b")}[where]
            wire = await here.say(http("GET", path, [header]))
            assert (await wire.lost()).startswith(b"HTTP/1.1 400")

    @pytest.mark.parametrize("isLive", [False, True], ids=["handshake", "session"])
    @pytest_twisted.ensureDeferred
    async def test_lineBreaks(self, hostile: Hostile, isLive: bool) -> None:
        """A byte that some software takes for the end of a header line can't smuggle a header into an upgrade."""
        async with hostile() as here:
            sid = await here.open() if isLive else None
            for byte in "\x0b\x0c\x1c\x1d\x1e\x85":
                smuggled = f"a{byte}Sec-WebSocket-Protocol: evil"
                await refused(here, upgrade(webSocket(sid=sid), X_Forwarded_For=smuggled), 3)
            if sid is not None:
                await here.goesOn(sid)

    @pytest.mark.parametrize("isLive", [False, True], ids=["handshake", "session"])
    @pytest_twisted.ensureDeferred
    async def test_handshakeHeaders(self, hostile: Hostile, isLive: bool) -> None:
        """An opening handshake that breaks the rules of WebSocket gets a 400, and the cause is in the context."""
        async with hostile() as here:
            sid = await here.open() if isLive else None
            for changes in WRONG_HEADERS:
                request = upgrade(webSocket(sid=sid), **changes)
                name = "Version" if "Version" in str(changes) else "Key"
                await refused(here, request, 3, name="TRANSPORT_HANDSHAKE_ERROR")
                assert f"Sec-WebSocket-{name}" in here.refusals[-1].context["reason"]
                if name == "Version":
                    response = await here.ask(request)
                    assert "13" in response.headers["sec-websocket-version"]
            if sid is not None:
                await here.goesOn(sid)

    @pytest_twisted.ensureDeferred
    async def test_upgradeByPost(self, hostile: Hostile) -> None:
        """Only GET asks for a WebSocket, on a session too, which doesn't suffer from another method."""
        async with hostile() as here:
            sid = await here.open()
            await refused(here, upgrade(webSocket(sid=sid), method="POST"), 3, name="TRANSPORT_HANDSHAKE_ERROR")
            await here.goesOn(sid)

    @pytest.mark.parametrize("isAsync", [False, True], ids=["sync", "async"])
    @pytest_twisted.ensureDeferred
    async def test_behindARefusal(self, hostile: Hostile, isAsync: bool) -> None:
        """What a client sends behind an upgrade request that is refused is never taken for another request."""

        def allowRequest(request: Any) -> Any:
            return True if not request.getHeader("x-hostile") else later(False) if isAsync else False

        async with hostile(allowRequest=allowRequest) as here:
            before = dict(here.server.clients)
            wire = await here.say(upgrade(X_Hostile="yes") + http("GET", target()))
            assert (await wire.response()).status == 403
            assert await wire.lost() == b""
            assert here.server.clients == before


class TestMethods:
    """Requests to a live session by methods that it doesn't have."""

    @pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
    @pytest_twisted.ensureDeferred
    async def test_notAllowed(self, hostile: Hostile, method: str) -> None:
        """A HEAD, say, of a crawler gets 405: the session lives, and neither its buffer nor its poll is touched."""
        async with hostile() as here:
            sid = await here.open()
            here.server.clients[sid].send("kept")
            response = await here.ask(http(method, target(sid=sid)))
            assert response.status == 405
            assert response.headers["allow"] == "GET, POST"
            assert (await here.get(sid)).packets == ["4kept"]
            waiting = await here.poll(sid)
            assert (await here.ask(http(method, target(sid=sid)))).status == 405
            here.server.clients[sid].send("too")
            assert (await waiting.response()).packets == ["4too"]
            await here.goesOn(sid)


class TestOverlap:
    """Two requests at a time where there may be one, and requests that break off."""

    @pytest_twisted.ensureDeferred
    async def test_get(self, hostile: Hostile) -> None:
        """A second GET ends the session: it gets 400, and the first is told of the end."""
        async with hostile() as here:
            sid = await here.open()
            waiting = await here.poll(sid)
            response = await here.get(sid)
            assert response.status == 400
            assert "message" in response.json
            assert (await waiting.response()).packets == ["1"]
            reason, description = await here.records[sid].closed()
            assert reason == "transport error"
            assert "overlap" in description
            await refused(here, http("GET", target(sid=sid)), 1)

    @pytest_twisted.ensureDeferred
    async def test_post(self, hostile: Hostile) -> None:
        """A second POST while the body of one is on its way ends the session; nothing of the two is delivered."""
        async with hostile() as here:
            sid = await here.open()
            waiting = await here.poll(sid)
            first = await halfAPost(here, sid)
            response = await here.post(sid, "4second")
            assert response.status == 400
            assert "message" in response.json
            assert (await waiting.response()).packets == ["1"]
            assert b"200" not in await first.lost()
            reason, description = await here.records[sid].closed()
            assert reason == "transport error"
            assert "overlap" in description
            assert here.records[sid].messages == []

    @pytest.mark.parametrize("abort", [True, False], ids=["reset", "end of stream"])
    @pytest_twisted.ensureDeferred
    async def test_getLost(self, hostile: Hostile, abort: bool) -> None:
        """A client that vanishes while it polls is noticed at once."""
        async with hostile() as here:
            sid = await here.open()
            (await here.poll(sid)).drop(abort)
            assert await here.records[sid].closed() == ("transport error", "poll connection closed prematurely")

    @pytest.mark.parametrize("abort", [True, False], ids=["reset", "end of stream"])
    @pytest_twisted.ensureDeferred
    async def test_postLost(self, hostile: Hostile, abort: bool) -> None:
        """A client that vanishes while it posts is noticed at once, and what it posted is not delivered."""
        async with hostile() as here:
            sid = await here.open()
            waiting = await here.poll(sid)
            (await halfAPost(here, sid)).drop(abort)
            reason = "data request connection closed prematurely"
            assert await here.records[sid].closed() == ("transport error", reason)
            assert (await waiting.response()).packets == ["1"]
            assert here.records[sid].messages == []

    @pytest.mark.parametrize("change", [{"EIO": "3"}, {"transport": "websocket"}, {"sid": "{0}&sid=other"}], ids=str)
    @pytest_twisted.ensureDeferred
    async def test_wrongPostLost(self, hostile: Hostile, change: dict[str, str]) -> None:
        """A POST that would have been refused anyway does the session no harm when it breaks off."""
        async with hostile() as here:
            sid = await here.open()
            query = {"sid": sid, **{name: value.format(sid) for name, value in change.items()}}
            headers = [("Content-Length", "10"), ("Expect", "100-continue")]
            wire = await here.say(http("POST", target(**query), headers))
            await wire.head()
            port = wire.transport.getHost().port
            wire.drop()
            await eventually(lambda: port not in ports(here), "the server to notice")
            await here.goesOn(sid)


async def halfAPost(here: Arena, sid: str) -> Any:
    """Begin a POST, and make sure that the server has seen its headers."""
    headers = [("Content-Length", "10"), ("Expect", "100-continue")]
    wire = await here.say(http("POST", target(sid=sid), headers))
    assert (await wire.head()).status == 100
    wire.send(b"4half")
    return wire


def ports(here: Arena) -> list[int]:
    """The clients' ports of the connections that the server has."""
    return [each.transport.getPeer().port for each in here.server._ownSite.channels]


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of bodies as twisted.web stores them."""
    sizes: list[int] = []
    handle = webHTTP.Request.handleContentChunk

    def handleContentChunk(self: Any, data: bytes) -> None:
        sizes.append(len(data))
        handle(self, data)

    monkeypatch.setattr(webHTTP.Request, "handleContentChunk", handleContentChunk)
    return sizes


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces)


CHUNKED = [("Transfer-Encoding", "chunked")]


class TestBodySize:
    """Bodies over maxHttpBufferSize, here 1000 bytes."""

    @staticmethod
    def assertTooLarge(response: Response) -> None:
        assert response.status == 413
        assert "1000" in response.json["message"]
        assert "maxHttpBufferSize" in response.json["message"]

    @pytest.mark.parametrize(
        ("length", "expects"), [(1001, False), (1001, True), (10**6, False), (10**6, True), (10**15, False)]
    )
    @pytest_twisted.ensureDeferred
    async def test_declared(
        self, hostile: Hostile, stored: list[int], length: int, expects: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A body that says that it is too large is refused before it is sent; the session goes on."""
        monkeypatch.setattr(engineio_twisted.resource, "LINGER_TIME", 0.2)
        async with hostile(maxHttpBufferSize=1000) as here:
            sid = await here.open()
            headers = [("Content-Length", str(length)), *([("Expect", "100-continue")] if expects else [])]
            wire = await here.say(http("POST", target(sid=sid), headers))
            self.assertTooLarge(await wire.response())
            wire.send(b"4" + b"x" * 5000)
            # At the end of the body, or when that takes too long.
            assert await wire.lost() == b""
            assert sum(stored) == 0
            assert here.records[sid].messages == []
            await here.goesOn(sid)

    @pytest_twisted.ensureDeferred
    async def test_chunked(self, hostile: Hostile, stored: list[int]) -> None:
        """A body that doesn't say its size is refused when it has grown too large, and no more of it is stored."""
        async with hostile(maxHttpBufferSize=1000) as here:
            sid = await here.open()
            pieces = [b"4" + b"x" * 599, b"y" * 600, b"z" * 100_000]
            wire = await here.say(http("POST", target(sid=sid), CHUNKED) + chunked(*pieces))
            self.assertTooLarge(await wire.response())
            wire.send(chunked(b""))
            assert await wire.lost() == b""
            assert sum(stored) <= 1000
            assert here.records[sid].messages == []
            await here.goesOn(sid)

    @pytest.mark.parametrize("isChunked", [False, True], ids=["length", "chunked"])
    @pytest_twisted.ensureDeferred
    async def test_exactly(self, hostile: Hostile, isChunked: bool) -> None:
        """A body of exactly the limit is accepted."""
        async with hostile(maxHttpBufferSize=1000, echoes=False) as here:
            sid = await here.open()
            body = b"4" + b"x" * 999
            if isChunked:
                response = await here.ask(http("POST", target(sid=sid), CHUNKED) + chunked(body[:1], body[1:], b""))
            else:
                response = await here.post(sid, body)
            assert (response.status, response.body) == (200, b"ok")
            assert here.records[sid].messages == ["x" * 999]
            await here.end(sid)

    @pytest.mark.parametrize("method", ["POST", "PUT", "GET", "HEAD", "DELETE"])
    @pytest.mark.parametrize("isChunked", [False, True], ids=["length", "chunked"])
    @pytest_twisted.ensureDeferred
    async def test_anyMethod(self, hostile: Hostile, stored: list[int], method: str, isChunked: bool) -> None:
        """A body that nobody will look at, as it comes with another method or for no session, isn't stored either."""
        async with hostile(maxHttpBufferSize=1000) as here:
            for query in ({}, {"sid": "unknown"}):
                body = b"x" * 50_000
                headers = CHUNKED if isChunked else [("Content-Length", str(len(body)))]
                wire = await here.connect()
                wire.send(http(method, target(**query), headers) + (chunked(body, b"") if isChunked else body))
                with suppress(LostError):
                    await wire.response(method)
                wire.drop()
            assert sum(stored) <= 2000

    @pytest_twisted.ensureDeferred
    async def test_brokenChunks(self, hostile: Hostile) -> None:
        """A body that breaks the rules of HTTP ends the connection, and the session with it."""
        async with hostile() as here:
            sid = await here.open()
            wire = await here.say(http("POST", target(sid=sid), CHUNKED) + b"2\r\n4x\r\nnothex\r\n")
            assert (await wire.lost()).startswith(b"HTTP/1.1 400")
            assert (await here.records[sid].closed())[0] == "transport error"
            assert here.records[sid].messages == []

    @pytest_twisted.ensureDeferred
    async def test_stockSite(self, atResource: Callable[..., Any]) -> None:
        """On a site of twisted.web's own, which stores bodies first, the limit holds all the same, if late."""
        async with arena(atResource, maxHttpBufferSize=1000) as here:
            sid = await here.open()
            self.assertTooLarge(await here.post(sid, "4" + "x" * 1000))
            self.assertTooLarge(
                await here.ask(http("POST", target(sid=sid), CHUNKED) + chunked(b"4" + b"x" * 5000, b""))
            )
            assert here.records[sid].messages == []
            await here.goesOn(sid)


@pytest.fixture
def atResource(serve: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Start a server as `serve` does, but below the root of a stock site."""
    from twisted.internet import reactor

    from .conftest import Listening

    ports = []

    async def start(**options: Any) -> Any:
        server = Server(**options)
        root = Resource()
        root.putChild(b"engine.io", EngineIOResource(server))
        port = reactor.listenTCP(0, Site(root), interface="127.0.0.1")
        ports.append((port, server))
        return Listening(server, port.getHost().port)

    yield start
    for port, server in ports:
        pytest_twisted.blockon(port.stopListening())
        pytest_twisted.blockon(server.close())


class TestSlowBody:
    """Bodies that take for ever: pingInterval and pingTimeout together are all the time there is."""

    @pytest.mark.parametrize("isLive", [True, False], ids=["session", "no session"])
    @pytest_twisted.ensureDeferred
    async def test_trickle(self, hostile: Hostile, isLive: bool) -> None:
        """A body that comes a byte at a time ends, with its connection and its session."""
        async with hostile(pingInterval=200, pingTimeout=400) as here:
            sid = await here.open() if isLive else "unknown"
            wire = await here.say(http("POST", target(sid=sid), [("Content-Length", "100000")]) + b"4")
            trickle = LoopingCall(wire.send, b"x")
            trickle.start(0.02)
            assert b" 200 " not in await wire.lost()
            trickle.stop()
            if isLive:
                assert (await here.records[sid].closed())[0] in ("ping timeout", "transport error")
                assert here.records[sid].messages == []


class TestPayload:
    """POST bodies that are no payload."""

    @pytest.mark.parametrize(
        ("bad", "said"),
        [
            ("7", "7"),
            ("x", "x"),
            ("", "empty"),
            ("hello", "hello"),
            ("\N{FULLWIDTH DIGIT FOUR}x", ""),
            ("-1", "-1"),
            ("b!", "base64"),
            ("bA", "base64"),
            ("bAAA", "base64"),
            ("bAQID\n", "base64"),
            ("bAQ==BAQ=", "base64"),
            ("b=AAA", "base64"),
            ("bAQI-", "base64"),
            ("bA QI", "base64"),
            ("b\N{GREEK SMALL LETTER ALPHA}AAA", "base64"),
            ("b4AQIDA", "base64"),
        ],
        ids=ascii,
    )
    @pytest_twisted.ensureDeferred
    async def test_badPacket(self, hostile: Hostile, bad: str, said: str) -> None:
        """What comes before the first broken packet is delivered; then the session ends with `parse error`."""
        async with hostile() as here:
            sid = await here.open()
            waiting = await here.poll(sid)
            response = await here.post(sid, SEPARATOR.join(["4first", "bAQIDBA==", bad, "4last"]))
            assert response.status == 400
            assert "message" in response.json
            reason, description = await here.records[sid].closed()
            assert reason == "parse error"
            assert said in description
            assert here.records[sid].messages == ["first", b"\1\2\3\4"]
            packets = (await waiting.response()).packets
            assert packets == ["4first"] or packets[-1] == "1"

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (b"", []),
            (b"4\xff\xfe", []),
            (b"4ok\x1e4\xc3", []),
            (b"4\xed\xa0\x80", []),
            (b"\x1e" * 100_000, []),
            (b"4x", [("Content-Type", "application/octet-stream")]),
            (b"\x00\x02\xff4x", [("Content-Type", "Application/Octet-Stream; charset=x")]),
        ],
        ids=["empty", "not UTF-8", "cut UTF-8", "surrogate", "separators", "octet-stream", "revision 3"],
    )
    @pytest_twisted.ensureDeferred
    async def test_badBody(self, hostile: Hostile, body: bytes, headers: list[tuple[str, str]]) -> None:
        """A body that is no payload at all gets 400 and ends the session with `parse error`."""
        async with hostile() as here:
            sid = await here.open()
            waiting = await here.poll(sid)
            response = await here.ask(http("POST", target(sid=sid), headers, body))
            assert response.status == 400
            assert "message" in response.json
            assert (await here.records[sid].closed())[0] == "parse error"
            assert here.records[sid].messages == []
            assert (await waiting.response()).packets == ["1"]

    @pytest_twisted.ensureDeferred
    async def test_manyPackets(self, hostile: Hostile) -> None:
        """A payload of as many packets as fit is delivered as a whole: there is no limit but the bytes."""
        async with hostile(echoes=False) as here:
            sid = await here.open()
            expected = [str(each) for each in range(50_000)]
            response = await here.post(sid, SEPARATOR.join("4" + each for each in expected))
            assert response.body == b"ok"
            assert here.records[sid].messages == expected
            await here.end(sid)

    @pytest_twisted.ensureDeferred
    async def test_strayPackets(self, hostile: Hostile) -> None:
        """Packets that mean nothing from a client on polling are ignored."""
        async with hostile() as here:
            sid = await here.open()
            assert (await here.post(sid, SEPARATOR.join(["0", "5", "6", "3", "3probe"]))).status == 200
            assert here.records[sid].messages == []
            await here.goesOn(sid)


class TestHeartbeat:
    """Pings and pongs out of order, and none at all."""

    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest.mark.parametrize("isListening", [True, False], ids=["listening", "gone"])
    @pytest_twisted.ensureDeferred
    async def test_noPong(self, hostile: Hostile, transport: str, isListening: bool) -> None:
        """A client that doesn't answer a ping is given up after pingTimeout."""
        async with hostile(pingInterval=100, pingTimeout=300) as here:
            if transport == "polling":
                sid = await here.open()
                if isListening:
                    assert (await here.get(sid)).packets == ["2"]
                    wire = await here.poll(sid)
                    assert (await wire.response()).packets == ["1"]
            else:
                sid, wire = await here.openWebSocket()
                if isListening:
                    assert await wire.text() == "2"
                    assert await wire.closed() == 1000
            reason, description = await here.records[sid].closed()
            assert reason == "ping timeout"
            assert "300" in description

    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_wrongDirection(self, hostile: Hostile, transport: str) -> None:
        """A ping from the client, which revision 4 doesn't have, ends the session."""
        async with hostile() as here:
            if transport == "polling":
                sid = await here.open()
                waiting = await here.poll(sid)
                await here.post(sid, SEPARATOR.join(["4before", "2", "4after"]))
                assert "1" in (await waiting.response()).packets or here.records[sid].messages == ["before"]
            else:
                sid, wire = await here.openWebSocket()
                wire.send(makeFrame("4before") + makeFrame("2") + makeFrame("4after"))
                assert await wire.text() == "4before"
                assert await wire.closed() == 1000
            assert await here.records[sid].closed() == ("transport error", "invalid heartbeat direction")
            assert here.records[sid].messages == ["before"]

    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_pongs(self, hostile: Hostile, transport: str) -> None:
        """Pongs that nobody asked for, thousands of them, start nothing: no timer, no heartbeat, no answer."""
        from twisted.internet import reactor

        async with hostile() as here:
            before = len(reactor.getDelayedCalls())
            if transport == "polling":
                sid = await here.open()
                assert (await here.post(sid, SEPARATOR.join(["3"] * 20_000))).body == b"ok"
            else:
                sid, wire = await here.openWebSocket()
                wire.send(makeFrame("3") * 20_000 + makeFrame("4end"))
                assert await wire.text() == "4end"
            assert "heartbeat" not in here.records[sid].happened
            # One session more, and at most one connection that times out when idle.
            assert len(reactor.getDelayedCalls()) <= before + 3
            if transport == "polling":
                await here.goesOn(sid)

    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_onePongCounts(self, hostile: Hostile, transport: str) -> None:
        """After a ping one pong is a heartbeat, a second is nothing; the session goes on with the next ping."""
        async with hostile(pingInterval=100, pingTimeout=2000) as here:
            if transport == "polling":
                sid = await here.open()
                for _ in range(2):
                    assert (await here.get(sid)).packets == ["2"]
                    await here.post(sid, SEPARATOR.join("333"))
                await here.end(sid)
            else:
                sid, wire = await here.openWebSocket()
                for _ in range(2):
                    assert await wire.text() == "2"
                    wire.send(makeFrame("3") * 3)
                assert await wire.text() == "2"
            assert here.records[sid].happened.count("heartbeat") == 2

    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_closePacket(self, hostile: Hostile, transport: str) -> None:
        """A close packet ends the session at once; a waiting GET is let go, and what follows is not delivered."""
        async with hostile() as here:
            if transport == "polling":
                sid = await here.open()
                waiting = await here.poll(sid)
                assert (await here.post(sid, SEPARATOR.join(["1", "4after"]))).body == b"ok"
                assert (await waiting.response()).packets == ["6"]
            else:
                sid, wire = await here.openWebSocket()
                wire.send(makeFrame("1") + makeFrame("4after"))
                assert await wire.closed() == 1000
            assert (await here.records[sid].closed())[0] == "transport close"
            assert here.records[sid].messages == []
