"""The pages for those who come from another server: complete, in step with the code, and their programs run."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import attrs
import pytest

from engineio_twisted import Cookie, Cors, ErrorCode, HttpCompression, PerMessageDeflate, Server, Socket
from engineio_twisted.protocol import options
from engineio_twisted.protocol.options import ServerOptions

from ..kit.markdown import blocksOf
from ..kit.tables import defaults, names, rows, section, spans
from ..kit.tools import require

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "engineio_twisted"
# The Socket.IO layer and the client have events of their own, and pages.
ELSEWHERE = {"socketio", "client"}
MODULES = sorted(each for each in PACKAGE.rglob("*.py") if not ELSEWHERE & set(each.relative_to(PACKAGE).parts))
DOCS = ROOT / "docs"
REFERENCE = (DOCS / "reference.md").read_text(encoding="utf-8")
PYTHON_ENGINEIO = (DOCS / "python-engineio.md").read_text(encoding="utf-8")

PARTS = {
    "perMessageDeflate": PerMessageDeflate,
    "httpCompression": HttpCompression,
    "cookie": Cookie,
    "cors": Cors,
}
CLASSES = [Server, Socket]
INHERITED = {"on", "once", "removeListener", "listeners", "handlersOf", "emit", "hears", "handlerFailed"}
"""What servers and sockets have in common, which the page says once."""


# Reading the code


def emitted() -> dict[type[Any], set[str]]:
    """The events that servers and sockets emit."""
    found: dict[type[Any], set[str]] = {each: set() for each in CLASSES}
    for module in MODULES:
        for call, around in calls(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("emit", "_emitWithServer"):
                continue
            if any(isinstance(each, ast.ClassDef) and each.name == "ThrottledLogger" for each in around):
                # A logger emits what is logged.
                continue
            # That one emits what it is called with, and those calls are found.
            if not any(isinstance(each, ast.FunctionDef) and each.name == "_emitWithServer" for each in around):
                where = f"{module.name}:{call.lineno}"
                for emitter in emitters(call.func, around, where):
                    found[emitter] |= events(call.args[0], around, where)
    return found


def calls(node: ast.AST, around: Sequence[ast.AST] = ()) -> Iterator[tuple[ast.Call, Sequence[ast.AST]]]:
    """All calls in a syntax tree, each with what it stands in, the innermost first."""
    if isinstance(node, ast.Call):
        yield node, around
    for child in ast.iter_child_nodes(node):
        yield from calls(child, (node, *around))


def emitters(function: ast.Attribute, around: Sequence[ast.AST], where: str) -> list[type[Any]]:
    """The classes whose event a call emits."""
    if function.attr == "_emitWithServer":
        return CLASSES
    owner = ast.unparse(function.value).removeprefix("self._")
    if owner == "self":
        owner = next(each.name for each in around if isinstance(each, ast.ClassDef))
    owner = owner.removeprefix("self.").lstrip("_")
    # The parts of a session know it as that.
    owner = "socket" if owner.lower() in ("session", "basesocket", "transportowner") else owner
    found = [each for each in CLASSES if owner in (each.__name__, each.__name__.lower())]
    assert found, f"{where}: this test can't tell what {owner} is, which emits an event"
    return found


def events(argument: ast.expr, around: Sequence[ast.AST], where: str) -> set[str]:
    """The names that an argument may have: a text, or the variable of a loop over texts."""
    values: list[ast.expr] = [argument]
    for each in around:
        if isinstance(each, ast.For) and ast.unparse(each.target) == ast.unparse(argument):
            values = getattr(each.iter, "elts", values)
    found = {value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)}
    assert len(found) == len(values), f"{where}: this test can't tell the name of the event"
    return found


def publicNames(subject: type[Any]) -> set[str]:
    """The methods and attributes of a class, those of its instances too."""
    found = {*dir(subject)}
    for each in subject.__mro__:
        if each.__module__.startswith("engineio_twisted"):
            found |= {*inspect.get_annotations(each)}
            found |= {
                node.attr
                for node in ast.walk(ast.parse(inspect.getsource(each)))
                if isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and ast.unparse(node.value) == "self"
            }
    return {each for each in found if not each.startswith("_")}


def test_theSourceIsRead() -> None:
    """What the tests below compare the page with is found: in each way in which it is written."""
    found = emitted()
    assert {"connection", "initial_headers", "flush"} <= found[Server]
    assert {"open", "data", "message", "close", "flush"} <= found[Socket]
    assert "connection" not in found[Socket]
    assert {"close", "opts", "listening", "clientsCount"} <= publicNames(Server)
    assert {"send", "write", "id", "writeBuffer", "upgraded"} <= publicNames(Socket)
    parts = {each for each in vars(options).values() if inspect.isclass(each) and attrs.has(each)}
    assert parts == {ServerOptions, *PARTS.values()}


# docs/reference.md


def test_everyOptionIsNamedWithItsDefault() -> None:
    """No option is left out, and what the page gives as a default is what an option is that isn't given."""
    ofServers = section(REFERENCE, "### Options of the constructor").partition("\n#### ")[0]
    shown = defaults(ofServers) | defaults(section(REFERENCE, "#### Options of `attach`"))
    assert shown.keys() == attrs.fields_dict(ServerOptions).keys()
    assert ServerOptions(**shown) == ServerOptions()


@pytest.mark.parametrize("option", PARTS)
def test_everySettingIsNamedWithItsDefault(option: str) -> None:
    """The same for the settings of an option that has some."""
    part: Callable[..., Any] = PARTS[option]
    shown = defaults(section(REFERENCE, f"#### `{option}`"))
    assert shown.keys() == attrs.fields_dict(PARTS[option]).keys()
    assert part(**shown) == part()


@pytest.mark.parametrize("subject", CLASSES)
def test_everyEventIsNamed(subject: type[Any]) -> None:
    """An event is described with the class that emits it."""
    page = section(section(REFERENCE, f"## {subject.__name__}"), "### Events")
    assert emitted()[subject] - names(page) == set()


@pytest.mark.parametrize("subject", CLASSES)
def test_everyMethodAndAttributeIsNamed(subject: type[Any]) -> None:
    """What a server or a socket has is written down, be it only as none of an application's business."""
    page = section(REFERENCE, f"## {subject.__name__}")
    assert publicNames(subject) - INHERITED - names(page) == set()


def test_nothingOfASocketIsForThePackageAlone() -> None:
    """Whatever completion shows of a socket is described for applications."""
    assert publicNames(Socket) - names((DOCS / "sessions.md").read_text(encoding="utf-8")) == set()


def test_whatBothHaveIsNamed() -> None:
    """What servers and sockets have in common stands at the beginning."""
    assert INHERITED - names(REFERENCE.partition("\n## ")[0]) == set()
    assert publicNames(Server) & publicNames(Socket) >= INHERITED


def test_everyCodeIsNamed() -> None:
    """The table of refusals has each code with its name."""
    shown = {row[0]: row[2] for row in rows(REFERENCE) if row[0].isdigit()}
    assert shown == {str(int(each)): f"`{each.name}`" for each in ErrorCode}


def test_everyScopeIsNamed() -> None:
    """The scopes of DEBUG are all there."""
    found = {each for module in MODULES for each in re.findall(r'DebugScope\("([^"]+)"', module.read_text("utf-8"))}
    assert "engine" in found
    assert found - set(spans(section(REFERENCE, "## DEBUG"))) == set()


# docs/python-engineio.md


@pytest.fixture
def replaced() -> list[type[Any]]:
    """The two servers of python-engineio."""
    require(importlib.util.find_spec("engineio") is not None, "python-engineio")
    import engineio

    return [engineio.Server, engineio.AsyncServer]


def test_everyOptionThereIsNamed(replaced: list[type[Any]]) -> None:
    """Whatever the constructors there take is in the table, and in its first column nothing else is."""
    table = section(PYTHON_ENGINEIO, "## Options").partition("\n### ")[0]
    taken: set[str] = set()
    for each in replaced:
        # All but that of object, which is the last.
        for constructor in (every.__init__ for every in each.__mro__[:-1] if "__init__" in vars(every)):
            taken |= inspect.signature(constructor).parameters.keys() - {"self"}
    assert {"async_mode", "kwargs"} <= taken
    assert {name for row in rows(table) for name in names(row[0])} == taken


def test_everyEventThereIsNamed(replaced: list[type[Any]]) -> None:
    """Each event there is in the table of events."""
    found = {name for each in replaced for name in each.event_names}
    assert "connect" in found
    assert found - names(section(PYTHON_ENGINEIO, "## Events")) == set()


def test_everyReasonThereIsNamed(replaced: list[type[Any]]) -> None:
    """Each reason of an end there has one here."""
    found = {value for each in replaced for name, value in vars(each.reason).items() if name.isupper()}
    assert "ping timeout" in found
    assert found - set(spans(section(PYTHON_ENGINEIO, "## Events"))) == set()


def test_everyMethodThereIsNamed(replaced: list[type[Any]]) -> None:
    """Each method there is in the tables of methods."""
    found = {name for each in replaced for name in dir(each) if name[0] != "_" and callable(getattr(each, name))}
    assert {"send", "attach"} <= found
    assert found - names(section(PYTHON_ENGINEIO, "## Methods")) == set()


# What the pages show


def test_linksLeadSomewhere() -> None:
    """The pages that these pages point to are there."""
    for target in re.findall(r"\]\(([^)#]+)\)", REFERENCE + PYTHON_ENGINEIO):
        assert (ROOT / "docs" / target).is_file(), target


def test_theBlockOfTheReferencePage() -> None:
    """It runs, and makes what it says."""
    (program,) = blocksOf(DOCS / "reference.md")
    made: dict[str, Any] = {}
    exec(program.text, made)
    server = made["server"]
    assert server.opts.pingInterval == 10000
    assert server.opts.cors.origin == "https://example.com"
    assert server.listeners("initial_headers") == [made["firstResponse"]]


def request(port: int, method: str, query: str, body: str | None = None) -> tuple[int, str]:
    """The status and the text of an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, f"/engine.io/?EIO=4&transport=polling&{query}", body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_theEchoAfter(freePort: int) -> None:
    """The program that takes the place of the one before does as that does, and ends in order."""
    program = blocksOf(DOCS / "python-engineio.md")[1].text
    assert program.count("3000") == 1
    command = [sys.executable, "-c", program.replace("3000", str(freePort))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            refused = whenListening(process, lambda: request(freePort, "GET", ""))
            assert refused == (403, '{"code":4,"message":"a name is needed"}')
            status, opened = request(freePort, "GET", "name=ann")
            assert status == 200
            sid = opened.split('"')[3]
            assert request(freePort, "POST", f"sid={sid}", "4hello\x1ebAQID") == (200, "ok")
            assert request(freePort, "GET", f"sid={sid}") == (200, "4hello\x1ebAQID")
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert said == "ann left: server shutting down\n"


def whenListening(process: subprocess.Popen[str], ask: Callable[[], tuple[int, str]]) -> tuple[int, str]:
    """What a program answers, once it listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask()
        except ConnectionRefusedError:
            assert process.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline, "it doesn't listen"
            time.sleep(0.05)
