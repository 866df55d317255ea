"""The JavaScript client of revision 3, engine.io-client 3 under Node.js, against the server; and client 5."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import pytest_twisted

from ..kit.clients import (
    TRANSPORTS,
    Application,
    Message,
    Run,
    assertTransport,
    assertUneventful,
    firstDifference,
    overEveryTransport,
    pack,
    sentDuring,
)

pytestmark = pytest.mark.node

BOTH = TRANSPORTS["upgrade"]

# How a client takes binary. Under Node.js client 3 does so over WebSocket alone, and asks for base64 where it polls;
# in browsers it polls in bytes too, and so it does here with requests that can carry them.
FORMS: dict[str, dict[str, Any]] = {
    "node": {},
    "bytes": {"xhr2": True},
    "base64": {"options": {"forceBase64": True}},
}

inEveryForm = pytest.mark.parametrize("form", FORMS)

# What differs between transports: WebSocket alone is the same under Node.js and in browsers.
overEveryTransportInEveryForm = pytest.mark.parametrize(
    ("transports", "form"),
    [
        pytest.param(transports, form, id=f"{name}-{form}")
        for name, transports in TRANSPORTS.items()
        for form in FORMS
        if (name, form) != ("websocket", "bytes")
    ],
)


@pytest.fixture
def client(anyClient: Run) -> Run:
    """Start client 3 in a scenario of client.mjs: `client(url, "echo", transports, messages=...)`."""
    return partial(anyClient, client="engine.io-client-3")


class Traffic:
    """The types of content that a server's requests and answers had; give it to `serve` with an application."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self.posted: set[str] = set()
        self.polled: set[str] = set()

    def __call__(self, server: Any) -> None:
        self._application(server)
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


@overEveryTransportInEveryForm
@pytest_twisted.ensureDeferred
async def test_echo(serve: Any, client: Run, transports: list[str], form: str) -> None:
    """Texts and bytes that a client sends in one go arrive unchanged and in order, and so does what comes back."""
    application = Application()
    traffic = Traffic(application)
    running = await serve(traffic, allowEIO3=True)
    program = client(running.url, "echo", transports, messages=[pack(message) for message in MIXED], **FORMS[form])
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert session.socket.protocol == 3
    assert firstDifference(session.messages, MIXED) is None
    assert firstDifference(program.messages, MIXED) is None
    assertUneventful(program, transports)
    assertTransport(session, transports)
    if transports == ["polling"]:
        # Texts and bytes went together, in both directions, in the form that this is about.
        isBinary = form == "bytes"
        assert ("application/octet-stream" in traffic.posted) is isBinary
        assert ("application/octet-stream" in traffic.polled) is isBinary


LARGE: dict[str, Message] = {
    # Five of JavaScript's characters, four of Unicode's, nine bytes.
    "text": "aé€😀" * 50_000,
    "binary": bytes(range(250)) * 2_000,
}


@overEveryTransportInEveryForm
@pytest.mark.parametrize("message", LARGE.values(), ids=LARGE)
@pytest_twisted.ensureDeferred
async def test_large(serve: Any, client: Run, transports: list[str], form: str, message: Message) -> None:
    """A message of several hundred kilobytes arrives whole, and so does its echo."""
    application = Application()
    running = await serve(application, allowEIO3=True)
    program = client(running.url, "echo", transports, messages=[pack(message)], **FORMS[form])
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert firstDifference(session.messages, [message]) is None
    assert firstDifference(program.messages, [message]) is None
    assertUneventful(program, transports)
    assertTransport(session, transports)


@overEveryTransportInEveryForm
@pytest_twisted.ensureDeferred
async def test_burstFromServer(serve: Any, client: Run, transports: list[str], form: str) -> None:
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
        if len(transports) > 1:
            socket.on("upgrade", lambda transport: socket.send("last"))
        else:
            socket.send("last")

    application = Application(handler, echo=False)
    traffic = Traffic(application)
    running = await serve(traffic, allowEIO3=True)
    program = client(running.url, "listen", transports, last="last", **FORMS[form])
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert len(sent) == len(MIXED) * (3 if len(transports) > 1 else 1)
    assert firstDifference(program.messages, [*sent, "last"]) is None
    assertUneventful(program, transports)
    assertTransport(session, transports)
    if transports[0] == "polling":
        assert ("application/octet-stream" in traffic.polled) is (form == "bytes")


@inEveryForm
@pytest_twisted.ensureDeferred
async def test_sendDuringUpgrade(serve: Any, client: Run, form: str) -> None:
    """A client that sends all through the upgrade, and gets everything echoed, loses nothing and sees nothing twice."""
    application = Application()
    running = await serve(application, allowEIO3=True)
    program = client(running.url, "during", BOTH, **FORMS[form])
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    wanted = sentDuring(program)
    assert firstDifference(session.messages, wanted) is None
    assert firstDifference(program.messages, wanted) is None
    assert program.names == ["open", "upgrading", "upgrade", "sent", "close"]
    # Otherwise this would have tested something else.
    assert 0 < session.beforeUpgrade < len(wanted)
    assertTransport(session, BOTH)


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_clientPings(serve: Any, client: Run, transports: list[str]) -> None:
    """A client that says nothing stays connected by its own pings, which the server answers."""
    application = Application(echo=False)
    running = await serve(application, allowEIO3=True, pingInterval=50, pingTimeout=10_000)
    program = client(running.url, "listen", transports, last="last")
    session = await application.session()
    socket = session.socket
    heartbeats: list[str] = []
    packets: list[str] = []

    def heartbeat() -> None:
        heartbeats.append(socket.transport.name)
        # This client sends no second ping without an answer to the first.
        if heartbeats.count(transports[-1]) == 5:
            socket.send("last")

    socket.on("heartbeat", heartbeat)
    socket.on("packet", lambda packet: packets.append(f"in {packet.type.name}"))
    socket.on("packetCreate", lambda packet: packets.append(f"out {packet.type.name}"))
    assert await session.closed() == "transport close"
    await program.finish()
    assert socket.protocol == 3
    assert program.messages == ["last"]
    pings = len(heartbeats)
    assert packets == ["in PING", "out PONG"] * (pings - 1) + ["in PING", "out PONG", "out MESSAGE"]
    assertUneventful(program, transports)
    assertTransport(session, transports)


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_pingsKeepSessionAlive(serve: Any, client: Run) -> None:
    """A client that pings outlives the time in which one that doesn't is closed."""
    from twisted.internet import reactor

    application = Application(echo=False)
    running = await serve(application, allowEIO3=True, pingInterval=100, pingTimeout=3000)
    program = client(running.url, "listen", BOTH, last="last")
    session = await application.session()
    end = reactor.seconds() + 3.3

    def heartbeat() -> None:
        if reactor.seconds() > end:
            session.socket.send("last")

    session.socket.on("heartbeat", heartbeat)
    assert await session.closed() == "transport close"
    await program.finish()
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


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_clientCloses(serve: Any, client: Run, transports: list[str]) -> None:
    """A client that leaves is gone from the server at once, for the reason `transport close`, told once."""
    application = Application()
    running = await serve(application, allowEIO3=True)
    when = "upgrade" if len(transports) > 1 else "open"
    program = client(running.url, "leave", transports, when=when)
    session = await application.session()
    assert await session.closed() == "transport close"
    # Ends by itself: the server has ended the request that waited, or its side of the WebSocket.
    await program.finish()
    assert program.named("close") == [{"event": "close", "reason": "forced close"}]
    assertUneventful(program, transports)
    assertTransport(session, transports)
    assert session.happened.count("close: transport close") == 1
    assert running.server.clientsCount == 0


@pytest.mark.parametrize("when", ["open", "upgrading"])
@pytest_twisted.ensureDeferred
async def test_clientClosesBeforeUpgrade(serve: Any, client: Run, when: str) -> None:
    """A client that leaves while it would upgrade is gone from the server, for the reason `transport close`."""
    application = Application()
    running = await serve(application, allowEIO3=True)
    program = client(running.url, "leave", BOTH, when=when)
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert program.named("close") == [{"event": "close", "reason": "forced close"}]
    assert session.happened.count("close: transport close") == 1
    assert running.server.clientsCount == 0


@overEveryTransportInEveryForm
@pytest_twisted.ensureDeferred
async def test_serverCloses(serve: Any, client: Run, transports: list[str], form: str) -> None:
    """When the server closes, the client still gets what was sent before, and then notices the end."""
    goodbyes: list[Message] = ["goodbye 😀", b"goodbye", "", b"", "last"]

    def leave(socket: Any, *_: object) -> None:
        for message in goodbyes:
            socket.send(message)
        socket.close()

    def handler(socket: Any) -> None:
        if len(transports) > 1:
            socket.on("upgrade", lambda transport: leave(socket))
        else:
            leave(socket)

    application = Application(handler)
    running = await serve(application, allowEIO3=True)
    program = client(running.url, "listen", transports, **FORMS[form])
    session = await application.session()
    assert await session.closed() == "forced close"
    await program.finish()
    assert program.messages == goodbyes
    assert program.named("close") == [{"event": "close", "reason": "transport close"}]
    assertUneventful(program, transports)
    assertTransport(session, transports)
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
        assertUneventful(program, transports)
        assertTransport(session, transports)
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
    application = Application()
    running = await serve(application, allowEIO3=True)
    messages: list[Message] = ["hello 😀", bytes(range(256)), "", b"", "0123456789abcdé" * 20_000]
    program = anyClient(
        running.url, "echo", transports, messages=[pack(each) for each in messages], client="engine.io-client-5"
    )
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert session.socket.protocol == 4
    assert firstDifference(session.messages, messages) is None
    assert firstDifference(program.messages, messages) is None
    assertUneventful(program, transports)
    assertTransport(session, transports)
