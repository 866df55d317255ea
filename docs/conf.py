"""How Sphinx makes the documentation site: `make docs`."""

from __future__ import annotations

import sys
from importlib.metadata import version as versionOf
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer

sys.path.insert(0, str(Path(__file__).parent))

from _extensions import pages, reference

project = "engineio_twisted"
author = "the authors of engineio_twisted"
version = release = versionOf("engineio_twisted")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]
root_doc = "index"
nitpicky = True
# Dashes alone: a quoted value is copied as it is to be written.
smartquotes_action = "D"

# So that links to the headings of a page lead somewhere, as they do on a code host.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 90
add_module_names = False
# A name in the table of contents beside a page is read below that of its class.
toc_object_entries_show_parents = "hide"

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"engineio_twisted {version}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
# The search finds all names in it.
html_use_index = False
html_domain_indices = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_theme_options = {
    "light_css_variables": {"drawing-socket": "#12805c", "code-paper": "#f3f4f6"},
    "dark_css_variables": {"drawing-socket": "#45c596", "code-paper": "#1c1f23"},
}
# Nothing of the site is asked of another machine.
html_permalinks_icon = "#"


def setup(application: Any) -> None:
    """Register what Sphinx hasn't by itself."""
    pages.setup(application)
    reference.setup(application)
    # Nobody has written a lexer for it.
    application.add_lexer("haproxy", TextLexer)
