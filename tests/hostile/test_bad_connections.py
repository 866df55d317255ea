"""Connections that a client doesn't get: names that aren't resolved, ports that refuse, and TLS that fails."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IReactorPluggableNameResolver
from twisted.internet.ssl import Certificate, KeyPair, PrivateCertificate, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.iweb import IAgent, IPolicyForHTTPS
from zope.interface import implementer

from engineio_twisted.client import Client, ConnectionFailed, FailureType

from ..kit.client_servers import OPEN, UPGRADABLE, WEBSOCKET, ScriptedServer, Step, answer, cuts, drips, ends, frame
from ..kit.client_stories import Story, telling

TRANSPORTS = ("polling", "websocket")
CONNECT_TIMEOUT = 20


def assertFailed(story: Story, kind: FailureType, transport: str) -> ConnectionFailed:
    failure = story.result
    assert isinstance(failure, ConnectionFailed), failure
    assert (failure.type, failure.transport) == (kind, transport), failure
    assert failure.description
    assert failure.description.isprintable()
    assert len(failure.description) < 1_000
    assert story.client.readyState == "closed"
    return failure


class TestEndpoint:
    """What an endpoint fails with."""

    @pytest.mark.parametrize("transport", TRANSPORTS)
    @pytest.mark.parametrize(
        ("reason", "kind"),
        [
            (error.DNSLookupError("no such name"), FailureType.DNS),
            (error.UnknownHostError(), FailureType.DNS),
            (error.ConnectionRefusedError(), FailureType.CONNECT),
            (error.NoRouteError(), FailureType.CONNECT),
            (error.ConnectError(osError=5, string="broken"), FailureType.CONNECT),
            (error.ConnectBindError(), FailureType.CONNECT),
            (error.TCPTimedOutError(), FailureType.TIMEOUT),
            (error.TimeoutError(), FailureType.TIMEOUT),
            (error.ConnectionLost(), FailureType.LOST),
            (error.ConnectionDone(), FailureType.LOST),
            (OSError(24, "Too many open files"), FailureType.CONNECT),
            (ConnectionFailed(FailureType.PROXY, "no"), FailureType.PROXY),
            (SSL.Error([("SSL routines", "", "certificate verify failed")]), FailureType.TLS),
            (RuntimeError("whatever\r\n\x1b[31m" + "x" * 5_000), FailureType.CONNECT),
            (ValueError(), FailureType.CONNECT),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
    )
    def test_fails(self, transport: str, reason: Exception, kind: FailureType) -> None:
        """Each failure of a connection is a failure of the client, of a kind."""
        if isinstance(reason, ConnectionFailed):
            # It is told where it happened.
            reason = ConnectionFailed(reason.type, reason.description)
        with telling(ScriptedServer(), transports=[transport]) as story:
            story.endpoint.failure = reason
            story.connect()
            assertFailed(story, kind, transport)
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_raises(self, transport: str) -> None:
        """An endpoint that raises in place of failing is no reason to hang."""

        def connect(factory: object) -> object:
            raise RuntimeError("not an endpoint")

        with telling(ScriptedServer(), transports=[transport]) as story:
            story.endpoint.connect = connect  # type: ignore[method-assign]
            story.connect()
            assertFailed(story, FailureType.CONNECT, transport)

    def test_upgrade(self) -> None:
        """A WebSocket that can't be connected leaves the session on polling."""
        with telling(ScriptedServer([answer(UPGRADABLE)])) as story:

            def refuse(_: object) -> None:
                story.endpoint.failure = error.ConnectionRefusedError()

            story.client.on("handshake", refuse)
            story.connect()
            story.advance(1)
            assert [each.type for (each,) in story.all("upgradeError")] == [FailureType.CONNECT]


def _raising(*args: object) -> object:
    raise RuntimeError("not today")


@implementer(IPolicyForHTTPS)
class _Policy:
    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return _raising()


@implementer(IAgent)
class _Agent:
    def __init__(self, answers: Callable[[], object]) -> None:
        self._answers = answers

    def request(self, *args: object) -> Any:
        return self._answers()


class _HalfAResponse:
    code = 200


class TestGiven:
    """What an application gives to connect by, if it is wrong."""

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_policy(self, transport: str) -> None:
        """A policy that raises is a failure of the client."""
        with telling(ScriptedServer(), "https://localhost", transports=[transport], contextFactory=_Policy()) as story:
            story.connect()
            assertFailed(story, FailureType.CONNECT, transport)
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("transport", TRANSPORTS)
    @pytest.mark.parametrize("result", [None, "connected", succeed(None), succeed("connected")])
    def test_endpoint(self, transport: str, result: object) -> None:
        """So is an endpoint that says that it has connected, and hasn't."""
        with telling(ScriptedServer(), transports=[transport]) as story:
            story.endpoint.connect = lambda _: result  # type: ignore[assignment,method-assign,return-value]
            story.connect()
            assertFailed(story, FailureType.CONNECT, transport)
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_endpointThatCanNotStop(self, transport: str) -> None:
        """A connection that is made for a client that was closed meanwhile is closed at once."""
        with telling(ScriptedServer([answer(OPEN)]), transports=[transport]) as story:
            connect, waiting = story.endpoint.connect, []

            def late(factory: Any) -> Deferred[Any]:
                waiting.append(factory)
                return Deferred(lambda _: None)

            story.endpoint.connect = late  # type: ignore[method-assign]
            story.connect()
            story.client.close()
            story.advance(10)
            for factory in waiting:
                connect(factory)
            story.advance(0.1)
            assert len(story.server.peers) == 1
            assert story.server.asked == []
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize(
        "answers",
        [lambda: None, _raising, lambda: succeed(None), lambda: succeed(_HalfAResponse()), lambda: fail(ValueError())],
        ids=["nothing", "raises", "no response", "half a response", "fails"],
    )
    def test_agent(self, answers: Callable[[], object]) -> None:
        """So is an agent that doesn't do what one does."""
        with telling(ScriptedServer(), agent=_Agent(answers)) as story:
            story.connect()
            assertFailed(story, FailureType.CONNECT, "polling")
            assert story.isQuiet, story.left()

    def test_agentThatNeverAnswers(self) -> None:
        """One that never answers, nor can be stopped, is waited for no longer."""
        with telling(ScriptedServer(), agent=_Agent(lambda: Deferred(lambda _: None))) as story:
            story.connect()
            story.advance(CONNECT_TIMEOUT + 0.01)
            assertFailed(story, FailureType.TIMEOUT, "polling")
            assert story.isQuiet, story.left()


class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name
        self.isCancelled = False

    def cancel(self) -> None:
        self.isCancelled = True


@implementer(IReactorPluggableNameResolver)
class Names(MemoryReactorClock):
    """
    A reactor that knows no names but as a test says.

    @param resolve: called with the receiver of the addresses, once for each name that is asked for.
    """

    def __init__(self, resolve: Callable[[Any], object]) -> None:
        super().__init__()
        self.names: list[_Resolution] = []
        reactor = self

        @implementer(IHostnameResolver)
        class Resolver:
            def resolveHostName(self, receiver: Any, hostName: str, *args: Any, **how: Any) -> Any:
                resolution = implementer(IHostResolution)(_Resolution)(hostName)
                reactor.names.append(resolution)
                receiver.resolutionBegan(resolution)
                resolve(receiver)
                return resolution

        self.nameResolver = Resolver()


def connecting(reactor: Any, url: str, transport: str, **options: Any) -> tuple[Client, list[Any]]:
    """Connect a client through a reactor, and return it and what comes of that."""
    client = Client(url, reactor=reactor, transports=[transport], **options)
    results: list[Any] = []
    client.connect().addBoth(lambda result: results.append(result.value if isinstance(result, Failure) else result))
    return client, results


def close(client: Client, reactor: Any) -> None:
    """Close a client; nothing of it may be left."""
    over: list[object] = []
    client.close().addBoth(over.append)
    reactor.pump([1.0] * 40)
    assert over == [None]
    assert reactor.getDelayedCalls() == []


class TestNames:
    """Names of servers."""

    @pytest.mark.parametrize("url", ["http://nosuch.invalid", "https://nosuch.invalid:8443"])
    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_unknown(self, transport: str, url: str) -> None:
        """A name that isn't known is named."""
        reactor = Names(lambda receiver: receiver.resolutionComplete())
        client, results = connecting(reactor, url, transport)
        reactor.advance(0)
        (failure,) = results
        assert (failure.type, failure.transport) == (FailureType.DNS, transport)
        assert "nosuch.invalid" in failure.description
        close(client, reactor)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_never(self, transport: str) -> None:
        """Names are not waited for longer than for the rest."""
        reactor = Names(lambda receiver: None)
        client, results = connecting(reactor, "http://slow.invalid", transport)
        reactor.pump([1.0] * (CONNECT_TIMEOUT - 1))
        assert results == []
        reactor.pump([0.5] * 4)
        (failure,) = results
        assert (failure.type, failure.transport) == (FailureType.TIMEOUT, transport)
        close(client, reactor)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_closed(self, transport: str) -> None:
        """A client that is closed while its name is looked up waits for nothing."""
        reactor = Names(lambda receiver: None)
        client, results = connecting(reactor, "http://slow.invalid", transport)
        close(client, reactor)
        (failure,) = results
        assert failure.type == FailureType.CLOSED

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_refused(self, transport: str) -> None:
        """A port at which nothing listens."""

        def resolve(receiver: Any) -> None:
            receiver.addressResolved(IPv4Address("TCP", "192.0.2.1", 80))
            receiver.resolutionComplete()

        reactor = Names(resolve)
        client, results = connecting(reactor, "http://known.invalid", transport)
        reactor.advance(0.1)
        ((host, port, factory, *_),) = reactor.tcpClients
        assert (host, port) == ("192.0.2.1", 80)
        factory.clientConnectionFailed(reactor.connectors[0], Failure(error.ConnectionRefusedError()))
        reactor.pump([0.1] * 10)
        (failure,) = results
        assert failure.type == FailureType.CONNECT
        close(client, reactor)


def authority(name: str, days: int = 1) -> tuple[Certificate, PrivateCertificate]:
    """Return a certificate for a name, which has signed itself, and the same with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=30))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    signed = builder.not_valid_after(now + datetime.timedelta(days=days)).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    public = Certificate.loadPEM(signed.public_bytes(pem))
    pair = KeyPair.load(private, 1)
    return public, PrivateCertificate.fromCertificateAndKeyPair(public, pair)


class TestTLS:
    """TLS that fails."""

    @pytest.fixture(autouse=True)
    def turn(self) -> Iterator[None]:
        """Let what writes to TLS have the turn of the running reactor that it has asked for."""
        from twisted.internet import reactor

        yield
        pytest_twisted.blockon(deferLater(reactor, 0))  # type: ignore[arg-type]

    def encrypted(self, server: ScriptedServer, certificate: PrivateCertificate) -> Any:
        return TLSMemoryBIOFactory(certificate.options(), False, server, server.clock)

    async def handshake(self, story: Story) -> None:
        """Connect, as far as that goes: what is written to TLS goes out in the next turn of the running reactor."""
        from twisted.internet import reactor

        if story.client.readyState == "opening":
            story.connect()
        for _ in range(4):
            await deferLater(reactor, 0)  # type: ignore[arg-type]
            story.advance(0.01)

    @pytest.mark.parametrize("transport", TRANSPORTS)
    @pytest.mark.parametrize(
        ("name", "days", "isTrusted", "said"),
        [
            ("localhost", 1, False, "certificate|self"),
            ("example.org", 1, True, "name"),
            ("localhost", -1, True, "certificate"),
        ],
        ids=["not trusted", "another name", "expired"],
    )
    @pytest_twisted.ensureDeferred
    async def test_certificate(self, transport: str, name: str, days: int, isTrusted: bool, said: str) -> None:
        """A certificate that isn't good is refused, and nothing is said to the server."""
        public, private = authority(name, days)
        server = ScriptedServer([answer(OPEN)], webSockets=[WEBSOCKET + frame(OPEN.decode())])
        roots = trustRootFromCertificates([public] if isTrusted else [authority("localhost")[0]])
        policy = BrowserLikePolicyForHTTPS(roots)
        factory = self.encrypted(server, private)
        with telling(server, "https://localhost", factory, transports=[transport], contextFactory=policy) as story:
            await self.handshake(story)
            failure = assertFailed(story, FailureType.TLS, transport)
            assert any(each in failure.description for each in said.split("|")), failure
            assert server.asked == []
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("transport", TRANSPORTS)
    @pytest_twisted.ensureDeferred
    async def test_good(self, transport: str) -> None:
        """One that is good is taken: the tests beside this one fail for their reason alone."""
        public, private = authority("localhost")
        server = ScriptedServer([answer(OPEN)], webSockets=[WEBSOCKET + frame(OPEN.decode())])
        policy = BrowserLikePolicyForHTTPS(trustRootFromCertificates([public]))
        factory = self.encrypted(server, private)
        with telling(server, "https://localhost", factory, transports=[transport], contextFactory=policy) as story:
            await self.handshake(story)
            assert story.result is story.client
            story.client.close()
            await self.handshake(story)

    NO_TLS: tuple[tuple[str, Step], ...] = (
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        ("an alert", b"\x15\x03\x03\x00\x02\x02\x28"),
        ("a record of nothing", b"\x16\x03\x03\x00\x00" * 100),
        ("end", ends(b"\x16\x03\x03")),
        ("reset", cuts(b"\x16\x03\x03")),
    )

    @pytest.mark.parametrize("transport", TRANSPORTS)
    @pytest.mark.parametrize("step", [pytest.param(step, id=name) for name, step in NO_TLS])
    def test_noTLS(self, transport: str, step: Step) -> None:
        """What speaks no TLS."""
        server = ScriptedServer(first=step, isDeaf=True)
        with telling(server, "https://localhost", transports=[transport]) as story:
            story.connect()
            story.advance(0.1)
            failure = story.result
            assert failure.type in (FailureType.TLS, FailureType.LOST), failure
            assert story.isQuiet, story.left()

    @pytest.mark.parametrize("transport", TRANSPORTS)
    @pytest.mark.parametrize("step", [b"", drips(b"\x16\x03\x03\x40\x00" + b"x" * 100)], ids=["silent", "drips"])
    def test_silent(self, transport: str, step: Step) -> None:
        """A TLS handshake that doesn't come to its end has the time of the whole."""
        server = ScriptedServer(first=step, isDeaf=True)
        with telling(server, "https://localhost", transports=[transport]) as story:
            story.connect()
            story.advance(CONNECT_TIMEOUT + 0.01)
            assert story.result.type == FailureType.TIMEOUT
            assert story.isQuiet, story.left()

    @pytest_twisted.ensureDeferred
    async def test_cut(self) -> None:
        """A session over TLS whose connection is cut at any byte."""
        public, private = authority("localhost")
        policy = BrowserLikePolicyForHTTPS(trustRootFromCertificates([public]))
        for transport in TRANSPORTS:
            for at in range(0, 2_000, 61):
                server = ScriptedServer([answer(OPEN)], webSockets=[WEBSOCKET + frame(OPEN.decode())])
                factory = self.encrypted(server, private)
                url = "https://localhost"
                with telling(server, url, factory, transports=[transport], contextFactory=policy) as story:
                    story.endpoint.cutAfter = at
                    await self.handshake(story)
                    if story.result is not story.client:
                        assert story.result.type in (FailureType.TLS, FailureType.LOST), story.result
                    assert story.client.readyState == "closed"
