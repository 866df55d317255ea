"""
Connections that a reactor watches as if they were one.

A reactor spends about as much on telling a connection that there is something to read as is spent on a small message.
What that is, for each connection, each time: asking what it is called in a log, a context for the log, a call with
both. Here that is done once for all connections that have something to be read. docs/architecture.md, "Fast paths".
"""

from __future__ import annotations

import select
from typing import Any, cast

from twisted.internet import tcp
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.internet.posixbase import _DisconnectSelectableMixin, _PollLikeMixin
from twisted.python import context, log
from twisted.python.failure import Failure
from zope.interface import implementer

_IN, _OUT, _LOST = 0x1, 0x4, 0x18
"""What epoll says of a file: there is something to read, room to write; the other side has gone, or something broke."""

AT_ONCE = 256
"""Connections that are served before the reactor sees to what else there is: timers, ports, other connections."""


class _LogContext(dict[Any, Any]):
    """What C{log.msg} adds to what is logged while a connection is served, made when it is asked for."""

    served: Any = None

    def __init__(self) -> None:
        # One that is empty is taken for none.
        super().__init__(system=None)

    def copy(self) -> dict[Any, Any]:
        """Return what a reactor would have set before it served the connection."""
        return {"system": self.served.logPrefix()}


@implementer(IReadDescriptor)
class ConnectionGroup(_PollLikeMixin, _DisconnectSelectableMixin):
    """
    Some connections of a reactor, which asks this whether one of them can be read or written.

    To a connection this is the reactor. To the reactor it is one more file to read: what Linux has for watching files,
    epoll, is a file that can be watched. What happens to a connection then is up to the methods of Twisted's own
    reactors.

    @param reactor: an C{IReactorFDSet}.
    """

    _POLL_DISCONNECTED = _LOST
    _POLL_IN = _IN
    _POLL_OUT = _OUT

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        # There only while something is watched.
        self._poll: Any = None
        self._connections: dict[int, Any] = {}
        self._reads: set[int] = set()
        self._writes: set[int] = set()
        self._context = _LogContext()
        self._isServing = False

    def __getattr__(self, name: str) -> Any:
        # All else that a connection may want of a reactor.
        return getattr(self._reactor, name)

    def adopt(self, connection: Any) -> bool:
        """
        Watch a connection in the reactor's place, where that comes to the same.

        @param connection: a transport that has just been made; all but a plain C{tcp.Server} is left to its reactor.
        @return: whether it is watched here.
        """
        if not (
            hasattr(select, "epoll")
            and type(connection) is tcp.Server
            and not connection.TLS
            and connection.reactor is self._reactor
            and IReactorFDSet.providedBy(self._reactor)
        ):
            return False
        connection.stopReading()
        # As far as a connection needs one.
        connection.reactor = cast("Any", self)
        connection.startReading()
        return True

    def isReading(self, connection: Any) -> bool:
        """Tell whether a connection is watched here for something to read."""
        return connection.fileno() in self._reads

    # The reactor of the connections

    def addReader(self, connection: Any) -> None:
        """Watch for something to read."""
        self._add(connection, self._reads)

    def addWriter(self, connection: Any) -> None:
        """Watch for room to write."""
        self._add(connection, self._writes)

    def removeReader(self, connection: Any) -> None:
        """Watch no longer for something to read."""
        self._remove(connection, self._reads)

    def removeWriter(self, connection: Any) -> None:
        """Watch no longer for room to write."""
        self._remove(connection, self._writes)

    def _add(self, connection: Any, wanting: set[int]) -> None:
        file = connection.fileno()
        if file in wanting:
            return
        wanting.add(file)
        if self._poll is None:
            self._poll = select.epoll()
            self._reactor.addReader(self)
        if file in self._connections:
            self._poll.modify(file, self._wanted(file))
        else:
            self._connections[file] = connection
            self._poll.register(file, self._wanted(file))

    def _remove(self, connection: Any, wanting: set[int]) -> None:
        file = connection.fileno()
        if file not in wanting:
            return
        wanting.remove(file)
        wanted = self._wanted(file)
        if wanted:
            self._poll.modify(file, wanted)
        else:
            del self._connections[file]
            self._poll.unregister(file)
            self._restIfEmpty()

    def _wanted(self, file: int) -> int:
        return (_IN if file in self._reads else 0) | (_OUT if file in self._writes else 0)

    def _restIfEmpty(self) -> None:
        if not self._connections and not self._isServing and self._poll is not None:
            self._reactor.removeReader(self)
            self._poll.close()
            self._poll = None

    # What the reactor reads

    def fileno(self) -> int:
        """Return the number of the file that says whether there is anything to do."""
        return -1 if self._poll is None else int(self._poll.fileno())

    def logPrefix(self) -> str:
        """Return what this is called in a log."""
        return type(self).__name__

    def doRead(self) -> None:
        """Serve the connections that have something to be read, or room to be written to."""
        self._isServing = True
        try:
            context.call({log.ILogContext: self._context}, self._serve)
        finally:
            self._isServing = False
            self._context.served = None
            self._restIfEmpty()

    def _serve(self) -> None:
        connections, logContext = self._connections, self._context
        for file, event in self._poll.poll(0, AT_ONCE):
            connection = connections.get(file)
            if connection is None:
                # Another that was served before has closed it.
                continue
            logContext.served = connection
            if event != _IN:
                self._doReadOrWrite(connection, file, event)
                continue
            # Nearly always; otherwise the same as there.
            try:
                why = connection.doRead()
            except BaseException as error:
                log.err()
                why = error
            if why:
                self._disconnectSelectable(connection, why, True)

    def connectionLost(self, reason: Failure) -> None:
        """Learn that the reactor closes whatever it has, as it stops."""
        for connection in list(self._connections.values()):
            log.callWithLogger(connection, connection.connectionLost, reason)
