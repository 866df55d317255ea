"""
From a request to a poll, a push, a session, a WebSocket or a refusal.

The decisions that take time, of middlewares, C{allowRequest} and C{generateId}, have a deadline.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Literal, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from .ends import Connections, attempt
from .interfaces import LEFT, IEngineServer
from .observer import Counters
from .protocol.errors import ConnectionRefusal, ErrorCode, HTTPRefusal, RequestRefused, ServerClosing
from .protocol.handshake import (
    EngineRequest,
    Want,
    WebSocketHandshake,
    checkWebSocketHeaders,
    classify,
)
from .protocol.headers import noOrigin
from .protocol.options import ServerOptions
from .protocol.origin_rules import SELF
from .protocol.payload import codecFor
from .session.factory import SocketFactory
from .session.limits import Admission
from .session.session import Session
from .session.states import ReadyState
from .transports.jsonp import JSONPTransport
from .transports.polling import PollingTransport
from .transports.websocket import WebSocketTransport
from .web.answers import settled
from .web.clients import Clients
from .web.decisions import Admitting, Decision, Decisions
from .web.requests import EngineIORequest
from .web.writer import ResponseWriter


class RoutedServer(Protocol):
    """A server, as its router knows it. What is a property is made when it is first needed."""

    opts: ServerOptions
    workers: Any
    _counters: Counters

    @property
    def _generatesIds(self) -> bool:
        """Return whether no application's method makes its ids."""
        ...

    @property
    def reactor(self) -> Any:
        """Return the reactor."""
        ...

    @property
    def _factory(self) -> SocketFactory:
        """Return the sessions."""
        ...

    @property
    def _webSockets(self) -> Any:
        """Return what implements WebSocket, an L{IWebSocketEngine}."""
        ...

    def generateId(self, request: Any) -> str | Awaitable[str]:
        """Return the id of a new session."""
        ...

    def emit(self, event: Literal["connection"], *args: Any) -> bool:
        """Call the handlers of an event; return whether there was one."""
        ...


@implementer(IEngineServer)
class Router:
    """
    The way of the requests of one server.

    @param server: the server.
    @param admitting: says whether sessions may be opened.
    @param writer: writes refusals.
    @param clients: says who sent a request.
    @ivar middlewares: called with each L{IExchange}, in this order.
    @ivar reading: the requests whose bodies are being read.
    @ivar decisions: about requests, which take time.
    @ivar director: the L{IRequestDirector} if there are several processes; None otherwise.
    """

    _log = Logger()
    _warnedOfIdleTime = False
    director: Any = None

    def __init__(self, server: RoutedServer, admitting: Admitting, writer: ResponseWriter, clients: Clients) -> None:
        self.opts: ServerOptions = server.opts
        self.counters: Counters = server._counters
        self.middlewares: list[Callable[[Any], Any]] = []
        self.reading: Connections[EngineIORequest] = Connections()
        self.decisions: Decisions = Decisions(server, admitting, writer)
        self.server = server
        self._admitting = admitting
        self._writer = writer
        self._clients = clients
        origins = self.opts.allowedOrigins
        self._namesOwnOrigin = origins == SELF or (isinstance(origins, tuple) and SELF in origins)

    @property
    def isClosing(self) -> bool:
        return self._admitting.isClosing

    def pushTarget(self, exchange: Any, method: bytes, uri: bytes) -> Any:
        if self.director is not None and (elsewhere := self.director.pushReceiver(exchange, method, uri)) is not None:
            return elsewhere
        try:
            wanted = self._classify(exchange, method, uri, isUpgrade=False)
        except HTTPRefusal:
            return None
        # It is a session on polling, and there is one.
        session: Any = wanted.session
        return session.transport if wanted.want is Want.PUSH else None

    async def refuseEarly(self, exchange: Any, refusal: HTTPRefusal) -> None:
        await self._writer.refuseEarly(exchange, refusal)

    def handle(self, exchange: Any, isUpgrade: bool) -> None:
        if self.director is not None and self.director.takes(exchange, isUpgrade):
            return
        if isUpgrade:
            # What the client sends behind it, for the WebSocket, is not to be taken for another request.
            exchange.channel.persistent = False
        middlewares = iter(self.middlewares)
        for middleware in middlewares:
            try:
                answer = middleware(exchange)
            except BaseException:
                self._log.failure("A middleware failed")
                self._writer.refuse(exchange, _middlewareFailure(), isUpgrade)
                return
            if isinstance(answer, Awaitable):
                rest = partial(self._afterMiddlewares, answer, middlewares)
                self.decisions.follow(Decision(exchange, isUpgrade), rest, _noMiddlewareInTime)
                return
            if exchange.isAnswered:
                return
        self._route(exchange, isUpgrade)

    async def _afterMiddlewares(
        self,
        answer: Awaitable[object],
        rest: Iterator[Callable[[Any], Any]],
        decision: Decision,
    ) -> None:
        """Wait for a middleware, and go on with those behind it."""
        exchange = decision.exchange
        try:
            await answer
            for middleware in rest:
                if exchange.isAnswered:
                    return
                await settled(middleware(exchange))
        except GeneratorExit:
            raise
        except BaseException:
            self._logUnlessGivenUp("A middleware failed", decision)
            raise _middlewareFailure() from None
        if not exchange.isAnswered:
            self._route(exchange, decision.isUpgrade)

    def _route(self, exchange: Any, isUpgrade: bool) -> None:
        try:
            wanted = self._classify(exchange, exchange.method, exchange.uri, isUpgrade)
            session: Any = wanted.session
            if wanted.want is Want.POLL:
                session.transport.poll(exchange)
            elif wanted.want is Want.PUSH:
                session.transport.push(exchange)
            elif wanted.want is Want.UPGRADE:
                self._upgrade(exchange, wanted, session)
            elif wanted.want is Want.RETURN:
                self._return(exchange, wanted, session, isUpgrade)
            else:
                self._handshake(exchange, wanted, isUpgrade)
        except BaseException:
            self.decisions.failed(Failure(), Decision(exchange, isUpgrade))

    def _handshake(self, exchange: Any, wanted: EngineRequest[Session], isUpgrade: bool) -> None:
        self._admitting.check(opensSession=True)
        if self.opts.trustedProxies is not None:
            # What a proxy says is made sure of before anything rests on it.
            self._clients.clientOf(exchange)
        admission = self.server._factory.admit(exchange)
        if self.opts.allowRequest is None and self.server._generatesIds:
            # Nothing that could take time.
            try:
                handshake = self._checkWebSocket(exchange) if isUpgrade else None
                sid: Any = self.server.generateId(None)
                self._openAs(exchange, wanted, handshake, sid, admission)
            finally:
                admission.giveUp()
        else:
            decision = Decision(exchange, isUpgrade, admission)
            self.decisions.follow(decision, partial(self._open, wanted, admission), _noDecisionInTime)

    def _classify(self, exchange: Any, method: bytes, uri: bytes, isUpgrade: bool) -> EngineRequest[Session]:
        origins = exchange.headerValues(b"origin")
        own = partial(self._ownOrigin, exchange) if self._namesOwnOrigin else noOrigin
        return classify(
            method.decode("latin-1"), uri, origins, isUpgrade, self.opts, self.server._factory.clients.get, own
        )

    async def _open(self, wanted: EngineRequest[Session], admission: Admission, decision: Decision) -> None:
        exchange = decision.exchange
        try:
            handshake = self._checkWebSocket(exchange) if decision.isUpgrade else None
            await self._askWhetherAllowed(decision)
            sid = await self._newId(decision)
            # What was cancelled may have taken no notice.
            if decision.isGivenUp:
                return
            if exchange.isAnswered:
                # By C{allowRequest} or C{generateId}: nobody is there who could have a session.
                exchange.drop()
                return
            self._admitting.check(opensSession=True)
            self._openAs(exchange, wanted, handshake, sid, admission)
        finally:
            admission.giveUp()

    def _openAs(
        self,
        exchange: Any,
        wanted: EngineRequest[Session],
        handshake: WebSocketHandshake | None,
        sid: str,
        admission: Admission,
    ) -> None:
        if handshake is not None:
            self._openOnWebSocket(exchange, wanted, handshake, sid, admission)
            return
        polling = self._pollingFor(wanted)
        if exchange.isStream:
            self._checkHead(exchange)
            self._checkIdleTime(exchange)
        polling.open(exchange, sid)
        self._tell(self.server._factory.open(sid, polling, exchange, wanted.revision, admission, wanted.resume))
        exchange.keepLittle()

    def _pollingFor(self, wanted: EngineRequest[Session]) -> PollingTransport:
        codec, reactor, writer = codecFor(wanted.revision), self.server.reactor, self._writer
        if wanted.jsonpIndex is not None:
            return JSONPTransport(codec, self.opts, reactor, writer, wanted.jsonpIndex, self.counters)
        return PollingTransport(codec, wanted.supportsBinary, self.opts, reactor, writer, self.counters)

    def _openOnWebSocket(
        self,
        exchange: Any,
        wanted: EngineRequest[Session],
        handshake: WebSocketHandshake,
        sid: str,
        admission: Admission,
    ) -> None:
        def begin() -> None:
            self._tell(self.server._factory.open(sid, transport, exchange, wanted.revision, admission, wanted.resume))

        transport = WebSocketTransport(codecFor(wanted.revision), wanted.supportsBinary, begin, self.counters)
        exchange.openedId = sid
        self._accept(exchange, handshake, transport)
        exchange.keepLittle()

    def _checkHead(self, exchange: Any) -> None:
        """Refuse a request of HTTP/2 whose head is too large; on a connection of HTTP/1.1 its site does."""
        size = len(exchange.uri)
        for name, values in exchange.allHeaderValues().items():
            size += sum([len(name) + len(value) for value in values])
        limit = self.opts.maxHeaderSize
        if size > limit:
            message = f"the headers are larger than maxHeaderSize, {limit} bytes"
            raise HTTPRefusal(message, None, 431, "maxHeaderSize")

    def _checkIdleTime(self, exchange: Any) -> None:
        """Say once that a site closes connections of HTTP/2 on which GETs wait; those of HTTP/1.1 it doesn't."""
        seconds = exchange.channel.site.timeOut
        if seconds is not None and seconds * 1000 <= self.opts.pingInterval and not self._warnedOfIdleTime:
            self._warnedOfIdleTime = True
            self._log.warn(
                "The site closes a connection of HTTP/2 on which nothing is sent for {seconds} s, and with it every "
                "session that waits there, but nothing need be sent for pingInterval, {pingInterval} ms: make the site "
                "with a longer timeout",
                seconds=seconds,
                pingInterval=self.opts.pingInterval,
            )

    def _tell(self, socket: Session) -> None:
        # A handler of flush may have closed it before anybody heard of it, and one of connection may now.
        if socket.readyState is not ReadyState.CLOSED:
            self.server.emit("connection", socket)
        if socket.readyState is not ReadyState.CLOSED:
            socket.emit("open")

    async def _askWhetherAllowed(self, decision: Decision) -> None:
        if self.opts.allowRequest is None:
            return
        try:
            allowed = await settled(self.opts.allowRequest(decision.exchange.request))
        except RequestRefused as error:
            raise ConnectionRefusal(ErrorCode.FORBIDDEN, {"message": error.message}, error.message) from None
        except GeneratorExit:
            raise
        except BaseException:
            self._logUnlessGivenUp("allowRequest failed", decision)
            allowed = False
        if not allowed:
            raise ConnectionRefusal(ErrorCode.FORBIDDEN, {"message": "allowRequest said no"})

    async def _newId(self, decision: Decision) -> str:
        try:
            sid: Any = await settled(self.server.generateId(decision.exchange.request))
            if not isinstance(sid, str) or not sid:
                raise TypeError(f"generateId returned {type(sid).__name__}: expected text, and not the empty one")
            # A client can be told nothing else.
            sid.encode()
            if self.server.workers is not None and not sid.startswith(self.opts.idPrefix):
                expected = (
                    f"expected one that begins with opts.idPrefix, {self.opts.idPrefix!r}, which names this worker"
                )
                raise ValueError(f"generateId returned an id that no request would find: {expected}")
            if sid in self.server._factory.clients:
                raise ValueError("generateId returned an id that a live session has")
        except GeneratorExit:
            raise
        except BaseException as error:
            self._logUnlessGivenUp("generateId failed", decision)
            context = {"name": "ID_GENERATION_ERROR", "error": error}
            raise ConnectionRefusal(ErrorCode.BAD_REQUEST, context) from None
        return sid

    def _upgrade(self, exchange: Any, wanted: EngineRequest[Session], session: Session) -> None:
        handshake = self._checkWebSocket(exchange)

        def begin() -> None:
            # Whatever comes on it comes from the client of that session.
            transport.owner = session
            if not session.tryUpgrade(transport):
                # One WebSocket is there already. The session isn't to suffer from a second.
                transport.close(LEFT)

        transport = WebSocketTransport(codecFor(wanted.revision), wanted.supportsBinary, begin, self.counters)
        self._accept(exchange, handshake, transport)

    def _return(self, exchange: Any, wanted: EngineRequest[Session], session: Session, isUpgrade: bool) -> None:
        handshake = self._checkWebSocket(exchange) if isUpgrade else None
        self._admitting.check(opensSession=False)
        returning: Any = wanted.returning
        session.checkReturn(returning)
        if handshake is None:
            polling = self._pollingFor(wanted)
            polling.waits(exchange)
            session.comeBack(polling, returning)
            return

        def begin() -> None:
            session.comeBack(transport, returning)

        transport = WebSocketTransport(codecFor(wanted.revision), wanted.supportsBinary, begin, self.counters)
        self._accept(exchange, handshake, transport)

    def _checkWebSocket(self, exchange: Any) -> WebSocketHandshake:
        if getattr(exchange.channel, "transport", None) is None:
            # HTTP/2: there is no connection that could become a WebSocket.
            raise HTTPRefusal("a WebSocket needs HTTP/1.1", {"Upgrade": "websocket"}, 426, "UPGRADE_REQUIRED")
        return checkWebSocketHeaders(exchange.method.decode("latin-1"), exchange.allHeaderValues())

    def _accept(self, exchange: Any, handshake: WebSocketHandshake, transport: WebSocketTransport) -> None:
        opensSession = exchange.openedId is not None
        self._writer.announce(exchange)
        try:
            self._admitting.check(opensSession)
        except ServerClosing:
            exchange.removeHeader("Set-Cookie")
            raise
        connection = exchange.connection
        try:
            self.server._webSockets.accept(exchange, handshake, exchange.upgradeHeaders(), transport)
        except BaseException:
            if not exchange.isAnswered:
                if opensSession:
                    # There is no session whose cookie that could be.
                    exchange.removeHeader("Set-Cookie")
                raise
            # It has been taken over, and its 101 isn't there, or only in part: no answer would be understood.
            if self.counters.throttle.allows("WebSockets that could not be opened"):
                self._log.failure("A WebSocket could not be opened")
            attempt(connection.abortConnection)
            return
        exchange.accepted()

    def _logUnlessGivenUp(self, what: str, decision: Decision) -> None:
        """Log what is being raised, unless it comes from being cancelled."""
        if not decision.isGivenUp:
            self._log.failure(what)

    def _ownOrigin(self, exchange: Any) -> str | None:
        return self._clients.clientOf(exchange).origin


def _middlewareFailure() -> HTTPRefusal:
    return ConnectionRefusal(ErrorCode.BAD_REQUEST, {"name": "MIDDLEWARE_FAILURE"})


def _noMiddlewareInTime() -> HTTPRefusal:
    return ConnectionRefusal(ErrorCode.BAD_REQUEST, {"name": "MIDDLEWARE_FAILURE", "reason": "no answer in time"})


def _noDecisionInTime() -> HTTPRefusal:
    return ConnectionRefusal(ErrorCode.FORBIDDEN, {"message": "no decision in time"})
