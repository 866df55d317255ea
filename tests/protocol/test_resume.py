"""What asks for sessions that go on after their connections were lost: literally, and strictly."""

from __future__ import annotations

from typing import Any

import pytest

from engineio_twisted.protocol.errors import ConnectionRefusal, DecodeError, ErrorCode
from engineio_twisted.protocol.resume import (
    Bounds,
    Grant,
    Return,
    acknowledged,
    askedFor,
    asking,
    granted,
    member,
    numberOf,
    returnOf,
)

NO_NUMBERS = ["", "-1", "+1", "1.0", "1e3", "0x1", " 1", "1 ", "1_0", "\u0661", "\u00b2", "a", "1" * 16]


def test_asking() -> None:
    """A client asks with its bounds, and only with two numbers that are no zero."""
    assert asking(Bounds(100, 2000)) == "100.2000"
    assert askedFor({"resume": "100.2000"}) == Bounds(100, 2000)


@pytest.mark.parametrize("value", ["", "1", "1.", ".1", "0.1", "1.0", "1.2.3", "true", "1,2", "-1.2", "1." + "1" * 16])
def test_anyOtherValueIsAnApplications(value: str) -> None:
    """The parameter is no name of the protocol's: another value asks for nothing."""
    assert askedFor({"resume": value}) is None
    assert askedFor({}) is None


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_numbersAreDigits(text: str) -> None:
    """Digits of ASCII, and no more than fifteen; nothing else is a number."""
    assert numberOf(text) is None
    assert numberOf("007") == 7
    assert numberOf("9" * 15) == 10**15 - 1


@pytest.mark.parametrize(
    ("query", "attempt", "expected"),
    [
        ({}, 0, None),
        ({"attempt": "0"}, 0, None),
        ({"attempt": "3"}, 3, None),
        ({"attempt": "1", "received": "0"}, 0, Return(1, 0)),
        ({"attempt": "9", "received": "12"}, 3, Return(9, 12)),
    ],
)
def test_returns(query: dict[str, str], attempt: int, expected: Return | None) -> None:
    """A return names a greater attempt and what it has; any other request the present attempt."""
    assert returnOf(query, attempt) == expected


@pytest.mark.parametrize(
    ("query", "attempt"),
    [
        ({}, 1),
        ({"attempt": "1"}, 0),
        ({"attempt": "2"}, 3),
        ({"attempt": "4"}, 3),
        ({"attempt": "3", "received": "0"}, 3),
        ({"attempt": "2", "received": "0"}, 3),
        ({"received": "0"}, 0),
    ],
)
def test_otherAttempts(query: dict[str, str], attempt: int) -> None:
    """What belongs to another attempt is refused: it was sent before, or by nobody."""
    with pytest.raises(ConnectionRefusal) as caught:
        returnOf(query, attempt)
    assert (caught.value.code, caught.value.name) == (ErrorCode.BAD_REQUEST, "WRONG_ATTEMPT")


@pytest.mark.parametrize("text", NO_NUMBERS)
@pytest.mark.parametrize("name", ["attempt", "received"])
def test_parametersThatAreNoNumbers(name: str, text: str) -> None:
    """A refusal names the parameter."""
    query = {"attempt": "1", "received": "0", name: text}
    with pytest.raises(ConnectionRefusal) as caught:
        returnOf(query, 0)
    assert caught.value.name == "INVALID_RESUME"
    assert caught.value.context["parameter"] == name


@pytest.mark.parametrize("received", [None, 0, 17])
def test_granting(received: int | None) -> None:
    """The open packet of a server grants what the client reads in it."""
    grant = Grant(60000, Bounds(100, 2000), received)
    expected = {"timeout": 60000, "packets": 100, "bytes": 2000}
    assert member(grant) == expected | ({} if received is None else {"received": received})
    assert granted({"sid": "x", "resume": member(grant)}) == grant
    assert granted({"sid": "x"}) is None


RIGHT: dict[str, Any] = {"timeout": 1, "packets": 1, "bytes": 1, "received": 0}


@pytest.mark.parametrize(
    "wrong",
    [
        *({**RIGHT, name: value} for name in RIGHT for value in (-1, 1.5, "1", True, None, [], 10**15)),
        *({**RIGHT, name: 0} for name in ("timeout", "packets", "bytes")),
        *({key: RIGHT[key] for key in RIGHT if key != name} for name in ("timeout", "packets", "bytes")),
        [],
        "yes",
        True,
        0,
    ],
)
def test_wrongGrants(wrong: object) -> None:
    """What is there and isn't right is an error, not something else."""
    with pytest.raises(DecodeError, match="resume"):
        granted({"resume": wrong})


def test_acknowledging() -> None:
    """A heartbeat says how many messages have come, or nothing."""
    assert acknowledged("") is None
    assert acknowledged("0") == 0
    assert acknowledged("120") == 120


@pytest.mark.parametrize("data", [*NO_NUMBERS[1:], b"1"])
def test_heartbeatsWithSomethingElse(data: str | bytes) -> None:
    """Anything else is an error."""
    with pytest.raises(DecodeError):
        acknowledged(data)
