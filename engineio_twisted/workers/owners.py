"""The number of a worker in the ids of its sessions. docs/architecture/workers.md, "Ids"."""

from __future__ import annotations

import re

LARGEST_NUMBER = 2**31 - 1
"""The largest number that a worker has."""

_NUMBER = re.compile(r"([1-9][0-9]{0,9})-.")


def prefixOf(number: int, prefix: str) -> str:
    """
    Return what the ids of a worker's sessions begin with.

    @param number: the number of the worker.
    @param prefix: the option C{idPrefix}.
    """
    return f"{prefix}{number}-"


def ownerOf(sid: str, prefix: str) -> int | None:
    """
    Return the number of the worker that an id names, whether or not there is such a worker.

    @param sid: any text.
    @param prefix: the option C{idPrefix}.
    @return: from 1 to L{LARGEST_NUMBER}; None if the id names no worker.
    """
    if not sid.startswith(prefix):
        return None
    match = _NUMBER.match(sid, len(prefix))
    if match is None:
        return None
    number = int(match[1])
    return number if number <= LARGEST_NUMBER else None
