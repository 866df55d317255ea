"""What sends the requests of polling: the agent of a session, over a network in memory, and agents that are given."""

from __future__ import annotations

import gzip
from http.cookiejar import CookieJar
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import DNSLookupError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.web.client import Agent, BrowserLikeRedirectAgent, ContentDecoderAgent, CookieAgent, GzipDecoder

from engineio_twisted import listen
from engineio_twisted.client import Client, agents
from engineio_twisted.client.agents import HEAD_SIZE, IDLE_TIMEOUT, WITHOUT_TLS, endpointOf
from engineio_twisted.client.connecting import Connecting
from engineio_twisted.client.errors import ConnectionFailed
from engineio_twisted.client.options import ClientOptions

from ..kit.client_agents import FORCED, Polling
from ..kit.client_servers import OPEN, MemoryServer, ScriptedServer, Step, answer, both, chunks, cuts, endless, ends
from ..kit.wire import within


class Session:
    """A polling transport whose agent is its own, and a server that does what a script says."""

    def __init__(self, *gets: Step, posts: Any = (), url: str = "http://server.test", **options: Any) -> None:
        self.server = ScriptedServer(gets, posts)
        self.memory = MemoryServer(self.server)
        self.polling = Polling(url=url, clock=self.server.clock, **{"agent": None, "endpoint": self.memory, **options})
        self.transport = self.polling.transport

    def open(self) -> Session:
        self.transport.open()
        self.advance()
        return self

    def advance(self, seconds: float = 0.01) -> None:
        self.memory.network.advance(seconds)

    @property
    def failure(self) -> Any:
        return self.polling.failure

    @property
    def connected(self) -> int:
        """How many connections are there."""
        return sum(not each.isLost for each in self.server.peers)

    def close(self) -> None:
        self.transport.close(FORCED)

    def assertGone(self) -> None:
        """Nothing is left of it: no connection, no timer."""
        self.advance()
        assert self.polling.gone == [None]
        assert self.connected == 0
        assert self.server.clock.getDelayedCalls() == []


class TestOwn:
    """The agent that a session has if none is given."""

    def test_bytes(self) -> None:
        """What goes over the wire."""
        session = Session(answer(OPEN), url="http://server.test:3000/mine?a=b", timestampRequests=False).open()
        session.polling.send("é")
        session.advance()
        [first, second, posted] = session.server.asked
        assert (first.target, first.headers["host"]) == ("/mine/?a=b&EIO=4&transport=polling", "server.test:3000")
        assert second.target == "/mine/?a=b&EIO=4&transport=polling&sid=S"
        assert (posted.method, posted.body) == ("POST", "4é".encode())
        assert posted.headers["content-length"] == "3"
        assert "transfer-encoding" not in posted.headers

    def test_connectionsAreKept(self) -> None:
        """A session has two connections, however many requests it makes."""
        session = Session(answer(OPEN), *[answer(b"4x")] * 20).open()
        for _ in range(20):
            session.polling.send("y")
            session.advance()
        assert len(session.server.asked) == 42
        assert len(session.server.peers) == 2
        session.close()
        session.advance()
        session.server.peers[0].say(answer(b"6"))
        session.assertGone()

    def test_idleConnectionsAreClosed(self) -> None:
        """One that nothing was sent on for a while isn't used any more, as the server may be closing it."""
        session = Session(answer(OPEN)).open()
        session.polling.send("x")
        session.advance()
        assert session.connected == 2
        session.advance(IDLE_TIMEOUT)
        assert session.connected == 1
        session.polling.send("y")
        session.advance()
        assert (len(session.server.peers), session.failure) == (3, None)
        session.close()
        session.advance(1)
        session.assertGone()

    def test_nothingIsRepeated(self) -> None:
        """A request that fails on a connection that was kept may have arrived: it isn't sent again."""
        for does in (ends(), cuts()):
            session = Session(answer(OPEN), does).open()
            session.advance()
            assert session.failure.type == "lost"
            assert len(session.server.asked) == 2
            session.assertGone()

    def test_closedWhileIdle(self) -> None:
        """A connection that the server closes while it is idle is no failure."""
        session = Session(answer(OPEN)).open()
        session.polling.send("x")
        session.advance()
        session.server.peers[1].finish()
        session.advance()
        session.polling.send("y")
        session.advance()
        assert session.server.bodies() == [b"4x", b"4y"]
        assert session.failure is None
        session.close()
        session.advance(1)
        session.assertGone()

    @pytest.mark.parametrize(
        ("does", "type_", "description"),
        [
            (answer(b"4hello", length=100), None, ""),
            (ends(answer(b"4hello", length=100)), "lost", "closed cleanly"),
            (ends(chunks(b"4hello", isEnded=False)), "lost", "closed cleanly"),
            (ends(b"HTTP/1.1 200 OK\r\n\r\n4hello"), "lost", "may be incomplete"),
            (ends(b"HTTP/1.1 200 OK\r\nContent-"), "lost", "closed cleanly"),
            (ends(b""), "lost", "closed cleanly"),
            (both(b"SSH-2.0-OpenSSH_9.2\r\n"), "not engine.io", "isn't HTTP"),
            (b"HTTP/1.1 abc OK\r\n\r\n", "not engine.io", "isn't HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "not engine.io", "isn't HTTP"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "not engine.io", "isn't HTTP"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "not engine.io", "isn't HTTP"),
            (chunks(b"4hel", b"lo"), "taken", ""),
            (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"4hello"), "taken", ""),
            (answer(gzip.compress(b"4hello"), "200 OK", "Content-Encoding: gzip"), "taken", ""),
        ],
    )
    def test_responses(self, does: Step, type_: str | None, description: str) -> None:
        """What isn't a whole response is a failure with a name; nothing of it is delivered."""
        session = Session(answer(OPEN), does).open()
        session.advance()
        polling = session.polling
        if type_ in (None, "taken"):
            assert session.failure is None
            assert polling.received[1:] == ([] if type_ is None else ["hello"])
            session.close()
            session.advance(1)
        else:
            assert session.failure.type == type_
            assert description in session.failure.description
            assert polling.received[1:] == []
        session.assertGone()

    @pytest.mark.parametrize(
        ("head", "piece"),
        [
            (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n4\r\n" * 1000),
            (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", b"4" * 5000),
            (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n", b"X: y\r\n" * 1000),
            (b"HTTP/1.1 503 No\r\n\r\n", b"4" * 5000),
        ],
    )
    def test_withoutEnd(self, head: bytes, piece: bytes) -> None:
        """Whatever has no end, the head or the body, is left when it is more than it may be."""
        session = Session(answer(OPEN), endless(head, piece), maxHttpBufferSize=10_000).open()
        before = session.server.said
        session.advance(1)
        assert session.failure.type == ("unavailable" if b"503" in head else "too large")
        assert session.server.said - before < 2 * 10_000 + HEAD_SIZE + 10 * len(piece)
        session.advance(5)
        session.assertGone()

    @pytest.mark.parametrize(
        ("error", "type_"),
        [(Refused(), "connect"), (DNSLookupError("no such name"), "dns"), (ValueError("x"), "connect")],
    )
    def test_noConnection(self, error: Exception, type_: str) -> None:
        """What the endpoint fails with, at the beginning and later."""
        session = Session()
        session.memory.failure = error
        session.open()
        assert session.failure.type == type_
        session.assertGone()
        session = Session(answer(OPEN)).open()
        session.memory.failure = error
        session.polling.send("x")
        session.advance()
        assert session.failure.type == type_
        session.assertGone()

    def test_connectionThatIsNotMade(self) -> None:
        """A connection that is being made is given up with the session."""
        session = Session()
        session.memory.isReachable = False
        session.open()
        assert session.memory.waiting == 1
        session.close()
        assert session.memory.waiting == 0
        session.assertGone()

    def test_abortedWithTheSession(self) -> None:
        """No connection outlives its session, whatever the server does with it."""
        for get in (b"", b"HTTP/1.1 200 OK\r\n", answer(b"4x", length=9)):
            session = Session(answer(OPEN), get, posts=[b""]).open()
            session.close()
            session.advance(2.9)
            assert session.connected == 2
            session.advance(0.2)
            session.assertGone()

    def test_cookies(self) -> None:
        """Cookies come back with the next requests."""
        jar = CookieJar()
        session = Session(
            answer(OPEN, "200 OK", "Set-Cookie: io=1; Path=/", "Set-Cookie: b=2"), withCredentials=jar
        ).open()
        assert session.server.asked[1].headers["cookie"] == "b=2; io=1"
        session.close()
        session.advance(1)
        session.assertGone()


class TestTLS:
    """Where TLS comes from."""

    def test_without(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without pyOpenSSL the failure says what to install."""

        def refuse(*args: Any) -> Any:
            raise NotImplementedError("SSL support unavailable")

        monkeypatch.setattr(agents, "BrowserLikePolicyForHTTPS", refuse)
        session = Session(url="https://server.test").open()
        assert (session.failure.type, session.failure.description) == ("tls", WITHOUT_TLS)
        session.assertGone()

    def test_nameOfTheServer(self) -> None:
        """The policy is asked once for each session, with the name of the server, whatever the endpoint."""
        asked: list[tuple[bytes, int]] = []

        from twisted.web.client import BrowserLikePolicyForHTTPS

        class Policy(BrowserLikePolicyForHTTPS):
            def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
                asked.append((hostname, port))
                return super().creatorForNetloc(hostname, port)

        connecting = Connecting(
            "https://server.test:8443",
            ClientOptions(contextFactory=Policy(), endpoint=MemoryServer(ScriptedServer())),
            ScriptedServer().clock,
        )
        endpointOf(connecting)
        assert asked == [(b"server.test", 8443)]


class TestGiven:
    """An agent of the application's."""

    def over(self, memory: MemoryServer, wrap: Any) -> Any:
        class Factory:
            def endpointForURI(self, uri: Any) -> Any:
                return memory

        return wrap(Agent.usingEndpointFactory(memory.network.clock, Factory()))

    def session(self, wrap: Any, *gets: Step, **options: Any) -> Session:
        session = Session(*gets)
        agent = self.over(session.memory, wrap)
        session.polling = Polling(url="http://server.test", clock=session.server.clock, agent=agent, **options)
        session.transport = session.polling.transport
        return session.open()

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda agent: agent,
            lambda agent: ContentDecoderAgent(agent, [(b"gzip", GzipDecoder)]),
            lambda agent: CookieAgent(agent, CookieJar()),
            BrowserLikeRedirectAgent,
        ],
    )
    def test_asItIs(self, wrap: Any) -> None:
        """It may decode, redirect and keep cookies."""
        zipped = answer(gzip.compress(b"4hello"), "200 OK", "Content-Encoding: gzip", "Set-Cookie: a=1")
        session = self.session(wrap, answer(OPEN), zipped)
        session.polling.send("x")
        session.advance()
        assert session.polling.received[1:] == ["hello"]
        assert session.server.bodies() == [b"4x"]
        assert {each.headers["host"] for each in session.server.asked} == {"server.test"}
        session.close()
        session.advance(1)
        assert session.server.bodies() == [b"4x", b"1"]
        session.assertGone()

    def test_redirects(self) -> None:
        """One that follows redirects does, to another host with another header C{Host}; ours doesn't."""
        moved = answer(b"", "307 Temporary Redirect", "Location: http://other.test/engine.io/?EIO=4&transport=polling")
        session = self.session(BrowserLikeRedirectAgent, moved, answer(OPEN))
        assert [each.headers["host"] for each in session.server.asked[:2]] == ["server.test", "other.test"]
        assert session.failure is None
        session.close()
        session.advance(1)
        session.assertGone()
        session = Session(moved).open()
        assert session.failure.type == "redirect"
        session.assertGone()

    def test_withTheHostGiven(self) -> None:
        """A header C{Host} that is given is sent."""
        session = self.session(lambda agent: agent, answer(OPEN), extraHeaders={"Host": "virtual.test"})
        assert {each.headers["host"] for each in session.server.asked} == {"virtual.test"}
        session.close()
        session.advance(1)
        session.assertGone()

    def test_cutResponses(self) -> None:
        """Its failures have the same names."""
        session = self.session(lambda agent: agent, answer(OPEN), ends(answer(b"4x", length=10)))
        session.advance()
        assert session.failure.type == "lost"
        assert isinstance(session.failure, ConnectionFailed)
        session.assertGone()

    def test_tooMuch(self) -> None:
        """A body without end is left, though the agent can't abort its connection."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
        session = self.session(lambda agent: agent, answer(OPEN), endless(head, b"4" * 5000), maxHttpBufferSize=10_000)
        session.advance(1)
        assert session.failure.type == "too large"
        assert session.server.said < 30_000
        session.advance(5)
        session.assertGone()


def test_anAddressIsNotLookedUp() -> None:
    """It is connected to at once, with TLS too. Only names are looked up, which takes a thread."""
    reactor: Any = MemoryReactorClock()
    for url in ("http://127.0.0.1:3000", "https://192.0.2.1", "ws://[::1]:3000"):
        endpointOf(Connecting(url, ClientOptions(), reactor)).connect(Factory())
    assert [each[:2] for each in reactor.tcpClients] == [("127.0.0.1", 3000), ("192.0.2.1", 443), ("::1", 3000)]
    timeouts = {each[3] for each in reactor.tcpClients}
    assert timeouts == {20}


@pytest_twisted.ensureDeferred
async def test_connectionsAreNotLogged() -> None:
    """A session that opens, sends and closes logs nothing; Twisted's agent would log each of its connections."""
    logged: list[LogEvent] = []
    server = listen("tcp:0:interface=127.0.0.1")
    server.on("connection", lambda socket: socket.on("message", socket.send))
    port = await server.listening
    globalLogPublisher.addObserver(logged.append)
    try:
        for transports in (["polling"], ["websocket"]):
            client = Client(f"http://localhost:{port.getHost().port}", transports=transports)
            came: Deferred[str | bytes] = Deferred()
            client.once("message", came.callback)
            await within(client.connect(), "the session is open")
            client.send("a")
            assert await within(came, "the message comes back") == "a"
            await within(client.close(), "the session is closed")
    finally:
        globalLogPublisher.removeObserver(logged.append)
        await within(server.close(), "the server closing")
    assert logged == []


@pytest_twisted.ensureDeferred
async def test_noRequestIsSentOnAConnectionThatWasClosed() -> None:
    """A server, or a proxy that is reloaded, may close a connection behind a response that doesn't say so."""
    from twisted.internet import reactor

    packets = [OPEN, b"4one", b"4two", b"1"]
    server = ScriptedServer([ends(answer(each)) for each in packets], posts=[ends(answer(b"ok"))] * 2)
    everything: Any = reactor
    port = everything.listenTCP(0, server, interface="127.0.0.1")
    try:
        client = Client(f"http://127.0.0.1:{port.getHost().port}", transports=["polling"])
        came: list[str | bytes] = []
        ended: Deferred[str] = Deferred()

        def reply(data: str | bytes) -> None:
            came.append(data)
            client.send(data)

        client.on("message", reply)
        client.on("close", lambda reason, description: ended.callback(reason))
        await within(client.connect(), "the session is open")
        assert await within(ended, "the end of the session") == "transport close"
        await within(client.close(), "the end of the connections")
        assert came == ["one", "two"]
        assert server.bodies() == [b"4one", b"4two"]
    finally:
        await within(port.stopListening(), "the end of the port")
