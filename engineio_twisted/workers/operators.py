"""
What operators see of all workers: metrics, health, readiness, statistics.

A worker says what it has by a C{Reporter}. The parent keeps the reports in C{Operators}, which answers questions: those
of its own pages, and those that workers pass on. Nothing here knows of processes or sockets: reports, questions and
answers are JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from ..logs import LogThrottle
from ..observer import ServerStats
from .totals import Family, Totals, joined, labelled

if TYPE_CHECKING:
    from twisted.web.server import Request

    from ..server import Server

Report = dict[str, Any]
Answer = dict[str, Any]
Ask = Callable[[dict[str, Any]], Deferred[Answer]]

PATIENCE = 1.0
"""Seconds that workers have to answer."""

REPORT_TIMEOUT = 30.0
"""Seconds after which a report that was asked for doesn't come any more: another one is asked for then."""

_JSON = "application/json"


def statsAsJSON(stats: ServerStats) -> dict[str, Any]:
    """Return statistics as what JSON can say."""
    return attrs.asdict(stats, recurse=False)


def statsFromJSON(said: Mapping[str, Any]) -> ServerStats:
    """
    Return statistics that were JSON. What this version has no name for is left out.

    @raise TypeError: something lacks.
    """
    return ServerStats(**{each.name: said[each.name] for each in attrs.fields(ServerStats) if each.name in said})


class Reporter:
    """
    What one worker says of itself, whenever it is asked.

    The parent asks for it when it is asked itself. The worker sends one now and then besides, and a last one before it
    ends: what it counts after its last report is in no sum of its slot.

    @param server: the L{Server}.
    @param hasMetrics: whether metrics are served.
    @raise ImportError: they are, and the extra isn't installed.
    """

    def __init__(self, server: Server, hasMetrics: bool = False) -> None:
        self._server = server
        self._metrics: Callable[[], list[Family]] | None = None
        if hasMetrics:
            from .metrics import Metrics

            self._metrics = Metrics(server).families

    def report(self, what: str = "metrics") -> Report:
        """
        Return what the worker has.

        @param what: C{metrics} or C{stats}. Each looks at every session once.
        """
        report: Report = {"whyNotReady": self._server.whyNotReady}
        if what == "stats":
            report["stats"] = statsAsJSON(self._server.stats())
        elif self._metrics is not None:
            report["metrics"] = self._metrics()
        return report


class _Worker:
    """
    A worker that lives, as operators see it.

    @ivar isReady: whether it serves, as far as its parent knows.
    @ivar isDraining: whether its end was asked for.
    @ivar whyNotReady: what it said itself.
    """

    __slots__ = ("isDraining", "isReady", "pid", "slot", "stats", "whyNotReady")

    def __init__(self, slot: int, pid: int) -> None:
        self.slot = slot
        self.pid = pid
        self.isReady = False
        self.isDraining = False
        self.whyNotReady: str | None = None
        self.stats: dict[str, Any] = {}


class _Slot:
    """
    A slot, as operators see it.

    @ivar isVacant: whether its worker has ended without being asked to, and has no successor yet.
    @ivar restarts: how many workers were started for such ones.
    """

    __slots__ = ("isVacant", "restarts", "totals")

    def __init__(self) -> None:
        self.totals = Totals()
        self.isVacant = False
        self.restarts = 0


class _Round:
    """
    All workers being asked.

    @ivar waiting: the numbers of those that haven't answered.
    @ivar answered: the numbers of those that have.
    @ivar callers: who waits for it.
    @ivar call: what ends it in time.
    """

    __slots__ = ("answered", "call", "callers", "waiting")

    def __init__(self, waiting: set[int]) -> None:
        self.waiting = waiting
        self.answered: set[int] = set()
        self.callers: list[Deferred[set[int]]] = []
        self.call: Any = None


class Operators:
    """
    All workers as operators see them.

    The parent says what becomes of workers. Questions are answered by L{answer}, within L{PATIENCE}.

    @param count: how many slots there are.
    @param ask: called with the number of a worker, and what its report is wanted for: C{metrics} or C{stats}; returns a
        Deferred of its report, or of None if it has none yet. It is not called again for the same before that fires.
    @param clock: an C{IReactorTime}.
    @param hasMetrics: whether metrics are served.
    @raise ImportError: they are, and the extra isn't installed.
    @ivar isStopping: whether everything is being stopped.
    """

    _log = Logger()

    def __init__(
        self, count: int, ask: Callable[[int, str], Deferred[Report | None]], clock: Any, hasMetrics: bool = False
    ) -> None:
        self.isStopping: bool = False
        self._slots = [_Slot() for _ in range(count)]
        self._workers: dict[int, _Worker] = {}
        self._askWorker = ask
        self._asked: set[tuple[int, str]] = set()
        self._rounds: dict[str, _Round] = {}
        self._clock = clock
        self._throttle = LogThrottle(lambda: clock)
        self._own: Callable[[], list[Family]] | None = None
        if hasMetrics:
            from .metrics import Metrics

            self._own = Metrics(None).families

    # What the parent says

    def started(self, number: int, slot: int, pid: int) -> None:
        """Take a worker that was started."""
        place = self._slots[slot]
        if place.isVacant:
            place.isVacant = False
            place.restarts += 1
        self._workers[number] = _Worker(slot, pid)

    def ready(self, number: int) -> None:
        """Take note that a worker serves."""
        self._workers[number].isReady = True

    def draining(self, number: int) -> None:
        """Take note that a worker was asked to end."""
        worker = self._workers[number]
        worker.isReady, worker.isDraining = False, True

    def reported(self, number: int, report: Report) -> None:
        """Take a report, asked for or not. One of a worker that has ended is ignored."""
        worker = self._workers.get(number)
        if worker is None:
            return
        worker.whyNotReady = report.get("whyNotReady")
        worker.stats = report.get("stats", worker.stats)
        if "metrics" in report:
            self._slots[worker.slot].totals.reported(number, report["metrics"])

    def ended(self, number: int) -> None:
        """Take note that the process of a worker has ended; nothing more comes of it."""
        worker = self._workers.pop(number, None)
        if worker is None:
            return
        place = self._slots[worker.slot]
        place.totals.ended(number)
        place.isVacant = not worker.isDraining and all(each.slot != worker.slot for each in self._workers.values())
        for what in ("metrics", "stats"):
            self._asked.discard((number, what))
            self._over(number, what)

    # What operators ask

    def answer(self, question: Mapping[str, Any]) -> Deferred[Answer]:
        """
        Answer a question of a page or of a worker.

        @param question: C{ask} is C{health}, C{ready}, C{metrics} (with C{accept}, a header) or C{stats}.
        @return: what a page is to say, as C{status}, C{type} and C{body}; or C{stats}, by slot.
        """
        answer: Deferred[Answer] = maybeDeferred(self._answer, question)  # type: ignore[call-overload]
        return answer

    def stats(self) -> Deferred[dict[int, ServerStats]]:
        """Return a Deferred of the statistics of each worker that answers, by its slot."""
        return askStats(self.answer)

    def _answer(self, question: Mapping[str, Any]) -> Answer | Deferred[Answer]:
        what = question["ask"]
        if what == "health":
            return said(200, {"status": "ok"})
        if what == "ready":
            return self._ready()
        if what == "stats":
            return self._collect(what).addCallback(self._stats)
        if what == "metrics" and self._own is not None:
            return self._collect(what).addCallback(self._page, str(question.get("accept", "")))
        return said(404, {"status": "unknown"})

    def _ready(self) -> Answer:
        count = len({each.slot for each in self._workers.values() if each.isReady and each.whyNotReady is None})
        numbers = {"ready": count, "workers": len(self._slots)}
        reason = "stopping" if self.isStopping else None if count else "no worker is ready"
        if reason is None:
            return said(200, {"status": "ready", **numbers})
        return said(503, {"status": "not ready", "reason": reason, **numbers})

    def _stats(self, answered: set[int]) -> Answer:
        # In JSON a key is text. During a reload the newest of a slot counts.
        workers = [self._workers[each] for each in sorted(answered)]
        return {"stats": {str(each.slot): each.stats for each in workers}}

    def _page(self, answered: set[int], accepted: str) -> Answer:
        from .metrics import page

        contentType, body = page(self._families(answered), accepted)
        return {"status": 200, "type": contentType, "body": body.decode()}

    def _families(self, answered: set[int]) -> list[Family]:
        assert self._own is not None
        newest = {worker.slot: (number, worker.pid) for number, worker in sorted(self._workers.items())}
        up = {self._workers[each].slot for each in answered}
        slots = [(str(index), index, each) for index, each in enumerate(self._slots)]
        return [
            _family(
                "engineio_worker_up",
                "Whether a worker of the slot answers.",
                "gauge",
                {name: float(index in up) for name, index, _ in slots},
            ),
            _family(
                "engineio_worker_pid",
                "The process of the slot's newest worker.",
                "gauge",
                {name: newest[index][1] for name, index, _ in slots if index in newest},
            ),
            _family(
                "engineio_worker_restarts",
                "Workers started for one that had ended by itself.",
                "counter",
                {name: each.restarts for name, _, each in slots},
            ),
            *joined(
                [
                    labelled(self._own(), "parent"),
                    *(labelled(each.totals.families(answered), name) for name, _, each in slots),
                ]
            ),
        ]

    # Asking all workers

    def _collect(self, what: str) -> Deferred[set[int]]:
        """Ask all workers; return a Deferred of the numbers of those that answered, not later than L{PATIENCE}."""
        result: Deferred[set[int]] = Deferred()
        running = self._rounds.get(what)
        if running is not None:
            running.callers.append(result)
            return result
        started = self._rounds[what] = _Round({*self._workers})
        started.callers.append(result)
        started.call = self._clock.callLater(PATIENCE, self._finish, what)
        for number in sorted(started.waiting):
            self._ask(number, what)
        # Nobody may be there.
        self._over(0, what)
        return result

    def _ask(self, number: int, what: str) -> None:
        if (number, what) in self._asked:
            # It has yet to answer the last time.
            return
        self._asked.add((number, what))
        asked = maybeDeferred(self._askWorker, number, what)
        asked.addCallback(self._answered, number, what).addErrback(self._failed, number)
        asked.addBoth(lambda _: self._asked.discard((number, what))).addBoth(lambda _: self._over(number, what))

    def _answered(self, report: Report | None, number: int, what: str) -> None:
        if report is None:
            # It has no server yet.
            return
        self.reported(number, report)
        running = self._rounds.get(what)
        if running is not None and number in running.waiting:
            running.answered.add(number)

    def _failed(self, failure: Failure, number: int) -> None:
        # Whether it has ended or hangs, its parent has a line about that.
        if not failure.check(CancelledError, ConnectionDone) and self._throttle.allows("reports of workers"):
            self._log.failure("Worker {worker} could not be asked", failure, worker=number)

    def _over(self, number: int, what: str) -> None:
        running = self._rounds.get(what)
        if running is not None:
            running.waiting.discard(number)
            if not running.waiting:
                self._finish(what)

    def _finish(self, what: str) -> None:
        finished = self._rounds.pop(what)
        if finished.call.active():
            finished.call.cancel()
        for each in finished.callers:
            # Those that have ended since then have nothing new any more.
            each.callback(finished.answered & self._workers.keys())


class WorkersObserver:
    """
    Tells L{Operators} what becomes of the processes of the parent, and takes
    questions and reports from and to their control connections.

    Of the messages C{report}, asked of a worker with C{what}, or sent by it, has a report; C{operators}, asked by a
    worker, has a question.

    @param count: how many slots there are.
    @param clock: an C{IReactorTime}.
    @param hasMetrics: whether metrics are served.
    @ivar operators: the L{Operators}.
    """

    def __init__(self, count: int, clock: Any, hasMetrics: bool = False) -> None:
        self.operators: Operators = Operators(count, self._ask, clock, hasMetrics)
        self._processes: dict[int, Any] = {}

    def _ask(self, number: int, what: str) -> Deferred[Report | None]:
        asked: Deferred[Report | None] = self._processes[number].control.ask(
            "report", {"what": what}, timeout=REPORT_TIMEOUT
        )
        return asked

    def started(self, worker: Any) -> None:
        """Called when the process of a worker was started."""
        self._processes[worker.number] = worker
        self.operators.started(worker.number, worker.slot, worker.pid)

    def ready(self, worker: Any) -> None:
        """Called when a worker serves."""
        self.operators.ready(worker.number)

    def draining(self, worker: Any) -> None:
        """Called when a worker is told to end."""
        self.operators.draining(worker.number)

    def ended(self, worker: Any) -> None:
        """Called when the process of a worker has ended."""
        self._processes.pop(worker.number, None)
        self.operators.ended(worker.number)

    def messageReceived(self, worker: Any, kind: str, fields: dict[str, Any]) -> object:
        """Called with each message that isn't the parent's own affair; returns the answer, or a Deferred of it."""
        if kind == "report":
            self.operators.reported(worker.number, fields)
            return None
        return self.operators.answer(fields) if kind == "operators" else None


def _family(name: str, text: str, kind: str, values: Mapping[str, float]) -> Family:
    sample = f"{name}_total" if kind == "counter" else name
    samples = [[sample, {"slot": slot}, value] for slot, value in values.items()]
    return {"name": name, "text": text, "type": kind, "samples": samples}


def said(status: int, what: Mapping[str, Any]) -> Answer:
    """Return what a page is to say, given as JSON."""
    return {"status": status, "type": _JSON, "body": json.dumps(what, separators=(",", ":"))}


def askStats(ask: Ask) -> Deferred[dict[int, ServerStats]]:
    """
    Return a Deferred of the statistics of each worker that answers, by its slot.

    @param ask: takes a question to the parent, L{Operators.answer}.
    """
    return ask({"ask": "stats"}).addCallback(
        lambda answer: {int(slot): statsFromJSON(each) for slot, each in answer["stats"].items()}
    )


class OperatorsPage(Resource):
    """
    A page for operators, that the parent answers.

    @param ask: takes a question to the parent: L{Operators.answer}, in the parent itself.
    @param what: C{health}, C{ready} or C{metrics}.
    @param clock: an C{IReactorTime}. The page says 503 if nothing has come in time.
    """

    isLeaf = True

    def __init__(self, ask: Ask, what: str, clock: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._ask = ask
        self._what = what
        self._clock = clock

    def render_GET(self, request: Request) -> int:
        """Answer when the parent has."""
        accepted = b",".join(request.requestHeaders.getRawHeaders(b"accept", ())).decode("latin-1")
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        # The parent may wait for other workers.
        seconds = 2 * PATIENCE if self._what == "metrics" else PATIENCE
        answer = maybeDeferred(self._ask, {"ask": self._what, "accept": accepted})
        answer.addTimeout(seconds, self._clock)
        answer.addErrback(lambda _: said(503, {"status": "unknown", "reason": "the parent does not answer"}))
        answer.addCallback(_write, request, gone)
        return NOT_DONE_YET


def _write(answer: Answer, request: Request, gone: list[Failure]) -> None:
    if gone:
        return
    request.setResponseCode(answer["status"])
    request.setHeader("Content-Type", answer["type"])
    request.setHeader("Cache-Control", "no-store")
    request.write(answer["body"].encode())
    request.finish()


def operatorsPages(ask: Ask, clock: Any, *whats: str) -> dict[bytes, OperatorsPage]:
    """
    Return pages by their names.

    @param ask: as for L{OperatorsPage}, as is C{clock}.
    @param whats: of C{health}, C{ready} and C{metrics} those that are wanted.
    """
    return {each.encode(): OperatorsPage(ask, each, clock) for each in whats}
