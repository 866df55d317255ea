"""
The docstrings of the package, which are in epytext, as reStructuredText.

They use little of it: paragraphs, lists, literal blocks, C{C{…}} for code, C{L{…}} for names, and the fields C{@param},
C{@return}, C{@raise}, C{@ivar} and C{@cvar}.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import cleandoc

import attrs

FIELDS = {"param": "param", "return": "returns", "raise": "raises"}
"""What the fields are called in reStructuredText."""

VARIABLES = {"ivar", "cvar"}
"""The fields that describe attributes."""

_FIELD = re.compile(r"@(\w+)(?: +([\w.*]+))? *:[ \n]*")
_INLINE = re.compile(r"L\{(?P<link>[^{}]+)\}|C\{(?P<code>(?:[^{}]|\{[^{}]*\})*)\}|`(?P<quoted>[^`]+)`")
_PAGE = re.compile(r"\bdocs/(?P<page>[\w./-]+)\.md")


class MarkupError(Exception):
    """A docstring has markup that is not known here."""


@attrs.frozen
class Field:
    """
    One field of a docstring.

    @ivar kind: such as C{param}.
    @ivar name: what it describes; empty if that is all of what has the docstring.
    @ivar text: the description, in epytext.
    """

    kind: str
    name: str
    text: str


def split(docstring: str) -> tuple[str, list[Field]]:
    """Return the text and the fields of a docstring."""
    before, *fields = re.split(r"^(?=@\w+[^\n]*:)", cleandoc(docstring), flags=re.MULTILINE)
    return before.rstrip(), [_field(each) for each in fields]


def _field(text: str) -> Field:
    match = _FIELD.match(text)
    if match is None or match[1] not in FIELDS.keys() | VARIABLES:
        raise MarkupError(f"no field is known that begins so: {text.splitlines()[0]}")
    first, _, rest = text[match.end() :].rstrip().partition("\n")
    return Field(match[1], match[2] or "", f"{first}\n{cleandoc(rest)}" if rest else first)


def variables(docstring: str) -> dict[str, str]:
    """Return the attributes that a docstring describes, each with its description in epytext."""
    return {each.name: each.text for each in split(docstring)[1] if each.kind in VARIABLES}


def links(docstring: str) -> list[str]:
    """Return the names that a docstring links to."""
    return [_target(match["link"])[1] for match in _INLINE.finditer(docstring) if match["link"]]


def _target(link: str) -> tuple[str, str]:
    """Return what is shown of a link, and the name that it leads to."""
    match = re.fullmatch(r"([^<]+?)\s*<([^>]+)>", link)
    name = match[2] if match else link
    return (match[1] if match else link), re.sub(r"\s", "", name).removesuffix("()")


def asText(text: str, find: Callable[[str], str | None]) -> list[str]:
    """
    Return the lines of some text, without fields, in reStructuredText.

    @param find: returns the full name of what a name means, None if it means nothing.
    """
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*?\n(?=\s*\S)", text):
        isLiteral = paragraph == "::" or lines[-2:] == ["::", ""]
        lines += (paragraph if isLiteral else _listed(paragraph, find)).split("\n")
        lines.append("")
    return lines


def _listed(paragraph: str, find: Callable[[str], str | None]) -> str:
    """Return a paragraph with an empty line before each item of a list."""
    return "\n\n".join(_inline(each, find) for each in re.split(r"\n(?= *(?:-|\d+\.) )", paragraph))


def _inline(text: str, find: Callable[[str], str | None]) -> str:
    pieces: list[str] = []
    end = 0
    for match in _INLINE.finditer(text):
        pieces += [_plain(text[end : match.start()]), _marked(match, find)]
        end = match.end()
        # The markup of reStructuredText ends before no letter.
        if text[end : end + 1].isalnum():
            pieces.append("\\ ")
    return "".join([*pieces, _plain(text[end:])])


def _marked(match: re.Match[str], find: Callable[[str], str | None]) -> str:
    if match["link"] is None:
        code = re.sub(r"\s+", " ", match["code"] or match["quoted"])
        return f"``{code}``"
    shown, name = _target(match["link"])
    full = find(name)
    if full is None:
        raise MarkupError(f"L{{{match['link']}}} means nothing here")
    shown = re.sub(r"\s+", " ", shown)
    return f":py:obj:`{shown} <{full}>`"


def _plain(text: str) -> str:
    """Return text in which nothing is markup but the names of pages, which become links."""
    escaped = re.sub(r"([\\*`|])", r"\\\1", text)
    escaped = re.sub(r"_(?=\W|$)", r"\\_", escaped)
    return _PAGE.sub(r":doc:`/\g<page>`", escaped)
