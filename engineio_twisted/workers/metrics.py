"""
The metrics of workers between prometheus_client and JSON; needs the extra C{metrics}.

A worker makes JSON of what it collects, and the parent makes the page of the JSON of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from twisted.logger import Logger

from ..operation.metrics import Collector, Metric, ProcessCollector, ServerCollector, encoded
from .totals import Family

if TYPE_CHECKING:
    from ..server import Server


class Metrics:
    """
    The metrics of this process as JSON.

    @param server: the L{Server}; None for the parent, which has none.
    """

    _log = Logger()

    def __init__(self, server: Server | None) -> None:
        process = ProcessCollector(registry=None)
        self._collectors: list[Collector] = [process] if server is None else [ServerCollector(server), process]

    def families(self) -> list[Family]:
        """Return what is measured now. If something can't be, that is logged, and the rest is returned."""
        found: list[Family] = []
        for each in self._collectors:
            try:
                for family in each.collect():
                    found.append(_asJSON(family))
            except Exception:
                self._log.failure("Metrics could not be collected")
        return found


def _asJSON(family: Metric) -> Family:
    return {
        "name": family.name,
        "text": family.documentation,
        "type": family.type,
        "samples": [
            [each.name, {key: str(value) for key, value in each.labels.items()}, float(each.value)]
            for each in family.samples
        ],
    }


class _Families(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for each in self._families:
            family = Metric(each["name"], each["text"], each["type"])
            for name, labels, value in each["samples"]:
                family.add_sample(name, labels, value)
            yield family


def page(families: Iterable[Family], accepted: str) -> tuple[str, bytes]:
    """
    Return what Prometheus scrapes.

    @param accepted: the header C{Accept} of the request.
    @return: the content type, and the body.
    """
    return encoded(_Families(families), accepted)
