"""The JavaScript client of revision 3, engine.io-client 3 under Node.js, against the server; and client 5."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import pytest_twisted

from ..kit.clients import (
    BOTH,
    FORMS_OF_3,
    KINDS,
    LARGE,
    Application,
    Kind,
    Message,
    Run,
    assertUneventful,
    assertWentWell,
    echoed,
    firstDifference,
    heard,
    ofKindsOverTransports,
    onceSettled,
    overEveryTransport,
    pack,
)

pytestmark = pytest.mark.node

inEveryForm = ofKindsOverTransports(*FORMS_OF_3)


@pytest.fixture
def client(anyClient: Run) -> Run:
    """Start client 3 in a scenario of client.mjs: `client(url, "echo", transports, messages=...)`."""
    return partial(anyClient, client="engine.io-client-3")


class Traffic:
    """The types of content that a server's requests and answers had; called with the server."""

    def __init__(self) -> None:
        self.posted: set[str] = set()
        self.polled: set[str] = set()

    def __call__(self, server: Any) -> None:
        server.on("headers", self._answered)

    def _answered(self, headers: Any, request: Any) -> None:
        if request.method == b"POST":
            self.posted.add(request.getHeader("content-type"))
        elif "content-type" in headers:
            self.polled.add(headers["content-type"])


MIXED: list[Message] = [
    "hello",
    bytes(range(256)),
    "",
    b"",
    # Two, three and four bytes of UTF-8, one and two units of UTF-16, and what separates packets or lengths elsewhere.
    "é € 😀 👩‍👩‍👧‍👦 日本語 \u2028\u2029 \\n \n \x00 \x1e 12:4 \ue000\uffff\U0010ffff",
    b"\x00\xff\x01\x04\xff4:4a",
    "b4",
    "4",
    b"b4AQID",
    "😀",
    *(f"{number} 😀" if number % 2 else bytes([number]) * number for number in range(100)),
]


@inEveryForm
@pytest_twisted.ensureDeferred
async def test_echo(serve: Any, client: Run, transports: list[str], kind: Kind) -> None:
    """Texts and bytes that a client sends in one go arrive unchanged and in order, and so does what comes back."""
    traffic = Traffic()
    session, program = await echoed(serve, client, transports, MIXED, traffic, given=kind.given, **kind.options)
    assert session.socket.protocol == 3
    assertWentWell(program, session, transports)
    if transports == ["polling"]:
        # Texts and bytes went together, in both directions, in the form that this is about.
        isBinary = kind is KINDS["client 3 in bytes"]
        assert ("application/octet-stream" in traffic.posted) is isBinary
        assert ("application/octet-stream" in traffic.polled) is isBinary


# Five of JavaScript's characters, four of Unicode's, nine bytes.
@pytest.mark.parametrize("message", ["aé€😀" * 50_000, LARGE["binary"]], ids=["text", "binary"])
@inEveryForm
@pytest_twisted.ensureDeferred
async def test_large(serve: Any, client: Run, transports: list[str], kind: Kind, message: Message) -> None:
    """A message of several hundred kilobytes arrives whole, and so does its echo."""
    session, program = await echoed(serve, client, transports, [message], given=kind.given, **kind.options)
    assertWentWell(program, session, transports)


@inEveryForm
@pytest_twisted.ensureDeferred
async def test_burstFromServer(serve: Any, client: Run, transports: list[str], kind: Kind) -> None:
    """Texts and bytes that the server sends at the connection, in the upgrade and after it arrive once, in order."""
    sent: list[Message] = []

    def handler(socket: Any) -> None:
        def burst(transport: object = None) -> None:
            for message in MIXED:
                sent.append(message)
                socket.send(message)

        burst()
        socket.on("upgrading", burst)
        socket.on("upgrade", burst)
        onceSettled(transports, lambda socket: socket.send("last"))(socket)

    traffic = Traffic()
    session, program = await heard(serve, client, transports, handler, traffic, given=kind.given, **kind.options)
    assert len(sent) == len(MIXED) * (3 if len(transports) > 1 else 1)
    assert firstDifference(program.messages, [*sent, "last"]) is None
    assertWentWell(program, session, transports)
    if transports[0] == "polling":
        assert ("application/octet-stream" in traffic.polled) is (kind is KINDS["client 3 in bytes"])


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_clientPings(serve: Any, client: Run, transports: list[str]) -> None:
    """A client that says nothing stays connected by its own pings, which the server answers."""
    heartbeats: list[str] = []
    packets: list[str] = []

    def handler(socket: Any) -> None:
        def heartbeat() -> None:
            heartbeats.append(socket.transport.name)
            # This client sends no second ping without an answer to the first.
            if heartbeats.count(transports[-1]) == 5:
                socket.send("last")

        socket.on("heartbeat", heartbeat)
        socket.on("packet", lambda packet: packets.append(f"in {packet.type.name}"))
        socket.on("packetCreate", lambda packet: packets.append(f"out {packet.type.name}"))

    options = {"allowEIO3": True, "pingInterval": 50, "pingTimeout": 10_000}
    session, program = await heard(serve, client, transports, handler, **options)
    assert session.socket.protocol == 3
    assert program.messages == ["last"]
    pings = len(heartbeats)
    assert packets == ["in PING", "out PONG"] * (pings - 1) + ["in PING", "out PONG", "out MESSAGE"]
    assertWentWell(program, session, transports)


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_pingsKeepSessionAlive(serve: Any, client: Run) -> None:
    """A client that pings outlives the time in which one that doesn't is closed."""
    from twisted.internet import reactor

    end = reactor.seconds() + 3.3

    def handler(socket: Any) -> None:
        socket.on("heartbeat", lambda: socket.send("last") and None if reactor.seconds() > end else None)

    options = {"allowEIO3": True, "pingInterval": 100, "pingTimeout": 3000}
    _, program = await heard(serve, client, BOTH, handler, **options)
    assert program.messages == ["last"]
    assertUneventful(program, BOTH)


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_clientStopsPinging(serve: Any, client: Run, transports: list[str]) -> None:
    """A client that sends no ping is closed by the server, for the reason `ping timeout`, and notices."""
    from twisted.internet import reactor

    opened: list[float] = []
    application = Application(lambda socket: opened.append(reactor.seconds()))
    running = await serve(application, allowEIO3=True, pingInterval=300, pingTimeout=200)
    program = client(running.url, "mute", transports)
    session = await application.session()
    assert await session.closed() == "ping timeout"
    # Not after pingTimeout alone, which is the time for an answer. The timer was started before the event.
    assert reactor.seconds() - opened[0] > 0.4
    await program.finish()
    assert [each["reason"] for each in program.named("close")] == ["transport close"]
    assert running.server.clientsCount == 0


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest_twisted.ensureDeferred
async def test_refused(serve: Any, client: Run, transport: str) -> None:
    """Without `allowEIO3` a client of revision 3 sees an error, and the application a refusal with code 5."""
    refusals: list[Any] = []
    running = await serve(lambda server: server.on("connection_error", refusals.append))
    program = client(running.url, "listen", [transport], answers=True)
    await program.finish()
    assert program.names == ["error", "close"]
    assert program.named("error")[0]["message"] == {"polling": "xhr poll error"}.get(transport, "websocket error")
    assert program.named("close") == [{"event": "close", "reason": "transport error"}]
    assert [each["status"] for each in program.named("answer")] == [400]
    (refusal,) = refusals
    assert (refusal.code, refusal.message, refusal.context) == (5, "Unsupported protocol version", {"protocol": 3})
    assert running.server.clientsCount == 0


class Relay:
    """Passes the messages of two sessions from each to the other, from when both have sent one."""

    def __init__(self) -> None:
        self._messages: dict[Any, list[Message]] = {}
        # The revisions of the sessions in the server when both had sent something.
        self.together: list[int] = []

    def __call__(self, socket: Any) -> None:
        socket.on("message", lambda message: self._relay(socket, message))

    def _relay(self, sender: Any, message: Message) -> None:
        self._messages.setdefault(sender, []).append(message)
        if len(self._messages) < 2:
            return
        if not self.together:
            self.together = sorted(each.protocol for each in sender.server.clients.values())
        one, other = self._messages
        for sender, receiver in ((one, other), (other, one)):
            messages, self._messages[sender] = self._messages[sender], []
            for each in messages:
                receiver.send(each)


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_bothRevisions(serve: Any, client: Run, anyClient: Run, transports: list[str]) -> None:
    """Clients of both revisions are in one server at the same time, and talk to each other in texts and bytes."""
    relay = Relay()
    application = Application(relay, echo=False)
    running = await serve(application, allowEIO3=True)
    # Over polling, text with U+001E is cut in revision 4, which has it between packets.
    common = [pack(each) for each in MIXED if not isinstance(each, str) or "\x1e" not in each]
    three = client(running.url, "echo", transports, messages=[pack("from 3"), *common], xhr2=True)
    six = anyClient(running.url, "echo", transports, messages=[pack("from 6"), *common])
    sessions = {each.socket.protocol: each for each in [await application.session(), await application.session()]}
    for program, session in ((three, sessions[3]), (six, sessions[4])):
        assert await session.closed() == "transport close"
        await program.finish()
        assertWentWell(program, session, transports)
    assert relay.together == [3, 4]
    assert three.messages[0] == "from 6"
    assert six.messages[0] == "from 3"
    for program in (three, six):
        assert firstDifference([pack(each) for each in program.messages[1:]], common) is None
    assert running.server.clientsCount == 0


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_client5(serve: Any, anyClient: Run, transports: list[str]) -> None:
    """Client 5, of revision 4, gets its texts and bytes back where revision 3 is allowed as well."""
    messages: list[Message] = ["hello 😀", bytes(range(256)), "", b"", "0123456789abcdé" * 20_000]
    given = {"client": "engine.io-client-5"}
    session, program = await echoed(serve, anyClient, transports, messages, given=given, allowEIO3=True)
    assert session.socket.protocol == 4
    assertWentWell(program, session, transports)
