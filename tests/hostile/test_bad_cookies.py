"""The cookie with the session's id, where its settings, or the id, try to be more than that."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent

from engineio_twisted import OptionError
from engineio_twisted.protocol.headers import cookieHeader
from engineio_twisted.protocol.option_parts import Cookie
from engineio_twisted.protocol.options import ServerOptions

from ..kit.engines import ENGINES
from ..kit.wire import Arena, Hostile, Response, http, target, upgrade

pytestmark = pytest.mark.everySite

BAD_SETTINGS: list[tuple[str, Any]] = [
    *(
        ("name", each)
        for each in (
            "",
            "a b",
            "a;b",
            "a=b",
            "a,b",
            'a"',
            "a\r\nb",
            "a\n",
            "é",
            "\0",
            "a\x7f",
            "\ud800",
            None,
            5,
            b"io",
        )
    ),
    *(
        ("path", each)
        for each in (
            "",
            "x",
            "/a;b",
            "/; Domain=evil",
            "/a\r\nb",
            "/a\n",
            "/é",
            "/\0",
            "/\x7f",
            "/\ud800",
            5,
            b"/",
            True,
        )
    ),
    *(
        ("domain", each)
        for each in ("", "a b", "a;b", "a.example; Secure", "a\r\nb", "a.example\n", "é.example", "a..b", "-;", "*", 5)
    ),
    *(("sameSite", each) for each in ("", "nope", "lax; Secure", "lax\n", 5)),
    *(("priority", each) for each in ("", "nope", "high; Secure", "high\r\n", 5, True)),
    *(("maxAge", each) for each in ("5", 5.0, True, "5; Secure")),
    *(("expires", each) for each in ("tomorrow", 5, datetime(2030, 1, 1))),
    *((each, "yes") for each in ("httpOnly", "secure", "partitioned")),
    *((each, 1) for each in ("httpOnly", "secure", "partitioned")),
]


@pytest.mark.parametrize(("part", "value"), BAD_SETTINGS, ids=ascii)
def test_settings(part: str, value: Any) -> None:
    """What would be more than the setting that it is given for is refused, by the setting's name."""
    with pytest.raises(OptionError) as error:
        ServerOptions(cookie={part: value})
    assert error.value.name == f"cookie.{part}"
    with pytest.raises(OptionError) as error:
        Cookie(**{part: value})
    assert error.value.name == part


@pytest.mark.parametrize("value", ["io", 5, ["io"], [("name", "io")], b"io", object()])
def test_noSettings(value: Any) -> None:
    """What is no settings at all is refused too."""
    with pytest.raises(OptionError) as error:
        ServerOptions(cookie=value)
    assert error.value.name == "cookie"


@pytest.mark.parametrize("name", ["Name", "httponly", "max-age", "", "name\r\n", 5, None])
def test_names(name: Any) -> None:
    """And what is the name of no setting."""
    with pytest.raises(OptionError) as error:
        ServerOptions(cookie={name: "x"})
    assert error.value.name == f"cookie.{name}"


IDS = [
    "a;b",
    "a; Domain=evil.example; Path=/",
    "a b",
    'a"b"',
    "a,b",
    "a=b",
    "a\\b",
    "a\r\nSet-Cookie: b=c",
    "a\r\n\r\nHTTP/1.1 200 OK",
    "a\nb",
    "a\0b",
    "a\x7fb",
    "a\x85\u2028b",
    "é€😀",
    "%3B",
    "%",
    "+",
    " ",
    "a/../b?c#d&e",
    "<script>",
    "__proto__",
    "x" * 3000,
]


async def opening(here: Arena, transport: str) -> Response:
    wire = await here.say(http("GET", target()) if transport == "polling" else upgrade())
    return await wire.response()


class TestIds:
    """Ids of an application's own making."""

    @pytest.mark.parametrize("engine", ENGINES, ids=lambda each: each.__name__)
    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_encoded(self, hostile: Hostile, transport: str, engine: Any) -> None:
        """Whatever is in one, it is the cookie's value and nothing else, and what comes back is the id."""
        async with hostile(cookie=True, wsEngine=engine) as here:
            for sid in IDS:
                here.server.generateId = lambda request, sid=sid: sid
                response = await opening(here, transport)
                value, *attributes = response.headers["set-cookie"].split("; ")
                assert attributes == ["Path=/", "HttpOnly", "SameSite=Lax"], sid
                name, _, encoded = value.partition("=")
                assert (name, unquote(encoded)) == ("io", sid)
                assert not set(encoded) & set(' ",;\\')
                assert encoded.isascii()
                assert encoded.isprintable()
                if transport == "polling":
                    here.server.clients[sid].send("x")
                    assert (await here.get(quote(sid, safe=""))).packets == ["4x"], sid
                here.server.clients[sid].close(True)

    @pytest.mark.parametrize("cookie", [True, False], ids=["cookie", "no cookie"])
    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest.mark.parametrize("sid", ["\ud800", "a\udfffb"], ids=ascii)
    @pytest_twisted.ensureDeferred
    async def test_surrogate(
        self, hostile: Hostile, transport: str, sid: str, cookie: bool, loggedErrors: list[LogEvent]
    ) -> None:
        """One that no address can hold is the application's failure, as no client could ever use it."""
        async with hostile(cookie=cookie) as here:
            here.server.generateId = lambda request: sid
            response = await opening(here, transport)
            left = here.server.clients.get(sid)
            if left is not None:
                left.close(True)
            assert response.status == 400
            assert left is None
            assert here.refusals[-1].context["name"] == "ID_GENERATION_ERROR"
            assert len(loggedErrors) == 1
            loggedErrors.clear()


class TestOtherCookies:
    """Cookies of the application beside it."""

    @pytest.mark.parametrize("how", ["addCookie", "setHeader", "headers", "initial_headers"])
    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest_twisted.ensureDeferred
    async def test_both(self, hostile: Hostile, transport: str, how: str) -> None:
        """One set by a middleware, or added by a handler, doesn't take its place, nor it that one's."""

        def middleware(request: Any) -> None:
            if how == "addCookie":
                request.addCookie(b"mine", b"1")
            elif how == "setHeader":
                request.setHeader("Set-Cookie", "mine=1")

        def headers(headers: Any, request: Any) -> None:
            there = headers.get("Set-Cookie", [])
            headers["Set-Cookie"] = [*([there] if isinstance(there, str) else there), "mine=1"]

        async with hostile(cookie=True) as here:
            here.server.use(middleware)
            if how in ("headers", "initial_headers"):
                here.server.on(how, headers)
            wire = await here.say(http("GET", target()) if transport == "polling" else upgrade())
            await wire.until(lambda: b"\r\n\r\n" in wire.received, "the answer")
            lines = bytes(wire.received).partition(b"\r\n\r\n")[0].decode().split("\r\n")
            cookies = [each.partition(": ")[2].partition("=")[0] for each in lines if each.startswith("Set-Cookie: ")]
            for each in list(here.server.clients.values())[2:]:
                each.close(True)
            assert sorted(cookies) == ["io", "mine"]


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=20))
def test_anyId(sid: str) -> None:
    """There is no id that adds an attribute."""
    value = cookieHeader(Cookie(), sid)
    assert value.isascii()
    assert value.isprintable()
    assert value.endswith("; Path=/; HttpOnly; SameSite=Lax")
    assert unquote(value.removeprefix("io=").partition(";")[0]) == sid
