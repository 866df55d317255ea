"""
Decisions about requests that take time: of middlewares, C{allowRequest} and C{generateId}.

Each ends: when it is made, when it takes too long, when its client is gone, and when the server closes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..clock import cancel
from ..ends import attempt
from ..observer import Counters
from ..protocol.errors import HTTPRefusal, ServerClosing
from .writer import ResponseWriter

DECISION_TIMEOUT = 30.0
"""
Seconds that the middlewares, and then C{allowRequest} and C{generateId}, may take to decide about a request.

Without an end, each request that is never decided about would stay in memory.
"""


class Place(Protocol):
    """What a handshake has of the limits on sessions while it is decided about."""

    def giveUp(self) -> None:
        """Give it back, unless a session has it."""
        ...


class Admitting(Protocol):
    """What says whether requests are served: the stop of a server."""

    isClosing: bool

    def check(self, opensSession: bool) -> None:
        """
        Make sure that a request may be served.

        @param opensSession: whether it would open a session.
        @raise ServerClosing: it may not.
        """
        ...


class DecidingServer(Protocol):
    """A server, as far as it matters here."""

    _counters: Counters

    @property
    def reactor(self) -> Any:
        """Return the reactor."""
        ...


@attrs.define
class Decision:
    """
    A decision about a request.

    @ivar exchange: the L{IExchange} that it is about.
    @ivar isUpgrade: whether the request asks for a WebSocket.
    @ivar place: what the handshake that is decided about has of the limits; None if it is about no handshake.
    @ivar isGivenUp: whether nobody needs it any more, or it took too long.
    """

    exchange: Any
    isUpgrade: bool
    place: Place | None = None
    isGivenUp: bool = False

    def giveUp(self) -> None:
        """Give it up, whatever those who were asked still do."""
        self.isGivenUp = True
        if self.place is not None:
            self.place.giveUp()


class Decisions:
    """
    The decisions that are being made about requests of one server.

    @param server: the server.
    @param admitting: says whether it still serves.
    @param writer: writes refusals.
    """

    _log = Logger()

    def __init__(self, server: DecidingServer, admitting: Admitting, writer: ResponseWriter) -> None:
        self._server = server
        self._admitting = admitting
        self._writer = writer
        # What refuses each request, and whether that would open a session.
        self._undecided: dict[Callable[[HTTPRefusal], None], bool] = {}

    def __len__(self) -> int:
        return len(self._undecided)

    def follow(
        self,
        decision: Decision,
        ask: Callable[[Decision], Coroutine[Any, Any, None]],
        tooSlow: Callable[[], HTTPRefusal],
    ) -> None:
        """
        Follow a decision until it is made, takes too long, or isn't needed.

        @param ask: makes it, and serves the request.
        @param tooSlow: makes the refusal of a request whose decision takes too long.
        """
        exchange, opensSession = decision.exchange, decision.place is not None
        deciding = Deferred.fromCoroutine(ask(decision))
        deciding.addErrback(self.failed, decision).addErrback(self._notRefused)
        if deciding.called:
            return

        def over(_: object = None) -> None:
            cancel(timer)
            self._undecided.pop(giveUp, None)

        def giveUp(refusal: HTTPRefusal) -> None:
            over()
            decision.giveUp()
            self._writer.refuse(exchange, refusal, decision.isUpgrade)
            deciding.cancel()

        def tooLong() -> None:
            if self._server._counters.throttle.allows("undecided"):
                self._log.warn(
                    "A request from {peer} was not decided about in {seconds} seconds",
                    peer=exchange.getClientAddress(),
                    seconds=DECISION_TIMEOUT,
                )
            giveUp(tooSlow())

        timer = self._server.reactor.callLater(DECISION_TIMEOUT, tooLong)
        self._undecided[giveUp] = opensSession
        deciding.addCallback(over)
        # A client that has gone gets no answer, but what it waited for is cancelled.
        exchange.request.notifyFinish().addErrback(lambda _: giveUp(ServerClosing()))
        try:
            self._admitting.check(opensSession)
        except ServerClosing as refusal:
            giveUp(refusal)

    def failed(self, failure: Failure, decision: Decision) -> None:
        """Refuse a request for what was raised while it was decided about or served."""
        refusal = failure.value
        if not isinstance(refusal, HTTPRefusal):
            name = f"internal errors, {type(refusal).__name__}"
            if not decision.isGivenUp and self._server._counters.throttle.allows(name):
                self._log.failure("A request could not be answered", failure)
            refusal = HTTPRefusal("internal error", None, 500, "INTERNAL_ERROR")
        self._writer.refuse(decision.exchange, refusal, decision.isUpgrade)

    def _notRefused(self, failure: Failure) -> None:
        """Log why a refusal could not be written, as when a handler of C{headers} has answered the request itself."""
        if self._server._counters.throttle.allows("requests that could not be refused"):
            self._log.failure("A request could not be refused", failure)

    def refuse(self, isAll: bool) -> None:
        """
        Refuse the requests that are being decided about, as the server is closing.

        @param isAll: whether those too that would open no session.
        """
        for giveUp, opensSession in list(self._undecided.items()):
            if isAll or opensSession:
                attempt(giveUp, ServerClosing())
