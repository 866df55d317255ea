"""What is built can be installed and run: wheel and sdist, each in an empty environment."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ..conftest import require

ROOT = Path(__file__).parents[2]

FASTER = {"PIP_NO_COMPILE": "1"}
"""Of what is installed into an empty environment, only what is imported is ever compiled."""


def run(*command: object, **options: Any) -> str:
    # Nothing of this environment may help: no path to the checkout, no folder that has it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    environment |= FASTER
    result = subprocess.run(
        [str(each) for each in command], env=environment, capture_output=True, text=True, timeout=600, **options
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel and the sdist, built from what version control has; or, for `make dist`, those in the folder DIST."""
    if dist_ := os.environ.get("DIST"):
        return found(Path(dist_).absolute())
    require((ROOT / ".git").exists(), "a git checkout, to know which files belong to the project")
    # Once for all processes of a run: theirs are folders in its folder.
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with (shared / "built.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "built").exists():
            build(tmp_path_factory.mktemp("source"), shared / "building")
            (shared / "building").rename(shared / "built")
    return found(shared / "built")


def build(source: Path, dist: Path) -> None:
    files = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard").split("\n")
    for name in files:
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, source)


def found(dist: Path) -> dict[str, Path]:
    """The two files that a folder has to have, and no others."""
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    assert {*dist.iterdir()} == {wheel, sdist}
    return {"wheel": wheel, "sdist": sdist}


def test_wheelHoldsWhatIsNeeded(built: dict[str, Path]) -> None:
    """The package with its types, the plugins, and nothing that isn't ours."""
    with zipfile.ZipFile(built["wheel"]) as archive:
        names = {each for each in archive.namelist() if ".dist-info/" not in each}
    modules = {f"engineio_twisted/{each.name}" for each in (ROOT / "engineio_twisted").glob("*.py")}
    plugins = {"pytest_engineio_twisted.py", "twisted/plugins/engineio_plugin.py"}
    assert names == {*modules, "engineio_twisted/py.typed", *plugins}


def test_sdistHoldsEverything(built: dict[str, Path]) -> None:
    """Tests, examples, documentation and the files that build and describe it, but nothing installed."""
    with tarfile.open(built["sdist"]) as archive:
        names = {each.partition("/")[2] for each in archive.getnames()}
    tracked = {each for each in run("git", "-C", ROOT, "ls-files").split("\n") if each}
    notShipped = {".gitignore", ".ci/run"}
    assert {each for each in tracked - notShipped if (ROOT / each).exists()} <= names
    assert not [each for each in names if "node_modules" in each or each.endswith(".pyc")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installed(built: dict[str, Path], kind: str, tmp_path: Path) -> None:
    """In an empty environment `twistd engineio --help` is there, and the package can be imported."""
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    binaries = tmp_path / "venv" / "bin"
    run(
        binaries / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", built[kind], cwd=tmp_path
    )
    usage = run(binaries / "twistd", "engineio", "--help", cwd=tmp_path)
    assert "Usage: twistd [options] engineio [options]" in usage
    assert "--ping-interval=" in usage
    assert "engineio" in run(binaries / "twistd", "--help", cwd=tmp_path)
    where = run(binaries / "python", "-c", "import engineio_twisted as e; print(e.__file__, e.protocol)", cwd=tmp_path)
    assert where.startswith(str(tmp_path))
    assert where.endswith(" 4\n")
