"""docs/options.md: the tables are those that the options' own texts make."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

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


def test_theTablesAreThoseOfTheOptions(tables: Any) -> None:
    """Every option is there, as the command line has it."""
    page = (DOCS / "options.md").read_text(encoding="utf-8")
    assert page == tables.written(page), "docs/options.md is stale: run `python docs/options_tables.py`"
    for name in ("pingInterval", "cookie.name", "listen"):
        assert f"\n| `{name}` | " in page


def test_aTableThatIsMissing(tables: Any) -> None:
    """No group can be left out."""
    page = (DOCS / "options.md").read_text(encoding="utf-8").replace("<!-- options: cookie -->", "")
    with pytest.raises(ValueError, match=r"the page has tables for listening, heartbeat, .*it should have them for"):
        tables.written(page)
