"""A site that counts bodies as they come, limits the heads of requests, and knows its connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web import resource, server
from twisted.web.http import Request, datetimeToLogString

from ..clock import DeadlineQueue, steadyClock
from ..ends import Connections, attempt
from ..interfaces import IEngineServer
from ..logs import LogThrottle
from ..protocol.errors import HTTPRefusal
from ..protocol.options import ServerOptions
from .access_log import formatAccess
from .channel import Channel
from .connections import UNREAD_TIMEOUT
from .mounting import checkRoot
from .requests import EngineIORequest

if TYPE_CHECKING:
    from .access_log import AccessLog
    from .group import ConnectionGroup

MANY_QUEUES = 16
"""Queues of deadlines from which on those that are empty are removed."""

_OPTIONS: dict[str, Any] = attrs.fields_dict(ServerOptions)


def _largest(limits: Sequence[int | None]) -> int | None:
    """Return the largest of some limits; None is none."""
    return None if None in limits else max(each for each in limits if each is not None)


class RequestLog:
    """
    A site as the requests on it know it that are logged: what comes of that is nothing that they notice.

    To twisted.web this is the factory of a channel, which it asks for nothing else.
    """

    _log = Logger()

    def __init__(self, site: Site) -> None:
        self._site = site

    def log(self, request: Any) -> None:
        """Write the line of a request."""
        try:
            self._site.log(request)
        except BaseException:
            # The response was written. What fails here would be answered again, or end a session.
            if self._site.throttle.allows("lines of the access log that failed"):
                self._log.failure("A line of the access log could not be written")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._site, name)


class Site(server.Site):
    """
    A site for L{Server.attach} that stores no more of a body for a server than C{maxHttpBufferSize}.

    What is beside the servers may take bodies of any size and in any time, in memory or a file, as twisted.web does it.
    If it takes none, as beside a server by L{listen}, C{takesBodies} is False: then the limit of the servers holds
    there too, and their time.

    Speaks HTTP/1.1. Parses no forms unless asked to, and writes no access log unless it has a path for it; in that,
    session ids are shortened.

    @param root: the resource of everything outside the paths of the servers attached.
    @ivar channels: the connections that are open, without those that have become WebSockets.
    @ivar maxHeaderSize: bytes of a request's line and headers.
    @ivar maxUrlLength: bytes of its address.
    @ivar headersTimeout: milliseconds in which those have to come; None is no limit.
    @ivar timeOut: seconds after which a connection is closed on which nothing is asked: C{timeout}, if it was given,
        or else C{keepAliveTimeout} of the servers; None is no limit.
    @ivar unreadTimeout: milliseconds after which a connection is aborted whose client reads nothing of a response.
    @ivar accessLog: the access log in place of C{logPath}, open already.
    @ivar takesBodies: whether what is beside the servers does; to be set before a server is attached.
    @ivar maxBodySize: bytes of a body there; None is no limit.
    @ivar httpRequestBodyTimeout: milliseconds in which such a body has to come; None is no limit.
    @ivar servers: those attached.
    @ivar group: what watches the connections in the reactor's place; None if the reactor does.
    @ivar requestLog: writes the lines of the access log; what L{log} raises goes no further.
    @ivar throttle: says whether a line that clients can cause may be logged: that of the first server attached.
    """

    _log = Logger()
    # Lines about factories tell nobody anything.
    noisy = False
    requestFactory = EngineIORequest
    protocol = Channel  # type: ignore[assignment]
    group: ConnectionGroup | None = None
    accessLog: AccessLog | None = None
    unreadTimeout = UNREAD_TIMEOUT
    takesBodies = True
    maxBodySize: int | None = None
    httpRequestBodyTimeout: int | None = None

    def __init__(
        self, root: resource.IResource | resource.Resource, requestFactory: Any = None, **options: Any
    ) -> None:
        checkRoot(root)
        ours = {"parsePOSTFormSubmission": False, "logFormatter": formatAccess}
        super().__init__(root, requestFactory, **{**ours, **options})
        self.channels: Connections[Channel] = Connections()
        self.maxHeaderSize: int = _OPTIONS["maxHeaderSize"].default
        self.maxUrlLength: int = _OPTIONS["maxUrlLength"].default
        self.headersTimeout: int | None = _OPTIONS["headersTimeout"].default
        self._hasOwnTimeout = "timeout" in options
        if not self._hasOwnTimeout:
            self.timeOut = _OPTIONS["keepAliveTimeout"].default / 1000
        self.servers: tuple[IEngineServer, ...] = ()
        self._deadlines: dict[tuple[float, Callable[[Any], object]], DeadlineQueue] = {}
        self.throttle: LogThrottle = LogThrottle(lambda: self.reactor)
        self.requestLog: RequestLog = RequestLog(self)

    def logPrefix(self) -> str:
        """Return what the log calls the site when a port opens."""
        return "HTTP"

    @property
    def bodyLimits(self) -> tuple[int | None, int | None]:
        """How many bytes a body that is for no server may have, and in how many milliseconds it has to come."""
        return self.maxBodySize, self.httpRequestBodyTimeout

    def deadlines(self, seconds: float, due: Callable[[Any], object]) -> DeadlineQueue:
        """
        Return the queue in which connections wait for so many seconds.

        @param due: called with each connection whose time is over.
        """
        queue = self._deadlines.get((seconds, due))
        if queue is None:
            if len(self._deadlines) >= MANY_QUEUES:
                # Somebody sets times of their own for each connection.
                self._deadlines = {key: each for key, each in self._deadlines.items() if len(each)}
            queue = self._deadlines[seconds, due] = DeadlineQueue(steadyClock(self.reactor), seconds, due)
        return queue

    def addServer(self, server: Any) -> None:
        """
        Apply the limits of a server to the heads of requests, and to bodies that are for no server.

        Called by L{Server.attach}. Which server a request is for isn't known before its head has come: if there are
        several, the largest of each limit holds.

        @param server: the L{Server}.
        """
        engineServer = IEngineServer(server)
        if engineServer in self.servers:
            return
        self.servers += (engineServer,)
        self.throttle = self.servers[0].counters.throttle
        options = [each.opts for each in self.servers]
        self.maxHeaderSize = max(each.maxHeaderSize for each in options)
        self.maxUrlLength = max(each.maxUrlLength for each in options)
        self.headersTimeout = _largest([each.headersTimeout for each in options])
        if not self._hasOwnTimeout:
            keepAlive = _largest([each.keepAliveTimeout for each in options])
            self.timeOut = None if keepAlive is None else keepAlive / 1000
        if not self.takesBodies:
            self.maxBodySize = max(each.maxHttpBufferSize for each in options)
            self.httpRequestBodyTimeout = max(each.httpRequestBodyTimeout for each in options)

    def refused(self, refusal: HTTPRefusal, peer: object) -> None:
        """Count a request that is refused, and isn't known to be for one server, with each of them, and log it."""
        for each in self.servers:
            each.counters.limitReached(None, refusal.name)
        if self.throttle.allows(refusal.name):
            self._log.warn(
                "A request from {peer} was refused: {reason}", peer=peer, reason=refusal.message, name=refusal.name
            )

    def limitReached(self, name: str, message: str, **values: object) -> None:
        """
        Count a limit that a connection has reached with each server, and log it.

        @param name: of the limit.
        @param message: what is logged, with the names of C{values} in braces.
        """
        for each in self.servers:
            each.counters.limitReached(None, name)
        if self.throttle.allows(name):
            self._log.info(message, **values)

    def acceptableProtocols(self) -> list[bytes]:
        """Offer HTTP/1.1 alone: the deadlines and limits here are those of its channel."""
        return [b"http/1.1"]

    def log(self, request: Request) -> None:
        """Write a line of the access log, if there is one."""
        if self.accessLog is not None:
            # As the base does; but it writes no more once no port is open, while requests are still answered.
            self.accessLog.write(self._logFormatter(self._logTime(), request) + "\n")
        elif self.logPath is not None:
            super().log(request)

    def _logTime(self) -> str:
        if self._logDateTimeCall is not None and self._logDateTime is not None:
            return self._logDateTime
        now: str = datetimeToLogString(self.reactor.seconds())
        return now

    def closeConnections(self, until: float = 0.0) -> Deferred[None]:
        """
        Close every open connection; what was written to it goes out first, if it can.

        @param until: the time by which requests that have come have to be answered, by the L{steadyClock} of the
            reactor; answers may be cut off without it. For what was written there are three seconds anyway.
        @return: a Deferred that fires when none is left.
        """
        for channel in self.channels:
            attempt(channel.finish, until)
        return self.channels.whenEmpty()
