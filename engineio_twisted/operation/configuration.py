"""What an operator has set, by flags of the command line and by a TOML file."""

from __future__ import annotations

import json
import os
import stat
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs

from ..protocol.errors import OptionError
from ..protocol.options import ServerOptions
from ..protocol.validators import checkNames
from .service_options import MAX_PREFIX_WITH_WORKERS, ServiceOptions
from .settings import SETTINGS, Path, Setting

SOCKET_IO_PATH = "/socket.io"
"""The path of a Socket.IO server, to which its clients connect by default."""


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
