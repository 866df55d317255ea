"""Responses whose headers and bodies are made to harm what describes them."""

from __future__ import annotations

import pytest
from twisted.web.http_headers import Headers

from engineio_twisted.client.errors import MAX_RETRY_AFTER, ConnectionFailed
from engineio_twisted.client.failures import failureOf, failureOfResponse

NASTY = [b"\xff\xfe", b"a\x1b[31mb", b"a\tb\x00c", b"x" * 10_000, b"\xed\xa0\x80", b""]


def assertShown(failure: ConnectionFailed) -> None:
    assert failure.description.isprintable()
    assert 0 < len(failure.description) < 1_000
    failure.description.encode()
    assert str(failure) == failure.description


@pytest.mark.parametrize("status", [200, 302, 401, 404, 503])
@pytest.mark.parametrize("value", NASTY)
def test_headers(status: int, value: bytes) -> None:
    """Whatever bytes a header has, the failure is one printable line."""
    headers = Headers({b"Location": [value], b"Content-Type": [value], b"Retry-After": [value]})
    failure = failureOfResponse(status, headers, b"")
    assertShown(failure)
    assert failure.response is not None
    assert failure.response.retryAfter is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"message":"a\\u001b[31m\\r\\nEvil: line"}',
        b'{"code":1,"message":"\\ud800"}',
        b'{"code":1,"message":"' + b"x" * 4_000 + b'"}',
        b'{"code":' + b"9" * 4_080 + b',"message":"x"}',
        b'{"code":true,"message":["x"]}',
        b"[" * 4_096,
        b"\xff" * 100,
        b"null",
    ],
)
def test_bodies(body: bytes) -> None:
    """So it is with whatever is in the body."""
    failure = failureOfResponse(400, Headers(), body)
    assertShown(failure)
    assert failure.response is not None
    assert failure.response.body == body[:4096]
    assert failure.response.code in (None, 1)
    assert isinstance(failure.response.text, str)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (b"120", 120.0),
        (b" 7 ", 7.0),
        (b"9" * 400, MAX_RETRY_AFTER),
        (b"Fri, 31 Dec 2038 23:59:59 GMT", MAX_RETRY_AFTER),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        (b"Fri, 31 Dec 0001 23:59:59 +2359", 0.0),
        (b"Fri, 31 Dec 9999 23:59:59 -9999", None),
        (b"Fri, 31 Dec 99999999999999999999999 23:59:59 GMT", None),
        (b"1 Jan 2020 " + b"9" * 5_000, None),
        (b"Fri, 99 Foo 99999 25:61:61", None),
        (b"\xd9\xa3", None),
        (b"-5", None),
        (b"1e3", None),
        (b"0x10", None),
        (b"soon", None),
    ],
)
def test_retryAfter(said: bytes, seconds: float | None) -> None:
    """When to come again is said in seconds, a day at most; what isn't a time is none."""
    failure = failureOfResponse(503, Headers({b"Retry-After": [said]}), b"")
    assertShown(failure)
    assert failure.response is not None
    assert failure.response.retryAfter == seconds


def test_errors() -> None:
    """An agent or an endpoint may fail with anything, too."""
    for error in (RuntimeError("a\r\n\x1b[31m" + "x" * 10_000), ValueError(), OSError(5, "\ud800")):
        assertShown(failureOf(error))
