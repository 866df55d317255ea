"""The real clients again, with each option that changes what goes over the wire."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
import treq

from ..kit.clients import (
    BOTH,
    CLIENT_3,
    LARGE,
    MIXED,
    TRANSPORTS,
    Application,
    Message,
    Program,
    Run,
    assertTransport,
    assertUneventful,
    assertWentWell,
    calledWith,
    echoed,
    firstDifference,
    heard,
    onceSettled,
    overEveryTransport,
    pack,
    within,
)
from ..kit.engines import TwistedEngine, needsTwistedEngine

# On which there is a WebSocket.
withWebSocket = pytest.mark.parametrize("transports", [["websocket"], BOTH], ids=["websocket", "upgrade"])

ENGINES = {"autobahn": None, "twisted": TwistedEngine}

onEveryEngine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


def packed(messages: list[Message]) -> list[dict[str, str]]:
    return [pack(message) for message in messages]


def hears(**handlers: Callable[..., object]) -> Callable[[Any], None]:
    """For `serve`: handlers of the server's events."""

    def setUp(server: Any) -> None:
        for event, handler in handlers.items():
            server.on(event, handler)

    return setUp


def noise(size: int) -> bytes:
    """Bytes that nothing can compress."""
    return random.Random(1).randbytes(size)


# httpCompression. The requests that the clients make under Node.js can't take compressed answers, and ask for none;
# those by fetch(), another way to poll that client 6 has, are as in browsers.


class Codings:
    """The content codings of the answers with payloads."""

    def __init__(self) -> None:
        self.seen: list[str | None] = []

    def __call__(self, headers: Any, request: Any) -> None:
        if request.method == b"GET":
            self.seen.append(headers.get("content-encoding"))


PAYLOADS: dict[str, list[Message]] = {
    "compressed at once": ["0123456789abcdé" * 1_000, "short"],
    "compressed in pieces": [LARGE["text"], "short"],
    "binary": [LARGE["binary"], b"short"],
    "noise": [noise(500_000)],
    "several": [LARGE["text"], LARGE["binary"], "short", noise(1_000), b"short"] * 3,
}


@pytest.mark.node
@pytest.mark.parametrize("messages", PAYLOADS.values(), ids=PAYLOADS)
@pytest_twisted.ensureDeferred
async def test_httpCompression(serve: Any, client: Run, messages: list[Message]) -> None:
    """A client that polls for compressed answers gets them, and everything that is in them."""

    def sendAll(socket: Any) -> None:
        for message in [*messages, "last"]:
            socket.send(message)

    codings, given = Codings(), {"fetch": True}
    _, program = await heard(serve, client, ["polling"], sendAll, hears(headers=codings), given=given)
    assert firstDifference(program.messages, [*messages, "last"]) is None
    # The handshake is too short to be worth it.
    assert codings.seen[:2] == [None, "gzip"]
    assertUneventful(program, ["polling"])


NOT_COMPRESSED: dict[str, tuple[dict[str, Any], bool]] = {
    "off": ({"httpCompression": False}, True),
    "below the threshold": ({"httpCompression": {"threshold": 1_000_000}}, True),
    "compress=False": ({}, False),
}


@pytest.mark.node
@pytest.mark.parametrize(("options", "compress"), NOT_COMPRESSED.values(), ids=NOT_COMPRESSED)
@pytest_twisted.ensureDeferred
async def test_noHttpCompression(serve: Any, client: Run, options: dict[str, Any], compress: bool) -> None:
    """What isn't to be compressed goes out as it is, also to a client that would take it compressed."""
    message = LARGE["text"]

    def sendBoth(socket: Any) -> None:
        socket.send(message, compress=compress)
        socket.send("last", compress=compress)

    codings, given = Codings(), {"fetch": True}
    _, program = await heard(serve, client, ["polling"], sendBoth, hears(headers=codings), given=given, **options)
    assert firstDifference(program.messages, [message, "last"]) is None
    assert set(codings.seen) == {None}


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_httpCompressionThroughUpgrade(serve: Any, client: Run) -> None:
    """Megabytes that the server sends before the upgrade, in it and after it, partly compressed, arrive in order."""
    sent: list[Message] = []

    def handler(socket: Any) -> None:
        def burst(transport: object = None) -> None:
            for message in (*LARGE.values(), "short", *LARGE.values()):
                sent.append(message)
                socket.send(message)

        burst()
        socket.on("upgrading", burst)
        socket.on("upgrade", burst)
        socket.on("upgrade", lambda transport: socket.send("last"))

    codings, given = Codings(), {"fetch": True}
    session, program = await heard(serve, client, BOTH, handler, hears(headers=codings), given=given)
    assert len(sent) == 15
    assert firstDifference(program.messages, [*sent, "last"]) is None
    assert "gzip" in codings.seen
    assertWentWell(program, session, BOTH)


CLOSES: dict[str, tuple[Callable[[Any], object], str]] = {
    "session": (lambda socket: socket.close(), "forced close"),
    "session, at once": (lambda socket: socket.close(discard=True), "forced close"),
    "server": (lambda socket: socket.server.close(), "server shutting down"),
    "server, in order": (lambda socket: socket.server.close(drain=True), "server shutting down"),
}


@pytest.mark.node
@pytest.mark.parametrize(("close", "reason"), CLOSES.values(), ids=CLOSES)
@pytest_twisted.ensureDeferred
async def test_closeWhileCompressing(serve: Any, client: Run, close: Callable[[Any], object], reason: str) -> None:
    """A large answer that is still being compressed when its session, or the server, closes arrives whole."""
    message = "0123456789abcdé" * 200_000

    def handler(socket: Any) -> None:
        # As soon as polling has taken the message, of which the most is still to be compressed.
        socket.on("drain", lambda: close(socket) and None)
        socket.send(message)

    application, codings = Application(handler), Codings()
    running = await serve(calledWith(application, hears(headers=codings)))
    program = client(running.url, "listen", ["polling"], fetch=True)
    await application.ended(program, reason)
    assert firstDifference(program.messages, [message]) is None
    assert "gzip" in codings.seen
    assert len(program.named("close")) == 1


@pytest_twisted.ensureDeferred
async def test_httpCompressionInRevision3(serve: Any) -> None:
    """A payload of revision 3 that holds bytes is compressed as well."""
    message = bytes(range(250)) * 1_000
    codings = Codings()
    running = await serve(hears(headers=codings), allowEIO3=True, initialPacket=message)
    query = {"EIO": "3", "transport": "polling"}
    response = await within(treq.get(f"{running.url}/engine.io/", params=query, persistent=False), "the answer")
    body = await response.content()
    assert codings.seen == ["gzip"]
    assert response.headers.getRawHeaders("content-type") == ["application/octet-stream"]
    # A text first, the open packet; then a packet of 250001 bytes.
    assert body[0] == 0
    assert body.endswith(b"}\x01\x02\x05\x00\x00\x00\x01\xff\x04" + message)
    # The session ends with the server: nobody polls.


# perMessageDeflate


def extensions(program: Program) -> list[str | None]:
    """Which extensions the answers to the client's requests for WebSockets have named."""
    return [
        each["headers"].get("sec-websocket-extensions") for each in program.named("answer") if each["status"] == 101
    ]


COMPRESSIBLE: list[Message] = [*LARGE.values(), *MIXED, *(f"message {number} " * 100 for number in range(200))]

# With what the server answers the client's offer.
DEFLATE: dict[str, tuple[Any, str]] = {
    "on": (True, "permessage-deflate"),
    "every message": ({"threshold": 0}, "permessage-deflate"),
    "each by itself": (
        {"serverNoContextTakeover": True, "clientNoContextTakeover": True},
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    ),
    "small windows": (
        {"serverMaxWindowBits": 9, "clientMaxWindowBits": 10},
        "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
    ),
    "little memory": ({"memLevel": 1}, "permessage-deflate"),
}


def assertCompressed(program: Program, messages: list[Message]) -> None:
    """Far less than the size of the messages went over the wire, either way."""
    (carried,) = program.named("carried")
    size = sum(len(message) for message in messages)
    assert carried["in"] < size / 5
    assert carried["out"] < size / 5


@pytest.mark.node
@pytest.mark.parametrize(("setting", "answer"), DEFLATE.values(), ids=DEFLATE)
@pytest_twisted.ensureDeferred
async def test_perMessageDeflate(serve: Any, client: Run, setting: Any, answer: str) -> None:
    """Messages arrive unchanged both ways while far less than their size goes over the wire."""
    _, program = await echoed(
        serve, client, ["websocket"], COMPRESSIBLE, given={"answers": True}, perMessageDeflate=setting
    )
    assert extensions(program) == [answer]
    assertCompressed(program, COMPRESSIBLE)
    assertUneventful(program, ["websocket"])


DEFLATING: dict[str, tuple[list[str], dict[str, Any]]] = {
    "upgrade-6": (BOTH, {}),
    "upgrade-3": (BOTH, CLIENT_3),
    "websocket-3": (["websocket"], CLIENT_3),
}


@pytest.mark.node
@pytest.mark.parametrize(("transports", "given"), DEFLATING.values(), ids=DEFLATING)
@pytest_twisted.ensureDeferred
async def test_perMessageDeflateWithEachClient(
    serve: Any, client: Run, transports: list[str], given: dict[str, Any]
) -> None:
    """Messages are compressed after an upgrade too, and those of revision 3."""
    given, options = {"answers": True, **given}, {"perMessageDeflate": True, "allowEIO3": True}
    session, program = await echoed(serve, client, transports, COMPRESSIBLE, given=given, **options)
    assert extensions(program) == ["permessage-deflate"]
    assertCompressed(program, COMPRESSIBLE)
    assertWentWell(program, session, transports)


# With whether what comes in at the client is compressed, and what goes out from it.
MEMORY: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "serverMaxWindowBits": ({"serverMaxWindowBits": 9}, False, True),
    "clientMaxWindowBits": ({"clientMaxWindowBits": 9}, True, False),
    "serverNoContextTakeover": ({"serverNoContextTakeover": True}, False, True),
    "clientNoContextTakeover": ({"clientNoContextTakeover": True}, True, False),
}


@pytest.mark.node
@pytest.mark.parametrize(("setting", "incoming", "outgoing"), MEMORY.values(), ids=MEMORY)
@pytest_twisted.ensureDeferred
async def test_perMessageDeflateMemory(
    serve: Any, client: Run, setting: dict[str, Any], incoming: bool, outgoing: bool
) -> None:
    """Who is to remember less, server or client, finds fewer repetitions, and the other finds all."""
    # Repetitions that are far from each other, and in different messages.
    messages: list[Message] = [noise(5_000)] * 40
    _, program = await echoed(
        serve, client, ["websocket"], messages, given={"answers": True}, perMessageDeflate=setting
    )
    (carried,) = program.named("carried")
    assert (carried["in"] < 200_000 / 5, carried["out"] < 200_000 / 5) == (incoming, outgoing)


@pytest.mark.node
@pytest.mark.parametrize("given", [{}, CLIENT_3], ids=["client 6", "client 3"])
@pytest_twisted.ensureDeferred
async def test_perMessageDeflateNotOffered(serve: Any, client: Run, given: dict[str, Any]) -> None:
    """A client that offers no compression gets none."""
    messages = [*MIXED, *LARGE.values()]
    given = {"answers": True, "options": {"perMessageDeflate": False}, **given}
    options = {"perMessageDeflate": True, "allowEIO3": True}
    _, program = await echoed(serve, client, ["websocket"], messages, given=given, **options)
    assert extensions(program) == [None]


@pytest.mark.node
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("threshold", [100, 1024])
@pytest_twisted.ensureDeferred
async def test_perMessageDeflateOfSome(serve: Any, client: Run, threshold: int, compress: bool) -> None:
    """Messages below the threshold, and those that aren't to be compressed, go out as they are."""
    messages: list[Message] = ["a" * 500, b"a" * 500] * 100

    def sendAll(socket: Any) -> None:
        for message in messages:
            socket.send(message, compress=compress)
        socket.send("last")

    setting, given = {"threshold": threshold}, {"answers": True}
    _, program = await heard(serve, client, ["websocket"], sendAll, given=given, perMessageDeflate=setting)
    assert firstDifference(program.messages, [*messages, "last"]) is None
    assert extensions(program) == ["permessage-deflate"]
    (carried,) = program.named("carried")
    if compress and threshold == 100:
        assert carried["in"] < 500 * 200 / 5
    else:
        assert carried["in"] > 500 * 200


# maxHttpBufferSize, of which each way to receive a WebSocket message has its own enforcement.

WAYS: dict[str, dict[str, Any]] = {
    "autobahn": {},
    "autobahn, compressed": {"perMessageDeflate": True},
    "twisted": {"wsEngine": TwistedEngine},
}


@pytest.mark.node
@pytest.mark.parametrize("excess", [0, 1])
@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
@pytest_twisted.ensureDeferred
async def test_maxHttpBufferSize(serve: Any, client: Run, options: dict[str, Any], excess: int) -> None:
    """A message of the largest size arrives; a larger one ends the session, however small it was on the wire."""
    application = Application()
    running = await serve(application, maxHttpBufferSize=300_000, **options)
    message = bytes(300_000 + excess)
    program = client(running.url, "echo", ["websocket"], messages=packed([message]), answers=True)
    session = await application.ended(program, "transport error" if excess else "transport close")
    wanted = [] if excess else [message]
    assert firstDifference(session.messages, wanted) is None
    assert firstDifference(program.messages, wanted) is None
    assert len(program.named("close")) == 1
    assert extensions(program) == ["permessage-deflate" if "perMessageDeflate" in options else None]
    assert running.server.clientsCount == 0


# cookie


class Cookies:
    """A middleware that takes note of the cookies of each request."""

    def __init__(self) -> None:
        self.seen: list[str | None] = []

    def __call__(self, request: Any) -> None:
        self.seen.append(request.getHeader("cookie"))


COOKIES: dict[str, tuple[Any, str, str]] = {
    "as it is": (True, "io", "; Path=/; HttpOnly; SameSite=Lax"),
    "with settings": (
        {"name": "route", "path": "/engine.io", "httpOnly": False, "sameSite": False, "maxAge": 3600},
        "route",
        "; Max-Age=3600; Path=/engine.io",
    ),
}


@pytest.mark.node
@overEveryTransport
@pytest.mark.parametrize(("setting", "name", "attributes"), COOKIES.values(), ids=COOKIES)
@pytest_twisted.ensureDeferred
async def test_cookie(serve: Any, client: Run, transports: list[str], setting: Any, name: str, attributes: str) -> None:
    """The first answer has a cookie with the session's id, and a client that keeps it sends it ever after."""
    cookies = Cookies()
    given = {"answers": True, "options": {"withCredentials": True}}
    session, program = await echoed(
        serve, client, transports, MIXED, lambda server: server.use(cookies), given=given, cookie=setting
    )
    pair = f"{name}={session.socket.id}"
    first, *others = program.named("answer")
    assert first["headers"]["set-cookie"] == [pair + attributes]
    assert [each for each in others if "set-cookie" in each["headers"]] == []
    assert cookies.seen == [None, *[pair] * len(others)]
    assert bool(others) is (transports != ["websocket"])
    assertUneventful(program, transports)


# initialPacket

INITIAL: dict[str, Message] = {"text": "welcome 😀", "binary": bytes(range(256))}

RECEIVERS: dict[str, tuple[list[str], dict[str, Any]]] = {
    **{f"{name}-6": (transports, {}) for name, transports in TRANSPORTS.items()},
    **{f"{name}-3": (transports, {**CLIENT_3, "xhr2": True}) for name, transports in TRANSPORTS.items()},
    "polling in base64-3": (["polling"], CLIENT_3),
    "polling by fetch-6": (["polling"], {"fetch": True}),
}


@pytest.mark.node
@pytest.mark.parametrize(("transports", "given"), RECEIVERS.values(), ids=RECEIVERS)
@pytest.mark.parametrize("initial", INITIAL.values(), ids=INITIAL)
@pytest_twisted.ensureDeferred
async def test_initialPacket(
    serve: Any, client: Run, transports: list[str], given: dict[str, Any], initial: Message
) -> None:
    """The initial message comes first, before what a handler of `connection` sends, and once."""

    def handler(socket: Any) -> None:
        socket.send("second")
        onceSettled(transports, lambda socket: socket.send("last"))(socket)

    options = {"initialPacket": initial, "allowEIO3": True}
    session, program = await heard(serve, client, transports, handler, given=given, **options)
    assert firstDifference(program.messages, [initial, "second", "last"]) is None
    assertWentWell(program, session, transports)


# wsEngine


@pytest.mark.node
@withWebSocket
@pytest.mark.parametrize("given", [{}, CLIENT_3], ids=["client 6", "client 3"])
@pytest_twisted.ensureDeferred
async def test_twistedEngine(serve: Any, client: Run, transports: list[str], given: dict[str, Any]) -> None:
    """On Twisted's WebSocket too, all messages, small and large, arrive unchanged and in order both ways."""
    messages = [*MIXED, *LARGE.values(), *(f"message {number}" for number in range(1_000)), *MIXED]
    session, program = await echoed(
        serve, client, transports, messages, given=given, wsEngine=TwistedEngine, allowEIO3=True
    )
    assertWentWell(program, session, transports)


@withWebSocket
@needsTwistedEngine
@pytest_twisted.ensureDeferred
async def test_twistedEngineWithPythonsClient(serve: Any, python: Run, transports: list[str]) -> None:
    """The client of python-engineio talks to Twisted's WebSocket."""
    messages = [*MIXED, *LARGE.values()]
    session, program = await echoed(serve, python, transports, messages, wsEngine=TwistedEngine)
    assert program.named("disconnect") == [{"event": "disconnect", "reason": "client disconnect"}]
    assertTransport(session, transports)


@pytest.mark.node
@pytest_twisted.ensureDeferred
async def test_subprotocolsOnTwistedEngine(serve: Any, client: Run) -> None:
    """A client that offers subprotocols gets the first on Twisted's WebSocket too."""
    given = {"answers": True, "options": {"protocols": ["chat", "other"]}}
    _, program = await echoed(serve, client, ["websocket"], ["hello"], given=given, wsEngine=TwistedEngine)
    assert [each["headers"]["sec-websocket-protocol"] for each in program.named("answer")] == ["chat"]
    assertUneventful(program, ["websocket"])


# initial_headers, headers and middlewares


@pytest.mark.node
@overEveryTransport
@onEveryEngine
@pytest_twisted.ensureDeferred
async def test_headers(serve: Any, client: Run, transports: list[str], engine: Any) -> None:
    """The client sees the headers that handlers set: some with its first answer, some with each, the 101 included."""

    def initial(headers: Any, request: Any) -> None:
        headers["X-First"] = "yes"
        headers["Set-Cookie"] = ["one=1; Path=/", "two=2"]

    def every(headers: Any, request: Any) -> None:
        headers["X-Each"] = request.method.decode()
        # What a middleware has set can be seen and changed.
        headers["X-Changed"] = headers["x-changed"] + " and changed"

    def middleware(request: Any) -> None:
        request.setHeader("X-Changed", "set")
        request.setHeader("X-Middleware", "set")

    setUps = hears(initial_headers=initial, headers=every), lambda server: server.use(middleware)
    given = {"answers": True}
    _, program = await echoed(serve, client, transports, MIXED, *setUps, given=given, wsEngine=engine)
    assertUneventful(program, transports)
    first, *others = program.named("answer")
    assert first["headers"]["x-first"] == "yes"
    assert first["headers"]["set-cookie"] == ["one=1; Path=/", "two=2"]
    assert [each for each in others if {"x-first", "set-cookie"} & set(each["headers"])] == []
    for answer in (first, *others):
        assert answer["headers"]["x-each"] == answer["method"]
        assert answer["headers"]["x-changed"] == "set and changed"
        assert answer["headers"]["x-middleware"] == "set"
    statuses = {"polling": 200, "websocket": 101}
    assert {each["status"] for each in (first, *others)} == {statuses[each] for each in transports}


@pytest.mark.node
@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest_twisted.ensureDeferred
async def test_headersOfRefusals(serve: Any, client: Run, transport: str) -> None:
    """A refusal has the headers of each answer as well, and none of a session's first."""

    def setup(server: Any) -> None:
        server.on("headers", lambda headers, request: headers.update({"X-Each": "yes"}))
        server.on("initial_headers", lambda headers, request: headers.update({"X-First": "yes"}))

    running = await serve(setup, allowRequest=lambda request: False, cookie=True)
    program = client(running.url, "listen", [transport], answers=True)
    await program.finish()
    (answer,) = program.named("answer")
    assert answer["status"] == 403
    assert answer["headers"]["x-each"] == "yes"
    assert not {"x-first", "set-cookie"} & set(answer["headers"])
    assert program.names == ["error", "close"]


# allowedOrigins and cors

ORIGIN = "https://example.com"


@pytest.mark.node
@overEveryTransport
@pytest.mark.parametrize("origin", [ORIGIN, None])
@pytest_twisted.ensureDeferred
async def test_allowedOrigin(serve: Any, client: Run, transports: list[str], origin: str | None) -> None:
    """A client from an allowed origin, or from none, is served as ever, and each answer says so."""
    given = {"answers": True, "options": {"extraHeaders": {"Origin": origin}} if origin else {}}
    options = {"allowedOrigins": [ORIGIN], "cors": {"origin": [ORIGIN], "credentials": True}}
    session, program = await echoed(serve, client, transports, MIXED, given=given, **options)
    assertWentWell(program, session, transports)
    for answer in program.named("answer"):
        assert answer["headers"].get("access-control-allow-origin") == origin
        assert answer["headers"].get("access-control-allow-credentials") == ("true" if origin else None)
        assert answer["headers"]["vary"] == "Origin"


@pytest.mark.node
@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest_twisted.ensureDeferred
async def test_otherOrigin(serve: Any, client: Run, transport: str) -> None:
    """A client from another origin sees an error, and the application a refusal with code 4."""
    refusals: list[Any] = []
    running = await serve(lambda server: server.on("connection_error", refusals.append), allowedOrigins=ORIGIN)
    options = {"extraHeaders": {"Origin": "https://example.org"}}
    program = client(running.url, "listen", [transport], answers=True, options=options)
    await program.finish()
    assert program.names == ["error", "close"]
    assert [each["status"] for each in program.named("answer")] == [403]
    assert [each.code for each in refusals] == [4]
    assert running.server.clientsCount == 0


# All together


@pytest.mark.node
@overEveryTransport
@pytest.mark.parametrize("given", [{"fetch": True}, {**CLIENT_3, "xhr2": True}], ids=["client 6", "client 3"])
@pytest_twisted.ensureDeferred
async def test_allOptions(serve: Any, client: Run, transports: list[str], given: dict[str, Any]) -> None:
    """With every option at once, nothing gets into the way of anything else."""
    application, cookies, codings = Application(), Cookies(), Codings()
    origins: set[str | None] = set()

    def setup(server: Any) -> None:
        application(server)
        server.use(cookies)
        server.use(lambda request: origins.add(request.getHeader("origin")))
        server.on("headers", codings)

    running = await serve(
        setup,
        allowEIO3=True,
        allowedOrigins=[ORIGIN],
        cookie=True,
        cors={"origin": ORIGIN, "credentials": True},
        httpCompression={"threshold": 100, "level": 1},
        initialPacket=b"welcome",
        perMessageDeflate={"threshold": 0, "memLevel": 2},
    )
    messages = [*LARGE.values(), *MIXED]
    options = {"extraHeaders": {"Origin": ORIGIN}, "withCredentials": True}
    program = client(running.url, "echo", transports, messages=packed(messages), answers=True, options=options, **given)
    session = await application.ended(program)
    assert firstDifference(session.messages, messages) is None
    # The client leaves after as many as it sent, and gets the initial one as well.
    assert firstDifference(program.messages, [b"welcome", *messages[:-1]]) is None
    assertWentWell(program, session, transports)
    assert origins == {ORIGIN}
    # Client 3 keeps no cookies, and takes no compressed answers, under Node.js.
    isLatest = session.socket.protocol == 4
    first, *later = cookies.seen
    assert first is None
    # Client 6 may send it twice where it has headers of its own as well.
    assert all((f"io={session.socket.id}" in (cookie or "")) is isLatest for cookie in later)
    assert ("gzip" in codings.seen) is (isLatest and transports != ["websocket"])
    assert extensions(program) == ["permessage-deflate"] * ("websocket" in transports)
