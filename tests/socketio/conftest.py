"""What the tests of the Socket.IO layer share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent


@pytest.fixture
def mayLog(leavesNothingBehind: None, loggedErrors: list[LogEvent]) -> Iterator[None]:
    """For a test in which the application fails, which is logged."""
    yield
    assert loggedErrors != []
    loggedErrors.clear()
