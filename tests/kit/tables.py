"""The sections and tables of a page in Markdown."""

from __future__ import annotations

import ast
import re
from typing import Any


def section(page: str, heading: str) -> str:
    """What stands under a heading, with the headings below it."""
    depth = heading.index(" ")
    _, found, after = page.partition(f"\n{heading}\n")
    assert found, f"there is no heading {heading!r}"
    return re.split(rf"^#{{1,{depth}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def ownText(page: str, heading: str) -> str:
    """What stands under a heading, without the headings below it."""
    return re.split(r"^#+ ", section(page, heading), maxsplit=1, flags=re.MULTILINE)[0]


def spans(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall("`([^`\n]+)`", text)


def names(text: str) -> set[str]:
    """The names in backticks, without the parentheses or values that follow them."""
    return {found[0] for found in (re.match(r"[A-Za-z_]\w*", span) for span in spans(text)) if found is not None}


def rows(text: str) -> list[list[str]]:
    """The rows of all tables, as cells."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def body(text: str, header: str) -> list[list[str]]:
    """The rows of the tables whose first column has a header, without the header."""
    found: list[list[str]] = []
    isWanted = False
    for line in text.splitlines():
        if line[:1] != "|":
            isWanted = False
            continue
        (row,) = rows(line)
        if row[0] == header:
            isWanted = True
        elif isWanted and set(row[0]) != {"-"}:
            found.append(row)
    return found


def defaults(text: str) -> dict[str, Any]:
    """What tables of options, each with its default in the second column, say."""
    return {row[0].strip("`"): ast.literal_eval(row[1].strip("`")) for row in rows(text) if row[1][:1] == "`"}
