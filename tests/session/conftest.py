"""Fixtures of the tests of sessions."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from ..kit.fakes import FakeHost


@pytest.fixture(params=[True, False], ids=["heard", "unheard"])
def isServerHeard(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether anybody listens to what the server emits while sending, the same comes of it."""
    monkeypatch.setattr(FakeHost, "_hasSendListeners", request.param)


@pytest.fixture
def warnings() -> Any:
    """The warnings logged during the test."""
    seen: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.warn:
            seen.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)
