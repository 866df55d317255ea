"""Whether a server is ready, as whatever stands in front of it asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import LogEvent
from twisted.web.resource import Resource
from zope.interface import implementer

from engineio_twisted import Site, attach, listen
from engineio_twisted.operation.health import HealthResource, ReadyResource

from ..kit.asking import make
from ..kit.fakes import FakeRequest
from ..kit.wire import connectTo, http


def answer(resource: Any) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    request: Any = FakeRequest()
    body = resource.render_GET(request)
    assert (request.header("Content-Type"), request.header("Cache-Control")) == ("application/json", "no-store")
    return request.status, json.loads(body)


READY = 200, {"status": "ready"}


def notReady(reason: str) -> tuple[int, Any]:
    return 503, {"status": "not ready", "reason": reason}


def test_health() -> None:
    """A process that answers works."""
    assert answer(HealthResource()) == (200, {"status": "ok"})


def test_ready() -> None:
    """A server on a site is ready from the beginning, until it closes."""
    server, _ = make()
    assert server.isReady
    assert answer(ReadyResource(server)) == READY
    server.close()
    assert not server.isReady
    assert answer(ReadyResource(server)) == notReady("closing")


def test_checks(loggedErrors: list[LogEvent]) -> None:
    """An application may have more to say; a check that fails is logged, and is a no."""
    server, _ = make()
    problem: str | None = None
    resource = ReadyResource(server, [lambda: None, lambda: problem])
    assert answer(resource) == READY
    problem = "no database"
    assert answer(resource) == notReady("no database")

    def broken() -> None:
        raise RuntimeError("secret")

    assert answer(ReadyResource(server, [broken])) == notReady("a check failed")
    assert len(loggedErrors) == 1
    loggedErrors.clear()
    server.close()
    assert answer(resource) == notReady("closing")


@pytest_twisted.ensureDeferred
async def test_listening() -> None:
    """One that listens by itself is ready once it does."""
    server = listen("tcp:0:interface=127.0.0.1")
    seen = []
    server.listening.addCallback(lambda port: seen.append(server.isReady))
    await server.listening
    assert seen == [True]
    await server.close()


@implementer(IStreamServerEndpoint)
class TakingItsTime:
    """An endpoint that listens when a Deferred fires."""

    def __init__(self, listening: Deferred[Any]) -> None:
        self.listening = listening

    def listen(self, protocolFactory: Any) -> Deferred[Any]:  # type: ignore[override]
        return self.listening


def test_notListening() -> None:
    """And not before, as where an endpoint takes its time."""
    taking: Deferred[Any] = Deferred()
    server = listen(TakingItsTime(taking))
    assert answer(ReadyResource(server)) == notReady("not listening")
    taking.callback(object())
    assert answer(ReadyResource(server)) == READY


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest_twisted.ensureDeferred
async def test_overASocket(serve: Callable[..., Any], method: str) -> None:
    """On the port of a site, beside the server: 200, and 503 while that closes; by GET and by HEAD."""
    from twisted.internet import reactor

    root = Resource()
    site = Site(root)
    server = attach(site)
    root.putChild(b"health", HealthResource())
    root.putChild(b"ready", ReadyResource(server))
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    try:
        wire = await connectTo(port.getHost().port)

        async def ask(path: str) -> int:
            wire.send(http(method, path))
            return (await wire.response(method)).status

        assert (await ask("/health"), await ask("/ready")) == (200, 200)
        await server.close()
        assert (await ask("/health"), await ask("/ready")) == (200, 503)
        wire.drop()
    finally:
        await port.stopListening()
