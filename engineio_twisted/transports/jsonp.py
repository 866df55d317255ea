"""
JSONP: polling for clients that can't read responses. A response is a script, and a POST is a form.

docs/protocol.md, "JSONP".
"""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IReactorTime

from ..protocol.errors import DecodeError
from ..protocol.packet import decodeText, excerpt
from ..protocol.payload import Codec
from ..web.answers import AnswerHeaders
from ..web.writer import ResponseWriter
from .polling import PollingTransport

if TYPE_CHECKING:
    from ..observer import Counters
    from ..protocol.options import ServerOptions

_SCRIPT_HEADERS = AnswerHeaders(
    {
        "Content-Type": "text/javascript; charset=UTF-8",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
)

_MAX_FIELDS = 16
_UNQUOTED_AT_ONCE = 8192
"""Characters of a form that are read between two looks at the time, in about a millisecond."""

_STAND_IN = "\ud800"
"""Stands for something else for a moment: no text that came as UTF-8 holds it."""


def _unquoted(text: str) -> Generator[None, None, str]:
    """
    Read a name or a value of a form.

    @raise DecodeError: it isn't UTF-8.
    """
    pieces = []
    start = 0
    while start < len(text):
        end = start + _UNQUOTED_AT_ONCE
        # Not within an escape, of a percent sign and two digits.
        escape = text.find("%", end - 2, end)
        if escape >= 0:
            end = escape
        pieces.append(unquote_to_bytes(text[start:end].replace("+", " ")))
        start = end
        yield
    return decodeText(b"".join(pieces))


def payloadOfForm(body: bytes) -> Generator[None, None, str]:
    """
    Read the payload from the form of a POST, in as many steps as that takes.

    @raise DecodeError: there is none.
    """
    fields = decodeText(body).split("&", _MAX_FIELDS)
    if len(fields) > _MAX_FIELDS:
        raise DecodeError(f"form {excerpt(body)}: expected the field d, and no more than {_MAX_FIELDS} fields")
    values = []
    for field in fields:
        name, _, value = field.partition("=")
        unquotedName = yield from _unquoted(name)
        unquotedValue = yield from _unquoted(value)
        if unquotedName == "d":
            values.append(unquotedValue)
    if len(values) != 1:
        raise DecodeError(f"form {excerpt(body)}: expected the field d once, not {len(values)} times")
    # A newline is written "\\n" there, and a second backslash before it says that it isn't one. So a line break in
    # the form is what browsers make of a carriage return.
    text = values[0].replace("\r\n", "\r")
    return text.replace(r"\\n", _STAND_IN).replace(r"\n", "\n").replace(_STAND_IN, r"\n")


def scriptOf(payload: str | bytes, index: str) -> bytes:
    """
    Return the script that hands a payload to the client.

    @param index: the digits that name the client's function.
    """
    # Within a string, JSON allows two characters that end a line in a script.
    text = json.dumps(payload, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return f"___eio[{index}]({text});".encode()


class JSONPTransport(PollingTransport):
    """
    The polling transport of a session whose client takes scripts and posts forms.

    @param index: the digits that name the client's function.
    """

    _isPlain = False

    def __init__(
        self,
        codec: Codec,
        options: ServerOptions,
        clock: IReactorTime,
        writer: ResponseWriter,
        index: str,
        counters: Counters | None = None,
    ) -> None:
        super().__init__(codec, False, options, clock, writer, counters)
        self._index = index

    def _readPayload(self, exchange: Any, body: bytes) -> Generator[None, None, str | bytes]:
        return payloadOfForm(body)

    def _bodyOf(self, payload: str | bytes) -> tuple[AnswerHeaders, bytes]:
        return _SCRIPT_HEADERS, scriptOf(payload, self._index)
