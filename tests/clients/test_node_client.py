"""The stock JavaScript clients, engine.io-client under Node.js, against the server: what is the same with each."""

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
    BOTH,
    FORMS_OF_3,
    INTEROP,
    LARGE,
    MIXED,
    Application,
    Kind,
    Message,
    Run,
    assertTransport,
    assertUneventful,
    assertWentWell,
    echoed,
    firstDifference,
    heard,
    ofKinds,
    ofKindsOverTransports,
    onceSettled,
    overEveryTransport,
    pack,
    pythonPath,
    sentDuring,
)

pytestmark = pytest.mark.node

MESSAGES: dict[str, list[Message]] = {
    "several": [
        "hello",
        bytes(range(256)),
        "",
        b"",
        # Two, three and four bytes of UTF-8, a sequence of code points, and what separates packets elsewhere.
        "é € 😀 👩‍👩‍👧‍👦 日本語 \u2028\u2029 \\n \n \x00",
    ],
    # One at a time: together they are more than a request may hold.
    **{f"large {name}": [message] for name, message in LARGE.items()},
}


@overEveryTransport
@pytest.mark.parametrize("messages", MESSAGES.values(), ids=MESSAGES)
@pytest_twisted.ensureDeferred
async def test_echo(serve: Any, client: Run, transports: list[str], messages: list[Message]) -> None:
    """Whatever a client sends arrives unchanged and of the same kind, and so does what the server sends back."""
    session, program = await echoed(serve, client, transports, messages)
    assertWentWell(program, session, transports)


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_protocols(serve: Any, client: Run, transports: list[str]) -> None:
    """A client that offers subprotocols for its WebSocket gets the first: without one it would fail the connection."""
    given = {"options": {"protocols": ["chat", "other"]}}
    session, program = await echoed(serve, client, transports, ["hello"], given=given)
    assertWentWell(program, session, transports)


def manyMessages() -> list[Message]:
    """Ten thousand messages, all different; every tenth is binary."""
    texts = [f"message {number}" for number in range(10_000)]
    return [text if number % 10 else text.encode() for number, text in enumerate(texts)]


@overEveryTransport
@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_manyFromClient(serve: Any, client: Run, transports: list[str]) -> None:
    """Ten thousand messages sent in one go reach the server in order, and their echoes reach the client in order."""
    session, program = await echoed(serve, client, transports, manyMessages())
    assertWentWell(program, session, transports)


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
    await application.ended(program)
    assert (len(came), set(came), program.messages) == (count, {"x"}, ["all"])
    assert running.server.stats().refused == {}
    assertUneventful(program, ["polling"])


@overEveryTransport
@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_manyFromServer(serve: Any, client: Run, transports: list[str]) -> None:
    """Ten thousand messages that the server sends right at the connection reach the client, once and in order."""
    many = manyMessages()
    # If there is an upgrade, the client leaves only after it.
    sendLast = onceSettled(transports, lambda socket: socket.send("last"))

    def sendAll(socket: Any) -> None:
        for message in many:
            socket.send(message)
        sendLast(socket)

    session, program = await heard(serve, client, transports, sendAll)
    assert firstDifference(program.messages, [*many, "last"]) is None
    assertWentWell(program, session, transports)


@ofKindsOverTransports("client 6", "client 3", "twisted")
@pytest_twisted.ensureDeferred
async def test_clientCloses(serve: Any, client: Run, transports: list[str], kind: Kind) -> None:
    """A client that leaves is gone from the server at once, for the reason `transport close`, told once."""
    application = Application()
    running = await serve(application, **kind.options)
    when = "upgrade" if len(transports) > 1 else "open"
    program = client(running.url, "leave", transports, when=when, **kind.given)
    # It ends by itself: the server has ended the request that waited, or its side of the WebSocket.
    session = await application.ended(program)
    assert program.named("close") == [{"event": "close", "reason": "forced close"}]
    assertWentWell(program, session, transports)
    assert session.socket.readyState == "closed"
    assert running.server.clientsCount == 0
    assert session.happened.count("close: transport close") == 1


async def assertGoodbyesCome(
    serve: Any, client: Run, transports: list[str], kind: Kind, close: Callable[[Any], object], ending: str
) -> None:
    """What the server sends in one go before it closes reaches the client, which then notices the end."""
    goodbyes: list[Message] = [*(f"goodbye {number}" for number in range(100)), *MIXED, *LARGE.values()]

    def leave(socket: Any) -> None:
        for message in goodbyes:
            socket.send(message)
        close(socket)

    application = Application(onceSettled(transports, leave))
    running = await serve(application, **kind.options)
    program = client(running.url, "listen", transports, **kind.given)
    session = await application.ended(program, ending)
    assert firstDifference(program.messages, goodbyes) is None
    assert program.named("close") == [{"event": "close", "reason": "transport close"}]
    assertWentWell(program, session, transports)
    assert running.server.clientsCount == 0


@ofKindsOverTransports("client 6", *FORMS_OF_3, "twisted", "deflated")
@pytest_twisted.ensureDeferred
async def test_serverCloses(serve: Any, client: Run, transports: list[str], kind: Kind) -> None:
    """When the server closes a session, the client still gets what was sent before, and then notices the end."""
    await assertGoodbyesCome(serve, client, transports, kind, lambda socket: socket.close(), "forced close")


@ofKindsOverTransports("client 6")
@pytest_twisted.ensureDeferred
async def test_serverDrains(serve: Any, client: Run, transports: list[str], kind: Kind) -> None:
    """So it is when the server is drained."""
    ending = "server shutting down"
    await assertGoodbyesCome(serve, client, transports, kind, lambda socket: socket.server.drain(), ending)


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
    second = await application.ended(program)
    assert second.messages == ["again"]
    assert program.messages == ["again"]
    before, after = program.named("open")
    assert (before["sid"], after["sid"]) == (first.socket.id, second.socket.id)
    assert before["sid"] != after["sid"]
    assertTransport(second, transports)


@ofKindsOverTransports("client 6", "twisted")
@pytest_twisted.ensureDeferred
async def test_clientStopsAnswering(serve: Any, client: Run, transports: list[str], kind: Kind) -> None:
    """A client that answers no ping is closed by the server for the reason `ping timeout`, and notices."""
    application = Application()
    running = await serve(application, pingInterval=300, pingTimeout=200, **kind.options)
    program = client(running.url, "mute", transports, **kind.given)
    await application.ended(program, "ping timeout")
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


@ofKindsOverTransports("client 6", "twisted", "twisted, client 3")
@pytest_twisted.ensureDeferred
async def test_pingsKeepSessionAlive(serve: Any, client: Run, transports: list[str], kind: Kind) -> None:
    """A client that says nothing for many ping intervals stays connected."""
    heartbeats: list[str] = []

    def handler(socket: Any) -> None:
        def heartbeat() -> None:
            heartbeats.append(socket.transport.name)
            if heartbeats.count(transports[-1]) == 10:
                socket.send("last")

        socket.on("heartbeat", heartbeat)

    options = {"pingInterval": 50, "pingTimeout": 10_000, **kind.options}
    session, program = await heard(serve, client, transports, handler, given=kind.given, **options)
    assert program.messages == ["last"]
    assertWentWell(program, session, transports)


@ofKinds("client 6", *FORMS_OF_3, "twisted", "twisted, client 3", "all compressed")
@pytest_twisted.ensureDeferred
async def test_sendDuringUpgrade(serve: Any, client: Run, kind: Kind) -> None:
    """A client that sends all through the upgrade, and gets everything echoed, loses nothing and sees nothing twice."""
    application = Application()
    running = await serve(application, **kind.options)
    program = client(running.url, "during", BOTH, **kind.given)
    session = await application.ended(program)
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

    session, program = await heard(serve, client, BOTH, handler)
    assert firstDifference(program.messages, many) is None
    assertWentWell(program, session, BOTH)


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

    session, program = await heard(serve, client, BOTH, handler)
    assert before[0] > 0
    assert firstDifference(program.messages, sent) is None
    assertWentWell(program, session, BOTH)


@pytest.mark.parametrize("when", ["open", "upgrading"])
@ofKinds("client 6", "client 3")
@pytest_twisted.ensureDeferred
async def test_clientClosesBeforeUpgrade(serve: Any, client: Run, when: str, kind: Kind) -> None:
    """A client that leaves while it would upgrade is gone from the server, for the reason `transport close`."""
    application = Application()
    running = await serve(application, **kind.options)
    program = client(running.url, "leave", BOTH, when=when, **kind.given)
    session = await application.ended(program)
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
    await application.ended(program, "forced close")
    assert len(program.named("close")) == 1
    assert running.server.clientsCount == 0


@pytest_twisted.ensureDeferred
async def test_noUpgradesOffered(serve: Any, client: Run) -> None:
    """With `allowUpgrades` off, a client that could upgrade stays on polling and works there."""
    session, program = await heard(serve, client, BOTH, lambda socket: socket.send("last"), allowUpgrades=False)
    assert program.messages == ["last"]
    assertWentWell(program, session, ["polling"])


@pytest.mark.parametrize("package", ["engine.io-client", "engine.io-client-5", "engine.io-client-3"])
@pytest.mark.parametrize("message", ["x" * 1000, b"x" * 1000], ids=["text", "binary"])
@pytest_twisted.ensureDeferred
async def test_tooLargeToPost(serve: Any, anyClient: Run, package: str, message: Message) -> None:
    """A client whose POST is refused with 413 sees its session end, and so does the server."""
    application = Application()
    running = await serve(application, maxHttpBufferSize=1000, allowEIO3=True)
    program = anyClient(running.url, "echo", ["polling"], messages=[pack(message)], client=package)
    session = await application.ended(program, "transport error")
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
    session = await application.ended(program, "transport error")
    (close,) = program.named("close")
    # The refusal and the close packet come on two connections.
    assert close["reason"] in ("transport error", "transport close")
    # The first goes out by itself.
    assert len(session.messages) <= 1
