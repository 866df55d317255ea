"""The command line of `twistd engineio`, `engineio-twisted` and `python -m engineio_twisted`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NoReturn

from twisted.python import usage
from twisted.web.resource import Resource

from .. import __version__
from ..protocol.errors import OptionError
from ..server import Server
from ..web.access_log import STANDARD_OUTPUT, AccessLog
from .configuration import CommandLineSettings, ConfigurationError
from .help import COMMANDS, commandName, everyOption, shortHelp, terminalWidth, whichFlag
from .help import usage as usageLine
from .named_objects import findObject
from .settings import SETTINGS, Path
from .static import Page, StaticFolder
from .toml import document


class CommandFailed(SystemExit):
    """
    The command ends before it runs, with one line and a non-zero exit.

    @ivar problem: the line, without the name of the command.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"{commandName()}: {problem}")
        self.problem = problem


def fail(message: str) -> NoReturn:
    """
    End the command before it runs, with one line and a non-zero exit.

    @raise CommandFailed: always.
    """
    raise CommandFailed(" ".join(message.splitlines()))


def findApp(name: str) -> Callable[[Server], object]:
    """Return the callable that C{module:callable} names, or end the command."""
    try:
        found = findObject("app", name)
    except OptionError as error:
        fail(f"--app {name}: {error.problem}")
    if not callable(found):
        fail(f"--app {name}: expected something to call with the server, not {found!r}")
    app: Callable[[Server], object] = found
    return app


class NothingElse(Resource):
    """The page beside the sessions if no folder is served: 404."""

    def getChild(self, name: bytes, request: object) -> Resource:
        """Return the resource of any address."""
        return Page(HTTPStatus.NOT_FOUND, "Engine.IO is served here, and nothing else.")


class Options(usage.Options):
    """The command line: besides what is here, a flag for each of L{SETTINGS}."""

    def __init__(self) -> None:
        super().__init__()
        self.given = CommandLineSettings()
        self._isPrinting = False

    def getSynopsis(self) -> str:
        """Return the line that says how the command is called."""
        return usageLine()

    def getUsage(self, width: int | None = None) -> str:
        """Return all options in their groups, wrapped at a width, by default that of the terminal."""
        return everyOption(width or terminalWidth())

    def opt_help(self) -> NoReturn:
        _show(shortHelp(terminalWidth()))

    opt_h = opt_help

    def opt_help_all(self) -> NoReturn:
        _show(f"{self.getSynopsis()}\n\n{self.getUsage()}")

    def opt_version(self) -> NoReturn:
        _show(f"engineio_twisted {__version__}")

    def opt_config(self, name: str) -> None:
        self.given.file = name

    def opt_print_config(self) -> None:
        self._isPrinting = True

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the command line; what is wrong with it ends the command with one line."""
        options = sys.argv[1:] if options is None else options
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            fail(self._whatIsUnknown(options) or f"{error} (--help-all lists the options)")
        except ConfigurationError as error:
            fail(str(error))

    def parseArgs(self, *arguments: str) -> None:
        """Refuse whatever is no flag."""
        if arguments:
            raise usage.UsageError(f"unexpected argument {arguments[0]!r}")

    def _whatIsUnknown(self, options: Sequence[str]) -> str | None:
        """Return what is wrong with the first flag that isn't known; None if all are."""
        # What takes a value ends with =.
        takesValue = {each.rstrip("="): each.endswith("=") for each in self.longOpt}
        rest = iter(options)
        for each in rest:
            if not each.startswith("-") or each in ("-", "--"):
                return None
            flag, isWithValue, _ = each.partition("=")
            name = flag.removeprefix("--")
            found = [name] if name in takesValue else [full for full in takesValue if full.startswith(name)]
            if len(found) != 1:
                return whichFlag(flag, [*takesValue])
            if takesValue[found[0]] and not isWithValue:
                next(rest, None)
        return None

    def postOptions(self) -> None:
        """Make of what was given C{serviceOptions}, C{serverOptions}, C{application} and C{root}."""
        self["serviceOptions"], self["serverOptions"] = self.given.options()
        service = self["serviceOptions"]
        parent: Any = getattr(self, "parent", None) or {}
        if service.workers is None:
            self._load()
        else:
            # Each worker does that, and no other process.
            self._checkStatic()
            if parent.get("chroot"):
                fail(f"--workers {service.workers}: not together with --chroot of twistd, for workers are started anew")
        if self._isPrinting:
            head = f"# Settings of engineio_twisted {__version__}. A comment names what set a value."
            _show(f"{head}\n\n{document(self.given.inForce())}")
        if service.accessLog is not None:
            if service.accessLog == STANDARD_OUTPUT and not parent.get("nodaemon", True):
                fail("--access-log -: there is no standard output in the background; twistd needs -n")
            try:
                AccessLog(service.accessLog).close()
            except (OSError, ValueError) as error:
                fail(f"--access-log {service.accessLog}: {getattr(error, 'strerror', None) or error}")

    def _load(self) -> None:
        """Import the application, and make the resource of what is beside the sessions."""
        service = self["serviceOptions"]
        self["application"] = findApp(service.app)
        self._checkStatic()
        self["root"] = NothingElse() if service.static is None else StaticFolder(service.static)

    def _checkStatic(self) -> None:
        static = self["serviceOptions"].static
        if static is not None and not os.path.isdir(static):
            fail(f"--static {static}: there is no such directory")


def optionsOfWorker(text: str) -> Options:
    """
    Return the options of a worker.

    @param text: as L{CommandLineSettings.text} returns it.
    @raise CommandFailed: something is wrong with them, such as an object that can't be imported.
    """
    options = Options()
    options.given = CommandLineSettings.fromText(text)
    with startedIn(options.given.directory):
        try:
            options["serviceOptions"], options["serverOptions"] = options.given.options()
        except ConfigurationError as error:
            fail(str(error))
        options._load()
    return options


@contextmanager
def startedIn(directory: str) -> Iterator[None]:
    """
    Find relative paths and modules where the command was started, as C{--rundir} of twistd comes later.

    @raise CommandFailed: the process may not go there.
    """
    here = os.getcwd()
    if directory in ("", here):
        yield
        return
    try:
        os.chdir(directory)
    except OSError as error:
        fail(f"{directory}: {error.strerror}")
    try:
        yield
    finally:
        os.chdir(here)


def _show(text: str) -> NoReturn:
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:
        # Such as `head`, which has read enough. Python flushes once more when it ends, and would say so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0)


def _addFlags() -> None:
    """Give L{Options} the methods that stand for flags, whose docstrings are what a shell shows when it completes."""

    def add(flag: str, method: Any, help: str) -> None:  # noqa: A002
        method.__doc__ = help
        setattr(Options, f"opt_{flag.replace('-', '_')}", method)

    def addOf(path: Path) -> None:
        setting = SETTINGS[path]
        if setting.canBeOn:
            add(setting.flag, lambda self: self.given.switch(path, True), setting.help)
        if not setting.isSwitch:
            add(setting.flag, lambda self, text: self.given.flag(path, text), setting.help)
        if setting.off is not setting:
            add(f"no-{setting.flag}", lambda self: self.given.switch(path, False), f"Not --{setting.flag}.")

    for path in SETTINGS:
        addOf(path)
    for each in COMMANDS:
        getattr(Options, f"opt_{each.flag.replace('-', '_')}").__doc__ = each.help


_addFlags()
