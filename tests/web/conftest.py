"""Fixtures of the tests of the twisted.web side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent


@pytest.fixture
def mayLog(leavesNothingBehind: None, loggedErrors: list[LogEvent]) -> Iterator[None]:
    """For a test in which errors are logged: they are compared as all else is."""
    yield
    loggedErrors.clear()
