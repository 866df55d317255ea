"""The table of sessions, and their ids."""

from __future__ import annotations

import base64
import re

import pytest
from twisted.internet.task import Clock

from engineio_twisted.session.factory import SocketFactory
from engineio_twisted.session.ids import generateId, newSessionId

from ..kit.fakes import FakeHost, FakeRequest, FakeTransport


def test_openAddsAndTheEndRemoves() -> None:
    """A session is in the table from its open packet to its end, and no longer."""
    clock = Clock()
    factory = SocketFactory(host := FakeHost(clock), clock, host.addressOf)
    transport = FakeTransport()
    socket = factory.open("a", transport, FakeRequest().exchange, 4)
    assert factory.clients == {"a": socket}
    assert (socket.readyState, len(transport.sent)) == ("open", 1)
    socket.close()
    assert factory.clients == {}
    assert clock.getDelayedCalls() == []


def test_closeAll() -> None:
    """Every session ends, also when a handler closes others on the way."""
    clock = Clock()
    factory = SocketFactory(host := FakeHost(clock), clock, host.addressOf)
    sockets = [factory.open(str(each), FakeTransport(), FakeRequest().exchange, 4) for each in range(5)]
    reasons: list[str] = []
    for socket in sockets:
        socket.on("close", lambda reason, _: reasons.append(reason))
    sockets[0].on("close", lambda *_: sockets[3].close(discard=True))
    factory.closeAll()
    assert factory.clients == {}
    assert sorted(reasons) == ["forced close", *["server shutting down"] * 4]
    assert clock.getDelayedCalls() == []


def test_ids() -> None:
    """At least 15 random bytes, fit for a URL, and never the same twice."""
    ids = {newSessionId() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(re.fullmatch(r"[\w-]+", each) for each in ids)
    raw = [base64.urlsafe_b64decode(each) for each in ids]
    assert {len(each) for each in raw} == {21}
    assert len({each[:15] for each in raw}) == 10_000
    assert len({each[15:] for each in raw}) == 10_000


def test_generateId() -> None:
    """Random text for others to use: as long as it is asked for, with nothing in it but what is random."""
    ids = [generateId() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch(r"[\w-]{20}", each, re.ASCII) for each in ids)
    # Each place has nearly all of the 64 characters: none is a number that counts up, or always the same.
    assert min(len({each[place] for each in ids}) for place in range(20)) > 50
    assert [len(generateId(size)) for size in (1, 2, 3, 16, 32)] == [2, 3, 4, 22, 43]
    with pytest.raises(ValueError, match="size 0: expected 1 or more bytes"):
        generateId(0)
