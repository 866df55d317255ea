"""Messages between processes, by way of a Redis server: what is published, and what is subscribed to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..clock import AfterReading, cancel, steadyClock
from ..ends import Deadline
from ..logs import LogThrottle
from ..protocol.errors import OptionError
from ..protocol.validators import checkNames, option, wholeNumber
from .address import RedisAddress
from .link import Link

MAX_UNANSWERED_BYTES = 256 * 1024
"""Bytes of messages that Redis has not confirmed, from which further ones wait: what is lost with a connection."""

CLOSE_TIMEOUT = 0.8
"""Seconds that the end of a connection waits for Redis."""

Deliver = Callable[[bytes], object]


@attrs.frozen(kw_only=True)
class RedisOptions:
    """How to treat a Redis server that is slow, or away. Times are milliseconds."""

    maxQueuedBytes: int = option(
        4_000_000, wholeNumber("bytes"), "Bytes of messages that wait for Redis; further ones are dropped."
    )
    maxQueuedTime: int = option(
        5000, wholeNumber("milliseconds"), "How long a message waits for Redis before it is dropped."
    )
    connectTimeout: int = option(
        5000, wholeNumber("milliseconds"), "How long connecting to Redis, logging in and subscribing may take."
    )
    pingInterval: int = option(5000, wholeNumber("milliseconds"), "Time between two PING on each connection to Redis.")
    pingTimeout: int = option(
        3000, wholeNumber("milliseconds"), "How long Redis may be silent after a PING before the connection is aborted."
    )


@attrs.frozen(kw_only=True)
class RedisStats:
    """
    What happened on a connection to Redis so far, and how it is now.

    @ivar isConnected: whether messages can be published, and every subscription is confirmed.
    @ivar connects: how often that came to be.
    @ivar published: messages that Redis has confirmed.
    @ivar unconfirmed: messages that were sent, and whose connection was lost before Redis confirmed them.
    @ivar refused: messages that Redis refused.
    @ivar dropped: messages that were not sent, for too many waited, or they waited too long.
    @ivar received: messages that came.
    @ivar queuedBytes: bytes of messages that wait for Redis, or for its confirmation.
    """

    isConnected: bool
    connects: int
    published: int
    unconfirmed: int
    refused: int
    dropped: int
    received: int
    queuedBytes: int


@implementer(IStreamClientEndpoint)
class _NoNetwork:
    """Connects to nothing, on a clock in tests of an application."""

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return fail(ConnectError(string="the reactor has no network"))


class RedisConnection:
    """
    Publishes messages by a Redis server, and delivers those of channels that were subscribed to.

    It has two connections, for one that is subscribed can't publish. Each is made again when it is lost, or silent
    too long. A message arrives at most once. Those published while Redis is away wait for a short time and in bounded
    number; what others publish meanwhile is lost.

    @param url: C{redis://[user:password@]host[:port][/database]}; C{rediss://} for TLS, with the certificate and the
        name of the host verified; C{unix://[user:password@]/path[?db=database]}.
    @param tls: how to verify a server of C{rediss://}, in place of
        C{optionsForClientTLS(host)}: an C{IOpenSSLClientConnectionCreator}, such as
        C{optionsForClientTLS(host, trustRoot=…)}.
    @param endpoint: how to get there, in place of host and port: an C{IStreamClientEndpoint}.
    @param options: those of L{RedisOptions}.
    @raise OptionError: a wrong URL or option. The error doesn't show the password.
    @ivar address: the L{RedisAddress}.
    """

    _log = Logger()

    def __init__(
        self,
        url: str,
        *,
        tls: Any = None,
        endpoint: IStreamClientEndpoint | None = None,
        **options: Any,
    ) -> None:
        checkNames(options, RedisOptions)
        self.address = RedisAddress.fromURL(url)
        if tls is not None and not self.address.isEncrypted:
            raise OptionError("tls", tls, "only a server of rediss:// is verified")
        self._options = RedisOptions(**options)
        self._tls, self._endpoint = tls, endpoint
        self._clock: Any = None
        self._publisher: Link | None = None
        self._subscriber: Link | None = None
        self._deliver: dict[bytes, Deliver] = {}
        # Channels that Redis has confirmed on the present connection.
        self._confirmed: set[bytes] = set()
        # Messages that wait, each with the time until which it may.
        self._queue: deque[tuple[float, bytes, bytes]] = deque()
        self._queuedBytes = 0
        self._unansweredBytes = 0
        self._expiry: IDelayedCall | None = None
        self._isConnected = False
        # Why it isn't connected, as the log has it.
        self._problem = ""
        self._whenConnected: list[Deferred[None]] = []
        self._watchers: list[Callable[[bool], object]] = []
        self._whenSent: list[Deferred[None]] = []
        self._closing: Deferred[None] | None = None
        self._connects = self._published = self._unconfirmed = self._refused = self._dropped = self._received = 0
        self._throttle = LogThrottle()

    def __repr__(self) -> str:
        return f"<RedisConnection {self.address}{'' if self._isConnected else ', not connected'}>"

    @property
    def isConnected(self) -> bool:
        """Whether messages can be published, and every subscription is confirmed."""
        return self._isConnected

    def start(self, reactor: Any = None) -> None:
        """
        Begin to connect. Called a second time, this changes nothing.

        @param reactor: the reactor, or a clock in tests; by default the running one.
        @raise ImportError: the extra C{redis} isn't installed.
        """
        if self._clock is not None or self._closing is not None:
            return
        # Here, and not when the first connection is made: whoever starts this is to know.
        from .link import protocolClass

        protocolClass()
        if reactor is None:
            from twisted.internet import reactor
        self._clock = steadyClock(reactor)
        reading = AfterReading(reactor)
        endpoint = self._endpoint or self._makeEndpoint(reactor)
        options = self._options
        times: dict[str, Any] = {
            "connectTimeout": options.connectTimeout / 1000,
            "pingInterval": options.pingInterval / 1000,
            "pingTimeout": options.pingTimeout / 1000,
            "ready": self._linkReady,
            "away": self._linkAway,
            "received": self._messageCame,
        }
        self._publisher = Link(endpoint, self._clock, reading, prepare=self._preparePublisher, **times)
        self._subscriber = Link(endpoint, self._clock, reading, prepare=self._prepareSubscriber, **times)
        self._publisher.connect()
        self._subscriber.connect()

    def subscribe(self, channel: str, deliver: Deliver) -> None:
        """
        Subscribe to a channel, as soon as there is a connection and again after each loss of it.

        @param deliver: called with the bytes of each. What it raises is logged.
        @raise ValueError: the channel is subscribed to already.
        """
        name = channel.encode()
        if name in self._deliver:
            raise ValueError(f"channel {channel!r}: it has been subscribed to; give each user a channel of its own")
        self._deliver[name] = deliver
        if self._subscriber is not None and self._subscriber.isReady:
            self._setConnected(False)
            link = self._subscriber
            confirmed = link.request("SUBSCRIBE", name)
            confirmed.addCallbacks(
                lambda _: self._subscribed(name), lambda failure: link.abort(failure.getErrorMessage())
            )

    def unsubscribe(self, channel: str) -> None:
        """Have no message of a channel delivered any more."""
        name = channel.encode()
        if self._deliver.pop(name, None) is not None:
            self._confirmed.discard(name)
            if self._subscriber is not None and self._subscriber.isReady:
                self._subscriber.request("UNSUBSCRIBE", name).addErrback(lambda _: None)

    def publish(self, channel: str, message: bytes) -> bool:
        """
        Send a message to whoever has subscribed to a channel, this process included.

        @return: whether it was sent, or waits to be; False if it was dropped.
        """
        name = channel.encode()
        size = len(name) + len(message)
        if self._clock is None or self._closing is not None:
            self._drop(1, "not started, or closed")
            return False
        if self._queuedBytes + size > self._options.maxQueuedBytes:
            self._drop(1, "maxQueuedBytes")
            return False
        self._queuedBytes += size
        if self._queue or not self._maySend():
            self._queue.append((self._clock.seconds() + self._options.maxQueuedTime / 1000, name, message))
            self._awaitExpiry()
        else:
            self._send(name, message)
        return True

    def watch(self, watcher: Callable[[bool], object]) -> None:
        """Call a function with L{isConnected} whenever that has changed. Log what the function raises."""
        self._watchers.append(watcher)

    def whenConnected(self) -> Deferred[None]:
        """
        Return a Deferred that fires when messages can be published and every subscription is confirmed.

        It is cancelled if L{close} is called before.
        """
        deferred: Deferred[None] = Deferred(lambda each: self._whenConnected.remove(each))
        if self._isConnected:
            deferred.callback(None)
        else:
            self._whenConnected.append(deferred)
        return deferred

    def stats(self) -> RedisStats:
        """Return what happened so far, and how it is now."""
        return RedisStats(
            isConnected=self._isConnected,
            connects=self._connects,
            published=self._published,
            unconfirmed=self._unconfirmed,
            refused=self._refused,
            dropped=self._dropped,
            received=self._received,
            queuedBytes=self._queuedBytes,
        )

    def close(self) -> Deferred[None]:
        """
        Deliver nothing from now on, send what waits, and end the connections.

        @return: a Deferred that fires when they are ended: within a second, whatever Redis does.
        """
        if self._closing is not None:
            another: Deferred[None] = Deferred()
            self._closing.addBoth(lambda _: another.callback(None))
            return another
        over: Deferred[None] = Deferred()
        self._closing = over
        self._deliver.clear()
        for each in [*self._whenConnected]:
            each.cancel()
        publisher, subscriber = self._publisher, self._subscriber
        if publisher is None or subscriber is None:
            self._closed(over)
            return self.close()
        deadline = Deadline(self._clock, self._abort, lambda: f"the connections to {self.address}")
        deadline.setTime(self._clock.seconds() + CLOSE_TIMEOUT)
        sent: Deferred[None] = Deferred()
        deadline.waitFor([subscriber.close(), sent.addCallback(lambda _: publisher.close())])
        deadline.over.addCallback(lambda _: self._closed(over))
        if publisher.isReady and (self._queue or self._unansweredBytes):
            self._whenSent.append(sent)
        else:
            sent.callback(None)
        return self.close()

    def _abort(self) -> None:
        self._fireSent()
        for each in (self._publisher, self._subscriber):
            if each is not None:
                each.abort("closed")

    def _closed(self, over: Deferred[None]) -> None:
        cancel(self._expiry)
        self._drop(len(self._queue), "close")
        self._queue.clear()
        self._queuedBytes = self._unansweredBytes = 0
        self._throttle.flush()
        over.callback(None)

    # Connecting

    def _makeEndpoint(self, reactor: Any) -> IStreamClientEndpoint:
        from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS

        address = self.address
        seconds = self._options.connectTimeout / 1000
        if not IReactorPluggableNameResolver.providedBy(reactor):
            return _NoNetwork()
        if address.path is not None:
            return UNIXClientEndpoint(reactor, address.path, timeout=seconds)
        assert address.host is not None
        endpoint = HostnameEndpoint(reactor, address.host, address.port, timeout=seconds)
        if not address.isEncrypted:
            return endpoint
        from twisted.internet.ssl import optionsForClientTLS

        return wrapClientTLS(self._tls or optionsForClientTLS(address.host), endpoint)

    async def _logIn(self, link: Link) -> None:
        address = self.address
        if address.password is not None:
            user = [] if address.user is None else [address.user]
            await link.request("AUTH", *user, address.password)
        if address.database:
            await link.request("SELECT", str(address.database))

    async def _preparePublisher(self, link: Link) -> None:
        await self._logIn(link)
        # What is no server of Redis, or still loads its data, says so now.
        await link.request("PING")

    async def _prepareSubscriber(self, link: Link) -> None:
        await self._logIn(link)
        await link.request("PING")
        while missing := self._deliver.keys() - self._confirmed:
            # Each by itself, as each is confirmed by itself.
            for channel in missing:
                await link.request("SUBSCRIBE", channel)
                self._confirmed.add(channel)

    def _subscribed(self, channel: bytes) -> None:
        if channel in self._deliver:
            self._confirmed.add(channel)
            self._look()

    def _linkReady(self) -> None:
        self._flush()
        self._look()

    def _look(self) -> None:
        """Note that both connections are ready, if they are."""
        publisher, subscriber = self._publisher, self._subscriber
        if publisher is None or subscriber is None or self._isConnected:
            return
        if publisher.isReady and subscriber.isReady and self._deliver.keys() <= self._confirmed:
            self._connects += 1
            self._problem = ""
            self._log.info("Connected to {address}", address=str(self.address))
            self._setConnected(True)
            waiting, self._whenConnected = self._whenConnected, []
            for each in waiting:
                each.callback(None)

    def _setConnected(self, isConnected: bool) -> None:
        if self._isConnected is not isConnected:
            self._isConnected = isConnected
            for each in self._watchers:
                try:
                    each(isConnected)
                except Exception:
                    self._log.failure("What watches a connection to Redis failed")

    def _linkAway(self, problem: str) -> None:
        if self._subscriber is not None and not self._subscriber.isReady:
            self._confirmed.clear()
        self._setConnected(False)
        if self._publisher is not None and not self._publisher.isReady:
            self._fireSent()
        # Each attempt fails for the same reason, mostly on both connections.
        if self._closing is None and problem != self._problem:
            self._problem = problem
            self._log.warn("Not connected to {address}: {problem}", address=str(self.address), problem=problem)

    # Sending

    def _maySend(self) -> bool:
        link = self._publisher
        return link is not None and link.isReady and self._unansweredBytes < MAX_UNANSWERED_BYTES

    def _send(self, channel: bytes, message: bytes) -> None:
        assert self._publisher is not None
        size = len(channel) + len(message)
        self._unansweredBytes += size
        self._publisher.request("PUBLISH", channel, message).addCallbacks(
            self._confirm, self._fail, callbackArgs=(size,), errbackArgs=(size,)
        )

    def _confirm(self, _: object, size: int) -> None:
        self._published += 1
        self._answered(size)

    def _fail(self, failure: Failure, size: int) -> None:
        assert self._publisher is not None
        if self._publisher.isReady:
            self._refused += 1
            if self._throttle.allows("Redis refused a message"):
                self._log.warn("Redis refused a message: {problem}", problem=failure.getErrorMessage())
        else:
            self._unconfirmed += 1
        self._answered(size)

    def _answered(self, size: int) -> None:
        self._queuedBytes -= size
        self._unansweredBytes -= size
        self._flush()

    def _flush(self) -> None:
        while self._queue and self._maySend():
            _, channel, message = self._queue.popleft()
            self._send(channel, message)
        if not self._queue:
            cancel(self._expiry)
            self._expiry = None
            if not self._unansweredBytes:
                self._fireSent()

    def _fireSent(self) -> None:
        waiting, self._whenSent = self._whenSent, []
        for each in waiting:
            each.callback(None)

    def _awaitExpiry(self) -> None:
        if self._expiry is None:
            self._expiry = self._clock.callLater(max(0.0, self._queue[0][0] - self._clock.seconds()), self._expire)

    def _expire(self) -> None:
        self._expiry = None
        now = self._clock.seconds()
        count = 0
        while self._queue and self._queue[0][0] <= now:
            _, channel, message = self._queue.popleft()
            self._queuedBytes -= len(channel) + len(message)
            count += 1
        self._drop(count, "maxQueuedTime")
        if self._queue:
            self._awaitExpiry()

    def _drop(self, count: int, option: str) -> None:
        self._dropped += count
        if count and self._throttle.allows(f"messages for Redis were dropped: {option}"):
            self._log.warn("{count} messages for Redis were dropped: {option}", count=count, option=option)

    # Receiving

    def _messageCame(self, channel: bytes, message: bytes) -> None:
        deliver = self._deliver.get(channel)
        if deliver is None:
            return
        self._received += 1
        try:
            deliver(message)
        except Exception:
            if self._throttle.allows("a message from Redis failed"):
                self._log.failure("A message from Redis failed")
