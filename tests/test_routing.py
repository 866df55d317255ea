"""From a request to a session, a poll, a push, or a refusal: what is asked, in which order, and what comes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from zope.interface.verify import verifyObject

from engineio_twisted import EngineIOResource, RequestRefused, Server
from engineio_twisted.interfaces import IEngineServer
from engineio_twisted.transports.engine_autobahn import AutobahnEngine

from .kit.asking import OPEN, ask, coroutineOf, deferredOf, make, opened, refusal
from .kit.fakes import FakeRequest
from .kit.memory import Memory
from .kit.sites import SITES, Here, request
from .kit.wire import connectTo, http, makeFrame, target, upgrade

A, B = "https://a.example", "https://b.example"


# Opening


def test_interface() -> None:
    """It is what sites and resources are given for a server; nothing else is one."""
    server, _ = make()
    verifyObject(IEngineServer, server._router)
    assert IEngineServer(server) is server._router is IEngineServer(server._router)
    with pytest.raises(TypeError):
        EngineIOResource(object())


def test_open() -> None:
    """The answer is the open packet; then `connection`, then the socket's `open`."""
    server, clock = make()
    events: list[Any] = []

    @server.on("connection")
    def connected(socket: Any) -> None:
        events.append((socket.id, socket.readyState, request.finished, dict(server.clients)))
        socket.on("open", lambda: events.append("open"))

    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    sid = opened(request)
    assert events == [(sid, "open", True, {sid: server.clients[sid]}), "open"]
    assert server.clientsCount == 1
    server.close()
    assert (server.clients, clock.getDelayedCalls()) == ({}, [])


def test_sendFromTheConnectionHandler() -> None:
    """What is sent there goes out with the first poll."""
    server, _ = make()
    server.on("connection", lambda socket: socket.send("welcome"))
    first = FakeRequest(uri=OPEN)
    server.handleRequest(first)
    poll = FakeRequest(uri=OPEN + b"&sid=" + opened(first).encode())
    server.handleRequest(poll)
    assert poll.written == b"4welcome"
    server.close()


def test_closedInTheConnectionHandler() -> None:
    """The session leaves the table, and leaves no timer."""
    server, clock = make()
    server.on("connection", lambda socket: socket.close(discard=True))
    server.handleRequest(FakeRequest(uri=OPEN))
    assert (server.clients, clock.getDelayedCalls()) == ({}, [])


@pytest.mark.parametrize("isUpgrade", [False, True])
def test_aClientThatWentBeforeItsRequestWasGiven(isUpgrade: bool) -> None:
    """An application that takes its time before it hands a request over does no harm."""
    server, clock = make()
    request = FakeRequest(uri=OPEN)
    request.lose()
    (server.handleUpgrade if isUpgrade else server.handleRequest)(request)
    assert (server.clients, request.written, clock.getDelayedCalls()) == ({}, b"", [])


def test_webSocketOverHTTP2() -> None:
    """Isn't possible; the client is told by what it is."""
    server, _ = make()
    request = FakeRequest(uri=b"/engine.io/?EIO=4&transport=websocket")
    request.channel.transport = None
    server.handleUpgrade(request)
    assert (request.status, request.header("upgrade"), request.written) == (
        426,
        "websocket",
        b"a WebSocket needs HTTP/1.1",
    )


# Whether a session may be opened


@pytest.mark.parametrize("how", [lambda value: value, deferredOf, coroutineOf])
@pytest.mark.parametrize("answer", [True, 1, False, None, ""])
def test_allowRequest(how: Callable[[Any], Any], answer: Any) -> None:
    """A true answer lets a session open, a false one doesn't; plain, from a Deferred or a coroutine."""
    asked: list[Any] = []
    server, _ = make(allowRequest=lambda request: (asked.append(request), how(answer))[1])
    errors: list[Any] = []
    server.on("connection_error", errors.append)
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert asked == [request]
    if answer:
        opened(request)
    else:
        assert refusal(request) == (403, {"code": 4, "message": "Forbidden"})
        assert [(each.req, each.code, each.message) for each in errors] == [(request, 4, "Forbidden")]
    server.close()


def test_allowRequestWithAMessage() -> None:
    """RequestRefused carries its text to the client, and as context to the event."""
    server, _ = make(allowRequest=lambda request: coroutineOf(RequestRefused("members only")))
    errors: list[Any] = []
    server.on("connection_error", errors.append)
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert refusal(request) == (403, {"code": 4, "message": "members only"})
    assert (errors[0].message, errors[0].context) == ("Forbidden", {"message": "members only"})


UPGRADE = {
    "host": ["localhost"],
    "upgrade": ["websocket"],
    "connection": ["Upgrade"],
    "sec-websocket-version": ["13"],
    "sec-websocket-key": ["AAAAAAAAAAAAAAAAAAAAAA=="],
}


@pytest.mark.parametrize("isUpgrade", [False, True])
@pytest.mark.parametrize("isWhole", [False, True])
def test_allowRequestThatAnswers(isUpgrade: bool, isWhole: bool) -> None:
    """It has said all there is to say: no session is opened, and a response that was only begun is cut off."""

    def answer(request: Any) -> bool:
        request.setResponseCode(402)
        request.write(b"mine")
        if isWhole:
            request.finish()
        return True

    server, clock = make(allowRequest=answer)
    errors: list[Any] = []
    server.on("connection_error", errors.append)
    request = FakeRequest(
        uri=OPEN.replace(b"polling", b"websocket" if isUpgrade else b"polling"), headers=dict(UPGRADE)
    )
    (server.handleUpgrade if isUpgrade else server.handleRequest)(request)
    assert (request.status, request.written, request.finished) == (402, b"mine", isWhole)
    assert request.isDropped is not isWhole
    assert (server.stats().opened, server.stats().refused, errors, clock.getDelayedCalls()) == (0, {}, [], [])


def test_allowRequestThatFails(loggedErrors: list[LogEvent]) -> None:
    """Anything else it raises is logged, refuses, and isn't told."""
    server, _ = make(allowRequest=lambda request: coroutineOf(ValueError("secret")))
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert refusal(request) == (403, {"code": 4, "message": "Forbidden"})
    assert [event["log_failure"].type for event in loggedErrors] == [ValueError]
    loggedErrors.clear()


@pytest.mark.everySite
@pytest.mark.parametrize("isUpgrade", [False, True])
@pytest.mark.parametrize("who", ["allowRequest", "generateId"])
@pytest_twisted.ensureDeferred
async def test_answeredWhenAskedWhetherToOpen(serve: Any, who: str, isUpgrade: bool) -> None:
    """If an application answers a request when it is asked about it, that is the answer, and no session is opened."""
    opened: list[Any] = []

    def answer(request: Any) -> str:
        request.setResponseCode(402)
        request.finish()
        return "an-id-of-its-own"

    running = await serve(
        lambda server: server.on("connection", opened.append),
        allowRequest=answer if who == "allowRequest" else None,
    )
    if who == "generateId":
        running.server.generateId = answer
    assert (await ask(running, upgrade() if isUpgrade else http("GET", target()))).status == 402
    assert (opened, running.server.clientsCount) == ([], 0)


@pytest.mark.everySite
@pytest_twisted.ensureDeferred
async def test_versionsOfWebSocket(serve: Any) -> None:
    """A client that asks for another version learns which there are, byte for byte the same on all sites."""
    running = await serve()
    wire = await connectTo(running.port)
    wire.send(upgrade(Sec_WebSocket_Version="7"))
    assert b"\r\nSec-Websocket-Version: 13, 8\r\n" in await wire.lost()


@pytest.mark.everySite
@pytest_twisted.ensureDeferred
async def test_allowedOrigins(serve: Any) -> None:
    """Decides about polling and WebSocket alike; whoever sends no Origin is no page."""
    errors: list[Any] = []
    running = await serve(lambda server: server.on("connection_error", errors.append), allowedOrigins=[A])
    statuses = []
    for headers in ([("Origin", A)], [("Origin", B)], [], [("Origin", "null")], [("Origin", A), ("Origin", B)]):
        statuses.append((await ask(running, http("GET", target(), headers))).status)
    assert statuses == [200, 403, 200, 403, 403]
    assert [(await ask(running, upgrade(Origin=each))).status for each in (A, B, None)] == [101, 403, 101]
    assert [each.code for each in errors] == [4] * 4
    assert errors[0].context == {"message": "allowedOrigins does not have the origin", "origin": B}


@pytest.mark.everySite
@pytest_twisted.ensureDeferred
async def test_allowedOriginsAndJSONP(serve: Any) -> None:
    """A script tag sends no Origin: where not every page may, none may by JSONP without one."""
    for allowed, statuses in (("*", [200, 200, 200]), ([A], [403, 200, 403])):
        running = await serve(allowedOrigins=allowed)
        answers = [
            await ask(running, http("GET", target(j="0"), each)) for each in ([], [("Origin", A)], [("Origin", B)])
        ]
        assert [each.status for each in answers] == statuses


@pytest.mark.everySite
@pytest_twisted.ensureDeferred
async def test_allowedOriginsOnAnUpgrade(hostile: Any) -> None:
    """A session isn't moved to the WebSocket of another origin's page, and polls on."""
    async with hostile(allowedOrigins=A) as here:
        client = await here.client()
        answer = await ask(here, upgrade(target(transport="websocket", sid=client.sid), Origin=B))
        assert answer.status == 403
        await client.echo("still polling")
        wire = await here.webSocket(
            upgrade(target(transport="websocket", sid=client.sid), Origin=A), makeFrame("2probe")
        )
        assert await wire.text() == "3probe"
        wire.drop()
        await client.echo("polling on")
        await client.close()


# Ids


@pytest.mark.parametrize("how", [lambda value: value, deferredOf, coroutineOf])
def test_generateId(how: Callable[[Any], Any]) -> None:
    """It can be replaced on the instance or in a subclass, and may take its time."""

    class Numbered(Server):
        def generateId(self, request: Any) -> Any:
            return how(f"number-{request.getHeader('x-number')}")

    server = Numbered(reactor=Clock())
    request = FakeRequest(uri=OPEN, headers={"x-number": ["7"]})
    server.handleRequest(request)
    assert opened(request) == "number-7"
    server.generateId = lambda request: how("mine")  # type: ignore[method-assign]
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert opened(request) == "mine"
    server.close()


def test_idPrefix() -> None:
    """Ids begin with it, whether or not opening takes a decision; logs show it and no more of an id than without."""
    for options in ({}, {"allowRequest": lambda request: True}):
        server = Server(reactor=Clock(), idPrefix="process-1.", **options)  # type: ignore[arg-type]
        request = FakeRequest(uri=OPEN)
        server.handleRequest(request)
        sid = opened(request)
        assert re.fullmatch(r"process-1\.[\w-]{28}", sid)
        assert server.clients[sid].logName == f"{sid[:16]}…"
        server.generateId = lambda request: "an id of the application's own"  # type: ignore[method-assign]
        request = FakeRequest(uri=OPEN)
        server.handleRequest(request)
        assert opened(request) == "an id of the application's own"
        assert server.clients[opened(request)].logName == "an id …"
        server.close()


@pytest.mark.parametrize("wrong", [ValueError("broken"), None, 5, "", "taken"])
def test_generateIdThatFails(wrong: Any, loggedErrors: list[LogEvent]) -> None:
    """No id, one that is no text, or one that is taken: the session doesn't open, and nobody else's is touched."""
    server, _ = make()
    server.generateId = lambda request: "taken"  # type: ignore[method-assign]
    server.handleRequest(FakeRequest(uri=OPEN))
    taken = server.clients["taken"]
    errors: list[Any] = []
    server.on("connection_error", errors.append)
    server.generateId = lambda request: coroutineOf(wrong)  # type: ignore[assignment,method-assign]
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert refusal(request) == (400, {"code": 3, "message": "Bad request"})
    assert errors[0].context["name"] == "ID_GENERATION_ERROR"
    assert isinstance(errors[0].context["error"], Exception)
    assert server.clients == {"taken": taken}
    assert len(loggedErrors) == 1
    loggedErrors.clear()
    server.close()


# Middlewares


@pytest.mark.parametrize("how", [lambda value: value, deferredOf, coroutineOf])
def test_middlewares(how: Callable[[Any], Any]) -> None:
    """Called in order, before anything is checked; the headers they set go out."""
    server, _ = make()
    calls: list[str] = []

    def first(request: Any) -> Any:
        calls.append("first")
        request.setHeader("X-First", "1")
        return how(None)

    server.use(first)
    server.use(lambda request: calls.append("second"))
    good, bad = FakeRequest(uri=OPEN), FakeRequest(uri=b"/engine.io/?transport=none")
    server.handleRequest(good)
    server.handleRequest(bad)
    opened(good)
    assert calls == ["first", "second"] * 2
    assert (good.header("x-first"), bad.header("x-first"), bad.status) == ("1", "1", 400)
    server.close()


def test_aMiddlewareForSomeNames() -> None:
    """It is called for requests to these alone, wherever the server is; no other request is made for it."""
    memory = Memory()
    seen: list[str] = []

    def status(request: Any) -> None:
        seen.append(request.uri.decode())
        request.write(b"fine")
        request.finish()

    memory.server.use(status, names=["status.json", "a"])
    made: list[object] = []
    handle = memory.server._router.handle

    def look(exchange: Any, isUpgrade: bool) -> None:
        handle(exchange, isUpgrade)
        made.append(exchange._made)

    memory.server._router.handle = look  # type: ignore[method-assign]
    others = ["/", "", "/b", "/status.json/", "/status", "/b?a", "/b?x=/a", "/%61"]
    for path in (*others, "/status.json", "/a?b", "/x/a"):
        client = memory.connect(http("GET", f"/engine.io{path}"))
        assert (b"fine" in client.value()) == (path not in others), path
    assert seen == ["/engine.io/status.json", "/engine.io/a?b", "/engine.io/x/a"]
    assert made[: len(others)] == [None] * len(others)
    memory.end()


@pytest_twisted.ensureDeferred
async def test_middlewaresOnA101(serve: Any) -> None:
    """The headers and cookies that a middleware sets go out with a 101 just as with a plain answer."""

    def middleware(request: Any) -> None:
        request.setHeader("X-Name", "café")
        request.addCookie("who", "me")
        request.addCookie("what", "this")

    running = await serve(lambda server: server.use(middleware))
    heads = []
    for query in (http("GET", "/engine.io/?EIO=4&transport=polling"), upgrade()):
        client = await connectTo(running.port)
        client.send(query)
        await client.until(lambda client=client: b"\r\n\r\n" in client.received, "an answer")
        heads.append(bytes(client.received).partition(b"\r\n\r\n")[0].split(b"\r\n"))
        client.drop()
        await client.lost()
    for head in heads:
        assert "X-Name: café".encode() in head
        assert [line for line in head if line.startswith(b"Set-Cookie")] == [
            b"Set-Cookie: who=me",
            b"Set-Cookie: what=this",
        ]


def test_aMiddlewareThatAnswers() -> None:
    """Ends the chain: no other middleware, no session, no second answer."""
    server, _ = make()

    def answer(request: Any) -> None:
        request.setResponseCode(302)
        request.write(b"")
        request.finish()

    server.use(answer)
    server.use(lambda request: pytest.fail("called after the answer"))
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert (request.status, request.written, server.clients) == (302, b"", {})


def test_aMiddlewareThatFails(loggedErrors: list[LogEvent]) -> None:
    """Refuses the request; what it raised is logged and not told."""
    server, _ = make()
    errors: list[Any] = []
    server.on("connection_error", errors.append)
    server.use(lambda request: coroutineOf(ValueError("secret")))
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert refusal(request) == (400, {"code": 3, "message": "Bad request"})
    assert errors[0].context == {"name": "MIDDLEWARE_FAILURE"}
    assert [event["log_failure"].type for event in loggedErrors] == [ValueError]
    loggedErrors.clear()


def test_aMiddlewareThatAnswersAndFails(loggedErrors: list[LogEvent]) -> None:
    """Its answer stands."""
    server, _ = make()

    def answer(request: Any) -> None:
        request.write(b"mine")
        request.finish()
        raise ValueError

    server.use(answer)
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert request.written == b"mine"
    loggedErrors.clear()


def test_aFaultOfOurOwnIsAnswered(loggedErrors: list[LogEvent]) -> None:
    """Whatever goes wrong inside an open is logged, and the client isn't left waiting."""
    server, _ = make()
    server._factory.open = lambda *_: 1 / 0  # type: ignore[assignment,method-assign,return-value]
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert request.status == 500
    assert [event["log_failure"].type for event in loggedErrors] == [ZeroDivisionError]
    loggedErrors.clear()


@pytest.mark.parametrize("site", SITES)
def test_anEngineThatFails(site: str, loggedErrors: list[LogEvent]) -> None:
    """If it raises before it has the connection, the response is a 500, without a cookie of a session that isn't."""

    class Failing(AutobahnEngine):
        def accept(self, *arguments: Any) -> None:
            raise ZeroDivisionError

    here = Here(site, wsEngine=Failing, cookie=True)
    here.server.use(lambda seen: seen.setHeader("X", "y"))
    written = here.connect(request(b"websocket")).taken().lower()
    assert written.startswith(b"http/1.1 500 ")
    assert b"\r\nx: y\r\n" in written
    assert b"set-cookie" not in written
    assert (here.sockets, here.server.clients, here.server.stats().refused) == ([], {}, {"INTERNAL_ERROR": 1})
    assert [event["log_failure"].type for event in loggedErrors] == [ZeroDivisionError]
    loggedErrors.clear()
    here.close()
