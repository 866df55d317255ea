"""What operators see of all workers, without processes: each worker is a server in memory."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openMetrics
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from engineio_twisted import Measure, Server, Site
from engineio_twisted.socketio import SocketIO
from engineio_twisted.workers.cluster import Cluster
from engineio_twisted.workers.operators import (
    PATIENCE,
    Operators,
    OperatorsPage,
    Report,
    Reporter,
    WorkersObserver,
    operatorsPages,
    said,
    statsAsJSON,
    statsFromJSON,
)
from engineio_twisted.workers.page import SharedPage
from engineio_twisted.workers.totals import Totals, joined

from ..kit.asking import make
from ..kit.fakes import FakeRequest
from ..kit.metrics import Layer, Numbers, number, numbersOf
from ..kit.observed import ask, session


def now(result: Deferred[Any]) -> Any:
    """What a Deferred has now."""
    found: list[Any] = []
    result.addBoth(found.append)
    assert found, "it has nothing yet"
    return found[0]


def throughJSON(said: Any) -> Any:
    """As it comes out of a control connection."""
    return json.loads(json.dumps(said))


class Fleet:
    """Workers in memory, and what operators see of them."""

    def __init__(self, count: int, hasMetrics: bool = True) -> None:
        self.clock = Clock()
        self.hasMetrics = hasMetrics
        self.servers: dict[int, Server] = {}
        self.reporters: dict[int, Reporter] = {}
        self.asked: list[tuple[int, str]] = []
        # Numbers of those that don't answer, and what they owe.
        self.hanging: set[int] = set()
        self.owed: list[tuple[Deferred[Report | None], int, str]] = []
        self.operators = Operators(count, self._ask, self.clock, hasMetrics)

    def _ask(self, number: int, what: str) -> Deferred[Report | None]:
        self.asked.append((number, what))
        if number in self.hanging:
            self.owed.append((Deferred(), number, what))
            return self.owed[-1][0]
        return succeed(self.reportOf(number, what) if number in self.reporters else None)

    def reportOf(self, number: int, what: str = "metrics") -> Report:
        report: Report = throughJSON(self.reporters[number].report(what))
        return report

    def start(self, number: int, slot: int) -> Server:
        server, _ = make()
        self.servers[number] = server
        self.reporters[number] = Reporter(server, self.hasMetrics)
        self.operators.started(number, slot, 1000 + number)
        self.operators.ready(number)
        return server

    def answer(self, what: str, **question: Any) -> Deferred[Any]:
        return self.operators.answer({"ask": what, **question}).addCallback(throughJSON)

    def scrape(self) -> Numbers:
        """The numbers of all, of those that answer at once."""
        answer = self.answer("metrics")
        if self.hanging:
            self.clock.advance(PATIENCE)
        said = now(answer)
        assert said["status"] == 200
        return numbersOf(said["body"])

    def ready(self) -> tuple[int, Any]:
        said = now(self.answer("ready"))
        assert said["type"] == "application/json"
        return said["status"], json.loads(said["body"])


def counted(numbers: Numbers) -> Numbers:
    """What never falls."""
    ends = ("_total", "_bucket", "_count", "_sum")
    return {key: value for key, value in numbers.items() if key[0].endswith(ends)}


def test_numbersOfAll() -> None:
    """Every number has the slot of its worker, the parent's too; a sum over slots is the sum over workers."""
    fleet = Fleet(2)
    one, other = fleet.start(1, 0), fleet.start(2, 1)
    for server, count in ((one, 1), (other, 3)):
        for _ in range(count):
            session(server)
    other.close()
    numbers = fleet.scrape()
    assert all("slot" in dict(labels) for _, labels in numbers)
    assert number(numbers, "engineio_sessions_opened_total", slot="0") == 1
    assert number(numbers, "engineio_sessions_opened_total", slot="1") == 3
    assert number(numbers, "engineio_sessions", slot="0", transport="polling") == 1
    assert number(numbers, "engineio_sessions_closed_total", slot="1", reason="server shutting down") == 3
    assert number(numbers, "engineio_session_duration_seconds_count", slot="1") == 3
    assert number(numbers, "engineio_ready", slot="0") == 1
    assert number(numbers, "engineio_ready", slot="1") == 0
    for slot in ("0", "1", "parent"):
        assert number(numbers, "process_resident_memory_bytes", slot=slot) > 0
    for slot in ("0", "1"):
        assert number(numbers, "engineio_worker_up", slot=slot) == 1
        assert number(numbers, "engineio_worker_pid", slot=slot) == 1001 + int(slot)
        assert number(numbers, "engineio_worker_restarts_total", slot=slot) == 0


def test_openMetrics() -> None:
    """What Prometheus asks for by its own header is that format, valid over several slots."""
    fleet = Fleet(2)
    fleet.start(1, 0)
    session(fleet.start(2, 1))
    said = now(fleet.answer("metrics", accept="application/openmetrics-text; version=1.0.0"))
    assert said["type"].startswith("application/openmetrics-text; version=1.0.0")
    numbers = numbersOf(said["body"], openMetrics)
    assert number(numbers, "engineio_sessions_opened_total", slot="1") == 1
    assert {dict(labels)["slot"] for name, labels in numbers if name == "engineio_info"} == {"0", "1"}


def test_countersNeverFall() -> None:
    """When a worker ends, the counters of its slot go on from its last report, in each step of its replacement."""
    fleet = Fleet(1)
    server = fleet.start(1, 0)
    session(server)
    session(server)
    ask(server, session(server), b"1")
    server._counters.limitReached(None, "someLimit")
    seen = [fleet.scrape()]
    # It counts one more, that it reports by itself, and one that is lost with it.
    session(server)
    fleet.operators.reported(1, fleet.reportOf(1))
    session(server)
    fleet.operators.ended(1)
    seen.append(fleet.scrape())
    assert number(seen[-1], "engineio_sessions_opened_total", slot="0") == 4
    assert number(seen[-1], "engineio_worker_up", slot="0") == 0
    # Gauges have ended with it.
    assert not [key for key in seen[-1] if key[0] in ("engineio_sessions", "engineio_worker_pid")]
    fleet.operators.started(2, 0, 1002)
    fleet.hanging.add(2)
    seen.append(fleet.scrape())
    assert number(seen[-1], "engineio_worker_restarts_total", slot="0") == 1
    fleet.hanging.clear()
    fleet.operators.ended(2)
    session(fleet.start(3, 0))
    seen.append(fleet.scrape())
    assert number(seen[-1], "engineio_sessions_opened_total", slot="0") == 5
    assert number(seen[-1], "engineio_sessions", slot="0", transport="polling") == 1
    assert number(seen[-1], "engineio_session_duration_seconds_count", slot="0") == 1
    assert number(seen[-1], "engineio_limits_reached_total", slot="0", option="someLimit") == 1
    assert number(seen[-1], "engineio_worker_restarts_total", slot="0") == 2
    for before, after in pairwise(seen):
        for key, value in counted(before).items():
            assert after[key] >= value, key


def test_reload() -> None:
    """While a slot has an old and a new worker, both are in its numbers; the old one's end is no restart."""
    fleet = Fleet(1)
    old = fleet.start(1, 0)
    session(old)
    new = fleet.start(2, 0)
    session(new)
    session(new)
    fleet.operators.draining(1)
    numbers = fleet.scrape()
    assert number(numbers, "engineio_sessions", slot="0", transport="polling") == 3
    assert number(numbers, "engineio_sessions_opened_total", slot="0") == 3
    assert number(numbers, "engineio_ready", slot="0") == 1
    assert number(numbers, "engineio_worker_pid", slot="0") == 1002
    old.close()
    fleet.operators.reported(1, fleet.reportOf(1))
    fleet.operators.ended(1)
    numbers = fleet.scrape()
    assert number(numbers, "engineio_sessions", slot="0", transport="polling") == 2
    assert number(numbers, "engineio_sessions_opened_total", slot="0") == 3
    assert number(numbers, "engineio_sessions_closed_total", slot="0", reason="server shutting down") == 1
    assert number(numbers, "engineio_worker_restarts_total", slot="0") == 0
    # A new one that fails while the old one serves leaves no vacancy either.
    fleet.start(3, 0)
    fleet.operators.ended(3)
    fleet.start(4, 0)
    assert number(fleet.scrape(), "engineio_worker_restarts_total", slot="0") == 0


def test_oneThatDoesNotAnswer() -> None:
    """The others aren't kept waiting for more than a second; what it had counted stays."""
    fleet = Fleet(2)
    hung = fleet.start(1, 0)
    session(hung)
    fleet.start(2, 1)
    fleet.scrape()
    fleet.hanging.add(1)
    answer = fleet.answer("metrics")
    fleet.clock.advance(PATIENCE - 0.01)
    assert not answer.called
    fleet.clock.advance(0.01)
    numbers = numbersOf(now(answer)["body"])
    assert number(numbers, "engineio_worker_up", slot="0") == 0
    assert number(numbers, "engineio_worker_up", slot="1") == 1
    assert number(numbers, "engineio_sessions_opened_total", slot="0") == 1
    assert not [key for key in numbers if key[0] == "engineio_sessions" and ("slot", "0") in key[1]]
    # However often it is scraped, it is asked once; and its answer counts, when it comes.
    fleet.scrape()
    assert fleet.asked.count((1, "metrics")) == 2
    session(hung)
    answer = fleet.answer("metrics")
    ((owed, *of),) = fleet.owed
    owed.callback(fleet.reportOf(*of))
    numbers = numbersOf(now(answer)["body"])
    assert number(numbers, "engineio_worker_up", slot="0") == 1
    assert number(numbers, "engineio_sessions_opened_total", slot="0") == 2
    assert not fleet.clock.getDelayedCalls()


def test_oneThatStarts() -> None:
    """One without a server yet is not up, and nobody waits for it."""
    fleet = Fleet(2)
    fleet.operators.started(1, 0, 1001)
    fleet.start(2, 1)
    numbers = fleet.scrape()
    assert [number(numbers, "engineio_worker_up", slot=each) for each in "01"] == [0, 1]
    assert number(numbers, "engineio_worker_pid", slot="0") == 1001
    assert set(now(fleet.operators.stats())) == {1}


def test_oneThatEndsWhileAsked() -> None:
    """Nobody waits for one that has ended, and what it would have said changes nothing."""
    fleet = Fleet(2)
    session(fleet.start(1, 0))
    fleet.start(2, 1)
    fleet.scrape()
    fleet.hanging.add(1)
    answer = fleet.answer("metrics")
    fleet.operators.ended(1)
    assert number(numbersOf(now(answer)["body"]), "engineio_sessions_opened_total", slot="0") == 1
    ((owed, *of),) = fleet.owed
    owed.callback(fleet.reportOf(*of))
    assert number(fleet.scrape(), "engineio_sessions_opened_total", slot="0") == 1


def test_scrapesAtOnce() -> None:
    """Those that ask while all are asked get the same, and nobody is asked again."""
    fleet = Fleet(1)
    fleet.start(1, 0)
    fleet.hanging.add(1)
    answers = [fleet.answer("metrics") for _ in range(3)]
    fleet.clock.advance(PATIENCE)
    assert [now(each)["status"] for each in answers] == [200] * 3
    assert fleet.asked == [(1, "metrics")]


def test_askingFails(loggedErrors: list[LogEvent]) -> None:
    """One that can't be asked is as one that doesn't answer; only what nobody else says is logged."""
    reasons: list[Any] = [ConnectionDone(), RuntimeError("broken")]
    operators = Operators(2, lambda number, what: fail(reasons[number - 1]), Clock(), True)
    operators.started(1, 0, 1)
    operators.started(2, 1, 2)
    numbers = numbersOf(now(operators.answer({"ask": "metrics"}))["body"])
    assert [number(numbers, "engineio_worker_up", slot=each) for each in "01"] == [0, 0]
    assert [(each["worker"], each["log_failure"].getErrorMessage()) for each in loggedErrors] == [(2, "broken")]
    loggedErrors.clear()


def test_layers(loggedErrors: list[LogEvent]) -> None:
    """Measures of layers come along, such as those of Socket.IO; one that can't be said hides no other."""
    fleet = Fleet(2)
    one, other = fleet.start(1, 0), fleet.start(2, 1)
    SocketIO(one)
    SocketIO(other)
    one.addObserver(Layer(Measure("layer_lost", "Lost.", {"late": 2}, "why", True)))
    bad: Any = "many"
    other.addObserver(Layer(Measure("layer_rooms", "Rooms.", bad)))
    numbers = fleet.scrape()
    assert number(numbers, "socketio_sockets", slot="0") == number(numbers, "socketio_sockets", slot="1") == 0
    assert number(numbers, "layer_lost_total", slot="0", why="late") == 2
    assert number(numbers, "engineio_sessions_opened_total", slot="1") == 0
    assert number(numbers, "process_open_fds", slot="1") > 0
    assert len(loggedErrors) == 1
    loggedErrors.clear()


def test_stats() -> None:
    """The statistics of each come as they are there, by slot; of one that doesn't answer nothing comes."""
    fleet = Fleet(3, hasMetrics=False)
    servers = [fleet.start(each + 1, each) for each in range(3)]
    session(servers[1])
    ask(servers[1], b"/engine.io/?EIO=4&transport=polling&sid=none")
    fleet.hanging.add(3)
    result = fleet.operators.stats()
    fleet.clock.advance(PATIENCE)
    assert now(result) == {0: servers[0].stats(), 1: servers[1].stats()}
    assert now(result.addCallback(lambda _: None)) is None


def test_statsOfAnotherVersion() -> None:
    """A worker that was started with a newer version may say more."""
    server, _ = make()
    stats = server.stats()
    assert statsFromJSON({**throughJSON(statsAsJSON(stats)), "more": 1}) == stats


def test_withoutMetrics() -> None:
    """If metrics aren't served, a report is small, and there is no such page."""
    fleet = Fleet(1, hasMetrics=False)
    fleet.start(1, 0)
    assert fleet.reportOf(1) == {"whyNotReady": None}
    assert now(fleet.answer("metrics"))["status"] == 404
    assert now(fleet.answer("anything"))["status"] == 404
    assert fleet.asked == []


def test_readyInEachState() -> None:
    """Ready is what has a worker that serves, while nothing is stopped; the body says how many of how many."""
    fleet = Fleet(2)

    def notReady(reason: str, count: int = 0) -> tuple[int, Any]:
        return 503, {"status": "not ready", "reason": reason, "ready": count, "workers": 2}

    assert fleet.ready() == notReady("no worker is ready")
    fleet.operators.started(1, 0, 1)
    assert fleet.ready() == notReady("no worker is ready")
    fleet.operators.ready(1)
    assert fleet.ready() == (200, {"status": "ready", "ready": 1, "workers": 2})
    server = fleet.start(2, 1)
    assert fleet.ready() == (200, {"status": "ready", "ready": 2, "workers": 2})
    # A reload: an old and a new one are one slot.
    fleet.start(3, 1)
    assert fleet.ready()[1]["ready"] == 2
    fleet.operators.draining(2)
    fleet.operators.ended(2)
    assert fleet.ready()[1]["ready"] == 2
    # A crash, and a server that its application has closed.
    fleet.operators.ended(1)
    assert fleet.ready()[1]["ready"] == 1
    fleet.servers[3].close()
    fleet.operators.reported(3, fleet.reportOf(3))
    assert fleet.ready() == notReady("no worker is ready")
    fleet.start(4, 0)
    fleet.operators.isStopping = True
    assert fleet.ready() == notReady("stopping", 1)
    assert now(fleet.answer("health")) == said(200, {"status": "ok"})
    server.close()


# Pages


def rendered(page: OperatorsPage, accept: str = "") -> Any:
    request: Any = FakeRequest(headers={"Accept": [accept]} if accept else None)
    assert page.render_GET(request) == NOT_DONE_YET
    return request


def test_pages() -> None:
    """A page says what the parent answers, in a worker as in the parent."""
    fleet = Fleet(1)
    session(fleet.start(1, 0))
    pages = operatorsPages(fleet.operators.answer, fleet.clock, "health", "ready", "metrics")
    assert set(pages) == {b"health", b"ready", b"metrics"}
    health, ready = rendered(pages[b"health"]), rendered(pages[b"ready"])
    assert (health.status, health.written) == (200, b'{"status":"ok"}')
    assert (ready.status, ready.written) == (200, b'{"status":"ready","ready":1,"workers":1}')
    assert ready.header("Content-Type") == "application/json"
    assert ready.header("Cache-Control") == "no-store"
    metrics = rendered(pages[b"metrics"], "application/openmetrics-text; version=1.0.0")
    assert metrics.header("Content-Type").startswith("application/openmetrics-text; version=1.0.0")
    numbers = numbersOf(metrics.written.decode(), openMetrics)
    assert number(numbers, "engineio_sessions_opened_total", slot="0") == 1
    assert not fleet.clock.getDelayedCalls()


@pytest.mark.parametrize(("what", "seconds"), [("health", PATIENCE), ("ready", PATIENCE), ("metrics", 2 * PATIENCE)])
def test_parentThatDoesNotAnswer(what: str, seconds: float) -> None:
    """A worker doesn't wait for its parent for long; a parent that is gone is the same."""
    clock = Clock()
    silent: Deferred[Any] = Deferred()
    waiting = rendered(OperatorsPage(lambda _: silent, what, clock))
    clock.advance(seconds - 0.01)
    assert not waiting.finished
    clock.advance(0.01)
    gone = rendered(OperatorsPage(lambda _: fail(ConnectionDone()), what, clock))
    for each in (waiting, gone):
        assert (each.status, each.finished) == (503, 1)
        assert json.loads(each.written)["reason"] == "the parent does not answer"
    assert not clock.getDelayedCalls()


def test_clientThatGoes() -> None:
    """Nothing is written for one that has gone before the answer came."""
    later: Deferred[Any] = Deferred()
    request = rendered(OperatorsPage(lambda _: later, "ready", Clock()))
    request.lose()
    later.callback(said(200, {"status": "ready"}))
    assert not request.finished


# Between a parent and its processes


class FakeWorker:
    """A process of a worker, as its parent has it."""

    def __init__(self, number: int, slot: int) -> None:
        self.number, self.slot, self.pid = number, slot, 1000 + number
        self.control = self
        self.server, _ = make()
        self.reporter = Reporter(self.server, True)
        self.asked: list[Any] = []

    def ask(self, kind: str, fields: dict[str, Any], *, timeout: float) -> Deferred[Any]:
        self.asked.append((kind, fields))
        return succeed(throughJSON(self.reporter.report(**fields)))


def test_observer() -> None:
    """What a parent tells becomes what operators see; reports and questions come as messages."""
    observer = WorkersObserver(1, Clock(), True)
    worker = FakeWorker(1, 0)
    observer.started(worker)
    observer.ready(worker)
    session(worker.server)
    observer.messageReceived(worker, "report", worker.reporter.report())
    answer: Any = observer.messageReceived(worker, "operators", {"ask": "ready"})
    assert now(answer)["status"] == 200
    answer = observer.messageReceived(worker, "operators", {"ask": "metrics"})
    assert number(numbersOf(now(answer)["body"]), "engineio_worker_up", slot="0") == 1
    assert worker.asked == [("report", {"what": "metrics"})]
    assert observer.messageReceived(worker, "another", {}) is None
    observer.draining(worker)
    observer.ended(worker)
    numbers = numbersOf(now(observer.operators.answer({"ask": "metrics"}))["body"])
    assert number(numbers, "engineio_sessions_opened_total", slot="0") == 1
    assert number(numbers, "engineio_worker_restarts_total", slot="0") == 0


def test_page() -> None:
    """docs/monitoring.md has the metrics that there are with workers only."""
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    section = page.partition("## Several processes\n")[2].partition("\n## ")[0]
    rows = [each for each in section.splitlines() if each.startswith("| `")]
    fleet = Fleet(1)
    server = fleet.start(1, 0)
    workers = {name for name, _ in fleet.scrape() if name.startswith("engineio_worker_")}
    shared = SharedPage(bytearray(SharedPage.sizeOf(2)), 2)
    Cluster(
        server, Site(Resource()), shared, shared.claim(0, 1), prefix="", count=1, stats=fleet.operators.stats
    ).stop()
    measured = {f"{each.name}_total" if each.isCounter else each.name for each in server.measures()}
    assert [each.split("`")[1] for each in rows] == sorted(workers | measured, key=page.index)


# Sums


def family(name: str, kind: str, *samples: tuple[str, float]) -> Any:
    return {"name": name, "text": "", "type": kind, "samples": [[each, {}, value] for each, value in samples]}


@pytest.mark.parametrize(
    ("name", "kind", "sample", "newer", "older", "expected"),
    [
        ("a", "counter", "a_total", 1, 2, 3),
        ("a", "histogram", "a_count", 1, 2, 3),
        ("a", "histogram", "a_created", 20, 10, 10),
        ("a", "gauge", "a", 1, 2, 3),
        ("a_bytes_max", "gauge", "a_bytes_max", 1, 2, 2),
        ("a_ready", "gauge", "a_ready", 1, 0, 1),
        ("process_open_fds", "gauge", "process_open_fds", 1, 2, 1),
        ("process_cpu_seconds", "counter", "process_cpu_seconds_total", 1, 2, 3),
        ("a", "info", "a_info", 1, 1, 1),
    ],
)
def test_twoOfASlot(name: str, kind: str, sample: str, newer: float, older: float, expected: float) -> None:
    """How a number of an old and a new worker of a slot becomes one."""
    result = joined([[family(name, kind, (sample, newer))], [family(name, kind, (sample, older))]])
    assert result == [family(name, kind, (sample, expected))]


def test_anotherType() -> None:
    """If a new version of an application counts something else by a name, that is what counts."""
    result = joined([[family("a", "gauge", ("a", 1))], [family("a", "counter", ("a_total", 5))]])
    assert result == [family("a", "gauge", ("a", 1))]


def test_whatIsNoNumber() -> None:
    """What a layer measures wrongly for a moment doesn't spoil the sum for ever."""
    totals = Totals()
    totals.reported(1, [family("a", "counter", ("a_total", float("nan")))])
    totals.ended(1)
    totals.reported(2, [family("a", "counter", ("a_total", 2))])
    totals.ended(2)
    # One that has never said anything.
    totals.ended(3)
    assert totals.families(()) == [family("a", "counter", ("a_total", 2))]


def test_whatFormerWorkersLeave() -> None:
    """However many workers a slot has had, it has as many numbers as one."""
    totals = Totals()
    for each in range(1, 100):
        totals.reported(each, [family("a", "counter", ("a_total", 1)), family("b", "gauge", ("b", 1))])
        totals.ended(each)
    assert totals.families(()) == [family("a", "counter", ("a_total", 99))]
