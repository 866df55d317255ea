"""The programs of examples/, as processes."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from .clients import pythonPath

LOOPBACK = "tcp:0:interface=127.0.0.1"


PATIENCE = 30


# Runs a module with the rest of the command line, and lets it neither connect nor wait.
GUARD = """
import runpy, sys
def refuse(event, args):
    if event in ("socket.bind", "socket.connect", "time.sleep"):
        raise RuntimeError(f"{event}{args}")
sys.addaudithook(refuse)
module, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""

# But Twisted's own use of its own, on importing twisted.web.static.
WARNINGS = ("-W", "error", "-W", "ignore:twisted.web.resource._Unsafe:DeprecationWarning")


def guarded(folder: Path, *command: str) -> tuple[int, str]:
    """Run an example's own tests, which are in a folder, in memory; return the status and what was said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST"))}
    process = subprocess.run(
        [sys.executable, *WARNINGS, "-c", GUARD, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        timeout=300,
        check=False,
    )
    return process.returncode, (process.stdout + process.stderr).decode()


@attrs.frozen
class Running:
    """
    An example in a process of its own.

    @ivar printed: what it said up to the line with its address.
    """

    process: subprocess.Popen[str]
    url: str
    printed: str

    def stop(self, code: int = 0) -> None:
        """What Ctrl-C does: the program ends soon, with that exit code, and has nothing to complain of."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=PATIENCE)
        assert (self.process.returncode, err) == (code, ""), out

    def kill(self) -> None:
        """End the program as a crash does: without a word to its clients."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running(arguments: Sequence[str], folder: Path | None = None) -> Iterator[Running]:
    """Start a program, and wait for the line that names its address. It doesn't outlive the context."""
    # A terminal's output isn't buffered either.
    environment = {**os.environ, **pythonPath(), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        arguments,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        try:
            yield Running(process, *addressFrom(process))
        finally:
            process.kill()


def addressFrom(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Read what the program prints until there is an address in it; return that, and all that was read."""
    assert process.stdout is not None
    printed = ""
    # Not readline(): the text that it has read ahead would be invisible to select().
    while select.select([process.stdout], [], [], PATIENCE)[0]:
        new = os.read(process.stdout.fileno(), 4096).decode()
        printed += new
        if found := re.search(r"https?://\S+", printed):
            return found[0], printed
        if not new:
            break
    process.kill()
    pytest.fail(f"no address: {printed}\n{process.communicate()[1]}")


def refusal(arguments: Sequence[str]) -> str:
    """What a program that can't run says about it: one line, and an exit code."""
    finished = subprocess.run(
        arguments, env={**os.environ, **pythonPath()}, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert finished.returncode == 1
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    return line
