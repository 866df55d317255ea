"""Both servers made at once: the engine's with its options, and Socket.IO's with its own, at the path of clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from incremental import Version
from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.static import Data

import twisted
from engineio_twisted import EngineIOResource, FastSite, OptionError, Server, ServerOptions, Site
from engineio_twisted.service import EngineIOService
from engineio_twisted.socketio import SocketIO, SocketIOOptions, attach, listen
from engineio_twisted.socketio.listening import Keywords
from engineio_twisted.testing import MemoryServer

from ..kit.wire import connectTo, http


def names(options: Any) -> set[str]:
    return {each.name for each in attrs.fields(options)}


def test_theOptionsOfBoth() -> None:
    """Each option is that of one of the two, and type checkers know all of them."""
    assert names(ServerOptions) & names(SocketIOOptions) == set()
    assert {*Keywords.__annotations__} == names(ServerOptions) | names(SocketIOOptions)


@pytest.mark.parametrize("make", ["listen", "attach"])
def test_eachReachesItsOwn(make: str) -> None:
    """An option goes to the one that has it; the path is that of clients, unless another is given."""
    clock: Any = MemoryReactorClock()
    for path in ({}, {"path": "/chat"}):
        options: Any = {"pingInterval": 1000, "maxSessions": 7, "ackTimeout": 5, "maxAttachments": 2, **path}
        if make == "listen":
            io = listen(3000, reactor=clock, **options)
        else:
            io = attach(Site(Resource(), reactor=clock), reactor=clock, **options)
        assert isinstance(io, SocketIO)
        assert io.engine.reactor is clock
        opts = io.engine.opts
        assert (opts.path, opts.pingInterval, opts.maxSessions) == (path.get("path", "/socket.io"), 1000, 7)
        assert (io.opts.ackTimeout, io.opts.maxAttachments, io.opts.connectTimeout) == (5, 2, 45_000)
        io.close()


@pytest.mark.parametrize(
    ("options", "name", "expected"),
    [
        ({"ackTimeout": 0}, "ackTimeout", "expected a whole number"),
        ({"pingInterval": 0}, "pingInterval", "expected a whole number"),
        ({"ackTimeot": 5}, "ackTimeot", "did you mean ackTimeout?"),
        ({"maxAttachment": 5}, "maxAttachment", "did you mean maxAttachments?"),
        ({"pingIntervl": 5}, "pingIntervl", "did you mean pingInterval?"),
        ({"upgradeTimeot": 5}, "upgradeTimeot", "did you mean upgradeTimeout?"),
        ({"port": 3000}, "port", "a port is what is listened on"),
        ({"zzz": 1}, "zzz", "docs/options.md"),
        ({"serveClient": "/no/such/folder"}, "serveClient", "there is no such folder"),
    ],
)
def test_wrongOptions(options: Any, name: str, expected: str) -> None:
    """Are refused, misspelt ones with the right name, and nothing is attached to the site."""
    clock: Any = MemoryReactorClock()
    with pytest.raises(OptionError) as raised:
        listen(3000, reactor=clock, **options)
    assert (raised.value.name, raised.value.value) == (name, options[name])
    assert expected in raised.value.problem
    root = Resource()
    site: Any = Site(root, reactor=clock)
    with pytest.raises(OptionError, match=name):
        attach(site, reactor=clock, **options)
    assert site.resource is root


def test_aSiteThatIsNone() -> None:
    """Is refused as by the engine."""
    nothing: Any = Resource()
    with pytest.raises(TypeError, match=r"site of type Resource: expected a twisted\.web\.server\.Site"):
        attach(nothing, reactor=Clock())


@pytest_twisted.ensureDeferred
async def test_listen(serve: Any) -> None:
    """A server that listens by itself: the callback runs, sessions open below the path, anything else gets 501."""
    called: list[bool] = []
    io = listen("tcp:0:interface=127.0.0.1", lambda: called.append(True))
    port = (await io.engine.listening).getHost().port
    assert called == [True]
    wire = await connectTo(port)
    for path, status in (("/socket.io/", 200), ("/engine.io/", 501)):
        wire.send(http("GET", f"{path}?EIO=4&transport=polling"))
        assert (await wire.response()).status == status
    wire.drop()
    await wire.lost()
    await io.close()


@pytest.mark.filterwarnings(
    # Before 26.10 Twisted itself leaves a socket behind that it couldn't bind.
    "error" if twisted.version >= Version("Twisted", 26, 10, 0) else "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest_twisted.ensureDeferred
async def test_aTakenPort(serve: Any) -> None:
    """The Deferred says why it can't be opened, as that of the engine."""
    running = await serve()
    io = listen(f"tcp:{running.port}:interface=127.0.0.1")
    with pytest.raises(CannotListenError):
        await io.engine.listening
    await io.close()


@pytest_twisted.ensureDeferred
async def test_noPortIsLeftOpen(serve: Any, freePort: int, tmp_path: Path) -> None:
    """If the layer can't be made, the port is free again."""
    endpoint = f"tcp:{freePort}:interface=127.0.0.1"
    with pytest.raises(OptionError, match="serveClient"):
        listen(endpoint, serveClient=tmp_path)
    # A port is closed in the next turn of the reactor.
    await deferLater(reactor, 0)
    again = listen(endpoint)
    await again.engine.listening
    await again.close()


def test_aCallbackThatIsNone() -> None:
    """Is refused at once."""
    wrong: Any = "127.0.0.1"
    with pytest.raises(TypeError, match="callback"):
        listen(3000, wrong, reactor=MemoryReactorClock())


def test_attach() -> None:
    """A path of a site that has others."""
    clock: Any = Clock()
    root = Resource()
    root.putChild(b"page", Data(b"a page", "text/plain"))
    site: Any = FastSite(root, reactor=clock)
    io = attach(site, reactor=clock)
    with MemoryServer(io.engine, site=site) as kit:
        assert kit.request("GET", "/page").text == "a page"
        assert kit.connect().transport == "websocket"
        assert io.stats().clients == 1


def test_ofAService() -> None:
    """The server of a service is given to one; the log says what is served."""
    lines: list[str] = []
    observer: Any = lambda event: lines.append(formatEvent(event))  # noqa: E731
    clock: Any = MemoryReactorClock()
    service = EngineIOService("tcp:3000", reactor=clock, path="/socket.io")
    io = SocketIO(service.server)
    globalLogPublisher.addObserver(observer)
    try:
        service.startService()
    finally:
        globalLogPublisher.removeObserver(observer)
    assert [each for each in lines if " served " in each] == ["Socket.IO is served at http://localhost:3000/socket.io/"]
    assert [each[0] for each in clock.tcpServers] == [3000]
    stopped = service.stopService()
    assert io.isDraining
    clock.advance(0)
    assert stopped.called


def test_asAResource() -> None:
    """A resource serves a server of Socket.IO as it does one of the engine."""
    clock: Any = Clock()
    server = Server(reactor=clock)
    io = SocketIO(server)
    root = Resource()
    root.putChild(b"live", EngineIOResource(io))
    site: Any = FastSite(root, reactor=clock)
    server.attach(site)
    with MemoryServer(server, site=site) as kit:
        assert kit.connect(path="/live/").transport == "websocket"
        assert io.stats().clients == 1


def test_optionsAsADict() -> None:
    """As the reference takes them, they are refused with what to write instead."""
    with pytest.raises(TypeError, match=r"^options \{'ackTimeout': 5\}: expected .* by name"):
        SocketIO(Server(), {"ackTimeout": 5})  # type: ignore[arg-type]
