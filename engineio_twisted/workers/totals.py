"""
The metrics of a slot: those of its workers, and what former workers had counted. Pure: metrics are JSON here.

A family is a dict of C{name}, C{text}, C{type} (a type of Prometheus) and C{samples}: a list of
C{[name, labels, value]}.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from math import isfinite
from typing import Any

Family = dict[str, Any]

COUNTED = frozenset({"counter", "histogram", "summary"})
"""The types whose numbers only grow."""


class Totals:
    """
    The metrics of one slot.

    A counter never falls: when a worker ends, its last report is added to what former workers had counted. During a
    reload a slot has two workers, whose numbers are joined.
    """

    def __init__(self) -> None:
        self._former: list[Family] = []
        self._reports: dict[int, list[Family]] = {}

    def reported(self, number: int, families: list[Family]) -> None:
        """Take the report of a worker in place of its last one."""
        self._reports[number] = families

    def ended(self, number: int) -> None:
        """Keep what a worker had counted as of its last report."""
        last = self._reports.pop(number, None)
        if last is not None:
            self._former = joined([list(_counted(last)), self._former])

    def families(self, answered: Collection[int]) -> list[Family]:
        """
        Return the metrics of the slot.

        @param answered: the numbers of the workers whose last report is new. Only counters are taken from the others.
        """
        newest = sorted(self._reports.items(), reverse=True)
        reports = [report if number in answered else list(_counted(report)) for number, report in newest]
        return joined([*reports, self._former])


def joined(reports: Iterable[list[Family]]) -> list[Family]:
    """
    Return the metrics of several reports as one report.

    Counters are summed, and gauges too, but for those of which a sum says nothing: the largest of C{_max} and
    C{_ready}, and the first of C{process_} and of texts.

    @param reports: the newest first: it decides the type of a family.
    """
    found: dict[str, tuple[Family, dict[Any, Any]]] = {}
    for report in reports:
        for family in report:
            first, samples = found.setdefault(family["name"], (family, {}))
            if first["type"] != family["type"]:
                # A new version of the application counts something else by this name.
                continue
            for name, labels, value in family["samples"]:
                key = name, tuple(sorted(labels.items()))
                samples[key] = _join(family, name, samples[key], value) if key in samples else value
    return [
        {**family, "samples": [[name, dict(labels), value] for (name, labels), value in samples.items()]}
        for family, samples in found.values()
    ]


def _join(family: Family, sample: str, newer: float, older: float) -> float:
    if family["type"] in COUNTED:
        # A histogram says since when it counts.
        return min(newer, older) if sample.endswith("_created") else newer + older
    name = family["name"]
    if family["type"] == "info" or name.startswith("process_"):
        return newer
    return max(newer, older) if name.endswith(("_max", "_ready")) else newer + older


def _counted(report: list[Family]) -> Iterator[Family]:
    for each in report:
        if each["type"] in COUNTED:
            # What isn't a number would stay in the sum for ever.
            yield {**each, "samples": [sample for sample in each["samples"] if isfinite(sample[2])]}


def labelled(families: list[Family], slot: str) -> list[Family]:
    """Return metrics with the label C{slot} on every number."""
    return [
        {**each, "samples": [[name, {**labels, "slot": slot}, value] for name, labels, value in each["samples"]]}
        for each in families
    ]
