"""The wheel and the sdist, and environments that have what one of them needs and nothing else."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .tools import require

ROOT = Path(__file__).parents[2]

FASTER = {"PIP_NO_COMPILE": "1"}
"""Of what is installed into an empty environment, only what is imported is ever compiled."""


def run(*command: object, **options: Any) -> str:
    """Run a program, which has to succeed; return what it printed."""
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


def install(file: Path, folder: Path, extras: Sequence[str] = (), others: Sequence[str] = ()) -> Path:
    """
    Install a wheel or an sdist, and other requirements, into an environment of its own; return its Python.

    What it requires is taken from the environment of the tests, and nothing else that is there can be imported. For
    `make dist` all comes from the registry, as it does for users.
    """
    run(sys.executable, "-m", "venv", *([] if "DIST" in os.environ else ["--without-pip"]), folder)
    python = folder / "bin" / "python"
    pip = ["-m", "pip", "--disable-pip-version-check", "--quiet"]
    if "DIST" in os.environ:
        run(python, *pip, "install", f"{file}[{','.join(extras)}]" if extras else file, *others)
        return python
    if file.suffix != ".whl":
        run(sys.executable, *pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "wheel", file)
        (file,) = (folder / "wheel").iterdir()
    run(sys.executable, *pip, "--python", python, "install", "--no-deps", "--no-index", file)
    (site,) = (folder / "lib").glob("python*/site-packages")
    required = folder / "required"
    required.mkdir()
    (metadata,) = site.glob("engineio_twisted-*.dist-info")
    for each in closure([*(Distribution.at(metadata).requires or []), *others], extras):
        for name in {path.parts[0] for path in each.files or [] if path.parts[0] not in ("..", "__pycache__")}:
            if not (required / name).exists():
                (required / name).symlink_to(Path(str(each.locate_file(name))))
    (site / "required.pth").write_text(f"{required}\n")
    return python


def closure(requirements: Iterable[str], extras: Sequence[str]) -> list[Distribution]:
    """Return the distributions that requirements lead to, as they are in this environment."""
    todo = [(Requirement(each), extras) for each in requirements]
    seen: set[tuple[str, str]] = set()
    found: dict[str, Distribution] = {}
    while todo:
        each, those = todo.pop()
        if each.marker is not None and not any(each.marker.evaluate({"extra": extra}) for extra in ("", *those)):
            continue
        name = canonicalize_name(each.name)
        new = [extra for extra in ("", *each.extras) if (name, extra) not in seen]
        seen |= {(name, extra) for extra in new}
        if new:
            found[name] = distribution(name)
            assert each.specifier.contains(found[name].version, prereleases=True), each
            todo += [(Requirement(one), new) for one in found[name].requires or []]
    return list(found.values())
