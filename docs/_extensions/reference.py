"""The API reference, of the docstrings: autodoc reads classes and functions, and a directive the interfaces of zope."""

from __future__ import annotations

import ast
import builtins
from enum import Enum
from functools import partial
from inspect import getsource, isclass
from typing import Any

import attrs
from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger
from sphinx.util.nodes import make_refnode
from zope.interface.interface import InterfaceClass

from . import epytext, names

Lines = list[str]

MADE_HERE = {
    f"{names.PACKAGE}.{each}"
    for each in (
        "Socket",
        "client.endpoints.ClientSessionTransport",
        "endpoints.SessionPort",
        "endpoints.SessionTransport",
        *(
            f"socketio.{name}"
            for name in (
                "Handshake",
                "Kept",
                "Namespace",
                "Operator",
                "ParentNamespace",
                "RemoteSocket",
                "Socket",
                "SocketOperator",
                "testing.MemorySocket",
                "testing.Question",
            )
        ),
    )
}
"""The classes whose objects an application is given."""


def asRst(docstring: str, module: str, owner: Any = None) -> Lines:
    """
    Return the lines of a docstring, with its fields, in reStructuredText.

    @param module: the name of the module that it stands in.
    @param owner: the class or the interface that it belongs to, or describes.
    """
    find = partial(names.find, module=module, owner=owner)
    text, fields = epytext.split(docstring)
    lines = epytext.asText(text, find)
    for each in fields:
        if each.kind in epytext.FIELDS:
            first, *rest = epytext.asText(each.text, find)
            name = " ".join(filter(None, (epytext.FIELDS[each.kind], each.name.replace("*", "\\*"))))
            lines += [f":{name}: {first}", *(f"    {line}" for line in rest if line)]
    lines.append("")
    for each in fields:
        if each.kind in epytext.VARIABLES and not each.name.startswith("_"):
            lines += _attribute(each.name, epytext.asText(each.text, find), owner)
    return lines


def _attribute(name: str, text: Lines, owner: Any) -> Lines:
    kinds = (vars(each).get("__annotations__", {}).get(name) for each in owner.__mro__)
    kind = next((each for each in kinds if isinstance(each, str)), None)
    head = [f".. py:attribute:: {name}", *([f"    :type: {kind}"] if kind else []), *_default(name, owner)]
    first, *rest = text
    return [*head, "", f"    {first[:1].upper()}{first[1:]}", *(f"    {line}" for line in rest), ""]


def _default(name: str, owner: Any) -> Lines:
    field = attrs.fields_dict(owner).get(name) if attrs.has(owner) else None
    isPlain = field is not None and isinstance(field.default, str | bytes | int | float | tuple | None)
    return [f"    :value: {field.default!r}"] if isPlain and field is not None else []


def options(owner: Any) -> Lines:
    """Return the attributes of a class whose fields have their descriptions in their metadata, as options do."""
    lines = []
    for each in attrs.fields(owner) if attrs.has(owner) else ():
        if "help" in each.metadata:
            find = partial(names.find, module=owner.__module__, owner=owner)
            lines += _attribute(each.name, epytext.asText(each.metadata["help"], find), owner)
    return lines


def readDocstring(_application: Any, kind: str, name: str, found: Any, _options: Any, lines: Lines) -> None:
    """Replace the lines of a docstring that autodoc has read."""
    if kind in ("class", "exception"):
        owner, module = found, found.__module__
    elif kind in ("method", "attribute", "property"):
        owner = names.objectAt(name.rpartition(".")[0])
        module = owner.__module__
    else:
        owner, module = None, name if kind == "module" else getattr(found, "__module__", name.rpartition(".")[0])
    # What others wrote, as that of an inherited method, is not in epytext.
    if module.startswith(names.PACKAGE):
        try:
            lines[:] = [*asRst("\n".join(lines), module, owner), *(options(owner) if isclass(found) else ())]
        except epytext.MarkupError as error:
            getLogger(__name__).warning("docstring of %s: %s", name, error)


class Interface(SphinxDirective):
    """C{autointerface}: describe an interface of zope, which is no class to autodoc, from its source."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the description of the interface."""
        name = self.arguments[0]
        interface = names.objectAt(name)
        module = interface.__module__
        (body,) = (
            node.body
            for node in ast.walk(ast.parse(getsource(names.modules()[module])))
            if isinstance(node, ast.ClassDef) and node.name == interface.__name__
        )
        front, _, short = name.rpartition(".")
        lines = [
            f".. py:currentmodule:: {front}",
            "",
            f".. py:class:: {short}",
            f"    :canonical: {module}.{interface.__name__}",
            "",
        ]
        inner = asRst(interface.__doc__, module, interface)
        for node in body:
            if isinstance(node, ast.FunctionDef):
                returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
                inner += [f".. py:method:: {node.name}({ast.unparse(node.args)}){returned}", ""]
                inner += [f"    {line}" for line in asRst(ast.get_docstring(node) or "", module, interface)]
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                attribute = node.targets[0].id
                text = asRst(interface[attribute].__doc__, module, interface)
                inner += [f".. py:attribute:: {attribute}", "", *(f"    {line}" for line in text)]
        lines += [f"    {line}" for line in inner]
        return self.parse_text_to_nodes(StringList(lines, source=f"{module}.{interface.__name__}"))


def resolve(application: Any, environment: Any, node: nodes.Element, content: nodes.Element) -> nodes.Node | None:
    """Return a link to where a name is described; the name alone if nobody describes it; None if it means nothing."""
    if node.get("refdomain") != "py":
        return None
    module = node.get("py:module") or names.PACKAGE
    owner = names.objectAt(f"{module}.{node['py:class']}") if node.get("py:class") else None
    full = names.find(node["reftarget"], module, owner)
    if full is None:
        return None
    domain = environment.domains.python_domain
    for each in names.publicNames(full):
        if each in domain.objects:
            entry = domain.objects[each]
            return make_refnode(application.builder, node["refdoc"], entry.docname, entry.node_id, content, each)
    uri = names.address(full)
    return nodes.reference("", "", content, internal=False, refuri=uri) if uri else content


class ExactNames(SphinxPostTransform):
    """
    Resolve names as L{resolve} does, before Sphinx looks for any that end so.

    Two packages have a C{Socket}, and an attribute may be called C{type}.
    """

    default_priority = 5

    def run(self, **_options: Any) -> None:
        """Replace the references of this page that mean something here, and leave others to Sphinx."""
        for node in [*self.document.findall(addnodes.pending_xref)]:
            content = node[0].deepcopy()
            node.setdefault("refdoc", self.env.docname)
            isBuiltin = node.get("refdomain") == "py" and hasattr(builtins, node["reftarget"])
            found = content if isBuiltin else resolve(self.app, self.env, node, content)
            if found is not None:
                node.replace_self(found)


def leaveSignatureOut(_application: Any, _kind: str, name: str, found: Any, *_others: Any) -> tuple[str, None] | None:
    """Leave out how an object is made, if that is no business of an application's."""
    isEnum = isclass(found) and issubclass(found, Enum)
    return ("", None) if isEnum or name in MADE_HERE else None


def leaveOut(_application: Any, kind: str, name: str, found: Any, _isLeftOut: bool, _options: Any) -> bool | None:
    """Leave out fields of named tuples, and classes as attributes: the docstrings of their owners describe them."""
    isAlias = kind == "class" and isclass(found) and found.__name__ != name.rpartition(".")[2]
    return True if isAlias or type(found).__name__ == "_tuplegetter" else None


def nameInterfaces() -> None:
    """Have interfaces in annotations look like classes, for autodoc to name them as it does those."""
    for module in names.modules():
        for each in names.namespace(module).values():
            if isinstance(each, InterfaceClass):
                each.__qualname__ = each.__name__


def setup(application: Any) -> None:
    """Register all of it with Sphinx."""
    nameInterfaces()
    application.add_directive("autointerface", Interface)
    application.connect("autodoc-process-docstring", readDocstring)
    application.connect("autodoc-process-signature", leaveSignatureOut)
    application.connect("autodoc-skip-member", leaveOut)
    application.add_post_transform(ExactNames)
    application.connect("missing-reference", resolve)
