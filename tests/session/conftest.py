"""Fixtures of the tests of sessions."""

from __future__ import annotations

import pytest

from ..kit.fakes import FakeHost


@pytest.fixture(params=[True, False], ids=["heard", "unheard"])
def isServerHeard(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether anybody listens to what the server emits while sending, the same comes of it."""
    monkeypatch.setattr(FakeHost, "_hasSendListeners", request.param)
