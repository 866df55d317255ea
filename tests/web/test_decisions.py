"""Decisions that take time: each ends, whatever an application and a client do."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from engineio_twisted import Server
from engineio_twisted.web.decisions import DECISION_TIMEOUT

from ..kit.asking import OPEN, make, opened, refusal
from ..kit.fakes import FakeRequest


def test_allowRequestThatTakesTime() -> None:
    """The answer waits for it."""
    answer: Deferred[bool] = Deferred()
    server, clock = make(allowRequest=lambda request: answer)
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert not request.finished
    answer.callback(True)
    opened(request)
    assert len(clock.getDelayedCalls()) == 1, "the heartbeat alone"
    server.close()


def test_allowRequestThatNeverAnswers() -> None:
    """Is a no when its time is over; what it waits for is cancelled."""
    cancelled: list[Any] = []
    server, clock = make(allowRequest=lambda request: Deferred(cancelled.append))
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    clock.advance(DECISION_TIMEOUT - 1)
    assert not request.finished
    clock.advance(1)
    assert refusal(request) == (403, {"code": 4, "message": "Forbidden"})
    assert (len(cancelled), clock.getDelayedCalls()) == (1, [])


def test_aClientThatGoesBeforeItIsAllowed() -> None:
    """Costs nothing: what allowRequest waits for is cancelled, no session opens."""
    cancelled: list[Any] = []
    server, clock = make(allowRequest=lambda request: Deferred(cancelled.append))
    errors: list[Any] = []
    server.on("connection_error", errors.append)
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    request.lose()
    assert (len(cancelled), server.clients, errors, clock.getDelayedCalls()) == (1, {}, [], [])


def test_aRefusalThatFails(loggedErrors: list[LogEvent]) -> None:
    """It is logged, and the decision is over: a handler of C{headers} that answers itself makes it fail."""
    answer: Deferred[bool] = Deferred()
    server, clock = make(allowRequest=lambda request: answer)
    server.on("headers", lambda headers, request: request.finish())
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert server.stats().undecided == 1
    answer.callback(False)
    assert (request.finished, server.stats().undecided, clock.getDelayedCalls()) == (True, 0, [])
    assert [event["log_format"] for event in loggedErrors] == ["A request could not be refused"]
    loggedErrors.clear()


async def stubborn() -> bool:
    """An answer that comes whether it is still wanted or not."""
    try:
        await Deferred()
    except CancelledError:
        pass
    return True


@pytest.mark.parametrize("end", ["client", "server"])
def test_anAnswerNobodyWaitsForAnyMore(end: str) -> None:
    """An allowRequest that takes no notice of being cancelled opens no session, for nobody."""
    server, clock = make(allowRequest=lambda request: stubborn())
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    if end == "client":
        request.lose()
        assert not request.finished
    else:
        server.close()
        assert request.status == 503
    assert (server.clients, clock.getDelayedCalls()) == ({}, [])


def test_aCancelledErrorOfTheApplications(loggedErrors: list[LogEvent]) -> None:
    """Is as good a reason as any other for a no, and logged like any other."""

    def allowRequest(request: Any) -> None:
        raise CancelledError

    server, _ = make(allowRequest=allowRequest)
    errors: list[Any] = []
    server.on("connection_error", errors.append)
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert refusal(request) == (403, {"code": 4, "message": "Forbidden"})
    assert (len(errors), len(loggedErrors)) == (1, 1)
    loggedErrors.clear()


def test_closingWhileAskedWhetherToAllow() -> None:
    """The very request that made the application close the server is answered."""
    closed: list[Deferred[None]] = []

    async def allowRequest(request: Any) -> bool:
        closed.append(server.close())
        await Deferred()
        return True

    server, clock = make(allowRequest=allowRequest)
    request = FakeRequest(uri=OPEN)
    server.handleRequest(request)
    assert (request.status, closed[0].called, clock.getDelayedCalls()) == (503, True, [])


def test_clientsThatGoDuringAMiddlewareOrAnId() -> None:
    """What they wait for is cancelled."""
    for when in ("middleware", "id"):
        cancelled: list[Any] = []
        server, clock = make()
        if when == "middleware":
            server.use(lambda request, cancelled=cancelled: Deferred(cancelled.append))
        else:
            server.generateId = lambda request, cancelled=cancelled: Deferred(cancelled.append)  # type: ignore[method-assign]
        request = FakeRequest(uri=OPEN)
        server.handleRequest(request)
        request.lose()
        assert (len(cancelled), server.clients, clock.getDelayedCalls()) == (1, {}, [])


@pytest.mark.parametrize("isUpgrade", [False, True])
def test_aMiddlewareThatNeverAnswers(isUpgrade: bool) -> None:
    """Its request is refused in the end; a session that the request was about lives on."""
    clock = Clock()
    server = Server(reactor=clock)
    opening = FakeRequest()
    server.handleRequest(opening)
    (sid,) = server.clients
    errors: list[Any] = []
    server.on("connection_error", errors.append)
    cancelled: list[object] = []
    server.use(lambda request: Deferred(cancelled.append))
    request = FakeRequest(b"POST", f"/engine.io/?EIO=4&transport=polling&sid={sid}".encode(), b"4a")
    (server.handleUpgrade if isUpgrade else server.handleRequest)(request)
    clock.advance(DECISION_TIMEOUT - 1)
    assert not request.finished
    # Its own pings go on meanwhile, unanswered.
    server.clients[sid].transport.poll(FakeRequest().exchange)
    clock.advance(1)
    assert (request.status, len(cancelled)) == (400, 1)
    assert errors[0].context == {"name": "MIDDLEWARE_FAILURE", "reason": "no answer in time"}
    assert server.clients[sid].readyState == "open"
    server.close()
    assert clock.getDelayedCalls() == []
