"""
Connections that a reactor watches as if they were one.

A reactor spends about as much on telling a connection that there is something to read as is spent on a small message.
What that is, for each connection, each time: asking what it is called in a log, a context for the log, a call with
both. Here that is done once for all connections that have something to be read. docs/architecture/fast-paths.md.
"""

from __future__ import annotations

import select
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
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


def _contextOf(connection: Any) -> Mapping[Any, Any]:
    """
    Return the context in which a reactor calls a connection: L{log.msg} adds to each message what that is called.

    Threads and loggers may keep it, so nothing in it can be changed.
    """
    return MappingProxyType({log.ILogContext: MappingProxyType({"system": connection.logPrefix()})})


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
        self._isPossible = hasattr(select, "epoll") and IReactorFDSet.providedBy(reactor)
        # There only while something is watched.
        self._poll: Any = None
        # Each with the context in which it is called.
        self._connections: dict[int, tuple[Any, Mapping[Any, Any]]] = {}
        self._reads: set[int] = set()
        self._writes: set[int] = set()
        self._isServing = False

    def __getattr__(self, name: str) -> Any:
        # All else that a connection may want of a reactor.
        return getattr(self._reactor, name)

    def serve(self, port: Any) -> None:
        """
        Watch all connections that come by a port from the first on, if that comes to the same.

        @param port: one that is open; all but a plain C{tcp.Port} of the reactor is left as it is.
        """
        if self._isPossible and type(port) is tcp.Port and port.reactor is self._reactor:
            # What is to be a class makes connections, and is asked for nothing else.
            port.transport = cast("Any", self._connect)

    def _connect(self, socket: Any, protocol: Any, client: Any, port: Any, number: int, reactor: Any) -> tcp.Server:
        """Make a connection of a port. It asks its reactor at once to be watched; that is this, if there is room."""
        own: Any = self
        try:
            return tcp.Server(socket, protocol, client, port, number, own)
        except OSError:
            return tcp.Server(socket, protocol, client, port, number, reactor)

    def adopt(self, connection: Any) -> bool:
        """
        Watch a connection in the reactor's place, if that comes to the same, unless it was made so.

        @param connection: a transport that has just been made; all but a plain C{tcp.Server} is left to its reactor.
        @return: whether it is watched here. If the system has no file descriptor or memory left for that, it isn't.
        """
        if not self._isPossible or type(connection) is not tcp.Server or connection.TLS:
            return False
        reactor: Any = connection.reactor
        if reactor is self:
            return True
        if reactor is not self._reactor:
            return False
        try:
            self.addReader(connection)
        except OSError:
            return False
        connection.stopReading()
        # As far as a connection needs one.
        connection.reactor = cast("Any", self)
        return True

    def isReading(self, connection: Any) -> bool:
        """Return whether a connection is watched here for something to read."""
        return connection.fileno() in self._reads

    # The reactor of the connections

    def addReader(self, connection: Any) -> None:
        """
        Watch for something to read.

        @raise OSError: the system refuses. Nothing has changed.
        """
        self._add(connection, self._reads, _IN)

    def addWriter(self, connection: Any) -> None:
        """
        Watch for room to write.

        @raise OSError: the system refuses. Nothing has changed.
        """
        self._add(connection, self._writes, _OUT)

    def removeReader(self, connection: Any) -> None:
        """Watch no longer for something to read."""
        self._remove(connection, self._reads)

    def removeWriter(self, connection: Any) -> None:
        """Watch no longer for room to write."""
        self._remove(connection, self._writes)

    # In both, what is kept here changes after the system call, which may fail.

    def _add(self, connection: Any, wanting: set[int], event: int) -> None:
        file = connection.fileno()
        known = self._connections.get(file)
        if known is not None and known[0] is not connection:
            # That was closed by somebody else; the system watches it no longer, and gave its number away.
            self._forget(file)
            known = None
        if file in wanting:
            return
        if known is not None:
            self._poll.modify(file, self._wanted(file) | event)
        else:
            self._begin()
            try:
                self._poll.register(file, event)
            except OSError:
                self._restIfEmpty()
                raise
            self._connections[file] = connection, _contextOf(connection)
        wanting.add(file)

    def _remove(self, connection: Any, wanting: set[int]) -> None:
        file = connection.fileno()
        if file == -1:
            # Somebody else closed it, and it has no number any more.
            file = next((number for number, (each, _) in self._connections.items() if each is connection), -1)
        if file not in wanting or self._connections[file][0] is not connection:
            return
        if file in self._reads and file in self._writes:
            self._poll.modify(file, _OUT if wanting is self._reads else _IN)
            wanting.remove(file)
            return
        # The system doesn't know a file that somebody else closed.
        with suppress(OSError):
            self._poll.unregister(file)
        self._forget(file)
        self._restIfEmpty()

    def _forget(self, file: int) -> None:
        del self._connections[file]
        self._reads.discard(file)
        self._writes.discard(file)

    def _wanted(self, file: int) -> int:
        return (_IN if file in self._reads else 0) | (_OUT if file in self._writes else 0)

    def _begin(self) -> None:
        if self._poll is not None:
            return
        # The reactor asks for its number.
        self._poll = select.epoll()
        try:
            self._reactor.addReader(self)
        except OSError:
            self._poll.close()
            self._poll = None
            raise

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
            context.call({}, self._serve)
        finally:
            self._isServing = False
            self._restIfEmpty()

    def _serve(self) -> None:
        connections = self._connections
        # The innermost context is that of each connection in turn. A call with a context of its own, as a reactor
        # makes it, costs half a microsecond.
        contexts = context.theContextTracker.currentContext().contexts
        for file, event in self._poll.poll(0, AT_ONCE):
            known = connections.get(file)
            if known is None:
                # Another that was served before has closed it.
                continue
            connection, contexts[-1] = known
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
        """Called when the reactor closes whatever it has, as it stops."""
        for connection, _ in list(self._connections.values()):
            log.callWithLogger(connection, connection.connectionLost, reason)
