"""Sessions of three processes, at the wrong one: plain connections move, requests of those of TLS are relayed."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path
from urllib.parse import quote

import pytest

from ..kit.fleet import Fleet, descriptorsOf, fleets, get, openWebSocket, poll, post, postOf
from ..kit.services import Talk, waitUntil
from ..kit.wire import CLOSE, http, makeFrame, target

pytestmark = pytest.mark.slow

WORKERS = (1, 2, 3)
PAIRS = list(permutations(WORKERS, 2))
"""The owner of a session, and the worker that its client reaches."""

LARGE = "0123456789abcdé" * 60_000


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]) -> Iterator[Fleet]:
    with fleets(tmp_path_factory.mktemp("fleet"), certificate) as start:
        yield start(3, "--ping-interval=100000000", "--allow-eio3", "--max-http-buffer-size=2000000")


@pytest.fixture(params=["move", "relay"])
def here(fleet: Fleet, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """The workers, whose clients connect so that their connections move, or their requests are relayed."""
    fleet.isSecure = request.param == "relay"
    yield fleet
    fleet.rest()
    assert "Traceback" not in fleet.said


def assertServedBy(here: Fleet, talk: Talk, owner: int, front: int) -> None:
    """A connection has moved to the owner; by TLS it is where it was."""
    assert here.numberOf(talk) == (front if here.isSecure else owner)


@contextmanager
def standing(here: Fleet, *workers: int) -> Iterator[None]:
    """Let workers stand still."""
    for each in workers:
        os.kill(here.workers[each], signal.SIGSTOP)
    try:
        yield
    finally:
        for each in workers:
            os.kill(here.workers[each], signal.SIGCONT)


def test_readingAndWriting(here: Fleet) -> None:
    """What waits is read; so is what comes while the request waits; messages by three workers come in their order."""
    for each in WORKERS:
        assert here.tell(each, "count") > 0
    before = descriptors(here)
    for owner, other in PAIRS:
        sid = here.open(owner)
        talk = here.connect(other)
        assert here.tell(owner, "sendTo", sid, "early") is True
        assert poll(talk, sid) == ["4early"]
        assertServedBy(here, talk, owner, other)
        talk.connection.sendall(get(sid))
        assert here.tell(other, "sendTo", sid, "late") is True
        assert talk.response() == (200, b"4late")
        writers = [here.connect(each) for each in WORKERS]
        wanted = []
        for number in range(9):
            wanted += [f"4{number}", f"4{number} too"]
            assert post(writers[number % 3], sid, "\x1e".join(wanted[-2:])) == (200, b"ok")
        assert poll(talk, sid) == wanted
        assert post(talk, sid, "1") == (200, b"ok")
        for each in [talk, *writers]:
            here.close(each)
    if not here.isSecure:
        # Links are kept for a minute.
        waitUntil(lambda: descriptors(here) == before, "the end of all connections")


def descriptors(here: Fleet) -> list[int]:
    """How many descriptors each worker has."""
    return [len(descriptorsOf(here.workers[each])) for each in WORKERS]


def test_closing(here: Fleet) -> None:
    """Each way in which a session ends has the reason that it has in one process, whoever the client has reached."""
    for owner, other in PAIRS:
        # By the client's packet.
        sid = here.open(owner)
        talk = here.connect(other)
        assert post(talk, sid, "1") == (200, b"ok")
        assert here.whyClosed(sid) == "transport close"
        # By the server, while the poll waits.
        sid = here.open(owner)
        talk.connection.sendall(get(sid))
        assert here.tell(other, "closeSession", sid) is True
        assert talk.response() == (200, b"1")
        assert here.whyClosed(sid) == "forced close"
        # By a second GET at another worker.
        sid = here.open(owner)
        talk.connection.sendall(get(sid))
        waits(here, talk, sid, owner)
        second = here.connect(owner)
        second.connection.sendall(get(sid))
        assert second.response()[0] == 400
        assert talk.response() == (200, b"1")
        assert here.whyClosed(sid) == "transport error"
        # By a poll that is dropped.
        sid = here.open(owner)
        talk = here.connect(other)
        talk.connection.sendall(get(sid))
        waits(here, talk, sid, owner)
        here.close(talk)
        assert here.whyClosed(sid) == "transport error"


def waits(here: Fleet, talk: Talk, sid: str, owner: int) -> None:
    """Wait until the request that a client has just sent waits at the owner."""
    assert here.tell(owner, "sendTo", sid, "is there") is True
    assert talk.response() == (200, b"4is there")
    talk.connection.sendall(get(sid))
    # It comes behind the request on the same connections, or on the link: the session is asked twice.
    while not here.tell(owner, "isPolled", sid):
        pass


IDS = [
    "nobody",
    "4-AAAAAAAAAAAAAAAAAAAA",
    "1-AAAAAAAAAAAAAAAAAAAA",
    "01-AAAA",
    "0-AAAA",
    "2147483648-A",
    "2-",
    "%32-A",
    "x" * 99,
]


def test_unknownIds(here: Fleet) -> None:
    """An id of nobody, of the future, or forged is refused on the spot, without a word to a worker that isn't named."""
    for worker in WORKERS:
        others = [each for each in WORKERS if each != worker]
        for sid in IDS:
            talk = here.connect(worker)
            named = sid.replace("%32", "2").partition("-")[0]
            with standing(here, *[each for each in others if str(each) != named]):
                for request in (get(sid), postOf(sid, "4x")):
                    talk.connection.sendall(request)
                    assert talk.response() == (400, b'{"code":1,"message":"Session ID unknown"}'), sid
        talk = here.connect(worker)
        with standing(here, *others):
            talk.connection.sendall(http("GET", target(sid="1-A") + "&sid=2-A"))
            status, body = talk.response()
            assert status == 400
            assert b"unknown" not in body


def test_upgrading(here: Fleet) -> None:
    """A WebSocket at the wrong worker takes a session over with what waits, both ways, and carries large messages."""
    for owner, other in PAIRS:
        sid = here.open(owner)
        waiting = here.connect(other)
        waiting.connection.sendall(get(sid))
        socket = here.connect(other)
        openWebSocket(socket, sid)
        assertServedBy(here, socket, owner, other)
        # The client goes on when no poll of its waits.
        assert waiting.response() == (200, b"6")
        assert post(waiting, sid, "4by polling") == (200, b"ok")
        socket.connection.sendall(makeFrame("5") + makeFrame("4by WebSocket") + makeFrame(b"\x00\x01\xff"))
        assert [socket.frame()[1] for _ in range(3)] == [b"4by polling", b"4by WebSocket", b"\x00\x01\xff"]
        socket.connection.sendall(makeFrame("4" + LARGE))
        assert socket.frame() == (1, ("4" + LARGE).encode())
        # Polling is over.
        waiting.connection.sendall(get(sid))
        assert waiting.response()[0] == 400
        assert here.tell(other, "closeSession", sid) is True
        assert socket.frame()[0] == CLOSE


def story(here: Fleet, owner: int, front: int) -> list[tuple[int, bytes]]:
    """What a client gets for requests of every form."""
    found = []
    talk = here.connect(front)

    def ask(request: bytes) -> None:
        talk.connection.sendall(request)
        status, body = talk.response()
        found.append((status, body.replace(sid.encode(), b"SID")))

    sid = here.open(owner)
    ask(postOf(sid, "4" + LARGE))
    ask(get(sid))
    ask(postOf(sid, "bAAEC/w==\x1e4text"))
    ask(get(sid))
    ask(postOf(sid, "x"))
    ask(get(sid))
    sid = here.open(owner)
    ask(http("POST", target(sid=sid, j=0), [("Content-Type", "application/x-www-form-urlencoded")], form("4by a form")))
    ask(get(sid, j=0))
    ask(http("PUT", target(sid=sid)))
    ask(http("OPTIONS", target(sid=sid)))
    ask(get(sid, EIO=3))
    ask(get(sid, transport="pigeon"))
    ask(postOf(sid, "4" + "x" * 2_000_000))
    talk = here.connect(front)
    ask(get(sid))
    opening = here.connect(owner)
    sid = opening.ask(http("GET", target(EIO=3))).decode().partition('"sid":"')[2].partition('"')[0]
    assert sid.startswith(f"{owner}-")
    ask(postOf(sid, "6:4hello10:b4AAEC/w==", EIO=3))
    ask(get(sid, EIO=3, b64=1))
    ask(postOf(sid, "1:2", EIO=3))
    ask(get(sid, EIO=3, b64=1))
    ask(postOf(sid, "1:1", EIO=3))
    return found


def form(packets: str) -> bytes:
    return b"d=" + quote(packets).encode()


def test_requestsOfEachForm(here: Fleet) -> None:
    """Large bodies, binary, JSONP, revision 3 and refusals get at the wrong worker what they get at the owner."""
    wanted = story(here, 1, 1)
    assert [status for status, _ in wanted[:5]] == [200, 200, 200, 200, 400]
    assert wanted[1] == (200, ("4" + LARGE).encode())
    assert wanted[3] == (200, b"bAAEC/w==\x1e4text")
    for owner, other in PAIRS:
        assert story(here, owner, other) == wanted


COUNT = 3400


def test_toAll(here: Fleet) -> None:
    """What workers broadcast comes to all sessions, once, and in the order of each; so do messages to one session."""
    sockets: dict[int, Talk] = {}
    sids: dict[int, str] = {}
    for owner in WORKERS:
        sids[owner] = here.open(owner)
        sockets[owner] = here.connect(owner % 3 + 1)
        openWebSocket(sockets[owner], sids[owner])
        sockets[owner].connection.sendall(makeFrame("5") + makeFrame("4there"))
        assert sockets[owner].frame() == (1, b"4there")
    for origin in WORKERS:
        sockets[origin].connection.sendall(makeFrame(f'4!["broadcast", "{origin} ", {COUNT}]'))
    for talk in sockets.values():
        got = defaultdict(list)
        for _ in range(3 * COUNT):
            _, data = talk.frame()
            origin, _, number = data[1:].decode().partition(" ")
            got[int(origin)].append(int(number))
        assert got == {origin: list(range(COUNT)) for origin in WORKERS}
    here._tellers.clear()
    for origin in WORKERS:
        for owner, sid in sids.items():
            assert here.tell(origin, "sendTo", sid, f"from {origin}") is True
            assert sockets[owner].frame() == (1, f"4from {origin}".encode())
        assert here.tell(origin, "sendTo", "1-unknown", "lost") is False
        assert here.tell(origin, "sendTo", "9-unknown", "lost") is False
    for origin in WORKERS:
        owner = origin % 3 + 1
        assert here.tell(origin, "closeSession", sids[owner]) is True
        assert sockets[owner].frame()[0] == CLOSE
        assert here.tell(origin, "closeSession", sids[owner]) is False
