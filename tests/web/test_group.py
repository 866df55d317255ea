"""Connections that are watched as one are served as a reactor would serve them."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import tcp
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python import context, log
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.web.wsgi import WSGIResource
from zope.interface import implementer

from engineio_twisted import Server, listen
from engineio_twisted.web.fast import siteFor
from engineio_twisted.web.group import ConnectionGroup

from ..kit.wire import Wire, eventually, http, makeFrame, target

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="only Linux has epoll")


@attrs.define(eq=False)
class Recorder(Protocol):
    """Keeps what happens to it."""

    received: list[bytes] = attrs.field(factory=list)
    lost: list[type[BaseException] | None] = attrs.field(factory=list)
    does: Callable[[bytes], object] = attrs.field(default=lambda _: None)

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)
        self.does(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.append(reason.type)


@attrs.define(eq=False)
class Watched:
    """A connection, and the other end of it."""

    connection: tcp.Server
    protocol: Any
    peer: socket.socket


class Bench:
    """A reactor that goes round when it is told to, with some connections."""

    def __init__(self, isGrouped: bool) -> None:
        from twisted.internet.epollreactor import EPollReactor

        self.reactor = EPollReactor()
        self.own = set(self.reactor.getReaders())
        self.group = ConnectionGroup(self.reactor) if isGrouped else None
        self.sockets: list[socket.socket] = []

    def connect(self, protocol: Any = None) -> Watched:
        """Make a connection, watched in one way or the other."""
        with socket.create_server(("127.0.0.1", 0)) as port:
            peer = socket.create_connection(port.getsockname())
            accepted, address = port.accept()
        accepted.setblocking(False)
        self.sockets += [peer, accepted]
        protocol = Recorder() if protocol is None else protocol
        connection = tcp.Server(accepted, protocol, address, None, 7, self.reactor)
        protocol.makeConnection(connection)
        if self.group is not None:
            self.group.adopt(connection)
            assert connection.reactor is self.group
        return Watched(connection, protocol, peer)

    def turn(self) -> None:
        """Let the reactor go round once; loopback has delivered by then what was sent."""
        self.reactor.doIteration(0)
        self.reactor.runUntilCurrent()

    @property
    def readers(self) -> list[Any]:
        """What the reactor watches of what isn't its own."""
        return [each for each in self.reactor.getReaders() if each not in self.own]

    def close(self) -> None:
        for each in self.sockets:
            each.close()
        for reader in self.own:
            reader.connectionLost(Failure(ConnectionDone()))
        self.reactor._poller.close()


@pytest.fixture(params=["reactor", "group"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Both ways."""
    made = Bench(request.param == "group")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def grouped() -> Iterator[Bench]:
    """Connections watched as one."""
    made = Bench(True)
    try:
        yield made
    finally:
        made.close()


def test_reading(bench: Bench) -> None:
    """Each gets what was sent to it, and nothing where nothing was."""
    one, other, silent = bench.connect(), bench.connect(), bench.connect()
    one.peer.sendall(b"to one")
    other.peer.sendall(b"to another")
    bench.turn()
    assert [each.protocol.received for each in (one, other, silent)] == [[b"to one"], [b"to another"], []]
    one.peer.sendall(b"more")
    bench.turn()
    assert one.protocol.received == [b"to one", b"more"]


def test_writing(bench: Bench) -> None:
    """What a connection doesn't take at once goes out when the client reads."""
    one = bench.connect()
    message = b"x" * 8_000_000
    one.connection.write(message)
    one.peer.settimeout(10)
    size = 0
    while size < len(message):
        bench.turn()
        size += len(one.peer.recv(1_000_000))
    bench.turn()
    assert not one.connection.dataBuffer
    # Where it is asked for what isn't there, nothing happens.
    one.connection.stopWriting()
    one.peer.sendall(b"still heard")
    bench.turn()
    assert one.protocol.received == [b"still heard"]


def test_pausing(bench: Bench) -> None:
    """A connection that is paused isn't read, until it is resumed; saying either again changes nothing."""
    one = bench.connect()
    one.connection.pauseProducing()
    one.connection.pauseProducing()
    one.peer.sendall(b"later")
    bench.turn()
    assert one.protocol.received == []
    one.connection.resumeProducing()
    one.connection.resumeProducing()
    bench.turn()
    assert one.protocol.received == [b"later"]


def test_theClientCloses(bench: Bench) -> None:
    """It is noticed, after all that was sent before, and nothing of the connection stays."""
    one, other = bench.connect(), bench.connect()
    one.peer.sendall(b"last words")
    one.peer.close()
    bench.turn()
    bench.turn()
    assert (one.protocol.received, one.protocol.lost) == ([b"last words"], [ConnectionDone])
    assert other.protocol.lost == []
    other.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    other.peer.close()
    bench.turn()
    assert other.protocol.lost == [ConnectionLost]
    assert bench.readers == []


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    """Goes on when one direction is closed."""

    half = False

    def readConnectionLost(self) -> None:
        self.half = True

    def writeConnectionLost(self) -> None:
        """It isn't tried."""


def test_halfClosing(bench: Bench) -> None:
    """A client may say that it has nothing more to say, and still be answered."""
    one = bench.connect(HalfCloseable())
    one.peer.shutdown(socket.SHUT_WR)
    bench.turn()
    assert (one.protocol.half, one.protocol.lost) == (True, [])
    one.connection.write(b"goodbye")
    bench.turn()
    assert one.peer.recv(100) == b"goodbye"
    one.connection.loseConnection()
    bench.turn()
    assert one.protocol.lost == [ConnectionDone]


def test_closingAnother(bench: Bench) -> None:
    """One that closes all while it is served is the last that is served."""
    all_ = [bench.connect() for _ in range(3)]

    def closeAll(_: bytes) -> None:
        for each in all_:
            each.connection.abortConnection()
        bench.reactor.runUntilCurrent()

    for each in all_:
        each.protocol.does = closeAll
        each.peer.sendall(b"x")
    bench.turn()
    assert sorted(each.protocol.received for each in all_) == [[], [], [b"x"]]
    assert all(each.protocol.lost for each in all_)
    assert bench.readers == []


def test_failing(bench: Bench, loggedErrors: list[LogEvent]) -> None:
    """What a protocol raises is logged and ends its own connection; the others are served."""
    one, other = bench.connect(), bench.connect()

    def fail(_: bytes) -> None:
        raise ValueError("broken")

    one.protocol.does = fail
    for each in (one, other):
        each.peer.sendall(b"x")
    bench.turn()
    assert [each["failure"].type for each in loggedErrors] == [ValueError]
    loggedErrors.clear()
    assert (one.protocol.lost, other.protocol.lost) == ([ValueError], [])
    assert other.protocol.received == [b"x"]


def test_logging(bench: Bench) -> None:
    """What is logged while a connection is served names that connection."""
    one = bench.connect()
    one.protocol.does = lambda _: log.msg("read")
    seen: list[dict[str, Any]] = []
    log.addObserver(seen.append)
    try:
        one.peer.sendall(b"x")
        bench.turn()
    finally:
        log.removeObserver(seen.append)
    assert [(each["message"], each["system"]) for each in seen] == [(("read",), "Recorder,7,127.0.0.1")]


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """Collect legacy log events."""
    seen: list[dict[str, Any]] = []
    log.addObserver(seen.append)
    try:
        yield seen
    finally:
        log.removeObserver(seen.append)


@pytest.mark.parametrize("isError", [False, True])
def test_loggingInAThread(bench: Bench, loggedErrors: list[LogEvent], isError: bool) -> None:
    """Work that a connection began in a thread logs with its name, also while others are served, or nobody is."""
    pool = ThreadPool(3, 3)
    pool.start()
    mayLog = threading.Event()

    def work(number: int) -> None:
        mayLog.wait(10)
        if isError:
            log.err(ValueError(), str(number))
        else:
            log.msg(str(number))

    all_ = [bench.connect() for _ in range(3)]
    for number, each in enumerate(all_):
        each.connection.logstr = f"connection {number}"
        # It is called as it is from here on.
        each.connection.stopReading()
        each.connection.startReading()
        each.protocol.does = lambda _, number=number: pool.callInThread(work, number)
        each.peer.sendall(b"x")
    with logged() as seen:
        bench.turn()
        mayLog.set()
        pool.stop()
    assert [each.protocol.received for each in all_] == [[b"x"]] * 3
    names = {each["why"] if isError else each["message"][0]: each["system"] for each in seen if "system" in each}
    assert names == {str(number): f"connection {number}" for number in range(3)}
    assert len(loggedErrors) == (3 if isError else 0)
    loggedErrors.clear()


def test_whatMayBeKept(grouped: Bench) -> None:
    """The context of a connection can be kept, and stays what it was; nobody can change it."""
    kept: list[tuple[Any, Any]] = []

    def keep(_: bytes) -> None:
        kept.append((context.theContextTracker.currentContext().contexts[-1], context.get(log.ILogContext)))

    one, other = grouped.connect(), grouped.connect()
    for number, each in enumerate((one, other)):
        each.protocol.does = keep
        each.connection.logstr = str(number)
        each.connection.stopReading()
        each.connection.startReading()
        each.peer.sendall(b"x")
    before = list(context.theContextTracker.currentContext().contexts)
    grouped.turn()
    assert context.theContextTracker.currentContext().contexts == before
    assert sorted(inner["system"] for _, inner in kept) == ["0", "1"]
    for outer, inner in kept:
        assert outer[log.ILogContext] is inner
        with pytest.raises(TypeError):
            outer[log.ILogContext] = {}
        with pytest.raises(TypeError):
            inner["system"] = "another"
        # As Twisted does before it adds to one.
        assert {**inner.copy(), "more": 1}["more"] == 1


class Refusing:
    """A system call that fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, problem: int) -> None:
        self.problem: int | None = problem
        self._epoll = select.epoll
        self.calls: set[str] = set()
        monkeypatch.setattr(select, "epoll", self.make)

    def fail(self, call: str) -> None:
        if call in self.calls:
            raise OSError(self.problem, "refused")

    def make(self) -> Any:
        self.fail("epoll")
        return RefusingPoll(self, self._epoll())


@attrs.define
class RefusingPoll:
    """Passes on what isn't refused."""

    refusing: Refusing
    poll_: Any

    def register(self, *args: Any) -> None:
        self.refusing.fail("register")
        self.poll_.register(*args)

    def modify(self, *args: Any) -> None:
        self.refusing.fail("modify")
        self.poll_.modify(*args)

    def unregister(self, *args: Any) -> None:
        self.refusing.fail("unregister")
        self.poll_.unregister(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.poll_, name)


@pytest.mark.parametrize(
    ("call", "problem"),
    [("epoll", errno.EMFILE), ("epoll", errno.ENFILE), ("register", errno.ENOSPC), ("register", errno.ENOMEM)],
)
@pytest.mark.parametrize("isFirst", [True, False])
def test_noRoomForAConnection(
    grouped: Bench, monkeypatch: pytest.MonkeyPatch, call: str, problem: int, isFirst: bool
) -> None:
    """A connection that the system doesn't watch for the group is served by the reactor; a later one by the group."""
    group = grouped.group
    assert group is not None
    refusing = Refusing(monkeypatch, problem)
    first = None if isFirst else grouped.connect()
    refusing.calls = {call}
    grouped.group = None
    one = grouped.connect()
    isAdopted = group.adopt(one.connection)
    assert isAdopted == (call == "epoll" and not isFirst)
    assert one.connection.reactor is (group if isAdopted else grouped.reactor)
    one.peer.sendall(b"x")
    grouped.turn()
    assert one.protocol.received == [b"x"]
    refusing.calls = set()
    grouped.group = group
    other = grouped.connect()
    for each in (one, other):
        each.peer.sendall(b"y")
    grouped.turn()
    assert (one.protocol.received, other.protocol.received) == ([b"x", b"y"], [b"y"])
    for each in (one, other, first):
        if each is not None:
            each.peer.close()
    grouped.turn()
    assert [each.protocol.lost for each in (one, other)] == [[ConnectionDone], [ConnectionDone]]
    assert grouped.readers == []


@pytest.mark.parametrize("call", [None, "epoll", "register"])
def test_aPortOfTheGroup(grouped: Bench, monkeypatch: pytest.MonkeyPatch, call: str | None) -> None:
    """The reactor never watches connections of such a port, unless the system doesn't watch them for the group."""
    assert grouped.group is not None
    asked: list[Any] = []
    addReader = grouped.reactor.addReader
    monkeypatch.setattr(grouped.reactor, "addReader", lambda reader: (asked.append(reader), addReader(reader)))
    made: list[Recorder] = []

    class Recorders(Factory):
        def buildProtocol(self, _: Any) -> Recorder:
            made.append(Recorder())
            return made[-1]

    port = grouped.reactor.listenTCP(0, Recorders(), interface="127.0.0.1")
    grouped.group.serve(port)
    refusing = Refusing(monkeypatch, errno.ENOSPC)
    refusing.calls = {call} if call is not None else set()
    with socket.create_connection(("127.0.0.1", port.getHost().port)) as peer:
        grouped.turn()
        transport: Any = made[0].transport
        isWatched = call is None
        assert transport.reactor is (grouped.group if isWatched else grouped.reactor)
        assert (transport not in asked) is isWatched
        assert grouped.group.adopt(transport) is isWatched
        peer.sendall(b"x")
        grouped.turn()
        assert made[0].received == [b"x"]
        made[0].transport.write(b"y")  # type: ignore[union-attr]
        grouped.turn()
        assert peer.recv(10) == b"y"
    grouped.turn()
    assert made[0].lost == [ConnectionDone]
    port.stopListening()
    grouped.turn()
    assert grouped.readers == []


@pytest_twisted.ensureDeferred
async def test_portsOfAServer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that listen opens give their connections to the group at once; those around other protocols can't."""
    from twisted.internet import reactor

    asked: list[Any] = []
    ofReactor: Any = reactor
    addReader = ofReactor.addReader
    monkeypatch.setattr(ofReactor, "addReader", lambda reader: (asked.append(reader), addReader(reader)))
    for description, isWatched in (("tcp:0", True), ("haproxy:tcp:0", False)):
        server = listen(f"{description}:interface=127.0.0.1")
        port = await server.listening
        wire = Wire()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), wire)
        if not isWatched:
            wire.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
        wire.send(http("GET", target()))
        assert (await wire.response()).status == 200
        assert any(isinstance(each, tcp.Server) for each in asked) is not isWatched
        await server.close()
        await wire.lost()


def test_theReactorHasNoRoom(grouped: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the reactor can't watch the group, it watches the connection, and no file stays open."""
    assert grouped.group is not None
    group, grouped.group = grouped.group, None
    one = grouped.connect()
    files = os.listdir("/proc/self/fd")

    def refuse(_: object) -> None:
        raise OSError(errno.ENOSPC, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(grouped.reactor, "addReader", refuse)
        assert not group.adopt(one.connection)
    assert os.listdir("/proc/self/fd") == files
    assert group.fileno() == -1
    one.peer.sendall(b"x")
    grouped.turn()
    assert one.protocol.received == [b"x"]


def test_aChangeFails(grouped: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is watched for stays as it was where the system refuses to change it, and can be changed later."""
    refusing = Refusing(monkeypatch, errno.ENOMEM)
    one = grouped.connect()
    refusing.calls = {"modify"}
    with pytest.raises(OSError, match="refused"):
        one.connection.write(b"x")
    refusing.calls = set()
    grouped.turn()
    one.connection.startWriting()
    grouped.turn()
    assert one.peer.recv(10) == b"x"
    one.connection.startWriting()
    refusing.calls = {"modify"}
    with pytest.raises(OSError, match="refused"):
        one.connection.pauseProducing()
    refusing.calls = set()
    one.peer.sendall(b"y")
    grouped.turn()
    assert one.protocol.received == [b"y"]
    one.connection.abortConnection()
    grouped.turn()
    assert grouped.readers == []


def test_closedByAnother(grouped: Bench) -> None:
    """A file that others closed doesn't keep the connection that gets its number from being served."""
    assert grouped.group is not None
    group, grouped.group = grouped.group, None
    one, new = grouped.connect(), grouped.connect()
    assert group.adopt(one.connection)
    number = one.connection.fileno()
    one.connection.socket.close()
    os.dup2(new.connection.fileno(), number)
    new.connection.stopReading()
    new.connection.socket = socket.socket(fileno=number)
    grouped.sockets.append(new.connection.socket)
    new.connection.fileno = new.connection.socket.fileno  # type: ignore[method-assign]
    new.connection.startReading()
    assert group.adopt(new.connection)
    new.peer.sendall(b"x")
    grouped.turn()
    assert new.protocol.received == [b"x"]
    # The other has no number any more, and isn't taken for this one.
    one.connection.stopReading()
    new.peer.sendall(b"y")
    grouped.turn()
    assert new.protocol.received == [b"x", b"y"]


def test_closedByAnotherAndForgotten(grouped: Bench) -> None:
    """A file that others closed is found when its connection is to be watched no longer."""
    one = grouped.connect()
    one.connection.socket.close()
    one.connection.stopReading()
    assert grouped.readers == []


@contextmanager
def fewDescriptors(free: int) -> Iterator[list[int]]:
    """Leave the process so many file descriptors; of those that are held in the end, some may be closed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each) for each in os.listdir("/proc/self/fd"))
    fillers: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
    try:
        with suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        for _ in range(free):
            os.close(fillers.pop())
        yield fillers
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in fillers:
            os.close(each)


@pytest.mark.sockets
@pytest.mark.parametrize("isError", [False, True])
@pytest_twisted.ensureDeferred
async def test_aHandlersThread(hostile: Any, loggedErrors: list[LogEvent], isError: bool) -> None:
    """What a handler leaves to a thread can log there, after the handler and beside others, by the name it has here."""
    names: list[tuple[str, str | None]] = []
    mayLog = threading.Event()

    def work(number: str) -> str | None:
        mayLog.wait(10)
        log.err(ValueError(number)) if isError else log.msg(number)
        found: str | None = context.get(log.ILogContext)["system"]
        return found

    def received(number: str) -> None:
        here = context.get(log.ILogContext)["system"]
        deferToThread(work, number).addCallback(lambda there: names.append((here, there)))

    async with hostile() as here:
        here.server.on("connection", lambda session: session.on("message", received))
        for number in range(3):
            _, wire = await here.openWebSocket()
            wire.send(makeFrame(f"4{number}"))
            # It is served again while the thread works.
            assert await wire.text() == f"4{number}"
        mayLog.set()
        await eventually(lambda: len(names) == 3, "the threads")
    assert len({name for name, _ in names}) == 3
    assert all(here == there for here, there in names)
    assert len(loggedErrors) == (3 if isError else 0)
    loggedErrors.clear()


@pytest_twisted.ensureDeferred
async def test_aWSGIApplicationsThread(loggedErrors: list[LogEvent]) -> None:
    """So can a WSGI application beside the sessions, whose threads work while other connections are served."""
    from twisted.internet import reactor

    names: list[str | None] = []
    mayLog = threading.Event()

    def application(environ: Any, start: Any) -> list[bytes]:
        mayLog.wait(10)
        log.msg("a message")
        log.err(ValueError("an error"))
        names.append(context.get(log.ILogContext)["system"])
        start("200 OK", [("Content-Length", "4")])
        return [b"done"]

    server = Server()
    reactorOfThreads: Any = reactor
    pool = reactorOfThreads.getThreadPool()
    site = siteFor(WSGIResource(reactor, pool, application), reactor, takesBodies=True)
    server.attach(site)
    port = reactorOfThreads.listenTCP(0, site, interface="127.0.0.1")
    wires = []
    for _ in range(4):
        wires.append(Wire())
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), wires[-1])
    *asking, polling = wires
    for each in asking:
        each.send(http("GET", "/"))
        polling.send(http("GET", target()))
        assert (await polling.response()).status == 200
    mayLog.set()
    for each in asking:
        assert (await each.response()).body == b"done"
    assert len(set(names)) == 3
    assert all(name is not None and "Channel," in name for name in names), names
    assert len(loggedErrors) == 3
    loggedErrors.clear()
    await server.close()
    await port.stopListening()
    site.closeConnections()
    for each in wires:
        await each.lost()


@pytest_twisted.ensureDeferred
async def test_noFileDescriptors(serve: Any) -> None:
    """Connections for which there is no file descriptor are closed, and cost one line a second of each kind."""
    here = await serve()
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(8)]
        for each in clients:
            each.setblocking(False)
        lines: list[str] = []

        def observe(event: LogEvent) -> None:
            if event["log_namespace"] == "twisted.internet.tcp.Port" or "kind" in event:
                lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        stack.callback(globalLogPublisher.removeObserver, observe)

        def isClosed(client: socket.socket) -> bool:
            try:
                return client.recv(1) == b""
            except ConnectionResetError:
                return True
            except (BlockingIOError, OSError):
                return False

        with fewDescriptors(0):
            for client in clients:
                client.connect_ex(("127.0.0.1", here.port))
                await eventually(partial(isClosed, client), "the end of a connection")
        # It takes two seconds at most, unless the machine is busy.
        here.server._counters.throttle.flush()
        said = [each for each in lines if "suppressed" not in each]
        suppressed = sum(int(each.rpartition(": ")[2].split(" ")[0]) for each in lines if "suppressed" in each)
        assert sum("Closed socket" in each for each in said) >= 1
        # Each makes three lines.
        assert len(said) + suppressed >= 3 * len(clients)
        assert suppressed


@pytest.mark.parametrize("free", [1, 2, 3])
@pytest_twisted.ensureDeferred
async def test_theLastFileDescriptor(serve: Any, free: int) -> None:
    """A connection that takes the last there is is served like any other, and closed when the server is."""
    here = await serve()
    with ExitStack() as stack:
        client = stack.enter_context(socket.socket())
        fillers = stack.enter_context(fewDescriptors(free))
        client.connect(("127.0.0.1", here.port))
        client.setblocking(False)
        answer = bytearray()

        def hasAnswer() -> bool:
            with suppress(BlockingIOError):
                answer.extend(client.recv(65536))
            return b"maxPayload" in answer

        for isLast in (False, True):
            client.sendall(http("GET", target()))
            await eventually(hasAnswer, "an answer")
            answer.clear()
            if not isLast:
                # There is room again.
                os.close(fillers.pop())
        closing = here.server.close()
        closing.addCallback(lambda _: answer.extend(b"closed"))
        await eventually(lambda: b"closed" in answer, "the end of the server")
        assert client.recv(10) == b""


def test_resting(grouped: Bench) -> None:
    """With nobody to watch, the reactor has nothing to watch; and again with somebody."""
    assert grouped.readers == []
    for _ in range(2):
        one, other = grouped.connect(), grouped.connect()
        assert grouped.readers == [grouped.group]
        one.connection.abortConnection()
        assert grouped.readers == [grouped.group]
        other.protocol.does = lambda _, other=other: other.connection.loseConnection()
        other.peer.sendall(b"x")
        grouped.turn()
        grouped.turn()
        assert grouped.readers == []
        assert grouped.group is not None
        assert grouped.group.fileno() == -1


def test_timers(grouped: Bench) -> None:
    """All else that a connection asks of its reactor is the reactor's."""
    one = grouped.connect()
    calls: list[int] = []
    one.connection.reactor.callLater(0, calls.append, 1)
    grouped.turn()
    assert calls == [1]


def test_theReactorStops(grouped: Bench, loggedErrors: list[LogEvent]) -> None:
    """A reactor closes all it has when it stops, and so those that it has by way of this; whatever one of them does."""
    all_ = [grouped.connect() for _ in range(3)]

    def fail(reason: Failure) -> None:
        raise ValueError("broken")

    all_[1].protocol.connectionLost = fail
    for each in grouped.reactor.removeAll():
        if each is grouped.group:
            log.callWithLogger(each, each.connectionLost, Failure(CONNECTION_LOST))
    assert [each.protocol.lost for each in (all_[0], all_[2])] == [[ConnectionLost], [ConnectionLost]]
    assert [each["failure"].type for each in loggedErrors] == [ValueError]
    loggedErrors.clear()
    assert all(each.connection.fileno() == -1 for each in all_)


def test_whatIsLeftToTheReactor(grouped: Bench) -> None:
    """Connections over TLS, those of another reactor, those wrapped, and reactors that don't watch files."""
    plain = Bench(False)
    try:
        assert grouped.group is not None
        other = plain.connect()
        grouped.group.adopt(other.connection)
        assert other.connection.reactor is plain.reactor
        other.connection.TLS = True
        ConnectionGroup(plain.reactor).adopt(other.connection)
        assert other.connection.reactor is plain.reactor
        wrapper = ProtocolWrapper(WrappingFactory(Any), other.protocol)  # type: ignore[arg-type]
        wrapper.transport = other.connection
        ConnectionGroup(plain.reactor).adopt(wrapper)
        other.connection.TLS = False
        other.connection.reactor = clock = Clock()
        ConnectionGroup(clock).adopt(other.connection)
        assert other.connection.reactor is clock
        other.connection.reactor = plain.reactor
    finally:
        plain.close()
