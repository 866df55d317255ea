"""Several processes as one server, by way of Redis. Needs the extra C{redis}. docs/socketio-redis.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from .. import DeadlineQueue, Measure, OptionError, generateId
from ..redis import RedisConnection, RedisStats
from .measuring import Measuring
from .redis_messages import ALIVE, GONE, HELLO, PeersWriter, Presence, readOwn, readPeers
from .redis_namespace import RedisNamespace
from .remote_adapter import RemoteAdapter
from .remote_messages import InvalidMessage

HEARTBEAT_INTERVAL = 5.0
"""Seconds between two heartbeats of a process."""

SILENCE = 10.0
"""Seconds without a heartbeat after which a process is gone."""

MAX_PROCESSES = 1000
"""Other processes that are known at most: anyone who can publish may pretend to be one."""


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


class RedisAdapter(RemoteAdapter):
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
        super().__init__(generateId(16), requestTimeout, maxMessageBytes)
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
        self._writer = PeersWriter(self._host)
        self._clock: Any = None
        self._processes: set[str] = set()
        self._silent: DeadlineQueue | None = None
        self._heartbeat: IDelayedCall | None = None
        self._published = 0

    def __repr__(self) -> str:
        return f"<RedisAdapter {self._channel!r} {self.connection!r}, {len(self._processes)} other processes>"

    @property
    def writer(self) -> PeersWriter:
        return self._writer

    def _bind(self, io: Any) -> None:
        self._writer = PeersWriter(self._host, io.opts.default)

    def _namespaceFor(self, namespace: Any) -> RedisNamespace:
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

    # The connection

    def _start(self) -> None:
        engine = self._io.engine
        self._clock = engine.clock
        self._silent = DeadlineQueue(self._clock, SILENCE, self._processSilent)
        self.connection.subscribe(self._channel, self._peersMessage)
        self.connection.subscribe(self._ownChannel, self._ownMessage)
        self.connection.watch(self._connectionChanged)
        engine.addObserver(Measuring(self.measures))
        self.connection.start(engine.reactor)
        self._beat()

    def _stop(self) -> Deferred[None]:
        if self._heartbeat is not None and self._heartbeat.active():
            self._heartbeat.cancel()
        self.connection.publish(self._ownChannel, self.writer.presence(GONE))
        if self._ownsConnection:
            return self.connection.close()
        self.connection.unsubscribe(self._channel)
        self.connection.unsubscribe(self._ownChannel)
        return succeed(None)

    def publish(self, message: bytes) -> None:
        self._published += 1
        self.connection.publish(self._ownChannel, message)

    def publishForPeers(self, message: bytes) -> None:
        """Publish a message for processes of python-socketio too."""
        self._published += 1
        self.connection.publish(self._channel, message)

    def _reply(self, host: str, message: bytes) -> None:
        # All receive it, and the others ignore it.
        self.publish(message)

    def _others(self) -> Iterable[str]:
        return self._processes

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
        super()._processGone(host)

    # Receiving

    def _peersMessage(self, payload: bytes) -> None:
        if not payload.startswith(self.writer.beginsForPeers):
            self._receive(readPeers, payload)

    def _ownMessage(self, payload: bytes) -> None:
        if not payload.startswith(self.writer.begins):
            self._receive(readOwn, payload)

    def _warnOfInvalid(self, problem: str) -> None:
        self._log.warn(
            "A message on channel {channel!r} was ignored: {problem}", channel=self._channel, problem=problem
        )

    def _handle(self, message: Any) -> None:
        if isinstance(message, Presence):
            self._presence(message)
        else:
            super()._handle(message)
