"""Which kind of failure it is, of what Twisted reports and of what a response says."""

from __future__ import annotations

from typing import Any

import pytest
from OpenSSL.SSL import Error as OpenSSLError
from service_identity import VerificationError
from twisted.internet import error as errors
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.web.client import RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from engineio_twisted.client import ConnectionFailed, FailureType
from engineio_twisted.client.failures import failureOf, failureOfResponse

UNTRUSTED = OpenSSLError([("SSL routines", "", "certificate verify failed")])


@pytest.mark.parametrize(
    ("error", "type_", "description"),
    [
        (errors.DNSLookupError("no results for x.test"), "dns", "no results"),
        (errors.ConnectionRefusedError(111, "refused"), "connect", "refused"),
        (errors.NoRouteError(113, "no route"), "connect", "no route"),
        (errors.ConnectError(osError=2, string="no such file"), "connect", "no such file"),
        (PermissionError(13, "denied"), "connect", "denied"),
        (errors.TCPTimedOutError(110, "timed out"), "timeout", "timed out"),
        (errors.TimeoutError(), "timeout", "timed out|timeout"),
        (CancelledError(), "timeout", "CancelledError"),
        (UNTRUSTED, "tls", "TLS failed: certificate verify failed"),
        (OpenSSLError(-1, "Unexpected EOF"), "tls", "TLS failed: the connection was closed"),
        (VerificationError(errors=[]), "tls", "certificate is for another name"),
        (errors.ConnectionLost("reset"), "lost", "reset"),
        (errors.ConnectionDone(), "lost", "closed"),
        (errors.ConnectionAborted(), "lost", "abort"),
        (PotentialDataLoss(), "lost", "may be incomplete"),
        (ResponseNeverReceived([Failure(errors.ConnectionLost("reset"))]), "lost", "reset"),
        (ResponseNeverReceived([Failure(errors.ConnectionDone()), Failure(UNTRUSTED)]), "tls", "verify failed"),
        (RequestTransmissionFailed([Failure(errors.ConnectionLost("gone"))]), "lost", "gone"),
        (ResponseFailed([Failure(errors.ConnectionDone())]), "lost", "closed"),
        (ResponseFailed([Failure(ValueError("wrong number of parts"))]), "not engine.io", "isn't HTTP: wrong number"),
        (RuntimeError("mine\nis other"), "connect", "^mine is other$"),
    ],
)
def test_errorsOfConnections(error: BaseException, type_: str, description: str) -> None:
    """Each has its type, however deep it is in what an agent reports, and one line says why."""
    for reason in (error, Failure(error)):
        failed = failureOf(reason, "polling")
        assert failed.type == type_
        assert failed.transport == "polling"
        assert failed.response is None
    with pytest.raises(ConnectionFailed, match=description):
        raise failed


def test_whatATunnelSaysStays() -> None:
    """A failure that names itself stays, inside of what an agent makes of it too, and learns its transport."""
    refused = ConnectionFailed(FailureType.PROXY, "status 407")
    assert failureOf(ResponseNeverReceived([Failure(refused)]), "polling") is refused
    assert refused.transport == "polling"
    assert failureOf(refused, "websocket").transport == "polling"


HTML = {"Content-Type": ["text/html"]}


@pytest.mark.parametrize(
    ("status", "headers", "body", "type_", "description"),
    [
        (302, {"Location": ["https://login.test/"]}, b"", "redirect", "to https://login.test/, which"),
        (304, {}, b"", "redirect", "304"),
        (401, {}, b"", "authentication", "401"),
        (407, {}, b"", "proxy", "407"),
        (429, {"Retry-After": ["7"]}, b"", "unavailable", "429.*try again in 7 s"),
        (502, HTML, b"<h1>Bad Gateway</h1>", "unavailable", "502"),
        (503, {}, b'{"message":"the server is closing"}', "unavailable", "503.*: the server is closing"),
        (504, {}, b"", "unavailable", "504"),
        (400, {}, b'{"code":1,"message":"Session ID unknown"}', "refused", "Session ID unknown .status 400, code 1"),
        (403, {}, b'{"message":"not you"}', "refused", "not you .status 403"),
        (400, {}, b'{"code":true}', "http", "400"),
        (404, HTML, b"<h1>Not Found</h1>", "http", "404, expected 200: '<h1>Not Found"),
        (500, {}, b"[" * 4096, "http", "500"),
        (200, HTML, b"<!DOCTYPE html>", "not engine.io", "text/html.*DOCTYPE"),
        (200, {}, b"", "not engine.io", "without a content type"),
    ],
)
def test_responses(status: int, headers: dict[str, list[str]], body: bytes, type_: str, description: str) -> None:
    """Each status has its type; what the server says comes along, bounded."""
    failed = failureOfResponse(status, Headers(headers), body * 2 if not body.endswith(b"}") else body, "polling")
    assert failed.type == type_
    response: Any = failed.response
    assert response.status == status
    assert len(response.body) <= 4096
    with pytest.raises(ConnectionFailed, match=description):
        raise failed


def test_descriptionsAreBounded() -> None:
    """However long a server's text is, the line about it isn't."""
    long = "x" * 4000
    for status, headers, body in ((302, {"Location": [long]}, b""), (200, {"Content-Type": [long]}, long.encode())):
        assert len(str(failureOfResponse(status, Headers(headers), body))) < 400
    assert len(str(failureOfResponse(400, Headers(), b'{"message":"%b"}' % long.encode()))) < 400
