"""How Sphinx makes the documentation site: `make docs`."""

from __future__ import annotations

import re
import zlib
from importlib.metadata import version as versionOf
from inspect import isclass, ismodule
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer
from twisted.python.reflect import namedAny
from zope.interface.interface import InterfaceClass

HERE = Path(__file__).parent
ROOT = HERE.parent

PACKAGE = ROOT / "engineio_twisted"
# Modules that one imports from. What the others have for applications is in the package itself.
PUBLIC = {"endpoints", "service", "testing", "session.emitter", "session.limits", "protocol.errors", "protocol.payload"}
PUBLIC |= {"operation.health", "operation.metrics", "transports.engine_twisted", "web.resource"}
# The rooms in which these are.
PUBLIC |= {each.partition(".")[0] for each in PUBLIC}
MODULES = {
    ".".join(each.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for each in PACKAGE.rglob("*.py")
    if each.parent != PACKAGE or each.stem != "__init__"
}
TWISTED = "https://docs.twisted.org/en/stable/api/"


def writeInventory(file: Path) -> Path:
    """
    Write down where Twisted describes what our docstrings name, for pydoctor, which would fetch all of Twisted's list.

    @raise twisted.python.reflect.ObjectNotFound: there is nothing of a name: the docstring is wrong.
    """
    lines = []
    for name in sorted({each for module in PACKAGE.rglob("*.py") for each in named(module)}):
        found = namedAny(name)
        isPage = isclass(found) or ismodule(found) or isinstance(found, InterfaceClass)
        page = f"{name}.html" if isPage else "{0}.html#{2}".format(*name.rpartition("."))
        lines.append(f"{name} py:obj -1 {page} -\n")
    head = b"# Sphinx inventory version 2\n# Project: Twisted\n# Version:\n# The rest of this file is compressed.\n"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(head + zlib.compress("".join(lines).encode()))
    return file


def named(module: Path) -> list[str]:
    """What of Twisted is meant in the docstrings and the imports of a module."""
    text = module.read_text(encoding="utf-8")
    found = re.findall(r"L\{(?:[^{}<]*<)?(twisted\.[\w.]+)>?\}", text)
    for package, names in re.findall(r"^ *from (twisted\.[\w.]+) import ([\w, ]+)$", text, re.MULTILINE):
        found += [f"{package}.{name.split(' as ')[0].strip()}" for name in names.split(",")]
    return [each for each in found if "reactor" not in each]


project = "engineio_twisted"
author = "the authors of engineio_twisted"
version = release = versionOf("engineio_twisted")

# intersphinx for pydoctor, which adds what it has itself: nothing is fetched.
extensions = ["myst_parser", "sphinx.ext.intersphinx", "pydoctor.sphinx_ext.build_apidocs"]
exclude_patterns = ["_build"]
root_doc = "index"
nitpicky = True

myst_enable_extensions = ["attrs_inline"]
# So that links to the headings of a page lead somewhere, as they do on a code host.
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"engineio_twisted {version}"
html_copy_source = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
# Nothing of the site is asked of another machine.
html_permalinks_icon = "#"

pydoctor_args = [
    "--project-name=engineio_twisted",
    f"--project-version={version}",
    "--project-url=../index.html",
    f"--project-base-dir={ROOT}",
    "--docformat=epytext",
    "--process-types",
    "--warnings-as-errors",
    "--quiet",
    # What begins with an underscore may change with any version.
    "--privacy=HIDDEN:**._*",
    "--privacy=PUBLIC:**.__*__",
    *(f"--privacy=PRIVATE:{PACKAGE.name}.{each}" for each in sorted(MODULES - PUBLIC)),
    f"--intersphinx-file={writeInventory(HERE / '_build' / 'twisted.inv')}::{TWISTED}",
    "--html-output={outdir}/api",
    str(PACKAGE),
]
pydoctor_url_path = "/api/"


def leaveLinksOut(_application: Any, page: str, source: list[str]) -> None:
    """Name the files and folders that are linked to, of which a code host, and not the site, has pages."""

    def text(link: re.Match[str]) -> str:
        target = ((HERE / page).parent / link[2]).resolve()
        if target.is_relative_to(HERE) or not target.exists():
            return link[0]
        name = str(target.relative_to(ROOT))
        return link[1] if link[1] == name else f"{link[1]} (`{name}`)"

    source[0] = re.sub(r"\[([^\]]+)\]\(([^)#:]+)\)", text, source[0])


def setup(application: Any) -> None:
    """Register what Sphinx hasn't by itself."""
    application.connect("source-read", leaveLinksOut)
    # Nobody has written a lexer for it.
    application.add_lexer("haproxy", TextLexer)
