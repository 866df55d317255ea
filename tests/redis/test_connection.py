"""A connection to Redis, on a clock: losses, silence, subscriptions, what waits, and the end."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from engineio_twisted import OptionError
from engineio_twisted.redis import RedisConnection

from ..kit.redis import MemoryRedis

URL = "redis://me:s3cret@redis.example"


class Here:
    """A Redis in memory and a connection to it, with what it delivers."""

    def __init__(self, clock: Clock, server: MemoryRedis, **options: Any) -> None:
        self.clock, self.server = clock, server
        self.connection = RedisConnection(options.pop("url", URL), endpoint=server, **options)
        self.received: list[bytes] = []

    def start(self, *channels: str) -> Here:
        for each in channels or ("news",):
            self.connection.subscribe(each, self.received.append)
        self.connection.start(self.clock)
        self.clock.advance(0)
        return self

    def pass_(self, seconds: float) -> None:
        """Let time pass, in steps in which everything can happen."""
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)

    def commands(self) -> list[list[bytes]]:
        """What was sent on the connections that there are."""
        return [command for each in self.server.connections for command in each.commands]

    def close(self) -> None:
        closed = self.connection.close()
        self.pass_(1)
        assert closed.called
        assert self.server.connections == []
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> MemoryRedis:
    return MemoryRedis(clock)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """All that is logged, as text."""
    found: list[str] = []

    def observe(event: LogEvent) -> None:
        found.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


# Connecting


def test_messages(clock: Clock, server: MemoryRedis) -> None:
    """What is published arrives as the bytes it was, at subscribers in this process too."""
    here = Here(clock, server).start()
    assert here.connection.isConnected
    payloads = [b"", b"12", b"1.5", b"\xff\x00\r\n", b"QUEUED", b"x" * 100_000]
    for each in payloads:
        assert here.connection.publish("news", each)
    clock.advance(0)
    assert here.received == payloads
    stats = here.connection.stats()
    assert (stats.published, stats.received, stats.dropped, stats.queuedBytes) == (6, 6, 0, 0)
    here.close()


def test_logIn(clock: Clock, server: MemoryRedis) -> None:
    """Both connections log in and choose the database before anything else."""
    here = Here(clock, server, url=f"{URL}/3").start()
    for each in server.connections:
        assert each.commands[:3] == [[b"AUTH", b"me", b"s3cret"], [b"SELECT", b"3"], [b"PING"]]
    here.close()
    here = Here(clock, server, url="redis://:s3cret@redis.example/0").start()
    for each in server.connections:
        assert each.commands[:2] == [[b"AUTH", b"s3cret"], [b"PING"]]
    here.close()
    here = Here(clock, server, url="redis://redis.example").start()
    for each in server.connections:
        assert each.commands[0] == [b"PING"]
    here.close()


def test_refusedLogIn(clock: Clock, server: MemoryRedis, logged: list[str]) -> None:
    """If the password is wrong it goes on trying, says why once, and shows the password nowhere."""
    server.refuses[b"AUTH"] = b"WRONGPASS invalid username-password pair or user is disabled."
    here = Here(clock, server).start()
    here.pass_(20)
    assert not here.connection.isConnected
    assert server.attempts > 6
    assert len([each for each in logged if "WRONGPASS" in each]) == 1
    assert "s3cret" not in " ".join(logged)
    server.refuses.clear()
    here.pass_(7)
    assert here.connection.isConnected
    here.close()


@pytest.mark.parametrize("command", [b"PING", b"SUBSCRIBE"])
def test_refusedCommands(command: bytes, clock: Clock, server: MemoryRedis, logged: list[str]) -> None:
    """A server that loads its data, or whose access list forbids the channel, is no connection yet."""
    server.refuses[command] = b"NOPERM this user has no permissions"
    here = Here(clock, server).start()
    here.pass_(10)
    assert not here.connection.isConnected
    assert [each for each in logged if "NOPERM" in each] == [
        "Not connected to redis://redis.example:6379: NOPERM this user has no permissions"
    ]
    server.refuses.clear()
    here.pass_(7)
    assert here.connection.isConnected
    here.close()


def test_backoff(clock: Clock, server: MemoryRedis) -> None:
    """A server that is away is asked after 0.1 s, then less and less often, at least every 6 s."""
    server.isDown = True
    here = Here(clock, server).start()
    here.pass_(1)
    assert 3 * 2 <= server.attempts <= 5 * 2
    here.pass_(59)
    assert server.attempts <= 20 * 2
    before = server.attempts
    here.pass_(12.1)
    assert server.attempts - before >= 2 * 2
    server.isDown = False
    here.pass_(6.1)
    assert here.connection.isConnected
    here.close()


def test_backoffOfAServerThatEndsConnections(clock: Clock, server: MemoryRedis) -> None:
    """A server that ends each connection as soon as it is ready is not asked again at once, over and over."""
    here = Here(clock, server).start()
    attempts = server.attempts
    for _ in range(60 * 20):
        clock.advance(0.05)
        for each in [*server.connections]:
            each.end()
    assert server.attempts - attempts <= 22 * 2
    here.close()


def test_backoffEndsWithAWholeRound(clock: Clock, server: MemoryRedis) -> None:
    """After a connection that lasted, the first attempt is made soon."""
    server.isDown = True
    here = Here(clock, server).start()
    here.pass_(30)
    server.isDown = False
    here.pass_(12)
    assert here.connection.isConnected
    server.stop()
    server.isDown = False
    here.pass_(0.2)
    assert here.connection.isConnected
    here.close()


def test_noAnswer(clock: Clock, server: MemoryRedis) -> None:
    """An attempt that gets no answer, to the connection or to the first command, is given up after connectTimeout."""
    server.isSilent = True
    here = Here(clock, server, connectTimeout=2000).start()
    here.pass_(1.9)
    assert server.attempts == 2
    server.isSilent, server.isHung = False, True
    here.pass_(0.4)
    assert server.attempts == 4
    here.pass_(1.6)
    server.isHung = False
    here.pass_(1)
    assert here.connection.isConnected
    here.close()


def test_lostSubscriptionsAreRenewed(clock: Clock, server: MemoryRedis) -> None:
    """After a restart of Redis every subscription is there again, and only then it counts as connected."""
    here = Here(clock, server).start("news", "other")
    server.stop()
    here.pass_(1)
    assert not here.connection.isConnected
    server.isDown = False
    server.refuses[b"SUBSCRIBE"] = b"LOADING"
    here.pass_(3)
    assert not here.connection.isConnected
    server.refuses.clear()
    waiting = here.connection.whenConnected()
    here.pass_(6.1)
    assert waiting.called
    assert here.connection.isConnected
    assert here.connection.publish("other", b"1")
    server.publish(b"news", b"2")
    clock.advance(0)
    assert sorted(here.received) == [b"1", b"2"]
    assert here.connection.stats().connects == 2
    here.close()


def test_subscribingLater(clock: Clock, server: MemoryRedis) -> None:
    """A channel can be added while connected, which waits for it to be confirmed, and can be taken away."""
    here = Here(clock, server).start()
    later: list[bytes] = []
    here.connection.subscribe("later", later.append)
    assert not here.connection.isConnected
    clock.advance(0)
    assert here.connection.isConnected
    server.publish(b"later", b"1")
    clock.advance(0)
    here.connection.unsubscribe("later")
    here.connection.unsubscribe("never")
    clock.advance(0)
    assert server.publish(b"later", b"2") == 0
    here.pass_(20)  # the replies are told apart: PING is answered still
    assert later == [b"1"]
    assert here.connection.stats().connects == 2
    server.refuses[b"SUBSCRIBE"] = b"NOPERM"
    here.connection.subscribe("secret", later.append)
    clock.advance(0)
    assert not here.connection.isConnected
    here.close()


def test_watchers(clock: Clock, server: MemoryRedis, loggedErrors: list[LogEvent]) -> None:
    """Each change of isConnected is told, to all, also if one raises."""
    here = Here(clock, server)
    changes: list[bool] = []
    here.connection.watch(lambda isConnected: 1 / 0)
    here.connection.watch(changes.append)
    here.start()
    server.stop()
    here.pass_(1)
    server.isDown = False
    here.pass_(3)
    assert changes == [True, False, True]
    here.close()
    assert changes == [True, False, True, False]
    assert len(loggedErrors) == 4
    loggedErrors.clear()


def test_whenConnected(clock: Clock, server: MemoryRedis) -> None:
    """It fires at once if it is connected, can be cancelled, and is cancelled by the end."""
    server.isDown = True
    here = Here(clock, server).start()
    failures: list[Any] = []
    here.connection.whenConnected().addErrback(failures.append).cancel()
    assert failures[0].check(CancelledError)
    here.connection.whenConnected().addErrback(failures.append)
    here.close()
    assert failures[1].check(CancelledError)
    server.isDown = False
    here = Here(clock, server).start()
    assert here.connection.whenConnected().called
    here.close()


# Silence


def test_pings(clock: Clock, server: MemoryRedis) -> None:
    """Both connections are asked at pingInterval, and stay while they answer."""
    here = Here(clock, server, pingInterval=2000).start()
    here.pass_(21)
    assert server.attempts == 2
    # The first one prepares the connection.
    assert [link.commands.count([b"PING"]) for link in server.connections] == [11, 11]
    here.close()


def test_hungServer(clock: Clock, server: MemoryRedis, logged: list[str]) -> None:
    """A server that hangs, with its connections open, is noticed on both of them by its silence."""
    here = Here(clock, server, pingInterval=2000, pingTimeout=1000, connectTimeout=1000).start()
    server.isHung = True
    here.pass_(3.2)
    assert not here.connection.isConnected
    assert any("no answer to PING in time" in each for each in logged)
    server.isHung = False
    here.pass_(3)
    assert here.connection.isConnected
    here.connection.publish("news", b"1")
    clock.advance(0)
    assert here.received == [b"1"]
    here.close()


def test_hungSubscriber(clock: Clock, server: MemoryRedis) -> None:
    """One connection that hangs is made anew by itself."""
    here = Here(clock, server, pingInterval=2000, pingTimeout=1000).start()
    (subscriber,) = [each for each in server.connections if each.channels]
    subscriber.send = lambda data: None  # type: ignore[method-assign]
    here.pass_(4)
    assert subscriber.isLost
    assert server.attempts == 3
    assert here.connection.isConnected
    here.close()


def test_aSlowMessageIsNoSilence(clock: Clock, server: MemoryRedis) -> None:
    """A message that comes in many pieces, for longer than a PING may take, ends no connection."""
    here = Here(clock, server, pingInterval=1000, pingTimeout=1000).start()
    (subscriber,) = [each for each in server.connections if each.channels]
    # What a server sends comes one after the other: PONG would come after the message.
    subscriber.write = lambda data: None  # type: ignore[method-assign]
    message = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$100\r\n" + 100 * b"x" + b"\r\n"
    for position in range(len(message)):
        subscriber.send(message[position : position + 1])
        here.pass_(0.1)
    assert here.received == [100 * b"x"]
    assert server.attempts == 2
    here.close()


# What comes


def test_hugeMessage(clock: Clock, server: MemoryRedis, logged: list[str]) -> None:
    """A message without end is not read into memory: the connection is made anew."""
    here = Here(clock, server).start()
    (subscriber,) = [each for each in server.connections if each.channels]
    subscriber.send(b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$500000000\r\n")
    for _ in range(17):
        subscriber.send(b"x" * 2**20)
    clock.advance(0)
    assert subscriber.isLost
    assert any("a message of more than" in each for each in logged)
    here.pass_(1)
    server.publish(b"news", b"small")
    clock.advance(0)
    assert here.received == [b"small"]
    here.close()


def test_noRedis(clock: Clock, server: MemoryRedis, logged: list[str]) -> None:
    """Something else that answers there is no connection, and nothing of it is raised."""
    here = Here(clock, server).start()
    for each in [*server.connections]:
        each.send(b"\xff\xfe HTTP/1.1 400 Bad Request\r\n\r\n")
    clock.advance(0)
    assert not here.connection.isConnected
    assert any("no Redis server" in each for each in logged)
    here.pass_(1)
    assert here.connection.isConnected
    here.close()


def test_aHandlerThatRaises(clock: Clock, server: MemoryRedis, loggedErrors: list[LogEvent]) -> None:
    """What a handler raises is logged, once a second, and the messages behind arrive."""
    here = Here(clock, server)

    def deliver(message: bytes) -> None:
        here.received.append(message)
        raise ZeroDivisionError

    here.connection.subscribe("news", deliver)
    here.connection.start(clock)
    clock.advance(0)
    for number in range(10):
        server.publish(b"news", b"%d" % number)
    clock.advance(0)
    assert here.received == [b"%d" % number for number in range(10)]
    assert here.connection.isConnected
    assert len(loggedErrors) == 1
    loggedErrors.clear()
    here.close()


# What waits


def test_orderOverALoss(clock: Clock, server: MemoryRedis) -> None:
    """What is published while Redis is away goes out in order as soon as it is back, before anything newer."""
    here = Here(clock, server).start()
    server.stop()
    here.pass_(0.5)
    for number in range(10):
        assert here.connection.publish("news", b"%d" % number)
    assert here.connection.stats().queuedBytes == 50
    server.isDown = False
    here.pass_(2)
    here.connection.publish("news", b"10")
    clock.advance(0)
    # Not what is received: what goes out before this process has subscribed again doesn't come back to it.
    assert server.published == [b"%d" % number for number in range(11)]
    here.close()


def test_nothingIsOld(clock: Clock, server: MemoryRedis) -> None:
    """What has waited for maxQueuedTime is dropped and counted, and what came later still goes out."""
    here = Here(clock, server, maxQueuedTime=1000, connectTimeout=1000).start()
    server.stop()
    clock.advance(0)
    here.connection.publish("news", b"old")
    here.pass_(0.8)
    here.connection.publish("news", b"new")
    here.pass_(0.25)
    stats = here.connection.stats()
    assert (stats.dropped, stats.queuedBytes) == (1, 7)
    server.isDown = False
    here.pass_(0.7)
    while not here.connection.isConnected:
        here.pass_(0.05)
    here.close()
    assert b"old" not in here.received


def test_boundedQueue(clock: Clock, server: MemoryRedis, warnings: list[str]) -> None:
    """While Redis is away no more than maxQueuedBytes wait; the rest is dropped, counted, and said once a second."""
    here = Here(clock, server, maxQueuedBytes=1000).start()
    server.stop()
    clock.advance(0)
    results = [here.connection.publish("news", 96 * b"x") for _ in range(15)]
    assert results == 10 * [True] + 5 * [False]
    stats = here.connection.stats()
    assert (stats.dropped, stats.queuedBytes) == (5, 1000)
    assert len([each for each in warnings if "maxQueuedBytes" in each]) == 1
    here.close()
    assert here.connection.stats().dropped == 15


def test_boundedWhileItHangs(clock: Clock, server: MemoryRedis) -> None:
    """A server that takes nothing gets no more than a part; the rest waits, bounded, and is lost or dropped once."""
    here = Here(clock, server, maxQueuedTime=60_000).start()
    server.isHung = True
    for _ in range(100):
        here.connection.publish("news", 100_000 * b"x")
    stats = here.connection.stats()
    assert stats.queuedBytes <= 4_000_000
    assert stats.dropped == 100 - 39
    sent = sum(len(command[2]) for command in here.commands() if command[0] == b"PUBLISH")
    assert sent <= 256 * 1024 + 100_000
    here.pass_(9)
    server.isHung = False
    here.pass_(12)
    stats = here.connection.stats()
    assert stats.unconfirmed == sent // 100_000
    assert stats.published + stats.unconfirmed + stats.dropped == 100
    assert stats.queuedBytes == 0
    here.close()


def test_slowServer(clock: Clock, server: MemoryRedis) -> None:
    """A server that answers late gets everything, in order."""
    here = Here(clock, server).start()
    server.isHung = True
    for number in range(20):
        here.connection.publish("news", b"%d" % number + 50_000 * b"x")
    here.pass_(1)
    server.wake()
    here.pass_(1)
    assert [int(each.rstrip(b"x")) for each in here.received] == [*range(20)]
    assert here.connection.stats().published == 20
    here.close()


def test_refusedMessage(clock: Clock, server: MemoryRedis, warnings: list[str]) -> None:
    """A message that Redis refuses is counted and logged, and the connection goes on."""
    here = Here(clock, server).start()
    server.refuses[b"PUBLISH"] = b"NOPERM no channel"
    for _ in range(3):
        here.connection.publish("news", b"1")
    clock.advance(0)
    assert here.connection.stats().refused == 3
    assert [each for each in warnings if "NOPERM" in each] == ["Redis refused a message: NOPERM no channel"]
    assert here.connection.isConnected
    here.close()


def test_publishingWithoutAConnection(clock: Clock, server: MemoryRedis) -> None:
    """Nothing can be published before the start and after the end, and it says so."""
    here = Here(clock, server)
    assert not here.connection.publish("news", b"1")
    here.start()
    here.close()
    assert not here.connection.publish("news", b"1")
    assert here.connection.stats().dropped == 2


# The end


def test_closeSendsWhatWaits(clock: Clock, server: MemoryRedis) -> None:
    """The last message goes out before the connections end, and nothing is delivered any more."""
    here = Here(clock, server).start()
    other = Here(clock, server).start()
    here.connection.publish("news", b"farewell")
    closed = here.connection.close()
    again = here.connection.close()
    clock.advance(0)
    assert closed.called
    assert again.called
    assert other.received == [b"farewell"]
    assert here.received == []
    other.close()


@pytest.mark.parametrize("state", ["hung", "down", "silent", "preparing", "not started"])
def test_closeEndsWithinASecond(state: str, clock: Clock, server: MemoryRedis) -> None:
    """Whatever Redis does, close() ends within a second and leaves no connection and no timer."""
    here = Here(clock, server)
    if state == "hung":
        here.start()
        server.isHung = True
        here.connection.publish("news", b"1")
    elif state != "not started":
        server.isDown, server.isSilent, server.isHung = state == "down", state == "silent", state == "preparing"
        here.start()
        here.connection.publish("news", b"1")
    closed = here.connection.close()
    for _ in range(20):
        clock.advance(0.049)
    assert closed.called
    assert server.connections == []
    assert clock.getDelayedCalls() == []
    stats = here.connection.stats()
    assert stats.dropped + stats.unconfirmed == (state != "not started")
    here.connection.start(clock)  # it stays closed
    assert server.connections == []


def test_startTwice(clock: Clock, server: MemoryRedis) -> None:
    """A second start changes nothing."""
    here = Here(clock, server).start()
    here.connection.start(clock)
    clock.advance(0)
    assert server.attempts == 2
    here.close()


# Options


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"maxQueuedByte": 1}, "maxQueuedBytes"),
        ({"maxQueuedBytes": 0}, "expected a whole number of bytes"),
        ({"pingInterval": 1.5}, "expected a whole number of milliseconds"),
        ({"tls": object()}, "only a server of rediss"),
    ],
)
def test_wrongOptions(options: dict[str, Any], problem: str) -> None:
    """A wrong option is refused with what was expected."""
    with pytest.raises(OptionError, match=re.escape(problem)):
        RedisConnection(URL, **options)


def test_withoutTheLibrary() -> None:
    """Nothing but the start needs txredisapi, and the reactor, which its module imports."""
    check = (
        "import sys\n"
        "sys.modules['txredisapi'] = None\n"
        "from engineio_twisted.redis import RedisConnection\n"
        "connection = RedisConnection('redis://localhost')\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
        "try:\n"
        "    connection.start()\n"
        "except ImportError:\n"
        "    pass\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_subscribedTwice(clock: Clock) -> None:
    """A channel has one user: a second would take the messages of the first."""
    connection = RedisConnection("redis://localhost")
    connection.subscribe("channel", print)
    with pytest.raises(ValueError, match="channel 'channel': it has been subscribed to"):
        connection.subscribe("channel", print)
    connection.unsubscribe("channel")
    connection.subscribe("channel", print)
