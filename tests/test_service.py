"""A server as a service among others."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.web.resource import Resource
from zope.interface import implementer

from engineio_twisted import OptionError
from engineio_twisted.service import EngineIOService

from .kit.fakes import FakeRequest
from .kit.ports import TakenPort


def test_startsAndStopsWithItsParent() -> None:
    """It listens once, from the privileged start on; the parent has stopped when the sessions have ended."""
    reactor = MemoryReactorClock()
    parent = MultiService()
    service = EngineIOService("tcp:1", "tcp:2:interface=127.0.0.1", reactor=reactor, pingInterval=5000)
    service.setServiceParent(parent)
    Service().setServiceParent(parent)
    assert (service.whyNotReady, reactor.tcpServers) == ("not listening", [])
    parent.privilegedStartService()
    parent.startService()
    assert [(each[0], each[3]) for each in reactor.tcpServers] == [(1, ""), (2, "127.0.0.1")]
    assert (service.whyNotReady, len(service.ports)) == (None, 2)
    assert service.server.opts.pingInterval == 5000
    service.server.handleRequest(FakeRequest())
    reasons: list[str] = []
    (socket,) = service.server.clients.values()
    socket.on("close", lambda reason, _: reasons.append(reason))
    stopped = parent.stopService()
    assert service.whyNotReady == "draining"
    assert not stopped.called
    reactor.advance(service.server.opts.drainTimeout / 1000)
    reactor.advance(0)
    assert stopped.called
    assert reasons == ["server shutting down"]
    assert service.ports == []
    assert reactor.getDelayedCalls() == []


def hasStopped(service: EngineIOService) -> bool:
    stopped = service.stopService()
    service.server.reactor.advance(0)
    return bool(stopped.called)


def test_cannotStartAgain() -> None:
    """Its server is closed for good; a start that does nothing would be a riddle."""
    service = EngineIOService("tcp:1", reactor=MemoryReactorClock())
    service.startService()
    assert hasStopped(service)
    with pytest.raises(RuntimeError, match="closed for good"):
        service.startService()


def test_aPortThatIsTaken() -> None:
    """The start fails with the reason."""
    service = EngineIOService("tcp:1", "tcp:2", reactor=TakenPort())
    with pytest.raises(CannotListenError, match="Address already in use"):
        service.startService()
    assert service.whyNotReady == "not listening"
    assert hasStopped(service)


@implementer(IStreamServerEndpoint)
class SlowEndpoint:
    """An endpoint that takes its time."""

    def __init__(self) -> None:
        self.opening: Deferred[Any] = Deferred()

    def listen(self, factory: Any) -> Deferred[Any]:
        return self.opening


def test_aPortThatFailsLater(loggedErrors: list[Any]) -> None:
    """It is logged, with the endpoint; one that wasn't opened before the stop is no failure."""
    slow = SlowEndpoint()
    service = EngineIOService(slow, reactor=MemoryReactorClock())
    service.startService()
    slow.opening.errback(OSError("too late"))
    assert ["SlowEndpoint" in each["what"] for each in loggedErrors] == [True]
    loggedErrors.clear()
    service = EngineIOService(SlowEndpoint(), reactor=MemoryReactorClock())
    service.startService()
    assert hasStopped(service)


def test_whatIsBesideIt() -> None:
    """The root is served outside the path; without one nothing is."""
    root = Resource()
    service = EngineIOService(3000, root=root, reactor=MemoryReactorClock(), path="/chat")
    asked = FakeRequest(uri=b"/page")
    assert (
        service.site.resource.getChildWithDefault(b"chat", FakeRequest(uri=b"/chat/")).engineServer
        is service.server._router
    )
    assert service.site.resource.rest is root
    alone = EngineIOService(3000, reactor=MemoryReactorClock())
    alone.site.resource.rest.render(asked)
    assert asked.status == 501


def test_badArguments() -> None:
    """They are refused before anything starts."""
    with pytest.raises(ValueError, match="endpoint 'pigeon:post'"):
        EngineIOService("pigeon:post", reactor=MemoryReactorClock())
    with pytest.raises(ValueError, match="endpoint 65536"):
        EngineIOService(65536, reactor=MemoryReactorClock())
    with pytest.raises(OptionError, match="pingInterval"):
        EngineIOService("tcp:1", reactor=MemoryReactorClock(), pingInterval=-1)
