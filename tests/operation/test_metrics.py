"""The numbers of a server, as Prometheus reads them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import pytest_twisted
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openMetrics
from prometheus_client.parser import text_string_to_metric_families as plainText
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from engineio_twisted import Measure, Server, Site
from engineio_twisted.operation.metrics import MetricsResource

from ..kit.asking import OPEN, make
from ..kit.fakes import FakeRequest
from ..kit.metrics import Layer, number, numbersOf
from ..kit.observed import ask, session
from ..kit.wire import Hostile, connectTo, http, makeFrame


def scrape(resource: MetricsResource, accept: str = "") -> tuple[str, str]:
    """The type and the text of an answer."""
    request: Any = FakeRequest(headers={"Accept": [accept]} if accept else None)
    body = resource.render_GET(request)
    contentType = request.header("Content-Type")
    assert contentType is not None
    return contentType, body.decode()


def test_needsTheExtra() -> None:
    """Without prometheus_client one is told which extra to install."""
    program = "import sys; sys.modules['prometheus_client'] = None; import engineio_twisted.operation.metrics"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.endswith(
        "ImportError: engineio_twisted.operation.metrics needs prometheus_client: "
        "pip install 'engineio_twisted[metrics]'\n"
    )


def test_atRest() -> None:
    """A server that has done nothing has its numbers already, so that the first of anything shows as a change."""
    server, _ = make()
    numbers = numbersOf(scrape(MetricsResource(server))[1])
    assert number(numbers, "engineio_sessions", transport="polling") == 0
    assert number(numbers, "engineio_sessions", transport="websocket") == 0
    assert number(numbers, "engineio_sessions_opened_total") == 0
    assert number(numbers, "engineio_sessions_closed_total", reason="ping timeout") == 0
    assert number(numbers, "engineio_packets_total", direction="sent") == 0
    assert number(numbers, "engineio_ready") == 1
    # And those of the process.
    assert number(numbers, "process_resident_memory_bytes") > 0


def test_whatHappened() -> None:
    """Each number is the server's own."""
    clock = Clock()
    server = Server(reactor=clock, maxHttpBufferSize=10)
    resource = MetricsResource(server)
    address = session(server)
    ask(server, address, b"4one\x1e4two")
    socket = next(iter(server.clients.values()))
    socket.send("x")
    session(server)
    ask(server, OPEN + b"&sid=none")
    ask(server, session(server), b"4" * 11)
    clock.advance(7)
    ask(server, address, b"1")
    server._counters.limitReached(socket, "someLimit")
    stats = server.stats()
    numbers = numbersOf(scrape(resource)[1])
    assert number(numbers, "engineio_sessions", transport="polling") == 1
    assert number(numbers, "engineio_sessions_opened_total") == 3
    assert number(numbers, "engineio_sessions_upgraded_total") == 0
    assert number(numbers, "engineio_sessions_closed_total", reason="transport close") == 1
    assert number(numbers, "engineio_sessions_closed_total", reason="transport error") == 1
    assert number(numbers, "engineio_requests_refused_total", name="UNKNOWN_SID") == 1
    assert number(numbers, "engineio_requests_refused_total", name="maxHttpBufferSize") == 1
    assert number(numbers, "engineio_limits_reached_total", option="someLimit") == 1
    assert number(numbers, "engineio_packets_total", direction="received") == stats.packetsReceived == 3
    assert number(numbers, "engineio_packets_total", direction="sent") == stats.packetsSent
    assert number(numbers, "engineio_bytes_total", direction="received") == stats.bytesReceived
    assert number(numbers, "engineio_bytes_total", direction="sent") == stats.bytesSent
    # The session that lasted seven seconds, and the one whose body was too large; the other goes on.
    assert number(numbers, "engineio_session_duration_seconds_count") == 2
    assert number(numbers, "engineio_session_duration_seconds_sum") == 7
    assert number(numbers, "engineio_session_duration_seconds_bucket", le="5.0") == 1
    assert number(numbers, "engineio_session_duration_seconds_bucket", le="15.0") == 2
    server.close()
    assert number(numbersOf(scrape(resource)[1]), "engineio_ready") == 0


def test_buffers() -> None:
    """What waits is there as a sum, and of the session that has the most."""
    server, _ = make()
    resource = MetricsResource(server)
    for count in (1, 3):
        session(server)
        socket = list(server.clients.values())[-1]
        for _ in range(count):
            socket.send("x" * 100)
    stats = server.stats()
    numbers = numbersOf(scrape(resource)[1])
    assert number(numbers, "engineio_buffered_packets") == 4
    assert number(numbers, "engineio_buffered_packets_max") == 3
    assert number(numbers, "engineio_buffered_bytes") == stats.bufferedBytes >= 400
    assert number(numbers, "engineio_buffered_bytes_max") == stats.mostBufferedBytes >= 300
    assert stats.mostBufferedBytes < stats.bufferedBytes
    assert number(numbers, "engineio_held_bytes") == 0
    socket.pauseReceiving()
    ask(server, OPEN + b"&sid=" + socket.id.encode(), b"4held")
    assert number(numbersOf(scrape(resource)[1]), "engineio_held_bytes") == socket.heldBytes == 5
    server.close()


def test_sessionsFromBefore() -> None:
    """Of a session that was there before anybody took its time, nothing is said."""
    server, _ = make()
    session(server)
    resource = MetricsResource(server)
    server.close()
    numbers = numbersOf(scrape(resource)[1])
    assert number(numbers, "engineio_session_duration_seconds_count") == 0
    assert number(numbers, "engineio_sessions_closed_total", reason="server shutting down") == 1


OPEN_METRICS = "application/openmetrics-text"
ACCEPTED = [
    ("", "text/plain; version=", plainText),
    ("text/plain;version=0.0.4", "text/plain; version=0.0.4", plainText),
    (f"{OPEN_METRICS}; version=1.0.0,text/plain;q=0.5", f"{OPEN_METRICS}; version=1.0.0", openMetrics),
    (f"{OPEN_METRICS}; version=1.0.0; escaping=allow-utf-8", f"{OPEN_METRICS}; version=1.0.0", openMetrics),
    (OPEN_METRICS, OPEN_METRICS, openMetrics),
    # What nobody means.
    (f"{OPEN_METRICS}; version=one", "", None),
    (f"{OPEN_METRICS}; version=9.9.9", "", None),
    (f"{OPEN_METRICS}; version=1.0.0; escaping=none", "", None),
    ("text/plain; version=" + "9" * 5000, "", None),
    ("\xff, ;;;=", "text/plain", plainText),
]


@pytest.mark.parametrize(("accept", "contentType", "parser"), ACCEPTED, ids=range(len(ACCEPTED)))
def test_formats(accept: str, contentType: str, parser: Any) -> None:
    """The format is the one that is asked for, and one that there is, whatever is asked for."""
    server, _ = make()
    session(server)
    said, text = scrape(MetricsResource(server), accept)
    assert said.startswith(contentType)
    if parser is None:
        parser = openMetrics if said.startswith("application/openmetrics-text") else plainText
    assert number(numbersOf(text, parser), "engineio_sessions_opened_total") == 1
    server.close()


def test_severalServers() -> None:
    """Several servers are told apart by a label of every number of theirs."""
    chat, _ = make()
    game, _ = make()
    resource = MetricsResource({"chat": chat, "game": game})
    session(chat)
    chat.close()
    numbers = numbersOf(scrape(resource, "application/openmetrics-text")[1], openMetrics)
    assert number(numbers, "engineio_sessions_opened_total", server="chat") == 1
    assert number(numbers, "engineio_sessions_opened_total", server="game") == 0
    assert number(numbers, "engineio_sessions_closed_total", server="chat", reason="server shutting down") == 1
    assert number(numbers, "engineio_session_duration_seconds_count", server="chat") == 1
    assert number(numbers, "engineio_ready", server="game") == 1
    assert all("server" in dict(labels) for name, labels in numbers if name.startswith("engineio_"))


def test_ownRegistry() -> None:
    """Two resources don't get into each other's way; an application's registry has its own numbers too."""
    server, _ = make()
    first, second = MetricsResource(server), MetricsResource(server)
    registry = CollectorRegistry()
    Counter("orders", "Orders.", registry=registry).inc()
    third = MetricsResource(server, registry)
    for each in (first, second, third):
        assert number(numbersOf(scrape(each)[1]), "engineio_sessions_opened_total") == 0
    assert number(numbersOf(scrape(third)[1]), "orders_total") == 1


def test_labelsAreFew() -> None:
    """Whatever a client sends, there is no number more than those that the server has names for."""
    server, _ = make()
    resource = MetricsResource(server)
    ask(server, OPEN + b"&sid=first")
    ask(server, b"/engine.io/?EIO=4&transport=first")
    known = set(numbersOf(scrape(resource)[1]))
    for each in range(50):
        ask(server, OPEN + b"&sid=%d" % each)
        ask(server, b"/engine.io/?EIO=4&transport=%d" % each)
    assert set(numbersOf(scrape(resource)[1])) == known


def test_messagesCostNothing() -> None:
    """Nobody has to be told of messages for this."""
    server, _ = make()
    MetricsResource(server)
    assert server._counters.observers
    assert not server._counters.trafficObservers


@pytest.mark.sockets
@pytest_twisted.ensureDeferred
async def test_scraped(hostile: Hostile) -> None:
    """Over real sockets: what is served on both transports is what is scraped, from a port of its own."""
    from twisted.internet import reactor

    async with hostile() as here:
        port = reactor.listenTCP(0, Site(MetricsResource(here.server)), interface="127.0.0.1")
        try:
            client = await here.client()
            assert await client.upgrade()
            await client.echo("moved")
            _, wire = await here.openWebSocket()
            wire.send(makeFrame("4one"))
            assert await wire.text() == "4one"
            asking = await connectTo(port.getHost().port)
            asking.send(http("GET", "/metrics", [("Accept", "application/openmetrics-text; version=1.0.0")]))
            response = await asking.response()
            assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
            numbers = numbersOf(response.body.decode(), openMetrics)
            asking.drop()
            stats = here.server.stats()
            assert number(numbers, "engineio_sessions", transport="websocket") == stats.sessions["websocket"] >= 2
            assert number(numbers, "engineio_sessions_upgraded_total") == 1
            assert number(numbers, "engineio_bytes_total", direction="received") == stats.bytesReceived
            assert number(numbers, "engineio_packets_total", direction="sent") == stats.packetsSent
            await client.close()
            wire.drop()
        finally:
            await port.stopListening()


def test_numbersOfALayer() -> None:
    """What the observer of a layer measures is shown beside the server's numbers, by server and by label."""
    one, other = Server(reactor=Clock()), Server(reactor=Clock())
    one.addObserver(
        Layer(Measure("layer_rooms", "Rooms.", 3), Measure("layer_lost", "Lost.", {"late": 2}, "why", True))
    )
    other.addObserver(Layer(Measure("layer_rooms", "Rooms.", 4)))
    numbers = numbersOf(scrape(MetricsResource({"one": one, "other": other}, CollectorRegistry()))[1])
    assert number(numbers, "layer_rooms", server="one") == 3
    assert number(numbers, "layer_rooms", server="other") == 4
    assert number(numbers, "layer_lost_total", server="one", why="late") == 2


def test_layerThatFails(loggedErrors: list[LogEvent]) -> None:
    """An observer that can't measure hides no number of the others."""

    class Broken(Layer):
        def measures(self) -> list[Measure]:
            raise RuntimeError("broken")

    server = Server(reactor=Clock())
    server.addObserver(Broken())
    server.addObserver(Layer(Measure("layer_rooms", "Rooms.", 3)))
    numbers = numbersOf(scrape(MetricsResource(server, CollectorRegistry()))[1])
    assert number(numbers, "layer_rooms") == 3
    assert [each["log_failure"].getErrorMessage() for each in loggedErrors] == ["broken"]
    loggedErrors.clear()
