"""
The address of a client behind proxies, and the scheme and host by which it addressed the server.

Anybody can send a header that names another address. What such a header says is a proxy's word only as long as it was
a trusted proxy that sent it: headers are read from the right, the side of the nearest proxy, up to the first address
that isn't trusted. docs/protocol.md, "Proxies".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import attrs

from .errors import HTTPRefusal
from .origins import normalOrigin

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

UNIX = "unix"
"""Among trusted proxies: every client of a UNIX socket, which has no address."""

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_FORWARDED_PORT = re.compile(r"[0-9]{1,5}")
_PORT = re.compile(r"[0-9]{1,5}|_[A-Za-z0-9._-]+")  # RFC 7239, 6

# An element of Forwarded (RFC 7239, 4), written backwards. From the left, a quote that a client leaves open would
# swallow what a proxy adds behind it.
_PAIR = r"""(?:"(?:[^"]|"\\)*+"|[!#$%&'*+.^_`|~0-9A-Za-z-]++)=[!#$%&'*+.^_`|~0-9A-Za-z-]++"""
_ELEMENT = re.compile(rf"[ \t]*+((?:{_PAIR})?+(?:[ \t]*+;[ \t]*+(?:{_PAIR})?+)*+)[ \t]*+(?:,|$)")
_PAIRS = re.compile(_PAIR)


@attrs.frozen
class Client:
    """
    The sender of a request, as the connection and trusted proxies name it.

    @ivar address: the IP address; None on a UNIX socket.
    @ivar scheme: by which the client addressed us, C{http} or C{https}.
    @ivar host: the host that the client addressed, with the port if it named one; None if it named no host.
    """

    address: str | None
    scheme: str
    host: str | None

    @property
    def origin(self) -> str | None:
        """The origin of pages that come from the server of this request (RFC 6454, 6); None without a host."""
        return None if self.host is None else normalOrigin(f"{self.scheme}://{self.host}")

    def isSame(self, other: Client) -> bool:
        """Return whether another is the same client, which addressed us by the same origin."""
        return (self.address, self.scheme, self.origin) == (other.address, other.scheme, other.origin)


class ForwardedContradiction(HTTPRefusal):
    """
    A trusted proxy sent both kinds of headers, and they say different things.

    A proxy that sets one kind often passes the other on as the client sent it: nobody can tell which it is.
    """

    name = "trustedProxies"

    def __init__(self) -> None:
        super().__init__(
            "Forwarded says something else than X-Forwarded-For, -Proto and -Host: the proxy has to set one of the two"
            " and to remove the other"
        )


def networkOf(text: str) -> Network:
    """
    Return the network that an address, or a network such as C{10.0.0.0/8}, names.

    @raise ValueError: it names none.
    """
    network = ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    # How a dual-stack port reports clients that come by IPv4.
    return IPv4Network((mapped, network.prefixlen - 96)) if mapped is not None and network.prefixlen >= 96 else network


def plainAddress(peer: object) -> str | None:
    """
    Return the IP address of the other end of a connection, that of an IPv4 client as IPv4; None if it has none.

    @param peer: an C{IAddress} of Twisted.
    """
    host: str | None = getattr(peer, "host", None)
    # How a dual-stack port reports a client that came by IPv4.
    return host.removeprefix("::ffff:") if host is not None and "." in host else host


@attrs.frozen
class TrustedProxies:
    """
    The proxies whose word counts.

    @ivar networks: their networks.
    @ivar unix: whether clients of a UNIX socket are proxies.
    """

    networks: tuple[Network, ...]
    unix: bool

    def trust(self, address: Address | None) -> bool:
        """Return whether an address is that of a proxy; None is a client of a UNIX socket."""
        return self.unix if address is None else any(address in network for network in self.networks)


@cache
def trustedProxies(names: tuple[str, ...]) -> TrustedProxies:
    """Return the proxies that an option's value names."""
    return TrustedProxies(tuple(networkOf(each) for each in names if each != UNIX), UNIX in names)


def addressOf(text: str) -> Address | None:
    """Return the address that a header or a connection names, with or without a port; None for anything else."""
    if text[:1] == "[":
        host, bracket, port = text[1:].partition("]")
        if not bracket or ":" not in host or (port and not (port[0] == ":" and _PORT.fullmatch(port[1:]))):
            return None
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        if not _PORT.fullmatch(port):
            return None
    else:
        host = text
    try:
        # Behind a % is the name of an interface, on the machine of the sender.
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def clientOf(
    connection: Client, headers: Callable[[bytes], Sequence[bytes]], proxies: TrustedProxies, isUnix: bool = False
) -> Client:
    """
    Return the client of a request.

    @param connection: whose connection it came on, and what its Host header says.
    @param headers: returns the values of a header of the request, by its name in lower case.
    @param isUnix: whether the connection is on a UNIX socket; nothing else without an address is ever trusted.
    @raise ForwardedContradiction: a trusted proxy contradicts itself.
    """
    peer = None if connection.address is None else addressOf(connection.address)
    if (peer is None and not isUnix) or not proxies.trust(peer):
        return connection
    ours = [_elements(headers(name)) for name in (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")]
    standard = headers(b"forwarded")
    byX: Client | None = None
    if any(ours):
        ports = _elements(headers(b"x-forwarded-port")) if ours[2] else ()
        byX = _byXForwarded(connection, peer, ours[0], ours[1], ours[2], ports, proxies)
    byStandard = _byForwarded(connection, peer, standard, proxies) if standard else None
    if byX is not None and byStandard is not None and not byX.isSame(byStandard):
        raise ForwardedContradiction
    return byX or byStandard or connection


def _elements(values: Sequence[bytes]) -> list[str]:
    return [each.strip(" \t") for each in b",".join(values).decode("latin-1").split(",") if each.strip(" \t")]


def _byXForwarded(
    connection: Client,
    address: Address | None,
    nodes: Sequence[str],
    schemes: Sequence[str],
    hosts: Sequence[str],
    ports: Sequence[str],
    proxies: TrustedProxies,
) -> Client:
    hops = 0
    for node in reversed(nodes):
        named = addressOf(node) if proxies.trust(address) else None
        if named is None:
            break
        address = named
        hops += 1

    def atLastHop(values: Sequence[str]) -> str | None:
        # If each proxy adds its own, the entries further to the left are the client's word.
        return values[-min(max(hops, 1), len(values))] if values else None

    return _said(connection, address, atLastHop(schemes), atLastHop(hosts), atLastHop(ports))


def _byForwarded(
    connection: Client, address: Address | None, values: Sequence[bytes], proxies: TrustedProxies
) -> Client:
    scheme: str | None = None
    host: str | None = None
    for element in _forwardedElements(b",".join(values).decode("latin-1")):
        if not proxies.trust(address):
            break
        scheme, host = element.get("proto", scheme), element.get("host", host)
        named = addressOf(element.get("for", ""))
        if named is None:
            break
        address = named
    return _said(connection, address, scheme, host)


def _forwardedElements(text: str) -> Iterator[dict[str, str]]:
    """Yield the elements of a Forwarded header from the right, up to what is none."""
    backwards, at = text[::-1], 0
    while at < len(backwards):
        match = _ELEMENT.match(backwards, at)
        if match is None:
            return
        at = match.end()
        pairs = [each[::-1].partition("=") for each in _PAIRS.findall(match[1])]
        element = {name.lower(): _unquoted(value) for name, _, value in pairs}
        if len(element) < len(pairs):
            # Of two, nobody can tell which is meant.
            return
        if element:
            yield element


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] == '"' else value


def _said(
    connection: Client, address: Address | None, scheme: str | None, host: str | None, port: str | None = None
) -> Client:
    named = None if host is None else _HOST.fullmatch(host)
    if named is None:
        host = connection.host
    elif named[1] is None and port is not None and _FORWARDED_PORT.fullmatch(port) and 0 < int(port) <= 65535:
        host = f"{host}:{int(port)}"
    return Client(
        None if address is None else str(address), _SCHEMES.get((scheme or "").lower(), connection.scheme), host
    )


def validHost(host: str | None) -> str | None:
    """Return a host, with or without a port, if it is well-formed; else None."""
    return host if host is not None and _HOST.fullmatch(host) else None
