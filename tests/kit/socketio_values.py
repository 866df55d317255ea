"""Values that Socket.IO carries, and messages that may or may not be packets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import strategies as st

from engineio_twisted.socketio.errors import RESERVED_EVENTS, InvalidPacket

Decoded = TypeVar("Decoded")


def packetOrNone(decode: Callable[[str | bytes], Decoded], message: str | bytes) -> Decoded | None:
    """Return what is decoded of a message, or None if it is refused, in a text that is bounded."""
    try:
        return decode(message)
    except InvalidPacket as error:
        problem = error.problem
    assert 0 < len(problem) < 120
    return None


def nested(depth: int) -> list[Any]:
    """Return a list in a list, so many levels deep."""
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


NAMES = st.text(st.characters(codec="utf-8"), max_size=10).filter(lambda name: name not in RESERVED_EVENTS)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
)


def _containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=4) | st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=5), values, max_size=4
    )


VALUES = st.recursive(SCALARS, _containers, max_leaves=10)
"""What JSON has."""

BINARY_VALUES = st.recursive(SCALARS | st.binary(max_size=20), _containers, max_leaves=10)
"""The same, and bytes."""

PIECES = [
    *(
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "51-",
        "52-",
        "61-",
        "/",
        "/admin,",
        ",",
        "12",
        "-",
        "[",
        "]",
        "{",
        "}",
        '"',
    ),
    *('"m"', ":", '{"_placeholder":true,"num":0}', '{"_placeholder":true,"num":1}', '"num"', "true", "null", "NaN"),
    *("1e999", "\\ud800", "\ufeff", " ", "\n", "9" * 17, '["m"', '["connect"', "é", '{"a":', "_placeholder"),
]

INPUTS = st.lists(st.sampled_from(PIECES), max_size=10).map("".join) | st.text(max_size=20) | st.binary(max_size=20)
"""Any message, most of them nearly a packet."""
