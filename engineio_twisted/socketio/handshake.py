"""What the first request of a client said."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from functools import cached_property
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl


class Handshake:
    """
    What the first request of a client said, and its C{auth} for the namespace.

    Behind a proxy, C{address} and C{secure} are those of the client if C{trustedProxies} names the proxy.

    @ivar auth: the client's C{auth}. For a client of protocol 4, the query of the namespace.
    """

    def __init__(self, client: Any, auth: dict[str, Any]) -> None:
        self._client = client
        self.auth: dict[str, Any] = auth

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The headers, by name in lower case. Several values of one header are joined by a comma."""
        headers = self._client.conn.request.requestHeaders
        found = {
            name.decode("latin-1").lower(): ", ".join(each.decode("utf-8", "replace") for each in values)
            for name, values in headers.getAllRawHeaders()
        }
        return MappingProxyType(found)

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The parameters of the address. Of several values of one parameter, the last."""
        _, _, query = self._client.conn.request.uri.partition(b"?")
        return MappingProxyType(dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)))

    @property
    def url(self) -> str:
        """The path and the query."""
        uri: bytes = self._client.conn.request.uri
        return uri.decode("latin-1")

    @property
    def address(self) -> str | None:
        """The client's IP address, or None on a UNIX socket."""
        address: str | None = self._client.conn.remoteAddress
        return address

    @cached_property
    def secure(self) -> bool:
        """Whether the client used TLS."""
        conn = self._client.conn
        scheme: str = conn.server.clientOf(conn.request).scheme
        return scheme == "https"

    @property
    def crossDomain(self) -> bool:
        """Whether the request had an C{Origin} header."""
        return "origin" in self.headers

    @property
    def issued(self) -> int:
        """When the session opened: milliseconds since 1970, by the clock of the server."""
        return int(self._client.openedAt * 1000)

    @property
    def time(self) -> str:
        """When the session opened, in the format of the header C{Date}."""
        return formatdate(self._client.openedAt, usegmt=True)
