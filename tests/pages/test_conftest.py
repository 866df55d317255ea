"""What a run of the tests says about itself, also where it is spread over processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    """A test, and the marks it has."""

    def __init__(self, *marks: str) -> None:
        self.marks = [*marks]

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None

    def add_marker(self, name: str) -> None:
        self.marks.append(name)


def test_unmeasured() -> None:
    """What takes long is marked as what pytest-cov doesn't measure; nothing else is, and no test is left out."""
    items: list[Any] = [Item(), Item("everySite"), Item("no_cover"), *(Item(mark) for mark in UNMEASURED)]
    left = [*items]
    pytest_collection_modifyitems(left)
    assert left == items
    assert [each.marks for each in items[:3]] == [[], ["everySite"], ["no_cover"]]
    assert [each.marks for each in items[3:]] == [[mark, "no_cover"] for mark in UNMEASURED]


def test_apart() -> None:
    """What `make test` leaves to `make test-slow` is slow too: whoever leaves that out leaves out both."""
    item: Any = Item("apart")
    pytest_collection_modifyitems([item])
    assert item.marks == ["apart", "slow", "no_cover"]


CONFTEST_MEASURING = "from tests.conftest import pytest_collection, pytest_runtest_call\n"
MEASURED = """
import sys
import pytest
import measured

@pytest.fixture
def prepared():
    measured.one()
    yield
    measured.one()

@pytest.mark.no_cover
def test_unmeasured(prepared):
    assert sys.gettrace() is None
    measured.one()

def test_measured(prepared):
    assert sys.gettrace() is not None
    measured.other()
"""


def test_coverage(tmp_path: Path) -> None:
    """A run measures the tests that aren't marked and the imports of the package, and nothing else."""
    (tmp_path / "conftest.py").write_text(CONFTEST_MEASURING)
    (tmp_path / "measured.py").write_text("def one():\n    pass\n\n\ndef other():\n    pass\n")
    (tmp_path / "test_some.py").write_text(MEASURED)
    (tmp_path / "some.ini").write_text("[pytest]\nmarkers =\n    none\n")
    (tmp_path / "coverage.ini").write_text(
        "[report]\ninclude =\n    measured.py\n    */engineio_twisted/interfaces.py\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV"))}
    environment |= {"PYTHONPATH": str(ROOT)}
    settings = ["-c", "some.ini", "-p", "no:cacheprovider", "-p", "no:anyio", "--numprocesses=1"]
    measure = ["--cov=measured", "--cov=engineio_twisted", "--cov-config=coverage.ini", "--cov-report=term-missing"]
    said = subprocess.run(
        [sys.executable, "-m", "pytest", *settings, *measure, "test_some.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    ).stdout
    assert re.search(r"^measured.py +4 +3 +25% +1-5$", said, re.MULTILINE), said
    assert re.search(r"engineio_twisted/interfaces.py +[1-9]\d+ +0 +100%$", said, re.MULTILINE), said
