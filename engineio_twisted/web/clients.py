"""Who sent a request, by its connection and by the proxies that are trusted."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import ISSLTransport

from ..protocol.options import ServerOptions
from ..protocol.proxies import Client, clientOf, plainAddress, trustedProxies, validHost


class Clients:
    """
    What requests of one server say of their clients.

    @param options: those of the server.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._options = options

    def clientOf(self, request: Any) -> Client:
        """
        Return who sent a request.

        @raise HTTPRefusal: a trusted proxy contradicts itself.
        """
        if self._options.trustedProxies is None:
            return _connectionOf(request)[0]
        client: Client | None = getattr(request, "engineIOClient", None)
        if client is None:
            connection, isUnix = _connectionOf(request)

            def headers(name: bytes) -> list[bytes]:
                values: list[bytes] = request.requestHeaders.getRawHeaders(name, [])
                return values

            client = clientOf(connection, headers, trustedProxies(self._options.trustedProxies), isUnix)
            request.engineIOClient = client
        return client

    def addressOf(self, request: Any) -> str | None:
        """
        Return the IP address of the client; None on a UNIX socket.

        @raise HTTPRefusal: as L{clientOf}.
        """
        if self._options.trustedProxies is None:
            return plainAddress(request.getClientAddress())
        return self.clientOf(request).address


def _connectionOf(request: Any) -> tuple[Client, bool]:
    """Return whose connection a request came on, and whether that is on a UNIX socket."""
    address = request.getClientAddress()
    # The request is asked first, which an application may have told; once it is answered, only the connection knows.
    isSecure = request.isSecure() or ISSLTransport.providedBy(getattr(request, "transport", None))
    hosts = request.requestHeaders.getRawHeaders(b"host", ())
    host = validHost(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
    scheme = "https" if isSecure else "http"
    return Client(plainAddress(address), scheme, host), isinstance(address, UNIXAddress)
