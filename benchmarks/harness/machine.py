"""Where and with what something was measured."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from .processes import ROOT, cores, findCompiler
from .servers import PEERS
from .suites import Suite


def describe(suite: Suite) -> dict[str, str]:
    """Return the machine and the versions of all that takes part, by name."""
    python, node = suite.packages
    versions = {name: _installed(name) for name in ("engineio_twisted", "Twisted", "autobahn")}
    requirements = (PEERS / "requirements.txt").read_text()
    for name in python:
        match = re.search(rf"^{name}==(\S+)", requirements, re.MULTILINE)
        assert match is not None, name
        versions[name] = match[1]
    locked = json.loads((PEERS / "package-lock.json").read_text())["packages"]
    for name in node:
        versions[name] = locked[f"node_modules/{name}"]["version"]
    return {
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "bound to cores": "no" if cores() is None else "yes",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Node.js": _said("node", "--version").lstrip("v"),
        "compiler": _said(findCompiler(), "--version").split("\n")[0],
        **versions,
    }


def _commit() -> str:
    """Return what was measured, where this is a repository."""
    said = _said("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    return said or "unknown"


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    match = (
        re.search(r"^model name\s*:\s*(.+)$", information.read_text(), re.MULTILINE) if information.exists() else None
    )
    return match[1] if match else platform.machine()


def _said(*command: str) -> str:
    program = shutil.which(command[0])
    if program is None:
        return "not installed"
    said = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=20)  # noqa: S603
    return said.stdout.strip()
