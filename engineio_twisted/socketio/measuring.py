"""The numbers of a part of the layer, beside those of its server."""

from __future__ import annotations

from collections.abc import Callable

from .. import Measure, ServerObserver


class Measuring(ServerObserver):
    """
    An observer that shows numbers, and hears nothing.

    @param measure: returns the numbers, each time they are asked for.
    """

    def __init__(self, measure: Callable[[], list[Measure]]) -> None:
        self._measure = measure

    def measures(self) -> list[Measure]:
        return self._measure()
