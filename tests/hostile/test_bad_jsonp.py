"""What a hostile or broken client may say where answers are scripts, and POSTs are forms."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st

from engineio_twisted.protocol.errors import DecodeError
from engineio_twisted.transports.jsonp import payloadOfForm, scriptOf

from ..kit.wire import (
    BINARY,
    SEPARATOR,
    Arena,
    Frame,
    Hostile,
    Response,
    Wire,
    arena,
    eventually,
    http,
    makeFrame,
    target,
    upgrade,
)

pytestmark = pytest.mark.everySite

FORM = [("Content-Type", "application/x-www-form-urlencoded")]


def script(response: Response, index: str = "0") -> str:
    """The payload in an answer, which has to be a script that calls a function with one string."""
    assert response.status == 200
    assert response.headers["content-type"] == "text/javascript; charset=UTF-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    text = response.body.decode()
    found = re.fullmatch(rf'___eio\[{index}\]\(("(?:[^"\\]|\\.)*")\);', text)
    assert found, text
    # What ends a line in a script, and would break the string.
    assert not set("\n\r\u2028\u2029") & set(text)
    payload: str = json.loads(found[1])
    return payload


async def openJSONP(here: Arena, index: str = "0", **query: object) -> str:
    """Open a session; return its id."""
    digits = "".join(each for each in index if each in string.digits)
    response = await here.ask(http("GET", target(j=quote(index), **query)))
    return str(json.loads(script(response, digits)[1:])["sid"])


async def post(here: Arena, sid: str, body: bytes, headers: list[tuple[str, str]] | None = None) -> Response:
    """Send a form."""
    return await here.ask(http("POST", target(sid=sid, j=0), FORM if headers is None else headers, body))


async def poll(here: Arena, sid: str) -> Wire:
    """Have a GET wait, and make sure that it does."""
    wire = await here.say(http("GET", target(sid=sid, j=0)))
    await eventually(lambda: here.server.clients[sid].transport.writable, "a waiting GET")
    return wire


async def goesOn(here: Arena, sid: str) -> None:
    """Make sure that a session works, in both directions, and end it as a client does."""
    here.server.clients[sid].send("to the client")
    assert script(await here.get(sid, j=0)).endswith("4to the client")
    before = len(here.records[sid].messages)
    assert (await post(here, sid, b"d=4still+here")).body == b"ok"
    assert here.records[sid].messages[before:] == ["still here"]
    assert (await post(here, sid, b"d=1")).body == b"ok"
    assert await here.records[sid].closed() == ("transport close", "close packet")


class TestIndex:
    """The parameter `j`, of which something comes back in a script."""

    @pytest.mark.parametrize(
        ("given", "digits"),
        [
            ("0", "0"),
            ("00", "00"),
            ("1);alert(1", "11"),
            ("<script>7", "7"),
            ("-1", "1"),
            ("1e9", "19"),
            ("0x10", "010"),
            ("1\r\nSet-Cookie: a=2", "12"),
            ("1\0", "1"),
            ("1\u2028", "1"),
            ("1\N{ARABIC-INDIC DIGIT TWO}\N{FULLWIDTH DIGIT THREE}\N{SUPERSCRIPT TWO}", "1"),
            ("]]>1", "1"),
            ("x" * 5000 + "1", "1"),
            ("9" * 3_000, "9" * 3_000),
        ],
        ids=lambda value: ascii(value[:20]),
    )
    @pytest_twisted.ensureDeferred
    async def test_digits(self, hostile: Hostile, given: str, digits: str) -> None:
        """Nothing but its digits does, on each answer."""
        async with hostile() as here:
            sid = await openJSONP(here, given)
            here.server.clients[sid].send("x")
            assert script(await here.get(sid, j=quote(given)), digits) == "4x"
            assert (await post(here, sid, b"d=1")).body == b"ok"

    @pytest.mark.parametrize(
        "given",
        [
            "",
            "x",
            "<script>",
            "\N{ARABIC-INDIC DIGIT ONE}",
            "\N{FULLWIDTH DIGIT ONE}",
            "\N{SUPERSCRIPT TWO}",
            "-",
            "\0",
        ],
        ids=ascii,
    )
    @pytest_twisted.ensureDeferred
    async def test_none(self, hostile: Hostile, given: str) -> None:
        """Where it has none the script would be broken: there is no session, and no script."""
        async with hostile() as here:
            response = await here.ask(http("GET", target(j=quote(given))))
            assert response.status == 400
            assert response.json == {"code": 3, "message": "Bad request"}
            assert here.refusals[-1].context == {"name": "INVALID_JSONP_INDEX", "j": given}

    @pytest.mark.parametrize("query", ["j=0&j=1", "j=&j=1", "j=1&j"])
    @pytest_twisted.ensureDeferred
    async def test_twice(self, hostile: Hostile, query: str) -> None:
        """One that comes with two values is refused."""
        async with hostile() as here:
            response = await here.ask(http("GET", target() + "&" + query))
            text = "Bad request: the query parameter j comes with different values"
            assert response.json == {"code": 3, "message": text}
            assert here.refusals[-1].context["name"] == "DUPLICATE_PARAMETER"

    @pytest_twisted.ensureDeferred
    async def test_later(self, hostile: Hostile) -> None:
        """What the handshake said holds: neither leaving it out later, nor changing it, changes anything."""
        async with hostile() as here:
            sid = await openJSONP(here, "5")
            for query in ({}, {"j": 6}, {"j": "x"}, {"j": "alert(1)"}):
                here.server.clients[sid].send("x")
                assert script(await here.get(sid, **query), "5") == "4x"
            assert (await here.post(sid, "d=4y")).body == b"ok"
            assert here.records[sid].messages == ["y"]
            assert (await post(here, sid, b"d=1")).body == b"ok"
            sid = await here.open()
            here.server.clients[sid].send("x")
            response = await here.get(sid, j=5)
            assert response.packets == ["4x"]
            assert response.headers["content-type"].startswith("text/plain")
            await here.goesOn(sid)

    @pytest.mark.parametrize("code", range(6))
    @pytest_twisted.ensureDeferred
    async def test_refused(self, hostile: Hostile, code: int) -> None:
        """What is refused is answered as everywhere: no script, and nothing a browser would run as one."""
        async with hostile(allowRequest=lambda request: b"x-forbidden" not in request.uri) as here:
            method, query = {
                0: ("GET", {"transport": "nope"}),
                1: ("GET", {"sid": "unknown"}),
                2: ("POST", {}),
                3: ("GET", {"j": "x"}),
                4: ("GET", {"x-forbidden": 1}),
                5: ("GET", {"EIO": 3}),
            }[code]
            response = await here.ask(http(method, target(**{"j": "1);alert(1", **query}), body=b"d=4x"))
            assert response.status == (403 if code == 4 else 400)
            assert response.json["code"] == code
            assert b"alert" not in response.body


BAD_FORMS = {
    "nothing": b"",
    "no field": b"4x",
    "another field": b"e=4x",
    "upper case": b"D=4x",
    "array": b"d[]=4x",
    "no value": b"d",
    "empty": b"d=",
    "twice": b"d=4x&d=4y",
    "twice, once empty": b"d=4x&d=",
    "twice in disguise": b"d=4x&%64=4y",
    "behind many fields": b"a=1&" * 3000 + b"d=4x",
    "before many fields": b"d=4x" + b"&a=1" * 3000,
    "a megabyte of fields": b"a&" * 499_990 + b"d=4x",
    "a megabyte of ampersands": b"&" * 999_990 + b"d=4x",
    "a megabyte of equals": b"=" * 999_990,
    "not UTF-8": b"d=4\xff",
    "not UTF-8 in another field": b"a=\xff&d=4x",
    "not UTF-8 in a name": b"\xff=1&d=4x",
    "not UTF-8 when unquoted": b"d=4%ff",
    "not UTF-8 when unquoted, in another field": b"d=4x&a=%ff",
    "cut UTF-8": b"d=4%e2%82",
    "surrogate": b"d=4%ed%a0%80",
    "surrogate pair": b"d=4%ed%a0%bd%ed%b8%80",
    "a megabyte of percent": b"d=7" + b"%" * 999_990,
    "a megabyte of escapes": b"d=" + b"%5cn" * 249_990,
    "no packet": b"d=7",
    "no base64": b"d=b!!!!",
    "multipart": b'--x\r\nContent-Disposition: form-data; name="d"\r\n\r\n4x\r\n--x--\r\n',
    "JSON": b'{"d":"4x"}',
    "script": b'd="4x"',
}


class TestForm:
    """The forms that carry payloads."""

    @pytest.mark.parametrize("body", BAD_FORMS.values(), ids=list(BAD_FORMS))
    @pytest_twisted.ensureDeferred
    async def test_broken(self, hostile: Hostile, body: bytes) -> None:
        """One that carries none, or is none, gets 400 and ends the session with `parse error`."""
        async with hostile() as here:
            sid = await openJSONP(here)
            waiting = await poll(here, sid)
            response = await post(here, sid, body)
            assert response.status == 400
            assert len(response.json["message"]) < 500
            assert (await here.records[sid].closed())[0] == "parse error"
            assert here.records[sid].messages == []
            assert script(await waiting.response()) == "1"

    @pytest_twisted.ensureDeferred
    async def test_inside(self, hostile: Hostile) -> None:
        """What comes before a break in the payload is delivered."""
        async with hostile(echoes=False) as here:
            sid = await openJSONP(here)
            waiting = await poll(here, sid)
            response = await post(here, sid, b"d=4first%1ebAQID%1e7%1e4last")
            assert response.status == 400
            assert (await here.records[sid].closed())[0] == "parse error"
            assert here.records[sid].messages == ["first", b"\1\2\3"]
            assert script(await waiting.response()) == "1"

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"d=4a+b", "a b"),
            (b"d=4a%2Bb", "a+b"),
            (b"d=4%", "%"),
            (b"d=4%zz%4", "%zz%4"),
            (b"d=4%u0041", "%u0041"),
            (b"d=4%00", "\0"),
            (b"d=4x;d=4y", "x;d=4y"),
            (b"d=4x=y", "x=y"),
            (b"&&d=4x&&", "x"),
            (b"a=1&d=4x&b", "x"),
            (b"%64=4x", "x"),
            ("d=4\u2028€😀".encode(), "\u2028€😀"),
            (b"d=4a\\nb", "a\nb"),
            (b"d=4a\\\\nb", "a\\nb"),
            (b"d=4a\\\\\\nb", "a\\\\nb"),
            (b"d=4a\\", "a\\"),
            (b"d=4a\r\nb\nc", "a\rb\nc"),
            (b"d=4<script>alert(1)</script>", "<script>alert(1)</script>"),
            (b"d=bAQ%3D%3D", b"\1"),
            (b"d=bAQ==", b"\1"),
        ],
        ids=ascii,
    )
    @pytest_twisted.ensureDeferred
    async def test_odd(self, hostile: Hostile, body: bytes, message: str | bytes) -> None:
        """One that is unusual, or broken in a way that forms are read in spite of, is read as everywhere."""
        async with hostile() as here:
            sid = await openJSONP(here)
            assert (await post(here, sid, body)).body == b"ok"
            assert here.records[sid].messages == [message]
            echo = script(await here.get(sid, j=0))
            assert echo == ("bAQ==" if isinstance(message, bytes) else "4" + message)
            await goesOn(here, sid)

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [("Content-Type", "")],
            [("Content-Type", "text/plain")],
            [("Content-Type", "application/octet-stream")],
            [("Content-Type", "application/x-www-form-urlencoded; charset=utf-16")],
            [("Content-Type", "multipart/form-data")],
            [("Content-Type", ";;;")],
        ],
        ids=lambda headers: str(dict(headers).get("Content-Type")),
    )
    @pytest_twisted.ensureDeferred
    async def test_contentType(self, hostile: Hostile, headers: list[tuple[str, str]]) -> None:
        """Whatever it says that it is, it is a form."""
        async with hostile() as here:
            sid = await openJSONP(here)
            assert (await post(here, sid, "d=4%E2%82%AC€".encode(), headers)).body == b"ok"
            assert here.records[sid].messages == ["€€"]
            await goesOn(here, sid)

    @pytest.mark.parametrize("isChunked", [False, True], ids=["length", "chunked"])
    @pytest_twisted.ensureDeferred
    async def test_tooLarge(self, hostile: Hostile, isChunked: bool) -> None:
        """What counts is its size as it comes, before it is unquoted: 413, and the session ends."""
        async with hostile(maxHttpBufferSize=1000) as here:
            sid = await openJSONP(here)
            # As a message it would be a third of that.
            body = b"d=4" + b"%20" * 333
            assert len(body) == 1002
            if isChunked:
                headers = [*FORM, ("Transfer-Encoding", "chunked")]
                wire = await here.say(http("POST", target(sid=sid), headers) + b"%x\r\n%b\r\n" % (len(body), body))
                response = await wire.response()
            else:
                response = await post(here, sid, body)
            assert response.status == 413
            assert "maxHttpBufferSize" in response.json["message"]
            assert here.records[sid].messages == []
            assert (await here.records[sid].closed())[0] == "transport error"
            sid = await openJSONP(here)
            assert (await post(here, sid, body[:-3] + b"x")).body == b"ok"
            assert here.records[sid].messages == [" " * 332 + "x"]
            assert script(await here.get(sid)) == "4" + here.records[sid].messages[0]
            await goesOn(here, sid)

    @pytest_twisted.ensureDeferred
    async def test_revision3(self, hostile: Hostile) -> None:
        """In revision 3 a length counts what comes out of the form."""
        async with hostile(allowEIO3=True, echoes=False) as here:
            response = await here.ask(http("GET", target(EIO=3, j=0)))
            length, _, packet = script(response).partition(":")
            assert int(length) == len(packet)
            sid = json.loads(packet[1:])["sid"]
            body = b"d=" + quote_plus("4:4€\\n😀" + "6:b4AQID").encode()
            where = target(EIO=3, sid=sid, j=0)
            assert (await here.ask(http("POST", where, FORM, body.replace(b"4%3A4", b"5%3A4", 1)))).body == b"ok"
            assert here.records[sid].messages == ["€\n😀", b"\1\2\3"]
            here.server.clients[sid].send(b"\1\2\3").send("€😀")
            assert script(await here.get(sid, EIO=3)) == "6:b4AQID4:4€😀"
            response = await here.ask(http("POST", where, FORM, b"d=2:4x99:4y"))
            assert response.status == 400
            assert (await here.records[sid].closed())[0] == "parse error"
            assert here.records[sid].messages[2:] == ["x"]


TROUBLE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "a\u2028b\u2029c",
    '");alert(1);("',
    "\\",
    "\\u2028",
    "\\n",
    "\r\n",
    "".join(map(chr, range(256))),
    "\ufeff\ufffe\uffff😀",
    "]]>",
    "*/",
    "${1}`",
]


class TestScript:
    """What the application sends."""

    @pytest_twisted.ensureDeferred
    async def test_anyMessage(self, hostile: Hostile) -> None:
        """It arrives as it was sent, whatever it would mean in a script, and is never more than a string in it."""
        async with hostile() as here:
            sid = await openJSONP(here)
            # The format of a payload has no way to write its own separator.
            messages = [each.replace(SEPARATOR, "") for each in TROUBLE]
            for each in messages:
                here.server.clients[sid].send(each)
                assert script(await here.get(sid)) == "4" + each
            for each in messages:
                here.server.clients[sid].send(each)
            assert script(await here.get(sid)).split(SEPARATOR) == ["4" + each for each in messages]
            here.server.clients[sid].send(bytes(range(256)))
            assert script(await here.get(sid)).startswith("bAAECAwQF")
            await goesOn(here, sid)

    @pytest_twisted.ensureDeferred
    async def test_overlap(self, hostile: Hostile) -> None:
        """A second GET ends the session: it gets 400, and the first is told of the end by a script."""
        async with hostile() as here:
            sid = await openJSONP(here)
            waiting = await poll(here, sid)
            response = await here.get(sid, j=0)
            assert response.status == 400
            assert "message" in response.json
            assert script(await waiting.response()) == "1"
            assert (await here.records[sid].closed())[0] == "transport error"

    @pytest_twisted.ensureDeferred
    async def test_lost(self, hostile: Hostile) -> None:
        """A client that vanishes while it polls is noticed at once."""
        async with hostile() as here:
            sid = await openJSONP(here)
            (await poll(here, sid)).drop()
            assert await here.records[sid].closed() == ("transport error", "poll connection closed prematurely")

    @pytest_twisted.ensureDeferred
    async def test_close(self, hostile: Hostile) -> None:
        """A close packet ends a waiting GET with a noop, in a script."""
        async with hostile() as here:
            sid = await openJSONP(here)
            waiting = await poll(here, sid)
            assert (await post(here, sid, b"d=1%1e4after")).body == b"ok"
            assert script(await waiting.response()) == "6"
            assert here.records[sid].messages == []


class TestUpgrade:
    """A WebSocket for a session whose answers were scripts."""

    @pytest.mark.parametrize("j", [None, "0", "7", "x"])
    @pytest_twisted.ensureDeferred
    async def test_upgrade(self, hostile: Hostile, j: str | None) -> None:
        """It is a WebSocket like any other, and takes bytes as they are; nothing is lost on the way."""
        async with hostile() as here:
            sid = await openJSONP(here)
            waiting = await poll(here, sid)
            where = target(transport="websocket", sid=sid, j=j)
            wire = await here.webSocket(upgrade(where), makeFrame("2probe"))
            assert await wire.text() == "3probe"
            assert script(await waiting.response()) == "6"
            here.server.clients[sid].send("</script>").send(b"\1\2")
            wire.send(makeFrame("5") + makeFrame("4\\n") + makeFrame(b"\0"))
            assert await wire.text() == "4</script>"
            assert await wire.frame() == Frame(BINARY, b"\1\2")
            assert await wire.text() == "4\\n"
            assert await wire.frame() == Frame(BINARY, b"\0")
            assert here.server.clients[sid].upgraded
            assert (await post(here, sid, b"d=4x")).status == 400
            assert here.records[sid].messages == ["\\n", b"\0"]
            wire.send(makeFrame("1"))
            assert await wire.closed() == 1000

    @pytest.mark.parametrize("frames", [["2probe", "4data"], ["d=2probe"], [b"2probe"]], ids=str)
    @pytest_twisted.ensureDeferred
    async def test_wrong(self, hostile: Hostile, frames: list[str | bytes]) -> None:
        """One that doesn't do as it should is closed, and the session goes on."""
        async with hostile() as here:
            sid = await openJSONP(here)
            wire = await here.candidate(sid, *(makeFrame(each) for each in frames))
            if frames[0] == "2probe":
                assert await wire.text() == "3probe"
            assert await wire.closed() == 1000
            await goesOn(here, sid)

    @pytest_twisted.ensureDeferred
    async def test_opened(self, hostile: Hostile) -> None:
        """A session opened on WebSocket doesn't care for an index."""
        async with hostile() as here:
            wire = await here.webSocket(upgrade(target(transport="websocket", j="alert(1)")), makeFrame("4x"))
            assert (await wire.text())[0] == "0"
            assert await wire.text() == "4x"


@pytest_twisted.ensureDeferred
async def test_stockSite(atResource: Callable[..., Any]) -> None:
    """On a site of twisted.web's own, which reads forms itself, a form carries a payload all the same."""
    async with arena(atResource) as here:
        sid = await openJSONP(here)
        assert (await post(here, sid, b"d=4a+b%E2%82%AC&sid=other&transport=nope")).body == b"ok"
        assert here.records[sid].messages == ["a b€"]
        assert script(await here.get(sid)) == "4a b€"
        await goesOn(here, sid)


# Any form


def payloadOf(body: bytes) -> str:
    reading = payloadOfForm(body)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return str(end.value)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=40), st.text("d=&%+\\n4abcdef0é", max_size=30).map(str.encode)))
def test_anyForm(body: bytes) -> None:
    """A body is a form with one payload, or DecodeError says that it isn't."""
    try:
        payload = payloadOf(body)
    except DecodeError as error:
        text = str(error)
        assert len(text) < 500
        return
    payload.encode()


@settings(max_examples=200, deadline=None)
@given(st.text("ab\\n\n\r&=%+€😀\u2028", max_size=20))
def test_asClientsWriteIt(payload: str) -> None:
    """What the client's script does to a payload, and its browser to a form, is undone."""
    # The format has no way to write a backslash right before a newline.
    if "\\\n" in payload:
        return
    escaped = payload.replace("\\n", "\\\n").replace("\n", "\\n")
    asForm = escaped.replace("\r", "\r\n")
    assert payloadOf(b"d=" + quote_plus(asForm).encode()) == payload


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20))
def test_anyPayload(payload: str) -> None:
    """Whatever is sent is one string in a script of one line."""
    text = scriptOf(payload, "0").decode()
    assert not set("\n\r\u2028\u2029") & set(text)
    assert text.startswith('___eio[0]("')
    assert text.endswith('");')
    assert json.loads(text[len("___eio[0](") : -2]) == payload
