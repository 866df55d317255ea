"""Writing at once: the same bytes in the same order as if the reactor had been asked to."""

from __future__ import annotations

import errno
import itertools
import re
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import tcp
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from engineio_twisted import Site
from engineio_twisted.web.connections import writeAtOnce
from engineio_twisted.web.fast import FastSite

from ..kit.stories import OPEN, POLL, PUSH, Here, ask, masked, webSocket
from ..kit.wire import makeFrame

# Writing at once


class Turns:
    """A reactor, as far as a connection knows it, that does what it is asked to in the next turn."""

    def __init__(self) -> None:
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.calls: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def callLater(self, seconds: float, call: Any, *args: Any) -> None:
        self.calls.append((call, args))

    def turn(self) -> None:
        """As the reactor does: a connection that can't be written to is lost."""
        for each in tuple(self.writers):
            why = each.doWrite()
            if why is not None:
                self.removeReader(each)
                self.removeWriter(each)
                each.connectionLost(Failure(why))
        calls, self.calls = self.calls, []
        for call, args in calls:
            call(*args)


class FakeSocket:
    """
    A socket.

    @ivar takes: what each call of C{send} comes to: so many bytes, or an error; in the end all.
    """

    def __init__(self, *takes: int | OSError) -> None:
        self.takes = deque(takes)
        self.sent = b""
        self.calls = 0

    def send(self, data: Any) -> int:
        self.calls += 1
        take = self.takes.popleft() if self.takes else len(data)
        if isinstance(take, OSError):
            raise take
        self.sent += bytes(data[:take])
        return min(take, len(data))

    def setblocking(self, isBlocking: bool) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 80

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        pass

    def setsockopt(self, *args: Any) -> None:
        pass


class Told(Protocol):
    """A protocol that knows whether its connection is lost."""

    lost: Failure | None = None

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.lost = reason


def connection(*takes: int | OSError, protocol: Any = None) -> tuple[Any, Any]:
    """A connection of the reactor's own kind, on a socket that takes so much."""
    protocol = protocol or Told()
    made = tcp.Server(
        FakeSocket(*takes),  # type: ignore[arg-type]
        protocol,
        ("127.0.0.1", 1),
        None,  # type: ignore[arg-type]
        0,
        Turns(),  # type: ignore[arg-type]
    )
    protocol.makeConnection(made)
    return made, made.socket


def error(number: int) -> OSError:
    return OSError(number, "said the test")


TAKEN: list[list[int | OSError]] = [
    [],
    [0],
    [1],
    [3, 3],
    [9, 1, 1],
    [error(errno.EWOULDBLOCK)],
    [error(errno.EAGAIN), 4],
    [error(errno.ENOBUFS), error(errno.ENOBUFS), 2],
    [5, error(errno.EWOULDBLOCK), 2],
]


@pytest.mark.parametrize("takes", TAKEN, ids=str)
def test_aSocketThatTakesAPart(takes: list[int | OSError]) -> None:
    """All goes out, in order, whatever the system takes at a time."""
    made, socket = connection(*takes)
    isAll = not takes
    assert writeAtOnce(made, b"0123456789") is isAll
    assert socket.calls == 1, "the system is asked at once"
    assert writeAtOnce(made, b"abc") is isAll
    made.write(b"def")
    made.writeSequence([b"gh", b"ij"])
    assert writeAtOnce(made, b"xyz") is False
    for _ in range(8):
        made.reactor.turn()
    assert socket.sent == b"0123456789abcdefghijxyz"
    assert not made.reactor.writers
    assert writeAtOnce(made, b"!") is True
    assert socket.sent.endswith(b"xyz!")


@given(
    st.lists(
        st.one_of(
            st.integers(0, 5),
            st.sampled_from([errno.EWOULDBLOCK, errno.ENOBUFS]).map(error),
        ),
        max_size=10,
    ),
    st.lists(st.one_of(st.tuples(st.booleans(), st.binary(max_size=8)), st.none()), max_size=10),
)
def test_theOrderIsKept(takes: list[Any], writes: list[Any]) -> None:
    """In whatever way, and whenever, something is written."""
    made, socket = connection(*takes)
    expected = b""
    for each in writes:
        if each is None:
            made.reactor.turn()
            continue
        isAtOnce, data = each
        if isAtOnce:
            writeAtOnce(made, data)
        else:
            made.write(data)
        expected += data
    for _ in range(len(takes) + 3):
        made.reactor.turn()
    assert socket.sent == expected


@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN])
def test_aConnectionThatIsLost(number: int) -> None:
    """The reactor finds it out, in its own time; whoever writes isn't called back meanwhile."""
    made, socket = connection(error(number), error(number))
    protocol = made.protocol
    assert writeAtOnce(made, b"abc") is False
    assert protocol.lost is None
    assert writeAtOnce(made, b"def") is False
    made.reactor.turn()
    assert protocol.lost is not None
    assert protocol.lost.check(ConnectionLost)
    assert writeAtOnce(made, b"ghi") is False
    assert socket.sent == b""


def test_notBehindWhatWaits() -> None:
    """Nor where only the part that the reactor holds is left."""
    made, socket = connection(4)
    made.write(b"01234567")
    made.reactor.turn()
    assert socket.sent == b"0123"
    assert writeAtOnce(made, b"89") is False
    assert (socket.sent, socket.calls) == (b"0123", 1)
    made.reactor.turn()
    assert socket.sent == b"0123456789"


@pytest.mark.parametrize("how", ["loseConnection", "abortConnection", "loseWriteConnection", "lost"])
def test_notOnAConnectionThatCloses(how: str) -> None:
    """What is written there is what would be written otherwise."""
    outcomes = []
    for write in (writeAtOnce, lambda made, data: made.write(data)):
        made, socket = connection()
        if how == "lost":
            made.connectionLost(Failure(ConnectionDone()))
        else:
            getattr(made, how)()
        if how == "loseWriteConnection":
            made.reactor.turn()
            socket.takes.append(error(errno.EPIPE))
        write(made, b"late")
        outcomes.append((socket.sent, len(made._tempDataBuffer)))
        if how == "loseConnection":
            made.reactor.turn()
            assert socket.sent == b"late"
    assert outcomes[0] == outcomes[1]


# Of Twisted 26.4, TLS leaves something to the reactor for the next turn, which this lets come.
@pytest.mark.usefixtures("serve")
def test_notOnTLS() -> None:
    """A connection on which TLS was started takes nothing that isn't encrypted."""
    context = CertificateOptions(verify=False)
    made, socket = connection()
    assert writeAtOnce(made, b"before") is True
    made.startTLS(context)
    assert made.TLS
    assert writeAtOnce(made, b"a secret") is False
    for _ in range(3):
        made.reactor.turn()
    assert b"secret" not in socket.sent
    made.protocol.connectionLost(Failure(ConnectionDone()))


# Of Twisted 26.4, TLS leaves something to the reactor for the next turn, which this lets come.
@pytest.mark.usefixtures("serve")
def test_notThroughTLS() -> None:
    """Nor one that has TLS between it and whoever writes."""
    factory = TLSMemoryBIOFactory(CertificateOptions(verify=False), True, Factory.forProtocol(Told))
    wrapper: Any = factory.buildProtocol(None)
    made, socket = connection(protocol=wrapper)
    assert writeAtOnce(wrapper, b"a secret") is False
    assert writeAtOnce(wrapper.wrappedProtocol.transport, b"a secret") is False
    for _ in range(3):
        made.reactor.turn()
    assert b"secret" not in socket.sent
    wrapper.connectionLost(Failure(ConnectionDone()))


def test_notThroughWrappers() -> None:
    """A wrapper, which may count or delay what is written, sees all of it."""
    wrapping = WrappingFactory(Factory.forProtocol(Told))
    wrapper: Any = wrapping.buildProtocol(None)
    _, socket = connection(protocol=wrapper)
    seen: list[bytes] = []
    wrapper.write = seen.append
    assert isinstance(wrapper.wrappedProtocol.transport, ProtocolWrapper)
    assert writeAtOnce(wrapper.wrappedProtocol.transport, b"a") is False
    assert (seen, socket.sent) == ([b"a"], b"")


@pytest.mark.parametrize(
    "takes", [*TAKEN, [1] * 300, [error(errno.EWOULDBLOCK)] * 5], ids=lambda takes: f"{takes!s:.30}"
)
def test_answersOnSuchSockets(takes: list[int | OSError]) -> None:
    """A client gets the same bytes from a connection of the reactor's kind, however much it takes at a time."""
    outcomes = []
    for kind, size in itertools.product((Site, FastSite), (100, 200_000)):
        here = Here(kind, isDecided=True)
        channel = here.site.buildProtocol(None)
        made, socket = connection(*takes, protocol=channel)
        for data in (OPEN, POLL, PUSH, ask(sid=b"nobody") + OPEN, webSocket(), makeFrame("4a") + makeFrame(b"b")):
            while made not in made.reactor.readers:
                # Nothing is read from a client that doesn't read.
                made.reactor.turn()
            made.protocol.dataReceived(data)
            here.server.broadcast("x" * size)
            made.reactor.turn()
        for _ in range(400):
            made.reactor.turn()
        outcomes.append(masked(socket.sent))
        made.connectionLost(Failure(ConnectionDone()))
        here.end()
    assert outcomes[2:] == outcomes[:2]
    assert len(re.findall(rb"HTTP/1\.1 200", outcomes[0])) == 4
