"""The open packet as a client reads it: what servers send, and what none should."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engineio_twisted.client import ConnectionFailed, Handshake
from engineio_twisted.client.handshake import readHandshake

WHOLE: dict[str, Any] = {
    "sid": "lv_VI97HAXpY6yYWAAAC",
    "upgrades": ["websocket"],
    "pingInterval": 25000,
    "pingTimeout": 20000,
    "maxPayload": 1000000,
}


def written(**changes: Any) -> str:
    return json.dumps({**WHOLE, **changes})


def test_whole() -> None:
    """What the reference says is read, and what else there is is kept."""
    assert readHandshake(written(resume={"timeout": 1000}, more=[1])) == Handshake(
        "lv_VI97HAXpY6yYWAAAC", ("websocket",), 25000, 20000, 1000000, {"resume": {"timeout": 1000}, "more": [1]}
    )


def test_ofRevision3() -> None:
    """Servers of revision 3 don't say how much they take; some say no upgrades, or write whole numbers as floats."""
    assert readHandshake('{"sid":"a","pingInterval":25000.0,"pingTimeout":5e3}') == Handshake(
        "a", (), 25000, 5000, None, {}
    )


def test_bytes() -> None:
    """An open packet may come as bytes."""
    assert readHandshake(written().encode()).sid == WHOLE["sid"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "'': expected JSON"),
        ("<html>", "'<html>': expected JSON"),
        (b"\xff", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("[]", "'[]': expected an object"),
        ("null", "expected an object"),
        ("{}", "sid None"),
        (written(sid=""), "sid ''"),
        (written(sid=5), "sid 5"),
        (written(sid="a" * 513), "expected the id of a session, up to 512 characters"),
        (written(sid="a\nb"), r"sid 'a\nb'"),
        (written(sid="é"), "sid 'é'"),
        (written(upgrades="websocket"), "upgrades 'websocket': expected the names"),
        (written(upgrades=[1]), "upgrades [1]"),
        (written(upgrades=None), "upgrades None"),
        (written(pingInterval=None), "pingInterval None"),
        (written(pingInterval="25000"), "pingInterval '25000': expected milliseconds, from 1 to 2147483647"),
        (written(pingInterval=0), "pingInterval 0"),
        (written(pingInterval=-1), "pingInterval -1"),
        (written(pingInterval=True), "pingInterval True"),
        (written(pingInterval=2.5), "pingInterval 2.5"),
        (written(pingInterval=10**30), "pingInterval 1000000000000000000000000000000"),
        ('{"sid":"a","pingInterval":NaN,"pingTimeout":1}', "pingInterval 'NaN'"),
        ('{"sid":"a","pingInterval":1e999,"pingTimeout":1}', "pingInterval inf"),
        (written(pingTimeout=0), "pingTimeout 0"),
        (written(pingTimeout=2**31), "pingTimeout 2147483648"),
        (written(maxPayload=0), "maxPayload 0: expected bytes, 1 or more"),
        (written(maxPayload="1"), "maxPayload '1'"),
        (written(maxPayload=1.5), "maxPayload 1.5"),
        ('{"sid":"a","pingInterval":' + "9" * 5000 + "}", "expected JSON"),
    ],
)
def test_wrong(data: str | bytes, said: str) -> None:
    """Anything else is a failure that shows what came, in bounded length."""
    with pytest.raises(ConnectionFailed) as caught:
        readHandshake(data)
    assert (caught.value.type, said in caught.value.description) == ("handshake", True), caught.value.description
    assert len(caught.value.description) < 200
