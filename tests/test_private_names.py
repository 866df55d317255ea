"""Private names of Twisted and Autobahn: where they may stand (docs/architecture/private-names.md)."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

import engineio_twisted

PACKAGE = Path(engineio_twisted.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture" / "private-names.md"
# Reads sources, and runs nothing of the package.
pytestmark = pytest.mark.no_cover

# Of Python itself.
OF_PYTHON = {"_exit", "_getframe", "_replace"}


def rows() -> list[tuple[list[str], str, list[str]]]:
    """Return the names, whose they are, and the modules of ours that use them, of each row of the page."""
    cells = [
        [each.strip() for each in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    return [(re.findall(r"`(\w+)`", names), of, re.findall(r"`([\w/.]+)`", used)) for names, of, used, _ in cells]


@cache
def nodesOf(path: Path) -> list[ast.AST]:
    """Return everything in a module."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def foreign(path: Path, ours: set[str]) -> set[str]:
    """Return the private names in a module that nothing of ours defines."""
    found = set()
    for node in nodesOf(path):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {each.name for each in node.names}
    return {each for each in found if re.match("_[^_]", each)} - ours - OF_PYTHON


def defined(path: Path) -> set[str]:
    """Return the names that a module's classes give to themselves."""
    found = set()
    for node in nodesOf(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            isOwn = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            found |= {node.attr} if isOwn else set()
        elif isinstance(node, ast.Assign):
            found |= {each.id for each in node.targets if isinstance(each, ast.Name)}
            if "__slots__" in found:
                found |= {each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)}
        elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def test_everyNameIsListed() -> None:
    """A private name of others is on the page, and stands in one of the two places."""
    modules = sorted(PACKAGE.rglob("*.py"))
    ours = set().union(*map(defined, modules))
    listed = {name: used for names, _, used in rows() for name in names}
    for path in modules:
        where = str(path.relative_to(PACKAGE))
        for name in foreign(path, ours):
            known = "__first_line" if name == "_HTTPChannel__first_line" else name
            assert where.startswith(("web/", "transports/engine_")), f"{where} uses {name}"
            assert where in listed.get(known, ()), f"{where} uses {name}, which {PAGE.name} doesn't say"


@pytest.mark.parametrize(("names", "of", "used"), rows(), ids=lambda value: value[0] if isinstance(value, list) else "")
def test_everyNameIsThere(names: list[str], of: str, used: list[str]) -> None:
    """What the page lists is used where it says, and the installed libraries have it."""
    for each in used:
        source = (PACKAGE / each).read_text(encoding="utf-8")
        assert any(name in source for name in names), each
    for path in re.findall(r"`(twisted[\w.]+|autobahn[\w.]+)`", of):
        modules = [path, path.rpartition(".")[0]]
        source = None
        for module in modules:
            try:
                source = Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8")
                break
            except ImportError:
                continue
        if source is None or ("from 26.10" in of and not any(name in source for name in names)):
            pytest.skip(f"{path} isn't in this version")
        if len(re.findall("`", of)) == 2:
            for name in names:
                assert name in source, f"{path} has no {name}"
