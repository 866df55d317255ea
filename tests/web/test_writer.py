"""What goes out with a response, on every way that one can take: headers, cookies, and what pages may read it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from engineio_twisted import RequestRefused, Server

from ..kit.asking import ask, coroutineOf, make, refusal
from ..kit.fakes import FakeRequest
from ..kit.wire import connectTo, eventually, http, target, upgrade

pytestmark = pytest.mark.everySite

A, B = "https://a.example", "https://b.example"


GET = http("GET", target())


# Events


def watched(server: Server) -> list[tuple[str, Any, Any]]:
    """What both events are called with."""
    calls: list[tuple[str, Any, Any]] = []
    for event in ("initial_headers", "headers"):
        server.on(event, lambda headers, request, event=event: calls.append((event, headers, request)))
    return calls


@pytest_twisted.ensureDeferred
async def test_eventsOnEveryAnswer(serve: Any) -> None:
    """`headers` comes for each answer there is, `initial_headers` before it for the first one of a session."""
    names: list[str] = []

    def setup(server: Server) -> None:
        def initial(headers: Any, request: Any) -> None:
            names.append("initial")
            headers["X-Initial"] = "yes"
            headers["Set-Cookie"] = "mine=1"

        def each(headers: Any, request: Any) -> None:
            names.append(request.method.decode())
            headers["X-Path"] = request.path.decode()

        server.on("initial_headers", initial)
        server.on("headers", each)
        server.on("connection", lambda socket: sessions.append(socket))

    sessions: list[Any] = []
    running = await serve(setup, maxHttpBufferSize=100)
    first = await ask(running, GET)
    sid = sessions[0].id
    answers = {
        "GET": [first, await ask(running, http("GET", target(sid="none")))],
        "POST": [
            await ask(running, http("POST", target(sid=sid), body=b"3")),
            await ask(running, http("POST", target(sid="none"), body=b"x" * 101)),
        ],
        "PUT": [await ask(running, http("PUT", target(sid=sid)))],
    }
    assert names == ["initial", "GET", "GET", "POST", "POST", "PUT"]
    assert {each.headers.get("x-path") for several in answers.values() for each in several} == {"/engine.io/"}
    assert [each.status for several in answers.values() for each in several] == [200, 400, 200, 413, 405]
    assert (first.headers["x-initial"], first.headers["set-cookie"]) == ("yes", "mine=1")
    assert "x-initial" not in answers["POST"][0].headers
    names.clear()
    direct = await ask(running, upgrade())
    moved = await ask(running, upgrade(target(transport="websocket", sid=sid)))
    refused = await ask(running, upgrade(target(transport="websocket", sid="none")))
    assert [each.status for each in (direct, moved, refused)] == [101, 101, 400]
    assert names == ["initial", "GET", "GET", "GET"]
    assert [each.headers.get("x-initial") for each in (direct, moved, refused)] == ["yes", None, None]
    assert {each.headers["x-path"] for each in (direct, moved, refused)} == {"/engine.io/"}


def test_whatTheEventsSee() -> None:
    """All that is going to be written, before it is."""
    server = Server(reactor=Clock(), cookie=True)
    calls = watched(server)
    request = FakeRequest()
    server.handleRequest(request)
    (first, headers, _), (second, _, _) = calls
    assert (first, second) == ("initial_headers", "headers")
    assert headers["Content-Type"] == "text/plain; charset=UTF-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Length"] == str(len(request.written))
    assert headers["Set-Cookie"].startswith("io=")
    server.close()


def test_aHeadersHandlerThatFails(loggedErrors: list[LogEvent]) -> None:
    """Is logged, and the answer goes out."""
    server = Server(reactor=Clock())

    @server.on("headers")
    def fails(headers: Any, request: Any) -> None:
        headers["X-A"] = 5

    request = FakeRequest()
    server.handleRequest(request)
    assert (request.status, request.finished, len(server.clients)) == (200, True, 1)
    assert len(loggedErrors) == 1
    loggedErrors.clear()
    server.close()


# Cookie


@pytest.mark.parametrize("request_", [GET, upgrade()], ids=["polling", "websocket"])
@pytest_twisted.ensureDeferred
async def test_cookie(serve: Any, request_: bytes) -> None:
    """It comes with the session's first answer and holds its id."""
    ids: list[str] = []
    running = await serve(
        lambda server: server.on("connection", lambda socket: ids.append(socket.id)),
        cookie={"name": "sticky", "sameSite": "strict", "maxAge": 60},
    )
    answer = await ask(running, request_)
    assert answer.headers["set-cookie"] == f"sticky={ids[0]}; Max-Age=60; Path=/; HttpOnly; SameSite=Strict"


def test_cookieOnTheFirstAnswerAlone() -> None:
    """Not with those that follow, and not with a refusal."""
    server = Server(reactor=Clock(), cookie=True)
    request = FakeRequest()
    server.handleRequest(request)
    (sid,) = server.clients
    assert request.header("set-cookie") == f"io={sid}; Path=/; HttpOnly; SameSite=Lax"
    others = [
        FakeRequest(b"POST", f"/engine.io/?EIO=4&transport=polling&sid={sid}".encode(), b"4a"),
        FakeRequest(uri=b"/engine.io/?EIO=3&transport=polling"),
    ]
    for each in others:
        server.handleRequest(each)
    assert [each.header("set-cookie") for each in others] == [None, None]
    server.close()


@pytest.mark.parametrize("request_", [GET, upgrade()], ids=["polling", "websocket"])
@pytest_twisted.ensureDeferred
async def test_cookieBesideOthers(serve: Any, request_: bytes) -> None:
    """Cookies of middlewares, of handlers and the session's own go out together."""

    def setup(server: Server) -> None:
        def middleware(request: Any) -> None:
            request.addCookie("first", "1")
            request.responseHeaders.addRawHeader("Set-Cookie", "second=2")

        server.use(middleware)

        @server.on("initial_headers")
        def initial(headers: Any, request: Any) -> None:
            headers["Set-Cookie"] = [*headers["Set-Cookie"], "third=3"]

    running = await serve(setup, cookie=True)
    wire = await connectTo(running.port)
    wire.send(request_)
    await wire.until(lambda: b"\r\n\r\n" in wire.received, "an answer")
    lines = bytes(wire.received).partition(b"\r\n\r\n")[0].split(b"\r\n")
    names = [line.partition(b": ")[2].partition(b"=")[0] for line in lines if line.startswith(b"Set-Cookie")]
    assert sorted(names) == [b"first", b"io", b"second", b"third"]
    wire.drop()
    await wire.lost()


@pytest.mark.parametrize("how", ["set", "list", "add", "addCookie"])
@pytest.mark.parametrize("event", ["initial_headers", "headers"])
@pytest.mark.parametrize("request_", [GET, upgrade()], ids=["polling", "websocket"])
@pytest_twisted.ensureDeferred
async def test_theSessionsOwnCookieStays(serve: Any, request_: bytes, event: str, how: str) -> None:
    """However a handler adds a cookie, the session's own and those of middlewares stay."""

    def handler(headers: Any, request: Any) -> None:
        if how == "set":
            headers["set-cookie"] = "mine=1"
        elif how == "list":
            headers["Set-Cookie"] = ["mine=1"]
        elif how == "add":
            headers.add("Set-Cookie", "mine=1")
        else:
            request.addCookie("mine", "1")
        headers.add("X-Twice", "1")
        headers.add("X-Twice", "2")

    def setup(server: Server) -> None:
        server.use(lambda request: request.addCookie("first", "1"))
        server.use(lambda request: request.setHeader("X-Twice", "0"))
        server.on(event, handler)

    running = await serve(setup, cookie=True)
    wire = await connectTo(running.port)
    wire.send(request_)
    await wire.until(lambda: b"\r\n\r\n" in wire.received, "an answer")
    lines = bytes(wire.received).partition(b"\r\n\r\n")[0].split(b"\r\n")
    names = [each.partition(b": ")[2].partition(b"=")[0] for each in lines if each.lower().startswith(b"set-cookie")]
    assert sorted(names) == [b"first", b"io", b"mine"]
    assert [each[9:] for each in lines if each.lower().startswith(b"x-twice: ")] == [b"0", b"1", b"2"]
    wire.drop()
    await wire.lost()


# Other origins


CORS = {"origin": [A], "credentials": True, "exposedHeaders": ["X-A"]}


def fromOrigin(method: bytes = b"GET", query: str = "", origin: str = A, **headers: str) -> FakeRequest:
    named = {name.replace("_", "-"): [value] for name, value in headers.items()}
    uri = f"/engine.io/?EIO=4&transport=polling{query}".encode()
    return FakeRequest(method, uri, headers={"origin": [origin], **named})


def test_corsOnAnAnswer() -> None:
    """A page that may read it is told so; another is told nothing."""
    server = Server(reactor=Clock(), cors=CORS)
    mine, other = fromOrigin(), fromOrigin(origin=B)
    server.handleRequest(mine)
    server.handleRequest(other)
    assert (mine.status, other.status) == (200, 200)
    assert mine.header("access-control-allow-origin") == A
    assert mine.header("access-control-allow-credentials") == "true"
    assert mine.header("access-control-expose-headers") == "X-A"
    assert other.header("access-control-allow-origin") is None
    assert other.header("access-control-allow-credentials") is None
    assert mine.header("vary") == other.header("vary") == "Origin"
    server.close()


def test_corsOnErrors() -> None:
    """A page can read why it was refused."""

    def refuse(request: Any) -> bool:
        raise RequestRefused("members only")

    server = Server(reactor=Clock(), cors=CORS, allowRequest=refuse)
    requests = [fromOrigin(), fromOrigin(query="&sid=none"), fromOrigin(b"PUT"), fromOrigin(b"HEAD")]
    for each in requests:
        server.handleRequest(each)
    assert [each.status for each in requests] == [403, 400, 400, 400]
    assert {each.header("access-control-allow-origin") for each in requests} == {A}
    assert b"members only" in requests[0].written


@pytest_twisted.ensureDeferred
async def test_corsOnEarlyErrors(serve: Any) -> None:
    """Also where a body is refused before it is complete, and with an origin that takes a decision."""
    decisions: list[Deferred[Any]] = []

    def decide(origin: str | None) -> Any:
        decisions.append(Deferred())
        return decisions[-1]

    running = await serve(maxHttpBufferSize=10, cors={"origin": decide})
    for size in (11, 200_000):
        wire = await connectTo(running.port)
        wire.send(http("POST", target(sid="none"), [("Origin", A)], b"x" * size))
        await eventually(lambda: decisions, "a question")
        decisions.pop().callback([A])
        answer = await wire.response()
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (413, A)
        wire.drop()
        await wire.lost()


@pytest.mark.parametrize(
    "how", [lambda value: value, succeed, lambda value: coroutineOf(value)], ids=["plain", "Deferred", "coroutine"]
)
@pytest.mark.parametrize(
    ("rule", "allowed"),
    [(A, A), ([A], A), (True, A), ("*", "*"), (re.compile("^https://a"), A), (False, None), (None, None), ([B], None)],
)
def test_corsByAFunction(how: Callable[[Any], Any], rule: Any, allowed: str | None) -> None:
    """It is called with the Origin, and returns what the option takes."""
    asked: list[str | None] = []

    def origin(value: str | None) -> Any:
        asked.append(value)
        return how(rule)

    server = Server(reactor=Clock(), cors={"origin": origin})
    request = fromOrigin()
    server.handleRequest(request)
    assert (request.status, request.header("access-control-allow-origin"), asked) == (200, allowed, [A])
    server.close()


@pytest.mark.parametrize("answer", [5, ValueError("secret")])
def test_corsByAFunctionThatFails(answer: Any, loggedErrors: list[LogEvent]) -> None:
    """Refuses the request, logged, as any middleware that fails."""
    server = Server(reactor=Clock(), cors={"origin": lambda origin: coroutineOf(answer)})
    request = fromOrigin()
    server.handleRequest(request)
    assert (request.status, b"secret" in request.written) == (400, False)
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_preflight() -> None:
    """Answered before anything about the session is looked at, and before any other middleware."""
    server = Server(reactor=Clock(), cors={**CORS, "maxAge": 60})
    server.use(lambda request: pytest.fail("asked a middleware"))
    for query in ("", "&sid=none", "&transport=none&EIO=9"):
        request = fromOrigin(b"OPTIONS", query, access_control_request_headers="x-b")
        server.handleRequest(request)
        assert (request.status, request.written, request.header("content-length")) == (204, b"", "0")
        assert request.header("access-control-allow-origin") == A
        assert request.header("access-control-allow-methods") == "GET,HEAD,PUT,PATCH,POST,DELETE"
        assert request.header("access-control-allow-headers") == "x-b"
        assert request.header("access-control-max-age") == "60"
        assert request.header("vary") == "Origin, Access-Control-Request-Headers"
    assert server.clients == {}


def test_preflightStatus() -> None:
    """For browsers that take 204 for a failure."""
    server = Server(reactor=Clock(), cors={"optionsSuccessStatus": 200})
    request = fromOrigin(b"OPTIONS")
    server.handleRequest(request)
    assert request.status == 200


@pytest.mark.parametrize("answers", [True, False])
def test_preflightContinue(answers: bool) -> None:
    """The middlewares get it with the headers set; one that none of them answers is refused."""
    server = Server(reactor=Clock(), cors={"preflightContinue": True})

    @server.use
    def middleware(request: Any) -> None:
        if answers:
            request.setResponseCode(200)
            request.write(b"mine")
            request.finish()

    request = fromOrigin(b"OPTIONS")
    server.handleRequest(request)
    assert request.header("access-control-allow-origin") == "*"
    assert (request.status, request.written == b"mine") == ((200, True) if answers else (400, False))


@pytest.mark.parametrize("method", [b"OPTIONS", b"HEAD"])
@pytest.mark.parametrize("options", [{}, {"cors": {"origin": False}}])
def test_withoutCors(method: bytes, options: Any) -> None:
    """Such a request opens no session."""
    server = Server(reactor=Clock(), **options)
    request = fromOrigin(method)
    server.handleRequest(request)
    assert (request.status, server.clients, request.header("access-control-allow-origin")) == (400, {}, None)


@pytest_twisted.ensureDeferred
async def test_corsOnWebSockets(serve: Any) -> None:
    """The headers go out with a 101 and with a refusal too."""
    running = await serve(cors=CORS)
    good = await ask(running, upgrade(Origin=A))
    bad = await ask(running, upgrade(target(transport="websocket", sid="none"), Origin=A))
    assert (good.status, good.headers["access-control-allow-origin"]) == (101, A)
    assert (bad.status, bad.headers["access-control-allow-origin"]) == (400, A)


def test_credentialsForEveryOrigin() -> None:
    """Are not allowed, and the log says so."""
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        server = Server(reactor=Clock(), cors={"credentials": True})
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert [event["log_level"] for event in events] == [LogLevel.warn]
    request = fromOrigin()
    server.handleRequest(request)
    assert request.header("access-control-allow-origin") == "*"
    assert request.header("access-control-allow-credentials") is None
    server.close()


def test_invalidOrigins() -> None:
    """Control characters don't come back, and the request is refused; its preflight is answered."""
    server = Server(reactor=Clock(), cors={"origin": True})
    errors: list[Any] = []
    server.on("connection_error", errors.append)
    plain, preflight = fromOrigin(origin="https://a\x01"), fromOrigin(b"OPTIONS", origin="https://a\x01")
    server.handleRequest(plain)
    server.handleRequest(preflight)
    assert (plain.status, preflight.status) == (400, 204)
    assert errors[0].context == {"name": "INVALID_ORIGIN", "origin": "https://a\x01"}
    assert {each.header("access-control-allow-origin") for each in (plain, preflight)} == {None}


# Middlewares, as people write them


class SessionCookie:
    """A middleware that knows visitors by a cookie, and gives them one where they have none."""

    def __init__(self) -> None:
        self.visitors: dict[bytes, int] = {}

    async def __call__(self, request: Any) -> None:
        await succeed(None)
        visitor = request.getCookie(b"visitor")
        if visitor not in self.visitors:
            visitor = b"v%d" % len(self.visitors)
            request.addCookie(b"visitor", visitor, httpOnly=True, path=b"/")
        self.visitors[visitor] = self.visitors.get(visitor, 0) + 1
        request.visitor = visitor


def secure(request: Any) -> None:
    """A middleware that sets the headers that browsers have for the sake of security."""
    request.setHeader("X-Content-Type-Options", "nosniff")
    request.setHeader("Content-Security-Policy", "default-src 'none'")
    request.setHeader("Strict-Transport-Security", "max-age=63072000")
    request.responseHeaders.removeHeader("Server")


@pytest_twisted.ensureDeferred
async def test_aSessionCookie(serve: Any) -> None:
    """Set on the first request, plain or for a WebSocket, known on the others, and seen by the application."""
    visitors, seen = SessionCookie(), []

    def setup(server: Server) -> None:
        server.use(visitors)
        server.on("connection", lambda socket: seen.append(socket.request.visitor))

    running = await serve(setup)
    first = await ask(running, GET)
    assert first.headers["set-cookie"] == "visitor=v0; Path=/; HttpOnly"
    again = await ask(running, http("GET", target(), [("Cookie", "other=1; visitor=v0")]))
    known = await ask(running, upgrade(Cookie="visitor=v0"))
    new = await ask(running, upgrade())
    assert [each.headers.get("set-cookie") for each in (again, known)] == [None, None]
    assert (new.status, new.headers["set-cookie"]) == (101, "visitor=v1; Path=/; HttpOnly")
    assert seen == [b"v0", b"v0", b"v0", b"v1"]
    assert visitors.visitors == {b"v0": 3, b"v1": 1}


@pytest_twisted.ensureDeferred
async def test_securityHeaders(serve: Any) -> None:
    """They are on answers, refusals and the 101."""
    running = await serve(lambda server: server.use(secure))
    requests = [
        GET,
        http("GET", target(transport="none")),
        upgrade(),
        upgrade(target(transport="websocket", sid="none")),
    ]
    answers = [await ask(running, each) for each in requests]
    assert [each.status for each in answers] == [200, 400, 101, 400]
    for each in answers:
        assert each.headers["x-content-type-options"] == "nosniff"
        assert each.headers["content-security-policy"] == "default-src 'none'"
        assert each.headers["strict-transport-security"] == "max-age=63072000"
        assert "server" not in each.headers


@pytest.mark.parametrize("isUpgrade", [False, True])
@pytest_twisted.ensureDeferred
async def test_closingTheServerFromAHeadersHandler(serve: Any, isUpgrade: bool) -> None:
    """No session is left, and no WebSocket: it is refused as by any server that is closing."""
    closed: list[Any] = []

    def setup(server: Server) -> None:
        server.once("headers", lambda headers, request: closed.append(server.close()))

    running = await serve(setup)
    wire = await connectTo(running.port)
    wire.send(upgrade() if isUpgrade else GET)
    await wire.lost()
    await closed[0]
    assert (running.server.clients, len(running.server._webSockets.connections)) == ({}, 0)
    assert wire.received == b"" or wire.received.startswith(b"HTTP/1.1 503" if isUpgrade else b"HTTP/1.1 200")


@pytest.mark.parametrize("fails", [True, False])
@pytest_twisted.ensureDeferred
async def test_anEarlyErrorThatIsNeverAnswered(serve: Any, fails: bool, loggedErrors: list[LogEvent]) -> None:
    """A function of cors.origin that fails refuses without the headers; one that takes too long is cancelled."""
    cancelled: list[object] = []

    def decide(origin: str | None) -> Any:
        if fails:
            raise ValueError("secret")
        return Deferred(cancelled.append)

    seen: list[object] = []

    def see(headers: Any, request: Any) -> None:
        seen.append(request)
        headers["X-Seen"] = "yes"

    running = await serve(lambda server: server.on("headers", see), maxHttpBufferSize=10, cors={"origin": decide})
    wire = await connectTo(running.port)
    wire.send(http("POST", target(sid="none"), [("Origin", A)], b"x" * 11))
    if fails:
        answer = await wire.response()
        assert answer.headers["x-seen"] == "yes"
        assert (answer.status, "access-control-allow-origin" in answer.headers) == (413, False)
        assert len(loggedErrors) == 1
        loggedErrors.clear()
        wire.drop()
    else:
        await eventually(lambda: len(running.server._router.reading) == 1, "a body")
        wire.drop()
        await eventually(lambda: cancelled, "the end of it")
    await wire.lost()
    await eventually(lambda: len(running.server._router.reading) == 0, "no body")
    # Nobody is asked about the headers of a response that isn't written.
    assert len(seen) == fails


# Handlers of refusals


def test_aConnectionErrorHandlerThatFails(loggedErrors: list[LogEvent]) -> None:
    """The refusal goes out all the same."""
    server, _ = make()
    server.on("connection_error", lambda error: 1 / 0)
    request = FakeRequest(uri=b"/engine.io/")
    server.handleRequest(request)
    assert refusal(request)[0] == 400
    assert len(loggedErrors) == 1
    loggedErrors.clear()
