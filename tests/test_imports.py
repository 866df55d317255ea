"""The architecture, as a test: which module may know of which (docs/architecture.md, "Modules")."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import engineio_twisted

from .engines import TwistedEngine

PACKAGE = Path(engineio_twisted.__file__).parent

pytestmark = pytest.mark.once

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "origins": set(),
    "proxies": {"errors", "origins"},
    "options": {"errors", "origins", "proxies"},
    "limits": {"errors", "proxies"},
    "packet": {"errors"},
    "payload_v3": {"packet", "errors"},
    "payload": {"packet", "payload_v3", "errors"},
    "headers": {"options", "origins"},
    "handshake": {"options", "headers", "packet", "errors"},
    "ends": set(),
    "debug": set(),
    "logs": set(),
    "emitter": set(),
    "clock": set(),
    "observer": {"errors", "logs"},
    "metrics": {"observer"},
    "health": set(),
    "transport": {"ends", "observer", "packet", "payload", "errors"},
    "streams": {"ends", "logs", "transport"},
    "turns": {"clock"},
    "polling": {"turns", "debug", "ends", "transport", "packet", "payload", "headers", "errors"},
    "websocket": {"clock", "turns", "debug", "transport", "packet", "payload", "errors"},
    "deflate": {"options"},
    "engine_autobahn": {"websocket", "turns", "transport", "deflate", "logs"},
    "engine_twisted": {"websocket", "turns", "transport"},
    "session_work": {"emitter", "transport", "errors"},
    "heartbeats": {"clock", "options", "transport"},
    "socket": {
        *("clock", "debug", "emitter", "ends", "heartbeats", "session_work", "transport", "packet", "handshake"),
        *("options", "limits", "proxies", "errors"),
    },
    "factory": {"debug", "socket", "emitter", "transport", "packet", "handshake", "options", "limits", "errors"},
    "request_headers": set(),
    "resource": {
        "clock",
        "ends",
        "request_headers",
        "streams",
        "transport",
        "turns",
        "handshake",
        "logs",
        "options",
        "errors",
    },
    "ports": {"ends", "logs", "resource"},
    "stopping": {"ends", "errors", "ports", "transport"},
    "connection_group": set(),
    "fast_http": {"connection_group", "ends", "request_headers", "resource", "transport", "options"},
    "configuration": {"options", "errors"},
    "static": {"logs"},
    "descriptions": set(),
    "access_log": set(),
    "memory_network": set(),
    "memory_client": {"memory_network", "websocket"},
    "tls": {"descriptions"},
}
# What needs an extra is imported by those alone who ask for it.
MEMORY = {"memory_network", "memory_client", "testing"}
EVERYTHING = {*MAY_IMPORT, "server"} - {"engine_twisted", "metrics", "tls", *MEMORY}
MAY_IMPORT["endpoints"] = {
    *("configuration", "errors", "descriptions", "options", "proxies", "server", "socket", "transport"),
}
MAY_IMPORT |= {
    "server": EVERYTHING - {"server"},
    "service": EVERYTHING,
    "tap": {*EVERYTHING, "service", "metrics"},
    "testing": (EVERYTHING | MEMORY) - {"testing"},
    "__init__": EVERYTHING,
}

PURE = ["errors", "origins", "proxies", "options", "limits", "packet", "payload_v3", "payload", "headers", "handshake"]
NOT_PURE = {"twisted", "autobahn", "txaio", "socket", "time", "asyncio", "threading"}


def importsOf(module: str) -> list[str]:
    """Every import that runs, at the top or inside a function; those for type checkers alone don't."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    found = []
    forTypes = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in forTypes:
            continue
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            module_ = "." * node.level + (node.module or "")
            found += [module_] if node.module else [f".{each.name}" for each in node.names]
    return found


MODULES = sorted(each.stem for each in PACKAGE.glob("*.py"))


def test_everyModuleHasItsRule() -> None:
    """A new module gets a line in the table, here and in the documentation."""
    assert set(MODULES) == set(MAY_IMPORT)


@pytest.mark.parametrize("module", MODULES)
def test_importsFollowTheTable(module: str) -> None:
    """A module knows only of those below it."""
    for name in importsOf(module):
        if name.startswith("."):
            assert name[1:] in MAY_IMPORT[module], f"{module} may not import {name[1:]}: it would turn the layers round"


@pytest.mark.parametrize("module", PURE)
def test_pureModulesAreFreeOfIO(module: str) -> None:
    """Codecs and the handshake can be used and tested without a network, a reactor or a clock."""
    for name in importsOf(module):
        assert name.partition(".")[0] not in NOT_PURE, f"{module} is pure logic and may not import {name}"


@pytest.mark.parametrize("module", ["socket", "factory"])
def test_sessionsKnowNoNetwork(module: str) -> None:
    """A session knows time as a clock and the network as a transport, so tests need neither."""
    for name in importsOf(module):
        assert not name.startswith(("autobahn", "twisted.web", "twisted.internet.reactor")), f"{module} imports {name}"


def test_nothingInstallsAReactor() -> None:
    """Whoever imports the package may still choose a reactor."""
    left = {"__init__"} if TwistedEngine is not None else {"__init__", "engine_twisted"}
    modules = "".join(f"import engineio_twisted.{each}\n" for each in MODULES if each not in left)
    check = f"import sys\n{modules}assert 'twisted.internet.reactor' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
