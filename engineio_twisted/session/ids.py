"""Random text that nobody can guess: the ids of sessions, and ids for others to use."""

from __future__ import annotations

import itertools
import os
from binascii import b2a_base64

# To the alphabet of base64 that needs no escaping in an address (RFC 4648, 5).
_FOR_URLS = bytes.maketrans(b"+/", b"-_")
_serial = itertools.count()


def generateId(size: int = 15) -> str:
    """
    Return random text, such as for an id or a token of your own. It has nothing to do with the ids of sessions.

    @param size: how many random bytes of the operating system are in it, at least 1. 15 make 20 characters.
    @return: letters, digits, C{-} and C{_}, which need no escaping in an address.
    @raise ValueError: the size is less than 1.
    """
    if size < 1:
        raise ValueError(f"size {size!r}: expected 1 or more bytes")
    return b2a_base64(os.urandom(size), newline=False).rstrip(b"=").translate(_FOR_URLS).decode("ascii")


def newSessionId() -> str:
    """Return a new session id: 15 random bytes of the operating system, and a number so that none comes twice."""
    return b2a_base64(os.urandom(15) + next(_serial).to_bytes(6), newline=False).translate(_FOR_URLS).decode("ascii")
