"""
How many sessions and handshakes there may be, in all and from one address; how much a client may send in a second.

All of it counts, and decides nothing else: time is an argument, and what is kept has an end by itself. An address is
kept as long as it has a session, or for the second in which a handshake came from it. docs/protocol.md, "Limits".
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from ..protocol.errors import HTTPRefusal
from ..protocol.proxies import TrustedProxies, addressOf, networkOf, trustedProxies

if TYPE_CHECKING:
    from ..protocol.options import ServerOptions

OWN_NETWORKS = TrustedProxies(
    tuple(
        networkOf(each)
        for each in (
            "127.0.0.0/8",
            "::1/128",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "fe80::/10",
            "fc00::/7",
        )
    ),
    unix=True,
)
"""
Addresses that nobody has on the Internet (RFC 1122, 1918, 6598, 3927, 4291, 4193).

Behind one of them may be a proxy and behind that everybody, as long as C{trustedProxies} doesn't say.
"""

RETRY_AFTER = "5"
"""Seconds after which a client may come again if there were too many sessions; as for a server that closes."""

_REMEMBERED = 4096
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: how a translator reports clients that come by IPv4
_NETWORK_OF_A_CLIENT = 64  # RFC 6177: a client with one address of IPv6 has at least so many bits of them


class SessionLimitExceeded(HTTPRefusal):
    """No session is opened: there are too many, or too many handshakes. Nothing else is touched."""

    def __init__(self, name: str, message: str, status: int, retryAfter: str) -> None:
        super().__init__(message, {"Retry-After": retryAfter}, status, name)


class Admission:
    """
    What a handshake holds of the limits while it is decided about, and passes on to the session that it opens.

    @param addressKey: under which its address is counted; None if it isn't.
    """

    __slots__ = ("_addressKey", "_isHeld", "_limits")

    def __init__(self, limits: SessionLimits, addressKey: str | None) -> None:
        self._limits = limits
        self._addressKey = addressKey
        self._isHeld = True

    def take(self) -> str | None:
        """Pass it on to a session; return what L{SessionLimits.leave} is called with when that has ended."""
        if self._isHeld:
            self._isHeld = False
            self._limits.pending -= 1
        else:
            # It was given up, and the session is opened all the same.
            self._limits.enter(self._addressKey)
        return self._addressKey

    def giveUp(self) -> None:
        """Count the handshake out, unless it was passed on to a session."""
        if self._isHeld:
            self._isHeld = False
            self._limits.pending -= 1
            self._limits.leave(self._addressKey)


class SessionLimits:
    """
    How many sessions there are from each address, and how many handshakes there were in this second.

    @ivar pending: how many handshakes are being decided about.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._maxSessions = options.maxSessions
        self._maxPerAddress = options.maxSessionsPerAddress
        self._maxHandshakes = options.maxHandshakesPerSecondPerAddress
        names = options.trustedProxies
        self._uncounted = OWN_NETWORKS if names is None else trustedProxies(names)
        self._sessions: dict[str, int] = {}
        self._second = 0
        self._handshakes: dict[str, int] = {}
        self._addressKeyOf = lru_cache(_REMEMBERED)(self._findAddressKey)
        self.pending: int = 0
        self.needsAddress: bool = self._maxPerAddress is not None or self._maxHandshakes is not None

    def admit(self, address: str | None, sessions: int, now: float) -> Admission:
        """
        Let a handshake in.

        @param address: the client's; None if it has none, or if C{needsAddress} is false.
        @param sessions: how many are open.
        @param now: the time in seconds.
        @raise SessionLimitExceeded: there are too many. Nothing is counted but the handshake.
        """
        addressKey = None if address is None else self._addressKeyOf(address)
        if addressKey is not None and self._maxHandshakes is not None:
            self._countHandshake(addressKey, int(now), self._maxHandshakes)
        if self._maxSessions is not None and sessions + self.pending >= self._maxSessions:
            message = f"there are as many sessions as maxSessions allows, {self._maxSessions}"
            raise SessionLimitExceeded("maxSessions", message, 503, RETRY_AFTER)
        if addressKey is not None and self._maxPerAddress is not None:
            if self._sessions.get(addressKey, 0) >= self._maxPerAddress:
                what = f"{addressKey} has as many sessions as maxSessionsPerAddress allows, {self._maxPerAddress}"
                raise SessionLimitExceeded("maxSessionsPerAddress", f"{what}{_CURE}", 429, RETRY_AFTER)
            self.enter(addressKey)
        else:
            addressKey = None
        self.pending += 1
        return Admission(self, addressKey)

    def _countHandshake(self, addressKey: str, second: int, limit: int) -> None:
        if second != self._second:
            self._second = second
            self._handshakes = {}
        count = self._handshakes.get(addressKey, 0)
        if count >= limit:
            name = "maxHandshakesPerSecondPerAddress"
            what = f"from {addressKey} came as many handshakes in a second as {name} allows, {limit}"
            raise SessionLimitExceeded(name, f"{what}{_CURE}", 429, "1")
        self._handshakes[addressKey] = count + 1

    def enter(self, addressKey: str | None) -> None:
        """Count a session, or what may become one, under the key of its address; nothing if it has none."""
        if addressKey is not None:
            self._sessions[addressKey] = self._sessions.get(addressKey, 0) + 1

    def leave(self, addressKey: str | None) -> None:
        """Count a session, or what would have become one, out."""
        if addressKey is not None:
            left = self._sessions[addressKey] - 1
            if left:
                self._sessions[addressKey] = left
            else:
                del self._sessions[addressKey]

    def _findAddressKey(self, address: str) -> str | None:
        """Return the key of an address, for IPv6 the network that one client has; None if it isn't counted."""
        found = addressOf(address)
        if found is None or self._uncounted.trust(found):
            return None
        if not isinstance(found, IPv6Address):
            return str(found)
        if found in _NAT64:
            # In one network of IPv6 are all clients of IPv4.
            return str(IPv4Address(found.packed[-4:]))
        return str(IPv6Network((found, _NETWORK_OF_A_CLIENT), False))


_CURE = "; if it is a proxy, name it in trustedProxies"


class Meter:
    """
    How much has come from one client in a second, which begins with the first that comes.

    @param maxMessages: how many packets may; None is any number.
    @param maxBytes: how many bytes may; None is any number.
    """

    __slots__ = ("_bytes", "_maxBytes", "_maxMessages", "_messages", "_until")

    def __init__(self, maxMessages: int | None, maxBytes: int | None) -> None:
        self._maxMessages = maxMessages
        self._maxBytes = maxBytes
        self._until = 0.0
        self._messages = 0
        self._bytes = 0

    def count(self, size: int, now: float) -> tuple[str, int] | None:
        """
        Count a packet; return the option that it exceeds, with its value, or None.

        @param size: its bytes.
        @param now: the time in seconds.
        """
        if not self._until - 1 <= now < self._until:
            self._until = now + 1
            self._messages = self._bytes = 0
        self._messages += 1
        self._bytes += size
        if self._maxMessages is not None and self._messages > self._maxMessages:
            return "maxMessagesPerSecond", self._maxMessages
        if self._maxBytes is not None and self._bytes > self._maxBytes:
            return "maxBytesPerSecond", self._maxBytes
        return None
