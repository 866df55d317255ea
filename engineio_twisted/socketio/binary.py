"""Attachments of packets and their placeholders. Pure: no Twisted, no clock, no IO. docs/socketio-protocol.md."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from math import isfinite
from typing import Any, TypeAlias

from .errors import InvalidPacket, UnsendableValue

BYTES_LIKE = (bytes, bytearray, memoryview, array)
"""What is sent as an attachment, and arrives as bytes."""

_SCALARS = frozenset((str, int, float, bool, type(None)))

PLACEHOLDER = "_placeholder"

Slot: TypeAlias = "tuple[Any, Any, int]"
"""Where an attachment belongs: a list or a dict, the index or key in it, and the number of the attachment."""


def placeholder(number: int) -> dict[str, Any]:
    """Return what stands for an attachment in JSON."""
    return {PLACEHOLDER: True, "num": number}


def slotsOf(data: list[Any], count: int) -> list[Slot]:
    """
    Return where the attachments of a packet belong.

    @param count: how many attachments it has.
    @raise InvalidPacket: a placeholder stands for none of them.
    """
    slots: list[Slot] = []
    # It grows meanwhile: a recursion could run out of stack.
    containers: list[Any] = [data]
    for container in containers:
        for place, value in enumerate(container) if type(container) is list else container.items():
            kind = type(value)
            if kind is list:
                containers.append(value)
            elif kind is dict:
                if value.get(PLACEHOLDER) is True:
                    number = value.get("num")
                    if type(number) is not int or not 0 <= number < count:
                        raise InvalidPacket("a placeholder without an attachment of its number")
                    slots.append((container, place, number))
                else:
                    containers.append(value)
    return slots


def hasOtherKeys(data: Any) -> bool:
    """Return whether a mapping somewhere in a value has keys that aren't text. The value may not contain itself."""
    containers = [data]
    for container in containers:
        values = container
        if isinstance(container, dict):
            for key in container:
                if type(key) is not str and not isinstance(key, str):
                    return True
            values = container.values()
        for value in values:
            if type(value) not in _SCALARS and isinstance(value, (dict, list, tuple)):
                containers.append(value)
    return False


class Plain:
    """
    Makes plain JSON of a value, which takes longer than the encoder and can say what is wrong with it.

    Infinities and NaN become null, bytes-like values placeholders, and what JSON hasn't what C{default} makes of it.

    @ivar attachments: the bytes-like values in the order of the walk, as bytes.
    """

    attachments: list[bytes]

    def __init__(self, default: Callable[[Any], Any] | None = None, takesBytes: bool = True) -> None:
        """
        @param default: called with a value that JSON hasn't, as that of C{json.dumps}.
        @param takesBytes: whether there may be attachments.
        """
        self.attachments = []
        self._default, self._takesBytes = default, takesBytes
        self._around: set[int] = set()
        self._lookalike: str | None = None

    def arguments(self, values: Any, isEvent: bool) -> list[Any]:
        """
        Return the plain form of the data of an EVENT or an ACK.

        @raise UnsendableValue: a value can't be sent.
        @raise RecursionError: one is nested too deeply.
        """
        plain = []
        for index, value in enumerate(values):
            path = "event" if isEvent and not index else f"args[{index - isEvent}]"
            plain.append(self.value(value, path))
        if self.attachments and self._lookalike is not None:
            raise UnsendableValue(self._lookalike, "an object that looks like a placeholder, beside attachments")
        return plain

    def value(self, value: Any, path: str) -> Any:
        """
        Return the plain form of a value.

        @param path: where it stands.
        @raise UnsendableValue: it, or something in it, can't be sent.
        @raise RecursionError: it is nested too deeply.
        """
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, int):
            return self._integer(value, path)
        if isinstance(value, float):
            return self._float(value)
        if isinstance(value, BYTES_LIKE) and self._takesBytes:
            try:
                return self._bytes(value)
            except ValueError as error:
                raise UnsendableValue(path, str(error)) from error
        if id(value) in self._around:
            raise UnsendableValue(path, f"{type(value).__name__} that contains itself")
        self._around.add(id(value))
        plain: Any
        if isinstance(value, (list, tuple)):
            plain = []
            for index, each in enumerate(value):
                plain.append(self.value(each, f"{path}[{index}]"))
        elif isinstance(value, dict):
            plain = {}
            for key, each in value.items():
                if not isinstance(key, str):
                    raise UnsendableValue(path, f"a key of type {type(key).__name__}; keys have to be text")
                plain[self._text(key, path)] = self.value(each, f"{path}[{quoted(key)}]")
            if self._lookalike is None and plain.get(PLACEHOLDER) is True:
                self._lookalike = path
        else:
            plain = self.value(self._defaultOf(value, path), path)
        self._around.discard(id(value))
        return plain

    def _text(self, value: str, path: str) -> str:
        return value

    def _integer(self, value: int, path: str) -> int:
        try:
            int.__repr__(value)
        except ValueError:
            raise UnsendableValue(path, "an integer with too many digits") from None
        return value

    def _float(self, value: float) -> float | None:
        return value if isfinite(value) else None

    def _bytes(self, value: bytes | bytearray | memoryview | array[Any]) -> Any:
        self.attachments.append(bytes(value))
        return placeholder(len(self.attachments) - 1)

    def _defaultOf(self, value: Any, path: str) -> Any:
        if self._default is None:
            raise UnsendableValue(path, f"{type(value).__name__} can't be sent; convert it, or set the option default")
        try:
            return self._default(value)
        except Exception as error:
            problem = f"{type(value).__name__} can't be sent: default raised {type(error).__name__}"
            raise UnsendableValue(path, problem) from error


def quoted(key: str) -> str:
    """Return a key as it is written in a path, shortened."""
    return '"' + (key if len(key) <= 40 else f"{key[:40]}…") + '"'
