"""Our client against our server, over real sockets: what the tests with stock clients show of theirs."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Cooperator

from engineio_twisted.client import FailureType, MessageTooLarge

from ..kit.chaos import Trouble, chaos
from ..kit.client_peers import Story, named, refusedBy
from ..kit.clients import (
    BOTH,
    INTEROP,
    LARGE,
    MIXED,
    Application,
    Message,
    Run,
    Session,
    assertTransport,
    firstDifference,
    onceSettled,
    overEveryTransport,
    pythonPath,
    within,
)
from ..kit.engines import TwistedEngine

MESSAGES: list[Message] = ["hello", "é € 😀 👩‍👩‍👧‍👦 日本語 \u2028\u2029 \\n \n \x00", *MIXED, *LARGE.values()]

# Options of the client, and of the server.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "deflated": ({"perMessageDeflate": {"threshold": 0}}, {"perMessageDeflate": {"threshold": 0}}),
    "base64": ({"forceBase64": True}, {}),
    "compressed": ({}, {"httpCompression": {"threshold": 0}}),
    "subprotocol": ({"protocols": ["chat", "other"]}, {"wsEngine": TwistedEngine}),
    "revision 3": ({"EIO": 3}, {"allowEIO3": True}),
    "revision 3 in base64": ({"EIO": 3, "forceBase64": True}, {"allowEIO3": True}),
}


def overTransportsOfKinds() -> pytest.MarkDecorator:
    """Run a test with each kind over the transports on which it differs from the plain one."""
    every = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": BOTH}
    without = {"deflated": {"polling"}, "subprotocol": {"polling"}, "compressed": {"websocket", "upgrade"}}
    cases = [
        pytest.param(transports, *KINDS[kind], id=f"{kind}-{name}")
        for kind in KINDS
        for name, transports in every.items()
        if name not in without.get(kind, ())
    ]
    return pytest.mark.parametrize(("transports", "given", "options"), cases)


def assertSame(session: Session, story: Story, messages: list[Message]) -> None:
    """Both ends had these messages, and ended up on the same transport."""
    assert firstDifference(session.messages, messages) is None
    assert firstDifference(story.messages, messages) is None
    assertTransport(session, story.transports)


@overTransportsOfKinds()
@pytest_twisted.ensureDeferred
async def test_echo(serve: Any, transports: list[str], given: dict[str, Any], options: dict[str, Any]) -> None:
    """What the client sends arrives unchanged and in order, and so does what the server sends back."""
    application = Application()
    running = await serve(application, **options)
    story = await Story(running.url, transports, **given).connect()
    session = await application.session()
    await story.echoes(MESSAGES)
    assert await story.close() == "forced close"
    assert await session.closed() == "transport close"
    assertSame(session, story, MESSAGES)
    assert session.socket.id == story.client.id
    upgrade = ["upgrading to websocket", "upgrade to websocket"] if len(transports) > 1 else []
    assert story.changes == ["open", *upgrade, "close: forced close"]
    assert running.server.clientsCount == 0


@overTransportsOfKinds()
@pytest.mark.parametrize("close", ["close", "drain"])
@pytest_twisted.ensureDeferred
async def test_serverCloses(
    serve: Any, transports: list[str], given: dict[str, Any], options: dict[str, Any], close: str
) -> None:
    """What the server sends in one go before it closes, or is drained, reaches the client, which notices the end."""
    goodbyes: list[Message] = [*(f"goodbye {number}" for number in range(100)), *MESSAGES]

    def leave(socket: Any) -> None:
        for message in goodbyes:
            socket.send(message)
        if close == "close":
            socket.close()
        else:
            socket.server.drain()

    application = Application(onceSettled(transports, leave))
    running = await serve(application, **options)
    story = Story(running.url, transports, **given)
    await within(story.client.connect(), "the connection")
    assert await story.ended() == "transport close"
    session = await application.session()
    assert await session.closed() == ("forced close" if close == "close" else "server shutting down")
    assert firstDifference(story.messages, goodbyes) is None
    assertTransport(session, transports)
    assert running.server.clientsCount == 0


@overTransportsOfKinds()
@pytest_twisted.ensureDeferred
async def test_clientClosesBehindMessages(
    serve: Any, transports: list[str], given: dict[str, Any], options: dict[str, Any]
) -> None:
    """What the client sends in one go before it closes reaches the server; only then is it gone."""
    application = Application(echo=False)
    running = await serve(application, **options)
    story = await Story(running.url, transports, **given).connect()
    goodbyes: list[Message] = [*(f"goodbye {number}" for number in range(100)), *MESSAGES]
    for message in goodbyes:
        story.client.send(message)
    assert await story.close() == "forced close"
    session = await application.session()
    assert await session.closed() == "transport close"
    assert firstDifference(session.messages, goodbyes) is None
    assert running.server.clientsCount == 0


@pytest.mark.parametrize("when", ["open", "upgrading", "upgrade"])
@pytest.mark.parametrize("revision", [4, 3])
@pytest_twisted.ensureDeferred
async def test_clientClosesInEvent(serve: Any, when: str, revision: int) -> None:
    """A client that sends and closes within an event of its opening or its upgrade is gone once all has arrived."""
    application = Application(echo=False)
    running = await serve(application, allowEIO3=True)
    story = Story(running.url, BOTH, EIO=revision)
    client: Any = story.client

    def leave(*_: object) -> None:
        for message in MIXED:
            client.send(message)
        client.close()

    client.on(when, leave)
    await within(client.connect(), "the connection")
    assert await story.ended() == "forced close"
    session = await application.session()
    assert await session.closed() == "transport close"
    assert firstDifference(session.messages, MIXED) is None
    assert running.server.clientsCount == 0


@pytest_twisted.ensureDeferred
async def test_serverClosesDuringUpgrade(serve: Any) -> None:
    """When the server closes while the client moves to WebSocket, the client notices, once, and nothing is left."""
    application = Application(lambda socket: socket.on("upgrading", lambda transport: socket.close() and None))
    running = await serve(application)
    story = Story(running.url, BOTH)
    await within(story.client.connect(), "the connection")
    assert await story.ended() == "transport close"
    session = await application.session()
    assert await session.closed() == "forced close"
    assert story.happened.count("close: transport close") == 1
    assert running.server.clientsCount == 0


@pytest_twisted.ensureDeferred
async def test_noUpgrade(serve: Any) -> None:
    """A client to which no upgrade is offered, or that is told not to, stays on polling and works there."""
    for given, options in (({}, {"allowUpgrades": False}), ({"upgrade": False}, {})):
        application = Application()
        running = await serve(application, **options)
        story = Story(running.url, BOTH, **given)
        await within(story.client.connect(), "the connection")
        await story.echoes(MIXED)
        assert await story.close() == "forced close"
        session = await application.session()
        assert await session.closed() == "transport close"
        assert story.messages == session.messages == MIXED
        assertTransport(session, ["polling"])
        assert story.changes == ["open", "close: forced close"]


@pytest_twisted.ensureDeferred
async def test_bothThroughUpgrade(serve: Any) -> None:
    """Nothing of what both sides send bit by bit, before, in and after the upgrade, is lost, doubled or late."""
    from twisted.internet import reactor

    everything: Any = reactor
    cooperator = Cooperator(scheduler=lambda step: everything.callLater(0, step))
    sent: dict[str, list[Message]] = {"client": [], "server": []}
    upgraded: dict[str, int] = {}

    def sending(who: str, socket: Any) -> Callable[[object], None]:
        socket.on("upgrade", lambda transport: upgraded.setdefault(who, len(sent[who])) and None)

        def steps() -> Iterator[None]:
            while socket.readyState == "open" and len(sent[who]) < upgraded.get(who, 1_000_000) + 1000:
                for message in named(who, len(sent[who]) + 3)[-3:]:
                    sent[who].append(message)
                    socket.send(message)
                yield
            socket.send("last")

        return lambda *_: cooperator.cooperate(steps()) and None

    application = Application(lambda socket: sending("server", socket)(None), echo=False)
    running = await serve(application)
    story = Story(running.url, BOTH)
    client: Any = story.client
    client.on("open", sending("client", client))
    await story.connect()
    session = await application.session()
    await story.until(lambda: "last" in story.messages, "the last message of the server")
    reached: Any = session
    await story.until(lambda: "last" in reached.messages, "the last message of the client")
    assert await story.close() == "forced close"
    assert firstDifference(story.messages, [*sent["server"], "last"]) is None
    assert firstDifference(session.messages, [*sent["client"], "last"]) is None
    # Otherwise this would have shown something else.
    assert 0 < upgraded["client"] < len(sent["client"])


@pytest.mark.parametrize("event", ["upgrading", "upgrade"])
@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_manyDuringUpgrade(serve: Any, event: str) -> None:
    """Ten thousand messages that each side sends in one go within the upgrade all arrive, once and in order."""

    def sendAll(who: str, socket: Any) -> None:
        def send(transport: object) -> None:
            for message in [*named(who, 10_000), "last"]:
                socket.send(message)

        socket.on(event, send)

    application = Application(lambda socket: sendAll("server", socket), echo=False)
    running = await serve(application)
    story = Story(running.url, BOTH)
    sendAll("client", story.client)
    await story.connect()
    await story.got(10_001)
    session = await application.session()
    assert await story.close() == "forced close"
    assert await session.closed() == "transport close"
    assert firstDifference(story.messages, [*named("server", 10_000), "last"]) is None
    assert firstDifference(session.messages, [*named("client", 10_000), "last"]) is None


@overEveryTransport
@pytest.mark.parametrize("revision", [4, 3])
@pytest_twisted.ensureDeferred
async def test_heartbeats(serve: Any, transports: list[str], revision: int) -> None:
    """A session on which nothing is said for many intervals lives, on each transport."""
    application = Application()
    running = await serve(application, pingInterval=50, pingTimeout=10_000, allowEIO3=True)
    story = await Story(running.url, transports, EIO=revision).connect()
    await story.until(lambda: story.happened.count("heartbeat") >= 10, "ten heartbeats")
    await story.echoes(["alive"])
    assert await story.close() == "forced close"


@overEveryTransport
@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_serverHangs(start: Run, transports: list[str]) -> None:
    """A client whose server hangs notices: for the reason `ping timeout`, by the times of the handshake."""
    options = {"pingInterval": 200, "pingTimeout": 1500}
    server = start([sys.executable, INTEROP / "server.py", json.dumps(options)], env=pythonPath())
    port = (await server.saw("listening"))["port"]
    story = await Story(f"http://127.0.0.1:{port}", transports).connect()
    server.signal("STOP")
    # Its connections stay, and the system goes on accepting new ones: silence is all there is to notice.
    try:
        assert await story.ended() == "ping timeout"
        assert story.client.failure is not None
        assert story.client.failure.type == FailureType.TIMEOUT
    finally:
        server.signal(signal.SIGCONT)
    server.signal("TERM")
    await server.finish()


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_reconnect(serve: Any, freePort: int, transports: list[str]) -> None:
    """The end of a server is the end of the session; another client has a session with the next server."""
    application = Application()
    running = await serve(application, port=freePort)
    story = await Story(running.url, transports).connect()
    first = await application.session()
    await running.server.close()
    assert await first.closed() == "server shutting down"
    assert await story.ended() == "transport close"
    assert (await refusedBy(Story(running.url, transports))).type == FailureType.CONNECT
    application = Application()
    await serve(application, port=freePort)
    again = await Story(running.url, transports).connect()
    await again.echoes(["again"])
    assert await again.close() == "forced close"
    second = await application.session()
    assert await second.closed() == "transport close"
    assert first.socket.id != second.socket.id == again.client.id


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_comesBack(serve: Any, transports: list[str]) -> None:
    """With `resume`, all connections may be cut again and again, and nothing is lost, doubled or out of order."""
    application = Application(echo=False)
    running = await serve(application, resumeTimeout=60_000)
    async with chaos(running.port, lambda number: Trouble()) as network:
        story = await Story(f"http://127.0.0.1:{network.port}", transports, resume=True).connect()
        session = await application.session()
        sent: dict[str, list[Message]] = {"client": [], "server": []}
        for cut in range(1, 4):
            for who, socket in (("client", story.client), ("server", session.socket)):
                for message in named(who, 30 * cut)[len(sent[who]) :]:
                    sent[who].append(message)
                    socket.send(message)
            for each in network.links:
                each.abort()
            await story.until(lambda count=cut: story.happened.count("resume") >= count, f"return {cut}")
        await story.until(lambda: len(story.messages) >= 90, "all messages of the server")
        assert await story.close() == "forced close"
    assert await session.closed() == "transport close"
    assert firstDifference(story.messages, sent["server"]) is None
    assert firstDifference(session.messages, sent["client"]) is None
    assert running.server.clientsCount == 0


@overEveryTransport
@pytest_twisted.ensureDeferred
async def test_tooLarge(serve: Any, transports: list[str]) -> None:
    """The largest message that the server takes passes; a larger one fails its callback alone."""
    application = Application()
    running = await serve(application, maxHttpBufferSize=1000)
    story = await Story(running.url, transports).connect()
    largest = "x" * 999
    told: list[Any] = []
    await story.echoes([largest])
    story.client.send("y" * 1000, told.append)
    await story.echoes(["after", largest])
    (failure,) = told
    assert isinstance(failure, MessageTooLarge)
    assert (failure.size, failure.limit) == (1001, 1000)
    assert await story.close() == "forced close"
    session = await application.session()
    assert await session.closed() == "transport close"
    assert session.messages == [largest, "after", largest]


@pytest_twisted.ensureDeferred
async def test_tooManyToPost(serve: Any) -> None:
    """A server that takes fewer packets in a request than the client sends refuses them, and both ends notice."""
    application = Application()
    running = await serve(application, maxPacketsPerPayload=10)
    messages: list[Message] = [f"message {number}" for number in range(30)]
    story = await Story(running.url, ["polling"], maxPacketsPerPayload=10).connect()
    await story.echoes(messages)
    assert await story.close() == "forced close"
    session = await application.session()
    assert await session.closed() == "transport close"

    story = await Story(running.url, ["polling"]).connect()
    for message in messages:
        story.client.send(message)
    await story.ended()
    assert story.client.failure is not None
    session = await application.session()
    assert await session.closed() == "transport error"
