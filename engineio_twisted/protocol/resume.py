"""
How a session that goes on after its connections were lost is written: parameters, a member, acknowledgements.

Numbers are decimal digits and nothing else, as many as L{MAX_DIGITS}. docs/protocol.md, "Resume".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .errors import ConnectionRefusal, DecodeError, ErrorCode

MAX_DIGITS = 15
"""Digits of a number, at most: JSON numbers of so many are exact in every language."""

ASK, ATTEMPT, RECEIVED = "resume", "attempt", "received"
"""The parameters of the query: what asks for it, the number of the return, and that of the messages that came."""

MEMBER = "resume"
"""The member of the open packet."""


@attrs.frozen
class Bounds:
    """
    How much one side keeps of what it sent and the other hasn't acknowledged.

    @ivar packets: how many messages.
    @ivar bytes: of how many bytes.
    """

    packets: int
    bytes: int


@attrs.frozen
class Grant:
    """
    What the open packet says of it.

    @ivar timeout: for how many milliseconds a session waits that has no connection.
    @ivar bounds: those of the server.
    @ivar received: how many messages of the client's it has; None in the first open packet of a session.
    """

    timeout: int
    bounds: Bounds
    received: int | None = None


@attrs.frozen
class Return:
    """
    What a client says that comes back.

    @ivar attempt: the number of the return, greater than any before.
    @ivar received: how many messages of the server's it has.
    """

    attempt: int
    received: int


def numberOf(text: str) -> int | None:
    """Return a number, or None if the text is none."""
    return int(text) if 0 < len(text) <= MAX_DIGITS and text.isascii() and text.isdigit() else None


def asking(bounds: Bounds) -> str:
    """Return the value of the parameter L{ASK}."""
    return f"{bounds.packets}.{bounds.bytes}"


def askedFor(query: Mapping[str, str]) -> Bounds | None:
    """
    Return the bounds of a client that asks for it, or None.

    A value that isn't right asks for nothing: the parameter may be an application's own.
    """
    packets, dot, size = query.get(ASK, "").partition(".")
    numbers = numberOf(packets), numberOf(size)
    return Bounds(*numbers) if dot and all(numbers) else None  # type: ignore[arg-type]


def _number(query: Mapping[str, str], name: str) -> int:
    value = query[name]
    number = numberOf(value)
    if number is None:
        context = {"name": "INVALID_RESUME", "parameter": name, "value": value}
        message = f"Bad request: the query parameter {name} is not a number"
        raise ConnectionRefusal(ErrorCode.BAD_REQUEST, context, message)
    return number


def returnOf(query: Mapping[str, str], attempt: int) -> Return | None:
    """
    Return what a request for a session says that comes back; None if it doesn't, and may be served.

    @param attempt: the number of the last return of the session; 0 before the first.
    @raise ConnectionRefusal: a number isn't one; or the request is of an earlier attempt, or of one that never was.
    """
    given = _number(query, ATTEMPT) if ATTEMPT in query else 0
    if RECEIVED not in query:
        isRight = given == attempt
        returning = None
    else:
        isRight = given > attempt
        returning = Return(given, _number(query, RECEIVED))
    if not isRight:
        context = {"name": "WRONG_ATTEMPT", "attempt": given, "sessionAttempt": attempt}
        raise ConnectionRefusal(ErrorCode.BAD_REQUEST, context, "Bad request: not the present attempt of the session")
    return returning


def waitsForReturn() -> ConnectionRefusal:
    """Return the refusal of a request of a session that has lost its connection, and that doesn't come back."""
    message = "Bad request: the session waits for a return"
    return ConnectionRefusal(ErrorCode.BAD_REQUEST, {"name": "SESSION_SUSPENDED"}, message)


def member(grant: Grant) -> dict[str, int]:
    """Return the member of the open packet."""
    found = {"timeout": grant.timeout, "packets": grant.bounds.packets, "bytes": grant.bounds.bytes}
    if grant.received is not None:
        found[RECEIVED] = grant.received
    return found


def granted(opening: Mapping[str, Any]) -> Grant | None:
    """
    Return what an open packet says, None if it grants nothing.

    @param opening: its data, read as JSON.
    @raise DecodeError: the member isn't right.
    """
    given = opening.get(MEMBER)
    if given is None:
        return None
    if not isinstance(given, dict):
        raise DecodeError(f"{MEMBER} of the open packet is of type {type(given).__name__}: expected an object")
    numbers = [_numberIn(given, name, 1) for name in ("timeout", "packets", "bytes")]
    received = _numberIn(given, RECEIVED, 0) if RECEIVED in given else None
    return Grant(numbers[0], Bounds(numbers[1], numbers[2]), received)


def _numberIn(given: Mapping[str, Any], name: str, least: int) -> int:
    number = given.get(name)
    # A bool is an int.
    if type(number) is not int or not least <= number < 10**MAX_DIGITS:
        raise DecodeError(
            f"{MEMBER} of the open packet, {name} {number!r:.40}: expected a whole number from {least} on"
        )
    return number


def acknowledged(data: str | bytes) -> int | None:
    """
    Return how many messages a ping, a pong or a noop says that have come; None if it says nothing.

    @raise DecodeError: it says something else.
    """
    if not data:
        return None
    number = numberOf(data) if isinstance(data, str) else None
    if number is None:
        raise DecodeError("a heartbeat with something that is no number of messages")
    return number
