"""What the names in docstrings and annotations mean, and where on the site, or elsewhere, each is described."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from functools import cache, reduce
from inspect import getsource, isclass, ismodule
from types import ModuleType
from typing import Any

from twisted.python.reflect import InvalidName, namedAny
from zope.interface.interface import InterfaceClass

from . import epytext

PACKAGE = "engineio_twisted"
TWISTED = "https://docs.twisted.org/en/stable/api/"
PYTHON = "https://docs.python.org/3/library/"

# Packages that export what their modules define.
FRONTS = (PACKAGE, *(f"{PACKAGE}.{each}" for each in ("testing", "workers", "socketio", "socketio.testing")))

INSTEAD = {
    f"{PACKAGE}.protocol.options.OptionKeywords": f"{PACKAGE}.ServerOptions",
    f"{PACKAGE}.socketio.options.SocketIOKeywords": f"{PACKAGE}.socketio.SocketIOOptions",
    f"{PACKAGE}.socketio.listening.Keywords": f"{PACKAGE}.socketio.SocketIOOptions",
}
"""What is for type checkers, each with what is described in its place."""


@cache
def modules() -> Mapping[str, ModuleType]:
    """Return the package and all modules in it, by name."""
    package = importlib.import_module(PACKAGE)
    names = [each.name for each in pkgutil.walk_packages(package.__path__, f"{PACKAGE}.")]
    # Running it is all that it is for.
    return {name: importlib.import_module(name) for name in [PACKAGE, *names] if not name.endswith(".__main__")}


@cache
def namespace(module: str) -> Mapping[str, Any]:
    """Return what the names in a module mean, with those that it has for type checkers only."""
    here = modules()[module]
    found = dict(vars(here))
    for block in ast.parse(getsource(here)).body:
        if not isinstance(block, ast.If) or ast.unparse(block.test) != "TYPE_CHECKING":
            continue
        for node in block.body:
            if isinstance(node, ast.ImportFrom):
                origin = importlib.util.resolve_name("." * node.level + (node.module or ""), here.__package__)
                for each in node.names:
                    isOurs = origin in modules()
                    meant = namespace(origin)[each.name] if isOurs else objectAt(f"{origin}.{each.name}")
                    found[each.asname or each.name] = meant
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                # There is nothing at run time; that it has a name is enough.
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                found[ast.unparse(target)] = None
    return found


def objectAt(full: str) -> Any:
    """Return what a full name means, None if it means nothing."""
    parts = full.split(".")
    home = next((each for each in _beginnings(parts) if each in modules()), None) if parts[0] == PACKAGE else None
    try:
        if home is None:
            return namedAny(full)
        # By the module, as an attribute of the package may have the name of one.
        return reduce(getattr, full.removeprefix(home).split(".")[1:], modules()[home])
    except (InvalidName, AttributeError, ImportError):
        return None


def _beginnings(parts: list[str]) -> list[str]:
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def nameOf(found: Any) -> str | None:
    """Return the full name of a class, an interface, a function or a module, by which it can be imported."""
    if ismodule(found):
        return found.__name__
    name = getattr(found, "__qualname__", None) or getattr(found, "__name__", None)
    module = getattr(found, "__module__", None)
    return f"{module}.{name}" if module and name and isinstance(name, str) else None


def basesOf(owner: Any) -> tuple[Any, ...]:
    """Return a class or an interface and all that it extends."""
    return tuple(owner.__iro__) if isinstance(owner, InterfaceClass) else tuple(owner.__mro__)


def hasMember(owner: Any, name: str) -> bool:
    """Return whether a class or an interface itself has an attribute, one that its docstring describes included."""
    if isinstance(owner, InterfaceClass):
        return name in owner.names()
    isDescribed = owner.__module__.startswith(PACKAGE) and name in epytext.variables(owner.__doc__ or "")
    return name in vars(owner) or name in vars(owner).get("__annotations__", {}) or isDescribed


def find(name: str, module: str, owner: Any = None) -> str | None:
    """
    Return the full name of what a name means, None if it means nothing.

    @param name: as it stands in a docstring or an annotation, with or without dots.
    @param module: the name of the module that it stands in.
    @param owner: the class or the interface that it stands in.
    """
    first, _, rest = name.partition(".")
    if owner is not None:
        if any(hasMember(each, first) for each in basesOf(owner)) and not rest:
            return f"{nameOf(owner)}.{first}"
        module = owner.__module__
    # An annotation without a class is that of a function, of which only the package is known that exports it.
    for each in (module, *modules()):
        if each in modules() and first in namespace(each):
            full = _inside(first, namespace(each)[first], rest, each)
            if full is not None:
                return full
    relative = (f"{each}.{name}" for each in _beginnings(module.split(".")[:-1]))
    return next((each for each in (name, *relative) if _exists(each)), None)


def _exists(full: str) -> bool:
    return objectAt(full) is not None or _isMember(full)


def _inside(first: str, found: Any, rest: str, module: str) -> str | None:
    named = nameOf(found)
    isItsName = named is not None and (ismodule(found) or named.endswith(f".{first}"))
    full = named if isItsName else f"{module}.{first}"
    if not rest:
        return full
    full = f"{full}.{rest}"
    return full if _exists(full) else None


def _isMember(full: str) -> bool:
    owner = objectAt(full.rpartition(".")[0]) if "." in full else None
    isOwner = isclass(owner) or isinstance(owner, InterfaceClass)
    return isOwner and any(hasMember(each, full.rpartition(".")[2]) for each in basesOf(owner))


@cache
def _fronts() -> Mapping[str, str]:
    found = {}
    for front in FRONTS:
        for name in modules()[front].__all__:
            full = nameOf(getattr(modules()[front], name))
            if full is not None:
                found.setdefault(full, f"{front}.{name}")
    return found


def publicNames(full: str) -> Iterator[str]:
    """Yield the names under which the site may describe something: those to import it by come first."""
    yield INSTEAD.get(full) or _fronts().get(full, full)
    parent, _, member = full.rpartition(".")
    owner = objectAt(parent)
    if isclass(owner) or isinstance(owner, InterfaceClass):
        for each in basesOf(owner):
            name = nameOf(each)
            if name is not None:
                yield f"{_fronts().get(name, name)}.{member}"


def address(full: str) -> str | None:
    """Return where Twisted or Python describes something; None if neither does."""
    if full.startswith("twisted."):
        found = objectAt(full)
        if found is None:
            # An attribute that only instances have.
            return f"{TWISTED}{full.rpartition('.')[0]}.html"
        isPage = isclass(found) or ismodule(found) or isinstance(found, InterfaceClass)
        return f"{TWISTED}{full}.html" if isPage else "{0}{1}.html#{3}".format(TWISTED, *full.rpartition("."))
    top, _, name = full.partition(".")
    # asyncio is described on pages that aren't named for its modules.
    if not name or top not in sys.stdlib_module_names or top.startswith("_") or top == "asyncio":
        return None
    module = full.rpartition(".")[0]
    return f"{PYTHON}{module}.html#{full}" if ismodule(objectAt(module)) else None
