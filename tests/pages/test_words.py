"""How the pages are written: short sentences, a first sentence that says what a page is for, and the trade's terms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_WORDS = 25

PAGES = [
    each
    for each in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
    if not {"node_modules", "_build"} & set(each.parts)
    and each.name != "CHANGELOG.md"
    and "{include}" not in each.read_text(encoding="utf-8")
]
"""All but the changes, which many write at a time."""

WRONG = {
    r"\b[Ww]hoever\b": "anyone who, a client that",
    r"(?:^|[.!?] )Wh(?:o|ere) [^?]*$": "a client that, if",
    r"(?:^|[.!?] )Of an? ": "subject, verb, object",
    r"\bin place of\b": "instead of",
    r"\b(?:is|are) cut\b|\bcut off\b": "dropped, closed",
    r"\bas ever\b": "as usual",
    r"\bin order to\b": "to",
    r"\bnobody in\b": "no new sessions",
    r"\bhas to do with\b": "affects",
}
"""What is not to be written, and what is."""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def passages(page: Path) -> Iterator[str]:
    """The paragraphs, list items and cells of a page, without code, on one line each."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"`[^`]*`", "code", text)
    for passage in re.split(r"\n\s*\n|\n(?=[-*] |\d+\. |[|#!])|\|", text):
        yield " ".join(passage.split())


def sentences(passage: str) -> list[str]:
    return re.split(r"(?<=[.!?:;])\s+", passage)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_sentences(page: Path) -> None:
    """A sentence, or a part of one that stands alone, has no more than 25 words."""
    found = [each for passage in passages(page) for each in sentences(passage)]
    assert [each for each in found if len(re.findall(r"[\w'/-]+", each)) > MOST_WORDS] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_terms(page: Path) -> None:
    """Words that only insiders of the code base would use for something that has a name are not there."""
    found = [
        (each, better)
        for passage in passages(page)
        for each in sentences(passage)
        for wrong, better in WRONG.items()
        if re.search(wrong, each)
    ]
    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_beginning(page: Path) -> None:
    """A page begins with one title, and a sentence before anything else."""
    title, _, rest = page.read_text(encoding="utf-8").lstrip().partition("\n")
    assert re.fullmatch(r"# \S.*", title), title
    assert not re.search(r"^# ", re.sub(r"^```.*?^```$", "", rest, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    first = rest.strip().split("\n\n")[0]
    assert re.match(r"[*\[`]*[A-Za-z].*?[.:]", first, re.DOTALL), first
