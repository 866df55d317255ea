"""The options of the Socket.IO layer. docs/socketio-options.md."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import attrs

from .. import OptionError
from .interfaces import IParser


def _wholeNumber(least: int, isOptional: bool = False) -> Callable[[Any, Any, Any], None]:
    """Return a validator of whole numbers, and of None if the option may be that."""

    def check(_: object, attribute: Any, value: Any) -> None:
        if value is None and isOptional:
            return
        if type(value) is not int or value < least:
            orNone = ", or None" if isOptional else ""
            raise OptionError(attribute.name, value, f"expected a whole number from {least} on{orNone}")

    return check


def _flag(_: object, attribute: Any, value: Any) -> None:
    if type(value) is not bool:
        raise OptionError(attribute.name, value, "expected True or False")


def _function(what: str) -> Callable[[Any, Any, Any], None]:
    def check(_: object, attribute: Any, value: Any) -> None:
        if value is not None and not callable(value):
            raise OptionError(attribute.name, value, f"expected {what}, or None")

    return check


@attrs.frozen(kw_only=True)
class ConnectionStateRecovery:
    """
    What is kept for clients that lose their connection, and for how long. docs/socketio-recovery.md.

    @ivar maxDisconnectionDuration: milliseconds for which a session without a connection, and each event, is kept.
    @ivar skipMiddlewares: whether the middlewares of the namespace are left out for a client that comes back.
    @ivar maxEvents: maximum events kept for each namespace.
    @ivar maxBytes: maximum bytes of events kept for each namespace.
    @ivar maxWaitingSessions: maximum sessions without a connection kept for each namespace; and, for each parent,
        maximum namespaces that have no other sessions.
    @ivar sameUser: function called with the L{Kept} session and the new socket, after the middlewares if those are
        called; a false result, plain or asynchronous, gives the client a new session. None gives the session to any
        client that knows its secret.
    """

    maxDisconnectionDuration: int = attrs.field(default=120_000, validator=_wholeNumber(1))
    skipMiddlewares: bool = attrs.field(default=False, validator=_flag)
    maxEvents: int = attrs.field(default=1000, validator=_wholeNumber(1))
    maxBytes: int = attrs.field(default=1_000_000, validator=_wholeNumber(1))
    maxWaitingSessions: int = attrs.field(default=10_000, validator=_wholeNumber(1))
    sameUser: Callable[[Any, Any], object] | None = attrs.field(default=None, validator=_function("a function"))


def recoveryOf(value: Any) -> ConnectionStateRecovery | None:
    """
    Return the settings that the option C{connectionStateRecovery} stands for; None if it is off.

    @raise OptionError: it is something else than a flag, settings or a mapping of them.
    """
    if value is None or value is False:
        return None
    if value is True:
        return ConnectionStateRecovery()
    if isinstance(value, ConnectionStateRecovery):
        return value
    if isinstance(value, Mapping):
        made: ConnectionStateRecovery = _made(ConnectionStateRecovery, value, "connectionStateRecovery.")
        return made
    raise OptionError(
        "connectionStateRecovery",
        value,
        "expected True, False, or settings such as {'maxDisconnectionDuration': 60000}",
    )


def _checkParser(_: object, attribute: Any, value: Any) -> None:
    isParser = IParser.providedBy(value) or all(callable(getattr(value, each, None)) for each in ("encode", "decode"))
    # A text has both names.
    if value not in ("default", "msgpack") and (isinstance(value, str | bytes) or not isParser):
        raise OptionError(attribute.name, value, "expected 'default', 'msgpack', or an object that is an IParser")


def _checkFolder(_: object, attribute: Any, value: Any) -> None:
    if value is not False and not isinstance(value, str | Path):
        raise OptionError(attribute.name, value, "expected the folder of the client's bundles, or False")


@attrs.frozen(kw_only=True)
class SocketIOOptions:
    """
    The options of a L{SocketIO}. Those of its server are L{ServerOptions}.

    @ivar connectTimeout: milliseconds that a client has to join a namespace before its session is closed.
    @ivar ackTimeout: milliseconds that C{emitWithAck} waits by default; None waits until the socket ends.
    @ivar maxAttachments: maximum binary attachments of one packet from a client.
    @ivar maxWaitingEvents: maximum events of one socket that wait for its asynchronous middlewares; if more come, its
        client is not read until they are done.
    @ivar maxNamespacesPerClient: maximum namespaces that one session may join.
    @ivar cleanupEmptyChildNamespaces: whether a namespace made for a client ends with its last socket, unless C{of} was
        called with its name.
    @ivar adapter: function called with each L{Namespace} that returns its L{IAdapter}; None for L{MemoryAdapter}.
    @ivar connectionStateRecovery: whether clients get back what they missed: true, false, or settings as a
        L{ConnectionStateRecovery} or a mapping.
    @ivar parser: format of packets: C{default}, C{msgpack}, which needs the extra of this name, or an L{IParser}.
    @ivar default: function called with a value that JSON cannot carry that returns a value to send instead.
    @ivar serveClient: folder of the client's bundles, which are served below the path; false serves none.
    """

    connectTimeout: int = attrs.field(default=45_000, validator=_wholeNumber(1))
    ackTimeout: int | None = attrs.field(default=60_000, validator=_wholeNumber(1, isOptional=True))
    maxAttachments: int = attrs.field(default=10, validator=_wholeNumber(0))
    maxWaitingEvents: int = attrs.field(default=100, validator=_wholeNumber(1))
    maxNamespacesPerClient: int = attrs.field(default=100, validator=_wholeNumber(1))
    cleanupEmptyChildNamespaces: bool = attrs.field(default=True, validator=_flag)
    adapter: Callable[[Any], Any] | None = attrs.field(
        default=None, validator=_function("something to call with each namespace, such as RedisAdapter(url)")
    )
    connectionStateRecovery: ConnectionStateRecovery | None = attrs.field(default=None, converter=recoveryOf)
    parser: Any = attrs.field(default="default", validator=_checkParser)
    default: Callable[[Any], Any] | None = attrs.field(default=None, validator=_function("a function"))
    serveClient: str | Path | bool = attrs.field(default=False, validator=_checkFolder)


class SocketIOKeywords(TypedDict, total=False):
    """The options as keyword arguments."""

    connectTimeout: int
    ackTimeout: int | None
    maxAttachments: int
    maxWaitingEvents: int
    maxNamespacesPerClient: int
    cleanupEmptyChildNamespaces: bool
    adapter: Callable[[Any], Any] | None
    connectionStateRecovery: bool | ConnectionStateRecovery | Mapping[str, Any] | None
    parser: Any
    default: Callable[[Any], Any] | None
    serveClient: str | Path | bool


def optionsOf(given: Mapping[str, Any]) -> SocketIOOptions:
    """
    Return options by their names.

    @raise OptionError: one is unknown, of a wrong type or out of range.
    """
    options: SocketIOOptions = _made(SocketIOOptions, given, "")
    return options


def _made(kind: Any, given: Mapping[str, Any], prefix: str) -> Any:
    names = [each.name for each in attrs.fields(kind)]
    for name, value in given.items():
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            cure = f"did you mean {near[0]}?" if near else f"the options are {', '.join(names)}"
            raise OptionError(f"{prefix}{name}", value, cure)
    return kind(**given)
