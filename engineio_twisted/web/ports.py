"""The ports of a site: opened for it, and closed with the connections that came by them."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet import tcp
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import LogEvent, Logger

# A private module, seen in Twisted 24.3 and 26.10; what is public makes an endpoint and shows no class.
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper, HAProxyWrappingFactory
from twisted.python.failure import Failure

from ..ends import alsoWhen, attempt, attemptLater
from ..logs import LogThrottle
from .site import Site


class Ports:
    """
    The ports of a site.

    @param site: the site.
    @param isLast: whether they stay open until all else of a server is closed, as operators watch it by them.
    @ivar open: those that are open.
    """

    def __init__(self, site: Site, isLast: bool = False) -> None:
        self.site = site
        self.isLast = isLast
        self.open: list[IListeningPort] = []
        self._opening: list[Deferred[IListeningPort]] = []
        self._stopped: Deferred[Any] | None = None

    def listen(self, endpoint: IStreamServerEndpoint) -> Deferred[IListeningPort]:
        """
        Open a port.

        @return: a Deferred of the port; L{CancelledError} if the ports are closed meanwhile.
        """
        opening: Deferred[IListeningPort] = endpoint.listen(self.site)
        self._opening.append(opening)
        return opening.addCallback(self._opened)

    def _opened(self, port: IListeningPort) -> IListeningPort:
        if self._stopped is not None:
            # The endpoint couldn't be cancelled any more.
            _stop(port)
            raise CancelledError
        _throttle(port, self.site.throttle)
        _takeWrongHeaders(port)
        self._watchTogether(port)
        self.open.append(port)
        return port

    def _watchTogether(self, port: Any) -> None:
        """Let the group of the site watch the connections of a port, if they are of the site alone."""
        if self.site.group is not None and getattr(port, "factory", None) is self.site:
            self.site.group.serve(port)

    def stop(self) -> Deferred[None]:
        """
        Close the ports, and open none any more. A port that fails to close is no reason to leave another one open.

        @return: a Deferred that fires when they are closed, and never fails.
        """
        if self._stopped is None:
            self._stopped = DeferredList([_stop(each) for each in self.open])
            self.open = []
            for opening in self._opening:
                # An endpoint may take its time to open a port.
                attempt(opening.cancel)
        return alsoWhen(self._stopped)

    def close(self, until: float) -> Deferred[None]:
        """
        Close the ports, and every connection of the site; what was written to it goes out first, if it can.

        @param until: as for L{Site.closeConnections}.
        @return: a Deferred that fires when none is left.
        """
        attempt(self.site.closeConnections, until)
        # Again: somebody may have connected until the port was closed.
        return self.stop().addCallback(lambda _: self.site.closeConnections(until))

    def abort(self) -> None:
        """Abort every connection of the site."""
        self.site.channels.abort()


def _throttle(port: Any, throttle: LogThrottle) -> None:
    """Make a port that can't accept connections, for want of file descriptors, log that once a second."""
    # A private name of tcp.Port, seen in Twisted 24.3 and 26.10. Without it the port logs each connection it closes.
    logger = getattr(port, "_logger", None)
    if not isinstance(logger, Logger):
        return
    observer = logger.observer

    def observe(event: LogEvent) -> None:
        if throttle.allows(f"ports, {event['log_format']}"):
            observer(event)

    port._logger = Logger(logger.namespace, logger.source, cast("Any", observe))


class _Proxied(HAProxyProtocolWrapper):
    """A connection that begins with the header of the PROXY protocol, and is closed if that is wrong in any way."""

    def dataReceived(self, data: bytes) -> None:
        try:
            super().dataReceived(data)
        except ValueError:
            if self._proxyInfo is not None:
                raise
            # An address or a port that is none, for which Twisted's parser has no error of its own.
            connection: Any = self
            connection.loseConnection()


def _takeWrongHeaders(port: Any) -> None:
    """Make a port of the PROXY protocol close connections whose header is wrong, and log no traceback for it."""
    factory: Any = getattr(port, "factory", None)
    while factory is not None:
        if isinstance(factory, HAProxyWrappingFactory):
            factory.protocol = _Proxied  # type: ignore[assignment]
        factory = getattr(factory, "wrappedFactory", None)


def _stop(port: Any) -> Deferred[None]:
    def closeAll(_: object) -> None:
        # A UNIX socket whose file can't be removed stays open otherwise: Twisted removes that first.
        if isinstance(port, tcp.Port) and port.connected:
            lock = getattr(port, "lockFile", None)
            if lock is not None:
                attempt(lock.unlock)
            attempt(tcp.Port.connectionLost, port, Failure(ConnectionDone()))

    return attemptLater(port.stopListening).addCallback(closeAll)
