"""The server: what an application holds, and what turns requests into sessions and answers."""

from __future__ import annotations

import errno
import re
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import attrs
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTime, ISSLTransport, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web import resource, server
from twisted.web.pages import errorPage
from zope.interface import implementer

from .clock import cancel, steadyClock
from .ends import Connections, Ends, attempt
from .interfaces import IEngineServer
from .logs import DebugScope, LogThrottle
from .observer import Counters, ServerStats
from .protocol.errors import (
    ERROR_MESSAGES,
    ConnectionRefusal,
    ErrorCode,
    HTTPRefusal,
    OptionError,
    RequestRefused,
    ServerClosing,
)
from .protocol.handshake import (
    EngineRequest,
    Want,
    WebSocketHandshake,
    checkWebSocketHeaders,
    classify,
    upgradesOf,
    usualSession,
)
from .protocol.headers import cookieHeader, corsHeaders, noOrigin
from .protocol.option_parts import Cors
from .protocol.options import OptionKeywords, ServerOptions
from .protocol.origin_rules import SELF, OriginRule, originRule
from .protocol.payload import codecFor
from .protocol.proxies import Client, clientOf, plainAddress, trustedProxies, validHost
from .session.emitter import EventEmitter, Handler
from .session.factory import SocketFactory, generateId
from .session.heartbeats import Heartbeats
from .session.limits import Admission
from .session.socket import ReadyState, Socket
from .stopping import Stop
from .transports.engine_autobahn import AutobahnEngine
from .transports.polling import JSONPTransport, PollingTransport, refuse
from .transports.websocket import WebSocketTransport
from .web.answers import ResponseHeaders, headerOf, headerValues, respond
from .web.connections import isStream
from .web.descriptions import BACKLOG, describedEndpoint, leavingAlone
from .web.fast import FastRequest, siteFor
from .web.ports import Ports
from .web.requests import EngineIORequest
from .web.resource import CapturedPath
from .web.site import Site
from .web.streams import adapt

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

_debug = DebugScope("engine")

DECISION_TIMEOUT = 30.0
"""
Seconds that the middlewares, and then C{allowRequest} and C{generateId}, may take to decide about a request.

Without an end, each request that is never decided about would stay in memory.
"""

AnswerT = TypeVar("AnswerT")


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


@attrs.define
class _Decision:
    """
    A decision about a request.

    @ivar admission: of the handshake that is decided about, if it is about one.
    @ivar isGivenUp: whether nobody needs it any more, or it took too long.
    """

    admission: Admission | None = None
    isGivenUp: bool = False

    def giveUp(self) -> None:
        """Give it up, whatever those who were asked still do."""
        self.isGivenUp = True
        if self.admission is not None:
            self.admission.giveUp()


@implementer(IEngineServer)
class Server(EventEmitter):
    """
    An Engine.IO server: its options, its handlers, its sessions.

    Events, with their arguments: C{connection(socket)} for each session opened; C{connection_error(error)} for each
    request refused with one of the protocol's codes (L{ConnectionErrorEvent}); C{flush(socket, packets)} and
    C{drain(socket)} around each delivery to a transport; C{initial_headers(headers, request)} before the first answer
    of a session, and C{headers(headers, request)} before every answer: C{headers} is a L{ResponseHeaders}, to change.

    @param site: a L{twisted.web.server.Site} to attach to at once.
    @param options: the options, in place of keyword arguments.
    @param reactor: the reactor, or a clock in tests; by default the running one, looked up when first needed.
    @param keywords: options by name, as in L{ServerOptions}.
    @raise OptionError: an option is unknown, of a wrong type or out of range.
    @ivar opts: the L{ServerOptions}.
    @ivar listening: of a server made by L{listen}, a Deferred of the port.
    @ivar reading: the requests whose bodies are being read.
    @ivar undecided: what refuses each request that is being decided about, and whether that would open a session.
    @ivar stopping: how the server stops, and how far it is.
    @ivar counters: what has happened, for those parts that count; an application asks L{stats}.
    """

    _log = Logger()
    listening: Deferred[IListeningPort]
    _warnedOfIdleTime = False

    def __init__(
        self,
        site: server.Site | None = None,
        options: ServerOptions | None = None,
        *,
        reactor: IReactorTime | None = None,
        **keywords: Unpack[OptionKeywords],
    ) -> None:
        if options is not None and keywords:
            raise OptionError("options", options, f"expected either ServerOptions or {', '.join(keywords)}, not both")
        self.opts = options if options is not None else ServerOptions(**keywords)
        self._givenReactor = reactor
        self.counters = Counters(LogThrottle(lambda: self.clock))
        self._middlewares: list[Callable[[Any], Any]] = []
        # For each request that waits for a middleware, allowRequest or generateId, what answers it otherwise, and
        # whether it is known to be one that would open a session.
        self.undecided: dict[Callable[[HTTPRefusal], None], bool] = {}
        self.reading: Connections[EngineIORequest] = Connections()
        # Sessions that are the transport of a protocol, each until that has learned of its end.
        self.streams: Connections[Any] = Connections()
        self._foreignUpgrades: set[IDelayedCall] = set()
        self.stopping = Stop(self)
        # Of a server made by listen.
        self._ownPorts: Ports | None = None
        origins = self.opts.allowedOrigins
        self._namesOwnOrigin = origins == SELF or (isinstance(origins, tuple) and SELF in origins)
        cors = self.opts.cors
        if cors is not None:
            if cors.credentials and cors.origin == "*":
                self._log.warn('cors: credentials are never allowed to every origin, "*": name the origins')
            self.use(self._allowOrigins)
        if site is not None:
            self.attach(site)

    # For the application

    @property
    def clients(self) -> dict[str, Socket]:
        """The live sessions by id. To look at, not to change."""
        return self.factory.clients

    @property
    def clientsCount(self) -> int:
        """How many sessions are live."""
        return len(self.factory.clients)

    def upgrades(self, transport: str) -> list[str]:
        """
        Return the transports to which a session may move.

        @param transport: the name of the one it is on.
        """
        return upgradesOf(transport, self.opts)

    def use(self, middleware: Callable[[Any], Any]) -> None:
        """
        Have a middleware called with each request, plain or for a WebSocket, before anything about it is checked.

        Middlewares are called in the order in which they were added. One may set response headers, which go out
        with a 101 too, or finish the request itself, which ends the chain; it may return a Deferred or a coroutine.
        What it raises is logged, and refuses the request with C{MIDDLEWARE_FAILURE}.
        """
        self._middlewares.append(middleware)

    def generateId(self, request: Any) -> str | Awaitable[str]:
        """
        Return the id of a new session, which begins with C{idPrefix}; replace it in a subclass or on the instance.

        @param request: the request that opens the session.
        @return: text that fits into a URL, used by no live session; or a Deferred or coroutine of one.
        """
        return self.opts.idPrefix + generateId()

    def clientOf(self, request: Any) -> Client:
        """
        Return who sent a request: its C{address}, and the C{scheme} and C{host} by which it addressed this server.

        As the connection says; where that is one of C{trustedProxies}, as the proxy says. Middlewares that change the
        headers in question come first.

        @param request: a L{twisted.web.server.Request}.
        @raise HTTPRefusal: a trusted proxy contradicts itself (docs/protocol.md, "Proxies"). Not for the request of
            a session, which wouldn't have been opened.
        """
        if self.opts.trustedProxies is None:
            return _connectionOf(request)[0]
        client: Client | None = getattr(request, "engineIOClient", None)
        if client is None:
            connection, isUnix = _connectionOf(request)

            def headers(name: bytes) -> list[bytes]:
                values: list[bytes] = request.requestHeaders.getRawHeaders(name, [])
                return values

            client = clientOf(connection, headers, trustedProxies(self.opts.trustedProxies), isUnix)
            request.engineIOClient = client
        return client

    def attach(self, site: server.Site, **keywords: Any) -> None:
        """
        Capture the path on a site. Every other request goes on to what the site had before.

        A site whose requests are still of twisted.web's own class gets ours, which counts bodies as they come.

        @param keywords: C{path}, C{addTrailingSlash}, C{destroyUpgrade} or C{destroyUpgradeTimeout}, where they
            differ from the server's options.
        @raise OptionError: another name, or a wrong value.
        """
        here = {"path", "addTrailingSlash", "destroyUpgrade", "destroyUpgradeTimeout"}
        for name in set(keywords) - here:
            raise OptionError(name, keywords[name], f"attach takes {', '.join(sorted(here))}")
        options = attrs.evolve(self.opts, **keywords)
        timeout = options.destroyUpgradeTimeout / 1000 if options.destroyUpgrade else None
        site.resource = CapturedPath(
            self,
            options.path,
            options.addTrailingSlash,
            site.resource,
            lambda request: self._destroyLater(request, timeout),
        )
        if isinstance(site, Site):
            site.addServer(self)
        if site.requestFactory is server.Request:
            site.requestFactory = EngineIORequest

    def broadcast(self, data: object, exclude: Socket | Collection[Socket] = (), *, compress: bool = True) -> int:
        """
        Send a message to every session that is open. For those on WebSocket it is encoded once, not once for each.

        Causes on each socket what L{Socket.send} causes.

        @param data: as for L{Socket.send}.
        @param exclude: a socket, or several, that don't get it, such as the one whose message it is.
        @param compress: whether it may be compressed.
        @return: to how many sessions it goes.
        @raise ValueError: the text holds a lone surrogate, which no encoding can carry.
        """
        return self.factory.broadcast(data, (exclude,) if isinstance(exclude, Socket) else exclude, compress)

    def addObserver(self, observer: Any) -> None:
        """
        Tell an observer of what happens from now on.

        @param observer: provides L{IServerObserver}, such as an instance of a class that extends L{ServerObserver}.
        @raise TypeError: it doesn't.
        """
        self.counters.add(observer)

    def removeObserver(self, observer: Any) -> None:
        """Tell an observer nothing more. One that wasn't added is no error."""
        self.counters.remove(observer)

    def stats(self) -> ServerStats:
        """
        Return what the server has done so far, and what it has now.

        It looks at every session, which takes some five milliseconds for ten thousand: for now and then.
        """
        counters = self.counters
        sessions = self.clients.values()
        packets = [len(each.writeBuffer) for each in sessions]
        amounts = [each.bufferedAmount for each in sessions]
        return ServerStats(
            sessions={name: counters.sessions.get(name, 0) for name in ("polling", "websocket")},
            opened=counters.opened,
            upgraded=counters.upgraded,
            closed=dict(counters.closed),
            refused=dict(counters.refused),
            limited=dict(counters.limited),
            packetsReceived=counters.packetsReceived,
            packetsSent=counters.packetsSent,
            bytesReceived=counters.bytesReceived,
            bytesSent=counters.bytesSent,
            bufferedPackets=sum(packets),
            mostBufferedPackets=max(packets, default=0),
            bufferedBytes=sum(amounts),
            mostBufferedBytes=max(amounts, default=0),
            heldBytes=sum([each.heldBytes for each in sessions]),
            undecided=len(self.undecided),
            reading=len(self.reading),
            webSockets=len(self.webSockets.connections),
        )

    @property
    def whyNotReady(self) -> str | None:
        """Why no new sessions are opened: the server drains or closes, or, where L{listen} made it, has no port yet."""
        if not self._opens:
            return "closing" if self.stopping.isClosing else "draining"
        return "not listening" if self._ownPorts is not None and not self._ownPorts.open else None

    @property
    def isReady(self) -> bool:
        """Whether new sessions are opened."""
        return self.whyNotReady is None

    @property
    def _opens(self) -> bool:
        return not self.stopping.isClosing and not self.stopping.isDraining

    def drain(self) -> Deferred[None]:
        """
        Let every session end in its own time, and open no new ones, from here on and for good.

        L{isReady} is False before anything else happens, and new sessions are refused with 503. What was sent goes out
        at the pace of the client: on WebSocket, and then a close frame with 1001; on polling with the client's next
        GET, and a close packet. Until then messages of the client are received, and an upgrade goes on; nothing more
        can be sent. What is left after C{drainTimeout} is ended as by L{close}. Causes C{close} with C{server shutting
        down} on each session. The server listens as before.

        @return: a Deferred that fires when no session and no WebSocket is left, at the latest three seconds after
            C{drainTimeout}: then what is left is aborted.
        """
        return self.stopping.drain()

    def close(self, *, drain: bool = False) -> Deferred[None]:
        """
        Close the server: stop listening, where L{listen} made it, and end every session.

        What a session has buffered goes out if its transport can take it now. New sessions are refused with 503,
        from here on and for good. Causes C{close} with C{server shutting down} on each session.

        @param drain: when nothing is listened on any more, do first what L{drain} does, and give other requests on a
            site of L{listen}'s as long to be answered. Closing without it meanwhile ends the waiting.
        @return: a Deferred that fires when no session, timer or connection of the server is left, at the latest after
            three seconds, with C{drain} three seconds after C{drainTimeout}: then what is left is aborted. Idle
            connections that a site of the application keeps open are not the server's.
        """
        return self.stopping.close(drain)

    # For resources

    def handleRequest(self, request: Any) -> None:
        """
        Answer a plain request, now or later.

        @param request: a L{twisted.web.server.Request} whose body has been read.
        """
        self._handle(request, isUpgrade=False)

    def handleUpgrade(self, request: Any) -> None:
        """
        Answer a request for a WebSocket: take its connection over, or refuse it.

        @param request: a L{twisted.web.server.Request}.
        """
        self._handle(request, isUpgrade=True)

    def pushTarget(self, request: Any, method: bytes, uri: bytes) -> PollingTransport | None:
        """
        Return the transport to which a request with a body would deliver it; None where it would be refused.

        @param request: the request, of which only the headers are known yet.
        """
        try:
            wanted = self._classify(request, method, uri, isUpgrade=False)
        except HTTPRefusal:
            return None
        return self._session(wanted).transport if wanted.want is Want.PUSH else None

    # What there is one of

    @cached_property
    def reactor(self) -> Any:
        """The reactor."""
        if self._givenReactor is not None:
            return self._givenReactor
        from twisted.internet import reactor

        return reactor

    @cached_property
    def clock(self) -> Any:
        """The time of the reactor, whatever the system's clock is set to: for all that has to happen in time."""
        return steadyClock(self.reactor)

    @cached_property
    def factory(self) -> SocketFactory:
        """The sessions."""
        return SocketFactory(self, self.clock)

    @cached_property
    def ends(self) -> Ends:
        """The ends of sessions, none of which runs inside another."""
        return Ends(self.clock)

    @cached_property
    def heartbeats(self) -> Heartbeats:
        """When the heartbeats of sessions are due."""
        return Heartbeats(self.opts, self.clock)

    @cached_property
    def webSockets(self) -> Any:
        """What implements WebSocket, a L{IWebSocketEngine}, and which are connected."""
        engine = AutobahnEngine if self.opts.wsEngine is None else self.opts.wsEngine
        return engine(self.reactor, self.opts)

    # Answers

    def announceHeaders(self, request: Any, openedId: str | None = None) -> None:
        """
        Let handlers change the headers of an answer, which are set and not written yet.

        @param openedId: of the session that this is the first answer of, if it is of one.
        """
        isFirst = openedId is not None and (self.opts.cookie is not None or self.hears("initial_headers"))
        cookies = request.addedCookies if isinstance(request, FastRequest) else request.cookies
        if not isFirst and not cookies and not self.hears("headers"):
            return
        _joinCookies(request)
        headers = ResponseHeaders(request.responseHeaders)
        if openedId is not None:
            if self.opts.cookie is not None:
                request.responseHeaders.addRawHeader("Set-Cookie", cookieHeader(self.opts.cookie, openedId))
            self.emit("initial_headers", headers, request)
        self.emit("headers", headers, request)
        _joinCookies(request)

    async def announceEarlyHeaders(self, request: Any) -> None:
        """The same for an answer that is given before the middlewares are asked, when a body is refused."""
        try:
            if self.opts.cors is not None:
                self._addCorsHeaders(request, self.opts.cors, await self._originRule(request, self.opts.cors))
        finally:
            self.announceHeaders(request)

    async def _originRule(self, request: Any, cors: Cors) -> OriginRule:
        """Return which pages may read the answer, where a function is to be asked."""
        rule = cors.origin
        return originRule(await _settled(rule(headerOf(request, b"origin")))) if callable(rule) else rule

    def _addCorsHeaders(self, request: Any, cors: Cors, rule: OriginRule) -> None:
        """Say which pages may read the answer."""
        origin = headerOf(request, b"origin")
        asked = headerOf(request, b"access-control-request-headers")
        said = corsHeaders(cors, rule, origin, request.method == b"OPTIONS", asked)
        for name, value in said.headers.items():
            request.setHeader(name, value)
        if said.vary:
            request.setHeader("Vary", ", ".join(said.vary))

    def _allowOrigins(self, request: Any) -> Awaitable[None] | None:
        """Be the middleware of C{cors}, which answers a request that only asks what it may do."""
        cors = self.opts.cors
        assert cors is not None
        if callable(cors.origin):
            return self._askWhichOrigins(request, cors)
        self._sayOrigins(request, cors, cors.origin)
        return None

    async def _askWhichOrigins(self, request: Any, cors: Cors) -> None:
        self._sayOrigins(request, cors, await self._originRule(request, cors))

    def _sayOrigins(self, request: Any, cors: Cors, rule: OriginRule) -> None:
        self._addCorsHeaders(request, cors, rule)
        if rule is not False and request.method == b"OPTIONS" and not cors.preflightContinue:
            respond(request, cors.optionsSuccessStatus, {}, b"", self.announceHeaders)

    # Requests

    def _handle(self, request: Any, isUpgrade: bool) -> None:
        if _isAnswered(request):
            # An application that calls this after some time may find the client gone.
            return
        if isStream(request.channel):
            adapt(request)
            if request.channel.isOver:
                # Its end is about to be told.
                return
        if isUpgrade:
            # What the client sends behind it, for the WebSocket, is not to be taken for another request.
            request.channel.persistent = False
        middlewares = iter(self._middlewares)
        for middleware in middlewares:
            try:
                answer = middleware(request)
            except BaseException:
                self._log.failure("A middleware failed")
                self._refuse(request, isUpgrade, _middlewareFailure())
                return
            if isinstance(answer, Awaitable):
                rest = partial(self._afterMiddlewares, request, isUpgrade, answer, middlewares)
                self._decide(request, isUpgrade, rest, _noMiddlewareInTime)
                return
            if _isAnswered(request):
                return
        self._route(request, isUpgrade)

    async def _afterMiddlewares(
        self,
        request: Any,
        isUpgrade: bool,
        answer: Awaitable[object],
        rest: Iterator[Callable[[Any], Any]],
        decision: _Decision,
    ) -> None:
        """Wait for a middleware, and go on with those behind it."""
        try:
            await answer
            for middleware in rest:
                if _isAnswered(request):
                    return
                await _settled(middleware(request))
        except GeneratorExit:
            raise
        except BaseException:
            self._logUnlessGivenUp("A middleware failed", decision)
            raise _middlewareFailure() from None
        if not _isAnswered(request):
            self._route(request, isUpgrade)

    def _route(self, request: Any, isUpgrade: bool) -> None:
        try:
            if not isUpgrade and self._routeUsual(request):
                return
            wanted = self._classify(request, request.method, request.uri, isUpgrade)
            if wanted.want is Want.POLL:
                self._session(wanted).transport.poll(request)
            elif wanted.want is Want.PUSH:
                self._session(wanted).transport.push(request)
            elif wanted.want is Want.UPGRADE:
                self._upgrade(request, wanted)
            else:
                self._handshake(request, wanted, isUpgrade)
        except BaseException:
            self._notDecided(Failure(), request, isUpgrade, _Decision())

    def _routeUsual(self, request: Any) -> bool:
        """Serve a request as nearly all are; return whether it is one, and otherwise do nothing."""
        sid = usualSession(request.uri)
        if sid is None or headerValues(request, b"origin"):
            return False
        method = request.method
        if not sid:
            if method != b"GET" or "polling" not in self.opts.transports:
                return False
            self._handshake(request, _USUAL_HANDSHAKE, isUpgrade=False)
            return True
        session = self.factory.clients.get(sid)
        if session is None or session.protocol != 4 or session.transport.name != "polling":
            return False
        if method == b"GET":
            session.transport.poll(request)
        elif method == b"POST":
            session.transport.push(request)
        else:
            return False
        return True

    def _handshake(self, request: Any, wanted: EngineRequest[Socket], isUpgrade: bool) -> None:
        if not self._opens:
            raise ServerClosing
        if self.opts.trustedProxies is not None:
            # What a proxy says is made sure of before anything rests on it.
            self.clientOf(request)
        admission = self.factory.admit(request, self._addressOf)
        if self.opts.allowRequest is None and self._generatesIds():
            # Nothing that could take time.
            try:
                sid = self.opts.idPrefix + generateId()
                self._openAs(request, wanted, self._handshakeOf(request, wanted), sid, admission)
            finally:
                admission.giveUp()
        else:
            decision = _Decision(admission)
            self._decide(request, isUpgrade, partial(self._open, request, wanted), _noDecisionInTime, decision)

    def _addressOf(self, request: Any) -> str | None:
        # What proxies say is looked for where it counts, and never otherwise.
        if self.opts.trustedProxies is None:
            return plainAddress(request.getClientAddress())
        return self.clientOf(request).address

    def _classify(self, request: Any, method: bytes, uri: bytes, isUpgrade: bool) -> EngineRequest[Socket]:
        origins = headerValues(request, b"origin")
        own = partial(self._ownOrigin, request) if self._namesOwnOrigin else noOrigin
        return classify(method.decode("latin-1"), uri, origins, isUpgrade, self.opts, self.clients.get, own)

    @staticmethod
    def _session(wanted: EngineRequest[Socket]) -> Socket:
        assert wanted.session is not None
        return wanted.session

    def _decide(
        self,
        request: Any,
        isUpgrade: bool,
        ask: Callable[[_Decision], Coroutine[Any, Any, None]],
        tooSlow: Callable[[], HTTPRefusal],
        decision: _Decision | None = None,
    ) -> None:
        """Follow a decision about a request that may take time, until it is made, takes too long, or isn't needed."""
        decision = decision or _Decision()
        opensSession = decision.admission is not None
        deciding = Deferred.fromCoroutine(ask(decision))
        deciding.addErrback(self._notDecided, request, isUpgrade, decision)
        if deciding.called:
            return

        def over(_: object = None) -> None:
            cancel(timer)
            self.undecided.pop(giveUp, None)

        def giveUp(refusal: HTTPRefusal) -> None:
            over()
            decision.giveUp()
            self._refuse(request, isUpgrade, refusal)
            deciding.cancel()

        def tooLong() -> None:
            if self.counters.throttle.allows("undecided"):
                self._log.warn(
                    "A request from {peer} was not decided about in {seconds} seconds",
                    peer=request.getClientAddress(),
                    seconds=DECISION_TIMEOUT,
                )
            giveUp(tooSlow())

        timer = self.reactor.callLater(DECISION_TIMEOUT, tooLong)
        self.undecided[giveUp] = opensSession
        deciding.addCallback(over)
        # A client that has gone gets no answer, but what it waited for is cancelled.
        request.notifyFinish().addErrback(lambda _: giveUp(ServerClosing()))
        if self.stopping.isClosing or (opensSession and not self._opens):
            giveUp(ServerClosing())

    def _notDecided(self, failure: Failure, request: Any, isUpgrade: bool, decision: _Decision) -> None:
        refusal = failure.value
        if not isinstance(refusal, HTTPRefusal):
            if not decision.isGivenUp and self.counters.throttle.allows(f"internal errors, {type(refusal).__name__}"):
                self._log.failure("A request could not be answered", failure)
            refusal = HTTPRefusal("internal error", None, 500, "INTERNAL_ERROR")
        self._refuse(request, isUpgrade, refusal)

    async def _open(self, request: Any, wanted: EngineRequest[Socket], decision: _Decision) -> None:
        assert decision.admission is not None
        try:
            handshake = self._handshakeOf(request, wanted)
            await self._askWhetherAllowed(request, decision)
            sid = await self._newId(request, decision)
            # What was cancelled may have taken no notice.
            if not decision.isGivenUp:
                if not self._opens:
                    raise ServerClosing
                self._openAs(request, wanted, handshake, sid, decision.admission)
        finally:
            decision.admission.giveUp()

    def _ownOrigin(self, request: Any) -> str | None:
        return self.clientOf(request).origin

    def _handshakeOf(self, request: Any, wanted: EngineRequest[Socket]) -> WebSocketHandshake | None:
        return self._checkWebSocket(request) if wanted.want is Want.WEBSOCKET else None

    def _openAs(
        self,
        request: Any,
        wanted: EngineRequest[Socket],
        handshake: WebSocketHandshake | None,
        sid: str,
        admission: Admission,
    ) -> None:
        if handshake is not None:
            self._openOnWebSocket(request, wanted, handshake, sid, admission)
            return
        codec = codecFor(wanted.revision)
        if wanted.jsonpIndex is None:
            polling = PollingTransport(codec, wanted.supportsBinary, self.opts, self.reactor, self.counters)
        else:
            polling = JSONPTransport(codec, self.opts, self.reactor, wanted.jsonpIndex, self.counters)
        if isStream(request.channel):
            self._checkHead(request)
            self._checkIdleTime(request)
        polling.park(request)
        self._announce(self.factory.open(sid, polling, request, wanted.revision, admission))
        _keepLittle(request)

    def _openOnWebSocket(
        self,
        request: Any,
        wanted: EngineRequest[Socket],
        handshake: WebSocketHandshake,
        sid: str,
        admission: Admission,
    ) -> None:
        def begin() -> None:
            self._announce(self.factory.open(sid, transport, request, wanted.revision, admission))

        transport = WebSocketTransport(codecFor(wanted.revision), wanted.supportsBinary, begin, self.counters)
        self._accept(request, handshake, transport, sid)
        _keepLittle(request)

    def _checkHead(self, request: Any) -> None:
        """Refuse a request of HTTP/2 whose head is too large; on a connection of HTTP/1.1 its site does."""
        size = len(request.uri)
        for name, values in request.requestHeaders.getAllRawHeaders():
            size += sum([len(name) + len(value) for value in values])
        limit = self.opts.maxHeaderSize
        if size > limit:
            message = f"the headers are larger than maxHeaderSize, {limit} bytes"
            raise HTTPRefusal(message, None, 431, "maxHeaderSize")

    def _checkIdleTime(self, request: Any) -> None:
        """Say once that a site closes connections of HTTP/2 on which GETs wait; those of HTTP/1.1 it doesn't."""
        seconds = request.channel.site.timeOut
        if seconds is not None and seconds * 1000 <= self.opts.pingInterval and not self._warnedOfIdleTime:
            self._warnedOfIdleTime = True
            self._log.warn(
                "The site closes a connection of HTTP/2 on which nothing is sent for {seconds} s, and with it every "
                "session that waits there, but nothing need be sent for pingInterval, {pingInterval} ms: make the site "
                "with a longer timeout",
                seconds=seconds,
                pingInterval=self.opts.pingInterval,
            )

    def _announce(self, socket: Socket) -> None:
        if _debug.enabled:
            _debug.log(f"session {socket.logName} opened on {socket.transport.name}")
        # A handler of flush may have closed it before anybody heard of it, and one of connection may now.
        if socket.readyState is not ReadyState.CLOSED:
            self.emit("connection", socket)
        if socket.readyState is not ReadyState.CLOSED:
            socket.emit("open")

    def _logUnlessGivenUp(self, what: str, decision: _Decision) -> None:
        """Log what is being raised, unless it comes from being cancelled."""
        if not decision.isGivenUp:
            self._log.failure(what)

    async def _askWhetherAllowed(self, request: Any, decision: _Decision) -> None:
        if self.opts.allowRequest is None:
            return
        try:
            allowed = await _settled(self.opts.allowRequest(request))
        except RequestRefused as error:
            raise ConnectionRefusal(ErrorCode.FORBIDDEN, {"message": error.message}, error.message) from None
        except GeneratorExit:
            raise
        except BaseException:
            self._logUnlessGivenUp("allowRequest failed", decision)
            allowed = False
        if not allowed:
            raise ConnectionRefusal(ErrorCode.FORBIDDEN, {"message": "allowRequest said no"})

    async def _newId(self, request: Any, decision: _Decision) -> str:
        try:
            sid: Any = await _settled(self.generateId(request))
            if not isinstance(sid, str) or not sid:
                raise TypeError(f"generateId returned {type(sid).__name__}: expected text, and not the empty one")
            # A client can be told nothing else.
            sid.encode()
            if sid in self.clients:
                raise ValueError("generateId returned an id that a live session has")
        except GeneratorExit:
            raise
        except BaseException as error:
            self._logUnlessGivenUp("generateId failed", decision)
            context = {"name": "ID_GENERATION_ERROR", "error": error}
            raise ConnectionRefusal(ErrorCode.BAD_REQUEST, context) from None
        return sid

    def _generatesIds(self) -> bool:
        """Tell whether ids are made here, and not by a method that replaces ours."""
        return "generateId" not in vars(self) and type(self).generateId is Server.generateId

    def _upgrade(self, request: Any, wanted: EngineRequest[Socket]) -> None:
        handshake = self._checkWebSocket(request)

        def begin() -> None:
            session = self._session(wanted)
            # Whatever comes on it comes from the client of that session.
            transport.owner = session
            if not session.tryUpgrade(transport):
                # One WebSocket is there already. The session isn't to suffer from a second.
                transport.close()

        transport = WebSocketTransport(codecFor(wanted.revision), wanted.supportsBinary, begin, self.counters)
        self._accept(request, handshake, transport, None)

    def _checkWebSocket(self, request: Any) -> WebSocketHandshake:
        if getattr(request.channel, "transport", None) is None:
            # HTTP/2: there is no connection that could become a WebSocket.
            raise HTTPRefusal("a WebSocket needs HTTP/1.1", {"Upgrade": "websocket"}, 426, "UPGRADE_REQUIRED")
        headers = {name.lower(): values for name, values in request.requestHeaders.getAllRawHeaders()}
        return checkWebSocketHeaders(request.method.decode("latin-1"), headers)

    def _accept(
        self, request: Any, handshake: WebSocketHandshake, transport: WebSocketTransport, openedId: str | None
    ) -> None:
        self.announceHeaders(request, openedId)
        if self.stopping.isClosing or (openedId is not None and not self._opens):
            request.responseHeaders.removeHeader("Set-Cookie")
            raise ServerClosing
        # As text for engines, which write it as UTF-8.
        headers = {
            name.decode("ascii"): [value.decode("utf-8", "replace") for value in values]
            for name, values in request.responseHeaders.getAllRawHeaders()
            if not _OF_A_HANDSHAKE.fullmatch(name)
        }
        connection = request.channel.transport
        try:
            self.webSockets.accept(request, handshake, headers, transport)
        except BaseException:
            if not request.startedWriting:
                raise
            # It has been taken over, and its 101 isn't there, or only in part: no answer would be understood.
            if self.counters.throttle.allows("WebSockets that could not be opened"):
                self._log.failure("A WebSocket could not be opened")
            attempt(connection.abortConnection)
            return
        request.code = 101
        site = getattr(request, "site", None)
        if site is not None:
            # Nobody else does, as the request is never finished.
            site.log(request)

    def _refuse(self, request: Any, isUpgrade: bool, refusal: HTTPRefusal) -> None:
        if _isAnswered(request):
            if not request.finished and request.channel is not None:
                # A middleware has begun to answer, and will not go on.
                request.loseConnection()
            return
        self.counters.requestRefused(request, refusal)
        if _debug.enabled:
            # No more: what is in the query, and so in the context, may be a secret.
            _debug.log(f"refused {request.method!r} {request.path!r}: {refusal.name}, {refusal.message}")
        if isinstance(refusal, ConnectionRefusal):
            context = dict(refusal.context)
            self.emit(
                "connection_error", ConnectionErrorEvent(request, refusal.code, ERROR_MESSAGES[refusal.code], context)
            )
            if _isAnswered(request):
                # By a handler, which goes on with what it has begun.
                return
        if isUpgrade:
            headers = {"Content-Type": "text/plain; charset=utf-8", "Connection": "close", **refusal.headers}
            respond(request, refusal.status, headers, refusal.message.encode(), self.announceHeaders)
        else:
            refuse(request, refusal, self.announceHeaders)

    # Upgrade requests outside the path

    def _destroyLater(self, request: Any, timeout: float | None) -> None:
        """Close the connection of a request for a WebSocket that isn't ours, unless somebody serves it in time."""
        if timeout is None or self.stopping.isClosing:
            return
        connection = request.channel.transport

        def holder() -> object:
            return connection.wrappedProtocol if isinstance(connection, ProtocolWrapper) else connection.protocol

        before = holder()

        def destroy() -> None:
            self._foreignUpgrades.discard(call)
            # Whoever made it a WebSocket put another protocol in the channel's place, or replaced its dataReceived.
            isServed = request.startedWriting or holder() is not before or "dataReceived" in vars(request.channel)
            if not isServed:
                connection.loseConnection()

        def over(_: object) -> None:
            self._foreignUpgrades.discard(call)
            cancel(call)

        call = self.reactor.callLater(timeout, destroy)
        self._foreignUpgrades.add(call)
        request.notifyFinish().addBoth(over)

    # For those who listen, and for the end

    def listenOn(self, endpoint: int | str | IStreamServerEndpoint, site: Site) -> None:
        """Open a port for a site of this server's own, which is closed with it."""
        self._ownPorts = Ports(site)
        self.stopping.closeWith(self._ownPorts)
        # What the application does with this one is its own affair.
        self.listening = Deferred()
        opening = self._ownPorts.listen(endpointOf(self.reactor, endpoint))
        opening.addCallbacks(self.listening.callback, self.listening.errback)

    def letGoOfForeignUpgrades(self) -> None:
        """Leave alone what asks for a WebSocket that isn't ours."""
        for call in self._foreignUpgrades:
            cancel(call)
        self._foreignUpgrades.clear()

    # Failing handlers

    def handlerFailed(self, event: str, args: tuple[Any, ...], failure: Failure) -> None:
        """Log what a handler raised, with its session where there is one, and emit it as that socket's C{error}."""
        if event == "connection_error":
            request = args[0].req
            if request.startedWriting and not request.finished and request.channel is not None:
                # It had begun to answer, and nobody goes on.
                request.loseConnection()
        if args and isinstance(args[0], Socket):
            args[0].handlerFailed(event, args[1:], failure)
        else:
            super().handlerFailed(event, args, failure)


_OF_A_HANDSHAKE = re.compile(rb"connection|upgrade|content-length|transfer-encoding|sec-websocket-.*", re.IGNORECASE)
"""Headers that have a meaning of their own in a 101, where those of other answers would break it."""


def _joinCookies(request: Any) -> None:
    """Move the cookies of a request's answer to its headers: twisted.web would have them replace those there."""
    cookies, request.cookies = request.cookies, []
    for cookie in cookies:
        request.responseHeaders.addRawHeader(b"Set-Cookie", cookie)


def _middlewareFailure() -> HTTPRefusal:
    return ConnectionRefusal(ErrorCode.BAD_REQUEST, {"name": "MIDDLEWARE_FAILURE"})


def _noMiddlewareInTime() -> HTTPRefusal:
    return ConnectionRefusal(ErrorCode.BAD_REQUEST, {"name": "MIDDLEWARE_FAILURE", "reason": "no answer in time"})


def _noDecisionInTime() -> HTTPRefusal:
    return ConnectionRefusal(ErrorCode.FORBIDDEN, {"message": "no decision in time"})


_USUAL_HANDSHAKE: EngineRequest[Socket] = EngineRequest(Want.OPEN, 4, None, supportsBinary=True)


def _isAnswered(request: Any) -> bool:
    """Tell whether there is no answering a request any more: somebody did, or the client has gone."""
    return bool(request.startedWriting) or getattr(request, "channel", None) is None


def _keepLittle(request: Any) -> None:
    """Free what the first request of a session, which keeps it, need not hold, if it is one of ours."""
    keepLittle = getattr(request, "keepLittle", None)
    if keepLittle is not None:
        keepLittle()


def _connectionOf(request: Any) -> tuple[Client, bool]:
    """Return whose connection a request came on, and whether that is on a UNIX socket."""
    address = request.getClientAddress()
    # The request is asked first, which an application may have told; once it is answered, only the connection knows.
    isSecure = request.isSecure() or ISSLTransport.providedBy(getattr(request, "transport", None))
    hosts = request.requestHeaders.getRawHeaders(b"host", ())
    host = validHost(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
    scheme = "https" if isSecure else "http"
    return Client(plainAddress(address), scheme, host), isinstance(address, UNIXAddress)


async def _settled(answer: AnswerT | Awaitable[AnswerT]) -> AnswerT:
    """Return an answer, given plain, as a Deferred, or as a coroutine."""
    if isinstance(answer, Awaitable):
        return await answer
    return answer


class NotImplementedResource(resource.Resource):
    """What is beside the sessions where nothing is: 501."""

    isLeaf = True

    def render(self, request: server.Request) -> Any:
        """Refuse a request."""
        return errorPage(501, "Not Implemented", "Only Engine.IO is served here.").render(request)


def attach(site: server.Site, *, reactor: IReactorTime | None = None, **options: Unpack[OptionKeywords]) -> Server:
    """
    Make a server that captures its path on a site.

    @param site: a L{twisted.web.server.Site}, ours or any other.
    @param options: as in L{ServerOptions}.
    @return: the L{Server}.
    @raise OptionError: an option is unknown, of a wrong type or out of range.
    """
    return Server(site, reactor=reactor, **options)


def listen(
    endpoint: int | str | IStreamServerEndpoint,
    callback: Callable[[], object] | None = None,
    *,
    reactor: Any = None,
    **options: Unpack[OptionKeywords],
) -> Server:
    """
    Make a server that listens by itself; requests outside its path get a 501.

    @param endpoint: a port number, for all interfaces, by IPv6 and IPv4; or the description of an endpoint, such as
        C{"tcp:3000:interface=127.0.0.1"}, C{"unix:/run/app.sock"} or C{"tls:/etc/certificates:443"}; or an endpoint.
    @param callback: called when the server listens.
    @param options: as in L{ServerOptions}.
    @return: the L{Server}, whose C{listening} is a Deferred of the port, or of the reason why there is none, such as
        L{twisted.internet.error.CannotListenError}.
    @raise OptionError: an option is unknown, of a wrong type or out of range.
    @raise ValueError: the description isn't one, or the number isn't a port.
    """
    engine = Server(reactor=reactor, **options)
    site = siteFor(NotImplementedResource(), engine.reactor)
    engine.attach(site)
    engine.listenOn(endpoint, site)
    if callback is not None:
        handler: Handler = callback

        def listening(port: IListeningPort) -> IListeningPort:
            engine.callHandler("listening", handler)
            return port

        engine.listening.addCallback(listening)
    return engine


def endpointOf(reactor: Any, endpoint: int | str | IStreamServerEndpoint) -> IStreamServerEndpoint:
    """
    Return the endpoint that a port number, or a description, stands for, or one itself.

    @raise ValueError: the description isn't one, or the number isn't a port.
    """
    if IStreamServerEndpoint.providedBy(endpoint):
        return leavingAlone(endpoint)
    if isinstance(endpoint, str):
        try:
            return describedEndpoint(reactor, endpoint)
        except (ValueError, TypeError) as error:
            raise ValueError(f"endpoint {endpoint!r}: expected a description such as 'tcp:3000' ({error})") from error
    if type(endpoint) is not int or not 0 <= endpoint <= 65535:
        raise ValueError(f"endpoint {endpoint!r}: expected a port number, 0 to 65535, a description, or an endpoint")
    return _AllInterfaces(reactor, endpoint)


@implementer(IStreamServerEndpoint)
class _AllInterfaces:
    """A port of all interfaces, by IPv6 where there is that, and by IPv4."""

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        self._port = port

    def listen(self, factory: Any) -> Deferred[IListeningPort]:
        def withoutIPv6(failure: Failure) -> Any:
            problem: Any = failure.value
            if isinstance(problem, CannotListenError) and problem.socketError.errno in _NO_IPV6:
                return TCP4ServerEndpoint(self._reactor, self._port, BACKLOG).listen(factory)
            return failure

        # Where the system lets a socket have both, "::" is all of IPv4 too.
        listening: Deferred[IListeningPort] = TCP6ServerEndpoint(self._reactor, self._port, BACKLOG).listen(factory)
        return listening.addErrback(withoutIPv6)


_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
