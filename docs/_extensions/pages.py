"""What the site makes of pages that are written for a code host as well."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent

COMMAND_PAGES = ("command-line", "monitoring", "options")
"""The pages on which C{listen} is an option of the command, and a value of others."""

LAYER = "engineio_twisted.socketio."
LAYER_PAGES = ("socketio", "python-socketio")
"""What the pages begin with on which a C{Socket} is that of the Socket.IO layer."""


def leaveLinksOut(_application: Any, page: str, source: list[str]) -> None:
    """Name the files and folders that are linked to, of which a code host, and not the site, has pages."""

    def text(link: re.Match[str]) -> str:
        target = ((DOCS / page).parent / link[2]).resolve()
        if target.is_relative_to(DOCS) or not target.exists():
            return link[0]
        name = str(target.relative_to(ROOT))
        return link[1] if link[1] == name else f"{link[1]} (`{name}`)"

    source[0] = re.sub(r"\[([^\]]+)\]\(([^)#:]+)\)", text, source[0])


CLASSES = {"server": ("Server",), "socket": ("Socket",), "io": ("SocketIO", "Namespace")}
"""The names that the guides give to objects, each with its class and a base of that."""


class InlineDrawings(SphinxPostTransform):
    """
    Put the drawings of a page into it.

    As a part of the page, and not as an image, a drawing has the colours of the page's theme, light or dark.
    """

    default_priority = 5
    formats = ("html",)

    def run(self, **_keywords: Any) -> None:
        """Replace the images that are drawings."""
        for image in list(self.document.findall(nodes.image)):
            file = DOCS / image["uri"]
            if file.suffix == ".svg" and file.is_file():
                drawing = file.read_text(encoding="utf-8")
                drawing = drawing[drawing.index("<svg") :]
                label = escape(image.get("alt", ""), quote=True)
                html = f'<div class="drawing" role="img" aria-label="{label}">{drawing}</div>'
                image.replace_self(nodes.raw("", html, format="html"))


class LinkNames(SphinxPostTransform):
    """Link code on a page that is the name of a class, a function or a method to its description: the first of each."""

    default_priority = 400
    formats = ("html",)

    def run(self, **_keywords: Any) -> None:
        """Replace the names by links."""
        page = self.env.current_document.docname
        linked = set()
        described = self.described(page.startswith(LAYER_PAGES))
        for code in list(self.document.findall(nodes.literal)):
            name = re.sub(r"\(.*\)$", "", code.astext())
            owner, _, member = name.partition(".")
            if member.isidentifier():
                named = (f"{each}.{member}" for each in CLASSES.get(owner, ()))
                name = next((each for each in named if each in described), name)
            isOption = page in COMMAND_PAGES and code.astext() == "listen"
            found = None if isOption else described.get(name)
            around = code.parent
            isFree = not isinstance(around, nodes.reference | nodes.title) and not page.startswith("api/")
            if found is not None and isFree and found.node_id not in linked:
                linked.add(found.node_id)
                link = make_refnode(self.app.builder, page, found.docname, found.node_id, code.deepcopy(), name)
                around.replace(code, link)

    def described(self, isOfLayer: bool) -> dict[str, Any]:
        """
        Return what the API reference describes, by names without a package or a module.

        @param isOfLayer: whether a name that both have is that of the Socket.IO layer.
        """
        kinds = ("class", "exception", "function", "method", "property", "attribute")
        objects = self.env.domains.python_domain.objects
        return {
            re.sub(r"^(?:[a-z]\w*\.)+(?=\w)", "", name): found
            for name, found in sorted(objects.items(), key=lambda item: item[0].startswith(LAYER) == isOfLayer)
            if found.objtype in kinds and not found.aliased
        }


def setup(application: Any) -> None:
    """Register all of it with Sphinx."""
    application.connect("source-read", leaveLinksOut)
    application.add_post_transform(InlineDrawings)
    application.add_post_transform(LinkNames)
