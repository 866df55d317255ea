"""
Write the tables of options, from the options' own texts: `python docs/options_tables.py`.

A table stands between two comments: C{<!-- options: heartbeat -->}, with the name of a group, and C{<!-- end -->}.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from engineio_twisted.client import ClientOptions
from engineio_twisted.operation.settings import GROUPS, SETTINGS, Setting
from engineio_twisted.operation.toml import asToml
from engineio_twisted.socketio import ConnectionStateRecovery, SocketIOOptions

sys.path.insert(0, str(Path(__file__).parent))

from _extensions import epytext

MARKED = re.compile(r"(<!-- options: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

CLASSES: Mapping[str, Any] = {"socketio": SocketIOOptions, "recovery": ConnectionStateRecovery}
"""Options that are no flags of the command, by the name of their table: classes whose docstrings describe them."""


def table(group: str) -> str:
    """Return the table of a group of the server's options."""
    rows = [row(each) for each in SETTINGS.values() if each.group == group]
    return "\n".join(["| option | flag | default | meaning |", "| --- | --- | --- | --- |", *rows])


def row(setting: Setting) -> str:
    """Return the line of a setting."""
    cells = [f"`{setting.name}`", f"`{setting.usage}`", default(setting), setting.help]
    return f"| {' | '.join(cells)} |"


def default(setting: Setting) -> str:
    """Return the default of a setting, as it is written in the file."""
    isNone = setting.default is None and setting.part is None
    return "none" if isNone else f"`{asToml(setting.default)}`"


def tableOfClass(name: str) -> str:
    """Return the table of a class of options."""
    owner = CLASSES[name]
    texts = epytext.variables(owner.__doc__)
    rows = [f"| `{each.name}` | {defaultOf(each)} | {meaning(texts[each.name])} |" for each in attrs.fields(owner)]
    return "\n".join(["| option | default | meaning |", "| --- | --- | --- |", *rows])


def tableOfClient(group: str) -> str:
    """Return the table of a group of a client's options."""
    fields = [each for each in attrs.fields(ClientOptions) if each.metadata["group"] == group]
    rows = [f"| `{each.name}` | {defaultOf(each)} | {each.metadata['help']} |" for each in fields]
    return "\n".join(["| option | default | meaning |", "| --- | --- | --- |", *rows])


def defaultOf(field: Any) -> str:
    """Return the default of a field, as it is written in Python; a feature that is off has none."""
    return "none" if field.default is None else f"`{field.default!r}`".replace("'", '"')


def meaning(text: str) -> str:
    """Return the description of a field in Markdown."""
    text = re.sub(r"[CL]\{([^}]+)\}", r"`\1`", " ".join(text.split()))
    return f"{text[0].upper()}{text[1:]}"


PAGES: Mapping[Path, tuple[list[str], Callable[[str], str]]] = {
    Path(__file__).with_name("options.md"): ([*GROUPS], table),
    Path(__file__).with_name("socketio-options.md"): ([*CLASSES], tableOfClass),
    Path(__file__).with_name("client.md"): (
        ["request", "transports", "timeouts", "limits", "network", "resume"],
        tableOfClient,
    ),
}
"""The pages with tables: the groups of each, in their order, and what makes a table of one."""


def written(page: str, groups: list[str], make: Callable[[str], str]) -> str:
    """
    Return a page with the tables that it should have.

    @param groups: the names of the tables, in their order on the page.
    @param make: returns the table of a group.
    @raise ValueError: it hasn't one table for each group, in this order.
    """
    found = [match[2] for match in MARKED.finditer(page)]
    if found != groups:
        raise ValueError(f"the page has tables for {', '.join(found)}; it should have them for {', '.join(groups)}")
    return MARKED.sub(lambda match: f"{match[1]}\n{make(match[2])}\n\n{match[3]}", page)


if __name__ == "__main__":
    for page, (groups, make) in PAGES.items():
        page.write_text(written(page.read_text(encoding="utf-8"), groups, make), encoding="utf-8")
