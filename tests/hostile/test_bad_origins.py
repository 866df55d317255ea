"""Pages of other origins, hostile ones among them: what they are told, and what they may do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import LogEvent
from twisted.web.resource import Resource

from engineio_twisted import EngineIOResource, OptionError, Server, Site
from engineio_twisted.protocol.headers import corsHeaders, originAllowed
from engineio_twisted.protocol.option_parts import Cors
from engineio_twisted.protocol.options import ServerOptions

from ..kit.wire import Arena, Hostile, Response, arena, eventually, http, makeFrame, pause, target, upgrade, within

pytestmark = [pytest.mark.no_cover, pytest.mark.everySite]

GOOD, EVIL = "https://good.example", "https://evil.example"
ALLOW = "access-control-allow-origin"
CREDENTIALS = "access-control-allow-credentials"
# What may be in an answer, by name; a header more would be one that somebody smuggled in.
KNOWN = {
    "server",
    "date",
    "content-type",
    "content-length",
    "cache-control",
    "connection",
    "allow",
    "retry-after",
    "vary",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
}
webSocket = partial(target, transport="websocket")


def raw(method: str, where: str, *lines: bytes, body: bytes | None = None) -> bytes:
    """A request with header lines as they are, whatever is in them."""
    head = http(method, where, body=body)
    first, rest = head.split(b"\r\n", 1)
    return b"\r\n".join([first, *lines, rest])


async def answered(here: Arena, request: bytes) -> Response:
    """Send a request; read an answer without anything in it that wasn't expected."""
    response = await here.ask(request)
    assert set(response.headers) <= KNOWN, response
    return response


def preflight(where: str, origin: str = GOOD, asked: str = "x-one, x-two", **more: Any) -> bytes:
    """What a browser asks before it sends a page's request."""
    headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", asked),
        ("Access-Control-Request-Private-Network", "true"),
    ]
    return http("OPTIONS", where, headers, **more)


# As bytes, as a client may send what isn't text; those that are no origin, and those that look like one.
BAD_ORIGINS = {
    "space": b"https://evil.example https://good.example",
    "tab": b"https://evil.example\tx",
    "UTF-8": "https://evil.example€".encode(),
    "line separator": "https://evil.example\u2028Set-Cookie: a=b".encode(),
}
NOT_UTF8 = {
    "not UTF-8": b"https://evil.example\xff",
    "latin-1": "https://evil.exämple".encode("latin-1"),
    "NEL": b"https://evil.example\x85Set-Cookie: a=b",
}
# These are refused, whatever `cors` says.
CONTROLS = {
    f"{byte:#x}": b"https://evil.example" + bytes([byte]) + b"x" for byte in (1, 8, 11, 12, 27, 28, 30, 31, 127)
}
# A bare one ends a line for some: twisted.web refuses it, and a NUL.
BREAKS = {"NUL": b"\0", "CR": b"\r", "LF": b"\n", "CR LF": b"\r\n", "folded": b"\r\n "}


def asPattern(origin: str | None) -> Any:
    return re.compile(r"^https://(good|evil)\.example")


async def aCoroutine(origin: str | None) -> Any:
    await pause(0)
    return True


REFLECTING: dict[str, Any] = {
    "reflect": True,
    "list": [re.compile("evil"), re.compile("good")],
    "pattern": re.compile("."),
    "function": lambda origin: True,
    "function to list": lambda origin: [re.compile("evil"), GOOD],
    "function to pattern": asPattern,
    "Deferred": lambda origin: succeed(True),
    "coroutine": aCoroutine,
}
reflecting = pytest.mark.parametrize("rule", REFLECTING.values(), ids=list(REFLECTING))


class TestReflected:
    """An Origin that comes back in a header."""

    @reflecting
    @pytest_twisted.ensureDeferred
    async def test_valid(self, hostile: Hostile, rule: Any) -> None:
        """One that is valid does, as it was sent."""
        async with hostile(cors={"origin": rule, "credentials": True}) as here:
            for origin in (GOOD, EVIL):
                response = await answered(here, http("GET", target(sid="unknown"), [("Origin", origin)]))
                assert response.headers[ALLOW] == origin
                assert response.headers[CREDENTIALS] == "true"
                assert response.headers["vary"] == "Origin"

    @reflecting
    @pytest.mark.parametrize("origins", [BAD_ORIGINS, NOT_UTF8], ids=["UTF-8", "not UTF-8"])
    @pytest_twisted.ensureDeferred
    async def test_invalid(self, hostile: Hostile, rule: Any, origins: dict[str, bytes]) -> None:
        """One that isn't does not: what is asked for is answered, without a word about the origin."""
        async with hostile(cors={"origin": rule, "credentials": True}) as here:
            for name, origin in origins.items():
                for method in ("GET", "OPTIONS"):
                    request = raw(method, target(sid="unknown"), b"Origin: " + origin)
                    response = await answered(here, request)
                    assert ALLOW not in response.headers, name
                    assert response.status == (204 if method == "OPTIONS" else 400)
                    if method == "GET":
                        assert response.json["code"] == 1, name

    @reflecting
    @pytest_twisted.ensureDeferred
    async def test_controls(self, hostile: Hostile, rule: Any) -> None:
        """One with control characters is refused, and not reflected either."""
        async with hostile(cors={"origin": rule, "credentials": True}) as here:
            for name, origin in CONTROLS.items():
                response = await answered(here, raw("GET", target(), b"Origin: " + origin))
                assert response.json == {"code": 3, "message": "Bad request"}, name
                assert here.refusals[-1].context["name"] == "INVALID_ORIGIN"
                assert ALLOW not in response.headers, name
                response = await answered(here, raw("OPTIONS", target(), b"Origin: " + origin))
                assert ALLOW not in response.headers, name

    @pytest.mark.parametrize("what", ["Origin", "Access-Control-Request-Headers"])
    @pytest.mark.parametrize("method", ["GET", "OPTIONS"])
    @pytest_twisted.ensureDeferred
    async def test_lineBreaks(self, hostile: Hostile, what: str, method: str) -> None:
        """What would be a line of its own never is one."""
        async with hostile(cors={"origin": True, "credentials": True}) as here:
            for name, lineBreak in BREAKS.items():
                value = f"{what}: https://evil.example".encode() + lineBreak + b"Set-Cookie: a=b"
                wire = await here.say(raw(method, target(sid="unknown"), value, b"Connection: close"))
                said = await wire.lost()
                assert said.count(b"HTTP/1.1") == 1, name
                assert b"\r\nset-cookie" not in said.lower(), name

    @pytest_twisted.ensureDeferred
    async def test_odd(self, hostile: Hostile) -> None:
        """Whatever else is an origin to a server that reflects all, comes back as it was sent, and nothing with it."""
        async with hostile(cors={"origin": True, "credentials": True}) as here:
            for origin in ("null", "*", "x" * 8000, ":" * 100, "https://a,https://b", '"', ";", "%0d%0aSet-Cookie:a=b"):
                response = await answered(here, http("GET", target(sid="unknown"), [("Origin", origin)]))
                assert response.headers[ALLOW] == origin
            response = await answered(here, http("GET", target(sid="unknown"), [("Origin", "")]))
            assert ALLOW not in response.headers
            response = await answered(here, http("GET", target(sid="unknown")))
            assert ALLOW not in response.headers
            assert response.headers["vary"] == "Origin"

    @pytest.mark.parametrize("origins", [[GOOD, EVIL], [EVIL, GOOD], [GOOD, GOOD]], ids=str)
    @pytest_twisted.ensureDeferred
    async def test_several(self, hostile: Hostile, origins: list[str]) -> None:
        """Of several, which no browser sends, never one that isn't allowed."""
        async with hostile(cors={"origin": [GOOD]}) as here:
            headers = [("Origin", each) for each in origins]
            for request in (http("GET", target(sid="unknown"), headers), http("OPTIONS", target(), headers)):
                response = await answered(here, request)
                assert response.headers.get(ALLOW) in (None, GOOD)

    @pytest_twisted.ensureDeferred
    async def test_askedHeaders(self, hostile: Hostile) -> None:
        """Which headers a page wants to send comes back where these are names, and not otherwise."""
        async with hostile(cors={"origin": True}) as here:
            name = "access-control-allow-headers"
            for asked in ("x-one", "x-one,x-two", " X-One , x-two", "a" * 8000):
                response = await answered(here, preflight(target(), asked=asked))
                assert response.headers[name] == asked.strip()
            for asked in ("x-one: evil", "x-one;x", "x\x01y", "x\x7f", "€".encode().decode("latin-1"), '"x"', "a/b"):
                response = await answered(here, preflight(target(), asked=asked))
                assert response.status == 204
                assert name not in response.headers, asked

    @pytest.mark.parametrize("asked", ["x-one, \xff", "ä", "\x85"], ids=ascii)
    @pytest_twisted.ensureDeferred
    async def test_askedNotUTF8(self, hostile: Hostile, asked: str) -> None:
        """Nor where they aren't even text."""
        async with hostile(cors={"origin": True}) as here:
            response = await answered(here, preflight(target(), asked=asked))
            assert response.status == 204
            assert response.headers[ALLOW] == GOOD
            assert "access-control-allow-headers" not in response.headers


class TestNotAllowed:
    """Origins that the option doesn't have."""

    @pytest.mark.parametrize(
        "rule",
        [
            GOOD,
            [GOOD],
            [],
            re.compile(r"^https://good\.example$"),
            lambda origin: origin == GOOD,
            lambda origin: None,
            lambda origin: [],
            lambda origin: succeed(False),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_never(self, hostile: Hostile, rule: Any) -> None:
        """None of them is told that it is allowed, however much it looks like one that is."""
        async with hostile(cors={"origin": rule, "credentials": True}) as here:
            for origin in (
                EVIL,
                "null",
                "*",
                GOOD.upper(),
                GOOD + ".evil.example",
                GOOD + ":8443",
                GOOD + "/",
                GOOD.replace("https", "http"),
                "https://xgood.example",
                GOOD + "," + EVIL,
            ):
                for method in ("GET", "OPTIONS"):
                    response = await answered(here, http(method, target(sid="unknown"), [("Origin", origin)]))
                    assert response.headers.get(ALLOW) in (None, GOOD)
                    assert response.headers.get(ALLOW) != origin
                    assert CREDENTIALS not in response.headers or rule == GOOD

    @pytest.mark.parametrize("rule", ["*", lambda origin: "*", lambda origin: succeed("*")])
    @pytest_twisted.ensureDeferred
    async def test_credentials(self, hostile: Hostile, rule: Any) -> None:
        """To all of them together no credentials are ever allowed."""
        async with hostile(cors={"origin": rule, "credentials": True}) as here:
            for method in ("GET", "OPTIONS"):
                response = await answered(here, http(method, target(sid="unknown"), [("Origin", EVIL)]))
                assert response.headers[ALLOW] == "*"
                assert CREDENTIALS not in response.headers

    @pytest.mark.parametrize(
        "rule", [["*"], [GOOD, "*"], 5, b"*", "a b", "a\r\nb", ["a", 5], [["a"]], {"a": 1}, "é", ""]
    )
    def test_options(self, rule: Any) -> None:
        """What is no rule is no option, and neither is one in a list that would allow all of them by name."""
        for name, options in (
            ("cors.origin", {"cors": {"origin": rule}}),
            ("allowedOrigins", {"allowedOrigins": rule}),
        ):
            with pytest.raises(OptionError) as error:
                ServerOptions(**options)
            assert error.value.name == name


async def raising(origin: str | None) -> Any:
    await pause(0)
    raise ZeroDivisionError("secret")


def raisingAtOnce(origin: str | None) -> Any:
    raise ZeroDivisionError("secret")


NONSENSE: dict[str, Any] = {
    "raises": raisingAtOnce,
    "fails": lambda origin: fail(ZeroDivisionError("secret")),
    "fails later": raising,
    "number": lambda origin: 5,
    "bytes": lambda origin: b"*",
    "mapping": lambda origin: {"origin": origin},
    "object": lambda origin: object(),
    "spaces": lambda origin: f"{origin} {origin}",
    "a header": lambda origin: f"{origin}\r\nSet-Cookie: a=b",
    "newline": lambda origin: f"{origin}\n",
    "numbers": lambda origin: [1, 2],
    "all in a list": lambda origin: ["*"],
    "not ASCII": lambda origin: "https://é.example",
    "lone surrogate": lambda origin: "\ud800",
    "another function": lambda origin: raisingAtOnce,
    "number later": lambda origin: succeed(5),
}


class TestFunction:
    """A function for `origin` that doesn't do as it should."""

    @pytest.mark.parametrize("function", NONSENSE.values(), ids=list(NONSENSE))
    @pytest_twisted.ensureDeferred
    async def test_nonsense(self, hostile: Hostile, function: Any, loggedErrors: list[LogEvent]) -> None:
        """The request is refused without telling why, no origin is allowed, and the log has the cause."""
        isOn = False
        async with hostile(cors={"origin": lambda origin: function(origin) if isOn else False}) as here:
            sid = await here.open()
            isOn = True
            for request in (
                http("GET", target(), [("Origin", GOOD)]),
                http("GET", target(sid=sid), [("Origin", GOOD)]),
                http("POST", target(sid=sid), [("Origin", GOOD)], b"4x"),
                preflight(target()),
            ):
                response = await answered(here, request)
                assert response.json == {"code": 3, "message": "Bad request"}
                assert ALLOW not in response.headers
                assert len(loggedErrors) == 1
                loggedErrors.clear()
            wire = await here.say(upgrade(Origin=GOOD))
            response = await wire.response()
            assert (response.status, response.body) == (400, b"Bad request")
            assert ALLOW not in response.headers
            assert len(loggedErrors) == 1
            loggedErrors.clear()
            isOn = False
            await here.goesOn(sid)

    @pytest.mark.parametrize("function", NONSENSE.values(), ids=list(NONSENSE))
    @pytest_twisted.ensureDeferred
    async def test_early(self, hostile: Hostile, function: Any, loggedErrors: list[LogEvent]) -> None:
        """A body that is too large is refused as always, where it is asked before the request is complete."""
        isOn = False
        options = {"cors": {"origin": lambda origin: function(origin) if isOn else False}, "maxHttpBufferSize": 1000}
        async with hostile(**options) as here:
            sid = await here.open()
            isOn = True
            response = await answered(here, http("POST", target(sid=sid), [("Origin", GOOD)], b"4" + b"x" * 1000))
            assert response.status == 413
            assert ALLOW not in response.headers
            assert len(loggedErrors) == 1
            loggedErrors.clear()
            assert (await here.records[sid].closed())[0] == "transport error"
            isOn = False

    @pytest.mark.parametrize("isUpgrade", [False, True], ids=["plain", "upgrade"])
    @pytest_twisted.ensureDeferred
    async def test_never(self, hostile: Hostile, monkeypatch: pytest.MonkeyPatch, isUpgrade: bool) -> None:
        """One that never answers has a deadline; it is cancelled, and the request refused."""
        monkeypatch.setattr("engineio_twisted.web.decisions.DECISION_TIMEOUT", 0.1)
        asked: list[Deferred[bool]] = []
        cancelled: list[object] = []

        def function(origin: str | None) -> Any:
            if origin != EVIL:
                return True
            asked.append(Deferred(cancelled.append))
            return asked[-1]

        async with hostile(cors={"origin": function}) as here:
            wire = await here.say(upgrade(Origin=EVIL) if isUpgrade else http("GET", target(), [("Origin", EVIL)]))
            response = await wire.response()
            assert response.status == 400
            assert ALLOW not in response.headers
            assert here.refusals[-1].context["name"] == "MIDDLEWARE_FAILURE"
            assert (len(asked), len(cancelled)) == (1, 1)

    @pytest.mark.parametrize("how", ["plain", "upgrade", "early"])
    @pytest_twisted.ensureDeferred
    async def test_gone(self, hostile: Hostile, how: str) -> None:
        """Where the client leaves before it answers, it is cancelled too."""
        cancelled: list[object] = []
        asked: list[object] = []

        def function(origin: str | None) -> Any:
            if origin != EVIL:
                return True
            asked.append(origin)
            return Deferred(cancelled.append)

        async with hostile(cors={"origin": function}, maxHttpBufferSize=1000) as here:
            request = {
                "plain": http("GET", target(), [("Origin", EVIL)]),
                "upgrade": upgrade(Origin=EVIL),
                "early": http("POST", target(), [("Origin", EVIL), ("Content-Length", "5000")]),
            }[how]
            wire = await here.say(request)
            await eventually(lambda: asked, "the question")
            wire.drop()
            await eventually(lambda: cancelled, "the end of the question")

    @pytest_twisted.ensureDeferred
    async def test_closing(self, hostile: Hostile) -> None:
        """Where the server closes before it answers, the server closes."""

        def function(origin: str | None) -> Any:
            return Deferred() if origin == EVIL else True

        async with hostile(cors={"origin": function}, maxHttpBufferSize=1000) as here:
            here.serverEnds = True
            wires = [
                await here.say(http("GET", target(), [("Origin", EVIL)])),
                await here.say(upgrade(Origin=EVIL)),
                await here.say(http("POST", target(), [("Origin", EVIL), ("Content-Length", "5000")])),
            ]
            await eventually(
                lambda: len(here.server._router.decisions) == 2 and len(here.server._router.reading) == 1,
                "the questions",
            )
            await within(here.server.close(), "the end of the server")
            assert (await wires[0].response()).status == 503
            assert (await wires[1].response()).status == 503
            assert b" 200 " not in await wires[2].lost()


class TestPreflight:
    """A request that only asks what a page may do."""

    @pytest.mark.parametrize(
        "query",
        [
            {},
            {"sid": "unknown"},
            {"sid": "closed"},
            {"sid": "live"},
            {"transport": "nope"},
            {"transport": None},
            {"transport": "websocket"},
            {"EIO": 3},
            {"EIO": None},
            {"sid": "live&sid=other"},
            {"j": "x"},
            {"x": "%ff%00%0d%0a"},
        ],
        ids=str,
    )
    @pytest_twisted.ensureDeferred
    async def test_first(self, hostile: Hostile, query: dict[str, Any]) -> None:
        """It is answered before anything about a session is looked at, and touches none."""
        async with hostile(cors={"origin": [GOOD], "credentials": True}) as here:
            live, closed = await here.open(), await here.open()
            await here.end(closed)
            here.server.clients[live].send("kept")
            sid = query.get("sid", "").replace("live", live).replace("closed", closed)
            where = target(**{**query, "sid": sid or None})
            response = await answered(here, preflight(where))
            assert (response.status, response.body) == (204, b"")
            assert response.headers[ALLOW] == GOOD
            assert response.headers["access-control-allow-headers"] == "x-one, x-two"
            assert "POST" in response.headers["access-control-allow-methods"]
            assert response.headers["vary"] == "Origin, Access-Control-Request-Headers"
            assert here.refusals == []
            assert (await here.get(live)).packets == ["4kept"]
            waiting = await here.poll(live)
            assert (await answered(here, preflight(where))).status == 204
            here.server.clients[live].send("too")
            assert (await waiting.response()).packets == ["4too"]
            await here.goesOn(live)

    @pytest_twisted.ensureDeferred
    async def test_asUpgrade(self, hostile: Hostile) -> None:
        """One that asks for a WebSocket at the same time gets none."""
        async with hostile(cors={"origin": True}) as here:
            before = dict(here.server.clients)
            wire = await here.say(upgrade(method="OPTIONS", Origin=GOOD))
            response = await wire.response()
            assert response.status == 204
            assert here.server.clients == before
            assert len(here.server._webSockets.connections) == 1

    @pytest.mark.parametrize("size", [0, 10, 1000])
    @pytest.mark.parametrize("isChunked", [False, True], ids=["length", "chunked"])
    @pytest_twisted.ensureDeferred
    async def test_body(self, hostile: Hostile, size: int, isChunked: bool) -> None:
        """A body that nobody asked for doesn't matter."""
        async with hostile(cors={"origin": True}, maxHttpBufferSize=1000) as here:
            sid = await here.open()
            body = b"4" * size
            for where in (target(), target(sid=sid), target(sid="unknown")):
                if isChunked:
                    chunks = (b"%x\r\n%b\r\n" % (size, body) if size else b"") + b"0\r\n\r\n"
                    request = raw("OPTIONS", where, b"Origin: " + GOOD.encode(), b"Transfer-Encoding: chunked") + chunks
                else:
                    request = preflight(where, body=body)
                response = await answered(here, request)
                assert (response.status, response.headers[ALLOW]) == (204, GOOD)
            assert here.records[sid].messages == []
            await here.goesOn(sid)

    @pytest.mark.parametrize("isChunked", [False, True], ids=["length", "chunked"])
    @pytest_twisted.ensureDeferred
    async def test_tooLarge(self, hostile: Hostile, isChunked: bool) -> None:
        """One over maxHttpBufferSize is refused like any other, and the page learns why."""
        async with hostile(cors={"origin": True}, maxHttpBufferSize=1000) as here:
            if isChunked:
                head = raw("OPTIONS", target(), b"Origin: " + GOOD.encode(), b"Transfer-Encoding: chunked")
                request = head + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"
            else:
                request = preflight(target(), body=b"x" * 1001)
            response = await answered(here, request)
            assert (response.status, response.headers[ALLOW]) == (413, GOOD)
            assert "maxHttpBufferSize" in response.json["message"]

    @pytest.mark.parametrize("cors", [None, {"origin": False}, {"origin": lambda origin: False}])
    @pytest_twisted.ensureDeferred
    async def test_off(self, hostile: Hostile, cors: Any) -> None:
        """Without the option, or where it says no to all, an OPTIONS or HEAD is refused, and opens nothing."""
        async with hostile(cors=cors) as here:
            sid = await here.open()
            before = dict(here.server.clients)
            for method in ("OPTIONS", "HEAD"):
                for query, status, code in (({}, 400, 2), ({"sid": sid}, 405, None), ({"sid": "unknown"}, 400, 1)):
                    response = await answered(here, http(method, target(**query), [("Origin", GOOD)]))
                    assert response.status == status
                    assert not {each for each in response.headers if each.startswith("access-control")}
                    if method == "OPTIONS":
                        assert response.json.get("code") == code
            assert here.server.clients == before
            await here.goesOn(sid)

    @pytest_twisted.ensureDeferred
    async def test_head(self, hostile: Hostile) -> None:
        """With it a HEAD is no preflight: it is refused the same, in a way that the page may read."""
        async with hostile(cors={"origin": [GOOD]}) as here:
            sid = await here.open()
            for query, status in (({}, 400), ({"sid": sid}, 405), ({"sid": "unknown"}, 400)):
                response = await answered(here, http("HEAD", target(**query), [("Origin", GOOD)]))
                assert (response.status, response.headers[ALLOW]) == (status, GOOD)
                assert "access-control-allow-methods" not in response.headers
            await here.goesOn(sid)

    @pytest_twisted.ensureDeferred
    async def test_continue(self, hostile: Hostile) -> None:
        """With preflightContinue and nobody who answers, it is refused as an OPTIONS is, with the headers set."""
        async with hostile(cors={"origin": [GOOD], "preflightContinue": True}) as here:
            response = await answered(here, preflight(target()))
            assert response.json == {"code": 2, "message": "Bad handshake method"}
            assert response.headers[ALLOW] == GOOD
            here.server.use(lambda request: request.finish() if request.method == b"OPTIONS" else None)
            wire = await here.say(preflight(target()))
            head = await wire.head()
            assert (head.status, head.headers[ALLOW]) == (200, GOOD)


class TestErrors:
    """What is refused says which page may read why."""

    @staticmethod
    def assertReadable(response: Response, origin: str | None = GOOD) -> None:
        assert response.headers.get(ALLOW) == origin
        assert response.headers.get(CREDENTIALS) == ("true" if origin else None)
        assert response.headers["vary"] == "Origin"

    @pytest.mark.parametrize("origin", [GOOD, EVIL], ids=["good", "evil"])
    @pytest_twisted.ensureDeferred
    async def test_plain(self, hostile: Hostile, origin: str) -> None:
        """That goes for each way of refusing a plain request."""
        options: dict[str, Any] = {
            "cors": {"origin": [GOOD], "credentials": True},
            "allowRequest": lambda request: b"forbidden" not in request.uri,
            "maxHttpBufferSize": 1000,
        }
        said = GOOD if origin == GOOD else None
        headers = [("Origin", origin)]
        async with hostile(**options) as here:
            sid = await here.open()
            waiting = await here.poll(sid)
            for status, code, request in (
                (400, 0, http("GET", target(transport="nope"), headers)),
                (400, 1, http("GET", target(sid="unknown"), headers)),
                (400, 1, http("POST", target(sid="unknown"), headers, b"4x")),
                (400, 2, http("POST", target(), headers, b"4x")),
                (400, 3, http("GET", webSocket(), headers)),
                (403, 4, http("GET", target(forbidden=1), headers)),
                (400, 5, http("GET", target(EIO=3), headers)),
                (405, None, http("PUT", target(sid=sid), headers, b"4x")),
                (413, None, http("POST", target(sid=sid), headers, b"4" + b"x" * 1000)),
                (
                    413,
                    None,
                    http("POST", target(sid=sid), [*headers, ("Transfer-Encoding", "chunked")])
                    + b"3e9\r\n%b\r\n0\r\n\r\n" % (b"4" + b"x" * 1000),
                ),
            ):
                response = await answered(here, request)
                assert (response.status, response.json.get("code")) == (status, code)
                self.assertReadable(response, said)
            response = await answered(here, http("GET", target(sid=sid), headers))
            assert response.status == 400
            self.assertReadable(response, said)
            assert (await waiting.response()).packets == ["1"]
            sid = await here.open()
            response = await answered(here, http("POST", target(sid=sid), headers, b"7"))
            assert response.status == 400
            self.assertReadable(response, said)
            response = await answered(here, http("GET", target(), headers))
            assert response.status == 200
            self.assertReadable(response, said)
            await here.end(json.loads(response.packets[0][1:])["sid"])

    @pytest.mark.parametrize("origin", [GOOD, EVIL], ids=["good", "evil"])
    @pytest_twisted.ensureDeferred
    async def test_upgrade(self, hostile: Hostile, origin: str) -> None:
        """And for each way of refusing a WebSocket, and for the 101."""
        options: dict[str, Any] = {
            "cors": {"origin": [GOOD], "credentials": True},
            "allowRequest": lambda request: b"forbidden" not in request.uri,
        }
        said = GOOD if origin == GOOD else None
        async with hostile(**options) as here:
            for status, request in (
                (400, upgrade(webSocket(transport="nope"), Origin=origin)),
                (400, upgrade(webSocket(sid="unknown"), Origin=origin)),
                (400, upgrade(method="POST", Origin=origin)),
                (400, upgrade(Origin=origin, Sec_WebSocket_Key="short")),
                (403, upgrade(webSocket(forbidden=1), Origin=origin)),
                (400, upgrade(webSocket(EIO=3), Origin=origin)),
            ):
                wire = await here.say(request)
                response = await wire.response()
                assert response.status == status
                self.assertReadable(response, said)
                assert await wire.lost() == b""
            wire = await here.say(upgrade(Origin=origin))
            response = await wire.response()
            assert response.status == 101
            self.assertReadable(response, said)

    @pytest_twisted.ensureDeferred
    async def test_closed(self, atSite: Callable[..., Any]) -> None:
        """And for the 503 of a server that has closed, on a site that hasn't."""
        async with arena(atSite, cors={"origin": [GOOD], "credentials": True}) as here:
            here.serverEnds = True
            await within(here.server.close(), "the end of the server")
            response = await answered(here, http("GET", target(), [("Origin", GOOD)]))
            assert (response.status, response.headers["retry-after"]) == (503, "5")
            self.assertReadable(response)
            wire = await here.say(upgrade(Origin=GOOD))
            response = await wire.response()
            assert response.status == 503
            self.assertReadable(response)
            assert (await answered(here, preflight(target()))).status == 204


@pytest.fixture
def atSite(serve: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Start a server as `serve` does, but on a site of ours that doesn't close with it."""
    from twisted.internet import reactor

    from ..kit.serving import Listening

    ports = []

    async def start(**options: Any) -> Any:
        server = Server(**options)
        root = Resource()
        root.putChild(b"engine.io", EngineIOResource(server))
        site = Site(root)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
        ports.append((port, server, site))
        return Listening(server, port.getHost().port)

    yield start
    for port, server, site in ports:
        pytest_twisted.blockon(port.stopListening())
        pytest_twisted.blockon(server.close())
        pytest_twisted.blockon(site.closeConnections())


RULES: dict[str, Any] = {
    "text": GOOD,
    "list": [GOOD, "https://other.example"],
    "pattern": re.compile(r"^https://good\.example$"),
    "patterns": [re.compile(r"^https://good\.example$")],
}
NOT_IN_THEM = (
    EVIL,
    "null",
    "*",
    "",
    GOOD + ":8443",
    GOOD + "/",
    GOOD + ".evil.example",
    GOOD.upper(),
    "http://good.example",
    GOOD + " " + EVIL,
    GOOD + "," + EVIL,
    GOOD + "\xff",
)


class TestAllowedOrigins:
    """Which pages may open a session or a WebSocket, which `cors` doesn't decide about."""

    @pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
    @pytest_twisted.ensureDeferred
    async def test_opening(self, hostile: Hostile, rule: Any) -> None:
        """One that isn't among them opens neither, however much it looks like one that is."""
        async with hostile(allowedOrigins=rule) as here:
            before = dict(here.server.clients)
            for origin in NOT_IN_THEM:
                response = await answered(here, http("GET", target(), [("Origin", origin)]))
                assert (response.status, response.json) == (403, {"code": 4, "message": "Forbidden"}), origin
                assert here.refusals[-1].context["origin"] == origin
                wire = await here.say(upgrade(Origin=origin))
                response = await wire.response()
                assert (response.status, response.body) == (403, b"Forbidden"), origin
                assert await wire.lost() == b""
            assert here.server.clients == before
            for headers in ([("Origin", GOOD)], []):
                response = await answered(here, http("GET", target(), headers))
                await here.end(json.loads(response.packets[0][1:])["sid"])
            wire = await here.webSocket(upgrade(Origin=GOOD), makeFrame("1"))

    @pytest.mark.parametrize(
        "origins", [[GOOD, EVIL], [EVIL, GOOD], ["", GOOD], [GOOD, GOOD + "\x01"], [GOOD] * 50 + [EVIL]], ids=str
    )
    @pytest_twisted.ensureDeferred
    async def test_several(self, hostile: Hostile, origins: list[str]) -> None:
        """Of several each has to be one."""
        async with hostile(allowedOrigins=[GOOD]) as here:
            before = dict(here.server.clients)
            status = 400 if "\x01" in origins[-1] else 403
            response = await answered(here, http("GET", target(), [("Origin", each) for each in origins]))
            assert response.status == status
            extra = "".join(f"Origin: {each}\r\n" for each in origins)
            wire = await here.say(upgrade(extra=extra))
            assert (await wire.response()).status == status
            assert here.server.clients == before

    @pytest_twisted.ensureDeferred
    async def test_upgrading(self, hostile: Hostile) -> None:
        """One that knows a session's id doesn't get a WebSocket on it; the session doesn't notice, and can upgrade."""
        async with hostile(allowedOrigins=[GOOD]) as here:
            client = await here.client()
            for origin in (EVIL, "null", GOOD + "\xff"):
                wire = await here.say(upgrade(webSocket(sid=client.sid), Origin=origin) + makeFrame("2probe"))
                assert (await wire.response()).status == 403
                assert await wire.lost() == b""
            assert not here.server.clients[client.sid].upgrading
            await client.echo("still polling")
            assert await client.upgrade()
            await client.echo("upgraded")
            await client.close()

    @pytest_twisted.ensureDeferred
    async def test_whileUpgrading(self, hostile: Hostile) -> None:
        """Nor does it disturb one that is about to upgrade."""
        async with hostile(allowedOrigins=[GOOD]) as here:
            sid = await here.open()
            wire = await here.probed(sid)
            evil = await here.say(upgrade(webSocket(sid=sid), Origin=EVIL))
            assert (await evil.response()).status == 403
            wire.send(makeFrame("5") + makeFrame("4mine"))
            assert await wire.text() == "4mine"
            wire.send(makeFrame("1"))
            assert await wire.closed() == 1000

    @pytest_twisted.ensureDeferred
    async def test_none(self, hostile: Hostile) -> None:
        """With none of them allowed, only clients that send no Origin, which are no browsers, get in."""
        for rule in (False, []):
            async with hostile(allowedOrigins=rule) as here:
                for origin in (GOOD, "null", "*", ""):
                    assert (await answered(here, http("GET", target(), [("Origin", origin)]))).status == 403
                await here.end(await here.open())

    @pytest_twisted.ensureDeferred
    async def test_scripts(self, hostile: Hostile) -> None:
        """A script tag sends none either, whatever page it is on: where not all pages may, none gets in that way."""
        async with hostile(allowedOrigins=[GOOD]) as here:
            before = dict(here.server.clients)
            for headers in ([], [("Origin", EVIL)], [("Referer", GOOD)]):
                response = await answered(here, http("GET", target(j=0), headers))
                assert (response.status, response.json["code"]) == (403, 4)
            assert here.server.clients == before

    @pytest_twisted.ensureDeferred
    async def test_withCORS(self, hostile: Hostile) -> None:
        """A page that may read answers isn't one that may open sessions; it may read that."""
        async with hostile(allowedOrigins=[GOOD], cors={"origin": True}) as here:
            assert (await answered(here, preflight(target(), EVIL))).status == 204
            response = await answered(here, http("GET", target(), [("Origin", EVIL)]))
            assert (response.status, response.headers[ALLOW]) == (403, EVIL)


@pytest_twisted.ensureDeferred
async def test_slowPreflight(hostile: Hostile) -> None:
    """A preflight request whose body never comes has a deadline too."""
    async with hostile(cors={"origin": True}, pingInterval=200, pingTimeout=400) as here:
        wire = await here.say(http("OPTIONS", target(), [("Origin", GOOD), ("Content-Length", "100")]) + b"x")
        assert b" 20" not in await wire.lost()


# Any header

rules = st.one_of(
    st.sampled_from(["*", True, False, GOOD, (GOOD,), re.compile("."), (re.compile("good"), EVIL), ()]),
    st.from_regex(r"[!-~]{1,10}", fullmatch=True),
)
someOrigins = st.one_of(st.none(), st.text(max_size=20), st.sampled_from([GOOD, EVIL, "null", GOOD + "\r\nx: y"]))


@settings(max_examples=300, deadline=None)
@given(
    rules,
    someOrigins,
    st.booleans(),
    st.one_of(st.none(), st.text(max_size=20), st.text("abc-, \r\n", max_size=12)),
    st.booleans(),
    st.one_of(st.none(), st.lists(st.from_regex(r"[a-z-]{1,5}", fullmatch=True), max_size=3)),
)
def test_anyOrigin(
    rule: Any,
    origin: str | None,
    isPreflight: bool,
    asked: str | None,
    credentials: bool,
    allowedHeaders: list[str] | None,
) -> None:
    """Whatever a client sends, what is answered is fit for a header, and says no more than the rule."""
    cors = Cors(credentials=credentials, allowedHeaders=allowedHeaders)
    said = corsHeaders(cors, rule, origin, isPreflight, asked)
    for value in [*said.headers.values(), *said.vary]:
        assert value.isascii()
        assert value.isprintable()
    allowed = said.headers.get("Access-Control-Allow-Origin")
    if allowed is not None:
        assert allowed in ("*", rule) or (allowed == origin and originAllowed(rule, origin))
        assert allowed == "*" or "Origin" in said.vary
    assert "Access-Control-Allow-Credentials" not in said.headers or (credentials and allowed not in ("*", None))
    assert isPreflight or "Access-Control-Allow-Methods" not in said.headers
