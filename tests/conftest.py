"""What all tests share: a server on a free port, and the promise that no test leaves anything behind."""

from __future__ import annotations

import datetime
import gc
import importlib
import importlib.util
import ipaddress
import itertools
import os
import pkgutil
import shutil
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_twisted
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.server import Site as StockSite

import engineio_twisted
from engineio_twisted import EngineIOResource, FastSite, Server, Site

from .kit.clients import INTEROP, Run, programs, scenarios
from .kit.joined import InTurn, Joined
from .kit.serving import Listening, listenWith, memoryArena, started
from .kit.tools import require
from .kit.wire import Hostile, arena

# No test depends on how fast the machine is.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@pytest.fixture
def node() -> str:
    """The path of Node.js; skips without it or without the packages of tests/interop."""
    found = shutil.which("node")
    require(found is not None, "Node.js")
    require((INTEROP / "node_modules").is_dir(), "the packages of tests/interop (run `npm ci` there)")
    assert found is not None
    return found


@pytest.fixture
def start() -> Iterator[Run]:
    """Start a program of tests/interop; none outlives the test."""
    with programs() as start:
        yield start


@pytest.fixture
def anyClient(node: str, start: Run) -> Run:
    """Start a JavaScript client in a scenario of client.mjs; without `client=...` it is engine.io-client 6."""
    return scenarios(start, node, "client.mjs")


@pytest.fixture
def client(anyClient: Run) -> Run:
    """The same; a module whose client is another has a fixture of this name too."""
    return anyClient


@pytest.fixture
def python(start: Run) -> Run:
    """Start the client of python-engineio in a scenario of python_client.py."""
    for module in ("engineio", "requests", "websocket"):
        require(importlib.util.find_spec(module) is not None, "python-engineio[client]")
    # A program of its own: this client blocks, and its threads would outlive the test.
    return scenarios(start, sys.executable, "python_client.py")


@pytest.fixture
def loggedErrors() -> list[LogEvent]:
    """Log events at level error or above seen during the test; a test that expects some clears the list."""
    return []


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The warnings that are logged, as text."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"].name == "warn":
            found.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


@pytest.fixture(scope="session")
def runningReactor() -> Any:
    """The reactor, with all that it registers with itself when it starts."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    pytest_twisted.blockon(deferLater(reactor, 0))
    return reactor


@contextmanager
def _observed(loggedErrors: list[LogEvent]) -> Iterator[None]:
    """Collect what is logged at level error or above, also by what nobody refers to any more at the end."""

    def observe(event: LogEvent) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            loggedErrors.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(observe)


MODULES = 10
"""After so many modules everything is collected, which takes as long as some hundred tests."""


@pytest.fixture(scope="session", autouse=True)
def collected(runningReactor: Any) -> Iterator[Callable[[], None]]:
    """
    Collect after each test only what the test has made, and everything else in the end.

    What is returned does so too, every so many times that it is called.
    """
    count = itertools.count(1)

    def collect() -> None:
        loggedErrors: list[LogEvent] = []
        gc.unfreeze()
        with _observed(loggedErrors):
            pass
        gc.freeze()
        _assertNone(loggedErrors)

    collect()
    yield lambda: None if next(count) % MODULES else collect()
    collect()


@pytest.fixture(scope="module", autouse=True)
def moduleLeavesNothingBehind(collected: Callable[[], None]) -> Iterator[None]:
    """Collect everything after the last test of some modules."""
    yield
    collected()


@pytest.fixture(autouse=True)
def leavesNothingBehind(
    request: pytest.FixtureRequest, runningReactor: Any, loggedErrors: list[LogEvent]
) -> Iterator[None]:
    """Fail a test that logs an unexpected error, drops a failed Deferred, or leaves a timer or a socket behind."""
    reactor = runningReactor
    before = {id(each) for each in (*reactor.getReaders(), *reactor.getWriters())}
    with _observed(loggedErrors):
        yield
        usesReactor = "serve" in request.fixturenames
        if usesReactor:
            _settle(reactor, before)
    # What outlives the test is looked at again with everything else.
    gc.freeze()
    left = [str(call) for call in reactor.getDelayedCalls() if call.active()]
    assert left == [], f"timers left in the reactor: {left}"
    left = [repr(each) for each in (*reactor.getReaders(), *reactor.getWriters()) if id(each) not in before]
    assert left == [], f"sockets left in the reactor: {left}"
    _assertNone(loggedErrors)


@pytest.fixture
def mayLog(leavesNothingBehind: None, loggedErrors: list[LogEvent]) -> Iterator[None]:
    """For a test in which the application fails, which is logged."""
    yield
    assert loggedErrors != []
    loggedErrors.clear()


def _assertNone(loggedErrors: list[LogEvent]) -> None:
    assert loggedErrors == [], "errors were logged: " + "\n".join(
        str(event.get("log_failure") or event.get("log_format")) for event in loggedErrors
    )


def _settle(reactor: Any, before: set[int]) -> None:
    """Let what is over leave the reactor: connections that both sides have closed, and calls that are due."""

    async def wait() -> None:
        from twisted.internet.task import deferLater

        for _ in range(200):
            here = [each for each in (*reactor.getReaders(), *reactor.getWriters()) if id(each) not in before]
            due = [each for each in reactor.getDelayedCalls() if each.getTime() <= reactor.seconds()]
            if not here and not due:
                return
            await deferLater(reactor, 0.01)

    pytest_twisted.blockon(_asDeferred(wait()))


def _asDeferred(coroutine: Any) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)


@pytest.fixture
def siteClass() -> type[Site]:
    """The class of the site of `serve`; tests marked `everySite` run with each."""
    return FastSite


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests marked `everySite` with the site that has the fast path, and with the one that has none."""
    if metafunc.definition.get_closest_marker("everySite") and "siteClass" in metafunc.fixturenames:
        metafunc.parametrize("siteClass", [FastSite, Site])


@pytest.fixture
def workers() -> int:
    """How many workers `serve` starts, as WORKERS in the environment says: 0 is one server, without others."""
    return int(os.environ.get("WORKERS", "0"))


@pytest.fixture
def serve(siteClass: type[Site], workers: int) -> Iterator[Callable[..., Any]]:
    """
    A coroutine function that starts a server on a free port of loopback: `running = await serve(pingInterval=300)`.

    `setup(server)`, where given, is called before the server listens. `port` is for a server whose port another takes
    over: that of `freePort`. The servers are closed after the test.

    With workers so many servers are joined as processes are. Connections come to each in turn, `setup` is called with
    each, and `server` of what is returned is the first one.
    """
    servers: list[Any] = []
    ports: list[Any] = []

    async def start(setup: Callable[[Any], object] | None = None, port: int = 0, **options: Any) -> Listening:
        if workers:
            from twisted.internet import reactor

            joined = Joined(workers, **options)
            servers.append(joined)
            for each in joined.servers if setup is not None else []:
                setup(each)
            everything: Any = reactor
            ports.append(everything.listenTCP(port, InTurn(joined.sites), interface="127.0.0.1"))
            joined.start()
            return Listening(joined.servers[0], ports[-1].getHost().port)
        servers.append(listenWith(siteClass, f"tcp:{port}:interface=127.0.0.1", **options))
        return await started(servers[-1], setup)

    yield start
    for each in ports:
        pytest_twisted.blockon(each.stopListening())
    for server in servers:
        pytest_twisted.blockon(_asDeferred(server.close()) if workers else server.close())


@pytest.fixture
def atResource(serve: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Start a server as `serve` does, but below the root of a stock site."""
    from twisted.internet import reactor

    ports = []

    async def start(**options: Any) -> Any:
        server = Server(**options)
        root = Resource()
        root.putChild(b"engine.io", EngineIOResource(server))
        port = reactor.listenTCP(0, StockSite(root), interface="127.0.0.1")
        ports.append((port, server))
        return Listening(server, port.getHost().port)

    yield start
    for port, server in ports:
        pytest_twisted.blockon(port.stopListening())
        pytest_twisted.blockon(server.close())


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key, and a certificate for loopback that it has signed itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = builder.not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    folder = tmp_path_factory.mktemp("certificate")
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    (folder / "certificate.pem").write_bytes(signed.public_bytes(pem))
    return folder / "key.pem", folder / "certificate.pem"


@pytest.fixture
def freePort() -> Iterator[int]:
    """A port of loopback for a program that must be told one: nobody else is given it as long as the test lasts."""
    with socket.socket() as held:
        # Bound, but not listening: who asks the system for any port, for either end of a connection, gets another one,
        # and who asks for this one gets it, with the option that servers set anyway.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        yield port


@pytest.fixture
def hostile(request: pytest.FixtureRequest, siteClass: type[Site]) -> Hostile:
    """
    Start a server with bystanders: `async with hostile(pingInterval=300) as here:`.

    It is in memory, and time passes when nothing else happens; for tests marked `sockets` it listens on loopback.
    """
    if request.node.get_closest_marker("sockets"):
        return partial(arena, request.getfixturevalue("serve"))
    return partial(memoryArena, siteClass)


def pytest_configure() -> None:
    """Let Ctrl-C end the programs that tests start, even if a shell runs the tests in the background."""
    # There it is ignored, which programs inherit.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# What takes long: with coverage up to three times as long, and it reaches nothing new.
UNMEASURED = ("slow", "node", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure the coverage of no test that takes long: pytest-cov stops for those marked `no_cover`."""
    for item in items:
        # So that whatever leaves out slow tests leaves out these too.
        if item.get_closest_marker("apart"):
            item.add_marker("slow")
        if any(item.get_closest_marker(name) for name in UNMEASURED):
            item.add_marker("no_cover")


def _coverage(config: pytest.Config) -> Any:
    """Return what starts and stops the measuring of coverage, or None if none is measured."""
    plugin = config.pluginmanager.getplugin("_cov")
    return plugin and plugin.cov_controller


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Measure how the modules of the package are imported, and then nothing until the first test is called."""
    if coverage := _coverage(session.config):
        for module in pkgutil.walk_packages(engineio_twisted.__path__, "engineio_twisted."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        from coverage import Coverage

        coverage.pause()
        # In a worker pytest-cov has started two, and the first would go on whenever the second is paused.
        while (other := Coverage.current()) is not None:
            other.stop()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Measure coverage in tests only: pytest, which is traced too, takes more time than most of them."""
    if (coverage := _coverage(item.config)) is None:
        return (yield)
    coverage.resume()
    try:
        return (yield)
    finally:
        coverage.pause()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in the last lines what was left out, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    for reason, count in Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped).items():
        terminalreporter.write_line(f"LEFT OUT: {count} tests: {reason}", yellow=True)


@pytest.fixture
def pool() -> Any:
    """Connections of a client over HTTP, closed after the test."""
    from twisted.internet import reactor
    from twisted.web.client import HTTPConnectionPool

    pool = HTTPConnectionPool(reactor, persistent=False)
    yield pool
    pytest_twisted.blockon(pool.closeCachedConnections())


@pytest.fixture
def onPort() -> Any:
    """Listens with a site, and stops after the test."""
    from twisted.internet import reactor
    from twisted.internet.endpoints import serverFromString

    ports: list[Any] = []

    async def start(site: Any) -> int:
        ports.append(await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(site))
        port: int = ports[-1].getHost().port
        return port

    yield start
    for port in ports:
        pytest_twisted.blockon(port.stopListening())
