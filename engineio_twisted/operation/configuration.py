"""
The settings of an operator: each option as a flag of the command line and as a key of a TOML file.

Both are made of the fields of L{ServerOptions}, of its parts such as L{Cookie}, and of L{ServiceOptions}: a new
field is a new flag and a new key.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from ..protocol.errors import OptionError
from ..protocol.options import ServerOptions
from ..protocol.validators import checkNames, orNone, wholeNumber
from .named_objects import DEFAULT_APP, findObject

SOCKET_IO_PATH = "/socket.io"
"""The path of a Socket.IO server, to which its clients connect by default."""

AUTO = "auto"
"""In place of a number of workers: as many as there are CPUs for the process."""

MAX_WORKERS = 256

MAX_PREFIX_WITH_WORKERS = 21
"""Signs of an C{idPrefix} with workers, whose number comes behind it."""

Path = tuple[str, ...]
"""The names that lead to a setting: of an option, or of an option and of a setting of its own."""

_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""The name of a Python object."""


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


SETTINGS: Mapping[Path, Setting] = {
    each.path: each for options in (ServiceOptions, ServerOptions) for each in _settingsOf(options)
}
"""All settings, by the names that lead to each."""


def optionsFromText(given: Mapping[str, str]) -> dict[str, Any]:
    """
    Return the keywords of L{ServerOptions} that are meant by texts, as C{pingInterval} is by C{"5000"}.

    @param given: the texts by name; that of a setting of an option has a dot in it, such as C{cookie.name}.
    @raise OptionError: a name isn't known, or an object can't be imported.
    """
    options: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {}
    for name, text in given.items():
        above, _, below = name.rpartition(".")
        part = SETTINGS[(above,)].part if (above,) in SETTINGS else None
        if part is None:
            above, below = "", name
            checkNames({name: text}, ServerOptions)
        else:
            checkNames({below: text}, part, prefix=f"{above}.")
        setting = SETTINGS[(above, below) if above else (name,)]
        if text == "false" and setting.off is not setting:
            value = setting.off
        else:
            isOn = text == "true" and setting.part is not None
            value = True if isOn else setting.fromFile(setting.fromText(text))
        (tables.setdefault(above, {}) if above else options)[below] = value
    for name, table in tables.items():
        if options.get(name) is False:
            raise OptionError(name, False, f"not together with {', '.join(f'{name}.{each}' for each in table)}")
        options[name] = table
    return options


class CommandLineSettings:
    """
    What is set by flags and by a file: flags win.

    With workers nothing is imported that is named by a setting, except in a worker. That has the settings by
    L{fromText}.

    @ivar file: the name of the TOML file, if there is one.
    @ivar directory: the current directory of the command when it began, in which it finds what has no absolute path.
    """

    def __init__(self) -> None:
        self.file: str | None = None
        self.directory = _currentDirectory()
        self._isWorker = False
        # None until it is read, which is once: it may be a pipe.
        self._content: str | None = None
        self._inFile: dict[str, Any] | None = None
        # As they would be in the file.
        self._flags: dict[Path, Any] = {}
        self._texts: dict[Path, str] = {}
        # As they were given: the text behind each flag, or whether it switches on or off.
        self._typed: list[tuple[Path, str | bool]] = []

    @classmethod
    def fromText(cls, text: str) -> CommandLineSettings:
        """
        Return the settings of a worker.

        @param text: as L{CommandLineSettings.text} returns it.
        """
        told = json.loads(text)
        settings = cls()
        settings._isWorker = True
        settings.file = told["file"]
        settings.directory = told["directory"]
        settings._content = told["content"]
        settings._type(told["flags"])
        return settings

    @classmethod
    def fromToml(cls, content: str) -> CommandLineSettings:
        """Return the settings of a text of TOML that is in no file."""
        settings = cls()
        settings._content = content
        return settings

    def _type(self, typed: Iterable[tuple[Sequence[str], str | bool]]) -> None:
        for path, each in typed:
            if isinstance(each, bool):
                self.switch(tuple(path), each)
            else:
                self.flag(tuple(path), each)

    def text(self) -> str:
        """
        Return all of it as one text, from which a worker makes the same options without the file.

        @raise ConfigurationError: as L{options}.
        """
        self._try(self._fromFile)
        told = {"file": self.file, "directory": self.directory, "content": self._content, "flags": self._typed}
        return json.dumps(told)

    def fixed(self) -> dict[str, Any]:
        """
        Return what stays while the command runs, by the names of the settings: what was opened before privileges were
        shed, and what the number of a worker is part of.

        @raise ConfigurationError: as L{options}.
        """
        service, server = self.options()
        names = ("listen", "workers", "metrics", "health", "accessLog")
        return {**{name: getattr(service, name) for name in names}, "idPrefix": server.idPrefix}

    def reread(self) -> CommandLineSettings:
        """
        Return the same flags with the file as it is now, checked. A file that is a pipe isn't read again.

        @raise ConfigurationError: as L{options}.
        """
        again = CommandLineSettings()
        again.file, again.directory = self.file, self.directory
        again._type(self._typed)
        if self.file is None or not again._canBeReadAgain():
            again._content = self._content
        again.options()
        return again

    def _canBeReadAgain(self) -> bool:
        try:
            return stat.S_ISREG(os.stat(self._pathOfFile()).st_mode)
        except OSError:
            # Reading it says why.
            return True

    def _pathOfFile(self) -> str:
        return os.path.join(self.directory, self.file or "")

    def flag(self, path: Path, text: str) -> None:
        """Set an option by its flag and the text behind it. A flag of a list that is given again adds to the list."""
        value = SETTINGS[path].fromText(text)
        earlier = self._flags.get(path)
        adds = isinstance(earlier, list) and isinstance(value, list)
        self._texts[path] = f"{self._texts[path] if adds else ''} --{SETTINGS[path].flag} {text}".lstrip()
        self._flags[path] = [*earlier, *value] if adds else value  # type: ignore[misc]
        self._typed.append((path, text))

    def switch(self, path: Path, isOn: bool) -> None:
        """Set something by a flag alone: on, or off."""
        self._texts[path] = f"--{'' if isOn else 'no-'}{SETTINGS[path].flag}"
        self._flags[path] = isOn
        self._typed.append((path, isOn))

    def options(self) -> tuple[ServiceOptions, ServerOptions]:
        """
        Return what all of it comes to.

        @raise ConfigurationError: something can't be read, isn't known, or is wrong.
        """
        options: tuple[ServiceOptions, ServerOptions] = self._try(self._options)
        return options

    def _options(self) -> tuple[ServiceOptions, ServerOptions]:
        given = self._given()
        ofService = {each.name for each in attrs.fields(ServiceOptions)}
        service = ServiceOptions(
            **{name: self._read((name,), value) for name, value in given.items() if name in ofService}
        )
        imports = service.workers is None or self._isWorker
        server = ServerOptions(
            **{name: self._read((name,), value, imports) for name, value in given.items() if name not in ofService}
        )
        if service.workers is not None:
            _checkForWorkers(service, server)
        return service, server

    def inForce(self) -> Iterator[tuple[Setting, Any, str]]:
        """
        Yield each setting, its value as it is in the file, and what sets it: a flag, the file, or empty text.

        One that belongs to an option that is off is left out.

        @raise ConfigurationError: as L{options}.
        """
        self.options()
        given = self._given()
        for path, setting in SETTINGS.items():
            table = given
            for name in path[:-1]:
                table = table.get(name, SETTINGS[path[:-1]].default)
                if table is True or attrs.has(type(table)):
                    table = {}
            if not isinstance(table, dict):
                continue
            source = self._sourceOf(path)
            if path == ("path",) and path[0] in given and not source:
                source = self._sourceOf(("socketio",))
            yield setting, table.get(path[-1], setting.default), source

    def _sourceOf(self, path: Path) -> str:
        flag = self._texts.get(path, "").partition(" ")[0]
        return flag or ("--config" if self._isInFile(path) else "")

    def _isInFile(self, path: Path) -> bool:
        found: Any = self._fromFile()
        for name in path:
            if not isinstance(found, dict) or name not in found:
                return False
            found = found[name]
        return True

    def _given(self) -> dict[str, Any]:
        """Return what flags and the file say, as a file would."""
        given = {**self._fromFile()}
        for path, value in self._flags.items():
            *above, name = path
            if not above:
                isTable = isinstance(given.get(name), dict)
                # A table says more than that it is on.
                given[name] = given[name] if value is True and isTable else value
        for path, value in self._flags.items():
            *above, name = path
            if above:
                if self._flags.get(tuple(above)) is False:
                    raise OptionError(".".join(path), value, f"not together with {self._texts[tuple(above)]}")
                table = given.get(above[0])
                given[above[0]] = {**(table if isinstance(table, dict) else {}), name: value}
        if given.get("socketio") is True:
            given.setdefault("path", SOCKET_IO_PATH)
        return given

    def _fromFile(self) -> dict[str, Any]:
        if self._inFile is not None:
            return self._inFile
        if self.file is None and self._content is None:
            return {}
        try:
            if self._content is None:
                with open(self._pathOfFile(), "rb") as file:
                    self._content = file.read().decode()
            self._inFile = tomllib.loads(self._content)
        except OSError as error:
            raise ConfigurationError(f"--config {self.file}: {error.strerror}") from error
        except ValueError as error:
            # No TOML, or not even text; of the first the error says the line.
            raise ConfigurationError(f"--config {self.file}: {error}") from error
        except RecursionError as error:
            raise ConfigurationError(f"--config {self.file}: values are nested too deeply") from error
        checkNames(self._inFile, ServiceOptions, ServerOptions)
        return self._inFile

    def _read(self, path: Path, value: Any, imports: bool = True) -> Any:
        setting = SETTINGS[path]
        if setting.part is None or not isinstance(value, dict):
            return setting.fromFile(value, imports)
        checkNames(value, setting.part, prefix=f"{setting.name}.")
        return {name: self._read((*path, name), each, imports) for name, each in value.items()}

    def _try(self, make: Callable[[], Any]) -> Any:
        """Do something; what is wrong with an option is said of the flag, or the line of the file, that set it."""
        try:
            return make()
        except OptionError as error:
            path = tuple(error.name.split("."))
            flag = self._texts.get(path)
            if flag is not None:
                raise ConfigurationError(f"{flag}: {error.problem}") from error
            where = f"--config {self.file}: " if self.file is not None and path[0] in (self._inFile or {}) else ""
            raise ConfigurationError(f"{where}{error.name} = {error.value!r}: {error.problem}") from error


class ConfigurationError(Exception):
    """A setting is wrong; the text is one line that names it and its place."""


def _currentDirectory() -> str:
    try:
        return os.getcwd()
    except OSError:
        # It was removed.
        return ""


def _checkForWorkers(service: ServiceOptions, server: ServerOptions) -> None:
    """
    Check what has to hold with workers alone.

    @raise OptionError: something doesn't.
    """
    if sys.platform != "linux":
        raise OptionError("workers", service.workers, "several processes need Linux")
    if len(server.idPrefix) > MAX_PREFIX_WITH_WORKERS:
        raise OptionError(
            "idPrefix", server.idPrefix, f"expected at most {MAX_PREFIX_WITH_WORKERS} signs together with workers"
        )
