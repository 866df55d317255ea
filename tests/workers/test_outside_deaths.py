"""Workers that die while clients of theirs are elsewhere, and sessions that are spread over the workers there are."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ..kit.fleet import READY, Fleet, fleets, get, openWebSocket, poll, post, postOf, sidIn
from ..kit.services import Talk, waitUntil
from ..kit.wire import http, makeFrame, target

pytestmark = pytest.mark.slow

UNKNOWN = (400, b'{"code":1,"message":"Session ID unknown"}')
HANDSHAKE = http("GET", target())


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]) -> Iterator[Fleet]:
    with fleets(tmp_path_factory.mktemp("fleet"), certificate) as start:
        yield start(3, "--ping-interval=100000000")


def ending(talk: Talk) -> tuple[int, bytes] | None:
    """Return the response that a client gets; None if its connection is cut instead."""
    try:
        return talk.response()
    except (AssertionError, ConnectionError):
        return None


def test_deaths(fleet: Fleet) -> None:
    """
    Sessions of a worker that dies are unknown from then on, and what waits for it ends; others lose nothing.

    Connections are with it, come to it just then, and come later; they move, or their requests are relayed.
    """
    for round_ in range(2):
        numbers = sorted(fleet.alive)
        dying, second, third = numbers
        fleet.isSecure = False
        sids = {each: fleet.open(each) for each in numbers}
        # Sessions of those that stay: a WebSocket between them, which came to the one that dies, and a waiting poll.
        bystanders = []
        for isSecure in (False, True):
            fleet.isSecure = isSecure
            sid = fleet.open(second)
            talk = fleet.connect(third)
            openWebSocket(talk, sid)
            talk.connection.sendall(makeFrame("5") + makeFrame("4before"))
            assert talk.frame() == (1, b"4before")
            bystanders.append(talk)
        # What was there before: polls that wait, moved and relayed, and WebSockets.
        waiting, sockets = [], []
        for isSecure in (False, True):
            fleet.isSecure = isSecure
            sid = fleet.open(dying)
            talk = fleet.connect(second)
            talk.connection.sendall(get(sid))
            waitUntil(partial(fleet.tell, dying, "isPolled", sid), "the poll")
            waiting.append(talk)
            sid = fleet.open(dying)
            talk = fleet.connect(second)
            openWebSocket(talk, sid)
            sockets.append(talk)
        fleet.isSecure = False
        os.kill(fleet.workers[dying], signal.SIGSTOP)
        # What comes while it stands still: it is given connections, and requests.
        late = []
        for isSecure in (False, True):
            fleet.isSecure = isSecure
            for _ in range(3):
                talk = fleet.connect(third, stopped=[dying])
                talk.connection.sendall(postOf(sids[dying], "4late") + get(sids[dying]))
                late.append(talk)
        for number, talk in enumerate(bystanders):
            talk.connection.sendall(makeFrame(f"4during {number}"))
            assert talk.frame() == (1, f"4during {number}".encode())
        fleet.isSecure = False
        ready = len(fleet.workers)
        os.kill(fleet.workers[dying], signal.SIGKILL)
        for talk in waiting:
            assert ending(talk) in (None, UNKNOWN)
        for talk in sockets:
            with pytest.raises((AssertionError, ConnectionError)):
                talk.frame()
        for talk in late:
            assert ending(talk) in (None, UNKNOWN)
        # What comes later, on new connections and on old ones.
        for each in (second, third):
            talk = fleet.connect(each, stopped=[dying])
            for request in (get(sids[dying]), postOf(sids[dying], "4x")):
                talk.connection.sendall(request)
                assert talk.response() == UNKNOWN
            assert post(talk, sids[each], "4still here") == (200, b"ok")
            assert poll(talk, sids[each]) == ["4still here"]
        fleet.waitFor(READY, ready + 1)
        fleet.forget(dying)
        new = max(fleet.alive)
        assert new == max(numbers) + 1
        sid = fleet.open(new)
        assert post(fleet.connect(second), sid, "4hello") == (200, b"ok")
        assert poll(fleet.connect(third), sid) == ["4hello"]
        talk = fleet.connect(new)
        talk.connection.sendall(get(sids[dying]))
        assert talk.response() == UNKNOWN
        for number, talk in enumerate(bystanders):
            talk.connection.sendall(makeFrame(f"4after {number} {round_}"))
            assert talk.frame() == (1, f"4after {number} {round_}".encode())
        fleet.rest()


def one(fleet: Fleet) -> list[Talk]:
    return [fleet.connect()] * 400


def pool(fleet: Fleet) -> list[Talk]:
    return [fleet.connect() for _ in range(20)] * 20


def each(fleet: Fleet) -> list[Talk]:
    return [fleet.connect() for _ in range(400)]


@pytest.mark.parametrize("isSecure", [False, True], ids=["plain", "tls"])
def test_spread(fleet: Fleet, isSecure: bool) -> None:
    """
    400 handshakes are spread: none has 15 % more or less than the mean.

    They come one after the other or all at once, on a connection each, through a pool, or on one connection.
    """
    fleet.isSecure = isSecure

    def slowly(talks: list[Talk]) -> list[str]:
        return [sidIn(talk.ask(HANDSHAKE)) for talk in talks]

    def atOnce(talks: list[Talk]) -> list[str]:
        for talk in talks:
            talk.connection.sendall(HANDSHAKE)
        return [sidIn(talk.response()[1]) for talk in talks]

    ways: list[tuple[Callable[[Fleet], list[Talk]], Callable[[list[Talk]], list[str]]]] = [
        (one, slowly),
        (pool, slowly),
        (pool, atOnce),
        (each, atOnce),
        (each, slowly),
    ]
    for connect, ask in ways:
        waitUntil(lambda: sum(fleet.tell(number, "count") for number in fleet.alive) == len(fleet.alive), "no session")
        # The sessions that ask are one for each worker.
        talks = connect(fleet)
        sids = ask(talks)
        counts = Counter(int(sid.partition("-")[0]) for sid in sids)
        assert counts.keys() == set(fleet.alive)
        mean = 400 / len(counts)
        assert all(0.85 * mean <= count <= 1.15 * mean for count in counts.values()), (connect, ask, counts)
        talk = fleet.connect()
        for sid in sids:
            assert post(talk, sid, "1") == (200, b"ok")
        for talk in {*talks}:
            fleet.close(talk)
    fleet.rest()
