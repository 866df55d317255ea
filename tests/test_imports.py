"""The floors of the package: which room may import which (docs/architecture.md, "Floors")."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import engineio_twisted

from .kit.engines import TwistedEngine

PACKAGE = Path(engineio_twisted.__file__).parent

COMMON = {"interfaces", "transport", "observer", "logs", "clock", "turns", "ends"}
# Each room may import itself and the rooms named here, whether at run time or for types alone.
FLOORS: dict[str, set[str]] = {
    "protocol": set(),
    **{each: {"protocol", *COMMON} for each in COMMON},
    "session": {"protocol", *COMMON},
    "web": {"protocol", *COMMON},
    "transports": {"protocol", "web", *COMMON},
}
FLOORS["server"] = set(FLOORS) | {"events", "routing", "stopping"}
FLOORS["routing"] = FLOORS["server"] - {"events", "routing", "stopping"}
FLOORS["events"] = {"protocol", "session", "web", *COMMON}
FLOORS["stopping"] = {"protocol", "web", *COMMON}
FLOORS["listening"] = FLOORS["server"] | {"server"}
ABOVE = {"endpoints", "service", "operation", "testing"}
FLOORS |= {each: {*FLOORS["listening"], "listening", "__init__", *ABOVE} for each in ABOVE}
# Of the engine what is public alone.
FLOORS["socketio"] = {"__init__", "service", "testing"}
FLOORS["__main__"] = {"operation"}
FLOORS["__init__"] = {*FLOORS["listening"], "listening"}

NOT_PURE = {"twisted", "autobahn", "txaio", "socket", "time", "asyncio", "threading", "zope"}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def importsOf(module: str) -> list[tuple[str, bool]]:
    """Return every import, and whether it is of this package; those for type checkers and inside functions too."""
    path = MODULES[module]
    package = path.relative_to(PACKAGE).parent.parts
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(each.name, False) for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            where = package[: len(package) - node.level + 1]
            for each in node.names:
                name = ".".join([*where, *([node.module] if node.module else []), each.name])
                # What is imported is a module, or something in one.
                found.append((name if name in MODULES else name.rpartition(".")[0] or "__init__", True))
        elif isinstance(node, ast.ImportFrom):
            found.append((node.module or "", False))
    return found


@pytest.mark.parametrize("module", MODULES)
def test_floors(module: str) -> None:
    """A module imports its own room and those below it, typing-only imports included."""
    room = module.partition(".")[0]
    for name, isOurs in importsOf(module):
        if isOurs:
            assert name.partition(".")[0] in {room, *FLOORS[room]}, f"{module} may not import {name}"


def test_noCircle() -> None:
    """No module imports itself by way of others."""
    imports = {module: {name for name, isOurs in importsOf(module) if isOurs} for module in MODULES}
    while imports:
        free = [module for module, names in imports.items() if not names & set(imports) - {module}]
        circle = {module: sorted(names & set(imports)) for module, names in imports.items()}
        assert free, f"a circle: {circle}"
        for module in free:
            del imports[module]


@pytest.mark.parametrize("module", [each for each in MODULES if each.startswith("protocol")])
def test_pureModulesAreFreeOfIO(module: str) -> None:
    """Codecs and the handshake can be used and tested without a network, a reactor or a clock."""
    for name, isOurs in importsOf(module):
        assert isOurs or name.partition(".")[0] not in NOT_PURE, f"{module} is pure logic and may not import {name}"


@pytest.mark.parametrize("module", [each for each in MODULES if each.startswith("session")])
def test_sessionsKnowNoNetwork(module: str) -> None:
    """A session knows time as a clock and the network as a transport, so tests need neither."""
    for name, isOurs in importsOf(module):
        assert isOurs or not name.startswith(("autobahn", "twisted.web", "twisted.internet.reactor")), name


def test_nothingInstallsAReactor() -> None:
    """Whoever imports the package may still choose a reactor."""
    left = set() if TwistedEngine is not None else {"transports.engine_twisted"}
    modules = "".join(f"import engineio_twisted.{each}\n" for each in MODULES if each not in {"__init__", *left})
    check = f"import sys\n{modules}assert 'twisted.internet.reactor' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_namesThatAreRoomsToo() -> None:
    """The constants C{protocol} and C{transports} of the package are what their names say, whatever is imported."""
    check = (
        "from engineio_twisted.protocol.packet import Packet\n"
        "from engineio_twisted.transports.polling import PollingTransport\n"
        "from engineio_twisted import protocol, transports\n"
        "assert protocol == 4 and transports['polling'] is PollingTransport\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
