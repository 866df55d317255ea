"""
The settings of an operator: each option as a flag of the command line and as a key of a TOML file.

Both are made of the fields of L{ServerOptions}, of its parts such as L{Cookie}, and of L{ServiceOptions}: a new
field is a new flag and a new key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from ..protocol.errors import OptionError
from ..protocol.options import ServerOptions
from ..protocol.validators import checkNames
from .named_objects import findObject
from .service_options import ServiceOptions

Path = tuple[str, ...]
"""The names that lead to a setting: of an option, or of an option and of a setting of its own."""

_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""The name of a Python object."""

GROUPS = {
    "listening": "Listening",
    "heartbeat": "Heartbeat",
    "origins": "Origins and access",
    "limits": "Limits and timeouts",
    "proxies": "Proxies and load balancers",
    "cookie": "Cookie",
    "compression": "Compression",
    "operation": "Operation",
    "workers": "Several processes",
}
"""The groups of the settings, in their order, each with its title."""


def _members(type_: Any) -> Iterator[Any]:
    """Yield the types of a union, or the type itself."""
    if get_origin(type_) in (Union, UnionType):
        for each in get_args(type_):
            yield from _members(each)
    else:
        origin = get_origin(type_)
        yield str if origin is Literal else origin or type_


@attrs.frozen
class Setting:
    """
    One thing that can be set.

    @ivar path: the names that lead to it.
    @ivar types: those that its value may have.
    @ivar field: the field of a class of options that it is.
    @ivar group: the group it belongs to, one of L{GROUPS}.
    @ivar default: its value if nothing is given.
    """

    path: Path
    types: frozenset[Any]
    field: attrs.Attribute[Any]
    group: str
    default: Any

    @property
    def help(self) -> str:
        """What it is, in a sentence."""
        text: str = self.field.metadata["help"]
        return text

    @property
    def metavar(self) -> str:
        """What stands for its value in texts, with the unit; empty if its flag takes none."""
        text: str = self.field.metadata.get("metavar", "")
        return text

    @property
    def name(self) -> str:
        """Its name in the file, and in errors."""
        return ".".join(self.path)

    @property
    def flag(self) -> str:
        """Its name on the command line, without what is before it."""
        return "-".join(re.sub("(?<=[a-z0-9])(?=[A-Z])", "-", each).lower() for each in self.path)

    @property
    def usage(self) -> str:
        """Its flag as texts show it, such as C{--[no-]allow-upgrades} or C{--ping-interval MS}."""
        isNegative = self.isSwitch and not self.canBeOn
        no = "no-" if isNegative else "[no-]" if self.off is not self else ""
        return f"--{no}{self.flag} {self.metavar}".rstrip()

    @property
    def part(self) -> Any:
        """The class of its own settings; None if it has none."""
        return next((each for each in self.types if attrs.has(each)), None)

    @property
    def isSwitch(self) -> bool:
        """Whether its flag takes nothing behind it."""
        return self.part is not None or self.types - {NoneType} == {bool}

    @property
    def canBeOn(self) -> bool:
        """Whether its flag alone, without a value, switches it on."""
        if self.part is None:
            return self.isSwitch
        convert: Any = self.field.converter
        try:
            # One without a default has to be told more.
            return bool(convert(True))
        except OptionError:
            return False

    @property
    def off(self) -> Any:
        """The value that switches it off; the setting itself if nothing does."""
        if self.part is not None or bool in self.types:
            return False
        return None if NoneType in self.types else self

    def fromText(self, text: str) -> Any:
        """
        Return what the text behind its flag would be in the file.

        Text that is no value is returned as it is: the option's own check then says what is wrong with it.
        """
        if self.types <= {int, float, NoneType}:
            return _asNumber(text, float in self.types)
        if tuple in self.types:
            return [text] if "mayHoldCommas" in self.field.metadata else [each.strip() for each in text.split(",")]
        if datetime in self.types:
            return _asTime(text)
        if self.types <= {str, bytes, NoneType}:
            return text
        if bool in self.types and text in ("true", "false"):
            return text == "true"
        if int in self.types:
            return _asNumber(text, False)
        if Sequence in self.types and "," in text:
            return [each.strip() for each in text.split(",")]
        return text

    def fromFile(self, value: Any, imports: bool = True) -> Any:
        """
        Return the value of an entry in the file.

        @param imports: whether an object that it names is imported; otherwise something stands for it that the check of
            the option accepts.
        @raise OptionError: it names an object that isn't there.
        """
        if value is False and self.off is None:
            # There is no null in the file.
            return None
        if self.part is not None or self.types <= {int, float, bool, tuple, datetime, str, bytes, NoneType}:
            return value
        if isinstance(value, list):
            return [self._object(each, imports) for each in value]
        return self._object(value, imports)

    def _object(self, value: Any, imports: bool) -> Any:
        """Return the object of a name, or the text itself if it is no name and the option takes text."""
        if isinstance(value, str) and _OBJECT.fullmatch(value):
            if imports:
                return findObject(self.name, value)
            return _ANY_PATTERN if re.Pattern in self.types else _AnyObject
        if isinstance(value, str) and str not in self.types:
            raise OptionError(self.name, value, "expected module:attribute")
        return value


_ANY_PATTERN = re.compile("")
"""Stands for origins that are imported elsewhere."""


class _AnyObject:
    """Stands for an object that is imported elsewhere."""

    supportsPerMessageDeflate = True


def _asNumber(text: str, mayBeFraction: bool) -> Any:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text) if mayBeFraction else text
    except ValueError:
        return text


def _asTime(text: str) -> Any:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


def _settingsOf(options: Any, above: Path = (), group: str = "") -> Iterator[Setting]:
    types = get_type_hints(options)
    defaults = options()
    for field in attrs.fields(options):
        setting = Setting(
            (*above, field.name),
            frozenset(_members(types[field.name])),
            field,
            field.metadata.get("group", group),
            getattr(defaults, field.name),
        )
        yield setting
        if setting.part is not None:
            yield from _settingsOf(setting.part, setting.path, setting.group)


def settingsOf(options: Any) -> dict[Path, Setting]:
    """Return the settings of a class of options, by the names that lead to each."""
    return {each.path: each for each in _settingsOf(options)}


SETTINGS: Mapping[Path, Setting] = settingsOf(ServiceOptions) | settingsOf(ServerOptions)
"""All settings, by the names that lead to each."""


def optionsFromText(given: Mapping[str, str], options: Any = ServerOptions) -> dict[str, Any]:
    """
    Return the keywords of a class of options that are meant by texts, as C{pingInterval} is by C{"5000"}.

    An option that the class doesn't have is left to it to refuse.

    @param given: the texts by name; that of a setting of an option has a dot in it, such as C{cookie.name}, and so has
        that of an entry of a mapping, such as C{query.token}.
    @param options: the class, L{ServerOptions} or C{ClientOptions}.
    @raise OptionError: an option has no setting of that name, or an object can't be imported.
    """
    settings = settingsOf(options)
    made: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {}
    for name, text in given.items():
        first, _, entry = name.partition(".")
        if (first,) in settings and Mapping in settings[(first,)].types:
            if not entry:
                raise OptionError(name, text, f"expected each entry by itself, as {name}.NAME=VALUE")
            tables.setdefault(first, {})[entry] = text
            continue
        above, _, below = name.rpartition(".")
        part = settings[(above,)].part if (above,) in settings else None
        if part is None:
            above, below = "", name
        else:
            checkNames({below: text}, part, prefix=f"{above}.")
        setting = settings.get((above, below) if above else (name,))
        if setting is None:
            # The class knows the cure.
            made[name] = text
            continue
        if text == "false" and setting.off is not setting:
            value = setting.off
        else:
            isOn = text == "true" and setting.part is not None
            value = True if isOn else setting.fromFile(setting.fromText(text))
        (tables.setdefault(above, {}) if above else made)[below] = value
    for name, table in tables.items():
        if made.get(name) is False:
            raise OptionError(name, False, f"not together with {', '.join(f'{name}.{each}' for each in table)}")
        made[name] = table
    return made


def describedSessions(args: Sequence[str], keywords: Mapping[str, str]) -> tuple[list[str], bool, dict[str, str]]:
    """
    Return what a description C{engineio:} says, as Twisted has parsed it.

    @return: the descriptions or URLs in it, which should be one; whether streams are text; and the options as text.
    @raise OptionError: C{text} is neither true nor false.
    """
    # `quoteStringArgument` escapes only colons, so one with an equals sign was split there.
    inner = [*args, *(f"{name}={value}" for name, value in keywords.items() if ":" in name)]
    options = {name: value for name, value in keywords.items() if ":" not in name}
    text = options.pop("text", "false")
    if text not in ("true", "false"):
        raise OptionError("text", text, "expected true or false")
    return inner, text == "true", options
