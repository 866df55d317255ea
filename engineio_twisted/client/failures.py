"""From what Twisted reports of a connection, or a server says of a request, to the one error of a client."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet import error as errors
from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.python.failure import Failure
from twisted.web.client import RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from ..protocol.packet import excerpt
from .errors import MAX_BODY, ConnectionFailed, FailedResponse, FailureType

_TYPES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], FailureType], ...] = (
    ((errors.DNSLookupError, errors.UnknownHostError), FailureType.DNS),
    ((errors.SSLError, errors.CertificateError), FailureType.TLS),
    (
        (
            errors.TimeoutError,
            errors.TCPTimedOutError,
            errors.ConnectingCancelledError,
            CancelledError,
            DeferredTimeout,
            TimeoutError,
        ),
        FailureType.TIMEOUT,
    ),
    (errors.ConnectError, FailureType.CONNECT),
    ((errors.ConnectionClosed, errors.ConnectionLost, PotentialDataLoss), FailureType.LOST),
    (OSError, FailureType.CONNECT),
)
"""Kinds of errors, the more special ones first."""

_TLS_MODULES = ("OpenSSL", "service_identity")
"""What verifies and encrypts; neither is there without TLS, so that nothing is imported of them."""

_GATEWAY = (429, 502, 503, 504)


def _of(reason: Failure | BaseException | None) -> BaseException:
    error = reason.value if isinstance(reason, Failure) else reason
    return error if isinstance(error, BaseException) else Exception(str(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Return an error, and before it those that it holds because they caused it."""
    if isinstance(error, ResponseFailed | ResponseNeverReceived | RequestTransmissionFailed):
        for reason in error.reasons:
            yield from _causes(_of(reason))
    yield error


def failureOf(reason: Failure | BaseException, transport: str | None = None) -> ConnectionFailed:
    """
    Return what has failed when there is no connection, or none any more.

    @param reason: what the connection, its endpoint or its agent reported. A L{ConnectionFailed} is returned as it is.
    @param transport: the name of the transport that needed it.
    """
    causes = [*_causes(_of(reason))]
    for cause in causes:
        if isinstance(cause, ConnectionFailed):
            cause.transport = cause.transport or transport
            return cause
    # That a connection is lost says less than why.
    kinds = [(type_, cause) for cause in causes if (type_ := _typeOf(cause)) is not None]
    kinds.sort(key=lambda each: each[0] is FailureType.LOST)
    if not kinds:
        # An agent or an endpoint of the application's may fail with anything; so does what isn't HTTP.
        isAnswered = any(isinstance(each, ResponseFailed) for each in causes)
        kind = FailureType.NOT_ENGINEIO if isAnswered else FailureType.CONNECT
        what = "the response isn't HTTP: " if isAnswered else ""
        return ConnectionFailed(kind, what + _words(causes[0]), transport)
    type_, cause = kinds[0]
    return ConnectionFailed(type_, _words(cause), transport)


def _isOfTLS(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _TLS_MODULES


def _typeOf(error: BaseException) -> FailureType | None:
    if _isOfTLS(error):
        return FailureType.TLS
    return next((type_ for kind, type_ in _TYPES if isinstance(error, kind)), None)


def _words(error: BaseException) -> str:
    """Return an error as one line of text."""
    if isinstance(error, PotentialDataLoss):
        return "the connection was closed in a body that says no length: it may be incomplete"
    if _isOfTLS(error):
        return f"TLS failed: {_wordsOfTLS(error)}"
    return " ".join(str(error).split()) or type(error).__name__


def _wordsOfTLS(error: BaseException) -> str:
    if type(error).__module__.startswith("service_identity"):
        return "the certificate is for another name"
    # What OpenSSL says is a list of triples: library, function, reason.
    said = error.args[0] if error.args else ()
    reasons = [str(each[-1]) for each in said if isinstance(each, tuple)] if isinstance(said, list | tuple) else []
    return ", ".join(reasons) or "the connection was closed in the handshake"


def failureOfResponse(status: int, headers: Headers, body: bytes, transport: str | None = None) -> ConnectionFailed:
    """
    Return what has failed when a response isn't the one that was asked for.

    @param status: the HTTP status.
    @param body: the body, or its beginning.
    """
    response = FailedResponse(status, headers, body[:MAX_BODY])
    type_, description = _ofStatus(response, 101 if transport == "websocket" else 200)
    return ConnectionFailed(type_, description, transport, response)


def _ofStatus(response: FailedResponse, expected: int) -> tuple[FailureType, str]:
    status = response.status
    said = "" if response.message is None else f": {response.message:.200}"
    if 300 <= status < 400:
        location = response.header("location") or "nowhere"
        return FailureType.REDIRECT, f"status {status}: a redirect to {location:.200}, which isn't followed"
    if status == 401:
        return FailureType.AUTHENTICATION, f"status 401: the server wants to be told who asks{said}"
    if status == 407:
        return FailureType.PROXY, "status 407: the proxy wants to be told who asks"
    if status in _GATEWAY:
        retry = response.retryAfter
        later = "" if retry is None else f"; try again in {retry:g} s"
        return FailureType.UNAVAILABLE, f"status {status}: the server is not available{said}{later}"
    if response.message is not None:
        code = "" if response.code is None else f", code {response.code}"
        return FailureType.REFUSED, f"the server refused{said} (status {status}{code})"
    if status == 200:
        kind = response.header("content-type") or "without a content type"
        return FailureType.NOT_ENGINEIO, f"the response isn't of Engine.IO: {kind:.100}, {excerpt(response.body)}"
    # What opens a WebSocket is refused in plain text.
    said = f": {excerpt(response.text)}" if response.body else ""
    return FailureType.HTTP, f"status {status}, expected {expected}{said}"
