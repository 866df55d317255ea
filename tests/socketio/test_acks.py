"""Acknowledgements that the server asks for: answers, timeouts, ends, and answers that nobody waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from engineio_twisted.socketio import AckTimeout, Disconnected, SocketIO, UnsendableValue
from engineio_twisted.socketio.testing import MemorySocket, MemorySocketIO

Start = Callable[..., MemorySocketIO]


def nothing(io: SocketIO) -> None:
    """Take what comes."""


def socketOf(kit: MemorySocketIO, client: MemorySocket) -> Any:
    """Return the server's socket of a client."""
    assert client.id is not None
    return kit.io.sockets[client.id]


def result(deferred: Deferred[Any]) -> list[Any]:
    """Return a list that gets the result of a Deferred, or what it failed with."""
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results


@pytest.mark.parametrize("protocol", [5, 4])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, None),
        ("yes", "yes"),
        (0, 0),
        ((1, [2]), (1, [2])),
        ((None,), None),
        (b"\x00", b"\x00"),
        ({"a": b"x"}, {"a": b"x"}),
    ],
)
def test_answers(socketio: Start, protocol: int, answer: Any, expected: Any) -> None:
    """No argument is None, one is itself, several are a tuple."""
    kit = socketio(nothing, allowEIO3=True)
    client = kit.connect(protocol=protocol)
    client.on("q", answer)
    results = result(socketOf(kit, client).emitWithAck("q", 1, b"x"))
    kit.settle()
    assert results == [expected]
    assert client.receive().args == (1, b"x")
    assert kit.io.stats().acks == 0


def test_await(socketio: Start) -> None:
    """A handler that waits for an answer goes on with it."""

    def application(io: SocketIO) -> None:
        @io.on("buy")
        async def buy(socket: Any, what: str) -> str:
            return f"{what}: {await socket.emitWithAck('sure?', what)}"

    client = socketio(application).connect()
    client.on("sure?", lambda what: what == "tea")
    assert client.emitWithAck("buy", "tea") == "tea: True"
    assert client.emitWithAck("buy", "car") == "car: False"


def test_answersInAnyOrder(socketio: Start) -> None:
    """Each answer reaches the one that has asked."""
    kit = socketio(nothing)
    client = kit.connect()
    results = [result(socketOf(kit, client).emitWithAck("q", number)) for number in range(3)]
    kit.settle()
    assert kit.io.stats().acks == 3
    for event in reversed(client.receiveAll()):
        event.answer(event.args[0] * 10)
    assert results == [[0], [10], [20]]
    assert kit.io.stats().acks == 0


@pytest.mark.parametrize(
    ("options", "arguments", "seconds"),
    [({}, {}, 60), ({"ackTimeout": 2000}, {}, 2), ({"ackTimeout": 2000}, {"timeout": 3500}, 3.5)],
    ids=["default", "option", "argument"],
)
def test_timeout(socketio: Start, options: dict[str, Any], arguments: dict[str, Any], seconds: float) -> None:
    """It fails at that time; an answer that comes then is counted, and no more."""
    kit = socketio(nothing, pingTimeout=500_000, **options)
    client = kit.connect()
    results = result(socketOf(kit, client).emitWithAck("q", **arguments))
    kit.advance(seconds - 0.1)
    assert results == []
    kit.advance(0.2)
    (error,) = results
    assert isinstance(error, AckTimeout)
    assert (error.answers, error.missing, kit.io.stats().acks) == ([], [client.id], 0)
    client.receive().answer("late")
    assert (kit.io.stats().lateAcks, client.connected, len(results)) == (1, True, 1)


def test_withoutTimeout(socketio: Start) -> None:
    """With `ackTimeout` None it is waited for as long as the socket is connected."""
    kit = socketio(nothing, ackTimeout=None)
    client = kit.connect()
    results = result(socketOf(kit, client).emitWithAck("q"))
    kit.advance(10_000)
    assert results == []
    client.receive().answer("at last")
    assert results == ["at last"]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda kit, client: client.disconnect(), "client namespace disconnect"),
        (lambda kit, client: socketOf(kit, client).disconnect(), "server namespace disconnect"),
        (lambda kit, client: client.drop(), "transport error"),
        (lambda kit, client: kit.io.close(), "server shutting down"),
    ],
    ids=["client", "server", "drop", "close"],
)
def test_disconnected(socketio: Start, end: Callable[[MemorySocketIO, MemorySocket], object], reason: str) -> None:
    """When the socket ends, what it waits for fails at once, with the reason."""
    kit = socketio(nothing)
    client = kit.connect()
    results = result(socketOf(kit, client).emitWithAck("q"))
    end(kit, client)
    kit.settle()
    (error,) = results
    assert isinstance(error, Disconnected)
    assert (reason.split()[0] in error.reason, kit.io.stats().acks) == (True, 0)


def test_afterTheEnd(socketio: Start) -> None:
    """A socket that has ended answers nothing."""
    kit = socketio(nothing)
    client = kit.connect()
    socket = socketOf(kit, client)
    client.disconnect()
    (error,) = result(socket.emitWithAck("q"))
    assert isinstance(error, Disconnected)
    assert error.reason == "client namespace disconnect"


def test_cancel(socketio: Start) -> None:
    """Cancelling forgets it; the answer is late then."""
    kit = socketio(nothing)
    client = kit.connect()
    deferred = socketOf(kit, client).emitWithAck("q")
    results = result(deferred)
    kit.settle()
    deferred.cancel()
    assert [type(each) for each in results] == [CancelledError]
    assert kit.io.stats().acks == 0
    client.receive().answer("late")
    assert kit.io.stats().lateAcks == 1


def test_answersNobodyAskedFor(socketio: Start) -> None:
    """They are ignored and counted: unknown ids, a second answer, none at all."""
    kit = socketio(nothing)
    client = kit.connect()
    results = result(socketOf(kit, client).emitWithAck("q"))
    kit.settle()
    (asked,) = [str(each) for each in client.engine.received[1:]]
    ack = f"3{asked[1 : asked.index('[')]}[1]"
    client.sendRaw(ack, ack, "399[1]")
    assert (results, kit.io.stats().lateAcks, client.connected) == ([1], 2, True)
    client.sendRaw("3[1]")
    assert client.connected


def test_answersOfOthers(socketio: Start) -> None:
    """A client can't answer what another one was asked."""
    kit = socketio(nothing)
    first, second = kit.connect(), kit.connect()
    results = result(socketOf(kit, first).emitWithAck("q"))
    kit.settle()
    asked = str(first.engine.received[-1])
    second.sendRaw(f"3{asked[1 : asked.index('[')]}[1]")
    assert (results, kit.io.stats().acks) == ([], 1)
    first.receive().answer("mine")
    assert results == ["mine"]


def test_whatCannotBeSent(socketio: Start) -> None:
    """It raises with the path to the value; nothing is waited for."""
    kit = socketio(nothing)
    client = kit.connect()
    with pytest.raises(UnsendableValue, match=r"args\[1\]\[\"when\"\]"):
        socketOf(kit, client).emitWithAck("q", 1, {"when": object()})
    assert (kit.io.stats().acks, client.received) == (0, [])


def test_inAMiddleware(socketio: Start) -> None:
    """A socket that isn't connected yet can't be asked for ever: if it is refused, that fails too."""
    results: list[Any] = []

    def middleware(socket: Any) -> None:
        results.append(result(socket.emitWithAck("q")))

    kit = socketio(lambda io: io.use(middleware))
    client = kit.connect()
    client.receive().answer(1)
    assert results == [[1]]
