"""
What a network does to connections: a proxy on loopback that delays, splits, holds back, stalls and cuts them.

Client, proxy and server share a reactor, so that what was passed on has been read a few turns later: a cut is exact to
the byte, and nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol

from .wire import eventually, pause, within

STALL = 4.0
"""Seconds until a connection that stalls is cut after all: longer than the server of a test may wait for anything."""
TURNS = 5
"""Turns of the reactor after which what was passed on has been read, and what was answered has come back."""

How: TypeAlias = Literal["fin", "rst", "stall"]
UP, DOWN = "up", "down"


@attrs.frozen
class Trouble:
    """
    What is done to one connection.

    @ivar pieces: the sizes of the pieces in which everything is passed on, over and over, each by itself.
    @ivar delay: seconds that each piece takes.
    @ivar direction: in which direction it is cut: C{up}, to the server, or C{down}.
    @ivar after: how many bytes are passed on in that direction before it is cut.
    @ivar how: C{fin} ends both connections in order, C{rst} aborts them, and with C{stall} nothing more goes in that
        direction, until both are aborted after L{STALL}.
    @ivar only: it is cut only if this is in the first that comes from the client, and none was before.
    @ivar held: until this fires, the connection to the server isn't made.
    """

    pieces: Iterable[int] = ()
    delay: float = 0.0
    direction: str = UP
    after: int | None = None
    how: How = "fin"
    only: bytes = b""
    held: Deferred[None] | None = None


class _Side(Protocol):
    """One of the two connections of a L{Link}: what comes from it flows to the other."""

    def __init__(self) -> None:
        self.flow: Flow
        self.isLost = False

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self.flow.push(data)

    def connectionLost(self, reason: object = None) -> None:
        self.isLost = True
        self.flow.end()


class Flow:
    """
    One direction of a connection.

    @ivar passed: what was passed on.
    """

    def __init__(self, link: Link, target: _Side, pieces: Iterable[int], delay: float, limit: int | None) -> None:
        self.link, self.target = link, target
        self.pieces: Iterator[int] = itertools.cycle(pieces)
        self.isPlain = not pieces and not delay
        self.delay, self.limit = delay, limit
        self.waiting = bytearray()
        self.passed = bytearray()
        self.isEnded = self.isRunning = False
        # Until the connection to the server is there.
        self.isHeld = True

    def push(self, data: bytes) -> None:
        if not self.waiting and not self.passed:
            self.link.began(data)
        self.waiting += data
        self.run()

    def end(self) -> None:
        """Learn that no more comes; what came is still passed on."""
        self.isEnded = True
        self.run()

    def go(self) -> None:
        self.isHeld = False
        self.run()

    def run(self) -> None:
        if not self.isRunning and not self.isHeld:
            self.isRunning = True
            Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        while self.waiting and not self.link.isCut and not self.target.isLost:
            if self.limit == len(self.passed):
                await self.link.cut()
                return
            size = next(self.pieces, len(self.waiting))
            if self.limit is not None:
                size = min(size, self.limit - len(self.passed))
            piece = bytes(self.waiting[:size])
            del self.waiting[:size]
            if not self.isPlain:
                await pause(self.delay)
            self.passed += piece
            self.target.transport.write(piece)
            if self.limit == len(self.passed):
                await self.link.cut()
                return
        self.isRunning = False
        if self.isEnded and not self.link.isCut and not self.target.isLost:
            self.target.transport.loseConnection()


class Link:
    """
    One connection through the proxy.

    @ivar number: the number of the connection, from 0.
    @ivar up: what flows to the server.
    @ivar down: what flows to the client.
    """

    def __init__(self, proxy: Proxy, number: int) -> None:
        self.proxy, self.number = proxy, number
        self.near, self.far = _Side(), _Side()
        self.isCut = self.isOpen = self.hasBegun = False
        self._deadline: IDelayedCall | None = None
        self.trouble = trouble = proxy.trouble(number)
        limits = {UP: None, DOWN: None, trouble.direction: trouble.after}
        self.up = Flow(self, self.far, trouble.pieces, trouble.delay, limits[UP])
        self.down = Flow(self, self.near, trouble.pieces, trouble.delay, limits[DOWN])
        self.near.flow, self.far.flow = self.up, self.down

    async def open(self) -> None:
        from twisted.internet import reactor

        if self.trouble.held is not None:
            await within(self.trouble.held, "the release of a connection")
        if self.near.isLost:
            return
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.proxy.target)
        try:
            await connectProtocol(endpoint, self.far)
        except ConnectError:
            self.near.transport.abortConnection()
            return
        self.isOpen = True
        self.down.go()
        if self.up.limit == 0:
            await self.cut()
        else:
            self.up.go()

    def began(self, data: bytes) -> None:
        """Learn what comes first, from the client: whether this is the one that is meant."""
        if self.hasBegun:
            return
        self.hasBegun = True
        if self.trouble.only not in data or (self.trouble.only and self.proxy.isTroubled):
            self.up.limit = self.down.limit = None
        self.proxy.isTroubled |= self.trouble.only in data

    async def cut(self) -> None:
        from twisted.internet import reactor

        how = self.trouble.how
        if how == "stall":
            # The flow stays as if it were running, so that nothing more is passed on.
            self._deadline = reactor.callLater(STALL, self.abort)
            return
        self.isCut = True
        if how == "fin":
            for each in (self.near, self.far):
                each.transport.loseConnection()
            return
        for _ in range(TURNS):
            await pause(0)
        self.abort()

    def abort(self) -> None:
        self.isCut = True
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        for each in (self.near, self.far):
            if each.transport is not None and not each.isLost:
                each.transport.abortConnection()

    @property
    def isOver(self) -> bool:
        return self.near.isLost and (self.far.isLost or not self.isOpen)


class Proxy:
    """
    A proxy in front of a server.

    @ivar port: where it listens.
    @ivar links: the connections there were, by number.
    @ivar trouble: says for each number what is done to that connection.
    """

    port: int

    def __init__(self, target: int, trouble: Callable[[int], Trouble]) -> None:
        self.target, self.trouble = target, trouble
        self.links: list[Link] = []
        self.isTroubled = False

    def connected(self) -> _Side:
        link = Link(self, len(self.links))
        self.links.append(link)
        Deferred.fromCoroutine(link.open())
        return link.near


@asynccontextmanager
async def chaos(target: int, trouble: Callable[[int], Trouble]) -> AsyncIterator[Proxy]:
    """A proxy in front of a port of loopback. Afterwards none of its connections is left."""
    from twisted.internet import reactor

    proxy = Proxy(target, trouble)

    class Accepting(Factory):
        def buildProtocol(self, address: object) -> Protocol:
            return proxy.connected()

    listening: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Accepting())
    proxy.port = listening.getHost().port
    try:
        yield proxy
    finally:
        await listening.stopListening()
        for each in proxy.links:
            if each.trouble.held is not None and not each.trouble.held.called:
                each.trouble.held.callback(None)
            each.abort()
        await eventually(lambda: all(each.isOver for each in proxy.links), "the end of the proxy's connections")
