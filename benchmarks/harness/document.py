"""The numbers on the page docs/performance.md: each part stands between a marker and its end."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

WIDTH = 126


def wrapped(text: str) -> str:
    """Break the lines of prose, and leave tables as they are."""
    return "\n".join(
        line if line.startswith("|") else textwrap.fill(line, WIDTH, break_on_hyphens=False)
        for line in text.split("\n")
    )


def rewrite(page: Path, sections: Mapping[str, str]) -> None:
    """Put the parts into a page, in place of what stands there; leave out what it has no markers for."""
    text = page.read_text(encoding="utf-8")
    for name, content in sections.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        replacement = f"{begin}\n\n{wrapped(content)}\n\n{end}"
        text = pattern.sub(lambda _, new=replacement: new, text)
    page.write_text(text, encoding="utf-8")
