"""Formulas over sizes and config keys: arithmetic as data, so that a family stays a table.

A layout says `"hidden_size // num_attention_heads"` or `"key_dim ** -0.5"` instead of bringing a
function. Only names (with dots: `attn_config.clip_qkv`), entries of lists (`layer_types[layers]`), numbers,
strings, arithmetic, comparisons, `and/or/not`, `x if c else y` and the calls `int`, `str`, `len`, `round`,
`sqrt`, `min`, `max`, `list`, `range` are read; anything else is refused when it is parsed.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from functools import cache
from types import CodeType
from typing import Any

from isogrow.errors import FormulaError

CALLS = {
    **{"int": int, "str": str, "len": len, "round": round, "sqrt": math.sqrt, "min": min, "max": max},
    **{"list": list, "range": range},
}

ALLOWED = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Name, ast.Load,
    ast.Subscript, ast.Constant, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip


@cache
def names(formula: str) -> frozenset[str]:
    """The names a formula reads.

    >>> sorted(names("kv_heads * group"))
    ['group', 'kv_heads']
    """
    found = {node.id for node in ast.walk(_tree(formula)) if isinstance(node, ast.Name)}
    return frozenset(found - CALLS.keys())


def evaluate(formula: str, values: Mapping[str, Any]) -> Any:
    """The value of `formula`, its names looked up in `values`; a missing name is a `FormulaError`.

    >>> evaluate("hidden // heads", {"hidden": 768, "heads": 12})
    64
    """
    try:
        found = {name: values[name] for name in names(formula)}
    except KeyError as error:
        missing = sorted(name for name in names(formula) if name not in values)
        raise FormulaError(
            f"the formula {formula!r} needs {', '.join(missing)}, which is not given: add it to the config"
        ) from error
    try:
        return eval(_code(formula), {"__builtins__": {}, **CALLS}, found)
    except (TypeError, ZeroDivisionError, ValueError, LookupError) as error:
        given = {name: values[name] for name in sorted(names(formula))}
        raise FormulaError(f"the formula {formula!r} has no value at {given}: {error}") from error


@cache
def _tree(formula: str) -> ast.Expression:
    try:
        tree: ast.Expression = _Dotted().visit(ast.parse(formula, mode="eval"))
    except SyntaxError as error:
        raise FormulaError(f"the formula {formula!r} can't be read: {error.msg}") from error
    for node in ast.walk(tree):
        call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS
        if not (call or isinstance(node, ALLOWED)):
            raise FormulaError(f"the formula {formula!r} may not use {type(node).__name__}")
    return tree


@cache
def _code(formula: str) -> CodeType:
    return compile(_tree(formula), formula, "eval")


class _Dotted(ast.NodeTransformer):
    """Makes one name of a name with dots: the path of a nested config key."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        owner = self.visit(node.value)
        if not isinstance(owner, ast.Name):
            return node
        return ast.copy_location(ast.Name(f"{owner.id}.{node.attr}", ast.Load()), node)
