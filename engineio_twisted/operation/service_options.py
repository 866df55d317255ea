"""The settings of the service that the command runs, besides those of its server."""

from __future__ import annotations

from typing import Any

import attrs

from ..protocol.errors import OptionError
from ..protocol.validators import orNone, wholeNumber
from .named_objects import DEFAULT_APP

AUTO = "auto"
"""In place of a number of workers: as many as there are CPUs for the process."""

MAX_WORKERS = 256

MAX_PREFIX_WITH_WORKERS = 21
"""Signs of C{idPrefix} with workers, at most: with the largest number and C{-} behind them they are 32."""


def _texts(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    isRight = isinstance(value, tuple) and value and all(isinstance(each, str) for each in value)
    if not isRight:
        raise OptionError(attribute.name, value, "expected a list of text")


def _text(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str | None):
        raise OptionError(attribute.name, value, "expected text")


def _path(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value or "\0" in value):
        raise OptionError(attribute.name, value, "expected a path")


def _boolean(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise OptionError(attribute.name, value, "expected true or false")


def _workers(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None or value == AUTO or (type(value) is int and 1 <= value <= MAX_WORKERS):
        return
    raise OptionError(attribute.name, value, f"expected a whole number from 1 to {MAX_WORKERS}, or {AUTO}")


def _asTuple(value: object) -> object:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _setting(default: object, validator: Any, help: str, group: str, **metadata: Any) -> Any:  # noqa: A002
    converter = _asTuple if isinstance(default, tuple) else None
    metadata = {"help": help, "group": group, **metadata}
    return attrs.field(default=default, validator=validator, converter=converter, metadata=metadata)


@attrs.frozen(kw_only=True)
class ServiceOptions:
    """The settings of the service that the command runs, besides the L{ServerOptions}. Each is a flag and a key too."""

    listen: tuple[str, ...] = _setting(
        ("tcp:3000",),
        _texts,
        "Port or endpoint description to listen on; may be repeated.",
        "listening",
        metavar="ENDPOINT",
        mayHoldCommas=True,
    )
    app: str = _setting(
        DEFAULT_APP,
        _text,
        "Function that sets up the application on the server; by default an echo.",
        "operation",
        metavar="MODULE:NAME",
    )
    socketio: bool = _setting(
        False,
        _boolean,
        "Whether the application speaks Socket.IO; the path is then /socket.io by default.",
        "operation",
    )
    static: str | None = _setting(
        None,
        _path,
        "Directory whose files are served at /, except names that begin with a dot.",
        "listening",
        metavar="DIR",
    )
    accessLog: str | None = _setting(
        None, _path, "File for a line about each request; - is standard output.", "operation", metavar="FILE"
    )
    logSessions: bool = _setting(
        False,
        _boolean,
        "Whether beginnings and ends of sessions, and refused requests, are logged.",
        "operation",
    )
    metrics: str | None = _setting(
        None,
        _text,
        "Endpoint that serves /metrics for Prometheus; 'listen' means where sessions are served.",
        "operation",
        metavar="ENDPOINT",
    )
    health: str | None = _setting(
        None,
        _text,
        "Endpoint that serves /health and /ready; 'listen' means where sessions are served.",
        "operation",
        metavar="ENDPOINT",
    )
    workers: int | str | None = _setting(
        None,
        _workers,
        "Processes that serve sessions, on Linux; 'auto' means one for each CPU.",
        "workers",
        metavar="N",
    )
    workersStartTimeout: int = _setting(
        30000,
        wholeNumber("milliseconds"),
        "Milliseconds a worker has to become ready before it is killed.",
        "workers",
        metavar="MS",
    )
    workersHangTimeout: int | None = _setting(
        30000,
        orNone(wholeNumber("milliseconds")),
        "Milliseconds a worker may leave pings unanswered before it is killed and replaced.",
        "workers",
        metavar="MS",
    )
    workersMove: bool = _setting(
        True,
        _boolean,
        "Whether plain connections move to the worker that has their session; otherwise every request is relayed.",
        "workers",
    )
