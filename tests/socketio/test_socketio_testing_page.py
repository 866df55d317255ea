"""docs/socketio-testing.md: each block of code runs as it stands, under pytest and under trial."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogEvent

from engineio_twisted.socketio.testing import MemorySocketIO

from ..kit.markdown import blocksOf
from ..testing.test_testing_page import run

PAGE = blocksOf(Path(__file__).parents[2] / "docs" / "socketio-testing.md")
BLOCKS = [each.text for each in PAGE if not each.isCommands]
COMMANDS = {each.text.split()[0]: each.text.split() for each in PAGE if each.isCommands}
FILES = {match[1]: each for each in BLOCKS if (match := re.match(r"# (\w+\.py)\n", each))}
PARTS = [each for each in BLOCKS if each not in FILES.values()]


def test_files(tmp_path: Path) -> None:
    """The fixture is there under pytest, without pytest-twisted; trial needs none."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    assert set(FILES) == {"rooms.py", "test_rooms.py", "test_rooms_trial.py"}
    said = run(tmp_path, *COMMANDS["pytest"], "-q", "-p", "no:cacheprovider", "-W", "error", "-p", "no:twisted")
    assert "1 passed" in said
    assert "warning" not in said
    *command, tested = COMMANDS["python"]
    assert "PASSED (successes=1)" in run(tmp_path, *command, f"--temp-directory={tmp_path / 'trial'}", tested)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.strip().splitlines()[0])
def test_parts(part: str, leavesNothingBehind: None, loggedErrors: list[LogEvent]) -> None:
    """The other blocks do what they say, in a test that has the application and a kit."""
    names: dict[str, Any] = {"MemorySocketIO": MemorySocketIO}
    exec(compile(FILES["rooms.py"], "rooms.py", "exec"), names)
    with MemorySocketIO(names["application"]) as kit:
        names["kit"] = kit
        exec(compile(part, "socketio-testing.md", "exec"), names)
    if "KeyError" in part:
        assert [each["log_failure"].type for each in loggedErrors] == [KeyError]
        loggedErrors.clear()


def test_allParts() -> None:
    """None is overlooked."""
    assert len(PARTS) == 5
