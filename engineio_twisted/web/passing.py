"""A request that another process answers: its connection carries bytes that come from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from .connections import handOver, writeAtOnce
from .exchange import RequestExchange
from .fast_exchange import FastExchange

_OF_BODY = {b"content-length", b"expect", b"transfer-encoding"}
"""Headers that say how a body comes. It has come."""


def bytesOf(exchange: Any) -> bytes:
    """
    Return a request as bytes, with its whole body.

    @param exchange: an L{IExchange} that isn't answered.
    """
    if isinstance(exchange, FastExchange):
        return exchange.whole()
    request = exchange.request
    lines = [b"%b %b %b" % (request.method, request.uri, request.clientproto)]
    hasBody = False
    for name, values in request.requestHeaders.getAllRawHeaders():
        if name.lower() in _OF_BODY:
            hasBody = True
        else:
            lines += [b"%b: %b" % (name, value) for value in values]
    content = request.content
    content.seek(0)
    body: bytes = content.read()
    if hasBody or body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class PassedRequest:
    """
    A request whose response is written by others: on its channel it takes the place of the request.

    @param channel: the C{HTTPChannel} on which the request came.
    @param isWaiting: whether the connection is closed if the client sends nothing more, as that of a GET that waits.
    @param lost: called if the connection is lost before the request is answered.
    @ivar connection: what the response is written to.
    """

    def __init__(self, channel: Any, isWaiting: bool, lost: Callable[[], object]) -> None:
        self._channel = channel
        self._lost = lost
        self._producer: Any = None
        self.isWaiting: bool = isWaiting
        # What its channel asks of each request.
        self.sentLength: int = 0
        self.connection: Any = channel.transport

    def write(self, data: bytes) -> None:
        """Write a part of the response, as it is."""
        self.sentLength += len(data)
        writeAtOnce(self.connection, data)

    def registerProducer(self, producer: Any) -> None:
        """Register a push producer of the response, to follow the pace of the client until the response ends."""
        if self._producer is None:
            self._producer = producer
            self._channel.registerProducer(producer, True)
            if self._channel.isFull:
                producer.pauseProducing()

    def finish(self) -> None:
        """The response is complete. The next request of the connection may be served before this returns."""
        self._letGo()
        self._channel.requestDone(self)

    def close(self) -> None:
        """The response is complete, and the connection ends when it is written."""
        self._channel.persistent = False
        self.finish()

    def abort(self) -> None:
        """Abort the connection: there is no response, or no rest of it."""
        self.connection.abortConnection()

    def takeOver(self, protocol: Any) -> bytes:
        """
        Give the connection to a protocol, as C{takeOver} of L{IExchange}.

        @return: what the client sent behind its request, without waiting for the response.
        """
        self._letGo()
        return handOver(self._channel, protocol)

    def _letGo(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            self._channel.unregisterProducer()
            # It goes on to something else.
            producer.resumeProducing()

    # What its channel calls

    def connectionLost(self, reason: Failure) -> None:
        """Called when the connection is lost."""
        self._lost()


def passOn(exchange: Any, lost: Callable[[], object]) -> PassedRequest:
    """
    Let go of a request, which others answer.

    @param exchange: an L{IExchange} that isn't answered, on a connection of HTTP/1.
    @param lost: called if the connection is lost before that.
    """
    passed = PassedRequest(exchange.channel, exchange.method == b"GET", lost)
    requests = exchange.channel.requests
    if isinstance(exchange, FastExchange):
        requests[requests.index(exchange)] = passed
        exchange.passed()
    else:
        assert isinstance(exchange, RequestExchange)
        request = exchange.request
        requests[requests.index(request)] = passed
        request.content.close()
        request.channel = None
    return passed
