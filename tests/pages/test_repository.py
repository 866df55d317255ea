"""The files that code hosts, editors and citation tools read."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import editorconfig
import pytest
import yaml

from ..kit.tools import require

ROOT = Path(__file__).parents[2]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def tracked() -> list[Path]:
    """Return the files that version control has, but for those that another program writes."""
    require((ROOT / ".git").exists(), "a git checkout, to know which files belong to the project")
    listed = subprocess.run(["git", "-C", ROOT, "ls-files"], check=True, capture_output=True, text=True)
    files = [ROOT / each for each in listed.stdout.splitlines()]
    return [each for each in files if each.is_file() and each.name != "package-lock.json"]


def test_files() -> None:
    """Every file is written as .editorconfig says."""
    wrong = []
    for file in tracked():
        properties = editorconfig.get_properties(str(file))
        content = file.read_bytes()
        lines = content.decode(properties["charset"]).split("\n") if properties["charset"] != "unset" else []
        if properties["insert_final_newline"] == "true" and content and not content.endswith(b"\n"):
            wrong.append(f"{file}: no newline at its end")
        if properties["end_of_line"] == "lf" and b"\r" in content:
            wrong.append(f"{file}: a carriage return")
        for number, line in enumerate(lines, 1):
            if properties["trim_trailing_whitespace"] == "true" and line != line.rstrip():
                wrong.append(f"{file}:{number}: space at its end")
            indent = re.match(r"[ \t]*", line)[0]  # type: ignore[index]
            if properties["indent_style"] == "space" and "\t" in indent:
                wrong.append(f"{file}:{number}: a tab")
    assert wrong == []


def test_citation() -> None:
    """CITATION.cff has the fields that its format requires, as the metadata has them, and names no person."""
    citation = read("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == "engineio_twisted"
    assert citation["version"] == metadata("engineio_twisted")["Version"]
    of = metadata("engineio_twisted")
    # An editable installation writes the older field.
    assert citation["license"] in (of["License-Expression"], of["License"])
    assert citation["message"]
    assert [sorted(each) for each in citation["authors"]] == [["name"]]


def test_metadata() -> None:
    """What is published invents no address, and offers no development tools as extras."""
    of = metadata("engineio_twisted")
    assert {
        name for name in of if name in ("Home-page", "Author", "Author-email", "Maintainer", "Project-URL")
    } == set()
    assert set(of.get_all("Provides-Extra")) == {"http2", "metrics", "msgpack", "redis", "tls", "wsproto"}


def test_workflow() -> None:
    """The workflow runs the script that a change has to pass, on each branch that is merged."""
    workflow = read(".github/workflows/ci.yml")
    (job,) = workflow["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert ".ci/run" in commands
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    # YAML reads the key "on" as true.
    assert {"push", "pull_request"} == set(workflow[True])
    assert job["timeout-minutes"] > 15


def test_preCommit() -> None:
    """The hooks run what `make lint` runs, by the same programs."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (tools,) = re.findall(r"for tool in (.+); do", makefile)
    programs = [each.removesuffix(" .").removesuffix(" --check") for each in shlex.split(tools)]
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"].removesuffix(" --fix").removeprefix(".venv/bin/") for hook in repository["hooks"]]
    assert entries == programs


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_issueForms(form: Path) -> None:
    """Each form has what a code host requires of one."""
    content = read(str(form.relative_to(ROOT)))
    if form.stem == "config":
        assert set(content) == {"blank_issues_enabled"}
        return
    assert {"name", "description", "body"} <= set(content)
    fields = [each for each in content["body"] if each["type"] != "markdown"]
    names = [each["id"] for each in fields]
    assert len(names) == len(set(names))
    assert all(each["type"] in ("input", "textarea") and each["attributes"]["label"] for each in fields)
    assert any(each.get("validations", {}).get("required") for each in fields)


@pytest.mark.parametrize("page", ["SECURITY.md", "CODE_OF_CONDUCT.md", ".github/pull_request_template.md"])
def test_pages(page: str) -> None:
    """What the pages link to is there, and they name nobody by an address."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target
    assert re.findall(r"\S+@\S+\.\w+|https?://\S+", text) == []
