"""What is built can be installed and run: wheel and sdist, each in an empty environment."""

from __future__ import annotations

import json
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from ..kit.packages import ROOT, install, run
from ..kit.packages import built as built

MODULES = sorted(
    ".".join(each.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for each in (ROOT / "engineio_twisted").rglob("*.py")
)
PLUGINS = ["pytest_engineio_twisted", "twisted.plugins.engineio_plugin"]

EXTRAS = ["http2", "metrics", "msgpack", "redis", "tls", "wsproto"]

IMPORT = """
import importlib, json, sys
print(json.dumps({name: importlib.import_module(name).__file__ for name in sys.argv[1:]}))
"""

TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"


def test_wheelHoldsWhatIsNeeded(built: dict[str, Path]) -> None:
    """The package with its types, the plugins, and nothing that isn't ours."""
    with zipfile.ZipFile(built["wheel"]) as archive:
        names = {each for each in archive.namelist() if ".dist-info/" not in each}
    modules = {str(each.relative_to(ROOT)) for each in (ROOT / "engineio_twisted").rglob("*.py")}
    plugins = {"pytest_engineio_twisted.py", "twisted/plugins/engineio_plugin.py"}
    assert names == {*modules, "engineio_twisted/py.typed", *plugins}


def test_theDescriptionHasNoDeadLinks(built: dict[str, Path]) -> None:
    """The README, on the page of a package index: its text is whole, and each link is an address of the web."""
    with zipfile.ZipFile(built["wheel"]) as archive:
        (metadata,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        described = archive.read(metadata).decode()
    links = re.findall(r"\]\(([^)]*)\)", described)
    assert links
    assert [each for each in links if not each.startswith("https://")] == []
    assert "\nFirst steps leads from an empty folder" in described
    assert described.endswith(" · MIT license\n")


def test_extras(built: dict[str, Path]) -> None:
    """The README names each extra."""
    with zipfile.ZipFile(built["wheel"]) as archive:
        (metadata,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        head, _, described = archive.read(metadata).decode().partition("\n\n")
    assert sorted(re.findall(r"^Provides-Extra: (\S+)$", head, re.MULTILINE)) == EXTRAS
    assert [each for each in EXTRAS if f"`{each}`" not in described] == []


def test_sdistHoldsEverything(built: dict[str, Path]) -> None:
    """Tests, examples, documentation and the files that build and describe it, but nothing installed."""
    with tarfile.open(built["sdist"]) as archive:
        names = {each.partition("/")[2] for each in archive.getnames()}
    tracked = {each for each in run("git", "-C", ROOT, "ls-files").split("\n") if each}
    notShipped = {".gitignore", ".ci/run"}
    assert {each for each in tracked - notShipped if (ROOT / each).exists()} <= names
    assert not [each for each in names if "node_modules" in each or each.endswith(".pyc")]


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installed(built: dict[str, Path], kind: str, tmp_path: Path) -> None:
    """With what the package requires, the package can be imported, and the commands are there."""
    python = install(built[kind], tmp_path / "venv")
    usage = run(python, "-c", TWISTD, "engineio", "--help", cwd=tmp_path)
    assert "Usage: twistd [options of twistd] engineio [options]" in usage
    assert "--listen ENDPOINT" in usage
    script = run(tmp_path / "venv" / "bin" / "engineio-twisted", "--help", cwd=tmp_path)
    assert script.startswith("Usage: engineio-twisted [options]\n")
    assert "\n  engineio-twisted --listen 3000\n" in script
    assert "engineio" in run(python, "-c", TWISTD, "--help", cwd=tmp_path)
    where = run(python, "-c", "import engineio_twisted as e; print(e.__file__, e.protocol)", cwd=tmp_path)
    assert where.startswith(str(tmp_path))
    assert where.endswith(" 4\n")


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_everyModule(built: dict[str, Path], kind: str, tmp_path: Path) -> None:
    """With all extras, and pytest for its plugin, every module of the package and both plugins can be imported."""
    python = install(built[kind], tmp_path / "venv", EXTRAS, ["pytest-twisted"])
    imported = json.loads(run(python, "-c", IMPORT, *MODULES, *PLUGINS, cwd=tmp_path))
    assert imported.keys() == {*MODULES, *PLUGINS}
    assert {name for name, file in imported.items() if not file.startswith(str(tmp_path))} == set()
