"""Messages between processes: what is written is read again, and anything else is refused with the one error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engineio_twisted.socketio import Flags, Target, UnsendableValue
from engineio_twisted.socketio.redis_messages import Call, Client, PeersWriter, Presence, readOwn, readPeers
from engineio_twisted.socketio.remote_messages import (
    Answer,
    Disconnect,
    Event,
    InvalidMessage,
    Newest,
    Position,
    Question,
    Rooms,
    ServerEvent,
    Session,
    Sockets,
    readItem,
)

from ..kit.socketio_values import BINARY_VALUES, NAMES

HOST = "Ahost"
ROOMS = st.frozensets(NAMES, max_size=3)
EVENTS = st.tuples(NAMES, st.lists(BINARY_VALUES, max_size=3)).map(lambda event: [event[0], *event[1]])
TARGETS = st.builds(
    Target,
    ROOMS,
    ROOMS,
    st.builds(
        Flags,
        volatile=st.booleans(),
        compress=st.booleans(),
        timeout=st.just(float("inf")) | st.integers(1, 10**6) | st.floats(0.001, 10**6),
    ),
)


def writer(default: Any = None) -> PeersWriter:
    return PeersWriter(HOST, default)


@settings(max_examples=30)
@given(NAMES, ROOMS, st.booleans(), EVENTS)
def test_peersEvents(namespace: str, rooms: frozenset[str], compress: bool, data: list[Any]) -> None:
    """An event for python-socketio is read as it was written; its sender knows it by its beginning."""
    target = Target(rooms, frozenset(), Flags(compress=compress))
    message = writer().forPeers(namespace, target, data)
    assert message.startswith(writer().beginsForPeers)
    assert readPeers(message) == Event(HOST, namespace, target, data)


@settings(max_examples=30)
@given(NAMES, TARGETS, EVENTS, st.integers(0, 2**53 - 1))
def test_ownEvents(namespace: str, target: Target, data: list[Any], id: int) -> None:  # noqa: A002
    """Events and questions between our own processes are read as they were written."""
    message = writer().event(namespace, target, data)
    assert message.startswith(writer().begins)
    event = Event(HOST, namespace, target, data)
    assert readOwn(message) == event
    assert readOwn(writer().ask(message, id)) == Question(HOST, id, event)
    message = writer().serverEvent(namespace, data)
    assert readOwn(message) == ServerEvent(HOST, namespace, data)
    assert readOwn(writer().ask(message, id)) == Question(HOST, id, ServerEvent(HOST, namespace, data))
    message = writer().ask(writer().sockets(namespace, target), id)
    assert readOwn(message) == Question(HOST, id, Sockets(HOST, namespace, target))


@settings(max_examples=30)
@given(NAMES, TARGETS, ROOMS, st.booleans())
def test_ownOrders(namespace: str, target: Target, rooms: frozenset[str], yes: bool) -> None:
    """What is to be done with sockets is read as it was written."""
    assert readOwn(writer().rooms(namespace, target, yes, rooms)) == Rooms(HOST, namespace, target, yes, rooms)
    assert readOwn(writer().disconnect(namespace, target, yes)) == Disconnect(HOST, namespace, target, yes)
    position = Position("epoch", 7)
    assert readOwn(writer().newest(namespace, position, yes)) == Newest(HOST, namespace, position, yes)
    event = writer().event(namespace, target, ["x"], position)
    assert readOwn(event) == Event(HOST, namespace, target, ["x"], position)
    for offset in (None, "a.1"):
        asked = writer().ask(writer().session(namespace, "pid", offset, yes), 7)
        assert readOwn(asked) == Question(HOST, 7, Session(HOST, namespace, "pid", offset, yes))
    for says in ("hello", "alive", "gone"):
        assert readOwn(writer().presence(says)) == Presence(HOST, says)


@settings(max_examples=30)
@given(NAMES, NAMES, NAMES)
def test_peersOrders(namespace: str, sid: str, room: str) -> None:
    """What is to be done with one client is read as it was written."""
    for method in ("enter_room", "leave_room"):
        message = writer().peerOrder(method, namespace, sid=sid, room=room)
        assert readPeers(message) == Client(HOST, namespace, sid, method, room)
    assert readPeers(writer().peerOrder("disconnect", namespace, sid=sid)) == Client(HOST, namespace, sid, "disconnect")
    target = Target(frozenset((room,)))
    assert readPeers(writer().peerOrder("close_room", namespace, room=room)) == Rooms(
        HOST, namespace, target, False, frozenset((room,))
    )


@settings(max_examples=30)
@given(st.lists(st.lists(BINARY_VALUES, max_size=2), max_size=8), st.integers(400, 3000))
def test_answers(values: list[list[Any]], maxBytes: int) -> None:
    """An answer comes in parts that are small enough, in order, and the last one says so."""
    question = Question("other", 7, ServerEvent("other", "/", ["x"]))
    items = [writer().item({"number": number}, each) for number, each in enumerate(values)]
    if max(map(len, items), default=0) > 250:
        maxBytes = 10**6
    parts = writer().answers(question, items, maxBytes)
    assert max(map(len, parts)) <= maxBytes
    read: list[Any] = [readOwn(each) for each in parts]
    assert [each.isLast for each in read] == [False] * (len(read) - 1) + [True]
    assert all(isinstance(each, Answer) and (each.to, each.id, each.failed) == ("other", 7, False) for each in read)
    found = [item for each in read for item in each.items]
    assert [item["number"] for item in found] == [*range(len(values))]
    assert [readItem(item) for item in found] == values


def test_failedAnswers() -> None:
    """A process that can't answer says so; an item that is too large can't be sent."""
    question = Question("other", 7, ServerEvent("other", "/", ["x"]))
    (message,) = writer().answers(question, None, 1000)
    assert readOwn(message) == Answer(HOST, "other", 7, [], True, True)
    with pytest.raises(UnsendableValue):
        writer().answers(question, [b"x" * 1000], 1000)


@given(st.binary())
def test_anyBytes(payload: bytes) -> None:
    """Bytes of any kind are read, or refused with the one error."""
    for read in (readPeers, readOwn):
        try:
            read(payload)
        except InvalidMessage:
            pass


KEYS = (
    *("method", "host_id", "event", "data", "binary", "namespace", "room", "skip_sid", "callback", "sid", "compress"),
    *("v", "type", "host", "rooms", "except", "names", "close", "id", "to", "items", "isLast", "failed", "timeout"),
    *("epoch", "number", "wantsAnswer", "pid", "offset", "takes"),
)
WORDS = (
    *("emit", "callback", "disconnect", "enter_room", "leave_room", "close_room"),
    *("event", "server event", "sockets", "join", "leave", "answer", "hello", "alive", "gone"),
    *("newest", "session"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NAMES | st.sampled_from(WORDS) | st.just("AA=="),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(NAMES | st.sampled_from(KEYS), values, max_size=3)
        | st.builds(lambda number: {"_placeholder": True, "num": number}, values)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON), st.sampled_from(WORDS))
def test_anyObject(message: dict[str, Any], word: str) -> None:
    """Objects with the keys that messages have, and any values, are read, or refused with the one error."""
    payload = json.dumps({"host_id": "h", **message, "method": word}).encode()
    own = json.dumps({"host": "h", "namespace": "/", "rooms": [], "except": [], **message, "v": 1, "type": word})
    for read, each in ((readPeers, payload), (readOwn, own.encode())):
        try:
            read(each)
        except InvalidMessage:
            pass
    try:
        readItem(message)
    except InvalidMessage:
        pass


def test_callbacks() -> None:
    """The answer to an event of python-socketio has what that process needs to find who asked."""
    event = Call("other", "/", Target(), ["x"], ("room", "/admin", 7))
    assert json.loads(writer().callback(event, [1, None])) == {
        "method": "callback",
        "host_id": "other",
        "sid": "room",
        "namespace": "/admin",
        "id": 7,
        "args": [1, None],
    }
    assert readPeers(writer().callback(event, [1])) is None
    with pytest.raises(UnsendableValue):
        writer().callback(event, [b"1"])


def test_values() -> None:
    """Values are as clients get them: infinities as null, what `default` makes of others, anything else refused."""
    message = writer(lambda value: repr(value)).forPeers("/", Target(), ["x", float("inf"), 1j, ("a", b"\x00")])
    event = readPeers(message)
    assert isinstance(event, Event)
    assert event.data == ["x", None, "1j", ["a", b"\x00"]]
    with pytest.raises(UnsendableValue, match="args"):
        writer().forPeers("/", Target(), ["x", 1j])
