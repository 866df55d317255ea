"""The options of a client: each validated when it is given, none ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http.cookiejar import CookieJar
from typing import Any, TypedDict, Unpack

import attrs
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.iweb import IAgent, IPolicyForHTTPS

from ..protocol.errors import OptionError
from ..protocol.option_parts import PerMessageDeflate
from ..protocol.options import TRANSPORTS, transportNames
from ..protocol.validators import (
    asTuple,
    checkNames,
    flag,
    matching,
    oneOf,
    option,
    orNone,
    part,
    refused,
    token,
    tokens,
    wholeNumber,
    withoutTrailingSlash,
)
from .address import checkParameter

_OURS = re.compile(
    "connection|upgrade|content-length|content-type|transfer-encoding|expect|te|trailer|sec-websocket-.*", re.IGNORECASE
)
"""Headers of requests that are the transports' own."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

CURES: Mapping[str, str] = {
    "host": "the host is part of the URL",
    "hostname": "the host is part of the URL",
    "port": "the port is part of the URL",
    "secure": "write a URL that begins with https: or wss:",
    "headers": "did you mean extraHeaders?",
    "http_session": "pass an IAgent as agent",
    "ssl_verify": "pass an IPolicyForHTTPS as contextFactory",
    "ca": "pass an IPolicyForHTTPS as contextFactory",
    "cert": "pass an IPolicyForHTTPS as contextFactory",
    "key": "pass an IPolicyForHTTPS as contextFactory",
    "rejectUnauthorized": "pass an IPolicyForHTTPS as contextFactory",
    "pfx": "pass an IPolicyForHTTPS as contextFactory",
    "passphrase": "pass an IPolicyForHTTPS as contextFactory",
    "ciphers": "pass an IPolicyForHTTPS as contextFactory",
    "transportImplementations": "name the transports in transports",
    "transportOptions": "what belongs to one transport is an option of the client",
    "timeout": "did you mean connectTimeout, in milliseconds?",
    "request_timeout": "did you mean requestTimeout, in milliseconds?",
    "reconnection": "use a ClientService with a ClientSessionEndpoint, or resume",
    "autoUnref": "a client keeps no reactor running",
    "closeOnBeforeunload": "that is for browsers",
    "useNativeTimers": "that is for browsers",
    "binaryType": "binary messages are bytes",
    "pingInterval": "the server says in its handshake how often it pings",
    "pingTimeout": "the server says in its handshake how long a ping may take",
    "cookie": "write withCredentials=True, or extraHeaders={'Cookie': …}",
    "allowEIO3": "write EIO=3",
    "resumeTimeout": "the server has it; a client asks for it by resume=True",
}
"""What to do in place of options of other clients, and of servers."""


def _query(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Mapping):
        raise refused(attribute, type(value), "a mapping of the names of parameters to their values")
    for name, each in value.items():
        if not isinstance(name, str) or not name or not isinstance(each, str):
            raise OptionError("query", name, f"expected text as its name and its value, not {type(each).__name__}")
        try:
            (name + each).encode()
        except UnicodeEncodeError:
            raise OptionError("query", name, "expected text that UTF-8 can carry") from None
        checkParameter(name)


def _asQuery(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    # Numbers are what a person would write in a URL; True would be written differently in each language.
    return {name: str(each) if type(each) in (int, float) else each for name, each in value.items()}


def _headers(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, Mapping):
        raise refused(attribute, type(value), "a mapping of the names of headers to their values")
    for name, each in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise OptionError("extraHeaders", name, "expected the name of a header")
        if _OURS.fullmatch(name):
            raise OptionError("extraHeaders", name, "the transports set this header: leave it out")
        if not isinstance(each, str) or not _VALUE.fullmatch(each):
            # The value may be a secret.
            raise OptionError("extraHeaders", name, "expected its value as text of one line in Latin-1")


def _asDict(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value


def _credentials(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if type(value) is not bool and not isinstance(value, CookieJar):
        raise refused(attribute, value, "True, False or an http.cookiejar.CookieJar")


def _revision(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if type(value) is not int or value not in (3, 4):
        raise refused(attribute, value, "a revision of the protocol, 3 or 4")


def _provides(interface: Any, expected: str) -> Any:
    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not interface.providedBy(value):
            raise refused(attribute, value, expected)

    return validate


def _withoutSecrets(value: object) -> object:
    """Return what may be shown of the value of an option that there isn't, such as the headers of another client."""
    return value if value is None or isinstance(value, int | float) else type(value)


class ClientKeywords(TypedDict, total=False):
    """The options by name, for type checkers: what C{**options} may hold. L{ClientOptions} says what each is."""

    path: str | None
    addTrailingSlash: bool
    query: Mapping[str, str | int | float]
    transports: Sequence[str]
    upgrade: bool
    rememberUpgrade: bool
    tryAllTransports: bool
    extraHeaders: Mapping[str, str]
    withCredentials: bool | CookieJar
    requestTimeout: int | None
    connectTimeout: int
    upgradeTimeout: int
    timestampRequests: bool | None
    timestampParam: str
    forceBase64: bool
    perMessageDeflate: PerMessageDeflate | Mapping[str, Any] | bool | None
    protocols: Sequence[str]
    EIO: int
    maxHttpBufferSize: int
    maxPacketsPerPayload: int
    maxBufferedPackets: int
    maxBufferedBytes: int
    bufferLimitAction: str
    resume: bool
    contextFactory: Any
    agent: Any
    endpoint: Any


@attrs.frozen(kw_only=True, init=False)
class ClientOptions:
    """
    The options of a L{Client}, under the names and in the units of C{engine.io-client}.

    Immutable. Each field has its description in its metadata, under C{help}; docs/client.md lists them.

    @raise OptionError: an unknown name, a wrong type or a value out of range.
    """

    path: str | None = option(
        None,
        orNone(matching("/[^ ?#]*", "the path of a URL, such as '/engine.io'")),
        "URL path at which the server serves sessions; by default that of the URL, or /engine.io.",
        withoutTrailingSlash,
        group="request",
    )
    addTrailingSlash: bool = option(True, flag, "Whether a slash is added to the path.", group="request")
    query: Mapping[str, str] = option(
        {}, _query, "Parameters of each request.", _asQuery, isSecret=True, group="request"
    )
    transports: tuple[str, ...] = option(
        TRANSPORTS, transportNames, "Transports to use: the first one opens the session.", asTuple, group="transports"
    )
    upgrade: bool = option(True, flag, "Whether the session moves from polling to WebSocket.", group="transports")
    rememberUpgrade: bool = option(
        False,
        flag,
        "Whether a session begins on WebSocket if the last one with the same host and port moved there.",
        group="transports",
    )
    tryAllTransports: bool = option(
        False, flag, "Whether the next transport is tried if one opens no session.", group="transports"
    )
    extraHeaders: Mapping[str, str] = option(
        {}, _headers, "Headers of each request.", _asDict, isSecret=True, group="request"
    )
    withCredentials: bool | CookieJar = option(
        False,
        _credentials,
        "Whether cookies are kept and sent back, or the jar that keeps them.",
        isSecret=True,
        group="request",
    )
    requestTimeout: int | None = option(
        None,
        orNone(wholeNumber("milliseconds")),
        "Milliseconds a request of polling may take; by default as long as the heartbeat allows.",
        group="timeouts",
    )
    connectTimeout: int = option(
        20000,
        wholeNumber("milliseconds"),
        "Milliseconds that opening the session may take, on each transport that is tried.",
        group="timeouts",
    )
    upgradeTimeout: int = option(
        10000, wholeNumber("milliseconds"), "Milliseconds that moving to WebSocket may take.", group="timeouts"
    )
    timestampRequests: bool | None = option(
        None,
        orNone(flag),
        "Whether a parameter makes the URL of each request another; by default on polling.",
        group="request",
    )
    timestampParam: str = option("t", token, "Name of that parameter.", group="request")
    forceBase64: bool = option(False, flag, "Whether binary travels as base64 on WebSocket too.", group="transports")
    perMessageDeflate: PerMessageDeflate | None = option(
        None,
        None,
        "Whether compression of WebSocket messages is offered to the server.",
        part("perMessageDeflate", PerMessageDeflate),
        group="transports",
    )
    protocols: tuple[str, ...] = option(
        (), tokens, "Subprotocols of WebSocket that are offered to the server.", asTuple, group="transports"
    )
    EIO: int = option(4, _revision, "Revision of the protocol, 3 or 4.", group="transports")
    maxHttpBufferSize: int = option(
        10_000_000,
        wholeNumber("bytes"),
        "Maximum bytes of one response or one WebSocket message from the server.",
        group="limits",
    )
    maxPacketsPerPayload: int = option(
        16,
        wholeNumber("packets"),
        "Maximum packets in one POST. A server of python-engineio takes 16, and drops all of a larger one.",
        group="limits",
    )
    maxBufferedPackets: int = option(
        100_000, wholeNumber("packets"), "Maximum packets buffered for the server.", group="limits"
    )
    maxBufferedBytes: int = option(
        32_000_000,
        wholeNumber("bytes"),
        "Maximum bytes buffered for the server, including what the connection has not sent yet.",
        group="limits",
    )
    bufferLimitAction: str = option(
        "close",
        oneOf("close", "drop", "raise"),
        "What a message beyond the buffer limits does: close the session, drop the message, or raise an error.",
        group="limits",
    )
    resume: bool = option(
        False, flag, "Whether the session survives the loss of its connection, if the server allows it.", group="resume"
    )
    contextFactory: Any = option(
        None,
        orNone(_provides(IPolicyForHTTPS, "an IPolicyForHTTPS, such as BrowserLikePolicyForHTTPS()")),
        "Policy of TLS, for both transports; by default certificates are verified as browsers do.",
        group="network",
    )
    agent: Any = option(
        None,
        orNone(_provides(IAgent, "an IAgent, such as twisted.web.client.Agent")),
        "Agent that sends the requests of polling.",
        group="network",
    )
    endpoint: Any = option(
        None,
        orNone(_provides(IStreamClientEndpoint, "an IStreamClientEndpoint")),
        "Endpoint of every connection, such as a UNIX socket or a tunnel; TLS is added for https: and wss:.",
        group="network",
    )

    def __init__(self, **options: Unpack[ClientKeywords]) -> None:
        shown = {name: _withoutSecrets(value) for name, value in options.items()}
        for name, value in shown.items():
            if name in CURES:
                raise OptionError(name, value, f"there is no such option; {CURES[name]}")
        checkNames(shown, ClientOptions)
        # The fields hold what the converters make of what may be given.
        self.__attrs_init__(**options)  # type: ignore[arg-type]
        if self.resume and self.EIO != 4:
            raise OptionError("resume", True, "revision 3 has no resuming: leave EIO out")
