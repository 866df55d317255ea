"""A client's polling transport, over an agent that does what a test says."""

from __future__ import annotations

import json
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface import implementer

from engineio_twisted.client.connecting import Connecting
from engineio_twisted.client.options import ClientOptions
from engineio_twisted.client.polling import PollingTransport
from engineio_twisted.interfaces import Closing
from engineio_twisted.protocol.errors import CloseReason
from engineio_twisted.protocol.packet import Packet, PacketType

from .client_servers import OPEN
from .fakes import FakeOwner

FORCED = Closing(CloseReason.FORCED_CLOSE, "closed by the client")


class FakeResponse:
    """A response whose body comes when a test says so."""

    def __init__(self, code: int, headers: dict[str, Any]) -> None:
        self.code = code
        self.headers = Headers({name: [value] for name, value in headers.items()})
        self.protocol: Any = None
        self.isLost = False

    def deliverBody(self, protocol: Any) -> None:
        self.protocol = protocol
        protocol.makeConnection(self)

    def loseConnection(self) -> None:
        self.isLost = True

    def say(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def end(self, error: BaseException | None = None) -> None:
        self.protocol.connectionLost(Failure(error or ResponseDone()))


@implementer(IConsumer)
class Consumer:
    """Takes the body of a request."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        raise AssertionError("a body that isn't written at once")

    def unregisterProducer(self) -> None:
        raise AssertionError("a body that isn't written at once")


class Request:
    """A request that was sent to an agent."""

    def __init__(self, method: bytes, uri: bytes, headers: Headers, producer: Any) -> None:
        self.method = method.decode()
        self.url = uri.decode()
        self.query = dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))
        self.headers = {
            name.decode().lower(): values[-1].decode("latin-1") for name, values in headers.getAllRawHeaders()
        }
        consumer = Consumer()
        if producer is not None:
            produced = producer.startProducing(consumer)
            assert produced.called
            assert producer.length == len(consumer.data)
        self.body = consumer.data
        self.isCancelled = False
        self.response: Any = None
        self.deferred: Deferred[Any] = Deferred(self._cancelled)

    def _cancelled(self, _: object) -> None:
        self.isCancelled = True

    @property
    def isGivenUp(self) -> bool:
        """Whether nobody waits for its response any more."""
        return self.isCancelled or (self.response is not None and self.response.isLost)

    def begin(self, status: int = 200, kind: str | None = "text/plain; charset=UTF-8", **headers: str) -> FakeResponse:
        """Answer with a head."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = FakeResponse(status, named if kind is None else {"Content-Type": kind, **named})
        self.deferred.callback(self.response)
        return self.response

    def answer(
        self, body: bytes | str = b"ok", status: int = 200, kind: str | None = "text/plain", **headers: str
    ) -> None:
        """Answer it."""
        response = self.begin(status, kind, **headers)
        data = body.encode() if isinstance(body, str) else body
        if data:
            response.say(data)
        response.end()

    def fail(self, error: BaseException) -> None:
        self.deferred.errback(error)


@implementer(IAgent)
class FakeAgent:
    """An agent that sends nothing anywhere. At most one GET and one POST may wait at a time."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Deferred[Any]:
        request = Request(method, uri, headers, bodyProducer)
        others = [each for each in self.requests if each.method == request.method and not each.isGivenUp]
        assert all(each.deferred.called for each in others), f"a second {request.method} while one waits"
        self.requests.append(request)
        return request.deferred


class PollingOwner(FakeOwner):
    """A client as far as its transport knows it."""

    def __init__(self, connecting: Connecting) -> None:
        super().__init__()
        self._connecting = connecting
        self.closings: list[Closing] = []

    def transportPacket(self, transport: Any, packet: Packet) -> Any:
        if packet.type is PacketType.OPEN:
            handshake = json.loads(packet.data)
            self._connecting.sid = handshake["sid"]
            transport.maxPayload = handshake.get("maxPayload")
        return super().transportPacket(transport, packet)

    def transportClosed(self, transport: Any, closing: Closing) -> None:
        self.closings.append(closing)
        super().transportClosed(transport, closing)


class Polling:
    """A polling transport, with all that is around it."""

    def __init__(self, *, url: str = "http://server.test:3000", clock: Clock | None = None, **options: Any) -> None:
        self.clock = clock or Clock()
        self.agent = FakeAgent()
        self.connecting = Connecting(url, ClientOptions(**{"agent": self.agent, **options}), self.clock)
        self.counters = self.connecting.counters
        self.transport = PollingTransport(self.connecting.codec, self.connecting)
        self.transport.owner = self.owner = PollingOwner(self.connecting)
        self.gone: list[None] = []
        self.transport.whenGone().addCallback(self.gone.append)

    def opened(self, packet: bytes = OPEN) -> Polling:
        """Begin, and open the session."""
        self.transport.open()
        self.get.answer(packet if self.connecting.opts.EIO == 4 else b"%d:%b" % (len(packet), packet))
        self.owner.packets.clear()
        return self

    def ofMethod(self, method: str) -> list[Request]:
        return [each for each in self.agent.requests if each.method == method]

    @property
    def gets(self) -> list[Request]:
        return self.ofMethod("GET")

    @property
    def posts(self) -> list[Request]:
        return self.ofMethod("POST")

    @property
    def get(self) -> Request:
        """The GET that waits."""
        return self._waiting("GET")

    @property
    def post(self) -> Request:
        """The POST that waits."""
        return self._waiting("POST")

    def _waiting(self, method: str) -> Request:
        last = self.ofMethod(method)[-1]
        assert not last.deferred.called, f"no {method} waits"
        return last

    @property
    def isPolling(self) -> bool:
        return bool(self.gets) and not self.gets[-1].deferred.called

    def send(self, *messages: str | bytes) -> int:
        """Send messages as the buffer of a session does."""
        return self.transport.send([Packet(PacketType.MESSAGE, each) for each in messages])

    @property
    def received(self) -> list[str | bytes]:
        """The data of the packets that the owner got."""
        return [each.data for each in self.owner.packets]

    @property
    def failure(self) -> Any:
        return self.transport.failure

    def assertGone(self) -> None:
        """Nothing is left: no request, no timer."""
        assert self.gone == [None]
        assert all(each.deferred.called for each in self.agent.requests)
        assert self.clock.getDelayedCalls() == []


class BrokenJar(CookieJar):
    """
    A jar of an application's that raises.

    @ivar broken: the method that does.
    """

    broken = ""

    def add_cookie_header(self, request: Any) -> None:
        if self.broken == "add":
            raise RuntimeError("the jar is broken")
        super().add_cookie_header(request)

    def extract_cookies(self, response: Any, request: Any) -> None:
        if self.broken == "extract":
            raise RuntimeError("the jar is broken")
        super().extract_cookies(response, request)
