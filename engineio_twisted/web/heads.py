"""The head of a request that came whole, read in one pass."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..protocol.handshake import asksForWebSocket
from .channel import LONGEST_NAME, isHost

REQUEST_LINE = re.compile(rb"(GET|POST) ([!-~]++) HTTP/1\.1\r\n")
"""The first line of a request (RFC 9112, 3), of those that are taken: its method and address."""

HEADERS = re.compile(rb"(?:[!#$%%&'*+\-.^_`|~0-9A-Za-z]{1,%d}+:[^\x00\r\n]*+\r\n)*+\r\n" % LONGEST_NAME)
"""The headers of a request (RFC 9112, 5), and the empty line behind them."""

_HEADER = re.compile(rb"([^:\r\n]++):([^\r\n]*+)\r\n")
"""One of them: its name and its value, with the blanks around that."""

CACHED_HEADERS = frozenset(
    (
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"origin",
        b"transfer-encoding",
        b"upgrade",
        b"user-agent",
    )
)
"""Headers that are looked for in nearly each request."""

LARGEST_KEPT = 2048
"""Bytes of a head that a connection keeps for its next request, which mostly has the same."""

_MANY_DIGITS = 16
"""Of so many a Content-Length is not that of a request that came whole."""

_NONE: Sequence[bytes] = ()


def headersOf(whole: bytes) -> dict[bytes, list[bytes]]:
    """
    Return the headers of a request, by name in lower case.

    @param whole: the lines of L{HEADERS}.
    """
    headers: dict[bytes, list[bytes]] = {}
    for name, value in _HEADER.findall(whole):
        headers.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return headers


class RequestHead:
    """
    The headers of a request, and what is asked of them with each one.

    Those that come on one connection are mostly the same: what was found out about one head serves the next too.

    @param whole: the lines of L{HEADERS}.
    @ivar known: the values of those of L{CACHED_HEADERS} that there are, by name; of all headers if they ask for a
        WebSocket, as all are looked at then.
    @ivar mayTake: whether a request with these headers can be one that L{FastChannel} takes.
    @ivar length: the length of the body; None without one.
    @ivar isUpgrade: whether they ask for a WebSocket.
    """

    __slots__ = ("isUpgrade", "known", "length", "mayTake", "whole")

    def __init__(self, whole: bytes, maxHeaders: int) -> None:
        self.whole: bytes = whole
        headers = headersOf(whole)
        lengths = headers.get(b"content-length", _NONE)
        connection = headers.get(b"connection", _NONE)
        hosts = headers.get(b"host", _NONE)
        # Python refuses to read numbers of thousands of digits.
        isLength = len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) < _MANY_DIGITS
        self.length = int(lengths[0]) if isLength else None
        self.isUpgrade: bool = b"upgrade" in headers and asksForWebSocket(headers[b"upgrade"], connection)
        # Requests share it, and change nothing in it.
        self.known: Mapping[bytes, Sequence[bytes]] = (
            headers if self.isUpgrade else {name: headers[name] for name in CACHED_HEADERS & headers.keys()}
        )
        self.mayTake: bool = (
            b"transfer-encoding" not in headers
            and b"expect" not in headers
            and len(connection) < 2
            and (not connection or b"close" not in connection[0].lower())
            and (isLength or not lengths)
            and len(hosts) == 1
            and isHost(hosts[0])
            # Behind each header, and behind all.
            and whole.count(b"\r\n") - 1 <= maxHeaders
        )

    @property
    def mayBeKept(self) -> bool:
        """Whether a connection may keep it: another request may come, and it takes little more memory than was sent."""
        known = self.known
        return not self.isUpgrade and len(self.whole) <= LARGEST_KEPT and sum(map(len, known.values())) == len(known)
