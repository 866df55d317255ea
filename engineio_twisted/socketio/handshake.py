"""What is known of a client from the request that opened its session."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from functools import cached_property
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl


class Handshake:
    """
    The first request of a client, and what it said when it joined the namespace.

    Behind proxies, C{address} and C{secure} are what C{Server.clientOf} says.

    @ivar auth: what the client gave as its C{auth}; of protocol 4, the query of the namespace.
    """

    def __init__(self, client: Any, auth: dict[str, Any]) -> None:
        self._client = client
        self.auth: dict[str, Any] = auth

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The headers by their names in lower case; those that came more than once are joined by a comma."""
        headers = self._client.conn.request.requestHeaders
        found = {
            name.decode("latin-1").lower(): ", ".join(each.decode("utf-8", "replace") for each in values)
            for name, values in headers.getAllRawHeaders()
        }
        return MappingProxyType(found)

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The parameters of the address; of one that came more than once, the last."""
        _, _, query = self._client.conn.request.uri.partition(b"?")
        return MappingProxyType(dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)))

    @property
    def url(self) -> str:
        """The path and the query."""
        uri: bytes = self._client.conn.request.uri
        return uri.decode("latin-1")

    @property
    def address(self) -> str | None:
        """The client's IP address; None on a UNIX socket."""
        address: str | None = self._client.conn.remoteAddress
        return address

    @cached_property
    def secure(self) -> bool:
        """Whether the client addressed the server by TLS."""
        conn = self._client.conn
        scheme: str = conn.server.clientOf(conn.request).scheme
        return scheme == "https"

    @property
    def crossDomain(self) -> bool:
        """Whether the request had an Origin."""
        return "origin" in self.headers

    @property
    def issued(self) -> int:
        """When the session opened: milliseconds since 1970, by the clock of the server."""
        return int(self._client.openedAt * 1000)

    @property
    def time(self) -> str:
        """The same, as a date in a header has it."""
        return formatdate(self._client.openedAt, usegmt=True)
