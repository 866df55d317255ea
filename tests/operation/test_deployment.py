"""nginx and HAProxy, the real ones, as docs/deployment has them: what clients and the application see through them."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest
import pytest_twisted
from twisted.internet import ssl
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.ssl import trustRootFromCertificates
from twisted.internet.threads import deferToThread
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.resource import Resource

from engineio_twisted import Server, ServerOptions, Site, attach, listen
from engineio_twisted.operation.health import ReadyResource

from ..kit.client_peers import Story
from ..kit.clients import (
    BOTH,
    INTEROP,
    Application,
    Run,
    assertTransport,
    assertUneventful,
    assertWentWell,
    echoed,
    overEveryTransport,
    pack,
)
from ..kit.fronts import (
    FILES,
    PAGES,
    PROGRAMS,
    Certificate,
    Front,
    Visitor,
    blocks,
    changed,
    commands,
    executable,
    front,
    makeCertificate,
    ports,
    write,
)
from ..kit.services import Service, command, services
from ..kit.serving import Listening
from ..kit.wire import Client, Record, eventually, http, makeFrame, pause, target, upgrade, within

pytestmark = pytest.mark.no_cover

BALANCING = [name for name in PROGRAMS if "-one." not in name]
# With one server HAProxy does what it does with several, whose tests these are: only its backend is another.
PROXIES = [name for name in PROGRAMS if name != "haproxy-one.cfg"]

# `make test` has each program with one configuration; only what differs between two is there with both.
FURTHER = {"nginx-one.conf", "haproxy-cookie.cfg"}


def _over(names: list[str]) -> pytest.MarkDecorator:
    marks = {name: [pytest.mark.apart] if name in FURTHER else [] for name in names}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=each) for name, each in marks.items()])


overEveryProxy = _over(PROXIES)
overEveryBalancer = _over(BALANCING)

Through = Callable[..., Front]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return makeCertificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def through(serve: Any, tmp_path: Path, certificate: Certificate) -> Iterator[Through]:
    """Starts a proxy in front of servers: `through("nginx.conf", [running, …], changes)`; it ends with the test."""
    with ExitStack() as stack:
        started: list[Front] = []

        def start(name: str, servers: list[Any], changes: Mapping[str, str] | None = None, **more: Any) -> Front:
            # Where there are fewer servers than the configuration names, the last one is the others too.
            backends = [each.port for each in servers] + [servers[-1].port] * (3 - len(servers))
            backends = backends[:1] if "-one." in name else backends
            started.append(stack.enter_context(front(name, tmp_path, certificate, backends, changes, **more)))
            return started[-1]

        yield start
        for each in started:
            for wire in each.wires:
                if not wire.isLost:
                    wire.drop()


def behind(serve: Any, through: Through, name: str) -> Callable[..., Any]:
    """Start a server as `serve` does, to be reached through a proxy."""

    async def start(setUp: Callable[[Server], object]) -> Any:
        running = await serve(setUp, idPrefix="1-")
        return SimpleNamespace(server=running.server, url=through(name, [running]).url)

    return start


def all_(coroutines: Any) -> Deferred[Any]:
    """Wait for all of several."""
    return gatherResults([Deferred.fromCoroutine(each) for each in coroutines], consumeErrors=True)


async def three(serve: Any, **options: Any) -> list[Any]:
    """Three servers that echo, each with the prefix that the configurations know it by."""
    return [await serve(Application(), idPrefix=f"{number}-", **options) for number in (1, 2, 3)]


# Through each of them, whatever a client does


MESSAGES = ["hello", bytes(range(256)), "é € 😀", "0123456789abcdé" * 20_000, bytes(range(250)) * 1_200]


@pytest.mark.node
@overEveryTransport
@overEveryProxy
@pytest_twisted.ensureDeferred
async def test_javaScript(serve: Any, through: Through, client: Run, name: str, transports: list[str]) -> None:
    """engine.io-client: messages in both directions, of every kind and size, and the upgrade where it makes one."""
    given = {"options": {"rejectUnauthorized": False, "withCredentials": True}}
    session, program = await echoed(behind(serve, through, name), client, transports, MESSAGES, given=given)
    assertWentWell(program, session, transports)


@overEveryTransport
@overEveryProxy
@pytest_twisted.ensureDeferred
async def test_python(
    serve: Any,
    through: Through,
    python: Run,
    certificate: Certificate,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    transports: list[str],
) -> None:
    """The client of python-engineio, which checks the certificate."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.chain))
    monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(certificate.chain))
    session, _ = await echoed(behind(serve, through, name), python, transports, MESSAGES)
    assertTransport(session, transports)


def trusting(certificate: Certificate) -> dict[str, Any]:
    """The options of our client with which it trusts a proxy, and is sent to the same process again."""
    trust = trustRootFromCertificates([ssl.Certificate.loadPEM(certificate.chain.read_bytes())])
    return {"contextFactory": BrowserLikePolicyForHTTPS(trust), "withCredentials": True}


@overEveryTransport
@overEveryProxy
@pytest_twisted.ensureDeferred
async def test_ourClient(
    serve: Any, through: Through, certificate: Certificate, name: str, transports: list[str]
) -> None:
    """Our client, which checks the certificate: messages of every kind and size, before and after a reload."""
    application = Application()
    running = await serve(application, idPrefix="1-")
    here = through(name, [running], isReloadable=True)
    options = trusting(certificate)
    story = await Story(here.url, transports, **options).connect()
    session = await application.session()
    await story.echoes(MESSAGES)
    visitor = Visitor(here)
    await visitor.open()
    await here.reload()
    # The old worker closes the connections on which nothing happens. What is sent on one just then is lost.
    await visitor.lost()
    for message in MESSAGES:
        await story.echoes([message])
    another = await Story(here.url, transports, **options).connect()
    await another.echoes(["new"])
    assert await another.close() == "forced close"
    assert story.closed is None, (story.client.failure, story.happened)
    assert await story.close() == "forced close"
    assert await session.closed() == "transport close"
    assert session.messages == [*MESSAGES, *MESSAGES]
    assertTransport(session, transports)


@overEveryTransport
@overEveryProxy
@pytest_twisted.ensureDeferred
async def test_ourClientComesBack(
    serve: Any, through: Through, certificate: Certificate, name: str, transports: list[str]
) -> None:
    """With `resume` a session outlives its proxy: nothing that either side sent is lost, doubled or out of order."""
    application = Application()
    running = await serve(application, idPrefix="1-", resumeTimeout=60_000)
    here = through(name, [running])
    story = await Story(here.url, transports, resume=True, **trusting(certificate)).connect()
    session = await application.session()
    await story.echoes(MESSAGES)
    here.stop()
    for number in range(100):
        story.client.send(f"client {number}")
        session.socket.send(f"server {number}")
    await story.until(lambda: "suspend" in story.happened, "the loss of the connection")
    here.start()
    came = (await story.got(len(MESSAGES) + 200))[len(MESSAGES) :]
    for who in ("client", "server"):
        assert [each for each in came if str(each).startswith(who)] == [f"{who} {number}" for number in range(100)]
    assert story.happened.count("resume") >= 1
    assert await story.close() == "forced close"
    assert await session.closed() == "transport close"


@overEveryProxy
@pytest_twisted.ensureDeferred
async def test_theLargestMessage(serve: Any, through: Through, name: str) -> None:
    """The largest that the server takes passes; of a larger one it is the server that says so, on each transport."""
    running = await serve(Application(), idPrefix="1-")
    limit = running.server.opts.maxHttpBufferSize
    here = through(name, [running])
    visitor = Visitor(here)
    await visitor.open()
    await visitor.echo("x" * (limit - 1))
    refused = await visitor.ask("POST", b"4" + b"x" * limit, sid=visitor.sid)
    assert (refused.status, set(refused.json)) == (413, {"message"})
    visitor = Visitor(here)
    await visitor.open()
    # Over what nginx is told to take, too.
    assert (await visitor.ask("POST", b"4" + b"x" * 2_000_000, sid=visitor.sid)).status == 413
    _, wire = await here.openWebSocket()
    wire.send(makeFrame("4" + "x" * (limit - 1)))
    assert await wire.text() == "4" + "x" * (limit - 1)
    wire.send(makeFrame("4" + "x" * limit))
    assert await wire.closed() == 1009


def times(name: str, seconds: int) -> dict[str, str]:
    """The changes that have a proxy cut idle requests after another time than 60 s."""
    directives = (
        ["proxy_read_timeout", "proxy_send_timeout"]
        if PROGRAMS[name] == "nginx"
        else [f"timeout {each}" for each in ("client", "server", "tunnel")]
    )
    return {f"{each} 60s": f"{each} {seconds}s" for each in directives}


@pytest.mark.slow
@overEveryProxy
@pytest_twisted.ensureDeferred
async def test_idle(serve: Any, through: Through, name: str) -> None:
    """The heartbeat keeps a session on which nothing happens longer than the proxy lets a request be idle."""
    records: list[Record] = []
    running = await serve(Application(), idPrefix="1-", pingInterval=500)
    running.server.on("connection", lambda socket: records.append(Record(socket)))
    here = through(name, [running], times(name, 3))
    clients = [await Client(here).start(each) for each in ("polling", "websocket")]
    for record in records:
        # Twice the time of the proxy.
        await record.until(lambda record=record: record.happened.count("heartbeat") >= 12, "a dozen pongs")
    for each in clients:
        await each.echo("still here")
        await each.close()


@pytest.mark.slow
@overEveryProxy
@pytest_twisted.ensureDeferred
async def test_idleTooLong(serve: Any, through: Through, name: str) -> None:
    """A pingInterval longer than the proxy's time costs the session: what the page says about the two is needed."""
    application = Application()
    running = await serve(application, idPrefix="1-", pingInterval=90_000)
    here = through(name, [running], times(name, 1))
    visitor = Visitor(here)
    await visitor.open()
    assert (await visitor.ask("GET", sid=visitor.sid)).status == 504
    assert await (await application.session()).closed() == "transport error"
    _, wire = await here.openWebSocket()
    assert await wire.lost() == b""
    assert await (await application.session()).closed() == "transport close"


@overEveryProxy
@pytest_twisted.ensureDeferred
async def test_whatTheApplicationSees(serve: Any, through: Through, name: str) -> None:
    """Who asks, by what, and for whom, is what the proxy says; never what the client says of that itself."""
    application = Application()
    running = await serve(application, idPrefix="1-", trustedProxies="127.0.0.1")
    here = through(name, [running])
    forged = [
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=203.0.113.7;proto=gopher"),
    ]
    await here.ask(http("GET", target(), forged))
    wire = await here.connect()
    wire.send(upgrade(extra="".join(f"{name}: {value}\r\n" for name, value in forged)))
    assert (await wire.response()).status == 101
    for _ in range(2):
        socket = (await application.session()).socket
        client = running.server.clientOf(socket.request)
        assert (client.address, client.scheme, client.host) == ("127.0.0.1", "https", "localhost")
        headers = socket.request.requestHeaders
        assert headers.getRawHeaders("X-Forwarded-For") == ["127.0.0.1"]
        assert headers.getRawHeaders("X-Forwarded-Proto") == ["https"]
        assert headers.getRawHeaders("X-Forwarded-Host") == ["localhost"]
        assert headers.getRawHeaders("Forwarded") is None
        assert headers.getRawHeaders("Host") == ["localhost"]


@overEveryProxy
@pytest_twisted.ensureDeferred
async def test_addresses(serve: Any, through: Through, name: str) -> None:
    """Each client has its own address, on both transports, and counts as a page of the site where it is one."""
    application = Application()
    running = await serve(application, idPrefix="1-", trustedProxies="127.0.0.1", allowedOrigins="self")
    here = through(name, [running])
    here.address = "127.0.0.77"
    wire = await here.connect()
    wire.send(http("GET", target(), [("Origin", "https://localhost")]))
    assert (await wire.response()).status == 200
    wire = await here.connect()
    wire.send(upgrade(Origin="https://localhost"))
    assert (await wire.response()).status == 101
    for _ in range(2):
        assert (await application.session()).socket.remoteAddress == "127.0.0.77"
    for origin in ("http://localhost", "https://evil.example"):
        assert (await here.ask(http("GET", target(), [("Origin", origin)]))).status == 403


@pytest.mark.node
@pytest.mark.parametrize(("name", "isSocketTaken"), [("nginx.conf", False), ("haproxy.cfg", True)])
@pytest_twisted.ensureDeferred
async def test_http2(serve: Any, through: Through, node: str, start: Run, name: str, isSocketTaken: bool) -> None:
    """Over HTTP/2 sessions poll, and with HAProxy WebSockets share the connection."""
    application = Application()
    running = await serve(application, idPrefix="1-", trustedProxies="127.0.0.1")
    switch = {"listen 443 ssl;": "listen 443 ssl http2;"} if PROGRAMS[name] == "nginx" else {}
    if switch:
        assert all(each.removesuffix(";") in (PAGES / "nginx.md").read_text() for each in switch.values())
    here = through(name, [running], switch)
    program = start([node, INTEROP / "http2.mjs", here.url])
    await program.finish()
    opened, posted, polled = program.named("answer")
    assert [each["status"] for each in (opened, posted, polled)] == [200, 200, 200]
    assert opened["text"].startswith('0{"sid":"1-')
    assert (posted["text"], polled["text"]) == ("ok", "4hello")
    session = await application.session()
    assert session.messages == ["hello"]
    assert running.server.clientOf(session.socket.request).scheme == "https"
    assert program.named("settings")[0]["enableConnectProtocol"] is isSocketTaken
    if isSocketTaken:
        assert program.named("webSocket")[0]["status"] == 200
        (frame,) = program.named("frame")
        assert (frame["opcode"], frame["text"][:8]) == (1, '0{"sid":')
        assert (await application.session()).socket.transport.name == "websocket"


@pytest_twisted.ensureDeferred
async def test_proxyProtocol(through: Through) -> None:
    """Without headers, and without trusting any, each client has its own address too, on both transports."""
    option = blocks("haproxy.md")[-1].rstrip("\n").removeprefix("server engineio1 127.0.0.1:3001")
    assert option == " send-proxy-v2"
    application = Application()
    behind = listen("haproxy:tcp:0:interface=127.0.0.1", idPrefix="1-")
    try:
        application(behind)
        port = (await behind.listening).getHost().port
        proxied = {f"127.0.0.1:300{number}\n": f"127.0.0.1:300{number}{option}\n" for number in (1, 2, 3)}
        here = through("haproxy.cfg", [Listening(behind, port)], proxied)
        for address in ("127.0.0.77", "127.0.0.78"):
            here.address = address
            await here.open()
            await here.openWebSocket()
            for _ in range(2):
                assert (await application.session()).socket.remoteAddress == address
    finally:
        await within(behind.close(), "the end of the server")


@overEveryProxy
@pytest_twisted.ensureDeferred
async def test_withoutTLS(serve: Any, through: Through, name: str) -> None:
    """Who comes without TLS is sent to where there is some."""
    from ..kit.wire import connectTo

    here = through(name, [await serve()])
    wire = await connectTo(here.plainPort)
    here.wires.append(wire)
    wire.send(http("GET", target()))
    response = await wire.response("HEAD")
    assert response.status in (301, 302)
    assert response.headers["location"] == f"https://localhost{target()}"


@overEveryProxy
@pytest_twisted.ensureDeferred
async def test_whatIsForNobodyOutside(serve: Any, through: Through, name: str) -> None:
    """What a process serves beside sessions, its health for one, isn't passed on."""
    here = through(name, [await serve(Application(), idPrefix="1-")])
    for path in ("/ready", "/health", "/metrics"):
        assert (await here.ask(http("GET", path))).status == (404 if PROGRAMS[name] == "nginx" else 503)


@pytest.mark.parametrize("name", ["nginx.conf", "nginx-one.conf"])
@pytest_twisted.ensureDeferred
async def test_theSite(serve: Any, through: Through, name: str) -> None:
    """nginx serves the files of the site itself."""
    here = through(name, [await serve()])
    assert (await here.ask(http("GET", "/"))).body == b"<p>the site</p>"


@overEveryProxy
@pytest_twisted.ensureDeferred
async def test_logs(serve: Any, through: Through, name: str) -> None:
    """Each request is in the proxy's log, and no session's id."""
    here = through(name, [await serve(Application(), idPrefix="1-")])
    visitor = Visitor(here)
    sid = await visitor.open()
    await visitor.echo("hello")
    await visitor.close()
    await eventually(lambda: here.log().count('"POST /engine.io/"') == 2, "two requests in the log")
    assert here.log().count('"GET /engine.io/"') == 2
    assert sid not in here.log()


@overEveryProxy
@pytest_twisted.ensureDeferred
async def test_connectionsAreKept(serve: Any, through: Through, name: str) -> None:
    """Requests one after the other come to the server on one connection, not each on one of its own."""
    ports: list[int] = []
    running = await serve(Application(), idPrefix="1-")
    running.server.use(lambda request: ports.append(request.client.port))
    visitor = Visitor(through(name, [running]))
    await visitor.open()
    for number in range(10):
        await visitor.echo(str(number))
    # nginx has a store of connections for new sessions, and one for each process.
    assert len(ports) == 21
    assert len(set(ports)) <= 2


# Several processes


@pytest.mark.parametrize("name", BALANCING)
@pytest_twisted.ensureDeferred
async def test_sticky(serve: Any, through: Through, name: str) -> None:
    """Sessions are spread over the processes, and every request of each goes to the one that has it."""
    servers = await three(serve)
    here = through(name, servers)
    visitors = [Visitor(here) for _ in range(30)]
    await all_(each.open() for each in visitors)
    assert {each.sid[:2] for each in visitors} == {"1-", "2-", "3-"}
    assert sum(each.server.clientsCount for each in servers) == 30

    async def talk(visitor: Visitor) -> None:
        for number in range(20):
            await visitor.echo(f"{number} of {visitor.sid}")

    await all_(talk(each) for each in visitors)
    await all_(each.close() for each in visitors)


@pytest.mark.parametrize("name", ["nginx.conf", "haproxy.cfg"])
@pytest_twisted.ensureDeferred
async def test_stickyWithoutCookies(serve: Any, through: Through, name: str) -> None:
    """By `sid` an upgrade finds its session too, for clients that keep no cookies."""
    servers = await three(serve)
    here = through(name, servers)
    clients = [await Client(here).start() for _ in range(6)]
    assert {each.sid[:2] for each in clients} == {"1-", "2-", "3-"}
    for each in clients:
        assert await each.upgrade()
        await each.echo("hello")
        await each.close()


@pytest.mark.node
@overEveryBalancer
@pytest_twisted.ensureDeferred
async def test_stickyUpgrades(serve: Any, through: Through, client: Run, name: str) -> None:
    """engine.io-client upgrades, whichever process it came to."""
    here = through(name, await three(serve))
    options = {"rejectUnauthorized": False, "withCredentials": True}
    messages = [pack(str(number)) for number in range(10)]
    programs = [
        client(here.url, "echo", ["polling", "websocket"], messages=messages, options=options) for _ in range(4)
    ]
    for each in programs:
        await each.finish()
        assertUneventful(each, ["polling", "websocket"])
    assert len({each.named("open")[0]["sid"][:2] for each in programs}) == 3


@overEveryBalancer
@pytest_twisted.ensureDeferred
async def test_ourClientSticks(serve: Any, through: Through, certificate: Certificate, name: str) -> None:
    """So does our client, which also comes back to its process after all connections were lost."""
    here = through(name, await three(serve, resumeTimeout=60_000))
    stories = [await Story(here.url, BOTH, resume=True, **trusting(certificate)).connect() for _ in range(4)]
    for each in stories:
        await each.echoes([str(number) for number in range(10)])
    here.stop()
    for each in stories:
        each.client.send("back")
    here.start()
    for each in stories:
        await each.until(lambda story=each: story.messages[-1] == "back", "the message after the return")
        assert await each.close() == "forced close"
        assert each.happened.count("suspend") == each.happened.count("resume") >= 1
    assert len({each.client.id[:2] for each in stories}) == 3


NOT_STICKY = {
    "nginx.conf": {f"    ~^{number}-    engineio_{number};\n": "" for number in (1, 2, 3)},
    "haproxy.cfg": {
        **{f"    use-server engineio{number} if {{ url_param(sid) -m beg {number}- }}\n": "" for number in (1, 2, 3)},
        "balance leastconn": "balance roundrobin",
    },
    "haproxy-cookie.cfg": {
        "    cookie engineio insert indirect nocache httponly secure attr SameSite=Lax\n": "",
        **{f" cookie {number}\n": "\n" for number in (1, 2, 3)},
        "balance leastconn": "balance roundrobin",
    },
}


@overEveryBalancer
@pytest_twisted.ensureDeferred
async def test_notSticky(serve: Any, through: Through, name: str) -> None:
    """Without what makes it sticky, a session's requests go astray, and the answer is what the page says."""
    servers = await three(serve)
    refusals: list[Any] = []
    for each in servers:
        each.server.on("connection_error", refusals.append)
    visitor = Visitor(through(name, servers, NOT_STICKY[name]))
    await visitor.open()
    # Of three requests one comes to the right process.
    answers = [await visitor.ask("POST", b"4hello", sid=visitor.sid) for _ in range(3)]
    assert sorted(each.status for each in answers) == [200, 400, 400]
    assert [each.json for each in answers if each.status == 400] == [{"code": 1, "message": "Session ID unknown"}] * 2
    assert [(each.message, each.context) for each in refusals] == [("Session ID unknown", {"sid": visitor.sid})] * 2


@overEveryBalancer
@pytest_twisted.ensureDeferred
async def test_aProcessEnds(serve: Any, through: Through, name: str) -> None:
    """Its sessions are told, they and new ones go to the others at once, and who is with others notices nothing."""
    servers = await three(serve)
    here = through(name, servers)
    visitors = [Visitor(here) for _ in range(6)]
    sockets = [await here.openWebSocket() for _ in range(6)]
    for each in visitors:
        await each.open()
    ending = servers[1].server
    mine = [each for each in visitors if each.sid in ending.clients]
    assert mine
    assert [sid for sid, _ in sockets if sid in ending.clients]
    polls = [Deferred.fromCoroutine(each.ask("GET", sid=each.sid)) for each in mine]
    await eventually(lambda: all(ending.clients[each.sid].transport.writable for each in mine), "waiting GETs")
    ended = ending.close()
    assert [(await each).packets for each in polls] == [["1"]] * len(mine)
    for sid, wire in sockets:
        if sid.startswith("2-"):
            assert await wire.closed() == 1001
        else:
            wire.send(makeFrame("4still here"))
            assert await wire.text() == "4still here"
    await within(ended, "the end of a server")
    for each in visitors:
        if each not in mine:
            await each.echo("still here")
    for each in mine + [Visitor(here) for _ in range(12)]:
        assert (await each.open())[:2] in ("1-", "3-")
        await each.echo("hello")


@attrs.define
class Ready:
    """A server beside which `/ready` is served, as twistd does."""

    server: Server
    site: Site
    listening: Any

    @property
    def port(self) -> int:
        port: int = self.listening.getHost().port
        return port


@pytest.fixture
def ready(serve: Any) -> Iterator[Callable[[int], Ready]]:
    """Starts such a server, with the number of its prefix."""
    from twisted.internet import reactor

    started: list[Ready] = []

    def start(number: int) -> Ready:
        root = Resource()
        site = Site(root)
        server = attach(site, idPrefix=f"{number}-")
        Application()(server)
        root.putChild(b"ready", ReadyResource(server))
        listening: Any = cast(Any, reactor).listenTCP(0, site, interface="127.0.0.1")
        started.append(Ready(server, site, listening))
        return started[-1]

    yield start
    for each in started:
        pytest_twisted.blockon(each.listening.stopListening())
        pytest_twisted.blockon(each.server.close())
        pytest_twisted.blockon(each.site.closeConnections())


@overEveryBalancer
@pytest_twisted.ensureDeferred
async def test_drained(ready: Any, tmp_path: Path, certificate: Certificate, name: str) -> None:
    """A process that drains gets no new sessions from that moment on, and those it has get all they were sent."""
    servers = [ready(number) for number in (1, 2, 3)]
    draining = servers[1].server
    # By a cookie the sessions on polling are lost when a check notices, as the page says: it comes after the test.
    inter = {"haproxy.cfg": "100ms", "haproxy-cookie.cfg": "1h"}.get(name)
    changes = (
        {}
        if inter is None
        else {
            "check inter 2s": f"check inter {inter}",
            # All the time that an answer takes on a busy machine.
            "timeout connect 5s\n": "timeout connect 5s\n    timeout check 60s\n",
        }
    )
    with front(name, tmp_path, certificate, [each.port for each in servers], changes, isHealthServed=True) as here:
        sockets = [await here.openWebSocket() for _ in range(6)]
        visitors = [Visitor(here) for _ in range(9)]
        await all_(each.open() for each in visitors)
        mine = [each for each in visitors if each.sid in draining.clients]
        assert mine
        for socket in draining.clients.values():
            socket.send("the last word")
        drained = draining.drain()
        for _ in range(12):
            assert (await Visitor(here).open())[:2] in ("1-", "3-")
        if name == "haproxy.cfg":
            await eventually(lambda: "engineio/engineio2 is DOWN" in here.log(), "the check")
        for each in mine:
            packets = (await each.ask("GET", sid=each.sid)).packets
            assert packets + ([] if "1" in packets else (await each.ask("GET", sid=each.sid)).packets) == [
                "4the last word",
                "1",
            ]
        for sid, wire in sockets:
            if sid.startswith("2-"):
                assert await wire.text() == "4the last word"
                assert await wire.closed() == 1001
        await within(drained, "the last session")
        for each in visitors:
            if each not in mine:
                await each.echo("still here")
        for wire in here.wires:
            if not wire.isLost:
                wire.drop()


@pytest.mark.parametrize("name", ["haproxy.cfg", "haproxy-cookie.cfg"])
@pytest_twisted.ensureDeferred
async def test_takingAProcessOut(serve: Any, through: Through, name: str) -> None:
    """By the commands of the page a process keeps its sessions and gets no new ones, and then gets some again."""
    executable("socat")
    servers = await three(serve)
    here = through(name, servers)
    visitors = [Visitor(here) for _ in range(3)]
    for each in visitors:
        await each.open()
    drain, ready = (
        changed(command, {"/run/haproxy/admin.sock": str(here.folder / "admin.sock")})
        for command in commands("haproxy.md")
        if "socat" in command
    )
    subprocess.run(drain, shell=True, check=True)
    assert {(await Visitor(here).open())[:2] for _ in range(12)} == {"1-", "3-"}
    for each in visitors:
        await each.echo("still here")
    subprocess.run(ready, shell=True, check=True)
    assert {(await Visitor(here).open())[:2] for _ in range(12)} == {"1-", "2-", "3-"}


@pytest.mark.slow
@overEveryBalancer
@pytest_twisted.ensureDeferred
async def test_processes(serve: Any, tmp_path: Path, certificate: Certificate, name: str) -> None:
    """The commands of the pages start processes of which one is stopped and started again, and others take over."""
    page = "nginx.md" if PROGRAMS[name] == "nginx" else "haproxy.md"
    starts = [shlex.split(each) for each in commands(page) if "--id-prefix" in each]
    with ExitStack() as stack:
        start = stack.enter_context(services(tmp_path))
        backends = stack.enter_context(ports(3))

        def run(number: int) -> Service:
            twistd, *rest = starts[number - 1]
            listening = [
                changed(each, {f":{3000 + number}:": f":{backends[number - 1]}:"}) for each in rest if ":" in each
            ]
            before = rest.index("engineio")
            arguments = [listening[0] if ":" in each else each for each in rest[before + 1 :]]
            started: Service = start(*arguments, by=[command(twistd), *rest[:before]])
            assert started.process.poll() is None, started.said
            return started

        processes = {number: run(number) for number in (1, 2, 3)}
        here = stack.enter_context(front(name, tmp_path, certificate, backends, isHealthServed=True))
        sockets = [await here.openWebSocket() for _ in range(6)]
        visitors = [Visitor(here) for _ in range(9)]
        await all_(each.open() for each in visitors)
        assert {each.sid[:2] for each in visitors} == {sid[:2] for sid, _ in sockets} == {"1-", "2-", "3-"}
        mine = [each for each in visitors if each.sid.startswith("2-")]
        polls = [Deferred.fromCoroutine(each.ask("GET", sid=each.sid)) for each in mine]
        # The stop comes behind these requests: each waits in its process by then.
        for each in visitors:
            if each not in mine:
                await each.echo("hello")
        await deferToThread(processes[2].stop)
        assert [(await each).packets for each in polls] == [["1"]] * len(mine)
        for sid, wire in sockets:
            if sid.startswith("2-"):
                assert await wire.closed() == 1001
        for each in visitors:
            if each not in mine:
                await each.echo("still here")
        for each in mine:
            assert (await each.open())[:2] in ("1-", "3-")
            await each.echo("here again")
        await deferToThread(run, 2)
        # A check notices, or the time is over in which nginx doesn't try again.
        deadline = time.monotonic() + 60
        while (await Visitor(here).open())[:2] != "2-":
            assert time.monotonic() < deadline, "the process gets no sessions"
            await pause(0.1)
        for wire in here.wires:
            if not wire.isLost:
                wire.drop()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nginx-one.conf", "haproxy-one.cfg"])
@pytest_twisted.ensureDeferred
async def test_workers(tmp_path: Path, certificate: Certificate, name: str) -> None:
    """Behind a proxy that knows nothing of them, two workers serve every session, and reload."""
    page = "nginx.md" if PROGRAMS[name] == "nginx" else "haproxy.md"
    (line,) = (each for each in commands(page) if "--workers" in each)
    with ExitStack() as stack:
        start = stack.enter_context(services(tmp_path))
        (port,) = backends = stack.enter_context(ports(1))
        twistd, *rest = shlex.split(changed(line, {":3001:": f":{port}:"}))
        before = rest.index("engineio")
        by = [command(twistd), "--pidfile=", *rest[:before]]
        # It opens the port before it returns, and says where once the first worker is ready.
        service: Service = await deferToThread(lambda: start(*rest[before + 1 :], by=by))
        assert service.process.poll() is None, service.said

        def said(text: str) -> None:
            assert service.process.stdout is not None
            for each in service.process.stdout:
                service.said += each
                if text in each:
                    return
            raise AssertionError(f"{text!r} was not logged: {service.said}")

        await deferToThread(said, "Worker 2 (slot 1, process ")
        here = stack.enter_context(front(name, tmp_path, certificate, backends, isHealthServed=True))

        async def talked() -> set[str]:
            """Open sessions, and talk in each while the proxy takes any of its connections for any request."""
            visitors = [Visitor(here) for _ in range(12)]
            await all_(each.open() for each in visitors)
            for text in ("hello", "again", "still here"):
                # Each has words of its own, so that none can get another's.
                await all_(each.echo(f"{text}, {each.sid}") for each in visitors)
            sockets = [await here.openWebSocket() for _ in range(4)]
            for sid, wire in sockets:
                wire.send(makeFrame(f"4hello, {sid}"))
            for sid, wire in sockets:
                assert await wire.text() == f"4hello, {sid}"
            await all_(each.close() for each in visitors)
            for _, wire in sockets:
                wire.drop()
            return {each.sid.partition("-")[0] for each in visitors}

        assert await talked() == {"1", "2"}
        service.process.send_signal(signal.SIGHUP)
        await deferToThread(said, "Reloaded: 2 of 2 workers ready")
        assert await talked() == {"3", "4"}
        for wire in here.wires:
            if not wire.isLost:
                wire.drop()
        await eventually(lambda: all(each.isLost for each in here.wires), "the end of the connections")


@pytest.mark.parametrize("name", ["nginx.conf", "nginx-one.conf"])
@pytest_twisted.ensureDeferred
async def test_reloaded(serve: Any, through: Through, name: str) -> None:
    """Reloading nginx, as for a new certificate, ends no session, on neither transport."""
    here = through(name, [await serve(Application(), idPrefix="1-")])
    visitor = Visitor(here)
    await visitor.open()
    _, wire = await here.openWebSocket()
    here.process.send_signal(signal.SIGHUP)
    # The old workers close the connections on which nothing happens.
    await visitor.lost()
    await visitor.echo("still here")
    wire.send(makeFrame("4still here"))
    assert await wire.text() == "4still here"


# The pages


BACKEND = "\nbackend engineio\n"


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("nginx.md", ["nginx-one.conf", "nginx.conf"]),
        ("haproxy.md", ["haproxy-one.cfg", "haproxy.cfg", "haproxy-cookie.cfg"]),
    ],
)
def test_pagesShowTheFiles(page: str, names: list[str]) -> None:
    """What is copied from a page is what is tested here."""
    files = [(FILES / name).read_text() for name in names]
    if page == "haproxy.md":
        for index in (0, 2):
            files[index] = (BACKEND + files[index].partition(BACKEND)[2]).lstrip()
    # Before them nginx's page has what goes into another file, and behind them HAProxy's what may go into these.
    assert [each for each in blocks(page) if each.startswith(("# /etc/", "backend "))] == files


def test_theRestIsTheSame() -> None:
    """One server, or several by a cookie or by `sid`: only the backend is another one, as the page says."""
    heads = [(FILES / name).read_text().partition(BACKEND)[0] for name in PROGRAMS if PROGRAMS[name] == "haproxy"]
    one, *others = [each.splitlines()[1:] for each in heads]
    assert others == [one, one]


def test_linksLeadSomewhere() -> None:
    """The pages and files that the pages point to are there."""
    for page in PAGES.glob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (PAGES / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_checked(name: str, tmp_path: Path, certificate: Certificate) -> None:
    """The proxy's own check of its configuration, which the page tells to make, has nothing to say."""
    page = "nginx.md" if PROGRAMS[name] == "nginx" else "haproxy.md"
    check = {"nginx.md": "nginx -t ", "haproxy.md": "haproxy -c "}[page]
    assert any(check in each for each in commands(page))
    backends = [3001] if "-one." in name else [3001, 3002, 3003]
    program, *arguments = write(name, tmp_path, certificate, [1443, 1080], backends, {}, True)
    if page == "nginx.md":
        limits = changed(
            (tmp_path / "nginx.conf").read_text(), {"events { worker_connections 1024; }": blocks(page)[0]}
        )
        (tmp_path / "nginx.conf").write_text(limits)
    result = subprocess.run([program, check.split()[1], *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not re.search("warn|emerg|alert", result.stdout + result.stderr, re.IGNORECASE), result.stderr


def test_whoClosesFirst() -> None:
    """nginx gives up connections on which nothing happens before the server does, which would lose a POST on them."""
    site = Site(Resource())
    for name in ("nginx.conf", "nginx-one.conf"):
        found = re.findall(r"keepalive_timeout (\d+)s;", (FILES / name).read_text())
        assert found
        assert all(int(each) < site.timeOut for each in found)


def test_theProxiesArePatient() -> None:
    """Their times and sizes go with the defaults of the server, as the comments beside them say."""
    options = ServerOptions()
    for name in PROGRAMS:
        text = (FILES / name).read_text()
        found = re.findall(r"(?:proxy_(?:read|send)_timeout|timeout (?:client|server|tunnel)) +(\d+)s", text)
        assert len(found) in (2, 3)
        assert all(int(each) * 1000 > options.pingInterval + options.pingTimeout for each in found)
    assert options.maxHttpBufferSize <= 1024 * 1024
