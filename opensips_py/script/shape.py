"""What a tree says, without where it says it: two scripts that differ in blanks and comments have equal shapes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from opensips_py.script import ast

_PLACE = {field.name for field in fields(ast.Node)}


def shape(node: Any) -> Any:
    """The node, or list of nodes, as nested tuples without places."""
    if isinstance(node, list):
        return tuple(shape(item) for item in node)
    if isinstance(node, ast.Node):
        return (type(node).__name__, *(shape(getattr(node, f.name)) for f in fields(node) if f.name not in _PLACE))
    return node
