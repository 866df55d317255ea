"""Middlewares, and what else of an application is asked about a request or its answer, that do anything wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import LogEvent

from engineio_twisted import OptionError
from engineio_twisted.protocol.options import ServerOptions

from ..kit.engines import ENGINES
from ..kit.wire import Arena, Hostile, Wire, eventually, http, makeFrame, pause, target, upgrade, within

pytestmark = [pytest.mark.no_cover, pytest.mark.everySite]

HOSTILE = ("X-Hostile", "yes")
# What a request may be about, and whether a session has to be there for it.
WHERE = {"handshake": False, "poll": True, "push": True, "websocket": False, "upgrade": True}
everywhere = pytest.mark.parametrize("where", WHERE)


class Trouble(Exception):
    """What the application raises."""


def isHostile(request: Any) -> bool:
    return request.getHeader(HOSTILE[0].lower()) is not None


def requestFor(where: str, sid: str | None) -> bytes:
    """A request of one of the kinds, marked."""
    if where in ("websocket", "upgrade"):
        return upgrade(target(transport="websocket", sid=sid), X_Hostile="yes")
    return http("POST" if where == "push" else "GET", target(sid=sid), [HOSTILE], b"4x" if where == "push" else None)


class Scene:
    """A session, where the kind of request needs one, with something buffered; and the marked request."""

    def __init__(self, here: Arena, where: str) -> None:
        self.here = here
        self.where = where
        self.sid: str | None = None
        self.before: dict[str, Any] = {}

    async def begin(self) -> Wire:
        """Open the session; send the request."""
        if WHERE[self.where]:
            self.sid = await self.here.open()
            self.here.server.clients[self.sid].send("kept")
        self.before = dict(self.here.server.clients)
        return await self.here.say(requestFor(self.where, self.sid))

    async def refused(self, wire: Wire, status: int, message: str) -> None:
        """Make sure that the request was refused in the form that fits it."""
        response = await wire.response()
        assert response.status == status
        if self.where in ("websocket", "upgrade"):
            assert response.body.decode() == message
            assert await wire.lost() == b""
        else:
            assert response.json["message"] == message

    async def unharmed(self) -> None:
        """Make sure that there are the sessions that there were, and that nothing got lost, or was delivered."""
        assert self.here.server.clients == self.before
        if self.sid is not None:
            assert self.here.records[self.sid].messages == []
            assert (await self.here.get(self.sid)).packets == ["4kept"]
            await self.here.goesOn(self.sid)


def use(here: Arena, middleware: Callable[[Any], Any]) -> None:
    """Have a middleware called with each marked request."""
    here.server.use(lambda request: middleware(request) if isHostile(request) else None)


def deferred(cancelled: list[object]) -> Any:
    return Deferred(cancelled.append)


async def coroutine(cancelled: list[object]) -> Any:
    try:
        await Deferred()
    finally:
        cancelled.append("cancelled")


async def stubborn(cancelled: list[object]) -> Any:
    """Take no notice of being cancelled."""
    try:
        await Deferred()
    except Exception:
        cancelled.append("cancelled")
    return True


WAYS_TO_WAIT = {"Deferred": deferred, "coroutine": coroutine, "stubborn coroutine": stubborn}
waiting = pytest.mark.parametrize("wait", WAYS_TO_WAIT.values(), ids=list(WAYS_TO_WAIT))


class TestNever:
    """Those that never answer."""

    @everywhere
    @waiting
    @pytest_twisted.ensureDeferred
    async def test_deadline(self, hostile: Hostile, monkeypatch: pytest.MonkeyPatch, where: str, wait: Any) -> None:
        """After a while a middleware is cancelled, and the request refused; the session lives, and loses nothing."""
        monkeypatch.setattr("engineio_twisted.web.decisions.DECISION_TIMEOUT", 0.1)
        cancelled: list[object] = []
        async with hostile() as here:
            use(here, lambda request: wait(cancelled))
            scene = Scene(here, where)
            wire = await scene.begin()
            await scene.refused(wire, 400, "Bad request")
            assert len(cancelled) == 1
            context = here.refusals[-1].context
            assert (context["name"], "time" in context["reason"]) == ("MIDDLEWARE_FAILURE", True)
            await scene.unharmed()

    @pytest.mark.parametrize("where", ["handshake", "websocket"])
    @pytest.mark.parametrize("what", ["allowRequest", "generateId"])
    @waiting
    @pytest_twisted.ensureDeferred
    async def test_decision(
        self, hostile: Hostile, monkeypatch: pytest.MonkeyPatch, where: str, what: str, wait: Any
    ) -> None:
        """So it is with whatever else has to be asked to open a session."""
        monkeypatch.setattr("engineio_twisted.web.decisions.DECISION_TIMEOUT", 0.1)
        cancelled: list[object] = []

        def allowRequest(request: Any) -> Any:
            return wait(cancelled) if isHostile(request) and what == "allowRequest" else True

        async with hostile(allowRequest=allowRequest) as here:
            if what == "generateId":
                here.server.generateId = lambda request: wait(cancelled)
            scene = Scene(here, where)
            wire = await scene.begin()
            await scene.refused(wire, 403, "Forbidden")
            assert len(cancelled) == 1
            await scene.unharmed()

    @everywhere
    @waiting
    @pytest_twisted.ensureDeferred
    async def test_gone(self, hostile: Hostile, where: str, wait: Any) -> None:
        """Where the client goes, a middleware is cancelled; nothing is left, and a session that was there is."""
        cancelled: list[object] = []
        asked: list[object] = []

        def middleware(request: Any) -> Any:
            asked.append(request)
            return wait(cancelled)

        async with hostile() as here:
            use(here, middleware)
            scene = Scene(here, where)
            wire = await scene.begin()
            await eventually(lambda: asked, "the question")
            wire.drop()
            await eventually(lambda: cancelled, "the end of the question")
            await scene.unharmed()

    @everywhere
    @waiting
    @pytest_twisted.ensureDeferred
    async def test_closing(self, hostile: Hostile, where: str, wait: Any) -> None:
        """Where the server closes, a middleware is cancelled, and the client told."""
        cancelled: list[object] = []
        asked: list[object] = []

        def middleware(request: Any) -> Any:
            asked.append(request)
            return wait(cancelled)

        async with hostile() as here:
            here.serverEnds = True
            use(here, middleware)
            scene = Scene(here, where)
            wire = await scene.begin()
            await eventually(lambda: asked, "the question")
            await within(here.server.close(), "the end of the server")
            assert len(cancelled) == 1
            assert (await wire.response()).status == 503

    @pytest.mark.parametrize("where", ["poll", "push", "upgrade"])
    @pytest_twisted.ensureDeferred
    async def test_sessionEnds(self, hostile: Hostile, where: str) -> None:
        """Where the session ends in the meantime, the request is one for a session that there isn't."""
        go: Deferred[None] = Deferred()
        asked: list[object] = []

        def middleware(request: Any) -> Any:
            asked.append(request)
            return go

        async with hostile() as here:
            use(here, middleware)
            scene = Scene(here, where)
            wire = await scene.begin()
            await eventually(lambda: asked, "the question")
            assert scene.sid is not None
            await here.end(scene.sid)
            go.callback(None)
            await scene.refused(wire, 400, "Session ID unknown")
            assert here.records[scene.sid].messages == []

    @pytest_twisted.ensureDeferred
    async def test_overlap(self, hostile: Hostile) -> None:
        """GETs that wait for a middleware don't wait for the session yet; of those let go at once one is too many."""
        go: list[Deferred[None]] = []

        def middleware(request: Any) -> Any:
            go.append(Deferred())
            return go[-1]

        async with hostile() as here:
            use(here, middleware)
            sid = await here.open()
            wires = [await here.say(requestFor("poll", sid)) for _ in range(3)]
            await eventually(lambda: len(go) == 3, "the questions")
            here.server.clients[sid].send("kept")
            for each in go:
                each.callback(None)
            assert (await wires[0].response()).packets == ["4kept"]
            assert (await wires[2].response()).status == 400
            assert (await wires[1].response()).packets == ["1"]
            assert (await here.records[sid].closed())[0] == "transport error"


async def failing() -> None:
    await pause(0)
    raise Trouble


def raising(request: Any = None) -> Any:
    raise Trouble


WAYS_TO_FAIL: dict[str, Callable[[Any], Any]] = {
    "raises": raising,
    "failed Deferred": lambda request: fail(Trouble()),
    "coroutine": lambda request: failing(),
    "Deferred of a coroutine": lambda request: succeed(None).addCallback(lambda _: Deferred.fromCoroutine(failing())),
    "after setting headers": lambda request: request.setHeader("X-Set", "yes") or raising(),
    "after setting a status": lambda request: request.setResponseCode(200) or raising(),
    "after reading the body": lambda request: (request.content.read(), raising()),
}


class TestFailing:
    """Those that raise."""

    @everywhere
    @pytest.mark.parametrize("how", WAYS_TO_FAIL.values(), ids=list(WAYS_TO_FAIL))
    @pytest_twisted.ensureDeferred
    async def test_refused(self, hostile: Hostile, where: str, how: Any, loggedErrors: list[LogEvent]) -> None:
        """The request is refused, and that is all: the session lives, and loses nothing; the log has the cause."""
        asked: list[object] = []
        async with hostile() as here:
            use(here, how)
            use(here, asked.append)
            scene = Scene(here, where)
            wire = await scene.begin()
            await scene.refused(wire, 400, "Bad request")
            assert here.refusals[-1].context["name"] == "MIDDLEWARE_FAILURE"
            assert asked == []
            assert [each["log_failure"].type for each in loggedErrors] == [Trouble]
            loggedErrors.clear()
            await scene.unharmed()

    @pytest.mark.parametrize(
        "answer", [None, True, 5, "text", object(), [1], raising], ids=lambda value: str(type(value))
    )
    @pytest_twisted.ensureDeferred
    async def test_anyAnswer(self, hostile: Hostile, answer: Any) -> None:
        """What a middleware returns doesn't matter, as long as nothing has to be waited for."""
        async with hostile() as here:
            here.server.use(lambda request: answer)
            here.server.use(lambda request: succeed(answer))
            await here.goesOn(await here.open())
            wire = await here.webSocket(upgrade(), makeFrame("4x"))
            assert (await wire.text())[0] == "0"
            assert await wire.text() == "4x"


class TestReading:
    """Those that look at requests, and change nothing."""

    @pytest.mark.parametrize("size", [-1, 1])
    @pytest_twisted.ensureDeferred
    async def test_body(self, hostile: Hostile, size: int) -> None:
        """One may read the body of a POST, or a part of it: it is delivered all the same."""
        seen: list[bytes] = []
        async with hostile(echoes=False) as here:
            use(here, lambda request: seen.append(request.content.read(size)))
            sid = await here.open()
            response = await here.ask(requestFor("push", sid))
            assert seen == [b"4x" if size < 0 else b"4"]
            assert (response.status, response.body) == (200, b"ok")
            assert here.records[sid].messages == ["x"]
            await here.end(sid)


def answering(request: Any) -> None:
    request.setResponseCode(402)
    request.setHeader("Content-Length", "4")
    request.write(b"mine")
    request.finish()


async def answeringLater(request: Any) -> None:
    await pause(0)
    answering(request)


async def answeringInPieces(request: Any) -> None:
    request.setResponseCode(402)
    request.setHeader("Content-Length", "4")
    request.write(b"mi")
    await pause(0.01)
    request.write(b"ne")
    request.finish()


def answeringOnItsOwn(request: Any) -> None:
    """Be done long before the answer is."""
    Deferred.fromCoroutine(answeringInPieces(request))


WAYS_TO_ANSWER = {
    "at once": answering,
    "later": answeringLater,
    "in pieces": answeringInPieces,
    "on its own": answeringOnItsOwn,
}


def finishing(request: Any) -> None:
    request.finish()


def writingMore(request: Any) -> None:
    request.write(b"more")


class TestAnswering:
    """Those that answer requests themselves."""

    @everywhere
    @pytest.mark.parametrize("how", WAYS_TO_ANSWER.values(), ids=list(WAYS_TO_ANSWER))
    @pytest_twisted.ensureDeferred
    async def test_answered(self, hostile: Hostile, where: str, how: Any) -> None:
        """That is the answer: nothing else is asked or done about the request, and the session isn't touched."""
        asked: list[object] = []
        async with hostile() as here:
            use(here, how)
            use(here, asked.append)
            scene = Scene(here, where)
            wire = await scene.begin()
            response = await wire.response()
            assert (response.status, response.body) == (402, b"mine")
            assert asked == []
            assert here.refusals == []
            assert len(here.server._webSockets.connections) == 1
            await scene.unharmed()

    @pytest.mark.parametrize(
        ("where", "then"),
        [*((each, raising) for each in WHERE), *(("handshake", each) for each in (finishing, writingMore))],
    )
    @pytest.mark.parametrize("isLater", [False, True], ids=["at once", "later"])
    @pytest_twisted.ensureDeferred
    async def test_failsThen(
        self, hostile: Hostile, where: str, then: Any, isLater: bool, loggedErrors: list[LogEvent]
    ) -> None:
        """One that goes wrong after that does so in the log; the client has its answer, and gets no second."""

        async def thenLater(request: Any) -> None:
            await answeringLater(request)
            await pause(0)
            then(request)

        async with hostile() as here:
            use(here, thenLater if isLater else lambda request: (answering(request), then(request)))
            scene = Scene(here, where)
            wire = await scene.begin()
            response = await wire.response()
            assert (response.status, response.body) == (402, b"mine")
            await pause(0.01)
            assert wire.received == b""
            await scene.unharmed()
            assert len(loggedErrors) == 1
            loggedErrors.clear()

    @pytest.mark.parametrize(
        ("where", "isLater"), [("handshake", False), ("handshake", True), ("poll", False), ("websocket", True)]
    )
    @pytest_twisted.ensureDeferred
    async def test_failsHalfWay(
        self, hostile: Hostile, where: str, isLater: bool, loggedErrors: list[LogEvent]
    ) -> None:
        """One that goes wrong in the middle of its answer doesn't leave the client waiting for the rest."""

        def half(request: Any) -> None:
            request.setHeader("Content-Length", "4")
            request.write(b"mi")
            raise Trouble

        async def halfLater(request: Any) -> None:
            await pause(0)
            half(request)

        async with hostile() as here:
            use(here, halfLater if isLater else half)
            scene = Scene(here, where)
            wire = await scene.begin()
            # Client and server share a reactor: if nothing has come by then, nothing will.
            for _ in range(100):
                await pause(0)
            assert wire.isLost
            assert wire.received.endswith(b"\r\n\r\nmi")
            await scene.unharmed()
            assert [each["log_failure"].type for each in loggedErrors] == [Trouble]
            loggedErrors.clear()

    @pytest.mark.parametrize("where", ["websocket", "upgrade"])
    @pytest.mark.parametrize("how", [answering, answeringLater], ids=["at once", "later"])
    @pytest_twisted.ensureDeferred
    async def test_behind(self, hostile: Hostile, where: str, how: Any) -> None:
        """What a client sends behind a request for a WebSocket is never taken for another request."""
        async with hostile() as here:
            use(here, how)
            scene = Scene(here, where)
            wire = await scene.begin()
            wire.send(http("GET", target()))
            assert (await wire.response()).status == 402
            await wire.until(lambda: wire.isLost or wire.received, "the end of the connection")
            assert wire.received == b""
            await scene.unharmed()

    @everywhere
    @pytest_twisted.ensureDeferred
    async def test_gone(self, hostile: Hostile, where: str) -> None:
        """One that answers when the client has gone harms nobody."""
        asked: list[object] = []
        answered: list[object] = []

        async def middleware(request: Any) -> None:
            asked.append(request)
            try:
                await Deferred()
            except Exception:
                try:
                    answering(request)
                finally:
                    answered.append(request)

        async with hostile() as here:
            use(here, middleware)
            scene = Scene(here, where)
            wire = await scene.begin()
            await eventually(lambda: asked, "the question")
            wire.drop()
            await eventually(lambda: answered, "the answer")
            await scene.unharmed()


class TestClosingServer:
    """Those that close the server when they are asked about a request."""

    @pytest.mark.parametrize("where", ["handshake", "websocket"])
    @pytest.mark.parametrize("what", ["middleware", "allowRequest", "generateId"])
    @pytest.mark.parametrize("isLater", [False, True], ids=["at once", "later"])
    @pytest_twisted.ensureDeferred
    async def test_opening(self, hostile: Hostile, where: str, what: str, isLater: bool) -> None:
        """No session opens in a server that closes: 503."""
        ends: list[Any] = []

        async def answeringThen(answer: Any) -> Any:
            await pause(0)
            ends.append(here.server.close())
            return answer

        def ask(request: Any, answer: Any) -> Any:
            if not isHostile(request):
                return answer
            if isLater:
                return answeringThen(answer)
            ends.append(here.server.close())
            return answer

        allowRequest = partial(ask, answer=True) if what == "allowRequest" else None
        async with hostile(allowRequest=allowRequest) as here:
            here.serverEnds = True
            if what == "generateId":
                here.server.generateId = lambda request: ask(request, "the-id")
            elif what == "middleware":
                here.server.use(partial(ask, answer=None))
            wire = await here.say(requestFor(where, None))
            said = await wire.lost()
            await within(ends[0], "the end of the server")
            left = list(here.server.clients.values())
            for each in left:
                each.close(True)
            assert left == []
            assert said.startswith(b"HTTP/1.1 503") or said == b""

    @pytest.mark.parametrize("where", ["poll", "push", "upgrade"])
    @pytest_twisted.ensureDeferred
    async def test_session(self, hostile: Hostile, where: str) -> None:
        """A session that is there ends, and the request learns that."""
        ends: list[Any] = []
        async with hostile() as here:
            here.serverEnds = True
            use(here, lambda request: ends.append(here.server.close()))
            scene = Scene(here, where)
            wire = await scene.begin()
            response = await wire.response()
            assert response.status in (400, 503)
            await within(ends[0], "the end of the server")
            assert scene.sid is not None
            assert (await here.records[scene.sid].closed())[0] == "server shutting down"


# Headers

BAD_CHANGES: dict[str, Callable[[Any], object]] = {
    "raises": lambda headers: raising(),
    "a space in a name": lambda headers: headers.__setitem__("Bad Name", "x"),
    "a colon in a name": lambda headers: headers.__setitem__("Bad:Name", "x"),
    "a line break in a name": lambda headers: headers.__setitem__("Bad\r\nName", "x"),
    "a name that isn't ASCII": lambda headers: headers.__setitem__("Bäd", "x"),
    "no name": lambda headers: headers.__setitem__("", "x"),
    "a number for a name": lambda headers: headers.__setitem__(5, "x"),
    "None": lambda headers: headers.__setitem__("X-Bad", None),
    "a number": lambda headers: headers.__setitem__("X-Bad", 5),
    "numbers": lambda headers: headers.__setitem__("X-Bad", [5]),
    "a lone surrogate": lambda headers: headers.__setitem__("X-Bad", "\ud800"),
    "deleting what isn't there": lambda headers: headers.__delitem__("X-Bad"),
    "reading what isn't there": lambda headers: headers["X-Bad"],
}
GOOD_CHANGES: dict[str, Callable[[Any], object]] = {
    "a line break": lambda headers: headers.__setitem__("X-Value", "a\r\nSet-Cookie: a=b"),
    "two line breaks": lambda headers: headers.__setitem__("X-Value", "a\r\n\r\nHTTP/1.1 200 OK"),
    "LF": lambda headers: headers.__setitem__("X-Value", "a\nSet-Cookie: a=b"),
    "CR": lambda headers: headers.__setitem__("X-Value", "a\rSet-Cookie: a=b"),
    "line breaks in several": lambda headers: headers.__setitem__("X-Value", ["a\r\nSet-Cookie: a=b"]),
    "other line breaks": lambda headers: headers.__setitem__("X-Value", "a\x0b\x0c\x85\u2028Set-Cookie: a=b"),
    "not ASCII": lambda headers: headers.__setitem__("X-Value", "€"),
    "long": lambda headers: headers.__setitem__("X-Value", "x" * 100_000),
    "none": lambda headers: headers.__setitem__("X-Value", []),
}


async def later(change: Callable[[Any], object], headers: Any) -> None:
    await pause(0)
    change(headers)


async def anyRequest(here: Arena, kind: str) -> Wire:
    """Ask the server for something, by a marked request, with a session where there has to be one."""
    sid = None
    if kind in ("poll", "push", "method", "too large", "upgrade"):
        sid = await here.open()
        here.server.clients[sid].send("kept")
    request = {
        "refused": partial(http, "GET", target(transport="nope"), [HOSTILE]),
        "refused upgrade": partial(upgrade, target(transport="nope"), X_Hostile="yes"),
        "method": partial(http, "PUT", target(sid=sid), [HOSTILE]),
        "too large": partial(http, "POST", target(sid=sid), [HOSTILE], b"4" * 2000),
        "preflight": partial(http, "OPTIONS", target(), [HOSTILE, ("Origin", "https://a.example")]),
    }.get(kind, partial(requestFor, kind, sid))()
    return await here.say(request)


STATUS = {
    "handshake": 200,
    "poll": 200,
    "push": 200,
    "websocket": 101,
    "upgrade": 101,
    "refused": 400,
    "refused upgrade": 400,
    "method": 405,
    "too large": 413,
    "preflight": 204,
}
everyAnswer = pytest.mark.parametrize("kind", STATUS)
OPTIONS: dict[str, Any] = {"cors": {"origin": True}, "maxHttpBufferSize": 1000}


@pytest.fixture(params=ENGINES, ids=lambda each: each.__name__)
def engine(request: pytest.FixtureRequest) -> Any:
    """What implements WebSocket, and with that writes the 101."""
    return request.param


def others(here: Arena) -> list[Any]:
    """The sessions, without the bystanders."""
    bystanders = list(here.records)[:2]
    return [each for sid, each in here.server.clients.items() if sid not in bystanders]


def endOthers(here: Arena) -> None:
    """End the sessions that these tests leave behind."""
    for each in others(here):
        each.close(True)


class TestHeaders:
    """Handlers of `headers`, and of `initial_headers`, which come before every answer."""

    @everyAnswer
    @pytest_twisted.ensureDeferred
    async def test_bad(self, hostile: Hostile, kind: str, loggedErrors: list[LogEvent]) -> None:
        """One that can't do what it wants fails, in the log; the answer goes out, with what others changed."""
        name = ""

        def headers(headers: Any, request: Any) -> None:
            if isHostile(request):
                headers["X-First"] = "yes"
                BAD_CHANGES[name](headers)

        def more(headers: Any, request: Any) -> None:
            headers["X-Last"] = "yes"

        async with hostile(**OPTIONS) as here:
            here.server.on("headers", headers)
            here.server.on("headers", more)
            for name in BAD_CHANGES:
                response = await (await anyRequest(here, kind)).response()
                assert response.status == STATUS[kind], name
                assert "x-bad" not in response.headers, name
                assert response.headers["x-first"] == response.headers["x-last"] == "yes", name
                assert len(loggedErrors) == 1, name
                loggedErrors.clear()
            endOthers(here)

    @pytest.mark.parametrize("kind", ["handshake", "websocket"])
    @pytest.mark.parametrize("isLater", [False, True], ids=["raises", "fails later"])
    @pytest_twisted.ensureDeferred
    async def test_initial(
        self, hostile: Hostile, engine: Any, kind: str, isLater: bool, loggedErrors: list[LogEvent]
    ) -> None:
        """So it is with the first answer of a session, which opens."""
        async with hostile(wsEngine=engine, cookie=True) as here:
            here.server.on("initial_headers", lambda headers, request: failing() if isLater else raising())
            response = await (await anyRequest(here, kind)).response()
            assert response.status == STATUS[kind]
            assert response.headers["set-cookie"].startswith("io=")
            await eventually(lambda: loggedErrors, "the log of the failure")
            assert [each["log_failure"].type for each in loggedErrors] == [Trouble]
            loggedErrors.clear()
            endOthers(here)

    @everyAnswer
    @pytest_twisted.ensureDeferred
    async def test_oneLine(self, hostile: Hostile, engine: Any, kind: str) -> None:
        """A value is never more than a line, whatever is in it."""
        name = ""
        async with hostile(**OPTIONS, wsEngine=engine) as here:
            here.server.on("headers", lambda headers, request: GOOD_CHANGES[name](headers) and None)
            for name in GOOD_CHANGES:
                response = await (await anyRequest(here, kind)).response()
                assert response.status == STATUS[kind], name
                assert "set-cookie" not in response.headers, name
                assert ("x-value" in response.headers) is (name != "none"), name
            here.server.removeListener("headers", here.server.listeners("headers")[0])
            endOthers(here)

    @everyAnswer
    @pytest_twisted.ensureDeferred
    async def test_deleted(self, hostile: Hostile, engine: Any, kind: str) -> None:
        """One may delete every header there is: what is answered can be read all the same."""
        async with hostile(**OPTIONS, wsEngine=engine, cookie=True) as here:
            here.server.on("headers", lambda headers, request: headers.clear() if isHostile(request) else None)
            wire = await anyRequest(here, kind)
            if kind == "too large":
                # Its end is the connection's.
                said = await wire.lost()
                assert said.startswith(b"HTTP/1.1 413 ")
                assert b"maxHttpBufferSize" in said
            elif kind == "preflight":
                assert (await wire.head()).status == 204
            else:
                response = await wire.response()
                assert response.status == STATUS[kind]
                assert "set-cookie" not in response.headers
                assert response.body or response.status == 101
            endOthers(here)

    @pytest_twisted.ensureDeferred
    async def test_handshake(self, hostile: Hostile, engine: Any) -> None:
        """One that sets what has a meaning of its own in a 101, as on every answer, doesn't break that."""
        name = value = ""

        def headers(headers: Any, request: Any) -> None:
            headers[name] = value

        async with hostile(wsEngine=engine) as here:
            here.server.on("headers", headers)
            for name, value in (
                ("Connection", "close"),
                ("Upgrade", "h2c"),
                ("Sec-WebSocket-Accept", "x"),
                ("Sec-WebSocket-Extensions", "permessage-deflate"),
                ("Sec-WebSocket-Protocol", "evil"),
                ("Content-Length", "5"),
                ("Transfer-Encoding", "chunked"),
            ):
                head = await (await anyRequest(here, "websocket")).head()
                assert head.status == 101
                assert head.headers["connection"].lower() == "upgrade"
                assert head.headers["upgrade"].lower() == "websocket"
                assert head.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
                assert head.headers.get(name.lower()) != value, name
            here.server.removeListener("headers", headers)
            endOthers(here)

    @everyAnswer
    @pytest_twisted.ensureDeferred
    async def test_later(self, hostile: Hostile, kind: str) -> None:
        """One that is asynchronous comes too late: nobody waits for it."""
        done: list[object] = []

        async def headers(headers: Any, request: Any) -> None:
            await pause(0)
            headers["X-Late"] = "yes"
            headers.clear()
            done.append(headers)

        async with hostile(**OPTIONS) as here:
            here.server.on("headers", headers)
            response = await (await anyRequest(here, kind)).response()
            assert response.status == STATUS[kind]
            assert "x-late" not in response.headers
            await eventually(lambda: done, "the handler")
            endOthers(here)

    @everyAnswer
    @pytest_twisted.ensureDeferred
    async def test_closesServer(self, hostile: Hostile, engine: Any, kind: str) -> None:
        """One may close the server: the answer goes out, or says that, and nothing is left."""
        ends: list[Any] = []

        def headers(headers: Any, request: Any) -> None:
            if isHostile(request) and not ends:
                ends.append(here.server.close())

        async with hostile(**OPTIONS, wsEngine=engine) as here:
            here.serverEnds = True
            here.server.on("headers", headers)
            wire = await anyRequest(here, kind)
            if kind == "too large":
                # Closing cuts the connections whose requests aren't complete.
                assert b" 200 " not in await wire.lost()
            else:
                assert (await wire.response()).status in (STATUS[kind], 503)
            await within(ends[0], "the end of the server")
            left = list(here.server.clients.values())
            for each in left:
                each.close(True)
            assert left == []

    @pytest.mark.parametrize("kind", ["handshake", "poll", "push", "websocket", "upgrade", "method", "too large"])
    @pytest.mark.parametrize("discard", [False, True], ids=["close", "discard"])
    @pytest_twisted.ensureDeferred
    async def test_closesSession(self, hostile: Hostile, engine: Any, kind: str, discard: bool) -> None:
        """One may close the session, where there is one: the request is answered, and the session ends."""

        def headers(headers: Any, request: Any) -> None:
            if isHostile(request):
                for each in others(here):
                    each.close(discard)

        async with hostile(**OPTIONS, wsEngine=engine) as here:
            here.server.on("headers", headers)
            wire = await anyRequest(here, kind)
            assert (await wire.response()).status in (STATUS[kind], 400)
            if kind == "websocket":
                # There was none yet.
                endOthers(here)
            for each in others(here):
                assert not discard
                assert (await here.get(each.id)).packets[-1] == "1"
            assert others(here) == []

    @pytest.mark.parametrize("kind", ["poll", "push", "method", "too large", "upgrade"])
    @pytest_twisted.ensureDeferred
    async def test_sends(self, hostile: Hostile, kind: str) -> None:
        """One may send: the message arrives, once, with what was buffered before it."""
        sent: list[object] = []

        def headers(headers: Any, request: Any) -> None:
            if isHostile(request) and not sent:
                sent.extend(each.send("from inside") for each in others(here))

        async with hostile(**OPTIONS, echoes=False) as here:
            here.server.on("headers", headers)
            wire = await anyRequest(here, kind)
            socket = others(here)[0]
            response = await wire.response()
            packets = response.packets if kind == "poll" else []
            wire.drop()
            await eventually(lambda: not socket.upgrading, "the end of the upgrade")
            if kind == "too large":
                # The session has ended.
                assert sent == [socket]
                return
            while "4from inside" not in packets:
                packets += (await here.get(socket.id)).packets
            assert packets == ["4kept", "4from inside"]
            await here.end(socket.id)


class TestInitialPacket:
    """The option `initialPacket`."""

    @pytest.mark.parametrize("value", [5, True, 1.5, ["x"], {"x": 1}, object(), "\ud800", "a\udfffb", len])
    def test_wrong(self, value: Any) -> None:
        """What isn't a message is refused at once."""
        with pytest.raises(OptionError) as error:
            ServerOptions(initialPacket=value)
        assert error.value.name == "initialPacket"

    @pytest.mark.parametrize("value", ["", b"", "€\u2028", b"\0\xff", bytearray(b"\1"), memoryview(b"\2")])
    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_odd(self, hostile: Hostile, value: Any, transport: str) -> None:
        """What is unusual arrives as it was given, before everything else."""
        async with hostile(initialPacket=value) as here:
            client = await here.client(transport)
            if transport == "websocket":
                await client.until(lambda: client.messages, "the message")
                assert client.messages == [value if isinstance(value, str) else bytes(value)]
                await client.close()
                return
            await client.close()
            response = await here.ask(http("GET", target()))
            expected = "4" + value if isinstance(value, str) else None
            assert len(response.packets) == 2
            assert expected is None or response.packets[1] == expected
            assert expected is not None or response.packets[1][0] == "b"
            endOthers(here)
