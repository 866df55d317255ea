"""
The numbers of a server for Prometheus, by prometheus_client; needs the extra C{metrics}.

What is asked for is L{Server.stats}, when it is asked for: no message costs more because of it. docs/monitoring.md,
"Prometheus".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from twisted.web import resource

try:
    from prometheus_client import CollectorRegistry, Histogram
    from prometheus_client import ProcessCollector as ProcessCollector
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
    from prometheus_client.metrics_core import Metric as Metric
    from prometheus_client.registry import Collector as Collector
except ImportError as error:
    raise ImportError(
        "engineio_twisted.operation.metrics needs prometheus_client: pip install 'engineio_twisted[metrics]'"
    ) from error

from .. import __version__
from ..observer import Measure, ServerObserver

if TYPE_CHECKING:
    from twisted.web.server import Request

    from ..server import Server

DURATIONS = (1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
"""Bounds of the histogram of how long sessions last, in seconds: from those that hardly began to those of days."""


class MetricsResource(resource.Resource):
    """
    What Prometheus scrapes: C{root.putChild(b"metrics", MetricsResource(server))}.

    It shows how much the server is used: serve it on a port that is not public.

    @param servers: the L{Server}; or several by name, which is then the label C{server} of every number.
    @param registry: the registry for the numbers, which may hold others; by default one with those of the process too.
    """

    isLeaf = True

    def __init__(self, servers: Server | Mapping[str, Server], registry: CollectorRegistry | None = None) -> None:
        super().__init__()
        if registry is None:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
        self.registry = registry
        registry.register(ServerCollector(servers))

    def render_GET(self, request: Request) -> bytes:
        """Answer, in the format that is asked for."""
        accepted = b",".join(request.requestHeaders.getRawHeaders(b"accept", ())).decode("latin-1")
        contentType, body = encoded(self.registry, accepted)
        request.setHeader("Content-Type", contentType)
        request.setHeader("Cache-Control", "no-store")
        return body


def encoded(collector: Collector, accepted: str) -> tuple[str, bytes]:
    """
    Return what Prometheus scrapes, in the format that it asks for.

    @param collector: a registry, or another collector.
    @param accepted: the header C{Accept} of the request.
    @return: the content type, and the body.
    """
    try:
        encode, contentType = choose_encoder(accepted)
    except Exception:
        # It stumbles over a version that isn't one.
        encode, contentType = choose_encoder("")
    # 0.20 says that it takes nothing but a registry, of which it uses no more than this.
    body: bytes = encode(collector)  # type: ignore[arg-type,unused-ignore]
    return contentType, body


class ServerCollector(Collector):
    """
    The numbers of servers, for a registry of prometheus_client.

    @param servers: as for L{MetricsResource}.
    """

    def __init__(self, servers: Server | Mapping[str, Server]) -> None:
        self._labels: list[str] = ["server"] if isinstance(servers, Mapping) else []
        self._servers: list[tuple[list[str], Server]] = (
            [([name], each) for name, each in servers.items()] if isinstance(servers, Mapping) else [([], servers)]
        )
        self._durations = Histogram(
            "engineio_session_duration_seconds",
            "How long the sessions lasted that have ended.",
            self._labels,
            registry=None,
            buckets=DURATIONS,
        )
        for names, each in self._servers:
            each.addObserver(_Durations(each, self._durations.labels(*names) if names else self._durations))

    def collect(self) -> Iterator[Metric]:
        """Ask the servers, and say what they say."""
        stats = [(names, each, each.stats()) for names, each in self._servers]

        def gauge(name: str, text: str, attribute: str) -> Metric:
            return self._family(GaugeMetricFamily, name, text, [], _plain(stats, attribute))

        def counter(name: str, text: str, label: str, attribute: str) -> Metric:
            return self._family(CounterMetricFamily, name, text, [label], _by(stats, attribute))

        def count(name: str, text: str, attribute: str) -> Metric:
            return self._family(CounterMetricFamily, name, text, [], _plain(stats, attribute))

        def both(name: str, text: str, what: str) -> Metric:
            received = [([*names, "received"], value) for names, value in _plain(stats, f"{what}Received")]
            sent = [([*names, "sent"], value) for names, value in _plain(stats, f"{what}Sent")]
            return self._family(CounterMetricFamily, name, text, ["direction"], [*received, *sent])

        said = [(names, {"version": __version__}) for names, _ in self._servers]
        yield self._family(InfoMetricFamily, "engineio", "What serves.", [], said)
        yield self._family(
            GaugeMetricFamily,
            "engineio_ready",
            "Whether new sessions are opened.",
            [],
            [(names, each.isReady) for names, each in self._servers],
        )
        sessions = _by(stats, "sessions")
        yield self._family(GaugeMetricFamily, "engineio_sessions", "Live sessions.", ["transport"], sessions)
        yield count("engineio_sessions_opened", "Sessions that were opened.", "opened")
        yield count("engineio_sessions_upgraded", "Sessions that moved from polling to WebSocket.", "upgraded")
        yield count("engineio_sessions_suspended", "Sessions that waited for their client to come back.", "suspended")
        yield count("engineio_sessions_resumed", "Sessions whose client came back.", "resumed")
        yield counter("engineio_sessions_closed", "Sessions that ended.", "reason", "closed")
        yield counter("engineio_requests_refused", "Requests that were refused.", "name", "refused")
        yield counter("engineio_limits_reached", "Limits that sessions reached.", "option", "limited")
        yield both("engineio_packets", "Packets of any type.", "packets")
        yield both("engineio_bytes", "Bytes of bodies with packets, and of WebSocket frames.", "bytes")
        yield gauge("engineio_buffered_packets", "Packets that wait for a transport.", "bufferedPackets")
        yield gauge("engineio_buffered_packets_max", "Those of the session with the most.", "mostBufferedPackets")
        yield gauge("engineio_buffered_bytes", "Bytes that clients have not taken.", "bufferedBytes")
        yield gauge("engineio_buffered_bytes_max", "Those of the session with the most.", "mostBufferedBytes")
        yield gauge("engineio_held_bytes", "Bytes that applications have not got yet.", "heldBytes")
        yield gauge("engineio_undecided_requests", "Requests that wait for a decision.", "undecided")
        yield gauge("engineio_reading_requests", "Requests whose bodies are being read.", "reading")
        yield gauge("engineio_websockets", "Connections that are WebSockets.", "webSockets")
        yield from self._durations.collect()
        yield from self._measured()

    def _measured(self) -> Iterator[Metric]:
        """Return the numbers of layers on top of the servers."""
        found: dict[str, list[tuple[list[str], Measure]]] = {}
        for names, server in self._servers:
            for each in server.measures():
                found.setdefault(each.name, []).append((names, each))
        for name, measures in found.items():
            first = measures[0][1]
            samples = [
                ([*names, *keys], value)
                for names, each in measures
                for keys, value in (
                    [([key], value) for key, value in each.value.items()]
                    if isinstance(each.value, Mapping)
                    else [([], each.value)]
                )
            ]
            kind = CounterMetricFamily if first.isCounter else GaugeMetricFamily
            yield self._family(kind, name, first.text, [] if first.label is None else [first.label], samples)

    def _family(
        self, kind: Any, name: str, text: str, labels: list[str], samples: Iterable[tuple[list[str], Any]]
    ) -> Metric:
        family: Metric = kind(name, text, labels=[*self._labels, *labels])
        add: Any = family.add_metric  # type: ignore[attr-defined]
        for values, value in samples:
            add(values, value)
        return family


Stats = list[tuple[list[str], Any, Any]]


def _plain(stats: Stats, attribute: str) -> list[tuple[list[str], float]]:
    return [(names, getattr(each, attribute)) for names, _, each in stats]


def _by(stats: Stats, attribute: str) -> list[tuple[list[str], float]]:
    return [([*names, key], value) for names, _, each in stats for key, value in getattr(each, attribute).items()]


class _Durations(ServerObserver):
    """Takes the time of sessions."""

    def __init__(self, server: Server, histogram: Any) -> None:
        self._server = server
        self._histogram = histogram
        self._opened: dict[Any, float] = {}

    def opened(self, socket: Any) -> None:
        self._opened[socket] = self._server.clock.seconds()

    def closed(self, socket: Any, reason: str, description: str) -> None:
        began = self._opened.pop(socket, None)
        # None of one that was there before this.
        if began is not None:
            self._histogram.observe(self._server.clock.seconds() - began)
