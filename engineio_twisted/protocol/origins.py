"""
Origins: how a rule names one or many, and whether the Origin of a request is among them.

docs/protocol.md, "CORS and origins".
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

NULL = "null"
"""The Origin of a page that has none of its own, such as a file or a sandboxed frame."""

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_OF_PAGES = {"ws": "http", "wss": "https"}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_AUTHORITY = re.compile(r"(\*\.)?(\[[0-9A-Fa-f:.]*\]|[^*:\[\]]*)(?::(\*|[0-9]+))?")
_NAME = re.compile(r"(?:[0-9A-Za-z_-]+\.)*[0-9A-Za-z_-]+\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ANY_LABELS = r"(?:[0-9A-Za-z_-]+\.)+"
_ANY_PORT = r"(?::[0-9]{1,5})?"


def normalOrigin(origin: str) -> str:
    """
    Return an origin as a browser writes it: in lower case, and without the port that its scheme has anyway.

    C{ws} and C{wss} become C{http} and C{https}.
    """
    scheme, separator, rest = origin.lower().partition("://")
    scheme = _OF_PAGES.get(scheme, scheme)
    return f"{scheme}{separator}{rest.removesuffix(_DEFAULT_PORTS.get(scheme, ''))}"


def sentOrigin(origin: str) -> str:
    """
    Return the Origin of a request as rules are compared with it.

    There are clients that send the address of the WebSocket (docs/clients.md), which no browser does.
    """
    return normalOrigin(origin) if origin.startswith(("ws://", "wss://")) else origin


@lru_cache(maxsize=256)
def readOrigin(text: str) -> str:
    """
    Read an origin of a rule: one, or with C{*} as the leftmost label or as the port, many.

    @return: its normal form, which reads as itself.
    @raise ValueError: no browser sends an Origin that this could match; the text says what was expected.
    """
    if not text.isascii():
        raise ValueError("write the host in punycode, as browsers do: xn--…")
    if not text.isprintable() or " " in text:
        raise ValueError("an origin has no spaces and no control characters")
    if text.lower() == NULL:
        return NULL
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ValueError("an origin begins with a scheme, such as https://")
    if scheme in _OF_PAGES:
        raise ValueError(f"a page that opens a WebSocket has its own origin: write {_OF_PAGES[scheme]}://")
    if "@" in rest:
        raise ValueError("an origin has no user name")
    if re.search(r"[/\\?#]", rest):
        raise ValueError("an origin ends with the host or the port: no path, no slash, no query")
    isWeb = scheme in _DEFAULT_PORTS
    # Other schemes, such as those of browser extensions, have hosts of their own kind, or none.
    parts = _AUTHORITY.fullmatch(rest.lower() if isWeb else rest)
    if parts is None:
        if "*" in rest:
            raise ValueError("* stands for labels on the left, as in https://*.example.com, or for the port, as in :*")
        raise ValueError("expected a host, and perhaps a port, behind the scheme")
    wildcard, host, port = parts.groups()
    host = _webHost(host) if isWeb else host
    if wildcard and (not _NAME.fullmatch(host) or _isNumber(host)):
        raise ValueError("*. stands before the name of a domain")
    if port not in (None, "*") and not (port[0] != "0" and int(port[:6]) <= 65535):
        raise ValueError("a port is a number from 1 to 65535, or *")
    origin = f"{scheme}://{wildcard or ''}{host}{'' if port is None else ':' + port}"
    return origin.removesuffix(_DEFAULT_PORTS[scheme]) if isWeb else origin


def _isNumber(host: str) -> bool:
    """Return whether a browser reads a host as an IPv4 address (the URL standard, "ends in a number")."""
    return _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]) is not None


def _webHost(host: str) -> str:
    """
    Return the host of a URL as browsers write it.

    @raise ValueError: it is none.
    """
    if host[:1] == "[":
        try:
            address = IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError("expected an IPv6 address in the brackets") from None
        mapped = address.ipv4_mapped
        # Python writes these with dots, since some version.
        return f"[::ffff:{int(mapped) >> 16:x}:{int(mapped) & 0xFFFF:x}]" if mapped else f"[{address.compressed}]"
    if not _NAME.fullmatch(host):
        raise ValueError("a host consists of letters, digits, -, _ and single dots")
    if _isNumber(host):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise ValueError("write an IPv4 address as browsers do: four decimal numbers") from None
    for label in host.split("."):
        if label.startswith("xn--") and not _isPunycode(label.removeprefix("xn--")):
            raise ValueError(f"{label} is no punycode")
    return host


def _isPunycode(text: str) -> bool:
    try:
        return bool(text.encode().decode("punycode"))
    except ValueError:
        return False


def originMatches(rule: str, origin: str) -> bool:
    """
    Return whether an origin is the one of a rule, or one of its many.

    @param rule: as L{readOrigin} returns it.
    @param origin: as L{sentOrigin} returns it.
    """
    return _pattern(rule).fullmatch(origin) is not None if "*" in rule else origin == rule


@lru_cache(maxsize=256)
def _pattern(rule: str) -> re.Pattern[str]:
    scheme, _, rest = rule.partition("://")
    host = rest.removesuffix(":*")
    labels = _ANY_LABELS if host.startswith("*.") else ""
    port = _ANY_PORT if host != rest else ""
    return re.compile(f"{re.escape(scheme)}://{labels}{re.escape(host.removeprefix('*.'))}{port}")
