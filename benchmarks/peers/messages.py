"""What the clients in Python share: their messages, and their end if one comes back wrong."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import NoReturn

COUNT = 17


@lru_cache
def messagesOf(kind: str, size: int) -> list[str] | list[bytes]:
    """Return messages of so many bytes, `text` or `binary`."""
    if kind == "binary":
        return [bytes((number * 31 + each * 7) % 256 for each in range(size)) for number in range(COUNT)]
    letters = "abcdefghijklmnopqrstuvwxyz" * (size // 26 + 2)
    return [f"{number} {letters[number:]}"[:size] for number in range(COUNT)]


def fail(why: str) -> NoReturn:
    """End the program. An exception would only be logged by what runs it."""
    sys.stderr.write(f"{why}\n")
    sys.stderr.flush()
    os._exit(1)
