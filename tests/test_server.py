"""The server: what it is asked to decide, what it tells, how it ends. Ways in are in test_mounting.py."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.web.resource import Resource

import engineio_twisted
from engineio_twisted import OptionError, RequestRefused, Server, ServerOptions, Site, attach, listen
from engineio_twisted.web.decisions import DECISION_TIMEOUT

from .kit.fakes import FakeRequest
from .kit.wire import connectTo, http, upgrade

OPEN = b"/engine.io/?EIO=4&transport=polling"


def make(**options: Any) -> tuple[Server, Clock]:
    clock = Clock()
    return Server(reactor=clock, **options), clock


def opened(request: FakeRequest) -> str:
    """The id of the session that a request opened."""
    assert (request.status, request.written[:1]) == (200, b"0")
    sid: str = json.loads(request.written[1:])["sid"]
    return sid


def refusal(request: FakeRequest) -> tuple[int, Any]:
    return request.status, json.loads(request.written)


# The module


def test_module() -> None:
    """What the package exposes."""
    assert engineio_twisted.protocol == 4
    assert sorted(engineio_twisted.transports) == ["polling", "websocket"]
    assert all(issubclass(each, engineio_twisted.Transport) for each in engineio_twisted.transports.values())
    assert all(hasattr(engineio_twisted, name) for name in engineio_twisted.__all__)


def test_options() -> None:
    """By name or as one object, not both; wrong ones are refused at once."""
    assert Server(pingInterval=5).opts.pingInterval == 5
    assert Server(options=ServerOptions(pingInterval=5)).opts.pingInterval == 5
    with pytest.raises(OptionError, match="expected either ServerOptions or pingInterval"):
        Server(options=ServerOptions(), pingInterval=5)
    with pytest.raises(OptionError, match="did you mean pingInterval"):
        Server(pingIntervl=5)


def test_upgrades() -> None:
    """To which transports a session may move."""
    assert Server().upgrades("polling") == ["websocket"]
    assert Server().upgrades("websocket") == []
    assert Server(allowUpgrades=False).upgrades("polling") == []


# Opening


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


async def coroutineOf(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


def deferredOf(value: Any) -> Deferred[Any]:
    return succeed(value)


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


def test_allowRequestThatFails(loggedErrors: list[LogEvent]) -> None:
    """Anything else it raises is logged, refuses, and isn't told."""
    server, _ = make(allowRequest=lambda request: coroutineOf(ValueError("secret")))
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert refusal(request) == (403, {"code": 4, "message": "Forbidden"})
    assert [event["log_failure"].type for event in loggedErrors] == [ValueError]
    loggedErrors.clear()


def test_allowRequestThatTakesTime() -> None:
    """The answer waits for it."""
    answer: Deferred[bool] = Deferred()
    server, clock = make(allowRequest=lambda request: answer)
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert not request.finished
    answer.callback(True)
    opened(request)
    assert len(clock.getDelayedCalls()) == 1, "the heartbeat alone"
    server.close()


def test_allowRequestThatNeverAnswers() -> None:
    """Is a no when its time is over; what it waits for is cancelled."""
    cancelled: list[Any] = []
    server, clock = make(allowRequest=lambda request: Deferred(cancelled.append))
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    clock.advance(DECISION_TIMEOUT - 1)
    assert not request.finished
    clock.advance(1)
    assert refusal(request) == (403, {"code": 4, "message": "Forbidden"})
    assert (len(cancelled), clock.getDelayedCalls()) == (1, [])


def test_aClientThatGoesBeforeItIsAllowed() -> None:
    """Costs nothing: what allowRequest waits for is cancelled, no session opens."""
    cancelled: list[Any] = []
    server, clock = make(allowRequest=lambda request: Deferred(cancelled.append))
    errors: list[Any] = []
    server.on("connection_error", errors.append)
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    request.lose()
    assert (len(cancelled), server.clients, errors, clock.getDelayedCalls()) == (1, {}, [], [])


async def stubborn() -> bool:
    """An answer that comes whether it is still wanted or not."""
    try:
        await Deferred()
    except CancelledError:
        pass
    return True


@pytest.mark.parametrize("end", ["client", "server"])
def test_anAnswerNobodyWaitsForAnyMore(end: str) -> None:
    """An allowRequest that takes no notice of being cancelled opens no session, for nobody."""
    server, clock = make(allowRequest=lambda request: stubborn())
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    if end == "client":
        request.lose()
        assert not request.finished
    else:
        server.close()
        assert request.status == 503
    assert (server.clients, clock.getDelayedCalls()) == ({}, [])


def test_aCancelledErrorOfTheApplications(loggedErrors: list[LogEvent]) -> None:
    """Is as good a reason as any other for a no, and logged like any other."""

    def allowRequest(request: Any) -> None:
        raise CancelledError

    server, _ = make(allowRequest=allowRequest)
    errors: list[Any] = []
    server.on("connection_error", errors.append)
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert refusal(request) == (403, {"code": 4, "message": "Forbidden"})
    assert (len(errors), len(loggedErrors)) == (1, 1)
    loggedErrors.clear()


def test_requestsAfterTheEnd() -> None:
    """A closed server answers at once, whatever a middleware would like to wait for, and keeps no timer."""
    server, clock = make()
    server.use(lambda request: Deferred())
    server.close()
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert (request.status, clock.getDelayedCalls()) == (503, [])


def test_closingWhileAskedWhetherToAllow() -> None:
    """The very request that made the application close the server is answered."""
    closed: list[Deferred[None]] = []

    async def allowRequest(request: Any) -> bool:
        closed.append(server.close())
        await Deferred()
        return True

    server, clock = make(allowRequest=allowRequest)
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert (request.status, closed[0].called, clock.getDelayedCalls()) == (503, True, [])


def test_foreignUpgradesAfterTheEnd() -> None:
    """Are no longer watched."""
    clock = Clock()
    site = Site(Resource(), reactor=clock)
    attach(site, reactor=clock).close()
    request = FakeRequest(uri=b"/silent", headers={"upgrade": ["websocket"], "connection": ["upgrade"]})
    site.resource.getChildWithDefault(b"silent", request)
    assert clock.getDelayedCalls() == []


def test_aPortThatCanNotBeClosed(loggedErrors: list[LogEvent], monkeypatch: pytest.MonkeyPatch) -> None:
    """Is logged, and nobody who closes the server waits for ever."""

    class Port:
        def stopListening(self) -> Deferred[None]:
            return fail(OSError("stuck"))

    class Endpoint:
        def listen(self, factory: Any) -> Deferred[Any]:
            return succeed(Port())

    monkeypatch.setattr("engineio_twisted.web.descriptions.serverFromString", lambda reactor, description: Endpoint())
    server = listen("stuck:1", reactor=Clock())
    assert server.close().called
    assert server.close().called
    assert [event["log_failure"].type for event in loggedErrors] == [OSError]
    loggedErrors.clear()


def test_clientsThatGoDuringAMiddlewareOrAnId() -> None:
    """What they wait for is cancelled."""
    for when in ("middleware", "id"):
        cancelled: list[Any] = []
        server, clock = make()
        if when == "middleware":
            server.use(lambda request, cancelled=cancelled: Deferred(cancelled.append))
        else:
            server.generateId = lambda request, cancelled=cancelled: Deferred(cancelled.append)  # type: ignore[method-assign]
        request = FakeRequest(uri=OPEN)
        server.handleRequest(request)
        request.lose()
        assert (len(cancelled), server.clients, clock.getDelayedCalls()) == (1, {}, [])


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
    server.factory.open = lambda *_: 1 / 0  # type: ignore[assignment,method-assign,return-value]
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert request.status == 500
    assert [event["log_failure"].type for event in loggedErrors] == [ZeroDivisionError]
    loggedErrors.clear()


# Handlers of the server


def test_aConnectionHandlerThatFails(loggedErrors: list[LogEvent]) -> None:
    """Is logged with the session and emitted as its `error`; the session goes on."""
    server, _ = make()
    errors: list[Exception] = []

    @server.on("connection")
    async def connected(socket: Any) -> None:
        socket.on("error", errors.append)
        raise ValueError("no")

    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    (socket,) = server.clients.values()
    assert [type(each) for each in errors] == [ValueError]
    assert [(event["event"], event["session"]) for event in loggedErrors] == [("connection", socket.logName)]
    assert socket.readyState == "open"
    loggedErrors.clear()
    server.close()


def test_aConnectionErrorHandlerThatFails(loggedErrors: list[LogEvent]) -> None:
    """The refusal goes out all the same."""
    server, _ = make()
    server.on("connection_error", lambda error: 1 / 0)
    request = FakeRequest(uri=b"/engine.io/")
    server.handleRequest(request)
    assert refusal(request)[0] == 400
    assert len(loggedErrors) == 1
    loggedErrors.clear()


# Closing


def test_closingRefusesNewSessions() -> None:
    """With 503, and what waits to be decided is cancelled."""
    answer: Deferred[bool] = Deferred()
    server, clock = make(allowRequest=lambda request: answer)
    waiting = FakeRequest(uri=OPEN)
    server.handleRequest(waiting)
    closed = server.close()
    assert (waiting.status, waiting.header("retry-after")) == (503, "5")
    late = FakeRequest(uri=OPEN)
    server.handleRequest(late)
    assert late.status == 503
    assert closed.called
    assert clock.getDelayedCalls() == []


def test_closeFromInsideAClose() -> None:
    """A handler that closes the server while it closes is no trouble."""
    server, clock = make()
    inner: list[Deferred[None]] = []
    server.on("connection", lambda socket: socket.on("close", lambda *_: inner.append(server.close())))
    for _ in range(3):
        server.handleRequest(FakeRequest(uri=OPEN))
    assert server.close().called
    assert [each.called for each in inner] == [True] * 3
    assert (server.clients, clock.getDelayedCalls()) == ({}, [])


def test_aSessionThatCanNotBeEnded(loggedErrors: list[LogEvent]) -> None:
    """Doesn't keep the others, nor whoever waits for the end."""
    server, _ = make()
    requests = [FakeRequest(uri=OPEN) for _ in range(3)]
    for each in requests:
        server.handleRequest(each)
    broken, *others = server.clients.values()
    broken.transport.close = lambda packets=(): 1 / 0
    ended: list[object] = []
    for each in others:
        each.on("close", lambda reason, description: ended.append(reason))
    assert server.close().called
    assert ended == ["server shutting down"] * 2
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_closeFlushesWhatCanGo() -> None:
    """A waiting GET is told."""
    server, _ = make()
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    poll = FakeRequest(uri=OPEN + b"&sid=" + opened(request).encode())
    server.handleRequest(poll)
    server.close()
    assert poll.written == b"1"
