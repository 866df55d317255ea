"""A request that is made of an exchange when an application asks for one is one of twisted.web, answered through."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any, ClassVar

import pytest
import pytest_twisted
from twisted.internet.defer import succeed
from twisted.internet.endpoints import SSL4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer
from twisted.python.failure import Failure

from engineio_twisted import Site, listen
from engineio_twisted.web.fast import FastSite
from engineio_twisted.web.requests import EngineIORequest

from ..kit.stories import (
    LIMIT,
    OPEN,
    POLL,
    PUSH,
    Hello,
    Here,
    ask,
    compare,
    noted,
    outcomeOf,
    push,
    statuses,
    theSame,
    told,
    webSocket,
)
from ..kit.wire import Wire, http, makeFrame, pause, target, upgrade, within


def look(here: Here, request: Any) -> dict[str, Any]:
    """Everything that a request of twisted.web says of itself."""
    headers = request.requestHeaders
    names = (
        "Host",
        b"host",
        "cookie",
        b"Cookie",
        b"cookie",
        "Content-Length",
        b"connection",
        "ORIGIN",
        b"none",
        "none",
    )

    def read() -> Any:
        at = request.content.tell()
        request.content.seek(0)
        return request.content.read(), request.content.seek(at) is None

    views: dict[str, Callable[[], Any]] = {
        "kind": lambda: isinstance(request, EngineIORequest),
        "line": lambda: (request.method, request.uri, request.path, request.clientproto),
        "args": lambda: request.args,
        "prepath": lambda: request.prepath,
        "postpath": lambda: request.postpath,
        "sitepath": lambda: request.sitepath,
        "client": lambda: (request.client, request.getClientAddress()),
        "host": lambda: (request.host, request.getHost()),
        "names": lambda: (request.getRequestHostname(), request.prePathURL(), str(request.URLPath())),
        "links": lambda: (request.sibLink(b"a"), request.childLink(b"b"), request.getRootURL(), request.appRootURL),
        "secure": request.isSecure,
        "site": lambda: request.site is here.site,
        "user": lambda: (request.getUser(), request.getPassword()),
        "headers": lambda: [(name, list(values)) for name, values in headers.getAllRawHeaders()],
        "last values": request.getAllHeaders,
        "values": lambda: [headers.getRawHeaders(name, "none") for name in names],
        "getHeader": lambda: [outcomeOf(lambda name=name: request.getHeader(name)) for name in names],
        "has": lambda: [headers.hasHeader(name) for name in names],
        "cookies": lambda: (request.received_cookies, request.getCookie(b"a"), request.getCookie(b"TWISTED_SESSION")),
        "content": read,
        "answer": lambda: (request.code, request.code_message, request.cookies, request.etag, request.lastModified),
        "state": lambda: (request.startedWriting, request.finished, request.sentLength, request.chunked),
        "internal": lambda: (bool(request.queued), request._disconnected, request.producer),
        # What is left of them at the end is a test of its own.
        "response": lambda: [
            each for each in request.responseHeaders.getAllRawHeaders() if each[0] != b"Date" and not request.finished
        ],
        "channel": lambda: (request.channel is None, bool(request.channel.persistent), len(request.channel.requests)),
        "connection": lambda: request.transport is here.peers[request.transport.here.peers.index(request.transport)],
        "session": lambda: request.session,
        "repr": lambda: re.sub("<.* at 0x[0-9a-f]*", "", repr(request)),
        "form": lambda: request._parsePOSTFormSubmission,
        "key": lambda: (request == request, {request: 1}[request], request != object()),
    }
    return {name: outcomeOf(view) for name, view in views.items()}


LOOKED_AT = {
    "open": ask(b"GET", None, b"Cookie: a=b; c", b"X: y", b"x: z", b"Authorization: Basic YTpi"),
    "poll": ask(b"GET", b"sid0", b"Origin: http://example.org"),
    "push": push(b"4a", b"Content-Type: text/plain", b"cookie: a=%41;b==;;c"),
    "form": push(b"4a", b"Content-Type: application/x-www-form-urlencoded"),
    "query": ask(query=b"EIO=4&transport=polling&a=b&a=c+d&e=&%66=%ff;g=h&i"),
    "path": ask(path=b"/engine.io/a%2fb//c%20d"),
    "short path": ask(path=b"/engine.io"),
    "port": ask(host=(b"Host: example.org:8080",)),
    "IPv6": ask(host=(b"Host: [::1]:80",)),
    "odd host": ask(host=(b"Host: a%20b:",)),
    "high bytes": ask(b"GET", b"sid0", b"X: \xff", b"Origin: \xe9"),
    "webSocket": webSocket(b"Cookie: a=b"),
    "bad webSocket": webSocket(key=b"short"),
}


@pytest.mark.parametrize("when", ["middleware", "later", "connection", "headers", "after", "lost"])
@pytest.mark.parametrize("name", LOOKED_AT)
def test_theRequestAsTheApplicationSeesIt(name: str, when: str) -> None:
    """Whenever it looks: before, while and after the request is answered, and when its connection is lost."""

    def play(here: Here, isSecure: bool) -> None:
        seen: list[Any] = []

        def see(request: Any) -> None:
            here.note("seen", look(here, request))

        def middleware(request: Any) -> Any:
            seen.append(request)
            if when == "middleware":
                see(request)
            return here.wait().addCallback(lambda _: see(request)) if when == "later" else None

        here.connect().say(OPEN)
        if when in ("connection", "lost"):
            here.server.on("connection", lambda socket: (seen.append(socket.request), see(socket.request)))
        elif when == "headers":
            here.server.on("headers", lambda headers, request: see(request))
        else:
            here.server.use(middleware)
        here.connect(isSecure).say(LOOKED_AT[name])
        if when == "later":
            here.decide(None)
        here.advance(1)
        if when == "lost":
            # Those that are being answered: our own channel makes one of what it has.
            waiting = getattr(here.peers[-1].protocol, "requests", ())
            seen.extend([getattr(each, "request", each) for each in waiting])
            here.peers[-1].lose()
        here.send("x")
        for request in seen:
            see(request)

    for isSecure in (False, True):
        story = compare(partial(play, isSecure=isSecure))
        assert noted(story, "seen") or when in ("connection", "lost")


def answering(request: Any) -> None:
    request.setResponseCode(418, b"Teapot")
    request.setHeader("X-Own", "yes")
    request.write(b"a teapot ")
    request.write(b"is here")
    request.finish()


def changing(request: Any) -> None:
    request.setHeader("X-Own", "yes")
    request.setHeader(b"x-other", b"a\r\nb")
    request.responseHeaders.addRawHeader("X-Own", "again")
    request.setHeader("Content-Type", "text/own")
    request.setHeader("Server", "own")
    request.responseHeaders.removeHeader("Date")
    request.setHeader("X-Date", "mine")


def reading(request: Any) -> None:
    request.content.read()


async def asynchronous(request: Any) -> None:
    await succeed(None)
    request.setHeader("X-Own", "yes")


def producing(request: Any) -> None:
    class Producer:
        left = 3

        def resumeProducing(self) -> None:
            request.write(b"some")
            self.left -= 1
            if not self.left:
                request.unregisterProducer()
                request.finish()

        def stopProducing(self) -> None:
            pass

    request.registerProducer(Producer(), False)


def withSession(request: Any) -> None:
    request.site._entropy = lambda size: b"\1" * size
    session = request.getSession()
    request.setHeader("X-Session", session.uid)


def cookies(request: Any) -> None:
    request.addCookie(b"a", b"b;c\r\nd", path=b"/", httpOnly=True)
    request.addCookie("€", "f", max_age="1", sameSite="lax")


MIDDLEWARES: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda request: None,
    "answers": answering,
    "answers with nothing": lambda request: request.finish(),
    "answers with a length": lambda request: (
        request.setHeader("Content-Length", "2"),
        request.write(b"ok"),
        request.finish(),
    )[-1],
    "begins to answer": lambda request: request.write(b"begun"),
    "answers with 204": lambda request: (request.setResponseCode(204), request.finish())[-1],
    "answers with 304": lambda request: (request.setResponseCode(304), request.write(b"x"), request.finish())[-1],
    "redirects": lambda request: (request.redirect("/elsewhere"), request.finish())[-1],
    "renders a resource": lambda request: request.render(Hello(isLeaf=True)),
    "produces": producing,
    "changes headers": changing,
    "cookies": cookies,
    "session": withSession,
    "is asynchronous": asynchronous,
    "reads the body": reading,
    "reads a part of it": lambda request: request.content.read(1) and None,
    "asks for the content": lambda request: request.content and None,
    "asks for everything": lambda request: (
        request.args,
        request.received_cookies,
        request.prepath,
        request.getHeader("user-agent"),
        request.getClientAddress(),
        request.isSecure(),
        None,
    )[-1],
    "status": lambda request: request.setResponseCode(201, b"Own"),
    "ETag": lambda request: request.setETag(b'"tag"') and None,
    "last modified": lambda request: request.setLastModified(1e9) and None,
    "default content type": lambda request: setattr(request, "defaultContentType", b"a/b"),
    "removes headers": lambda request: request.requestHeaders.removeHeader("origin"),
    "sets headers": lambda request: request.requestHeaders.setRawHeaders("Accept-Encoding", ["gzip"]),
    "replaces headers": lambda request: setattr(request, "requestHeaders", request.requestHeaders.copy()),
    "another address": lambda request: setattr(request, "uri", request.uri.replace(b"nobody", b"sid0")),
    "another method": lambda request: setattr(request, "method", b"PUT"),
    "sets the host": lambda request: request.setHost(b"example.org", 443, 1),
    "fails": lambda request: 1 / 0,
    "closes": lambda request: request.loseConnection(),
    "closes the channel": lambda request: request.channel.loseConnection(),
    "aborts": lambda request: request.transport.abortConnection(),
    "asks for a close": lambda request: request.setHeader("Connection", "close"),
    "not persistent": lambda request: setattr(request.channel, "persistent", False),
    "a timeout of its own": lambda request: request.channel.setTimeout(5) and None,
    "listens for the end": lambda request: request.notifyFinish().addBoth(lambda _: None) and None,
}


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("name", MIDDLEWARES)
def test_middlewares(name: str) -> None:
    """Whatever a middleware does with requests of every kind, at once or later."""
    for isLate, cors in itertools.product((False, True), (None, {"origin": "http://example.org"})):

        def play(here: Here, isLate: bool = isLate) -> None:
            here.say(OPEN)

            def middleware(request: Any) -> Any:
                request.notifyFinish().addBoth(lambda result: here.note("over", result and result.type))
                return later(request) if isLate else MIDDLEWARES[name](request)

            async def later(request: Any) -> None:
                await here.wait()
                result = MIDDLEWARES[name](request)
                if result is not None:
                    await result

            here.server.use(middleware)
            peer = here.connect()
            for each in (
                OPEN,
                push(b"4a", b"Origin: http://example.org"),
                push(b"4a", sid=b"nobody"),
                ask(b"GET", b"sid0", b"If-None-Match: *", b"If-Modified-Since: Thu, 01 Jan 2037 00:00:00 GMT"),
                ask(b"OPTIONS", b"sid0", b"Origin: http://example.org"),
                webSocket(),
            ):
                peer.say(each)
                if here.waiting:
                    here.decide(None)
                here.send("x" * 3000)
                here.advance(0.01)
                if peer.isLost:
                    peer = here.connect()

        compare(play, cors=cors, initialPacket="initial")


def test_theBodyIsReplaced() -> None:
    """A middleware that decrypts what came, say, and puts what it found in its place."""

    def play(here: Here) -> None:
        here.say(OPEN)
        here.server.use(lambda request: setattr(request, "content", BytesIO(b"4replaced")))
        here.say(PUSH)

    assert noted(compare(play), "message") == [("sid0", "replaced")]


def test_theBodyIsChanged() -> None:
    """The same within the file that there is."""

    def middleware(request: Any) -> None:
        request.content.seek(1)
        request.content.write(b"changed")

    def play(here: Here) -> None:
        here.say(OPEN)
        here.server.use(middleware)
        here.say(PUSH)

    assert noted(compare(play), "message") == [("sid0", "changed")]


def test_aMiddlewareThatStopsReading() -> None:
    """Reading goes on with the answer."""

    def play(here: Here) -> None:
        here.say(OPEN)
        here.server.use(lambda request: request.transport.pauseProducing())
        peer = here.say(PUSH)
        peer.say(PUSH)

    assert len(noted(compare(play), "message")) == 2


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("method", ["finish", "write"])
def test_aMiddlewareThatWatchesTheAnswer(method: str) -> None:
    """One that measures, say, how long a request takes, by a method of its own in front of twisted.web's."""

    def play(here: Here) -> None:
        def middleware(request: Any) -> None:
            original = getattr(request, method)

            def watched(*args: Any) -> Any:
                here.note("called", method)
                return original(*args)

            setattr(request, method, watched)

        here.server.use(middleware)
        peer = here.say(OPEN)
        peer.say(PUSH)

    story = compare(play)
    assert noted(story, "called")
    assert statuses(story) == [200, 200]


def test_theHeadersOfAnAnswerThatIsOver() -> None:
    """Whoever writes down what was answered finds it when the request is over."""

    def play(here: Here) -> None:
        def over(_: object, request: Any) -> None:
            headers = [each for each in request.responseHeaders.getAllRawHeaders() if each[0] != b"Date"]
            here.note("answered", request.code, request.sentLength, headers)

        here.server.use(lambda request: request.notifyFinish().addBoth(over, request) and None)
        here.say(OPEN, PUSH, ask(sid=b"nobody"))

    assert len(noted(compare(play), "answered")) == 3


def test_theAddressIsChangedAndThenLookedAt() -> None:
    """What a request says of itself is what came."""

    def middleware(request: Any) -> None:
        request.uri = b"/elsewhere?EIO=4&transport=polling&sid=sid0&b=c"
        request.path = b"/elsewhere"

    def play(here: Here) -> None:
        here.say(OPEN)
        here.server.use(middleware)
        here.server.use(lambda request: here.note("seen", request.args, request.prepath, request.postpath))
        here.say(PUSH)

    compare(play)


def test_theHostOfARequestThatIsOver() -> None:
    """A handler that asks for it when the connection has gone, as the first one of a polling session has by then."""

    def play(here: Here) -> None:
        def connected(socket: Any) -> None:
            socket.on("message", lambda _: here.note("host", outcomeOf(socket.request.getHost)))
            socket.on("message", lambda _: here.note("client", outcomeOf(socket.request.getClientAddress)))

        here.server.on("connection", connected)
        peer = here.connect()
        peer.forgets = True
        peer.say(OPEN).lose()
        here.say(PUSH)

    assert noted(compare(play), "host")


def test_watchersAreToldInOrder() -> None:
    """Of a lost connection, those are told first who asked first."""

    def play(here: Here) -> None:
        seen: list[Any] = []
        here.say(OPEN)
        here.server.use(seen.append)
        peer = here.say(POLL)
        told = [each.notifyFinish() for each in seen]
        for each in told:
            each.addErrback(lambda _: here.note("lost", sorted(here.server.clients)))
        peer.lose()

    assert noted(compare(play), "lost") != [("sid0",)]


HEADER_HANDLERS: dict[str, Callable[[Any, Any], Any]] = {
    "nothing": lambda headers, request: None,
    "adds": lambda headers, request: headers.update({"X-Own": "a", "x-more": ["b", "c"]}),
    "replaces": lambda headers, request: headers.update({"content-type": "a/b", "Cache-Control": "public"}),
    "removes": lambda headers, request: [headers.pop(each) for each in ("Server", "Date") if each in headers],
    "clears": lambda headers, request: headers.clear(),
    "length": lambda headers, request: headers.update({"Content-Length": "1"}),
    "no length": lambda headers, request: headers.pop("Content-Length", None),
    "request": lambda headers, request: request.setHeader("X-Path", request.path),
    "cookie": lambda headers, request: request.addCookie("late", "too late"),
    "status": lambda headers, request: request.setResponseCode(299, b"Own"),
    "ETag": lambda headers, request: request.setETag(b"tag") and None,
    "reads": lambda headers, request: request.content.read() and None,
    "fails": lambda headers, request: 1 / 0,
    "answers": lambda headers, request: request.write(b"own"),
    "closes": lambda headers, request: request.loseConnection(),
}


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("event", ["headers", "initial_headers"])
@pytest.mark.parametrize("name", HEADER_HANDLERS)
def test_handlersOfHeaders(name: str, event: str) -> None:
    """What they change goes out."""

    def play(here: Here) -> None:
        here.server.on(event, HEADER_HANDLERS[name])
        peer = here.say(OPEN)
        for each in (POLL, PUSH, push(b"9"), OPEN, ask(sid=b"nobody"), ask(b"PUT"), webSocket()):
            peer.say(each)
            here.send("x")
            if peer.isLost:
                peer = here.connect()

    compare(play, events=["headers"], cookie={"name": "io", "path": "/"})
    compare(play, cors={"origin": "*"}, httpCompression={"threshold": 0})


CORS: dict[str, dict[str, Any]] = {
    "any": {"origin": "*"},
    "one": {"origin": "http://example.org", "credentials": True, "exposedHeaders": "X-A, X-B", "maxAge": 5},
    "several": {"origin": ["http://example.org", re.compile("b$")], "methods": ["GET"], "allowedHeaders": ["X-A"]},
    "none": {"origin": False},
    "function": {"origin": lambda origin: origin == "http://example.org"},
    "Deferred": {"origin": lambda origin: succeed(origin == "http://example.org")},
    "coroutine": {"origin": lambda origin: isKnown(origin)},
    "continued": {"origin": "*", "preflightContinue": True},
    "status": {"origin": "*", "optionsSuccessStatus": 200},
}


async def isKnown(origin: str | None) -> bool:
    return origin == "http://example.org"


@pytest.mark.parametrize("name", CORS)
def test_otherOrigins(name: str) -> None:
    """Who may read the answers is said with each of them."""

    def play(here: Here) -> None:
        peer = here.say(OPEN)
        for origin in (b"http://example.org", b"http://b", b"null", b"\xff", b"http://\x7f"):
            line = b"Origin: " + origin
            for each in (
                ask(b"GET", None, line),
                ask(b"GET", b"sid0", line),
                push(b"4a", line),
                push(b"x" * LIMIT * 2, line),
                ask(b"GET", b"nobody", line),
                ask(b"OPTIONS", None, line, b"Access-Control-Request-Headers: X-A"),
                webSocket(line),
            ):
                peer.say(each)
                here.send("x")
                if peer.isLost:
                    peer = here.connect()

    compare(play, cors=CORS[name])
    compare(play, cors=CORS[name], allowedOrigins=["http://example.org"], asked=[False])


@pytest.mark.usefixtures("mayLog")
@pytest.mark.parametrize("answer", [True, False, None, "text", ZeroDivisionError])
@pytest.mark.parametrize("isLate", [False, True])
def test_allowRequest(answer: Any, isLate: bool) -> None:
    """Asked at once or later, of sessions of both kinds; some clients don't wait for the answer."""

    def play(here: Here) -> None:
        first, second, third = here.say(OPEN), here.say(webSocket(), makeFrame("4a")), here.say(OPEN + PUSH)
        fourth = here.say(OPEN)
        fourth.lose()
        for _ in range(3 if isLate else 0):
            here.decide(Failure(answer()) if isinstance(answer, type) else answer)
        for peer in (first, second, third):
            peer.say(POLL)
        here.send("x")
        # Nobody decides about this one.
        last = here.say(OPEN)
        here.advance(29, 2)
        last.say(POLL)

    def now(request: Any) -> Any:
        if isinstance(answer, type):
            raise answer
        return answer

    for kind in (True, False):
        stories = []
        for site in (Site, FastSite):
            box: list[Here] = []

            def started(here: Here, box: list[Here] = box) -> None:
                box.append(here)
                play(here)

            allow = (lambda request, box=box: box[0].wait()) if isLate else now
            stories.append(told(site, started, isDecided=kind, allowRequest=allow))
        theSame(*stories)


def test_generateIdTakesTime() -> None:
    """And meanwhile more comes, or the client goes."""

    def play(here: Here) -> None:
        here.server.generateId = here.wait  # type: ignore[method-assign]
        peers = [here.say(OPEN), here.say(OPEN, PUSH), here.say(OPEN), here.say(webSocket() + makeFrame("4a"))]
        peers[2].lose()
        here.waiting.pop(2)
        for number in range(3):
            here.decide(f"sid{number}")
        here.send("x")

    compare(play)


# Over real sockets


class Recorded(ProxyClient):
    """What a server sends through a proxy that writes down what it sees."""

    def dataReceived(self, data: bytes) -> None:
        self.factory.seen.append(data)  # type: ignore[attr-defined]
        super().dataReceived(data)


class RecordedFactory(ProxyClientFactory):
    protocol = Recorded
    noisy = False
    seen: ClassVar[list[bytes]] = []


class Recording(ProxyServer):
    """What a client sends through it."""

    clientProtocolFactory = RecordedFactory

    def connectionMade(self) -> None:
        from twisted.internet import reactor

        self.reactor = reactor
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        RecordedFactory.seen.append(data)
        super().dataReceived(data)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("scheme", ["ssl", "tcp"])
async def test_nothingIsPlain(
    scheme: str,
    serve: Any,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of what goes over TLS, whoever sits in between can read no message, no header and no session id."""
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ClientEndpoint

    key, signed = request.getfixturevalue("certificate")
    rest = f":privateKey={key}:certKey={signed}" if scheme == "ssl" else ""
    server = listen(f"{scheme}:0:interface=127.0.0.1{rest}")
    server.on("connection", lambda socket: socket.on("message", lambda data: socket.send(data)))
    port = (await server.listening).getHost().port
    seen: list[bytes] = []
    monkeypatch.setattr(RecordedFactory, "seen", seen)
    between = ProxyFactory("127.0.0.1", port)
    between.protocol = Recording
    between.noisy = False
    proxy = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(between)
    wires: list[Wire] = []

    async def connect() -> Wire:
        where = ("127.0.0.1", proxy.getHost().port)
        endpoint: Any = (
            SSL4ClientEndpoint(reactor, *where, CertificateOptions(verify=False))
            if scheme == "ssl"
            else TCP4ClientEndpoint(reactor, *where)
        )
        wire: Wire = await within(connectProtocol(endpoint, Wire()), "a connection")
        wires.append(wire)
        return wire

    polling = await connect()
    polling.send(http("GET", target()))
    (packet,) = (await polling.response()).packets
    sid = packet.partition('"sid":"')[2].partition('"')[0]
    polling.send(http("POST", target(sid=sid), body=b"4a secret by polling"))
    assert (await polling.response()).body == b"ok"
    polling.send(http("GET", target(sid=sid)))
    assert (await polling.response()).packets == ["4a secret by polling"]
    sockets = [await connect() for _ in range(3)]
    for wire in sockets:
        wire.send(upgrade() + makeFrame("4a secret behind the request"))
        assert (await wire.response()).status == 101
        await wire.text()
        assert await wire.text() == "4a secret behind the request"
        wire.send(makeFrame("4a secret by WebSocket"))
        assert await wire.text() == "4a secret by WebSocket"
    ids = list(server.clients)
    for text in ("a secret for all", "another secret for all"):
        assert server.broadcast(text) == 4
    server.broadcast(b"a binary secret for all")
    for wire in sockets:
        assert [await wire.text(), await wire.text()] == ["4a secret for all", "4another secret for all"]
        assert (await wire.frame()).payload == b"a binary secret for all"
    polling.send(http("GET", target(sid=sid)))
    assert (await polling.response()).packets[:2] == ["4a secret for all", "4another secret for all"]
    polling.send(http("GET", target(sid="nobody")))
    assert (await polling.response()).status == 400
    stream = b"".join(seen)
    secrets = [b"secret", b"HTTP/1.1", b"engine.io", b"websocket", b"WebSocket", *[each.encode() for each in ids]]
    assert len(stream) > 1000
    # Without TLS they are all there: a client's frames are masked, but not a server's.
    assert [each for each in secrets if each in stream] == ([] if scheme == "ssl" else secrets)
    for wire in wires:
        wire.drop()
        await wire.lost()
    await within(server.close(), "the end of the server")
    await within(proxy.stopListening(), "the end of the proxy")


@pytest_twisted.ensureDeferred
async def test_theAddressesOfARequestThatIsOver(serve: Any) -> None:
    """A handler may ask a session's first request for them, also when its connection has gone."""
    hosts: list[Any] = []

    def setup(server: Any) -> None:
        def connected(socket: Any) -> None:
            socket.on("message", lambda _: hosts.append(outcomeOf(socket.request.getHost)))
            socket.on("message", lambda _: hosts.append(outcomeOf(socket.request.getClientAddress)))

        server.on("connection", connected)

    running = await serve(setup)

    async def said(data: bytes) -> Any:
        from twisted.internet import reactor
        from twisted.internet.endpoints import TCP4ClientEndpoint

        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", running.port)
        wire: Wire = await within(connectProtocol(endpoint, Wire()), "a connection")
        wire.send(data)
        response = await wire.response()
        wire.drop(abort=False)
        await wire.lost()
        return response

    (packet,) = (await said(http("GET", target()))).packets
    sid = packet.partition('"sid":"')[2].partition('"')[0]
    while len(running.server._ownPorts.site.channels):
        await pause(0.01)
    await said(http("POST", target(sid=sid), body=b"4a"))
    running.server.clients[sid].close(discard=True)
    assert [(each.host, each.port > 0) for each in hosts] == [("127.0.0.1", True)] * 2
    assert hosts[0].port == running.port
