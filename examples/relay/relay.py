"""
A relay: sessions of one Engine.IO server go on to another one, which may be Node's, and far away.

    python examples/relay/relay.py http://127.0.0.1:3000                 # its own sessions are on port 4000
    python examples/relay/relay.py wss://example.org tcp:8080            # any endpoint description of Twisted
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from engineio_twisted import OptionError, Server, Socket, listen
from engineio_twisted.client import Client, ConnectionFailed


@implementer(IPushProducer)
class Source:
    """One end as the producer of the other: while that is full, nothing more is read here."""

    def __init__(self, end: Socket | Client) -> None:
        self.end = end

    def pauseProducing(self) -> None:
        self.end.pauseReceiving()

    def resumeProducing(self) -> None:
        self.end.resumeReceiving()

    def stopProducing(self) -> None:
        # The other end is closing, and its event says so.
        pass


def join(front: Socket, back: Client) -> None:
    """Relay between the session of a client and the session with the server behind."""
    # Until that is open, the client is held back.
    front.pauseReceiving()
    # Text stays text, and binary binary.
    front.on("message", lambda data: back.send(data))
    back.on("message", lambda data: front.send(data))
    # What has come from one end reaches the other before that is closed.
    front.on("close", lambda _reason, _description: back.close())
    back.on("close", lambda _reason, _description: front.close())

    def opened(_: Client) -> None:
        front.registerProducer(Source(back), streaming=True)
        back.registerProducer(Source(front), streaming=True)
        front.resumeReceiving()

    def failed(failure: Failure) -> None:
        failure.trap(ConnectionFailed)
        print(f"{failure.value.type}: {failure.value}", file=sys.stderr, flush=True)  # type: ignore[union-attr]

    back.connect().addCallbacks(opened, failed)


def application(server: Server, url: str, reactor: Any) -> set[Client]:
    """
    Relay the sessions of a server to the one at a URL.

    Return the sessions with that one, as they are at any time.
    """
    backs: set[Client] = set()

    @server.on("connection")
    def connected(front: Socket) -> None:
        # The server behind may trust this header of a proxy that it knows.
        headers = {} if front.remoteAddress is None else {"X-Forwarded-For": front.remoteAddress}
        back = Client(url, reactor=reactor, extraHeaders=headers)
        backs.add(back)
        back.on("close", lambda _reason, _description: backs.discard(back))
        join(front, back)

    return backs


async def main(reactor: Any, url: str, endpoint: str = "tcp:4000") -> None:
    """Relay until Ctrl-C."""
    try:
        # A wrong URL is said now, and not with the first session.
        Client(url, reactor=reactor)
        server = listen(endpoint, reactor=reactor)
        backs = application(server, url, reactor)
        port = await server.listening
    except (OptionError, ValueError, CannotListenError) as error:
        sys.exit(str(error))

    async def stop() -> None:
        closing = server.close()
        await gatherResults([each.close() for each in backs])
        await closing

    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(stop()))
    address = port.getHost()
    where = f"http://127.0.0.1:{address.port}" if hasattr(address, "port") else endpoint
    print(f"Relay: {where} is now {url}", flush=True)
    await Deferred()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: relay.py URL [ENDPOINT]")
    task.react(main, sys.argv[1:])
