"""For the tests with real clients: programs that run beside the server, and what the server's application saw."""

from __future__ import annotations

import json
import os
import reprlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from .engines import TwistedEngine

INTEROP = Path(__file__).parents[1] / "interop"

# Longer than the programs' own deadline, which has the better message.
DEADLINE = 75

# What the parametrized tests go through: the transports that a client is allowed.
TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": ["polling", "websocket"]}
BOTH = TRANSPORTS["upgrade"]

Message: TypeAlias = str | bytes
Event: TypeAlias = dict[str, Any]


def pack(message: Message) -> dict[str, str]:
    """A message in the form in which it travels to and from the programs."""
    if isinstance(message, bytes):
        return {"binary": b64encode(message).decode("ascii")}
    return {"text": message}


def unpack(event: Event) -> Message:
    """The message that a program printed."""
    if "binary" in event:
        return b64decode(event["binary"])
    text: str = event["text"]
    return text


MIXED: list[Message] = ["hello", bytes(range(256)), "", b"", "é € 😀 \u2028 \x00", b"\x00\xff", "last"]

LARGE: dict[str, Message] = {"text": "0123456789abcdé" * 33_333, "binary": bytes(range(250)) * 2_000}


def firstDifference(got: Sequence[Message], wanted: Sequence[Message]) -> str | None:
    """
    Where two sequences begin to differ, or None.

    For asserts on many or large messages, whose difference pytest would take minutes to print.
    """
    for number, (one, other) in enumerate(zip(got, wanted, strict=False)):
        if one != other:
            return f"number {number} is {reprlib.repr(one)} instead of {reprlib.repr(other)}"
    return None if len(got) == len(wanted) else f"{len(got)} instead of {len(wanted)}"


async def within(deferred: Deferred[Any], what: str) -> Any:
    """The result of `deferred`; a failure that names what was waited for when it takes forever."""
    from twisted.internet import reactor

    def timedOut(result: object, seconds: float) -> object:
        raise AssertionError(f"waited {seconds} s for {what}")

    return await deferred.addTimeout(DEADLINE, reactor, onTimeoutCancel=timedOut)


class Program(ProcessProtocol):
    """A program that prints what happens as JSON objects, one a line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[Event] = []
        self._line = b""
        self._errors = b""
        self._end: Failure | None = None
        # Fired, all of them, with every event and with the end.
        self._waiting: list[Deferred[None]] = []

    def outReceived(self, data: bytes) -> None:
        *lines, self._line = (self._line + data).split(b"\n")
        self.events += [json.loads(line) for line in lines]
        self._wake()

    def errReceived(self, data: bytes) -> None:
        self._errors += data

    def processEnded(self, reason: Failure) -> None:
        self._end = reason
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        while not condition():
            news: Deferred[None] = Deferred()
            self._waiting.append(news)
            await within(news, f"{self.name}: {what}")

    async def saw(self, event: str, **details: object) -> Event:
        """Wait until the program prints such an event with such details (or take one it has printed already)."""
        await self._until(lambda: self._end is not None or bool(self.named(event, **details)), event)
        assert self.named(event, **details), f"{self.name} ended without {event!r}, {details}: {self}"
        return self.named(event, **details)[0]

    async def finish(self) -> None:
        """Wait until the program ends by itself, successfully."""
        await self._until(lambda: self._end is not None, "its end")
        assert self._end is not None
        assert getattr(self._end.value, "exitCode", None) == 0, f"{self.name} failed: {self}"

    async def kill(self) -> None:
        """End the program wherever it is."""
        if self._end is None:
            self.signal("KILL")
            await self._until(lambda: self._end is not None, "its end")

    def signal(self, name: str | int) -> None:
        assert self.transport is not None
        # It may have ended unnoticed: that is news for the reactor's next turn.
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)

    def named(self, event: str, **details: object) -> list[Event]:
        return [each for each in self.events if each["event"] == event and details.items() <= each.items()]

    @property
    def names(self) -> list[str]:
        """The names of all events that an application sees, except messages, in order."""
        return [each["event"] for each in self.events if each["event"] not in ("message", "answer", "carried")]

    @property
    def messages(self) -> list[Message]:
        return [unpack(each) for each in self.named("message")]

    def __str__(self) -> str:
        end = "running" if self._end is None else self._end.getErrorMessage()
        # A test may have ten thousand messages: the end of the story is what explains a failure.
        return f"{end}\n{self._errors.decode(errors='replace')}\n" + "\n".join(map(str, self.events[-20:]))[-3000:]


@contextmanager
def programs() -> Iterator[Callable[..., Program]]:
    """A function that starts programs: `start([executable, argument, ...], input)`. None outlives the context."""
    from twisted.internet import reactor

    started: list[Program] = []

    def start(command: Sequence[str | Path], given: object = None, env: dict[str, str] | None = None) -> Program:
        arguments = [str(each) for each in command]
        program = Program(" ".join(arguments[1:3]))
        reactor.spawnProcess(program, arguments[0], arguments, env={**os.environ, **(env or {})})
        started.append(program)
        assert program.transport is not None
        if given is not None:
            program.transport.write(json.dumps(given).encode())
        program.transport.closeStdin()
        return program

    try:
        yield start
    finally:
        for program in started:
            pytest_twisted.blockon(Deferred.fromCoroutine(program.kill()))


Run: TypeAlias = Callable[..., Program]

overEveryTransport = pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)


@attrs.frozen
class Kind:
    """
    A JavaScript client against a server with certain options.

    @ivar given: what the client's program is given.
    @ivar options: of the server.
    @ivar transports: the names of those on which it differs from others.
    """

    given: dict[str, Any] = attrs.Factory(dict)
    options: dict[str, Any] = attrs.Factory(dict)
    transports: tuple[str, ...] = tuple(TRANSPORTS)


CLIENT_3 = {"client": "engine.io-client-3"}
_ALLOWED_3 = {"allowEIO3": True}
_WEBSOCKET = ("websocket", "upgrade")

# How client 3 takes binary. Under Node.js it does so over WebSocket alone, and asks for base64 if it polls; in browsers
# it polls in bytes too, and so it does here with requests that can carry them. WebSocket alone is the same in both.
KINDS: dict[str, Kind] = {
    "client 6": Kind(),
    "client 3": Kind(CLIENT_3, _ALLOWED_3),
    "client 3 in bytes": Kind({**CLIENT_3, "xhr2": True}, _ALLOWED_3, ("polling", "upgrade")),
    "client 3 in base64": Kind({**CLIENT_3, "options": {"forceBase64": True}}, _ALLOWED_3),
    "twisted": Kind({}, {"wsEngine": TwistedEngine}, _WEBSOCKET),
    "twisted, client 3": Kind(CLIENT_3, {"wsEngine": TwistedEngine, **_ALLOWED_3}, _WEBSOCKET),
    "deflated": Kind({}, {"perMessageDeflate": True}, _WEBSOCKET),
    "all compressed": Kind(
        {"fetch": True}, {"httpCompression": {"threshold": 0}, "perMessageDeflate": {"threshold": 0}}
    ),
}

FORMS_OF_3 = ("client 3", "client 3 in bytes", "client 3 in base64")


def ofKinds(*names: str) -> pytest.MarkDecorator:
    """Run a test with clients of these kinds."""
    return pytest.mark.parametrize("kind", [KINDS[each] for each in names], ids=names)


def ofKindsOverTransports(*names: str) -> pytest.MarkDecorator:
    """Run a test with clients of these kinds, over each of the transports on which they differ."""
    cases = [
        pytest.param(transports, KINDS[name], id=f"{each}-{name}")
        for name in names
        for each, transports in TRANSPORTS.items()
        if each in KINDS[name].transports
    ]
    return pytest.mark.parametrize(("transports", "kind"), cases)


def scenarios(start: Run, interpreter: str, program: str) -> Run:
    """
    A function that starts a client in a scenario of its program, with the input that is described there:
    `client(url, "echo", transports, messages=...)`.

    @param start: as from L{programs}.
    """

    def run(url: str, scenario: str, transports: list[str], **given: Any) -> Program:
        return start([interpreter, INTEROP / program, url, scenario, json.dumps(transports)], given)

    return run


def pythonPath() -> dict[str, str]:
    """The environment in which a Python program finds the package that this process tests."""
    import engineio_twisted

    (package,) = engineio_twisted.__path__
    return {"PYTHONPATH": os.pathsep.join([str(Path(package).parent), *filter(None, [os.environ.get("PYTHONPATH")])])}


class Session:
    """What the server's application saw of one session."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.messages: list[Message] = []
        self.happened: list[str] = []
        # How many messages had arrived when the session was upgraded.
        self.beforeUpgrade = 0
        self._reasons: DeferredQueue[str] = DeferredQueue()
        socket.on("message", self.messages.append)
        socket.on("upgrading", lambda transport: self.happened.append(f"upgrading to {transport.name}"))
        socket.on("upgrade", self._upgraded)
        socket.on("close", self._closed)

    def _upgraded(self, transport: Any) -> None:
        self.happened.append(f"upgrade to {transport.name}")
        self.beforeUpgrade = len(self.messages)

    def _closed(self, reason: str, description: object) -> None:
        self.happened.append(f"close: {reason}")
        self._reasons.put(reason)

    async def closed(self) -> str:
        """Wait for the session's end, and return its reason."""
        reason: str = await within(self._reasons.get(), "the close of the session on the server")
        return reason


def assertTransport(session: Session, transports: list[str]) -> None:
    """The session ended up on the last of the client's transports, and the application was told about the change."""
    upgrade = ["upgrading to websocket", "upgrade to websocket"] if len(transports) > 1 else []
    happened = [each for each in session.happened if not each.startswith("close")]
    assert happened == upgrade, happened
    assert session.socket.upgraded is bool(upgrade), session.socket.upgraded
    assert session.socket.transport.name == transports[-1], session.socket.transport.name


def assertUneventful(program: Program, transports: list[str]) -> None:
    """The JavaScript client noticed the start, the upgrade and the end, once each, and no trouble."""
    upgrade = ["upgrading", "upgrade"] if len(transports) > 1 else []
    assert program.names == ["open", *upgrade, "close"], str(program)
    assert program.named("open")[0]["transport"] == transports[0], str(program)
    for each in upgrade:
        assert program.named(each)[0]["transport"] == "websocket", str(program)


def sentDuring(program: Program) -> list[Message]:
    """What the JavaScript client sent in the scenario `during`, once it has reported that."""
    (sent,) = program.named("sent")
    texts = [f"client {number}" for number in range(sent["count"])]
    return [*(text if number % 3 else text.encode() for number, text in enumerate(texts)), "last"]


class Application:
    """
    An application on the server that takes note of everything, and echoes messages unless told not to.

    Give it to the `serve` fixture as `setup`; `handler`, where given, is called with each session's socket.
    """

    def __init__(self, handler: Callable[[Any], object] | None = None, *, echo: bool = True) -> None:
        self._handler = handler
        self._echo = echo
        self._sessions: DeferredQueue[Session] = DeferredQueue()

    def __call__(self, server: Any) -> None:
        server.on("connection", self._connected)

    def _connected(self, socket: Any) -> None:
        session = Session(socket)
        if self._echo:
            socket.on("message", socket.send)
        if self._handler is not None:
            self._handler(socket)
        self._sessions.put(session)

    async def session(self) -> Session:
        """Wait for the next session."""
        session: Session = await within(self._sessions.get(), "a session on the server")
        return session

    async def ended(self, program: Program, reason: str = "transport close") -> Session:
        """Wait for the end of the next session, which has to be for this reason, and of its client's program."""
        session = await self.session()
        assert await session.closed() == reason
        await program.finish()
        return session


def assertWentWell(program: Program, session: Session, transports: list[str]) -> None:
    """Neither the JavaScript client nor the application noticed any trouble."""
    assertUneventful(program, transports)
    assertTransport(session, transports)


def calledWith(*setUps: Callable[[Any], object]) -> Callable[[Any], None]:
    """For `serve`: applications, and whatever else is called with the server."""

    def setUp(server: Any) -> None:
        for each in setUps:
            each(server)

    return setUp


async def echoed(
    serve: Callable[..., Any],
    client: Run,
    transports: list[str],
    messages: Sequence[Message],
    *setUps: Callable[[Any], object],
    given: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Session, Program]:
    """
    Let a client send messages to an application that sends them back, and check that both got them in order.

    @param setUps: called with the server as well.
    @param given: what the client's program is given besides.
    @param options: of the server.
    """
    application = Application()
    running = await serve(calledWith(application, *setUps), **options)
    program = client(running.url, "echo", transports, messages=[pack(each) for each in messages], **(given or {}))
    session = await application.ended(program)
    assert firstDifference(session.messages, messages) is None
    assert firstDifference(program.messages, messages) is None
    assert running.server.clientsCount == 0
    return session, program


async def heard(
    serve: Callable[..., Any],
    client: Run,
    transports: list[str],
    handler: Callable[[Any], object],
    *setUps: Callable[[Any], object],
    given: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Session, Program]:
    """
    Let a client listen to an application with a given handler of sessions until `last` comes, and leave.

    The other parameters are those of L{echoed}.
    """
    application = Application(handler, echo=False)
    running = await serve(calledWith(application, *setUps), **options)
    program = client(running.url, "listen", transports, last="last", **(given or {}))
    return await application.ended(program), program


def onceSettled(transports: list[str], what: Callable[[Any], object]) -> Callable[[Any], None]:
    """A handler of sessions that calls `what` with each as soon as it is on the transport that it is to stay on."""

    def handler(socket: Any) -> None:
        if len(transports) > 1:
            socket.on("upgrade", lambda transport: what(socket) and None)
        else:
            what(socket)

    return handler
