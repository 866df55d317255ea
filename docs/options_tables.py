"""
Write the tables of docs/options.md, from the options' own texts: `python docs/options_tables.py`.

A table stands between two comments: C{<!-- options: heartbeat -->}, with the name of a group, and C{<!-- end -->}.
"""

from __future__ import annotations

import re
from pathlib import Path

from engineio_twisted.operation.configuration import GROUPS, SETTINGS, Setting
from engineio_twisted.operation.toml import asToml

PAGE = Path(__file__).with_name("options.md")
MARKED = re.compile(r"(<!-- options: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def written(page: str) -> str:
    """
    Return the page with the tables that it should have.

    @raise ValueError: it hasn't one table for each group, in the order of `--help-all`.
    """
    found = [match[2] for match in MARKED.finditer(page)]
    if found != [*GROUPS]:
        raise ValueError(f"the page has tables for {', '.join(found)}; it should have them for {', '.join(GROUPS)}")
    return MARKED.sub(lambda match: f"{match[1]}\n{table(match[2])}\n\n{match[3]}", page)


def table(group: str) -> str:
    """Return the table of a group."""
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


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
