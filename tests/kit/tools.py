"""Tools that some tests need, and not every machine has."""

from __future__ import annotations

import os

import pytest


def require(present: bool, what: str) -> None:
    """Skip if a tool is missing; under CI, where everything is installed, fail."""
    if present:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI may not skip what needs it")
    pytest.skip(f"needs {what}")
