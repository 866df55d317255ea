"""The options of a server: each validated when it is given, none ignored."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, Unpack

import attrs

from .errors import OptionError

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]

TRANSPORTS = ("polling", "websocket")
"""The names of the transports there are."""


def _refuse(attribute: attrs.Attribute[Any], value: object, expected: str) -> OptionError:
    return OptionError(attribute.name, value, f"expected {expected}")


def _wholeNumber(unit: str) -> Validator:
    def validate(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if type(value) is not int or value < 1:
            raise _refuse(attribute, value, f"a whole number of {unit}, 1 or more")

    return validate


def _flag(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if type(value) is not bool:
        raise _refuse(attribute, value, "True or False")


def _callableOrNone(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not callable(value):
        raise _refuse(attribute, value, "something to call with the request, or None")


def _transportNames(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    names = value if isinstance(value, tuple) else ()
    if not names or len(set(names)) != len(names) or not set(names) <= set(TRANSPORTS):
        raise _refuse(attribute, value, f"a list of one or more of {', '.join(TRANSPORTS)}, each once")


def _off(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not False:
        raise _refuse(attribute, value, "False: compressing WebSocket messages is not supported yet")


def _urlPath(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    allowed = isinstance(value, str) and value.isascii() and value.isprintable() and not set(" ?#%") & set(value)
    if not allowed or not str(value).startswith("/") or not str(value).strip("/") or "//" in str(value):
        raise _refuse(attribute, value, "the path of a URL, such as '/engine.io'")


def _asTuple(value: object) -> object:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else value


def _withoutTrailingSlash(value: object) -> object:
    return value.rstrip("/") or value if isinstance(value, str) else value


def _option(default: object, validator: Validator, help: str, converter: Any = None) -> Any:  # noqa: A002
    return attrs.field(default=default, validator=validator, converter=converter, metadata={"help": help})


class OptionKeywords(TypedDict, total=False):
    """The options by name, for type checkers: what C{**options} may hold. L{ServerOptions} says what each is."""

    pingInterval: int
    pingTimeout: int
    upgradeTimeout: int
    maxHttpBufferSize: int
    transports: Sequence[str]
    allowUpgrades: bool
    allowRequest: Callable[[Any], Any] | None
    perMessageDeflate: bool
    path: str
    addTrailingSlash: bool
    destroyUpgrade: bool
    destroyUpgradeTimeout: int


@attrs.frozen(kw_only=True, init=False)
class ServerOptions:
    """
    The options of a L{Server}, under the names and in the units of the reference.

    Immutable; L{attrs.evolve} makes a changed copy. Each field has its description in its metadata, under C{help}.

    @raise OptionError: an unknown name, a wrong type or a value out of range.
    """

    pingInterval: int = _option(
        25000,
        _wholeNumber("milliseconds"),
        "Milliseconds from a client's pong to the next ping. Keep it below the time after which a proxy in front"
        " cuts an idle request, often 30 or 60 seconds.",
    )
    pingTimeout: int = _option(
        20000,
        _wholeNumber("milliseconds"),
        "Milliseconds a client has to answer a ping. Browsers slow down the timers of tabs in the background, so"
        " a few seconds are too short.",
    )
    upgradeTimeout: int = _option(
        10000,
        _wholeNumber("milliseconds"),
        "Milliseconds a WebSocket has to complete the upgrade of a polling session; the session goes on polling.",
    )
    maxHttpBufferSize: int = _option(
        1_000_000,
        _wholeNumber("bytes"),
        "Bytes of the largest POST body, and of the largest WebSocket message, that a client may send.",
    )
    transports: tuple[str, ...] = _option(
        TRANSPORTS, _transportNames, "The transports on which clients may connect.", _asTuple
    )
    allowUpgrades: bool = _option(True, _flag, "Whether a polling session may move to WebSocket.")
    allowRequest: Callable[[Any], Any] | None = _option(
        None,
        _callableOrNone,
        "Called with the request that wants to open a session. A true answer (plain, from a Deferred or a coroutine)"
        " lets it, a false one refuses; RequestRefused(text), raised, refuses with that text.",
    )
    perMessageDeflate: bool = _option(False, _off, "Compression of WebSocket messages: off.")
    path: str = _option("/engine.io", _urlPath, "The path that `attach` and `listen` serve.", _withoutTrailingSlash)
    addTrailingSlash: bool = _option(
        True,
        _flag,
        "Whether `attach` captures everything below the path too, or only the path itself. With or without a"
        " slash at its end the path is served either way.",
    )
    destroyUpgrade: bool = _option(
        True, _flag, "Whether `attach` closes upgrade requests outside the path that nobody answers."
    )
    destroyUpgradeTimeout: int = _option(
        1000, _wholeNumber("milliseconds"), "After how many milliseconds `destroyUpgrade` does."
    )

    def __init__(self, **options: Unpack[OptionKeywords]) -> None:
        known = [each.name for each in attrs.fields(ServerOptions)]
        for name, value in options.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                cure = f"did you mean {near[0]}?" if near else f"the options are {', '.join(known)}"
                raise OptionError(name, value, f"there is no such option; {cure}")
        # The field is a tuple of what may be given as a list.
        self.__attrs_init__(**options)  # type: ignore[arg-type]
