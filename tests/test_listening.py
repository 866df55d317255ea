"""Ports of a server's own; over real sockets."""

from __future__ import annotations

import errno
from typing import Any

import pytest
import pytest_twisted
from incremental import Version
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent
from twisted.web.resource import Resource

import twisted
from engineio_twisted import Server, Site, listen

from .kit.asking import get
from .kit.wire import Wire, http, upgrade, within


@pytest_twisted.ensureDeferred
async def test_listen(serve: Any, pool: Any) -> None:
    """`callback` runs, requests outside the path get 501."""
    called: list[Any] = []
    server = listen("tcp:0:interface=127.0.0.1", lambda: called.append(True))
    port = (await server.listening).getHost().port
    assert called == [True]
    assert (await get(pool, port, "/engine.io/"))[0] == 200
    code, body = await get(pool, port, "/elsewhere")
    assert (code, "Not Implemented" in body) == (501, True)
    await server.close()


@pytest_twisted.ensureDeferred
async def test_listenOnANumber(serve: Any, pool: Any) -> None:
    """A number listens on all interfaces, by IPv4 and, where there is one, IPv6."""
    server = listen(0)
    addresses: list[Any] = []
    server.on("connection", lambda socket: addresses.append(socket.remoteAddress))
    port = (await server.listening).getHost()
    assert (await get(pool, port.port, "/engine.io/"))[0] == 200
    assert addresses == ["127.0.0.1"]
    await server.close()


@pytest.mark.filterwarnings(
    # Before 26.10 Twisted itself leaves a socket behind that it couldn't bind.
    "error" if twisted.version >= Version("Twisted", 26, 10, 0) else "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest_twisted.ensureDeferred
async def test_listenOnATakenPort(serve: Any) -> None:
    """`listening` fails with the reason; `callback` doesn't run; closing is possible."""
    first = await serve()
    called: list[Any] = []
    second = listen(f"tcp:{first.port}:interface=127.0.0.1", lambda: called.append(True))
    with pytest.raises(CannotListenError):
        await second.listening
    assert called == []
    await second.close()
    third = listen(first.port)
    with pytest.raises(CannotListenError):
        await third.listening


@pytest.mark.parametrize("endpoint", ["nonsense:1", "tcp:abc", "", -1, 65536, 3.5, None, True])
def test_listenOnNonsense(endpoint: Any) -> None:
    """What is no endpoint is refused at once, by value."""
    with pytest.raises(ValueError, match=r"endpoint .*: expected"):
        listen(endpoint, reactor=Clock())


@pytest.mark.parametrize(
    ("endpoint", "description"),
    [
        ("3000", "tcp:3000"),
        (":3000", "tcp:3000"),
        ("localhost:3000", "tcp:3000:interface=localhost"),
        ("http://0.0.0.0:3000/", "tcp:3000:interface=0.0.0.0"),
        ("[::1]:3000", r"tcp6:3000:interface=\:\:1"),
        ("0.0.0.0", "tcp:3000"),
    ],
)
def test_listenOnWhatIsWrittenElsewhere(endpoint: str, description: str) -> None:
    """A host and a port are no description; the error has the one that was meant, and that one is right."""
    with pytest.raises(ValueError, match="endpoint") as caught:
        listen(endpoint, reactor=Clock())
    assert str(caught.value).startswith(f"endpoint {endpoint!r}: expected a description such as {description!r} (")
    serverFromString(MemoryReactorClock(), description)


def test_listenOnASiteOrAServer() -> None:
    """The error says what was meant."""
    for given, cure in (
        (Site(Resource(), reactor=Clock()), "to serve on a site, call attach(site)"),
        (Server(), "listen makes a server itself: its options are given by name"),
    ):
        with pytest.raises(ValueError, match="endpoint") as caught:
            listen(given, reactor=Clock())  # type: ignore[arg-type]
        assert str(caught.value).endswith(f"or an endpoint; {cure}")


BY_NAME = "options are given by name, such as listen(3000, pingInterval=25000)"
CALLBACK = "expected something to call when the server listens"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            (3000, "0.0.0.0"),
            f"callback '0.0.0.0': {CALLBACK}; to listen on one interface, call listen('tcp:3000:interface=0.0.0.0')",
        ),
        (
            ("localhost", 3000),
            f"callback 3000: {CALLBACK}; to listen on one interface, call listen('tcp:3000:interface=localhost')",
        ),
        (
            (3000, {"pingInterval": 5000}),
            f"callback {{'pingInterval': 5000}}: {CALLBACK}; {BY_NAME}",
        ),
        ((3000, 5), f"callback 5: {CALLBACK}; such as listen(3000, started)"),
    ],
)
def test_whatIsNoCallback(arguments: Any, text: str) -> None:
    """Is an error at once, and nothing listens."""
    memory = MemoryReactorClock()
    with pytest.raises(TypeError) as caught:
        listen(*arguments, reactor=memory)
    assert str(caught.value) == text
    assert memory.tcpServers == []


def test_listenWithoutIPv6() -> None:
    """A number is enough on a system that has IPv4 alone."""

    class Reactor(MemoryReactorClock):
        def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
            if ":" in interface:
                raise CannotListenError(interface, port, OSError(errno.EAFNOSUPPORT, "no IPv6"))
            return super().listenTCP(port, factory, backlog, interface)

    reactor = Reactor()
    server = listen(3000, reactor=reactor)
    assert [(each[0], each[3]) for each in reactor.tcpServers] == [(3000, "")]
    assert server.listening.called


@pytest_twisted.ensureDeferred
async def test_listenOnAUnixSocket(serve: Any, tmp_path: Any) -> None:
    """A client on a UNIX socket has no address, and is served like any other."""
    path = tmp_path / "socket"
    server = listen(f"unix:{path}")
    addresses: list[Any] = []
    server.on("connection", lambda socket: addresses.append(socket.remoteAddress))
    await server.listening
    for request in (http("GET", "/engine.io/?EIO=4&transport=polling"), upgrade()):
        client: Wire = await connectProtocol(UNIXClientEndpoint(reactor, str(path)), Wire())
        client.send(request)
        assert (await client.head()).status in (200, 101)
        client.drop()
        await client.lost()
    assert addresses == [None, None]
    await within(server.close(), "the server closing")


@pytest_twisted.ensureDeferred
async def test_closeBeforeListening(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server closed while its endpoint takes its time never listens, and says so to who waits for that."""

    class Slow:
        """An endpoint that never has a port."""

        def listen(self, factory: Any) -> Deferred[Any]:
            return Deferred()

    monkeypatch.setattr("engineio_twisted.web.descriptions.serverFromString", lambda reactor, description: Slow())
    called: list[bool] = []
    server = listen("slow:1", lambda: called.append(True))
    await server.close()
    with pytest.raises(CancelledError):
        await server.listening
    assert called == []


def test_aPortThatCanNotBeClosed(loggedErrors: list[LogEvent], monkeypatch: pytest.MonkeyPatch) -> None:
    """Is logged, and nobody who closes the server waits for ever."""

    class Port:
        def stopListening(self) -> Deferred[None]:
            return fail(OSError("stuck"))

    class Endpoint:
        def listen(self, factory: Any) -> Deferred[Any]:
            return succeed(Port())

    monkeypatch.setattr("engineio_twisted.web.descriptions.serverFromString", lambda reactor, description: Endpoint())
    server = listen("stuck:1", reactor=Clock())
    assert server.close().called
    assert server.close().called
    assert [event["log_failure"].type for event in loggedErrors] == [OSError]
    loggedErrors.clear()


def test_aCallbackThatFails(loggedErrors: list[LogEvent]) -> None:
    """What it raises, at once or later, is logged; the server listens all the same."""

    async def later() -> None:
        raise RuntimeError("later")

    def now() -> None:
        raise RuntimeError("now")

    for callback in (now, later):
        server = listen("tcp:1", callback, reactor=MemoryReactorClock())
        assert server.isReady
        server.close()
    assert [str(each["log_failure"].value) for each in loggedErrors] == ["now", "later"]
    loggedErrors.clear()
