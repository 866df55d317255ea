"""
What the responses of one server have in common, and its refusals: written and counted here alone.

Every response passes L{ResponseWriter.announce} with its headers set and not written yet.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Literal, Protocol

import attrs
from twisted.logger import Logger

from ..observer import Counters
from ..protocol.errors import ERROR_MESSAGES, ConnectionRefusal, ErrorCode, HTTPRefusal
from ..protocol.headers import cookieHeader, corsHeaders
from ..protocol.option_parts import Cors
from ..protocol.options import ServerOptions
from ..protocol.origin_rules import OriginRule, originRule
from .answers import ResponseHeaders, headerOf, settled
from .refusals import plainForm, upgradeForm

if TYPE_CHECKING:
    from twisted.web.server import Request


class Emitter(Protocol):
    """A server, as far as it matters here: what emits its events."""

    def hears(self, event: Literal["headers", "initial_headers", "connection_error"]) -> bool:
        """Return whether an event has handlers."""
        ...

    def emit(self, event: Literal["headers", "initial_headers", "connection_error"], *args: Any) -> bool:
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

    req: Request
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

    _log = Logger()

    def __init__(self, options: ServerOptions, counters: Counters, server: Emitter) -> None:
        self._options = options
        self._counters = counters
        self._server = server

    def announce(self, exchange: Any) -> None:
        """
        Let handlers change the headers of a response, which are set and not written yet.

        @param exchange: an L{IExchange}.
        """
        server, cookie = self._server, self._options.cookie
        openedId = exchange.openedId
        exchange.joinCookies()
        if openedId is not None:
            # If this isn't written after all, a refusal opens nothing.
            exchange.openedId = None
            if cookie is not None:
                exchange.addHeader("Set-Cookie", cookieHeader(cookie, openedId))
        isFirst = openedId is not None and server.hears("initial_headers")
        if not isFirst and not server.hears("headers"):
            return
        request = exchange.request
        headers = ResponseHeaders(request.responseHeaders)
        if openedId is not None:
            server.emit("initial_headers", headers, request)
        server.emit("headers", headers, request)
        exchange.joinCookies()

    # Refusals

    def refuse(self, exchange: Any, refusal: HTTPRefusal, isUpgrade: bool = False) -> None:
        """
        Refuse a request, unless it was answered or its client is gone.

        @param exchange: an L{IExchange}.
        @param isUpgrade: whether it asks for a WebSocket.
        """
        if exchange.isAnswered:
            # A middleware may have begun to answer, and will not go on.
            exchange.drop()
            return
        self._counters.requestRefused(exchange, refusal)
        if isinstance(refusal, ConnectionRefusal) and self._server.hears("connection_error"):
            context = dict(refusal.context)
            error = ConnectionErrorEvent(exchange.request, refusal.code, ERROR_MESSAGES[refusal.code], context)
            self._server.emit("connection_error", error)
            if exchange.isAnswered:
                # By a handler, which goes on with what it has begun.
                return
        headers, body = upgradeForm(refusal) if isUpgrade else plainForm(refusal)
        exchange.respond(refusal.status, headers, body, self.announce)

    async def refuseEarly(self, exchange: Any, refusal: HTTPRefusal) -> None:
        """
        Refuse a request before its body is complete and the middlewares are called: set the headers of the response.

        The caller writes it, whatever this raises.
        """
        throttle, cors = self._counters.throttle, self._options.cors
        if throttle.allows(refusal.name):
            self._log.warn(
                "A body from {peer} was refused: {reason}",
                peer=exchange.getClientAddress(),
                reason=refusal.message,
                name=refusal.name,
            )
        self._counters.requestRefused(exchange, refusal)
        try:
            if cors is not None:
                self._addCorsHeaders(exchange, cors, await self._originRule(exchange, cors))
        finally:
            # The client may have gone while that was decided.
            if not exchange.isAnswered:
                self.announce(exchange)

    # CORS

    def corsMiddleware(self, exchange: Any) -> Awaitable[None] | None:
        """Be the middleware of C{cors}, which answers a request that only asks what it may do."""
        cors = self._options.cors
        assert cors is not None
        if callable(cors.origin):
            return self._applyCorsLater(exchange, cors)
        self._applyCors(exchange, cors, cors.origin)
        return None

    async def _applyCorsLater(self, exchange: Any, cors: Cors) -> None:
        self._applyCors(exchange, cors, await self._originRule(exchange, cors))

    def _applyCors(self, exchange: Any, cors: Cors, rule: OriginRule) -> None:
        self._addCorsHeaders(exchange, cors, rule)
        if rule is not False and exchange.method == b"OPTIONS" and not cors.preflightContinue:
            exchange.respond(cors.optionsSuccessStatus, {}, b"", self.announce)

    async def _originRule(self, exchange: Any, cors: Cors) -> OriginRule:
        """Return which pages may read the response; a function that C{cors} has for it may take time."""
        rule = cors.origin
        return originRule(await settled(rule(headerOf(exchange, b"origin")))) if callable(rule) else rule

    def _addCorsHeaders(self, exchange: Any, cors: Cors, rule: OriginRule) -> None:
        """Set the headers that say which pages may read the response."""
        origin = headerOf(exchange, b"origin")
        asked = headerOf(exchange, b"access-control-request-headers")
        said = corsHeaders(cors, rule, origin, exchange.method == b"OPTIONS", asked)
        for name, value in said.headers.items():
            exchange.setHeader(name, value)
        if said.vary:
            exchange.setHeader("Vary", ", ".join(said.vary))
