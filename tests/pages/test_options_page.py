"""The tables of docs/options.md, docs/socketio-options.md and docs/client.md are those that the options make."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import attrs
import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def tables() -> Any:
    """The program that writes them."""
    spec = importlib.util.spec_from_file_location("options_tables", DOCS / "options_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pageOf(tables: Any, name: str) -> tuple[str, Any]:
    """Return a page, and what writes its tables anew."""
    path = DOCS / name
    return path.read_text(encoding="utf-8"), lambda text: tables.written(text, *tables.PAGES[path])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("options.md", ["pingInterval", "cookie.name", "listen"]),
        ("socketio-options.md", ["connectTimeout", "serveClient", "maxDisconnectionDuration", "sameUser"]),
        ("client.md", ["path", "transports", "connectTimeout", "maxHttpBufferSize", "agent", "resume"]),
    ],
)
def test_theTablesAreThoseOfTheOptions(tables: Any, name: str, options: list[str]) -> None:
    """Every option is there, as the command line or Python has it."""
    page, written = pageOf(tables, name)
    assert page == written(page), f"docs/{name} is stale: run `python docs/options_tables.py`"
    for option in options:
        assert f"\n| `{option}` | " in page


def test_aTableThatIsMissing(tables: Any) -> None:
    """No group can be left out."""
    page, written = pageOf(tables, "options.md")
    with pytest.raises(ValueError, match=r"the page has tables for listening, heartbeat, .*it should have them for"):
        written(page.replace("<!-- options: cookie -->", ""))


def test_theTablesOfClasses(tables: Any) -> None:
    """A table of the options of Socket.IO is that of all fields, with the defaults that they have."""
    for name, owner in tables.CLASSES.items():
        table = tables.tableOfClass(name)
        assert [row.split("`")[1] for row in table.splitlines()[2:]] == [each.name for each in attrs.fields(owner)]
    assert "| `ackTimeout` | `60000` | Milliseconds that `emitWithAck` waits" in tables.tableOfClass("socketio")
