"""The first thing a newcomer tries."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from ..kit.markdown import blocksOf

README = Path(__file__).parents[2] / "README.md"


def firstProgram() -> str:
    """The first block of code in the README."""
    return blocksOf(README)[0].text


def test_firstProgram(freePort: int) -> None:
    """It runs as it stands, and opens sessions."""
    program = firstProgram()
    assert "listen(3000)" in program
    process = subprocess.Popen([sys.executable, "-c", program.replace("3000", str(freePort))])
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{freePort}/engine.io/?EIO=4&transport=polling", timeout=60) as response:
                    assert response.read().startswith(b'0{"sid":"')
                    break
            except URLError:
                assert process.poll() is None, "it ended by itself"
                assert time.monotonic() < deadline, "it doesn't listen"
                time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
