"""
What the responses of one server have in common, and its refusals: written and counted here alone.

Every response passes L{ResponseWriter.announce} with its headers set and not written yet.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

import attrs

from ..logs import DebugScope
from ..observer import Counters
from ..protocol.errors import ERROR_MESSAGES, ConnectionRefusal, ErrorCode, HTTPRefusal
from ..protocol.headers import cookieHeader, corsHeaders
from ..protocol.option_parts import Cors
from ..protocol.options import ServerOptions
from ..protocol.origin_rules import OriginRule, originRule
from .answers import ResponseHeaders, headerOf, isAnswered, refuse, respond, settled

_debug = DebugScope("engine")


class Emitter(Protocol):
    """A server, as far as it matters here: what emits its events."""

    def hears(self, event: str) -> bool:
        """Return whether an event has handlers."""
        ...

    def emit(self, event: str, *args: Any) -> bool:
        """Call the handlers of an event; return whether there was one."""
        ...


@attrs.frozen
class ConnectionErrorEvent:
    """
    What handlers of C{connection_error} are called with.

    @ivar req: the refused request, a L{twisted.web.server.Request}.
    @ivar code: one of L{ErrorCode}.
    @ivar message: the text that belongs to the code; what else the client was told is the context's C{message}.
    @ivar context: what made the server refuse, by name.
    """

    req: Any
    code: ErrorCode
    message: str
    context: dict[str, object]


class ResponseWriter:
    """
    Writes what the responses of one server have in common: CORS headers, the cookie, refusals; and emits
    C{initial_headers}, C{headers} and C{connection_error}.

    @param options: those of the server.
    @param counters: where refusals are counted.
    @param server: what emits the events.
    """

    def __init__(self, options: ServerOptions, counters: Counters, server: Emitter) -> None:
        self._options = options
        self._counters = counters
        self._server = server

    def announce(self, request: Any, openedId: str | None = None) -> None:
        """
        Let handlers change the headers of a response, which are set and not written yet.

        @param openedId: the id of the session that this is the first response of; None if it is of none.
        """
        server, cookie = self._server, self._options.cookie
        isFirst = openedId is not None and (cookie is not None or server.hears("initial_headers"))
        # One of ours makes the list when a cookie is added.
        cookies = request.addedCookies if hasattr(request, "addedCookies") else request.cookies
        if not isFirst and not cookies and not server.hears("headers"):
            return
        _joinCookies(request)
        headers = ResponseHeaders(request.responseHeaders)
        if openedId is not None:
            if cookie is not None:
                request.responseHeaders.addRawHeader("Set-Cookie", cookieHeader(cookie, openedId))
            self._server.emit("initial_headers", headers, request)
        self._server.emit("headers", headers, request)
        _joinCookies(request)

    async def announceEarly(self, request: Any) -> None:
        """The same for a response that is given before the middlewares are called, when a body is refused."""
        cors = self._options.cors
        try:
            if cors is not None:
                self._addCorsHeaders(request, cors, await self._originRule(request, cors))
        finally:
            self.announce(request)

    # Refusals

    def refuse(self, request: Any, refusal: HTTPRefusal, isUpgrade: bool) -> None:
        """
        Refuse a request, unless it was answered or its client is gone.

        @param isUpgrade: whether it asks for a WebSocket.
        """
        if isAnswered(request):
            if not request.finished and request.channel is not None:
                # A middleware has begun to answer, and will not go on.
                request.loseConnection()
            return
        self._counters.requestRefused(request, refusal)
        if _debug.enabled:
            # No more: what is in the query, and so in the context, may be a secret.
            _debug.log(f"refused {request.method!r} {request.path!r}: {refusal.name}, {refusal.message}")
        if isinstance(refusal, ConnectionRefusal):
            context = dict(refusal.context)
            error = ConnectionErrorEvent(request, refusal.code, ERROR_MESSAGES[refusal.code], context)
            self._server.emit("connection_error", error)
            if isAnswered(request):
                # By a handler, which goes on with what it has begun.
                return
        if isUpgrade:
            headers = {"Content-Type": "text/plain; charset=utf-8", "Connection": "close", **refusal.headers}
            respond(request, refusal.status, headers, refusal.message.encode(), self.announce)
        else:
            refuse(request, refusal, self.announce)

    # CORS

    def corsMiddleware(self, request: Any) -> Awaitable[None] | None:
        """Be the middleware of C{cors}, which answers a request that only asks what it may do."""
        cors = self._options.cors
        assert cors is not None
        if callable(cors.origin):
            return self._applyCorsLater(request, cors)
        self._applyCors(request, cors, cors.origin)
        return None

    async def _applyCorsLater(self, request: Any, cors: Cors) -> None:
        self._applyCors(request, cors, await self._originRule(request, cors))

    def _applyCors(self, request: Any, cors: Cors, rule: OriginRule) -> None:
        self._addCorsHeaders(request, cors, rule)
        if rule is not False and request.method == b"OPTIONS" and not cors.preflightContinue:
            respond(request, cors.optionsSuccessStatus, {}, b"", self.announce)

    async def _originRule(self, request: Any, cors: Cors) -> OriginRule:
        """Return which pages may read the response; a function that C{cors} has for it may take time."""
        rule = cors.origin
        return originRule(await settled(rule(headerOf(request, b"origin")))) if callable(rule) else rule

    def _addCorsHeaders(self, request: Any, cors: Cors, rule: OriginRule) -> None:
        """Set the headers that say which pages may read the response."""
        origin = headerOf(request, b"origin")
        asked = headerOf(request, b"access-control-request-headers")
        said = corsHeaders(cors, rule, origin, request.method == b"OPTIONS", asked)
        for name, value in said.headers.items():
            request.setHeader(name, value)
        if said.vary:
            request.setHeader("Vary", ", ".join(said.vary))


def _joinCookies(request: Any) -> None:
    """Move the cookies of a response to its headers: twisted.web would have them replace those there."""
    cookies, request.cookies = request.cookies, []
    for cookie in cookies:
        request.responseHeaders.addRawHeader(b"Set-Cookie", cookie)
