"""
The stop of a server: in which order everything ends, and when. docs/graceful-shutdown.md.

There is one deadline for all of it. Clients have until C{drainTimeout} to take what they are sent, without a drain no
time at all. What is left three seconds later is aborted, and waited for no longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from .clock import cancel
from .ends import CLOSE_TIMEOUT, ROOM, Connections, Deadline, Ends, alsoWhen, attempt, attemptLater, needRoom
from .observer import Counters
from .protocol.errors import ServerClosing
from .protocol.options import ServerOptions
from .web.decisions import Decisions
from .web.foreign import ForeignUpgrades
from .web.ports import Ports

ShutdownPhase: TypeAlias = Literal["drain", "close"]
"""When a shutdown trigger is called."""


class Sessions(Protocol):
    """The sessions of a server, as far as its stop goes."""

    @property
    def clients(self) -> dict[str, Any]:
        """Return those that are live, by id."""
        ...

    @property
    def ends(self) -> Ends:
        """Return the ends of those that end."""
        ...

    def drainAll(self, closesBy: float) -> None:
        """Let each end in its own time, up to a time by the clock of the server."""
        ...

    def closeAll(self) -> None:
        """End each."""
        ...

    def whenEmpty(self) -> Deferred[None]:
        """Return a Deferred that fires when none is live."""
        ...


class Requests(Protocol):
    """The requests of a server, as far as its stop goes."""

    @property
    def reading(self) -> Connections[Any]:
        """Return those whose bodies are being read."""
        ...

    @property
    def decisions(self) -> Decisions:
        """Return the decisions that are being made about some."""
        ...


class StoppableServer(Protocol):
    """A server, as its stop knows it. What is a property is made when it is first needed."""

    opts: ServerOptions
    _counters: Counters
    _streams: Connections[Any]
    _foreignUpgrades: ForeignUpgrades

    @property
    def _router(self) -> Requests:
        """Return its requests."""
        ...

    @property
    def clock(self) -> Any:
        """Return its clock."""
        ...

    @property
    def _factory(self) -> Sessions:
        """Return its sessions."""
        ...

    @property
    def _webSockets(self) -> Any:
        """Return what implements WebSocket, an L{IWebSocketEngine}."""
        ...


class ShutdownTriggers:
    """
    What an application, or a layer, has to do when its server stops.

    @ivar pending: how many were called and aren't over.
    """

    pending: int = 0

    def __init__(self) -> None:
        self._functions: dict[str, list[Callable[[], object]]] = {"drain": [], "close": []}

    def add(self, phase: ShutdownPhase, function: Callable[[], object]) -> None:
        """Add one, as L{Server.addShutdownTrigger} says."""
        functions = self._of(phase)
        if not callable(function):
            raise TypeError(f"shutdown trigger {function!r:.100}: expected something to call when the server stops")
        functions.append(function)

    def remove(self, phase: ShutdownPhase, function: Callable[[], object]) -> None:
        """Remove one, as L{Server.removeShutdownTrigger} says."""
        functions = self._of(phase)
        if function in functions:
            functions.remove(function)

    def _of(self, phase: str) -> list[Callable[[], object]]:
        if phase not in self._functions:
            raise ValueError(f"phase {phase!r:.100}: expected 'drain' or 'close'")
        return self._functions[phase]

    def run(self, phase: ShutdownPhase) -> Deferred[None]:
        """
        Call those of a phase, and never again.

        @return: a Deferred that fires when all that they returned is over, and never fails.
        """
        functions, self._functions[phase] = self._functions[phase], []
        self.pending += len(functions)

        def oneOver(_: None) -> None:
            self.pending -= 1

        over = DeferredList([attemptLater(each).addCallback(oneOver) for each in functions])
        return over.addCallback(lambda _: None)


class Stop:
    """
    The stop of one server, which makes it and calls it.

    @ivar triggers: what others have to do then.
    @ivar isDraining: whether no new sessions are opened.
    @ivar isClosing: whether no request is served any more.
    @ivar until: the time until which clients may take what they are sent, by the clock of the server.
    """

    _log = Logger()
    isDraining: bool = False
    isClosing: bool = False
    until: float = 0.0

    def __init__(self, server: StoppableServer) -> None:
        self._server = server
        self.triggers: ShutdownTriggers = ShutdownTriggers()
        self._ports: list[Ports] = []
        self._drained: Deferred[None] | None = None
        # Until here what others have to do in a drain is waited for.
        self._sessionsMayGo: Deferred[None] = Deferred()
        self._sessionsGone: Deferred[None] = Deferred()
        self._closed: Deferred[None] = Deferred()
        # Of the draining and the closing, once those have begun.
        self._drainDeadline: Deadline | None = None
        self._deadline: Deadline | None = None

    def check(self, opensSession: bool) -> None:
        """
        Make sure that a request may be served.

        @param opensSession: whether it would open a session.
        @raise ServerClosing: it may not.
        """
        if self.isClosing or (opensSession and self.isDraining):
            raise ServerClosing

    @property
    def secondsLeft(self) -> float:
        """The seconds until it is over, whatever clients do."""
        left: float = self.until + CLOSE_TIMEOUT - self._server.clock.seconds()
        return max(0.0, left)

    def closeWith(self, ports: Ports) -> None:
        """Close ports, and the connections that came by them, when the server closes."""
        self._ports.append(ports)
        if self._closed.called:
            # Closed before it had these.
            self._closed = Deferred()
            self._deadline = None
        elif self._deadline is not None:
            self._deadline.waitFor([ports.close(self.until)])

    def drain(self) -> Deferred[None]:
        """Drain the server, as L{Server.drain} says."""
        needRoom(ROOM)
        if self._drained is None:
            self.isDraining = True
            self._drained = Deferred()
            self.until = self._server.clock.seconds() + self._server.opts.drainTimeout / 1000
            self._drainDeadline = self._newDeadline(self._abortSessions)
            self._drainDeadline.over.chainDeferred(self._drained)
            attempt(self._beginToDrain, self._drainDeadline)
        return alsoWhen(self._drained)

    def _beginToDrain(self, deadline: Deadline) -> None:
        server = self._server
        timer = server.clock.callLater(server.opts.drainTimeout / 1000, self._endSessions)
        server._router.decisions.refuse(isAll=False)
        if not self.isClosing:
            self.triggers.run("drain").addCallback(lambda _: self._letSessionsGo())
        deadline.waitFor([self._sessionsMayGo.addCallback(lambda _: self._drainSessions(timer))])

    def _letSessionsGo(self) -> None:
        if not self._sessionsMayGo.called:
            self._sessionsMayGo.callback(None)

    def _drainSessions(self, timer: IDelayedCall) -> Deferred[None]:
        server = self._server
        server._factory.drainAll(self.until)

        def sessionsGone(_: object) -> Deferred[None]:
            cancel(timer)
            self._goOn()
            return server._streams.whenEmpty()

        # The last of them is about to tell its client, and the application.
        gone = server._factory.whenEmpty().addCallback(lambda _: server._factory.ends.whenEmpty())
        return gone.addCallback(sessionsGone).addCallback(lambda _: server._webSockets.connections.whenEmpty())

    def _endSessions(self) -> None:
        if not self._sessionsMayGo.called:
            attempt(self._logTriggers)
        attempt(self._server._factory.closeAll)
        self._letSessionsGo()
        self._goOn()

    def _logTriggers(self) -> None:
        count = self.triggers.pending
        self._log.warn("drainTimeout is over before shutdown triggers of a drain: {count}", count=count)

    def _goOn(self) -> None:
        """Close the server if that is wanted: clients have had their time."""
        if not self._sessionsGone.called:
            self._sessionsGone.callback(None)

    def close(self, drain: bool) -> Deferred[None]:
        """Close the server, as L{Server.close} says."""
        needRoom(ROOM)
        for ports in self._ports:
            # First, so that nobody connects while the sessions end.
            if not ports.isLast:
                attempt(ports.stop)
        if not drain:
            self._close(self._server.clock.seconds())
        elif self._deadline is None and not self._closed.called:
            self.drain()
            alsoWhen(self._sessionsGone).addCallback(lambda _: self._close(self.until))
        return alsoWhen(self._closed)

    def _close(self, until: float) -> None:
        if self._closed.called:
            return
        self.until = min(self.until, until) if self.isDraining else until
        if self._drainDeadline is not None:
            self._drainDeadline.setTime(self.until + CLOSE_TIMEOUT)
        if self._deadline is None:
            self.isClosing = True
            self._deadline = self._newDeadline(self._abort)
            self._deadline.over.addCallback(lambda _: self._closeLast())
            attempt(self._beginToClose, self._deadline)
        else:
            self._deadline.setTime(self.until + CLOSE_TIMEOUT)
            for ports in self._others:
                attempt(ports.site.closeConnections, self.until)

    def _beginToClose(self, deadline: Deadline) -> None:
        server = self._server
        server._router.decisions.refuse(isAll=True)
        server._router.reading.abort()
        server._foreignUpgrades.stop()
        server._factory.closeAll()
        self._letSessionsGo()

        def closing(ports: Ports) -> Deferred[None]:
            # Behind what sessions say last on these connections.
            return server._factory.ends.whenEmpty().addCallback(lambda _: ports.close(self.until))

        triggers = server._factory.ends.whenEmpty().addCallback(lambda _: self.triggers.run("close"))
        sessions = [server._factory.ends, server._streams, server._webSockets.connections]
        connections: list[Any] = [server._router.reading, *sessions]
        drained = [] if self._drained is None else [alsoWhen(self._drained)]
        deadline.waitFor([*drained, triggers, *map(closing, self._others), *[each.whenEmpty() for each in connections]])

    def _closeLast(self) -> None:
        last = [each for each in self._ports if each.isLast]
        self._deadline = self._newDeadline(lambda: [attempt(each.abort) for each in last])
        # What clients caused until now is logged before those who wait go on.
        self._deadline.over.addCallback(lambda _: attempt(self._server._counters.throttle.flush))
        self._deadline.over.addCallback(lambda _: self._closed.callback(None))
        self._deadline.waitFor([succeed(None), *[each.close(0.0) for each in last]])

    @property
    def _others(self) -> list[Ports]:
        return [each for each in self._ports if not each.isLast]

    def _newDeadline(self, abort: Callable[[], object]) -> Deadline:
        deadline = Deadline(self._server.clock, abort, self.whatIsLeft)
        deadline.setTime(self.until + CLOSE_TIMEOUT)
        return deadline

    def _abortSessions(self) -> None:
        server = self._server
        for each in (server._factory.closeAll, server._streams.abort, server._webSockets.connections.abort):
            attempt(each)

    def _abort(self) -> None:
        for each in (self._abortSessions, self._server._router.reading.abort, *[ports.abort for ports in self._others]):
            attempt(each)

    def whatIsLeft(self) -> str:
        """Return what is waited for, as a text for a log; an empty one if nothing is."""
        server = self._server
        onWebSocket = sum([each.transport.name == "websocket" for each in server._factory.clients.values()])
        counts = {
            "session": len(server._factory.clients),
            "WebSocket": max(0, len(server._webSockets.connections) - onWebSocket),
            "shutdown trigger": self.triggers.pending,
            "request": sum([bool(channel.requests) for ports in self._others for channel in ports.site.channels]),
        }
        return ", ".join([f"{count} {what}{'s' * (count > 1)}" for what, count in counts.items() if count])
