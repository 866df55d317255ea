"""Several processes as one server, by way of Redis. Needs the extra C{redis}. docs/socketio-redis.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from .. import DeadlineQueue, LogThrottle, Measure, OptionError, generateId
from ..redis import RedisConnection, RedisStats
from .errors import AdapterError, NotSupported, UnsendableValue
from .measuring import Measuring
from .redis_messages import (
    ALIVE,
    GONE,
    HELLO,
    Answer,
    InvalidMessage,
    Message,
    MessageWriter,
    Presence,
    Question,
    ServerEvent,
    readOwn,
    readPeers,
)
from .redis_namespace import RedisNamespace
from .redis_requests import Requests

HEARTBEAT_INTERVAL = 5.0
"""Seconds between two heartbeats of a process."""

SILENCE = 10.0
"""Seconds without a heartbeat after which a process is gone."""

MAX_PROCESSES = 1000
"""Other processes that are known at most: anyone who can publish may pretend to be one."""

MAX_SERVED = 1000
"""Questions of other processes that wait for clients at most."""


@attrs.frozen(kw_only=True)
class RedisAdapterStats:
    """
    What a L{RedisAdapter} has now, and what it has counted since it began.

    @ivar processes: other processes of ours that are there.
    @ivar requests: requests to them that wait for answers.
    @ivar published: messages that were handed to the connection.
    @ivar received: messages of others.
    @ivar invalid: messages that were ignored, since they are no message, or none that may come.
    @ivar tooLarge: messages that were refused, since they are larger than C{maxMessageBytes}.
    @ivar remoteTimeouts: requests that a process did not answer.
    @ivar redis: those of the connection.
    """

    processes: int
    requests: int
    published: int
    received: int
    invalid: int
    tooLarge: int
    remoteTimeouts: int
    redis: RedisStats


class RedisAdapter:
    """
    Joins a L{SocketIO} with those of other processes, and with python-socketio's servers and emitters.

    C{SocketIO(server, adapter=RedisAdapter("redis://localhost"))}: one for all namespaces of a L{SocketIO}.

    @param url: C{redis://[user:password@]host[:port][/database]}, C{rediss://} or C{unix://}, as L{RedisConnection}
        has it; or a L{RedisConnection}, which may serve others too and isn't closed with the adapter.
    @param channel: the channel of python-socketio's messages. Our own go by C{<channel>#engineio_twisted}.
    @param requestTimeout: milliseconds that the answer of another process is waited for.
    @param maxMessageBytes: maximum bytes of a message for other processes. Sending a larger one raises L{AdapterError}.
    @param options: options of the L{RedisConnection}.
    @raise OptionError: a wrong URL or option. The error doesn't show the password.
    @ivar connection: the L{RedisConnection}.
    """

    _log = Logger()

    def __init__(
        self,
        url: str | RedisConnection,
        channel: str = "socketio",
        *,
        requestTimeout: int = 5000,
        maxMessageBytes: int = 1_000_000,
        **options: Any,
    ) -> None:
        for name, value in {"requestTimeout": requestTimeout, "maxMessageBytes": maxMessageBytes}.items():
            if type(value) is not int or value < 1:
                raise OptionError(name, value, "expected a whole number from 1 on")
        if not isinstance(channel, str) or not channel:
            raise OptionError("channel", channel, "expected the name of a channel")
        self._ownsConnection = not isinstance(url, RedisConnection)
        if isinstance(url, RedisConnection):
            if options:
                raise OptionError(*next(iter(options.items())), "a RedisConnection is given, which has its own options")
            self.connection: RedisConnection = url
        else:
            self.connection = RedisConnection(url, **options)
        self._channel, self._ownChannel = channel, f"{channel}#engineio_twisted"
        self.requestTimeout: float = requestTimeout / 1000
        self.maxMessageBytes: int = maxMessageBytes
        self._host = generateId(16)
        self._io: Any = None
        self._clock: Any = None
        self.writer: MessageWriter = MessageWriter(self._host)
        self._namespaces: dict[str, RedisNamespace] = {}
        self._throttle = LogThrottle()
        self._processes: set[str] = set()
        self._silent: DeadlineQueue | None = None
        self._heartbeat: IDelayedCall | None = None
        self._requests: Requests | None = None
        # How many questions of other processes wait for somebody here.
        self._served = 0
        self._isClosed = False
        self._published = self._received = self._invalid = self._tooLarge = 0

    def __repr__(self) -> str:
        return f"<RedisAdapter {self._channel!r} {self.connection!r}, {len(self._processes)} other processes>"

    def __call__(self, namespace: Any) -> RedisNamespace:
        """Return the adapter of a namespace. Called by the L{SocketIO}."""
        if self._io is None:
            self._io = namespace.io
            self.writer = MessageWriter(self._host, namespace.io.opts.default)
        elif self._io is not namespace.io:
            raise OptionError("adapter", self, "it has another SocketIO already; make one for each")
        return RedisNamespace(namespace, self)

    def whenConnected(self) -> Deferred[None]:
        """Return a Deferred that fires when messages are published and received; it is cancelled by the end."""
        return self.connection.whenConnected()

    def stats(self) -> RedisAdapterStats:
        """Return what there is now, and what was counted."""
        requests = self._requests
        return RedisAdapterStats(
            processes=len(self._processes),
            requests=0 if requests is None else len(requests),
            published=self._published,
            received=self._received,
            invalid=self._invalid,
            tooLarge=self._tooLarge,
            remoteTimeouts=0 if requests is None else requests.timeouts,
            redis=self.connection.stats(),
        )

    def measures(self) -> list[Measure]:
        """Return what L{stats} says, for Prometheus."""
        stats = self.stats()
        redis = stats.redis
        counters = {
            "published": (redis.published, "Messages that Redis has confirmed."),
            "received": (stats.received, "Messages of other processes."),
            "invalid": (stats.invalid, "Messages of other processes that were ignored."),
            "too_large": (stats.tooLarge, "Messages over maxMessageBytes."),
            "dropped": (redis.dropped, "Messages that waited for Redis in vain."),
            "unconfirmed": (redis.unconfirmed, "Messages that Redis did not confirm before the connection was lost."),
            "refused": (redis.refused, "Messages that Redis refused."),
            "remote_timeouts": (stats.remoteTimeouts, "Requests that another process did not answer."),
            "connects": (redis.connects, "Connections to Redis."),
        }
        return [
            Measure("socketio_redis_connected", "Whether Redis is connected.", int(redis.isConnected)),
            Measure("socketio_redis_processes", "Other processes that are there.", stats.processes),
            Measure("socketio_redis_queued_bytes", "Bytes of messages that wait for Redis.", redis.queuedBytes),
            *[
                Measure(f"socketio_redis_{name}", text, value, isCounter=True)
                for name, (value, text) in counters.items()
            ],
        ]

    # Namespaces

    def opened(self, namespace: RedisNamespace) -> None:
        """Called when a namespace begins: the first one starts the connection."""
        self._namespaces[namespace.name] = namespace
        if self._clock is not None:
            return
        engine = self._io.engine
        self._clock = engine.clock
        self._silent = DeadlineQueue(self._clock, SILENCE, self._processSilent)
        self._requests = Requests(self._clock, self._countInvalid)
        self.connection.subscribe(self._channel, self._peersMessage)
        self.connection.subscribe(self._ownChannel, self._ownMessage)
        self.connection.watch(self._connectionChanged)
        engine.addObserver(Measuring(self.measures))
        self.connection.start(engine.reactor)
        self._beat()

    def closed(self, namespace: RedisNamespace) -> Deferred[None]:
        """Called when a namespace ends; the last one closes the adapter."""
        if self._namespaces.get(namespace.name) is namespace:
            del self._namespaces[namespace.name]
        if self._namespaces or self._isClosed:
            return succeed(None)
        self._isClosed = True
        if self._heartbeat is not None and self._heartbeat.active():
            self._heartbeat.cancel()
        for host in [*self._processes]:
            self._processGone(host)
        self.connection.publish(self._ownChannel, self.writer.presence(GONE))
        self._throttle.flush()
        if self._ownsConnection:
            return self.connection.close()
        self.connection.unsubscribe(self._channel)
        self.connection.unsubscribe(self._ownChannel)
        return succeed(None)

    # Sending

    def checked(self, message: bytes) -> bytes:
        """
        Return a message, if it may be published.

        @raise AdapterError: it is too large.
        """
        if len(message) > self.maxMessageBytes:
            self._tooLarge += 1
            size = f"{len(message)} bytes are more than maxMessageBytes ({self.maxMessageBytes})"
            raise AdapterError(f"a message for other processes: {size}")
        return message

    def publish(self, message: bytes, isForPeers: bool = False) -> None:
        """Publish a message for our own processes, or for those of python-socketio too."""
        self._published += 1
        self.connection.publish(self._channel if isForPeers else self._ownChannel, message)

    def ask(
        self, message: bytes, seconds: float | None, read: Callable[[dict[str, Any]], Any]
    ) -> Deferred[tuple[list[Any], int]]:
        """
        Ask all other processes.

        @param message: a question without its id, which L{checked} has let pass.
        @param seconds: how long to wait; None for as long as they are there.
        @param read: called with each item of an answer.
        @return: a Deferred of what C{read} returned, and of how many processes did not answer. Cancelling it forgets
            the answers.
        """
        assert self._requests is not None
        if not self._processes:
            return succeed(([], 0))
        request = self._requests.begin(self._processes, seconds, read)
        self.publish(self.writer.ask(message, request.id))
        return request.deferred

    # Who is there

    def _beat(self) -> None:
        self._heartbeat = self._clock.callLater(HEARTBEAT_INTERVAL, self._beat)
        if self.connection.isConnected:
            self.publish(self.writer.presence(ALIVE))

    def _connectionChanged(self, isConnected: bool) -> None:
        if self._isClosed:
            return
        assert self._silent is not None
        # While Redis is away the silence of others says nothing.
        for host in self._processes:
            if isConnected:
                self._silent.add(host)
            else:
                self._silent.remove(host)
        if isConnected:
            self.publish(self.writer.presence(HELLO))

    def _presence(self, message: Presence) -> None:
        assert self._silent is not None
        if message.says == GONE:
            self._silent.remove(message.host)
            self._processGone(message.host)
            return
        if message.host not in self._processes:
            if len(self._processes) >= MAX_PROCESSES:
                raise InvalidMessage("too many processes")
            self._processes.add(message.host)
        if self.connection.isConnected:
            self._silent.add(message.host)
        if message.says == HELLO:
            self.publish(self.writer.presence(ALIVE))

    def _processSilent(self, host: str) -> None:
        self._log.warn("A process on channel {channel!r} is silent, and counts as gone", channel=self._channel)
        self._processGone(host)

    def _processGone(self, host: str) -> None:
        self._processes.discard(host)
        if self._silent is not None:
            self._silent.remove(host)
        if self._requests is not None:
            self._requests.processGone(host)

    # Receiving

    def _peersMessage(self, payload: bytes) -> None:
        if not payload.startswith(self.writer.begins[0]):
            self._receive(readPeers, payload)

    def _ownMessage(self, payload: bytes) -> None:
        if not payload.startswith(self.writer.begins[1]):
            self._receive(readOwn, payload)

    def _receive(self, read: Callable[[bytes], Message | None], payload: bytes) -> None:
        self._received += 1
        try:
            message = read(payload)
            if message is not None and message.host != self._host:
                self._handle(message)
        except InvalidMessage as error:
            self._countInvalid(str(error))
        except (UnsendableValue, TypeError, ValueError) as error:
            # Rooms that are the id of another socket, values that a client can't be sent.
            self._countInvalid(type(error).__name__)

    def _countInvalid(self, problem: str) -> None:
        self._invalid += 1
        if self._throttle.allows("invalid message"):
            self._log.warn(
                "A message on channel {channel!r} was ignored: {problem}", channel=self._channel, problem=problem
            )

    def _handle(self, message: Message) -> None:
        if isinstance(message, Presence):
            self._presence(message)
        elif isinstance(message, Answer):
            if message.to == self._host:
                assert self._requests is not None
                self._requests.answered(message)
        elif isinstance(message, Question):
            self._asked(message)
        else:
            namespace = self._namespaces.get(message.namespace)
            if namespace is not None:
                namespace.received(message)

    def _asked(self, question: Question) -> None:
        if self._served >= MAX_SERVED:
            raise InvalidMessage("too many questions at a time")
        namespace = self._namespaces.get(question.about.namespace)
        if namespace is None:
            items: Deferred[list[bytes] | None] = succeed(None if isinstance(question.about, ServerEvent) else [])
        else:
            items = namespace.itemsFor(question.about)
        self._served += 1
        items.addErrback(self._unanswered)
        items.addCallback(self._answer, question)

    def _unanswered(self, failure: Failure) -> None:
        # What a handler raises is logged where it is called.
        if not failure.check(NotSupported):
            self._log.debug("A question of another process failed: {problem}", problem=failure.getErrorMessage())

    def _answer(self, items: list[bytes] | None, question: Question) -> None:
        self._served -= 1
        if self._isClosed:
            return
        try:
            messages = self.writer.answers(question, items, self.maxMessageBytes)
        except UnsendableValue:
            self._tooLarge += 1
            messages = self.writer.answers(question, None, self.maxMessageBytes)
        for each in messages:
            self.publish(each)
