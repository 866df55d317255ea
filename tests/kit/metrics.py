"""The numbers of a page for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families as plainText

from engineio_twisted import Measure, ServerObserver

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


def numbersOf(text: str, parser: Any = plainText) -> Numbers:
    """Every number of an answer, by its name and labels, each there once."""
    samples = [each for family in parser(text) for each in family.samples]
    found = {(each.name, frozenset(each.labels.items())): each.value for each in samples}
    assert len(found) == len(samples)
    return found


def number(numbers: Numbers, name: str, /, **labels: str) -> float:
    return numbers[name, frozenset(labels.items())]


class Layer(ServerObserver):
    """An observer of a layer on top of a server."""

    def __init__(self, *measures: Measure) -> None:
        self._measures = measures

    def measures(self) -> list[Measure]:
        return [*self._measures]
