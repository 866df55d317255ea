"""Who answers when a request fails half way: once, and in the protocol that the connection speaks by then."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from engineio_twisted import Server, ServerObserver
from engineio_twisted.observer import Counters

from ..kit.engines import ENGINES
from ..kit.fakes import FakeRequest
from ..kit.wire import CLOSE, Hostile, eventually, http, makeFrame, target, upgrade

pytestmark = pytest.mark.everySite

RAISED = [ZeroDivisionError, SystemExit, KeyboardInterrupt, GeneratorExit]

# After the 101


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("event", ["connection", "open", "server flush", "opened"])
@pytest.mark.parametrize("raised", RAISED)
@pytest_twisted.ensureDeferred
async def test_aHandlerBehindThe101(
    hostile: Hostile, engine: Any, event: str, raised: type[BaseException], loggedErrors: list[Any]
) -> None:
    """Whatever a handler raises, the WebSocket carries frames and nothing else, and the session goes on."""
    async with hostile(wsEngine=engine) as here:

        def fail(*args: Any) -> None:
            raise raised

        class Observer(ServerObserver):
            opened = fail

        if event == "open":
            here.server.on("connection", lambda socket: socket.on("open", fail) and None)
        elif event == "opened":
            here.server.addObserver(Observer())
        else:
            here.server.on(event.removeprefix("server "), fail)
        sid, wire = await here.openWebSocket()
        wire.send(makeFrame("4hello"))
        assert await wire.text() == "4hello"
        assert sid in here.server.clients
        assert {each["log_failure"].type for each in loggedErrors} == {raised}
        loggedErrors.clear()
        if not event.startswith("open"):
            here.server.removeListener(event.removeprefix("server "), fail)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("raised", [ZeroDivisionError, SystemExit])
@pytest.mark.parametrize("isUpgrade", [False, True])
@pytest_twisted.ensureDeferred
async def test_aSessionThatFailsBehindThe101(
    hostile: Hostile,
    engine: Any,
    isUpgrade: bool,
    raised: type[BaseException],
    loggedErrors: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If what opens or upgrades the session itself fails, the client gets a close frame; nothing is left."""
    from engineio_twisted.session.session import Session

    async with hostile(wsEngine=engine) as here:

        def fail(*args: Any) -> None:
            raise raised

        sid = await here.open()
        with monkeypatch.context() as patch:
            patch.setattr(Session, "tryUpgrade" if isUpgrade else "open", fail)
            known = {"sid": sid} if isUpgrade else {}
            wire = await here.webSocket(upgrade(target(transport="websocket", **known)))
            frame = await wire.frame()
        # A session that couldn't be opened ends as any other does.
        code = b"\x03\xf3" if isUpgrade else b"\x03\xe8"
        assert (frame.opcode, frame.payload) == (CLOSE, code)
        wire.send(makeFrame(code, CLOSE))
        assert await wire.lost() == b""
        await eventually(lambda: len(here.server._webSockets.connections) == 1, "the end of the WebSocket")
        assert raised in {each["log_failure"].type for each in loggedErrors}
        loggedErrors.clear()
        # Those of the bystanders, and this one.
        assert len(here.server.clients) == 3
        await here.goesOn(sid)


@pytest_twisted.ensureDeferred
async def test_anEngineThatFails(hostile: Hostile, loggedErrors: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it has taken the connection over a 500 is the answer, behind that none."""
    from engineio_twisted.transports import engine_autobahn

    async with hostile() as here:
        engine = here.server._webSockets
        with monkeypatch.context() as patch:
            patch.setattr(engine, "accept", lambda *args: 1 / 0)
            assert (await here.ask(upgrade())).status == 500
        with monkeypatch.context() as patch:
            patch.setattr(engine_autobahn.AutobahnWebSocket, "open", lambda *args: 1 / 0)
            wire = await here.say(upgrade())
            assert await wire.lost() == b""
        assert [each["log_failure"].type for each in loggedErrors] == [ZeroDivisionError] * 2
        loggedErrors.clear()


# A handler of connection_error that answers itself

REFUSED = {
    "poll": http("GET", target(sid="unknown")),
    "post": http("POST", target(sid="unknown"), body=b"4a"),
    "upgrade": upgrade(target(transport="websocket", sid="unknown")),
    "transport": http("GET", target(transport="pigeon")),
}


@pytest.mark.parametrize("request_", REFUSED)
@pytest_twisted.ensureDeferred
async def test_anAnswerOfTheHandler(hostile: Hostile, request_: str) -> None:
    """It reaches the client as it is, and nothing is written behind it."""
    async with hostile() as here:

        def answer(error: Any) -> None:
            error.req.setResponseCode(418)
            error.req.setHeader("Content-Length", "9")
            error.req.write(b"a tea")
            error.req.write(b"pot!")
            error.req.finish()

        here.server.on("connection_error", answer)
        wire = await here.say(REFUSED[request_])
        response = await wire.response()
        assert (response.status, response.body) == (418, b"a teapot!")
        if request_ == "upgrade":
            assert await wire.lost() == b""
        else:
            wire.send(http("GET", target(sid="unknown")))
            assert (await wire.response()).status == 418


@pytest_twisted.ensureDeferred
async def test_anAnswerInParts(hostile: Hostile) -> None:
    """A handler that has begun to answer may take its time for the rest."""
    async with hostile() as here:
        rest: Deferred[None] = Deferred()

        async def answer(error: Any) -> None:
            error.req.setHeader("Content-Length", "8")
            error.req.write(b"half")
            await rest
            error.req.write(b"more")
            error.req.finish()

        here.server.on("connection_error", answer)
        wire = await here.say(REFUSED["poll"])
        assert (await wire.head()).status == 200
        rest.callback(None)
        await eventually(lambda: bytes(wire.received).endswith(b"halfmore"), "the rest")


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("isLater", [False, True])
@pytest.mark.parametrize("request_", REFUSED)
@pytest_twisted.ensureDeferred
async def test_anAnswerThatBreaksOff(
    hostile: Hostile, request_: str, isLater: bool, raised: type[BaseException], loggedErrors: list[Any]
) -> None:
    """A handler that fails in the middle of its answer: the client gets what there is, and isn't left waiting."""
    async with hostile() as here:
        rest: Deferred[None] = Deferred()

        async def answerLater(error: Any) -> None:
            error.req.setHeader("Content-Length", "8")
            error.req.write(b"half")
            await rest
            raise raised

        def answer(error: Any) -> None:
            error.req.setHeader("Content-Length", "8")
            error.req.write(b"half")
            raise raised

        here.server.on("connection_error", answerLater if isLater else answer)
        wire = await here.say(REFUSED[request_])
        if isLater:
            await eventually(lambda: bytes(wire.received).endswith(b"half"), "the beginning")
            rest.callback(None)
        assert (await wire.lost()).endswith(b"\r\n\r\nhalf")
        assert [each["log_failure"].type for each in loggedErrors] == [raised]
        loggedErrors.clear()


def test_aSessionOnPollingThatFails(monkeypatch: pytest.MonkeyPatch, loggedErrors: list[Any]) -> None:
    """A session on polling that fails as it opens leaves nothing behind either, and its request is answered."""
    clock = Clock()
    server = Server(reactor=clock)

    def fail(*args: Any) -> None:
        raise SystemExit

    monkeypatch.setattr(Counters, "sessionOpened", fail)
    request = FakeRequest()
    server.handleRequest(request)
    assert (request.finished, server.clients, clock.getDelayedCalls()) == (True, {}, [])
    loggedErrors.clear()


def test_aHandlerThatOnlyLooks() -> None:
    """One that sets headers alone leaves the answer to the server."""
    server = Server()
    server.on("connection_error", lambda error: error.req.setHeader("x-looked", "yes"))
    request = FakeRequest(uri=b"/engine.io/?EIO=4&transport=polling&sid=unknown")
    server.handleRequest(request)
    assert (request.status, request.finished) == (400, True)
    assert request.responseHeaders.getRawHeaders("x-looked") == ["yes"]
