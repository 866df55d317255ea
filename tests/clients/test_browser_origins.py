"""Pages of another origin than their server's, in headless Chromium: what they may do, and what they get to know."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import pytest
import pytest_twisted

from engineio_twisted import ErrorCode, RequestRefused

from ..kit.clients import TRANSPORTS, Application, Message, firstDifference
from ..kit.engines import TwistedEngine, needsTwistedEngine
from ..kit.pages import Client, Page, PageSite
from ..kit.pages import chromium as chromium
from ..kit.pages import freshPage as freshPage
from ..kit.pages import oneBrowser as oneBrowser
from ..kit.pages import pageSite as pageSite

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# Nobody's page.
ELSEWHERE = "http://elsewhere.example"

# Worth compressing with the smallest of windows, and larger than what goes out in one piece.
LARGE_TEXT = "\u20ac 1,234.56 \U0001f600 \u2028 " * 15_000
LARGE_BINARY = bytes(range(0, 256, 4)) * 8_000

Serve = Callable[..., Any]


@attrs.frozen
class Seen:
    """A request and its answer."""

    method: str
    transport: str | None
    sid: str | None
    cookie: str | None
    status: int
    encoding: str | None


class Requests:
    """Takes note of what a server answers: give it to `serve` as `setup`."""

    def __init__(self, *others: Callable[[Any], object]) -> None:
        self.seen: list[Seen] = []
        self.codes: list[ErrorCode] = []
        self._others = others

    def __call__(self, server: Any) -> None:
        server.on("headers", self._answering)
        server.on("connection_error", lambda error: self.codes.append(error.code))
        for each in self._others:
            each(server)

    def _answering(self, headers: Any, request: Any) -> None:
        query = parse_qs(urlsplit(request.uri.decode()).query)
        self.seen.append(
            Seen(
                method=request.method.decode(),
                transport=query.get("transport", [None])[0],
                sid=query.get("sid", [None])[0],
                cookie=request.getHeader("Cookie"),
                status=request.code,
                encoding=headers.get("Content-Encoding"),
            )
        )

    @property
    def methods(self) -> list[str]:
        return [each.method for each in self.seen]


def address(running: Any, **query: str) -> str:
    """Where a page's own `fetch` finds polling."""
    return f"{running.url}/engine.io/?" + "&".join(
        f"{name}={value}" for name, value in {"EIO": "4", "transport": "polling", **query}.items()
    )


async def echoes(client: Client, *messages: Message) -> None:
    """Check that messages come back as they were sent, to a client that has got none before."""
    await client.send(*messages)
    assert firstDifference(await client.received(len(messages)), messages) is None


# Pages that may


@pytest_twisted.ensureDeferred
async def test_credentials(page: Page, pageSite: PageSite, serve: Serve) -> None:
    """The cookie of the handshake comes back with every later request, polling and WebSocket; no script can read it."""
    origin = await pageSite()
    application = Application()
    requests = Requests(application)
    cors = {"origin": [ELSEWHERE, origin], "credentials": True}
    running = await serve(requests, cors=cors, cookie={"sameSite": "lax"})
    await page.visit(origin)

    client = await page.connect(running.url, "by polling", b"\x00\xff", withCredentials=True)
    session = await application.session()
    await client.saw("upgrade to websocket")
    await client.send("by WebSocket", b"\xff\x00")
    assert await client.received(4) == ["by polling", b"\x00\xff", "by WebSocket", b"\xff\x00"]
    assert session.beforeUpgrade == 2
    assert await client.happened() == ["open on polling", "upgrade to websocket"]

    sid = await client.get("client.id")
    assert sid == session.socket.id
    handshake, *later = requests.seen
    assert (handshake.sid, handshake.cookie) == (None, None)
    assert {(each.sid, each.cookie) for each in later} == {(sid, f"io={sid}")}
    assert {(each.method, each.transport) for each in later} == {
        ("GET", "polling"),
        ("POST", "polling"),
        ("GET", "websocket"),
    }
    # Cookies know of hosts, not of ports: this one is the page's as well.
    (cookie,) = await page.cookies()
    assert (cookie["name"], cookie["value"], cookie["path"]) == ("io", sid, "/")
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Lax", False)
    assert await page.run("return document.cookie") == ""
    assert await page.errors() == []


@pytest_twisted.ensureDeferred
async def test_noCredentials(page: Page, pageSite: PageSite, serve: Serve) -> None:
    """A client that isn't told to use cookies on polling neither keeps nor sends any, and works without."""
    origin = await pageSite()
    requests = Requests(Application())
    running = await serve(requests, cors={"origin": origin, "credentials": True}, cookie=True)
    await page.visit(origin)
    client = await page.connect(running.url, transports=["polling"])
    await echoes(client, "hello", b"\x00")
    assert {each.cookie for each in requests.seen} == {None}
    assert await page.cookies() == []
    assert await page.errors() == []


@pytest_twisted.ensureDeferred
async def test_anotherSite(page: Page, pageSite: PageSite, serve: Serve) -> None:
    """Of a page of another site, by its host's name, the browser keeps a cookie back that is for the same site only."""
    origin = await pageSite(host="localhost")
    requests = Requests(Application())
    cors = {"origin": origin, "credentials": True}
    running = await serve(requests, cors=cors, cookie={"sameSite": "lax"})
    await page.visit(origin)
    client = await page.connect(running.url, withCredentials=True)
    await client.saw("upgrade to websocket")
    await echoes(client, "hello", b"\x00")
    assert {each.cookie for each in requests.seen} == {None}
    assert await page.errors() == []


async def decide(origin: str | None, allowed: str) -> bool:
    return origin == allowed


ALLOWING: dict[str, Callable[[str], object]] = {
    "everybody": lambda origin: "*",
    "whoever asks": lambda origin: True,
    "one": lambda origin: origin,
    "a list": lambda origin: [ELSEWHERE, origin],
    "a pattern": lambda origin: re.compile(r"^http://127\.0\.0\.1:\d+$"),
    "a function": lambda origin: lambda asking: asking == origin,
    "a coroutine": lambda origin: lambda asking: decide(asking, origin),
}


@pytest.mark.parametrize("rule", ALLOWING)
@pytest_twisted.ensureDeferred
async def test_allowed(page: Page, pageSite: PageSite, serve: Serve, rule: str) -> None:
    """However `cors.origin` allows a page, its client connects, upgrades, and gets its messages."""
    origin = await pageSite()
    running = await serve(Application(), cors={"origin": ALLOWING[rule](origin)})
    await page.visit(origin)
    client = await page.connect(running.url)
    await client.saw("upgrade to websocket")
    await echoes(client, "hello", b"\x00")
    assert await page.errors() == []


# Pages that may not

NOT_ALLOWING: dict[str, Any] = {
    "unset": None,
    "another": {"origin": ELSEWHERE},
    "others": {"origin": [ELSEWHERE, re.compile(r"\.example$")]},
    "nobody": {"origin": False},
    "a function": {"origin": lambda origin: None},
}


@pytest.mark.parametrize("rule", NOT_ALLOWING)
@pytest_twisted.ensureDeferred
async def test_notAllowed(page: Page, pageSite: PageSite, serve: Serve, rule: str) -> None:
    """A page that `cors` doesn't name can't connect by polling, and reads nothing of what the server answers."""
    origin = await pageSite()
    running = await serve(cors=NOT_ALLOWING[rule], initialPacket="secret")
    await page.visit(origin)
    await readsNothing(page, running)


@pytest_twisted.ensureDeferred
async def test_everybodyWithCredentials(page: Page, pageSite: PageSite, serve: Serve) -> None:
    """Where every page is allowed none gets an answer to a request with cookies."""
    origin = await pageSite()
    running = await serve(cors={"origin": "*", "credentials": True}, initialPacket="secret")
    await page.visit(origin)
    await readsNothing(page, running, withCredentials=True)


async def readsNothing(page: Page, running: Any, withCredentials: bool = False) -> None:
    client = await page.connect(running.url, transports=["polling"], withCredentials=withCredentials)
    await client.saw("close: transport error")
    assert await client.happened() == ["error: xhr poll error", "close: transport error"]
    assert await client.get("[client.id, client.messages, client.status, client.answer]") == [None, [], 0, ""]
    credentials = "include" if withCredentials else "omit"
    assert await page.ask(address(running), credentials=credentials) == {"failed": "TypeError"}
    # Without asking for permission it may send, but it is shown nothing.
    opaque = await page.ask(address(running), credentials=credentials, mode="no-cors")
    assert opaque == {"status": 0, "headers": {}, "body": ""}
    assert any("blocked by CORS policy" in each for each in await page.errors())


# What a page is told when the server refuses


@pytest_twisted.ensureDeferred
async def test_refusedByApplication(page: Page, pageSite: PageSite, serve: Serve) -> None:
    """A page of another origin can show its user why the application refused the session."""

    def membersOnly(request: object) -> bool:
        raise RequestRefused("members only")

    origin = await pageSite()
    requests = Requests()
    running = await serve(requests, cors={"origin": [origin]}, allowRequest=membersOnly)
    await page.visit(origin)
    answer = await page.ask(address(running))
    assert (answer["status"], json.loads(answer["body"])) == (403, {"code": 4, "message": "members only"})

    client = await page.connect(running.url)
    await client.saw("close: transport error")
    assert await client.happened() == ["error: xhr poll error", "close: transport error"]
    assert await client.get("client.status") == 403
    assert json.loads(await client.get("client.answer")) == {"code": 4, "message": "members only"}

    # What a browser tells of a WebSocket that wasn't opened is that.
    client = await page.connect(running.url, transports=["websocket"])
    await client.saw("close: transport error")
    assert await client.happened() == ["error: websocket error", "close: transport error"]
    assert requests.codes == [ErrorCode.FORBIDDEN] * 3


@pytest_twisted.ensureDeferred
async def test_unknownSession(page: Page, pageSite: PageSite, serve: Serve) -> None:
    """A page of another origin learns that the server doesn't know its session, and can begin a new one."""
    origin = await pageSite()
    running = await serve(cors={"origin": [origin]})
    await page.visit(origin)
    unknown = {"code": 1, "message": "Session ID unknown"}
    for method in ("GET", "POST"):
        answer = await page.ask(address(running, sid="lost"), method=method)
        assert (answer["status"], json.loads(answer["body"])) == (400, unknown)

    client = await page.connect(running.url, query={"sid": "lost"})
    await client.saw("close: transport error")
    assert await client.get("client.status") == 400
    assert json.loads(await client.get("client.answer")) == unknown


@pytest_twisted.ensureDeferred
async def test_tooLarge(page: Page, pageSite: PageSite, serve: Serve) -> None:
    """A page of another origin learns that what it sent is too large, by a byte or by megabytes; its session ends."""
    origin = await pageSite()
    application = Application()
    running = await serve(application, cors={"origin": [origin]}, maxHttpBufferSize=1000)
    await page.visit(origin)
    for size in (1001, 70_000, 5_000_000):
        client = await page.connect(running.url, transports=["polling"])
        session = await application.session()
        await echoes(client, "x" * 999)
        url = address(running, sid=session.socket.id)
        answer = await page.run("return ask(arguments[0], {method: 'POST', body: '4'.repeat(arguments[1])})", url, size)
        assert answer["status"] == 413
        assert json.loads(answer["body"]) == {"message": "the body is larger than maxHttpBufferSize, 1000 bytes"}
        await client.saw("close: transport close")
        assert session.messages == ["x" * 999]
        assert session.happened == ["close: transport error"]

    client = await page.connect(running.url, transports=["polling"])
    session = await application.session()
    await client.send("x" * 1000)
    assert await session.closed() == "transport error"
    await page.wait(f"{client.expression}.happened.at(-1).startsWith('close')", "the end of the session")
    # The refusal and the close packet come on two connections.
    if await client.happened() != ["open on polling", "close: transport close"]:
        assert await client.happened() == ["open on polling", "error: xhr post error", "close: transport error"]
        assert await client.get("client.status") == 413
        assert "maxHttpBufferSize" in await client.get("client.answer")
    assert session.messages == []
    assert session.happened == ["close: transport error"]


@pytest_twisted.ensureDeferred
async def test_wrongMethod(page: Page, pageSite: PageSite, serve: Serve) -> None:
    """A page of another origin that uses a wrong method learns which are right; its session lives."""
    origin = await pageSite()
    application = Application()
    running = await serve(application, cors={"origin": [origin], "exposedHeaders": ["Allow"]})
    await page.visit(origin)
    client = await page.connect(running.url, transports=["polling"])
    session = await application.session()
    for method in ("PUT", "DELETE", "PATCH", "HEAD"):
        answer = await page.ask(address(running, sid=session.socket.id), method=method)
        assert answer["status"] == 405
        assert answer["headers"]["allow"] == "GET, POST"
        assert ("GET and POST are" in answer["body"]) is (method != "HEAD")
    await echoes(client, "hello")
    assert session.happened == []


# What a page has to ask for first


@pytest_twisted.ensureDeferred
async def test_preflight(page: Page, pageSite: PageSite, serve: Serve) -> None:
    """A page may send headers of its own and any type of body, once the server has said so; the client too."""
    origin = await pageSite()
    application = Application()
    requests = Requests(application)
    running = await serve(requests, cors={"origin": [origin]})
    await page.visit(origin)
    client = await page.connect(running.url, transports=["polling"], extraHeaders={"X-Token": "abc"})
    session = await application.session()
    await client.saw("open on polling")
    assert session.socket.request.getHeader("X-Token") == "abc"
    assert requests.seen[0].method == "OPTIONS"
    assert requests.seen[0].status == 204

    headers = {"Content-Type": "application/json", "X-Another": "1"}
    answer = await page.ask(address(running, sid=session.socket.id), method="POST", headers=headers, body="4posted")
    assert (answer["status"], answer["body"]) == (200, "ok")
    assert await client.received(1) == session.messages == ["posted"]
    answer = await page.ask(address(running), method="PUT", headers=headers, body="{}")
    assert (answer["status"], json.loads(answer["body"])["code"]) == (400, ErrorCode.BAD_HANDSHAKE_METHOD)
    assert session.happened == []


@pytest_twisted.ensureDeferred
async def test_preflightRefused(page: Page, pageSite: PageSite, serve: Serve) -> None:
    """Headers and methods that `cors` doesn't name keep the browser from sending the request at all."""
    origin = await pageSite()
    requests = Requests()
    cors = {"origin": [origin], "allowedHeaders": ["X-Token"], "methods": ["GET", "POST"], "optionsSuccessStatus": 200}
    running = await serve(requests, cors=cors)
    await page.visit(origin)
    for options in (
        {"headers": {"X-Another": "1"}},
        {"headers": {"X-Token": "1", "X-Another": "1"}},
        {"method": "POST", "headers": {"Content-Type": "application/json"}, "body": "{}"},
        {"method": "PUT"},
        {"method": "DELETE", "headers": {"X-Token": "1"}},
    ):
        assert await page.ask(address(running), **options) == {"failed": "TypeError"}
    assert requests.methods == ["OPTIONS"] * 5
    assert {each.status for each in requests.seen} == {200}
    assert running.server.clientsCount == 0

    answer = await page.ask(address(running), headers={"X-Token": "1"})
    assert answer["status"] == 200
    assert running.server.clientsCount == 1


@pytest_twisted.ensureDeferred
async def test_preflightIsKept(page: Page, pageSite: PageSite, serve: Serve) -> None:
    """A browser asks once, as long as `maxAge` says; told to keep nothing, it asks each time."""
    origin = await pageSite()
    await page.visit(origin)
    for maxAge, asked in ((600, 1), (0, 3)):
        requests = Requests()
        running = await serve(requests, cors={"origin": [origin], "maxAge": maxAge})
        for _ in range(3):
            answer = await page.ask(address(running, sid="lost"), headers={"X-Token": "1"})
            assert answer["status"] == 400
        assert requests.methods.count("OPTIONS") == asked
        assert requests.methods.count("GET") == 3


# WebSockets, of which a browser lets every page open any


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)
@pytest_twisted.ensureDeferred
async def test_originRefused(page: Page, pageSite: PageSite, serve: Serve, transports: list[str]) -> None:
    """A page that `allowedOrigins` doesn't name gets no session, though `cors` lets it read answers."""
    origin = await pageSite()
    requests = Requests()
    running = await serve(requests, cors={"origin": "*"}, allowedOrigins=[ELSEWHERE])
    await page.visit(origin)
    client = await page.connect(running.url, transports=transports)
    await client.saw("close: transport error")
    kind = "xhr poll" if "polling" in transports else "websocket"
    assert await client.happened() == [f"error: {kind} error", "close: transport error"]
    assert requests.codes == [ErrorCode.FORBIDDEN]
    assert running.server.clientsCount == 0


ORIGINS: dict[str, Callable[[str], dict[str, Any]]] = {
    "named": lambda origin: {"allowedOrigins": [ELSEWHERE, origin]},
    "by a pattern": lambda origin: {"allowedOrigins": re.compile(r"^http://127\.0\.0\.1:")},
    "by default": lambda origin: {},
}


@pytest.mark.parametrize("rule", ORIGINS)
@pytest_twisted.ensureDeferred
async def test_originAllowed(page: Page, pageSite: PageSite, serve: Serve, rule: str) -> None:
    """A page that `allowedOrigins` names, or any by default, opens a WebSocket; `cors` has no part in it."""
    origin = await pageSite()
    running = await serve(Application(), **ORIGINS[rule](origin))
    await page.visit(origin)
    client = await page.connect(running.url, transports=["websocket"])
    await echoes(client, "hello", b"\x00")
    assert await page.errors() == []


# Compression


@pytest_twisted.ensureDeferred
async def test_pollingCompressed(page: Page, pageSite: PageSite, serve: Serve) -> None:
    """What polling sends arrives whole, small as it is, compressed at once, or compressed piece by piece."""
    origin = await pageSite()
    application = Application(echo=False)
    requests = Requests(application)
    running = await serve(requests, cors={"origin": origin})
    await page.visit(origin)
    client = await page.connect(running.url, transports=["polling"])
    session = await application.session()
    messages: list[Message] = ["small", "\u20ac" * 5_000, LARGE_TEXT, LARGE_BINARY]
    for count, message in enumerate(messages, 1):
        before = len(requests.seen)
        session.socket.send(message)
        received = await client.received(count)
        assert {each.encoding for each in requests.seen[before:]} == {None if message == "small" else "gzip"}
        assert firstDifference(received, messages[:count]) is None
    assert await page.errors() == []


# With what a page can see of it: how the server compresses what it sends it may keep to itself.
DEFLATE: dict[str, tuple[Any, set[str]]] = {
    "by default": (True, set()),
    "without context": (
        {"serverNoContextTakeover": True, "clientNoContextTakeover": True},
        {"client_no_context_takeover"},
    ),
    "small windows": ({"serverMaxWindowBits": 9, "clientMaxWindowBits": 10}, {"client_max_window_bits=10"}),
    "all": ({"threshold": 0}, set()),
}


@pytest.mark.parametrize("settings", DEFLATE)
@pytest_twisted.ensureDeferred
async def test_webSocketCompressed(page: Page, pageSite: PageSite, serve: Serve, settings: str) -> None:
    """Messages on a WebSocket come back whole, and with far fewer bytes on the wire, whatever is agreed on."""
    origin = await pageSite()
    application = Application()
    given, parameters = DEFLATE[settings]
    running = await serve(application, perMessageDeflate=given)
    await page.visit(origin)
    client = await page.connect(running.url, transports=["websocket"])
    session = await application.session()
    await client.saw("open on websocket")
    name, *agreed = (await client.get("client.socket.transport.ws.extensions")).replace(" ", "").split(";")
    assert name == "permessage-deflate"
    assert set(agreed) >= parameters

    messages: list[Message] = ["", "small", LARGE_TEXT, b"", b"small", LARGE_BINARY, LARGE_TEXT, "small", LARGE_BINARY]
    await echoes(client, *messages)
    assert session.happened == []
    stats = running.server.stats()
    size = sum(len(each.encode() if isinstance(each, str) else each) for each in messages)
    assert stats.bytesReceived < size / 10
    assert stats.bytesSent < size / 10
    assert await page.errors() == []


@needsTwistedEngine
@pytest_twisted.ensureDeferred
async def test_notCompressed(page: Page, pageSite: PageSite, serve: Serve) -> None:
    """With Twisted's own WebSockets, which can't compress, a page upgrades and gets large messages as they were."""
    origin = await pageSite()
    application = Application()
    running = await serve(application, cors={"origin": origin}, wsEngine=TwistedEngine)
    await page.visit(origin)
    client = await page.connect(running.url)
    session = await application.session()
    await client.saw("upgrade to websocket")
    assert type(session.socket.transport.webSocket).__name__ == "TwistedWebSocket"
    assert await client.get("client.socket.transport.ws.extensions") == ""
    await echoes(client, "", "small", LARGE_TEXT, b"", LARGE_BINARY)
    await client.close()
    assert await session.closed() == "transport close"
    assert await page.errors() == []
