"""The README: its program and its length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

from ..kit.markdown import blocksOf

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def firstProgram() -> str:
    """The first program in the README."""
    return next(each.text for each in blocksOf(README) if each.language == "python")


def test_firstProgram(freePort: int) -> None:
    """It runs as it stands, prints where it listens, and opens sessions there."""
    program = firstProgram()
    assert "listen(3000)" in program
    command = [sys.executable, "-u", "-c", program.replace("3000", str(freePort))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said == f"Listening on http://127.0.0.1:{freePort}/engine.io/\n"
            with urlopen(f"{said.split()[-1]}?EIO=4&transport=polling", timeout=60) as response:
                assert response.read().startswith(b'0{"sid":"')
        finally:
            process.kill()


def test_length() -> None:
    """It is read in a minute."""
    assert 60 <= len(README.read_text(encoding="utf-8").splitlines()) <= 80
