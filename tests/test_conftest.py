"""What a run of the tests says about itself, also where it is spread over processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from engineio_twisted import FastPaths, ServerOptions

from .conftest import pytest_report_header

ROOT = Path(__file__).parent.parent
VARIABLE = "ENGINEIO_FAST_PATHS"
ALL = ", ".join(attrs.fields_dict(FastPaths))

CONFTEST = "from tests.conftest import pytest_report_header, pytest_terminal_summary\n"
SKIPPING = """
import pytest

@pytest.mark.parametrize("number", range(20))
def test_left(number):
    pytest.skip("needs the one thing" if number % 2 else "needs the other")

def test_run():
    pass
"""


@pytest.mark.once
def test_spread(tmp_path: Path) -> None:
    """Over processes too the first lines name the fast paths, and the last count all that was left out, by reason."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(SKIPPING)
    # Not what belongs to the run of this test, in which it is in a worker and may be measured.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV"))}
    environment |= {"PYTHONPATH": str(ROOT), VARIABLE: "none"}
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
    assert re.findall("^fast paths: .*", said, re.MULTILINE) == ["fast paths: none"]
    left = re.findall("^LEFT OUT: .*", said, re.MULTILINE)
    assert sorted(left) == ["LEFT OUT: 10 tests: needs the one thing", "LEFT OUT: 10 tests: needs the other"]


@pytest.mark.parametrize(("wanted", "said"), [(None, ALL), ("none", "none"), ("frames,http", "frames, http")])
def test_fastPaths(monkeypatch: pytest.MonkeyPatch, wanted: str | None, said: str) -> None:
    """They are named as a server takes them."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if wanted is not None:
        monkeypatch.setenv(VARIABLE, wanted)
    assert pytest_report_header() == f"fast paths: {said}"


def test_noSuchFastPath(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip of the pen ends the run before its first test."""
    monkeypatch.setenv(VARIABLE, "non")
    with pytest.raises(pytest.UsageError, match=f"{VARIABLE}.*non"):
        pytest_report_header()


def test_thisRun() -> None:
    """This run is the one that was asked for: with all of them, where the environment says nothing, or with none."""
    wanted = os.environ.get(VARIABLE)
    if wanted not in (None, "none"):
        pytest.skip("with some of the fast paths only")
    assert set(attrs.astuple(ServerOptions().fastPaths)) == {wanted is None}
