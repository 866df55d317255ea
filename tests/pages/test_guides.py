"""The programs of the guides do what the guides say of them: each is served in memory, to clients that talk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from ..kit.markdown import blocksOf
from ..kit.memory import Memory, connectTo
from ..kit.wire import TEXT, framesOf, http, makeFrame, target, upgrade

GUIDES = Path(__file__).parents[2] / "docs"


def program(page: str, heading: str) -> dict[str, Any]:
    """What the first program below a heading makes."""
    path = GUIDES / page
    below = path.read_text(encoding="utf-8").splitlines().index(f"## {heading}")
    block = next(each for each in blocksOf(path) if each.language == "python" and each.line > below)
    made: dict[str, Any] = {}
    exec(compile(block.text, str(block), "exec"), made)
    return made


def serve(application: Callable[..., object], *arguments: Any, **options: Any) -> Memory:
    """A server in memory with an application, and no other."""
    memory = Memory(**options)
    memory.server.removeListener("connection", memory._opened)
    application(memory.server, *arguments)
    return memory


class Talker:
    """A client on WebSocket."""

    def __init__(self, memory: Memory, query: str = "") -> None:
        self.connection = memory.connect(upgrade(f"/engine.io/?EIO=4&transport=websocket{query}"))
        head, _, frames = self.connection.taken().partition(b"\r\n\r\n")
        assert b" 101 " in head, head
        opened, *self._heard = framesOf(frames)
        assert opened.text.startswith('0{"sid":')

    def say(self, message: str | bytes) -> None:
        self.connection.say(makeFrame(message if isinstance(message, bytes) else f"4{message}"))

    def heard(self) -> list[str | bytes]:
        """The messages since this was last asked."""
        frames = [*self._heard, *framesOf(self.connection.taken())]
        self._heard = []
        return [each.text[1:] if each.opcode == TEXT else each.payload for each in frames if each.payload != b"2"]


class Poller:
    """A client on polling, which asks when it is told to."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.sid = json.loads(self.ask(target())[1:])["sid"]

    def ask(self, where: str) -> str:
        head, _, body = self._memory.connect(http("GET", where)).taken().partition(b"\r\n\r\n")
        assert b" 200 " in head, head
        return body.decode()

    def poll(self) -> list[str]:
        return [each[1:] for each in self.ask(target(sid=self.sid)).split("\x1e") if each != "2"]


def test_toOneAndToAll() -> None:
    """A newcomer is greeted, others hear of them; text goes to everybody, and bytes back."""
    memory = serve(program("messages.md", "Send, receive, broadcast")["application"])
    first, second = Talker(memory), Talker(memory)
    assert first.heard() == ["for you alone", "somebody has come"]
    assert second.heard() == ["for you alone"]
    first.say("hello")
    first.say(b"\x01\x02")
    assert first.heard() == ["hello", b"\x02\x01"]
    assert second.heard() == ["hello"]


def test_json(loggedErrors: Any) -> None:
    """Whatever comes, there is an answer, and nothing in the log."""
    memory = serve(program("messages.md", "JSON")["application"])
    talker = Talker(memory)
    for sent in ('{"number": 21}', "{", "5", "[]", '{"number": "a"}', "[" * 100_000, b"\xff"):
        talker.say(sent)
    answers = [json.loads(each) for each in talker.heard()]
    assert answers[0] == {"double": 42}
    assert [list(each) for each in answers[1:]] == [["error"]] * 6


def test_requests() -> None:
    """A response has the id of its request; who asks for what isn't there is out, and others are not."""
    memory = serve(program("messages.md", "Requests and responses")["application"])
    first, second = Talker(memory), Talker(memory)
    for number in (1, 2):
        first.say(json.dumps({"id": number, "method": "double", "value": 10 * number}))
    assert [json.loads(str(each)) for each in first.heard()] == [{"id": 1, "result": 20}, {"id": 2, "result": 40}]
    first.say(json.dumps({"id": 3, "method": "halve", "value": 10}))
    second.say(json.dumps({"id": 4, "method": "double", "value": 3}))
    assert [json.loads(str(each)) for each in second.heard()] == [{"id": 4, "result": 6}]
    assert len(memory.server.clients) == 1


def test_rooms() -> None:
    """Who is in a room hears the others in it, and nobody else does; who has gone is not spoken to."""
    memory = serve(program("messages.md", "Rooms")["application"])
    ann, bob, carl = Talker(memory, "&room=garden"), Talker(memory, "&room=garden"), Talker(memory)
    ann.say("hello")
    assert (ann.heard(), bob.heard(), carl.heard()) == ([], ["hello"], [])
    bob.connection.lose()
    ann.say("still there?")
    ann.connection.lose()
    again = Talker(memory, "&room=garden")
    again.say("nobody?")
    assert (again.heard(), carl.heard()) == ([], [])


def test_periodic() -> None:
    """Each client hears how many there are, as long as it is there."""
    memory = serve(program("messages.md", "Periodic messages")["application"])
    first, second = Talker(memory), Talker(memory)
    memory.advance(10)
    assert (first.heard(), second.heard()) == (["2 online"], ["2 online"])
    second.connection.lose()
    memory.advance(10)
    assert (first.heard(), second.heard()) == (["1 online"], [])


def test_whoIsSlowGetsFewer() -> None:
    """Who takes what comes gets each; who doesn't ask gets the newest alone. It ends with the session."""
    application = program("backpressure.md", "Send only the newest value")["application"]
    numbers = iter(range(1000))
    memory = serve(application, lambda: str(next(numbers)))
    talker = Talker(memory)
    memory.advance(1)
    memory.advance(1)
    assert talker.heard() == ["0", "1", "2"]
    talker.connection.lose()
    poller = Poller(memory)
    for _ in range(10):
        memory.advance(1)
    asked = memory.connect(http("GET", target(sid=poller.sid)))
    memory.advance(1)
    assert asked.taken().partition(b"\r\n\r\n")[2] == b"43"
    (socket,) = memory.server.clients.values()
    socket.close(discard=True)
    memory.advance(60)
    assert next(numbers) == 4


def test_allOfIt() -> None:
    """Every page arrives, in order, whatever the pace; and no more waits than the client takes."""
    pages = [f"page {number} " + "x" * 1000 for number in range(500)]
    memory = serve(
        program("backpressure.md", "Send everything at the client's pace")["application"], lambda: iter(pages)
    )
    poller = Poller(memory)
    (socket,) = memory.server.clients.values()
    got: list[str] = []
    while len(got) < len(pages):
        assert len(socket.writeBuffer) < 100
        got += poller.poll()
    assert got == pages
    talker = Talker(memory)
    assert talker.heard() == pages


def test_aFile(tmp_path: Path) -> None:
    """The file arrives whole, and then what is said behind it."""
    data = bytes(range(256)) * 2000
    (tmp_path / "large.bin").write_bytes(data)
    application = program("backpressure.md", "Stream a file or another connection")["application"]
    memory = serve(application, str(tmp_path / "large.bin"))
    talker = Talker(memory)
    heard: list[str | bytes] = []
    for _ in range(100):
        memory.advance(0)
        heard += talker.heard()
        if heard and heard[-1] == "end of file":
            break
    assert heard.pop() == "end of file"
    assert b"".join(each for each in heard if isinstance(each, bytes)) == data


def test_heldBack() -> None:
    """The next message is taken when the one before is stored, and not before."""
    stored: list[tuple[str, Deferred[None]]] = []

    def store(data: str) -> Deferred[None]:
        stored.append((data, Deferred()))
        return stored[-1][1]

    memory = serve(program("backpressure.md", "Slow down a client")["application"], store)
    talker = Talker(memory)
    talker.say("one")
    talker.say("two")
    assert [data for data, _ in stored] == ["one"]
    stored[0][1].callback(None)
    memory.advance(0)
    memory.settle()
    assert [data for data, _ in stored] == ["one", "two"]
    stored[1][1].callback(None)
    memory.advance(0)
    talker.connection.lose()


@pytest.fixture
def reactor(monkeypatch: pytest.MonkeyPatch) -> MemoryReactorClock:
    reactor = MemoryReactorClock()
    monkeypatch.setattr("twisted.internet.reactor", reactor)
    return reactor


def test_byACookie(reactor: Any) -> None:
    """Without the cookie 403 and the reason, with it a session that knows who it is."""
    program("authentication.md", "Cookies")
    site = reactor.tcpServers[0][1]
    for cookie, status, said in (
        ("", b" 403 ", b'{"code":4,"message":"log in first"}'),
        ("login=other", b" 403 ", b'{"code":4,"message":"log in first"}'),
        ("login=5f1c0e", b" 200 ", b"4hello, ann"),
    ):
        connection = connectTo(site)
        connection.say(http("GET", target(), [("Cookie", cookie)] if cookie else []))
        head, _, body = connection.taken().partition(b"\r\n\r\n")
        assert status in head
        if status == b" 200 ":
            connection.say(http("GET", target(sid=json.loads(body[1:].split(b"\x1e")[0])["sid"])))
            body += connection.taken()
        assert said in body
        connection.lose()


def test_byAToken() -> None:
    """Only the token opens."""
    memory = Memory(allowRequest=program("authentication.md", "Tokens")["allowRequest"])
    for sent, status in (("Bearer ef92b778bafe771e", b" 200 "), ("Bearer other", b" 403 "), ("é", b" 403 ")):
        connection = memory.connect(http("GET", target(), [("Authorization", sent)]))
        assert status in connection.taken().partition(b"\r\n")[0]


def test_byTheFirstMessage() -> None:
    """Who says the right thing stays, who says another or nothing goes."""
    application = program("authentication.md", "The first message")["application"]
    memory = serve(application, lambda data: data == "right")
    known, unknown, silent = Talker(memory), Talker(memory), Talker(memory)
    known.say("right")
    unknown.say("wrong")
    assert len(memory.server.clients) == 2
    memory.advance(10)
    assert [socket.readyState for socket in memory.server.clients.values()] == ["open"]
    for each in (known, unknown, silent):
        each.connection.lose()


def test_loggedOut() -> None:
    """All sessions of one user end, and nobody else's."""
    given: list[Callable[[str], None]] = []
    made = program("authentication.md", "Disconnecting a user who has logged out")
    users = iter(["ann", "bob", "ann"])
    memory = serve(lambda server: given.append(made["application"](server, lambda request: next(users))))
    for _ in range(3):
        Talker(memory)
    given[0]("ann")
    assert len(memory.server.clients) == 1
    given[0]("nobody")
    given[0]("bob")
    assert memory.server.clients == {}
