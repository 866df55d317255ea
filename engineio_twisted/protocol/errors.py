"""
What can go wrong, and what is answered.

::

    EngineIOError
    ├── OptionError           an option with an unknown name, a wrong type or a value out of range
    ├── UnknownEvent          an event that a server or a socket doesn't have
    ├── DecodeError           text or bytes of a peer that are not a packet or a payload
    ├── BufferLimitExceeded   a message for a client that doesn't take what it is sent
    ├── RequestRefused        raised by an application's allowRequest
    └── HTTPRefusal           what a request gets instead of what it asked for
        ├── ConnectionRefusal with one of the protocol's codes 0 to 5; also emitted as `connection_error`
        ├── MethodNotAllowed  405
        ├── PayloadTooLarge   413
        ├── TooManyPackets    413
        ├── BodyTimeout       408
        ├── HeadRefused       408, 414 or 431: before it is known what a request wants
        ├── RateLimitExceeded 429
        ├── SessionClosing    400
        ├── SessionLimitExceeded 429 or 503, in `limits`
        └── ServerClosing     503

A refusal carries its status and text, so that the code that catches one has nothing left to decide
(docs/protocol.md, "Refusals").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import IntEnum, StrEnum


class CloseReason(StrEnum):
    """Why a session ended: the first argument of a socket's `close` event. Equal to its text."""

    TRANSPORT_CLOSE = "transport close"
    TRANSPORT_ERROR = "transport error"
    PING_TIMEOUT = "ping timeout"
    PARSE_ERROR = "parse error"
    FORCED_CLOSE = "forced close"
    SERVER_SHUTTING_DOWN = "server shutting down"
    BUFFER_LIMIT_EXCEEDED = "buffer limit exceeded"
    RATE_LIMIT_EXCEEDED = "rate limit exceeded"


class ErrorCode(IntEnum):
    """The codes of the protocol's refusals."""

    UNKNOWN_TRANSPORT = 0
    UNKNOWN_SID = 1
    BAD_HANDSHAKE_METHOD = 2
    BAD_REQUEST = 3
    FORBIDDEN = 4
    UNSUPPORTED_PROTOCOL_VERSION = 5


ERROR_MESSAGES: Mapping[ErrorCode, str] = {
    ErrorCode.UNKNOWN_TRANSPORT: "Transport unknown",
    ErrorCode.UNKNOWN_SID: "Session ID unknown",
    ErrorCode.BAD_HANDSHAKE_METHOD: "Bad handshake method",
    ErrorCode.BAD_REQUEST: "Bad request",
    ErrorCode.FORBIDDEN: "Forbidden",
    ErrorCode.UNSUPPORTED_PROTOCOL_VERSION: "Unsupported protocol version",
}


class EngineIOError(Exception):
    """The base of every error of this package."""


class OptionError(EngineIOError, ValueError):
    """
    An option has an unknown name, a wrong type or a value out of range.

    @ivar name: the option.
    @ivar value: what it was given.
    @ivar problem: what was expected instead.
    """

    name: str
    value: object
    problem: str

    def __init__(self, name: str, value: object, problem: str) -> None:
        super().__init__(f"{name}={value!r}: {problem}")
        self.name, self.value, self.problem = name, value, problem


class UnknownEvent(EngineIOError, ValueError):
    """
    A server or a socket has no event of that name.

    @ivar event: the name.
    @ivar cure: what to do instead: the name that was meant, if there is one.
    """

    event: str
    cure: str

    def __init__(self, event: str, owner: str, cure: str) -> None:
        super().__init__(f"{event!r:.100} is not an event of {owner}: {cure}")
        self.event, self.cure = event, cure


class DecodeError(EngineIOError, ValueError):
    """Text or bytes of a peer are not a packet or a payload; the session they came on ends with `parse error`."""


class BufferLimitExceeded(EngineIOError):
    """
    A message was not sent, as the peer doesn't take what it is sent and no more is buffered for it.

    @ivar option: the option that set the limit: C{maxBufferedPackets} or C{maxBufferedBytes}.
    @ivar limit: its value.
    """

    option: str
    limit: int

    def __init__(self, option: str, limit: int, peer: str = "client") -> None:
        super().__init__(f"the {peer} doesn't take what it is sent: more than {option}, {limit}, would be buffered")
        self.option, self.limit = option, limit


class RequestRefused(EngineIOError):
    """
    Raise this in `allowRequest` to refuse a handshake with a text of your own.

    @param message: what the client is told, in place of "Forbidden".
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class HTTPRefusal(EngineIOError):
    """
    What a request is answered instead of what it asked for.

    @ivar status: the HTTP status.
    @ivar message: the text, for a person.
    @ivar headers: further response headers.
    @ivar name: by what it is counted: one of few, that never depends on what a client sent; of one that an option
        brings about, the option.
    """

    name: str = ErrorCode.BAD_REQUEST.name

    def __init__(
        self, message: str, headers: Mapping[str, str] | None = None, status: int = 400, name: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.headers: Mapping[str, str] = headers or {}
        self.status = status
        if name is not None:
            self.name = name

    def asJSON(self) -> str:
        """Return the body of the answer to a plain request."""
        return json.dumps({"message": self.message}, separators=(",", ":"))


class ConnectionRefusal(HTTPRefusal):
    """
    A request refused with one of the codes 0 to 5; emitted as `connection_error` too.

    Its C{name} is that of the code, or, of a bad request, the more exact one in the context.

    @ivar code: which one.
    @ivar context: what made the server refuse, by name: the values a person needs to find the cause.
    """

    def __init__(
        self,
        code: ErrorCode,
        context: Mapping[str, object],
        message: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        status = 403 if code is ErrorCode.FORBIDDEN else 400
        super().__init__(message or ERROR_MESSAGES[code], headers, status, str(context.get("name", code.name)))
        self.code = code
        self.context = context

    def asJSON(self) -> str:
        return json.dumps({"code": self.code, "message": self.message}, separators=(",", ":"))


class MethodNotAllowed(HTTPRefusal):
    """A live session was addressed by a method that is neither GET nor POST. The session isn't touched."""

    name = "METHOD_NOT_ALLOWED"

    def __init__(self, method: str) -> None:
        super().__init__(f"{method} is not possible on a session; GET and POST are", {"Allow": "GET, POST"}, 405)


class PayloadTooLarge(HTTPRefusal):
    """The body of a POST is larger than `maxHttpBufferSize`. Nothing of it is delivered, and its session ends."""

    name = "maxHttpBufferSize"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than maxHttpBufferSize, {limit} bytes", status=413)

    @classmethod
    def of(cls, size: int, limit: int | None) -> PayloadTooLarge | None:
        """
        Return the refusal of a body that is too large, otherwise None. Nothing else decides that.

        @param size: its bytes, or as many as have come.
        @param limit: how many there may be; None is no limit.
        """
        return None if limit is None or size <= limit else cls(limit)


class HeadRefused(HTTPRefusal):
    """A request was too large, or too slow, before its headers were complete. Its connection is closed."""

    def __init__(self, message: str, status: int, name: str) -> None:
        super().__init__(message, {"Connection": "close"}, status, name)


class TooManyPackets(HTTPRefusal):
    """The body of a POST holds more packets than `maxPacketsPerPayload`. None is delivered, and its session ends."""

    name = "maxPacketsPerPayload"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body holds more packets than maxPacketsPerPayload, {limit}", status=413)


class BodyTimeout(HTTPRefusal):
    """The body of a POST took longer than `httpRequestBodyTimeout`. Nothing is delivered, and its session ends."""

    name = "httpRequestBodyTimeout"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body did not come within httpRequestBodyTimeout, {limit} ms", status=408)


class RateLimitExceeded(HTTPRefusal):
    """A POST brought a session over `maxMessagesPerSecond` or `maxBytesPerSecond`; the session has ended."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(f"more came in a second than {name} allows, {limit}", None, 429, name)


class SessionClosing(HTTPRefusal):
    """The session closes, and takes nothing more from its client."""

    name = "SESSION_CLOSING"

    def __init__(self) -> None:
        super().__init__("the session is closing")


class ServerClosing(HTTPRefusal):
    """The server is closing, or has closed, and opens no sessions."""

    name = "SERVER_CLOSING"

    def __init__(self) -> None:
        super().__init__("the server is closing", {"Retry-After": "5"}, 503)
