"""The stock JavaScript client, engine.io-client 6 under Node.js, against the server."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Cooperator

from ..kit.clients import (
    INTEROP,
    TRANSPORTS,
    Application,
    Message,
    Run,
    assertTransport,
    assertUneventful,
    firstDifference,
    overEveryTransport,
    pack,
    pythonPath,
    sentDuring,
)

pytestmark = pytest.mark.node

MESSAGES: dict[str, Message] = {
    "text": "hello",
    "binary": bytes(range(256)),
    "empty text": "",
    "empty binary": b"",
    # Two, three and four bytes of UTF-8, a sequence of code points, and what separates packets elsewhere.
    "multi-byte": "é € 😀 👩‍👩‍👧‍👦 日本語 \u2028\u2029 \\n \n \x00",
    "large text": "0123456789abcdé" * 33_333,
    "large binary": bytes(range(250)) * 2_000,
}


@overEveryTransport
@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
@pytest_twisted.ensureDeferred
async def test_echo(serve: Any, client: Run, transports: list[str], message: Message) -> None:
    """Whatever a client sends arrives unchanged and of the same kind, and so does what the server sends back."""
    application = Application()
    running = await serve(application)
    program = client(running.url, "echo", transports, messages=[pack(message)])
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert firstDifference(session.messages, [message]) is None
    assert firstDifference(program.messages, [message]) is None
    assertUneventful(program, transports)
    assertTransport(session, transports)


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_protocols(serve: Any, client: Run, transports: list[str]) -> None:
    """A client that offers subprotocols for its WebSocket gets the first: without one it would fail the connection."""
    application = Application()
    running = await serve(application)
    program = client(
        running.url, "echo", transports, messages=[pack("hello")], options={"protocols": ["chat", "other"]}
    )
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert program.messages == ["hello"]
    assertUneventful(program, transports)
    assertTransport(session, transports)


def manyMessages() -> list[Message]:
    """Ten thousand messages, all different; every tenth is binary."""
    texts = [f"message {number}" for number in range(10_000)]
    return [text if number % 10 else text.encode() for number, text in enumerate(texts)]


@overEveryTransport
@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_manyFromClient(serve: Any, client: Run, transports: list[str]) -> None:
    """Ten thousand messages sent in one go reach the server in order, and their echoes reach the client in order."""
    application = Application()
    running = await serve(application)
    many = manyMessages()
    program = client(running.url, "echo", transports, messages=[pack(message) for message in many])
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert firstDifference(session.messages, many) is None
    assert firstDifference(program.messages, many) is None
    assertUneventful(program, transports)
    assertTransport(session, transports)


@pytest.mark.parametrize("package", ["engine.io-client", "engine.io-client-5", "engine.io-client-3"])
@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_manyInOnePost(serve: Any, anyClient: Run, package: str) -> None:
    """Fifty thousand messages of a character, which clients put into one POST, are delivered."""
    count = 50_000
    came: list[Any] = []

    def counting(socket: Any) -> None:
        def take(data: Any) -> None:
            came.append(data)
            if len(came) == count:
                socket.send("all")

        socket.on("message", take)

    application = Application(counting, echo=False)
    running = await serve(application, allowEIO3=True)
    program = anyClient(running.url, "burst", ["polling"], message="x", count=count, client=package)
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert (len(came), set(came), program.messages) == (count, {"x"}, ["all"])
    assert running.server.stats().refused == {}
    assertUneventful(program, ["polling"])


@overEveryTransport
@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_manyFromServer(serve: Any, client: Run, transports: list[str]) -> None:
    """Ten thousand messages that the server sends right at the connection reach the client, once and in order."""
    many = manyMessages()

    def sendAll(socket: Any) -> None:
        for message in many:
            socket.send(message)
        # Before the upgrade, where there is one, its client leaves only after it.
        if len(transports) > 1:
            socket.on("upgrade", lambda transport: socket.send("last"))
        else:
            socket.send("last")

    application = Application(sendAll, echo=False)
    running = await serve(application)
    program = client(running.url, "listen", transports, last="last")
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert firstDifference(program.messages, [*many, "last"]) is None
    assertUneventful(program, transports)
    assertTransport(session, transports)


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_clientCloses(serve: Any, client: Run, transports: list[str]) -> None:
    """A client that leaves is gone from the server at once, for the reason `transport close`, told once."""
    application = Application()
    running = await serve(application)
    when = "upgrade" if len(transports) > 1 else "open"
    program = client(running.url, "leave", transports, when=when)
    session = await application.session()
    assert await session.closed() == "transport close"
    # Ends by itself: the server has ended the request that waited, or its side of the WebSocket.
    await program.finish()
    assert program.named("close") == [{"event": "close", "reason": "forced close"}]
    assertUneventful(program, transports)
    assertTransport(session, transports)
    assert session.socket.readyState == "closed"
    assert running.server.clientsCount == 0
    assert session.happened.count("close: transport close") == 1


@pytest.mark.parametrize(
    ("close", "ending"),
    [
        (lambda socket: socket.close(), "forced close"),
        (lambda socket: socket.server.drain(), "server shutting down"),
    ],
    ids=["session", "server"],
)
@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_serverCloses(
    serve: Any, client: Run, transports: list[str], close: Callable[[Any], object], ending: str
) -> None:
    """When the server closes, or is drained, the client still gets what was sent before, and then notices the end."""
    goodbyes: list[Message] = [f"goodbye {number}" for number in range(100)]

    def leave(socket: Any, *_: object) -> None:
        for message in goodbyes:
            socket.send(message)
        close(socket)

    def handler(socket: Any) -> None:
        if len(transports) > 1:
            socket.on("upgrade", lambda transport: leave(socket))
        else:
            leave(socket)

    application = Application(handler)
    running = await serve(application)
    program = client(running.url, "listen", transports)
    session = await application.session()
    assert await session.closed() == ending
    await program.finish()
    assert program.messages == goodbyes
    assert program.named("close") == [{"event": "close", "reason": "transport close"}]
    assertUneventful(program, transports)
    assertTransport(session, transports)
    assert running.server.clientsCount == 0


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_reconnect(serve: Any, client: Run, freePort: int, transports: list[str]) -> None:
    """After a restart of the server a client that tries again gets a new session, which works."""
    application = Application()
    running = await serve(application, port=freePort)
    program = client(running.url, "reconnect", transports)
    first = await application.session()
    await program.saw("upgrade" if len(transports) > 1 else "open")
    await running.server.close()
    assert await first.closed() == "server shutting down"
    await program.saw("close")
    assert first.messages == []

    application = Application()
    await serve(application, port=freePort)
    second = await application.session()
    assert await second.closed() == "transport close"
    await program.finish()
    assert second.messages == ["again"]
    assert program.messages == ["again"]
    before, after = program.named("open")
    assert (before["sid"], after["sid"]) == (first.socket.id, second.socket.id)
    assert before["sid"] != after["sid"]
    assertTransport(second, transports)


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_clientStopsAnswering(serve: Any, client: Run, transports: list[str]) -> None:
    """A client that answers no ping is closed by the server for the reason `ping timeout`, and notices."""
    application = Application()
    running = await serve(application, pingInterval=300, pingTimeout=200)
    program = client(running.url, "mute", transports)
    session = await application.session()
    assert await session.closed() == "ping timeout"
    await program.finish()
    assert len(program.named("close")) == 1
    assert running.server.clientsCount == 0


@overEveryTransport
@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_serverStopsPinging(client: Run, start: Run, transports: list[str]) -> None:
    """A client whose server hangs notices it: for the reason `ping timeout`, from the times in the handshake."""
    options = {"pingInterval": 200, "pingTimeout": 1500}
    server = start([sys.executable, INTEROP / "server.py", json.dumps(options)], env=pythonPath())
    port = (await server.saw("listening"))["port"]
    program = client(f"http://127.0.0.1:{port}", "listen", transports)
    await program.saw("upgrade" if len(transports) > 1 else "open")
    server.signal("STOP")
    # Its connections stay, and the system goes on accepting new ones: silence is all there is to notice.
    assert await program.saw("close") == {"event": "close", "reason": "ping timeout"}
    assertUneventful(program, transports)
    # Once the server goes on, it answers the client's goodbye, so that the client can end.
    server.signal(signal.SIGCONT)
    await program.finish()
    server.signal("TERM")
    await server.finish()


@overEveryTransport
@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_pingsKeepSessionAlive(serve: Any, client: Run, transports: list[str]) -> None:
    """A client that says nothing for many ping intervals stays connected."""
    application = Application()
    running = await serve(application, pingInterval=50, pingTimeout=10_000)
    program = client(running.url, "listen", transports, last="last")
    session = await application.session()
    heartbeats: list[None] = []

    def heartbeat() -> None:
        if session.socket.transport.name == transports[-1]:
            heartbeats.append(None)
        if len(heartbeats) == 10:
            session.socket.send("last")

    session.socket.on("heartbeat", heartbeat)
    assert await session.closed() == "transport close"
    await program.finish()
    assert program.messages == ["last"]
    assertTransport(session, transports)


BOTH = TRANSPORTS["upgrade"]


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_sendDuringUpgrade(serve: Any, client: Run) -> None:
    """A client that sends all through the upgrade, and gets everything echoed, loses nothing and sees nothing twice."""
    application = Application()
    running = await serve(application)
    program = client(running.url, "during", BOTH)
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


@pytest.mark.slow
@pytest.mark.parametrize("event", ["upgrading", "upgrade"])
@pytest_twisted.ensureDeferred
async def test_manyFromServerDuringUpgrade(serve: Any, client: Run, event: str) -> None:
    """Ten thousand messages sent in one go within the upgrade all arrive, once and in order."""
    # The last one too: what is left in the buffer has to go out although nothing else is sent.
    many = [*manyMessages(), "last"]

    def handler(socket: Any) -> None:
        def sendAll(transport: object) -> None:
            for message in many:
                socket.send(message)

        socket.on(event, sendAll)

    application = Application(handler, echo=False)
    running = await serve(application)
    program = client(running.url, "listen", BOTH, last="last")
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert firstDifference(program.messages, many) is None
    assertUneventful(program, BOTH)
    assertTransport(session, BOTH)


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_serverSendsThroughUpgrade(serve: Any, client: Run) -> None:
    """Ten thousand messages and more that the server sends bit by bit, before, in and after the upgrade, all arrive."""
    from twisted.internet import reactor

    sent: list[Message] = []
    before: list[int] = []
    # Of its own, not the global one: it is gone with this test.
    cooperator = Cooperator(scheduler=lambda step: reactor.callLater(0, step))

    def handler(socket: Any) -> None:
        def enough() -> bool:
            return len(sent) >= 10_000 and bool(before) and len(sent) >= before[0] + 1_000

        def send() -> Iterator[None]:
            # A few at each turn of the reactor, until there have been enough before the upgrade and after it.
            while socket.readyState == "open" and not enough():
                for message in (f"server {len(sent)}", b"server %d" % (len(sent) + 1)):
                    sent.append(message)
                    socket.send(message)
                yield
            sent.append("last")
            socket.send("last")

        socket.on("upgrade", lambda transport: before.append(len(sent)))
        cooperator.cooperate(send())

    application = Application(handler, echo=False)
    running = await serve(application)
    program = client(running.url, "listen", BOTH, last="last")
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert before[0] > 0
    assert firstDifference(program.messages, sent) is None
    assertUneventful(program, BOTH)
    assertTransport(session, BOTH)


@pytest.mark.parametrize("when", ["open", "upgrading"])
@pytest_twisted.ensureDeferred
async def test_clientClosesBeforeUpgrade(serve: Any, client: Run, when: str) -> None:
    """A client that leaves while it would upgrade is gone from the server, for the reason `transport close`."""
    application = Application()
    running = await serve(application)
    program = client(running.url, "leave", BOTH, when=when)
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert program.named("close") == [{"event": "close", "reason": "forced close"}]
    assert session.happened.count("close: transport close") == 1
    assert running.server.clientsCount == 0


@pytest_twisted.ensureDeferred
async def test_serverClosesDuringUpgrade(serve: Any, client: Run) -> None:
    """A server that closes the session while it upgrades is rid of it, and the client notices the end, once."""

    def handler(socket: Any) -> None:
        socket.on("upgrading", lambda transport: socket.close() and None)

    application = Application(handler)
    running = await serve(application)
    program = client(running.url, "listen", BOTH)
    session = await application.session()
    assert await session.closed() == "forced close"
    await program.finish()
    assert len(program.named("close")) == 1
    assert running.server.clientsCount == 0


@pytest_twisted.ensureDeferred
async def test_noUpgradesOffered(serve: Any, client: Run) -> None:
    """With `allowUpgrades` off, a client that could upgrade stays on polling and works there."""
    application = Application(lambda socket: socket.send("hello") and None)
    running = await serve(application, allowUpgrades=False)
    program = client(running.url, "listen", BOTH, last="hello")
    session = await application.session()
    assert await session.closed() == "transport close"
    await program.finish()
    assert program.messages == ["hello"]
    assertUneventful(program, ["polling"])
    assertTransport(session, ["polling"])


@pytest.mark.parametrize("package", ["engine.io-client", "engine.io-client-5", "engine.io-client-3"])
@pytest.mark.parametrize("message", ["x" * 1000, b"x" * 1000], ids=["text", "binary"])
@pytest_twisted.ensureDeferred
async def test_tooLargeToPost(serve: Any, anyClient: Run, package: str, message: Message) -> None:
    """A client whose POST is refused with 413 sees its session end, and so does the server."""
    application = Application()
    running = await serve(application, maxHttpBufferSize=1000, allowEIO3=True)
    program = anyClient(running.url, "echo", ["polling"], messages=[pack(message)], client=package)
    session = await application.session()
    assert await session.closed() == "transport error"
    await program.finish()
    (close,) = program.named("close")
    # The refusal and the close packet come on two connections.
    assert close["reason"] in ("transport error", "transport close")
    assert session.messages == []


@pytest.mark.parametrize("package", ["engine.io-client", "engine.io-client-3"])
@pytest_twisted.ensureDeferred
async def test_tooManyToPost(serve: Any, anyClient: Run, package: str) -> None:
    """So it is with more packets than a POST may hold."""
    application = Application()
    running = await serve(application, maxPacketsPerPayload=10, allowEIO3=True)
    messages = [pack(f"message {number}") for number in range(20)]
    program = anyClient(running.url, "echo", ["polling"], messages=messages, client=package)
    session = await application.session()
    assert await session.closed() == "transport error"
    await program.finish()
    (close,) = program.named("close")
    # The refusal and the close packet come on two connections.
    assert close["reason"] in ("transport error", "transport close")
    # The first goes out by itself.
    assert len(session.messages) <= 1
