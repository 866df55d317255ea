"""The server: what an application holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Unpack

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from zope.interface.interface import InterfaceClass

from .clock import steadyClock
from .debug import debugObservers
from .ends import Connections
from .events import ServerEvents
from .exchange import LocalExchange, RemoteSessions
from .interfaces import IEngineServer
from .logs import LogThrottle, SocketIONotice
from .observer import Counters, IServerObserver, Measure, ServerObserver, ServerStats
from .protocol.errors import OptionError
from .protocol.handshake import upgradesOf
from .protocol.options import OptionKeywords, ServerOptions
from .protocol.proxies import Client
from .routing import Router
from .session.factory import SocketFactory
from .session.handlers import SERVER_EVENTS
from .session.ids import newSessionId
from .session.outbox import Message
from .session.socket import Socket
from .stopping import ShutdownPhase, Stop
from .transports.connection import WithoutWebSockets
from .web.clients import Clients
from .web.exchange import RequestExchange
from .web.foreign import ForeignUpgrades
from .web.mounting import checkSite
from .web.ports import Ports
from .web.requests import EngineIORequest
from .web.resource import CapturedPath
from .web.site import Site
from .web.writer import ResponseWriter

FEW_MILLISECONDS = 100
"""A time of a heartbeat below this is likely to be meant in seconds."""


class Server(ServerEvents):
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
    @raise TypeError: the site isn't one, or the options aren't.
    @ivar opts: the L{ServerOptions}.
    @ivar listening: of a server made by L{listen}, a Deferred of the port, an C{IListeningPort}.
    @ivar workers: the L{Workers<engineio_twisted.workers.Workers>} if this is one of several processes that serve the
        same clients; None otherwise.
    @ivar socketIONotice: what says in the log that a client of Socket.IO has come. A Socket.IO layer calls its
        C{layerBound}.
    """

    _log = Logger()
    _events = SERVER_EVENTS
    listening: Deferred[Any]
    workers: Any = None
    # Of a server made by listen.
    _ownPorts: Ports | None = None
    # Of one of several workers.
    _others: RemoteSessions | None = None

    def __init__(
        self,
        site: server.Site | None = None,
        options: ServerOptions | None = None,
        *,
        reactor: Any = None,
        **keywords: Unpack[OptionKeywords],
    ) -> None:
        if options is not None and keywords:
            raise OptionError("options", options, f"expected either ServerOptions or {', '.join(keywords)}, not both")
        if site is not None:
            checkSite(site)
        if not isinstance(options, ServerOptions | None):
            what = f"options of type {type(options).__name__}"
            raise TypeError(f"{what}: expected ServerOptions; a mapping is given as Server(**options)")
        self.opts: ServerOptions = options if options is not None else ServerOptions(**keywords)
        self._warn()
        self._givenReactor = reactor
        self._engine = self.opts.wsEngine
        if self._engine is None and "websocket" in self.opts.transports:
            # Now rather than within a request; and not with this module, as Autobahn takes long to import.
            from .transports.engine_autobahn import AutobahnEngine

            self._engine = AutobahnEngine
        self._counters = Counters(LogThrottle(lambda: self.clock))
        for observer in debugObservers():
            self._counters.add(observer)
        # The sessions that are the transport of a protocol, each until that was told of its end.
        self._streams: Connections[Any] = Connections()
        # The requests for a WebSocket outside its path.
        self._foreignUpgrades = ForeignUpgrades(self)
        self._stopping = Stop(self)
        self._clients = Clients(self.opts)
        self._writer = ResponseWriter(self.opts, self._counters, self)
        self._router = Router(self, self._stopping, self._writer, self._clients)
        self.socketIONotice: SocketIONotice = SocketIONotice()
        self._exchange: Any = LocalExchange()
        if self.opts.cors is not None:
            self._router.middlewares.append(self._writer.corsMiddleware)
        if site is not None:
            self.attach(site)

    def _warn(self) -> None:
        """Log what is allowed and hardly meant."""
        cors, times = self.opts.cors, ("pingInterval", "pingTimeout")
        if cors is not None and cors.credentials and cors.origin == "*":
            self._log.warn('cors: credentials are never allowed to every origin, "*": name the origins')
        short = [f"{name}={getattr(self.opts, name)}" for name in times if getattr(self.opts, name) < FEW_MILLISECONDS]
        if short:
            self._log.warn("{options}: these are milliseconds, and 25 seconds are 25000", options=", ".join(short))

    def __repr__(self) -> str:
        # The sessions aren't made for this, which would need the reactor.
        count = len(self._factory.clients) if "_factory" in vars(self) else 0
        state = f", {self.whyNotReady}" if self.whyNotReady is not None else ""
        return f"<Server {self.opts.path}, {count} {'session' if count == 1 else 'sessions'}{state}>"

    # For the application

    @property
    def clients(self) -> Mapping[str, Socket]:
        """The live sessions by id. To look at, not to change."""
        return self._factory.clients

    @property
    def clientsCount(self) -> int:
        """How many sessions are live."""
        return len(self._factory.clients)

    def upgrades(self, transport: str) -> list[str]:
        """
        Return the transports to which a session may move.

        @param transport: the name of the one it is on.
        """
        return [*upgradesOf(transport, self.opts)]

    def use(self, middleware: Callable[[server.Request], object], *, names: Collection[str] | None = None) -> None:
        """
        Call a middleware with each request, plain or for a WebSocket, before anything about it is checked.

        Middlewares are called in the order in which they were added. One may set response headers, which go out
        with a 101 too, or finish the request itself, which ends the chain; it may return a Deferred or a coroutine.
        What it raises is logged, and refuses the request with C{MIDDLEWARE_FAILURE}.

        @param names: last segments of paths, such as C{["status.json"]} for C{/engine.io/status.json}: the middleware
            is called for requests to these alone. Then all others, those of sessions, stay as fast as without it.
        @raise TypeError: it can't be called, or the names aren't a collection of text.
        """
        if not callable(middleware):
            raise TypeError(f"middleware {middleware!r:.100}: expected something to call with each request")
        if names is None:
            self._router.middlewares.append(lambda exchange: middleware(exchange.request))
            return
        if isinstance(names, str) or not all(isinstance(each, str) for each in names):
            raise TypeError(f"names {names!r:.100}: expected a list of last segments of paths")
        wanted = frozenset(each.encode() for each in names)

        def forSome(exchange: Any) -> object:
            isWanted = exchange.uri.partition(b"?")[0].rpartition(b"/")[2] in wanted
            return middleware(exchange.request) if isWanted else None

        self._router.middlewares.append(forSome)

    def generateId(self, request: server.Request) -> str | Awaitable[str]:
        """
        Return the id of a new session, which begins with C{idPrefix}; replace it in a subclass or on the instance.

        @param request: the request that opens the session.
        @return: text that fits into a URL, used by no live session; or a Deferred or coroutine of one.
        """
        return self.opts.idPrefix + newSessionId()

    def clientOf(self, request: server.Request) -> Client:
        """
        Return who sent a request: its C{address}, and the C{scheme} and C{host} by which it addressed this server.

        As the connection says; if that is one of C{trustedProxies}, as the proxy says. Middlewares that change the
        headers in question come first.

        @param request: a L{twisted.web.server.Request}.
        @raise HTTPRefusal: a trusted proxy contradicts itself (docs/protocol.md, "Proxies"). Not for the request of
            a session, which wouldn't have been opened.
        """
        return self._clients.clientOf(RequestExchange(request))

    def attach(self, site: server.Site, **keywords: Any) -> None:
        """
        Capture the path on a site. Every other request goes on to what the site had before.

        A site whose requests are still of twisted.web's own class gets ours, which counts bodies as they come.

        @param keywords: C{path}, C{addTrailingSlash}, C{destroyUpgrade} or C{destroyUpgradeTimeout}, if they
            differ from the server's options.
        @raise OptionError: another name, a wrong value, or a path at which another server would get no request any more
            that isn't closed.
        @raise TypeError: the site isn't one.
        """
        checkSite(site)
        here = {"path", "addTrailingSlash", "destroyUpgrade", "destroyUpgradeTimeout"}
        for name in set(keywords) - here:
            raise OptionError(name, keywords[name], f"attach takes {', '.join(sorted(here))}")
        options = attrs.evolve(self.opts, **keywords)

        def foreignUpgrade(request: server.Request) -> None:
            if options.destroyUpgrade:
                self._foreignUpgrades.closeLater(request, options.destroyUpgradeTimeout / 1000)

        captured = CapturedPath(
            self._router, options.path, options.addTrailingSlash, site.resource, foreignUpgrade, self.socketIONotice
        )
        hidden = captured.hides()
        if hidden is not None:
            cure = "give each server a path of its own, or close that one first"
            raise OptionError("path", options.path, f"another server of this site has {hidden}; {cure}")
        site.resource = captured
        if isinstance(site, Site):
            site.addServer(self)
        if site.requestFactory is server.Request:
            site.requestFactory = EngineIORequest

    @property
    def exchange(self) -> Any:
        """
        What connects the processes of the application, an L{IServerExchange}: for layers that have something to say to
        themselves in the others. A server that is the only one has one too, without peers.
        """
        return self._exchange

    def broadcast(
        self,
        data: Message | Sequence[Message],
        exclude: Socket | str | Iterable[Socket | str] = (),
        *,
        to: Iterable[Socket] | None = None,
        compress: bool = True,
        volatile: bool = False,
        local: bool = False,
    ) -> int:
        """
        Send a message to every session that is open, or to some. For those on WebSocket it is encoded once, not once
        for each.

        With several workers it goes to the sessions of all. Those of this worker get it at the call. What one worker
        sends arrives everywhere in the order of its calls.

        Causes on each socket what L{Socket.send} causes. One that fails, or for which no more may be buffered, is
        logged and left out: the others get theirs.

        @param data: as for L{Socket.send}; or a list or tuple of messages that belong together, as for
            L{Socket.sendAll}: each session gets all of them or none.
        @param exclude: a socket, or several, that don't get it, such as the one whose message it is; or ids of
            sessions, of any worker. An id that no session has is no error.
        @param to: the sockets that get it, each once, if it isn't for all: sockets of this server. Those that have
            ended are left out. Nothing goes to other workers.
        @param compress: whether it may be compressed.
        @param volatile: whether it is dropped for each session for which it would have to wait, as that isn't
            L{drained<Socket.isDrained>}.
        @param local: whether it goes to the sessions of this worker alone.
        @return: to how many sessions it goes, of this worker.
        @raise TypeError: the data can't be sent, or one of those to send to, or excluded, is something else.
        @raise ValueError: the text holds a lone surrogate, which no encoding can carry; or, with several workers, the
            messages are too large for the way to the others. Nothing was sent.
        """
        others = None if local or to is not None else self._others
        return self._factory.broadcast(data, exclude, to, compress, volatile, others)

    def sendTo(self, sid: str, data: Message | Sequence[Message], *, compress: bool = True) -> Deferred[bool]:
        """
        Send a message to the session that has an id, in whichever worker it is.

        A session of this worker gets it at the call. What can't be sent raises; all else is the result.

        @param sid: the id of the session.
        @param data: a message, or several that belong together, as for L{broadcast}.
        @param compress: whether it may be compressed.
        @return: a Deferred that never fails: True if the session was open and took it; False if there is none, it is
            closing, no more may be buffered for it, its worker is gone, or says nothing for 10 seconds.
            Cancelled, it fires with False; the message may have been sent.
        @raise TypeError: the data can't be sent, or the id isn't text.
        @raise ValueError: as of L{broadcast}.
        """
        _checkId(sid)
        if self._others is not None and sid not in self._factory.clients:
            return self._others.sendTo(sid, data, compress)
        return succeed(self._factory.sendTo(sid, data, compress))

    def closeSession(self, sid: str, discard: bool = False) -> Deferred[bool]:
        """
        Close the session that has an id, in whichever worker it is, as L{Socket.close} does.

        @param sid: the id of the session.
        @param discard: as of L{Socket.close}.
        @return: a Deferred as of L{sendTo}: whether the session was open.
        @raise TypeError: the id isn't text.
        """
        _checkId(sid)
        if self._others is not None and sid not in self._factory.clients:
            return self._others.close(sid, discard)
        return succeed(self._factory.closeSession(sid, discard))

    def _joinExchange(self, exchange: Any, ownerOf: Callable[[str], int | None]) -> None:
        """
        Be one of several processes from now on; before anything uses L{exchange}.

        @param exchange: what connects them, an L{IServerExchange}. It is started here, and stopped when the server
            closes.
        @param ownerOf: returns the number of the process whose session an id is; None if it is nobody's.
        """
        self._exchange = exchange
        self._others = RemoteSessions(self._factory, exchange, ownerOf)
        exchange.start()
        self.addShutdownTrigger("close", exchange.stop)

    def addObserver(self, observer: IServerObserver | ServerObserver) -> None:
        """
        Call the methods of an observer from now on.

        @param observer: provides L{IServerObserver}, such as an instance of a class that extends L{ServerObserver}.
        @raise TypeError: it doesn't.
        """
        self._counters.add(observer)

    def removeObserver(self, observer: IServerObserver | ServerObserver) -> None:
        """Call an observer no more. One that wasn't added is no error."""
        self._counters.remove(observer)

    def stats(self) -> ServerStats:
        """
        Return what the server has done so far, and what it has now.

        It looks at every session, which takes some five milliseconds for ten thousand: for now and then.
        """
        counters = self._counters
        sessions = self.clients.values()
        packets = [len(each.writeBuffer) for each in sessions]
        amounts = [each.bufferedAmount for each in sessions]
        return ServerStats(
            sessions={name: counters.sessions.get(name, 0) for name in ("polling", "websocket")},
            opened=counters.opened,
            upgraded=counters.upgraded,
            suspended=counters.suspended,
            resumed=counters.resumed,
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
            undecided=len(self._router.decisions),
            reading=len(self._router.reading),
            webSockets=len(self._webSockets.connections),
        )

    def measures(self) -> list[Measure]:
        """Return the numbers of the layers on top, which their observers measure (L{IServerObserver.measures})."""
        return self._counters.measures()

    @property
    def whyNotReady(self) -> str | None:
        """Why no new sessions are opened: the server drains or closes, or, if L{listen} made it, has no port yet."""
        if self._stopping.isClosing:
            return "closing"
        if self._stopping.isDraining:
            return "draining"
        return "not listening" if self._ownPorts is not None and not self._ownPorts.open else None

    @property
    def isReady(self) -> bool:
        """Whether new sessions are opened."""
        return self.whyNotReady is None

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
        return self._stopping.drain()

    def close(self, *, drain: bool = False) -> Deferred[None]:
        """
        Close the server: stop listening, if L{listen} made it, and end every session.

        What a session has buffered goes out if its transport can take it now. New sessions are refused with 503,
        from here on and for good. Causes C{close} with C{server shutting down} on each session.

        @param drain: when nothing is listened on any more, do first what L{drain} does, and give other requests on a
            site of L{listen}'s as long to be answered. Closing without it meanwhile ends the waiting.
        @return: a Deferred that fires when no session, timer or connection of the server is left, at the latest after
            three seconds, with C{drain} three seconds after C{drainTimeout}: then what is left is aborted. Idle
            connections that a site of the application keeps open are not the server's.
        """
        return self._stopping.close(drain)

    def addShutdownTrigger(self, phase: ShutdownPhase, function: Callable[[], object]) -> None:
        """
        Call a function once when the server stops, and wait for the Deferred or coroutine that it may return.

        Those of a phase are called one after the other, and waited for together. One that fails is logged, and stops
        nothing; so does one whose time is over, and that goes on by itself. One added when its phase has begun isn't
        called.

        @param phase: C{"drain"}: when the server begins to drain, by L{drain}, C{close(drain=True)} or the stop of a
            service. New sessions are refused already, and no session has been told to end: they send and receive until
            all is over, at most C{drainTimeout}, and are then drained in what is left of that. Closing the server
            without a drain ends the wait, and if it doesn't drain first nothing is called.
            C{"close"}: when the server closes, after its sessions have ended. The Deferred of L{close} waits for it,
            three seconds at most.
        @param function: called without arguments.
        @raise ValueError: it is another phase.
        @raise TypeError: the function can't be called.
        """
        self._stopping.triggers.add(phase, function)

    def removeShutdownTrigger(self, phase: ShutdownPhase, function: Callable[[], object]) -> None:
        """
        Don't call a function when the server stops. One that wasn't added is no error.

        @raise ValueError: it is another phase than those of L{addShutdownTrigger}.
        """
        self._stopping.triggers.remove(phase, function)

    def handleRequest(self, request: server.Request) -> None:
        """
        Answer a plain request, now or later.

        @param request: a L{twisted.web.server.Request} whose body has been read.
        """
        self._serve(request, isUpgrade=False)

    def handleUpgrade(self, request: server.Request) -> None:
        """
        Answer a request for a WebSocket: take its connection over, or refuse it.

        @param request: a L{twisted.web.server.Request}.
        """
        self._serve(request, isUpgrade=True)

    def _serve(self, request: server.Request, isUpgrade: bool) -> None:
        exchange = RequestExchange(request)
        # An application that calls this after some time may find the client gone.
        if not exchange.isAnswered:
            self._router.handle(exchange, isUpgrade)

    # What there is one of

    @cached_property
    def reactor(self) -> Any:
        """The reactor."""
        if self._givenReactor is not None:
            return self._givenReactor
        from twisted.internet import reactor

        return reactor

    @cached_property
    def clock(self) -> IReactorTime:
        """The time of the reactor, whatever the system's clock is set to: for all that has to happen in time."""
        clock: IReactorTime = steadyClock(self.reactor)
        return clock

    @cached_property
    def _factory(self) -> SocketFactory:
        """The sessions."""
        return SocketFactory(self, self.clock, self._clients.addressOf)

    @cached_property
    def _webSockets(self) -> Any:
        """What implements WebSocket, a L{IWebSocketEngine}, and which are connected."""
        return WithoutWebSockets() if self._engine is None else self._engine(self.reactor, self.opts)

    @property
    def _generatesIds(self) -> bool:
        """Whether ids are made here, and not by a method that replaces ours."""
        return "generateId" not in vars(self) and type(self).generateId is Server.generateId

    def __conform__(self, interface: InterfaceClass) -> Any:
        """Return what a site and a resource know this server as."""
        return self._router if interface is IEngineServer else None

    # Failing handlers

    def handlerFailed(self, event: str, args: tuple[Any, ...], failure: Failure) -> None:
        """Log what a handler raised, with its session if there is one, and emit it as that socket's C{error}."""
        if event == "connection_error":
            request = args[0].req
            if request.startedWriting and not request.finished and request.channel is not None:
                # It had begun to answer, and nobody goes on.
                request.loseConnection()
        if args and isinstance(args[0], Socket):
            args[0].handlerFailed(event, args[1:], failure)
        else:
            super().handlerFailed(event, args, failure)


def _checkId(sid: object) -> None:
    if not isinstance(sid, str):
        raise TypeError(f"sid of type {type(sid).__name__}: expected the id of a session")
