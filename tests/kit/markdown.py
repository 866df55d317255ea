"""The code blocks of a page in Markdown."""

from __future__ import annotations

from pathlib import Path

import attrs
from markdown_it import MarkdownIt


@attrs.frozen
class Block:
    """
    A code block.

    @ivar language: what stands behind the fence; empty where nothing does, or the block is indented.
    """

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def isCommands(self) -> bool:
        """Whether it is what one types, and not a file."""
        return self.language == "sh" and not self.text.startswith("#!")


def blocksOf(page: Path) -> list[Block]:
    """The code blocks of a page, in their order."""
    found = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    return [
        Block(page, each.map[0] + 1, each.info.strip(), each.content)
        for each in found
        if each.type in ("fence", "code_block") and each.map is not None
    ]
