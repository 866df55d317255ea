"""How a client comes back to a session that has lost its connection. docs/protocol.md, "Resume"."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from ..clock import cancel
from ..interfaces import Closing
from ..protocol.errors import CloseReason, DecodeError
from ..protocol.packet import Packet, PacketType
from ..protocol.resume import ASK, Bounds, Grant, granted
from ..protocol.resume import asking as asked
from ..session.resumption import ResumableTransport, Resumption
from ..session.states import ReadyState
from ..session.suspension import goOn, suspend
from .errors import ConnectionFailed, FailureType
from .handshake import MAX_TIME, Handshake, readHandshake
from .options import ClientOptions

FIRST_DELAY = 0.5
"""Seconds from a try that failed to the next one; twice as many after each further one. The first is made at once."""

MAX_DELAY = 5.0
"""Seconds between two tries at most, unless the server asks for more."""

TRY_TIMEOUT = 10.0
"""Seconds that a try may take, if C{connectTimeout} isn't shorter: the network may be another one by then."""

_FINAL = (FailureType.REFUSED, FailureType.AUTHENTICATION, FailureType.PARSE, FailureType.TOO_LARGE)
"""Failures of which another try comes to the same."""

_BAD_REQUEST = 3


LEAVING = Closing(CloseReason.TRANSPORT_CLOSE, "the client leaves the connection for another one")


def asking(opts: ClientOptions) -> dict[str, str]:
    """Return the parameters by which a client asks for a session that can be resumed."""
    bounds = Bounds(opts.maxBufferedPackets, opts.maxBufferedBytes)
    return {ASK: asked(bounds)} if opts.resume else {}


def isLoss(failure: ConnectionFailed | None) -> bool:
    """Return whether an open session goes on on another connection after a failure."""
    if failure is None:
        return False
    if failure.type is FailureType.REFUSED:
        # The server has noticed the loss of one of several connections, or of another.
        return failure.response is not None and failure.response.code == _BAD_REQUEST
    return failure.type not in (*_FINAL, FailureType.CLOSED)


def readGrant(handshake: Handshake) -> Grant | None:
    """
    Return what a server grants.

    @raise ConnectionFailed: the open packet says nothing that it could.
    """
    try:
        return granted(handshake.extra)
    except DecodeError as error:
        raise ConnectionFailed(FailureType.HANDSHAKE, str(error)) from None


class Returning:
    """
    The returns of one client to its session.

    While the session is suspended the client tries to come back: at once, and then again and again, on the transport
    that it was on and on the other one in turn, until the session ends.

    @param client: the L{Client}.
    @param grant: what the server has granted.
    @ivar resumption: the numbers.
    @ivar candidate: the transport by which it tries to; None while it doesn't.
    """

    def __init__(self, client: Any, grant: Grant) -> None:
        opts = client.opts
        self._client = client
        own = Bounds(opts.maxBufferedPackets, opts.maxBufferedBytes)
        self.resumption: Resumption = Resumption(own, grant.bounds, min(grant.timeout, MAX_TIME))
        self.candidate: Any = None
        self._tries = 0
        # What both ends had at the last loss.
        self._had: tuple[int, int] | None = None
        self._call: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None

    def begin(self) -> None:
        """Begin to try, as the session is suspended."""
        resumption = self.resumption
        had = resumption.acknowledged, resumption.received
        # If nothing has got through since the last time, it may not the next time.
        self._tries = self._tries + 1 if had == self._had else 0
        self._had = had
        self._tryLater()

    def wrapped(self, transport: Any) -> ResumableTransport:
        """Return a transport of the client as one of a session that can be resumed."""
        if transport.name == "polling":
            transport.maxPayload = self._client.handshake.maxPayload
        wrapped = ResumableTransport(transport, self.resumption)
        wrapped.owner = self._client
        return wrapped

    def hurry(self) -> None:
        """Suspend the session if it isn't, and try now unless that is being done."""
        client = self._client
        # A handler may have closed the session.
        if suspend(client, LEAVING) and client.readyState is ReadyState.OPEN and self.candidate is None:
            cancel(self._call)
            self._call = client._host.clock.callLater(0, self._try)

    def stop(self) -> None:
        """Try no more."""
        cancel(self._call)
        cancel(self._deadline)
        candidate, self.candidate = self.candidate, None
        if candidate is not None:
            candidate.lose(Closing(CloseReason.TRANSPORT_CLOSE))

    def _tryLater(self, least: float = 0.0) -> None:
        delay = 0.0
        if self._tries:
            delay = min(MAX_DELAY, FIRST_DELAY * 2 ** min(self._tries - 1, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        # A handler that the loss was told may have asked for a try.
        cancel(self._call)
        self._call = self._client._host.clock.callLater(max(delay, least), self._try)

    def _try(self) -> None:
        client, resumption = self._client, self.resumption
        inbox = client._inbox
        if inbox is not None:
            # The server sends it again, so that it isn't to reach the application meanwhile.
            resumption.forget(inbox.forget())
        resumption.attempt += 1
        client._connecting.attempt = resumption.attempt
        names = self._names()
        name = names[self._tries % len(names)]
        seconds = min(TRY_TIMEOUT, client.opts.connectTimeout / 1000)
        self._deadline = client._host.clock.callLater(seconds, self._timedOut, name, seconds)
        self.candidate = client._newTransport(name)
        client._open(self.candidate, received=str(resumption.received))

    def _names(self) -> list[str]:
        """Return the transports that may be tried, the present one first."""
        opts = self._client.opts
        present: str = self._client.transport.name
        others = [each for each in opts.transports if each != present and (each != "websocket" or opts.upgrade)]
        return [present, *others]

    def _timedOut(self, name: str, seconds: float) -> None:
        self.failed(ConnectionFailed(FailureType.TIMEOUT, f"no return within {seconds:g} s", name))

    def failed(self, failure: ConnectionFailed) -> None:
        """Called when a try has failed."""
        self.stop()
        self._tries += 1
        if failure.type in _FINAL:
            self._end(failure)
            return
        response = failure.response
        self._tryLater((response.retryAfter if response is not None else None) or 0.0)

    def _end(self, failure: ConnectionFailed) -> None:
        """End the session with the reason that suspended it, as there is no coming back."""
        client, closing = self._client, self.resumption.suspended
        client.failure = failure
        assert closing is not None
        client._end(closing._replace(description=f"{closing.description}; no return: {failure.description}"))

    def opened(self, packet: Packet) -> None:
        """Called with the first packet that comes on the candidate."""
        client, resumption = self._client, self.resumption
        try:
            if packet.type is not PacketType.OPEN:
                raise ConnectionFailed(FailureType.PARSE, "the first packet of a return is not the open packet")
            handshake = readHandshake(packet.data)
            grant = readGrant(handshake)
            if grant is None or grant.received is None or handshake.sid != client.id:
                raise ConnectionFailed(FailureType.PARSE, "the open packet is not that of the session")
            if not resumption.mayHave(grant.received):
                raise ConnectionFailed(
                    FailureType.PARSE, f"the server has {grant.received} messages, of {resumption.sent} sent"
                )
        except ConnectionFailed as failure:
            failure.transport = self.candidate.name
            self.failed(failure)
            return
        candidate, self.candidate = self.candidate, None
        cancel(self._deadline)
        client._hasReturned(handshake)
        goOn(client, candidate, resumption.attempt, grant.received, tuple)
        client._beginUpgrade()
