"""What can go wrong for a client: one error for all of it, with the kind of failure as its type."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

import attrs
from twisted.web.http_headers import Headers

from ..protocol.errors import CloseReason, EngineIOError

MAX_BODY = 4096
"""Bytes of the body of a response that a failure keeps."""

MAX_DESCRIPTION = 500
"""Characters of the description of a failure, which may quote what a server sent."""

MAX_RETRY_AFTER = 86400.0
"""Seconds that a C{Retry-After} is taken for at most: what is beyond is no time that a client waits."""


class FailureType(StrEnum):
    """What has failed. Equal to its text."""

    DNS = "dns"
    """The name of the server couldn't be resolved."""
    CONNECT = "connect"
    """No connection: refused, or the server can't be reached."""
    TLS = "tls"
    """The TLS handshake failed, or the certificate isn't trusted."""
    TIMEOUT = "timeout"
    """Something took longer than it may."""
    PROXY = "proxy"
    """A proxy refused to connect, or wants to be told who asks (407)."""
    REFUSED = "refused"
    """The server refused, with a code and a message of the protocol."""
    AUTHENTICATION = "authentication"
    """The server, or what is before it, wants to be told who asks (401)."""
    REDIRECT = "redirect"
    """The response is a redirect, which isn't followed."""
    UNAVAILABLE = "unavailable"
    """The server is overloaded, or behind a proxy that can't reach it (429, 502, 503, 504)."""
    HTTP = "http"
    """The response has another status than 200."""
    NOT_ENGINEIO = "not engine.io"
    """The response is none of an Engine.IO server: a web page, for example."""
    HANDSHAKE = "handshake"
    """What opens a session, or a WebSocket, is wrong."""
    PARSE = "parse"
    """The server sent what is no packet, or no frame of WebSocket."""
    TOO_LARGE = "too large"
    """The server sent more than C{maxHttpBufferSize} at once."""
    LOST = "lost"
    """The connection was lost."""
    PROBE = "probe"
    """The server didn't answer as it should on the WebSocket that was tried out."""
    CLOSED = "closed"
    """The session was closed, by either end, or the application gave up."""


_REASONS = {
    FailureType.PARSE: CloseReason.PARSE_ERROR,
    FailureType.CLOSED: CloseReason.TRANSPORT_CLOSE,
    FailureType.LOST: CloseReason.TRANSPORT_CLOSE,
}


def _asLine(text: str) -> str:
    """Return text as a line that a log or a terminal can show, whatever it quotes."""
    shown = text if len(text) <= MAX_DESCRIPTION else text[:MAX_DESCRIPTION] + "…"
    return shown if shown.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in shown)


@attrs.frozen
class FailedResponse:
    """
    The response of a server that refused, or failed.

    @ivar status: the HTTP status.
    @ivar headers: the headers.
    @ivar body: the body, or its first L{MAX_BODY} bytes.
    """

    status: int
    headers: Headers = attrs.field(factory=Headers, repr=False)
    body: bytes = b""

    @property
    def text(self) -> str:
        """The body as text, whatever it is."""
        return self.body.decode("utf-8", "replace")

    def header(self, name: str) -> str | None:
        """Return the last value of a header, whatever bytes it has; None if there is none."""
        values = self.headers.getRawHeaders(name.encode())
        return values[-1].decode("utf-8", "replace") if values else None

    def _said(self) -> dict[str, Any]:
        try:
            said = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    @property
    def code(self) -> int | None:
        """The code of the protocol, 0 to 5; None if the response has none."""
        code = self._said().get("code")
        return code if type(code) is int else None

    @property
    def message(self) -> str | None:
        """The message of the protocol; None if the response has none."""
        message = self._said().get("message")
        return message if isinstance(message, str) else None

    @property
    def retryAfter(self) -> float | None:
        """In how many seconds to try again, by C{Retry-After}; None if the response doesn't say (RFC 9110, 10.2.3)."""
        value = (self.header("retry-after") or "").strip()
        if value.isascii() and value.isdigit():
            return min(float(value[:12]), MAX_RETRY_AFTER)
        try:
            when = parsedate_to_datetime(value)
            if when.tzinfo is None:
                when = when.replace(tzinfo=UTC)
            return min(max(0.0, (when - datetime.now(UTC)).total_seconds()), MAX_RETRY_AFTER)
        except (ValueError, OverflowError):
            return None


class ConnectionFailed(EngineIOError):
    """
    A client couldn't connect, or its connection failed.

    @ivar type: what has failed.
    @ivar description: the same in words: what came, and what was expected. It is one printable line.
    @ivar transport: the name of the transport on which it happened; None if it was on none.
    @ivar response: the response of the server, if that is what was wrong.
    """

    type: FailureType
    description: str
    transport: str | None
    response: FailedResponse | None

    def __init__(
        self,
        type: FailureType,  # noqa: A002
        description: str,
        transport: str | None = None,
        response: FailedResponse | None = None,
    ) -> None:
        description = _asLine(description)
        super().__init__(description)
        self.type, self.description, self.transport, self.response = type, description, transport, response

    @cached_property
    def reason(self) -> CloseReason:
        """The reason with which an open session ends that fails so."""
        return _REASONS.get(self.type, CloseReason.TRANSPORT_ERROR)


class MessageTooLarge(EngineIOError):
    """
    A message wasn't sent, as it is larger than what the server takes.

    @ivar size: the bytes that it takes in a request.
    @ivar limit: the C{maxPayload} of the server.
    """

    size: int
    limit: int

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a message of {size} bytes: the server takes no more than {limit} at once (maxPayload)")
        self.size, self.limit = size, limit
