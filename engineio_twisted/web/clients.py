"""The client of a request, by its connection and by the proxies that are trusted."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import UNIXAddress

from ..protocol.options import ServerOptions
from ..protocol.proxies import Client, clientOf, plainAddress, trustedProxies, validHost


class Clients:
    """
    What requests of one server say of their clients.

    @param options: those of the server.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._options = options

    def clientOf(self, exchange: Any) -> Client:
        """
        Return who sent a request.

        @param exchange: an L{IExchange}.
        @raise HTTPRefusal: a trusted proxy contradicts itself.
        """
        if self._options.trustedProxies is None:
            return _connectionOf(exchange)[0]
        client: Client | None = exchange.client
        if client is None:
            connection, isUnix = _connectionOf(exchange)
            trusted = trustedProxies(self._options.trustedProxies)
            exchange.client = client = clientOf(connection, exchange.headerValues, trusted, isUnix)
        return client

    def addressOf(self, exchange: Any) -> str | None:
        """
        Return the IP address of the client; None on a UNIX socket.

        @raise HTTPRefusal: as L{clientOf}.
        """
        if self._options.trustedProxies is None:
            return plainAddress(exchange.getClientAddress())
        return self.clientOf(exchange).address


def _connectionOf(exchange: Any) -> tuple[Client, bool]:
    """Return whose connection a request came on, and whether that is on a UNIX socket."""
    address = exchange.getClientAddress()
    hosts = exchange.headerValues(b"host")
    host = validHost(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
    scheme = "https" if exchange.isSecure() else "http"
    return Client(plainAddress(address), scheme, host), isinstance(address, UNIXAddress)
