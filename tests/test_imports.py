"""The floors of the package: which room may import which (docs/architecture.md, "Floors")."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import engineio_twisted

from .kit.engines import TwistedEngine

# Reads sources, and runs nothing of the package in this process.
pytestmark = pytest.mark.no_cover

PACKAGE = Path(engineio_twisted.__file__).parent

COMMON = {"interfaces", "transport", "observer", "debug", "logs", "clock", "turns", "ends"}
# Each room may import itself and the rooms named here, whether at run time or for types alone.
FLOORS: dict[str, set[str]] = {
    "protocol": set(),
    **{each: {"protocol", *COMMON} for each in COMMON},
    "session": {"protocol", *COMMON},
    "web": {"protocol", *COMMON},
    "transports": {"protocol", "web", *COMMON},
}
FLOORS["server"] = set(FLOORS) | {"events", "exchange", "routing", "stopping"}
FLOORS["routing"] = FLOORS["server"] - {"events", "exchange", "routing", "stopping"}
FLOORS["exchange"] = {"protocol", "session", *COMMON}
FLOORS["events"] = {"protocol", "session", "web", *COMMON}
# For the layers that connect processes; the engine itself has no use for it.
FLOORS["redis"] = {"protocol", *COMMON}
FLOORS["stopping"] = {"protocol", "web", *COMMON}
FLOORS["listening"] = FLOORS["server"] | {"server"}
ABOVE = {"endpoints", "service", "operation", "testing"}
FLOORS |= {each: {*FLOORS["listening"], "listening", "__init__", *ABOVE} for each in ABOVE}
# Of the engine what is public alone: `test_socketIOImportsWhatIsPublic`.
FLOORS["socketio"] = {"__init__", "endpoints", "redis", "service", "testing"}
# Several processes: what is public, the hooks of `web`, and the command whose service they run.
FLOORS["workers"] = {*FLOORS["listening"], "listening", "__init__", "service", "operation"} - {"session", "transports"}
# Two modules alone: `test_whoImportsWorkers`.
for each in ("operation", "testing"):
    FLOORS[each].add("workers")
# A session at the other end: never the server, nor what serves it.
FLOORS["client"] = {"protocol", "session", "transports", *COMMON}
# One module, for descriptions of its endpoint.
FLOORS["operation"].add("client")
FLOORS["__main__"] = {"operation"}
FLOORS["__init__"] = {*FLOORS["listening"], "listening"}

NOT_PURE = {"twisted", "autobahn", "txaio", "socket", "time", "asyncio", "threading", "zope"}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


@cache
def treeOf(module: str) -> ast.Module:
    """Return the source of a module as a tree."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def importsOf(module: str) -> list[tuple[str, bool]]:
    """Return every import, and whether it is of this package; those for type checkers and inside functions too."""
    package = MODULES[module].relative_to(PACKAGE).parent.parts
    found = []
    for node in ast.walk(treeOf(module)):
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
        else:
            assert name.partition(".")[0] != PACKAGE.name, f"{module}: write imports of this package with dots"


def test_noCircle() -> None:
    """No module imports itself by way of others."""
    imports = {module: {name for name, isOurs in importsOf(module) if isOurs} for module in MODULES}
    while imports:
        free = [module for module, names in imports.items() if not names & set(imports) - {module}]
        circle = {module: sorted(names & set(imports)) for module, names in imports.items()}
        assert free, f"a circle: {circle}"
        for module in free:
            del imports[module]


PURE = [
    *(each for each in MODULES if each.startswith("protocol")),
    *(f"socketio.{each}" for each in ("errors", "packet", "binary", "msgpack")),
]


@pytest.mark.parametrize("module", PURE)
def test_pureModulesAreFreeOfIO(module: str) -> None:
    """Codecs and the handshake can be used and tested without a network, a reactor or a clock."""
    for name, isOurs in importsOf(module):
        assert isOurs or name.partition(".")[0] not in NOT_PURE, f"{module} is pure logic and may not import {name}"


@pytest.mark.parametrize("module", [each for each in MODULES if each.startswith("session")])
def test_sessionsKnowNoNetwork(module: str) -> None:
    """A session knows time as a clock and the network as a transport, so tests need neither."""
    for name, isOurs in importsOf(module):
        assert isOurs or not name.startswith(("autobahn", "twisted.web", "twisted.internet.reactor")), name


# Socket.IO, which uses the engine as any application does

LAYER = [each for each in MODULES if each.partition(".")[0] == "socketio"]
# A client is at the other end: the layer has none.
ENGINE = [each for each in MODULES if each.partition(".")[0] not in ("socketio", "client")]
OF_PYTHON = {"_replace", "_asdict"}


def publicNames(module: str) -> set[str]:
    """Return what a module of the engine offers to applications."""
    name = PACKAGE.name if module == "__init__" else f"{PACKAGE.name}.{module}"
    listed = getattr(importlib.import_module(name), "__all__", None)
    if listed is not None:
        return {*listed}
    kinds = ast.ClassDef | ast.FunctionDef
    return {each.name for each in treeOf(module).body if isinstance(each, kinds) and not each.name.startswith("_")}


@pytest.mark.parametrize("module", LAYER)
def test_socketIOImportsWhatIsPublic(module: str) -> None:
    """Of the engine the layer imports the names that applications are offered, and the test kit for its own alone."""
    package = MODULES[module].relative_to(PACKAGE).parent.parts
    for node in ast.walk(treeOf(module)):
        if not isinstance(node, ast.ImportFrom) or node.level <= len(package):
            # Another package's, or one of the layer's own.
            continue
        whence = node.module or "__init__"
        assert whence in FLOORS["socketio"], f"{module} may not import {whence}"
        assert whence != "testing" or module.startswith("socketio.testing"), f"{module} is no part of the test kit"
        hidden = {each.name for each in node.names} - publicNames(whence)
        assert not hidden, f"{module} imports {sorted(hidden)}, which {whence} doesn't offer"


def privateNames(tree: ast.AST) -> set[str]:
    """Return the private names that classes give to themselves and to their instances."""
    found: set[str] = set()
    for owner in ast.walk(tree):
        if not isinstance(owner, ast.ClassDef):
            continue
        for node in owner.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {each.id for each in targets if isinstance(each, ast.Name)}
        found |= slots(owner)
        found |= {
            each.attr
            for each in ast.walk(owner)
            if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and isOwn(each)
        }
    return {each for each in found if isPrivate(each)}


@cache
def privateNamesOf(*modules: str) -> set[str]:
    """Return the private names of all classes of some modules."""
    return {name for each in modules for name in privateNames(treeOf(each))}


def slots(tree: ast.AST) -> set[str]:
    """Return the names in every C{__slots__}."""
    return {
        each.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__slots__" for target in node.targets)
        for each in ast.walk(node.value)
        if isinstance(each, ast.Constant)
    }


def isPrivate(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in {"_", *OF_PYTHON}


def isOwn(node: ast.Attribute) -> bool:
    """Return whether an attribute is one of C{self} or C{cls}."""
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def reached(tree: ast.AST, depth: int, own: set[str], engine: set[str]) -> set[str]:
    """
    Return the private names by which a module of the layer may reach into an object of the engine.

    @param depth: how many folders below the package the module is.
    @param own: the private names of the layer's classes.
    @param engine: those of the engine's. A name of both is for C{self} alone, as another object could be of either;
        in a class that extends one of the engine's, not even for that.
    """
    imported = {
        each.asname or each.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level > depth
        for each in node.names
    }
    extending = [
        each
        for each in ast.walk(tree)
        if isinstance(each, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id in imported for base in each.bases)
    ]
    of = {id(node) for each in extending for node in ast.walk(each)}
    named = engine - slots(tree)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isPrivate(node.attr):
            isFine = node.attr in own and (node.attr not in engine or (isOwn(node) and id(node) not in of))
            found |= set() if isFine else {node.attr}
        elif isinstance(node, ast.Constant) and node.value in named:
            # As getattr takes it.
            found.add(node.value)
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("server._router", {"_router"}),
        ("server.opts", set()),
        ("self.engine._router.handle()", {"_router"}),
        ("self._own; other._own", set()),
        ("self._both", set()),
        ("other._both", {"_both"}),
        ("self._router", {"_router"}),
        ("getattr(server, '_router')", {"_router"}),
        ("__slots__ = ('_both', '_own')", set()),
        ("packet._replace(id=1); x.__class__", set()),
        ("from .. import Server\nclass Mine(Server):\n def f(self): self._both", {"_both"}),
        ("from .. import Server\nclass Mine(Server):\n def f(self): self._own", set()),
        ("from .mine import Base\nclass Mine(Base):\n def f(self): self._both", set()),
        ("lambda socket: socket._session", {"_session"}),
    ],
)
def test_whatReaches(source: str, expected: set[str]) -> None:
    """The test behind this one sees it if a module reaches into the engine, and only then."""
    assert reached(ast.parse(source), 1, {"_own", "_both"}, {"_router", "_both", "_session"}) == expected


@pytest.mark.parametrize("module", LAYER)
def test_socketIOUsesNothingPrivate(module: str) -> None:
    """No private attribute of an object of the engine."""
    engine, own = privateNamesOf(*ENGINE), privateNamesOf(*LAYER)
    assert {"_router", "_handlers", "_factory"} <= engine
    depth = len(MODULES[module].relative_to(PACKAGE).parent.parts)
    found = reached(treeOf(module), depth, own, engine)
    assert not found, f"{sorted(found)} of {module}: the engine has it, or nobody. One of both needs another name"


def test_whatImportingItImports() -> None:
    """The engine alone doesn't import it; and it needs no extra, and no reactor."""
    others = [each for each in LAYER if each.rpartition(".")[2] not in ("redis", "msgpack")]
    check = (
        "import sys\n"
        "import engineio_twisted\n"
        "assert not [each for each in sys.modules if each.startswith('engineio_twisted.socketio')]\n"
        "import engineio_twisted.socketio\n"
        "assert not {'txredisapi', 'msgpack', 'twisted.internet.reactor'} & {*sys.modules}\n"
        "sys.modules['txredisapi'] = sys.modules['msgpack'] = None\n"
        + "".join(f"import engineio_twisted.{each}\n" for each in others)
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_whoImportsWorkers() -> None:
    """The command, where the option is there, and the test kit, where a cluster is made: nothing else."""
    users = {module for module in MODULES for name, _ in importsOf(module) if name.partition(".")[0] == "workers"}
    assert {each for each in users if not each.startswith("workers")} <= {"operation.tap", "testing.cluster"}
    check = (
        "import sys\n"
        "import engineio_twisted.testing, engineio_twisted.socketio.testing, engineio_twisted.service\n"
        "assert not [each for each in sys.modules if each.startswith('engineio_twisted.workers')]\n"
        "from engineio_twisted.testing import MemoryCluster\n"
        "assert 'engineio_twisted.workers.cluster' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


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
