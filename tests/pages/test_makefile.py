"""The Makefile: a part of the tests that fails hides none of the others."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """#!/bin/sh
echo "ran $(basename "$0") $*"
for each in $FAILING; do case "$(basename "$0") $*" in *$each*) exit 1;; esac; done
"""

PARTS = {
    "ruff check": "lint",
    "ruff format": "lint",
    "mypy": "lint",
    "--cov": "test-measured",
}


@pytest.mark.parametrize(
    ("failing", "named"),
    [
        ("", ""),
        ("mypy", "lint"),
        ("check", "lint"),
        ("--cov", "test-measured"),
        ("mypy --cov", "lint test-measured"),
    ],
)
def test_parts(tmp_path: Path, failing: str, named: str) -> None:
    """All are run, whichever fails; those that failed are named, and the command fails if there are any."""
    for name in ("Makefile", "setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "ruff", "mypy"):
        (programs / name).write_text(PROGRAM)
        (programs / name).chmod(0o755)
    (tmp_path / ".venv" / "test").touch()
    result = subprocess.run(
        ["make", "test"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "FAILING": failing},
        capture_output=True,
        text=True,
    )
    said = [each for each in result.stdout.splitlines() if each.startswith("ran ")]
    for part in PARTS:
        assert [part in each for each in said].count(True) == 1, (part, result.stdout)
    assert (result.returncode == 0) == (not named)
    assert [each for each in result.stderr.splitlines() if each.startswith("make test:")] == (
        [f"make test: failed: {named}"] if named else []
    )
