"""What a run of the tests says about itself, also where it is spread over processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ..conftest import UNMEASURED, pytest_collection_modifyitems

ROOT = Path(__file__).parents[2]

CONFTEST = "from tests.conftest import pytest_terminal_summary\n"
SKIPPING = """
import pytest

@pytest.mark.parametrize("number", range(20))
def test_left(number):
    pytest.skip("needs the one thing" if number % 2 else "needs the other")

def test_run():
    pass
"""


def test_spread(tmp_path: Path) -> None:
    """Over processes too the last lines count all that was left out, by reason."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(SKIPPING)
    # Not what belongs to the run of this test, in which it is in a worker and may be measured.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV"))}
    environment |= {"PYTHONPATH": str(ROOT)}
    settings = ["-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider"]
    said = subprocess.run(
        [sys.executable, "-m", "pytest", *settings, "--numprocesses=2", tmp_path],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    ).stdout
    left = re.findall("^LEFT OUT: .*", said, re.MULTILINE)
    assert sorted(left) == ["LEFT OUT: 10 tests: needs the one thing", "LEFT OUT: 10 tests: needs the other"]


class Item:
    """A test, and the one mark it may have."""

    def __init__(self, mark: str | None) -> None:
        self._mark = mark

    def get_closest_marker(self, name: str) -> str | None:
        return name if name == self._mark else None


def chosen(items: list[Any], part: str | None) -> tuple[list[Any], list[Any]]:
    """What is left of some tests in a part of the run, and what is said to be left out."""
    out: list[Any] = []
    config: Any = SimpleNamespace(
        getoption=lambda name: part, hook=SimpleNamespace(pytest_deselected=lambda items: out.extend(items))
    )
    left = [*items]
    pytest_collection_modifyitems(config, left)
    return left, out


def test_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is in one of the two parts, that of its marks."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    items = [Item(mark) for mark in (None, *UNMEASURED, "everySite")]
    measured, unmeasured = [items[0], items[-1]], items[1:-1]
    assert chosen(items, "measured") == (measured, unmeasured)
    assert chosen(items, "unmeasured") == (unmeasured, measured)
    assert chosen(items, None) == (items, [])


@pytest.mark.parametrize("slow", [0, 1, 5, 14, 39])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_theLongestFirst(monkeypatch: pytest.MonkeyPatch, processes: int, slow: int) -> None:
    """No test is lost; each process gets its share of the long ones, and begins with it."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", str(processes))
    # The long ones are neighbours, as those of a module are.
    items = [Item("slow" if number >= 40 - slow else None) for number in range(40)]
    left, out = chosen(items, None)
    assert out == []
    assert len(left) == len({*left}) == len(items)
    marks = [item.get_closest_marker("slow") is not None for item in left]
    count = sum(marks)
    start = 0
    for number in range(processes):
        size = (len(items) - start) // (processes - number)
        share = len(range(number, count, processes))
        assert marks[start : start + size] == [True] * share + [False] * (size - share)
        start += size
