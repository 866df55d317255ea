"""docs/testing.md: each block of code runs as it stands, under pytest, under pytest-twisted and under trial."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogEvent

from engineio_twisted.testing import MemoryServer

from ..kit.markdown import blocksOf

ROOT = Path(__file__).parents[2]
PAGE = blocksOf(ROOT / "docs" / "testing.md")
BLOCKS = [each.text for each in PAGE if not each.isCommands]
COMMANDS = {each.text.split()[0]: each.text.split() for each in PAGE if each.isCommands}
FILES = {match[1]: each for each in BLOCKS if (match := re.match(r"# (\w+\.py)\n", each))}
PARTS = [each for each in BLOCKS if each not in FILES.values()]


def run(folder: Path, *command: str) -> str:
    """Run a program of this environment in a folder; return what it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
    process = subprocess.run(
        [Path(sys.executable).with_name(command[0]), *command[1:]],
        cwd=folder,
        env=environment | {"PYTHONWARNINGS": "error"},
        capture_output=True,
        timeout=300,
    )
    said = (process.stdout + process.stderr).decode()
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page, as whoever follows it writes them."""
    folder = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    assert set(FILES) == {"counting.py", "test_counting.py", "test_counting_trial.py"}
    return folder


@pytest.mark.parametrize("plugin", [[], ["-p", "no:pytest_twisted"], ["-p", "no:twisted"]], ids=str)
def test_pytest(project: Path, plugin: list[str]) -> None:
    """The fixture is there without anybody's doing, with pytest-twisted or without."""
    said = run(project, *COMMANDS["pytest"], "-q", "-p", "no:cacheprovider", "-W", "error", *plugin)
    assert "1 passed" in said
    assert "warning" not in said


def test_trial(project: Path, tmp_path: Path) -> None:
    """And without pytest."""
    *command, tested = COMMANDS["python"]
    said = run(project, *command, f"--temp-directory={tmp_path / 'trial'}", tested)
    assert "PASSED (successes=1)" in said


def test_thePluginIsCheap(tmp_path: Path) -> None:
    """Whoever has the package installed and runs tests of something else imports nothing of it, and no reactor."""
    (tmp_path / "test_else.py").write_text(
        "import sys\n\n\ndef test_else():\n"
        "    assert 'pytest_engineio_twisted' in sys.modules\n"
        "    assert not {'engineio_twisted', 'twisted.internet.reactor', 'autobahn'} & set(sys.modules)\n"
    )
    assert "1 passed" in run(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:twisted")


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.strip().splitlines()[0])
def test_parts(part: str, leavesNothingBehind: None, loggedErrors: list[LogEvent]) -> None:
    """The other blocks do what they say, in a test that has the application and a kit."""
    names: dict[str, Any] = {"MemoryServer": MemoryServer}
    exec(compile(FILES["counting.py"], "counting.py", "exec"), names)
    with MemoryServer(names["application"]) as kit:
        names["kit"] = kit
        exec(compile(part, "testing.md", "exec"), names)
    if "KeyError" in part:
        assert [each["log_failure"].type for each in loggedErrors] == [KeyError]
        loggedErrors.clear()


def test_allParts() -> None:
    """None is overlooked."""
    assert len(PARTS) == 6
