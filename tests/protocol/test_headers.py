"""Response headers as data: cookie, CORS, content coding, literally."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engineio_twisted.protocol.headers import contentCoding, cookieHeader, corsHeaders, originAllowed
from engineio_twisted.protocol.option_parts import Cookie, Cors

A = "https://a.example"


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({}, "io=SID; Path=/; HttpOnly; SameSite=Lax"),
        ({"name": "sticky"}, "sticky=SID; Path=/; HttpOnly; SameSite=Lax"),
        ({"path": "/engine.io"}, "io=SID; Path=/engine.io; HttpOnly; SameSite=Lax"),
        ({"path": None, "httpOnly": False, "sameSite": None}, "io=SID"),
        ({"httpOnly": False, "sameSite": False, "path": None}, "io=SID"),
        ({"sameSite": True}, "io=SID; Path=/; HttpOnly; SameSite=Strict"),
        ({"sameSite": "None", "secure": True}, "io=SID; Path=/; HttpOnly; Secure; SameSite=None"),
        ({"domain": "a.example"}, "io=SID; Domain=a.example; Path=/; HttpOnly; SameSite=Lax"),
        ({"maxAge": 60}, "io=SID; Max-Age=60; Path=/; HttpOnly; SameSite=Lax"),
        ({"maxAge": 0}, "io=SID; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"),
        (
            {"expires": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)},
            "io=SID; Path=/; Expires=Wed, 02 Jan 2030 03:04:05 GMT; HttpOnly; SameSite=Lax",
        ),
        (
            {"expires": datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))},
            "io=SID; Path=/; Expires=Wed, 02 Jan 2030 01:04:05 GMT; HttpOnly; SameSite=Lax",
        ),
        (
            {"secure": True, "partitioned": True, "priority": "High"},
            "io=SID; Path=/; HttpOnly; Secure; Partitioned; Priority=High; SameSite=Lax",
        ),
    ],
)
def test_cookie(settings: dict[str, Any], header: str) -> None:
    """Each setting is the attribute of that name."""
    assert cookieHeader(Cookie(**settings), "SID") == header


@pytest.mark.parametrize(
    ("sid", "value"),
    [
        ("a-b_c.~", "a-b_c.~"),
        ("a;b=c, d", "a%3Bb%3Dc%2C%20d"),
        ("\r\nX: y", "%0D%0AX%3A%20y"),
        ("é", "%C3%A9"),
        ('"', "%22"),
    ],
)
def test_idsInCookies(sid: str, value: str) -> None:
    """Whatever an application has made an id of, it adds no attribute and no header."""
    assert cookieHeader(Cookie(path=None, httpOnly=False, sameSite=None), sid) == f"io={value}"


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        ("*", [A, "null", None], []),
        (True, [A, "null", None], []),
        (False, [], [A, None]),
        (A, [A], ["https://a.example:8443", "http://a.example", "https://b.example", None, ""]),
        ((A, "https://b.example"), [A, "https://b.example"], ["https://c.example", None]),
        ((), [], [A, None]),
        (re.compile(r"^https://[a-z]+\.example$"), [A], ["https://a.example.evil", "http://a.example", None]),
        (re.compile(r"example"), [A, "https://example.evil"], ["https://other"]),
        ((re.compile("^http://localhost:"), A), ["http://localhost:3000", A], ["http://localhost"]),
    ],
)
def test_originAllowed(rule: Any, allowed: list[str | None], refused: list[str | None]) -> None:
    """One, a pattern that is found in it, a list of both, or all."""
    assert [each for each in allowed if not originAllowed(rule, each)] == []
    assert [each for each in refused if originAllowed(rule, each)] == []


def said(settings: dict[str, Any], origin: str | None = A, isPreflight: bool = False, asked: str | None = None) -> Any:
    cors = Cors(**settings)
    answer = corsHeaders(cors, cors.origin, origin, isPreflight, asked)
    prefix = "Access-Control-"
    return {name.removeprefix(prefix): value for name, value in answer.headers.items()}, answer.vary


ALLOW = "Allow-Origin"


@pytest.mark.parametrize(
    ("settings", "origin", "headers", "vary"),
    [
        ({}, A, {ALLOW: "*"}, []),
        ({}, None, {ALLOW: "*"}, []),
        ({"origin": A}, "https://b.example", {ALLOW: A}, ["Origin"]),
        ({"origin": [A]}, A, {ALLOW: A}, ["Origin"]),
        ({"origin": [A]}, "https://b.example", {}, ["Origin"]),
        ({"origin": [A]}, None, {}, ["Origin"]),
        ({"origin": re.compile(r"\.example$")}, A, {ALLOW: A}, ["Origin"]),
        ({"origin": True}, A, {ALLOW: A}, ["Origin"]),
        ({"origin": True}, "null", {ALLOW: "null"}, ["Origin"]),
        ({"origin": True}, None, {}, ["Origin"]),
        ({"origin": True}, "a b", {}, ["Origin"]),
        ({"origin": True}, "a\x00", {}, ["Origin"]),
        ({"origin": True}, "a\r\nX: y", {}, ["Origin"]),
        ({"origin": True}, "é", {}, ["Origin"]),
        ({"origin": False}, A, {}, []),
        ({"credentials": True}, A, {ALLOW: "*"}, []),
        ({"origin": [A], "credentials": True}, A, {ALLOW: A, "Allow-Credentials": "true"}, ["Origin"]),
        ({"origin": A, "credentials": True}, A, {ALLOW: A, "Allow-Credentials": "true"}, ["Origin"]),
        ({"origin": [A], "credentials": True}, "https://b.example", {}, ["Origin"]),
        ({"exposedHeaders": "X-A, X-B"}, A, {ALLOW: "*", "Expose-Headers": "X-A,X-B"}, []),
        ({"maxAge": 60, "methods": ["GET"], "allowedHeaders": ["X-A"]}, A, {ALLOW: "*"}, []),
    ],
)
def test_cors(settings: dict[str, Any], origin: str | None, headers: dict[str, str], vary: list[str]) -> None:
    """What a page of an origin is told on an ordinary request."""
    assert said(settings, origin) == (headers, vary)


METHODS = "GET,HEAD,PUT,PATCH,POST,DELETE"
REQUESTED = "Access-Control-Request-Headers"


@pytest.mark.parametrize(
    ("settings", "asked", "headers", "vary"),
    [
        ({}, None, {ALLOW: "*", "Allow-Methods": METHODS}, [REQUESTED]),
        ({}, "x-a, x-b", {ALLOW: "*", "Allow-Methods": METHODS, "Allow-Headers": "x-a, x-b"}, [REQUESTED]),
        ({}, "x-a\r\nx: b", {ALLOW: "*", "Allow-Methods": METHODS}, [REQUESTED]),
        ({}, "x-ä", {ALLOW: "*", "Allow-Methods": METHODS}, [REQUESTED]),
        ({"allowedHeaders": "X-A"}, "x-b", {ALLOW: "*", "Allow-Methods": METHODS, "Allow-Headers": "X-A"}, []),
        ({"allowedHeaders": []}, "x-b", {ALLOW: "*", "Allow-Methods": METHODS}, []),
        (
            {"methods": ["GET", "POST"], "maxAge": 5},
            None,
            {ALLOW: "*", "Allow-Methods": "GET,POST", "Max-Age": "5"},
            [REQUESTED],
        ),
        (
            {"origin": [A], "allowedHeaders": "X-A"},
            None,
            {ALLOW: A, "Allow-Methods": METHODS, "Allow-Headers": "X-A"},
            ["Origin"],
        ),
        ({"origin": False}, "x-a", {}, []),
    ],
)
def test_preflight(settings: dict[str, Any], asked: str | None, headers: dict[str, str], vary: list[str]) -> None:
    """What a page is told that asks first."""
    assert said(settings, A, True, asked) == (headers, vary)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ([], None),
        ([b""], None),
        ([b"gzip"], "gzip"),
        ([b"deflate"], "deflate"),
        ([b"gzip, deflate, br"], "gzip"),
        ([b"deflate, gzip"], "gzip"),
        ([b"deflate;q=1.0, gzip;q=0.5"], "deflate"),
        ([b"gzip;q=0"], None),
        ([b"gzip;q=0, deflate"], "deflate"),
        ([b"gzip;q=0.000"], None),
        ([b"*"], "gzip"),
        ([b"*;q=0.1, gzip;q=0"], "deflate"),
        ([b"*;q=0"], None),
        ([b"GZIP ; Q=0.5"], "gzip"),
        ([b"br"], None),
        ([b"identity"], None),
        ([b"gzip;q=0.5, identity"], None),
        ([b"identity;q=0.5, gzip"], "gzip"),
        ([b"identity;q=0, gzip;q=0.1"], "gzip"),
        ([b"br", b"deflate"], "deflate"),
        ([b"gzip;q=2"], None),
        ([b"gzip;q=-1"], None),
        ([b"gzip;q=abc"], None),
        ([b"gzip;level=1"], None),
        ([b"," * 1000 + b"gzip"], "gzip"),
        ([b"\xff\xfe"], None),
    ],
)
def test_contentCoding(accepted: list[bytes], coding: str | None) -> None:
    """The coding that the client likes best, the first of two that it likes the same; none where it prefers that."""
    assert contentCoding(accepted) == coding


@given(st.lists(st.binary()))
def test_anyAcceptEncoding(accepted: list[bytes]) -> None:
    """No header makes the choice fail."""
    assert contentCoding(accepted) in (None, "gzip", "deflate")
