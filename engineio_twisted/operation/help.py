"""What the command says of itself: the screen of `--help`, all of `--help-all`, and which flag was meant."""

from __future__ import annotations

import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

import attrs

from .settings import GROUPS, SETTINGS, Setting

SUMMARY = "Serve Engine.IO or Socket.IO over HTTP long-polling and WebSocket."

EXAMPLES = (
    "--listen 3000",
    "--app chat:application --static public",
    "--config server.toml --health listen",
)

MOST_USED = (
    "listen",
    "app",
    "socketio",
    "static",
    "config",
    "path",
    "allowed-origins",
    "cors-origin",
    "trusted-proxies",
    "access-log",
    "log-sessions",
    "metrics",
    "health",
)
"""The flags on the screen of `--help`."""

MEANT = dict.fromkeys(("address", "bind", "host", "port"), "listen")
"""Flags of other servers, each with ours."""

FIRST_COLUMN = 31
"""The widest first column: the text of a longer flag begins on the next line."""


@attrs.frozen
class Entry:
    """
    A flag, as help shows it.

    @ivar flag: its name.
    @ivar usage: with what stands before and behind it.
    @ivar help: a sentence.
    @ivar group: one of L{GROUPS}.
    @ivar default: as text; empty if there is none to show.
    """

    flag: str
    usage: str
    help: str
    group: str
    default: str = ""

    def lines(self, width: int) -> list[str]:
        """Return the sentence, with the default in one piece, in lines of a width."""
        default = f" [default:\xa0{self.default}]" if self.default else ""
        # Only ASCII's spaces are where lines may end.
        lines = textwrap.wrap(self.help + default, width, break_on_hyphens=False)
        return [each.replace("\xa0", " ") for each in lines]


COMMANDS = (
    Entry("config", "--config FILE", "TOML file that sets options by their names; flags override it.", "operation"),
    Entry("print-config", "--print-config", "Print the settings in force as TOML, and exit.", "operation"),
    Entry("help", "--help", "Print the most used options, and exit.", "operation"),
    Entry("help-all", "--help-all", "Print every option, and exit.", "operation"),
    Entry("version", "--version", "Print the version, and exit.", "operation"),
)
"""The flags that set no option."""


def _defaultOf(setting: Setting) -> str:
    value = setting.default
    if setting.isSwitch:
        return "on" if value else "off"
    if value is None or setting.name == "app":
        # The sentence says what the application is.
        return ""
    return ",".join(value) if isinstance(value, tuple) else str(value)


ENTRIES: Sequence[Entry] = (
    *(Entry(each.flag, each.usage, each.help, each.group, _defaultOf(each)) for each in SETTINGS.values()),
    *COMMANDS,
)


def commandName() -> str:
    """Return the command as it was typed, up to its options."""
    program = PurePath(sys.argv[0])
    if program.name == "__main__.py":
        return "python -m engineio_twisted"
    if program.stem == "engineio-twisted":
        return program.stem
    return "twist engineio" if program.stem == "twist" else "twistd engineio"


def terminalWidth() -> int:
    """Return the columns of the terminal, or C{COLUMNS} of the environment; 80 if there is neither."""
    return max(40, shutil.get_terminal_size((80, 24)).columns)


def usage() -> str:
    """Return the line that says how the command is called."""
    command = commandName()
    if command.startswith("twistd "):
        command = command.replace("twistd", "twistd [options of twistd]")
    return f"Usage: {command} [options]"


def shortHelp(width: int) -> str:
    """Return one screen: what the command does, three examples, and the options that most people need."""
    command = commandName().replace("twistd ", "twistd -n ")
    named = {each.flag: each for each in ENTRIES}
    shown = [attrs.evolve(named[each], usage=named[each].usage.replace("[no-]", "")) for each in MOST_USED]
    # Its default applies only beside another flag of CORS. Without any, no page of another origin reads a response.
    shown = [attrs.evolve(each, default="") if each.flag == "cors-origin" else each for each in shown]
    return "\n".join(
        [
            usage(),
            "",
            *textwrap.wrap(SUMMARY, width),
            "",
            "Examples:",
            *(f"  {command} {each}" for each in EXAMPLES),
            "",
            "Options:",
            *_columns(shown, width),
            "",
            *textwrap.wrap("--help-all lists every option, --print-config prints the settings in force.", width),
        ]
    )


def everyOption(width: int) -> str:
    """Return all options in their groups."""
    about = "--no-... turns an option off, or lifts its limit, and takes no value. A list has commas between its items."
    lines = textwrap.wrap(about, width)
    for group, title in GROUPS.items():
        lines += ["", f"{title}:", *_columns([each for each in ENTRIES if each.group == group], width)]
    return "\n".join(lines)


def _columns(entries: Iterable[Entry], width: int) -> Iterator[str]:
    entries = [*entries]
    column = min(FIRST_COLUMN, width // 2, max(len(each.usage) for each in entries) + 4)
    for each in entries:
        first = f"  {each.usage}"
        text = each.lines(width - column)
        if len(first) <= column - 2:
            first = first.ljust(column) + text.pop(0)
        yield first
        yield from (" " * column + line for line in text)


def whichFlag(given: str, known: Sequence[str]) -> str:
    """
    Return what to say of a flag that there isn't, or that several begin with.

    @param given: the flag as it was typed, without a value.
    @param known: the names of all flags there are.
    """
    name = given.lstrip("-")
    several = [f"--{each}" for each in known if given.startswith("--") and each.startswith(name)]
    if several:
        return f"{given}: which one is meant: {', '.join([*several[:8], *['…'] * (len(several) > 8)])}?"
    # As the option is called in Python and in the file.
    name = re.sub("(?<=[a-z0-9])(?=[A-Z])", "-", name).lower().replace("_", "-")
    near = [MEANT[name]] if name in MEANT else difflib.get_close_matches(name, known, n=1)
    if near:
        cure = f"; did you mean --{near[0]}?"
    elif commandName().startswith("twistd "):
        cure = " (--help-all lists them; those of twistd stand before `engineio`)"
    else:
        cure = " (--help-all lists them)"
    return f"{given}: there is no such option{cure}"
