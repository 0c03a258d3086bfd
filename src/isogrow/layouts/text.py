"""A layout as text: written as family files are written, for a human to read, and read as data.

The text is Python, of which only this is read: names that stand for strings, for what the layout's own
classes make, and for tuples and mappings of them. Nothing in it is run.

    read(written(layout)) == layout
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, cast

from isogrow.errors import LayoutError
from isogrow.layouts.layout import (
    Alibi,
    Attention,
    Bias,
    Binding,
    Key,
    Kinds,
    Layout,
    Norm,
    PerLayer,
    Readout,
    Rename,
    Rope,
    Stream,
    Weight,
)

WIDTH = 108
KNOWN: Mapping[str, Callable[..., Any]] = {
    kind.__name__: kind
    for kind in (
        Alibi, Attention, Bias, Binding, Key, Kinds, Layout, Norm, PerLayer, Readout, Rename, Rope, Stream,
        Weight, frozenset,
    )
}  # fmt: skip

# How many of a class's fields are written without their names.
PLACED: Mapping[type, int] = {
    Weight: 3, Norm: 2, Key: 2, PerLayer: 2, Bias: 1, Rope: 1, Attention: 3, Rename: 2, Stream: 1, Kinds: 2,
    Binding: 2,
}  # fmt: skip


def read(text: str, where: str = "the layout") -> Layout:
    """The layout that a text says: its last one. Raises `LayoutError` for anything that is no data.

    >>> read('TINY = Layout("tiny", (Weight("embed.weight", "vocab -> hidden", "embed"),), {})').family
    'tiny'
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise LayoutError(f"{where} can't be read (line {error.lineno}: {error.msg}): correct it") from error
    names: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            names[node.targets[0].id] = _value(node.value, names, where)
        elif not (isinstance(node, ast.ImportFrom) or _said(node)):
            raise _odd(node, where)
    found = [value for value in names.values() if isinstance(value, Layout)]
    if not found:
        raise LayoutError(f"{where} makes no Layout: write one as docs/add-a-family.md shows")
    return found[-1]


def _said(node: ast.stmt) -> bool:
    """Whether a line only says something: a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _value(node: ast.expr, names: Mapping[str, Any], where: str) -> Any:
    def inside(each: ast.expr) -> Any:
        return _value(each, names, where)

    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Tuple(elts=parts):
            return tuple(map(inside, parts))
        case ast.List(elts=parts):
            return [*map(inside, parts)]
        case ast.Set(elts=parts):
            return frozenset(map(inside, parts))
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {inside(cast(ast.expr, k)): inside(v) for k, v in zip(keys, values, strict=True)}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined(inside(left), inside(right), node, where)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=given) if name in KNOWN:
            if all(each.arg for each in given):
                said = {str(each.arg): inside(each.value) for each in given}
                return _made(name, [*map(inside, args)], said, node, where)
        case _:
            pass
    raise _odd(node, where)


def _joined(left: Any, right: Any, node: ast.expr, where: str) -> Any:
    if not (isinstance(left, str) and isinstance(right, str)):
        raise _odd(node, where)
    return left + right


def _made(name: str, args: list[Any], said: Mapping[str, Any], node: ast.expr, where: str) -> Any:
    try:
        return KNOWN[name](*args, **said)
    except TypeError as error:
        raise LayoutError(f"{where}, line {node.lineno}: {error}") from error


def _odd(node: ast.stmt | ast.expr, where: str) -> LayoutError:
    shown = ast.unparse(node).partition("\n")[0]
    return LayoutError(
        f"{where}, line {node.lineno}: {shown[:60]!r} is no data of a layout: only strings, numbers, tuples,"
        f" mappings and {', '.join(name for name in KNOWN if name != 'frozenset')} are read"
    )


def written(layout: Layout, about: str = "") -> str:
    """The layout as the text of a family file; `about` is its docstring.

    Law: `read(written(layout)) == layout`.
    """
    names = dict(_named(layout))
    name = re.sub(r"\W|^(?=\d)", "_", layout.family.upper())
    used = sorted({type(each).__name__ for each in _parts(layout)} & KNOWN.keys() - {"frozenset"})
    lines = [f'"""{about or layout.family}"""', "", "from __future__ import annotations", ""]
    lines += [f"from isogrow.layouts.layout import {', '.join(used)}", ""]
    known: dict[Any, str] = {}
    for value, called in names.items():
        lines.append(f"{called} = {_shown(value, known, 0, len(called) + 3)}")
        known[value] = called
    lines += ["", "", f"{name} = {_shown(layout, known, 0, len(name) + 3)}", "", f"LAYOUTS = ({name},)", ""]
    return "\n".join(lines)


def _named(layout: Layout) -> Iterator[tuple[Any, str]]:
    """What gets a name: the start of layers' names, the norms and the biases."""
    starts = [row.name for row in layout.weights if "{layers}." in row.name]
    if starts:
        start = starts[0].partition("{layers}.")[0] + "{layers}."
        yield start, "L"
        for stem, letter in (("attn.", "A"), ("mlp.", "M")):
            rows = [row.name for row in layout.weights if row.slot.startswith(stem) and row.norm is None]
            owners = {name.rpartition(".weight")[0].rpartition(".")[0] + "." for name in rows}
            owner = owners.pop() if len(owners) == 1 else start
            if owner.startswith(start) and owner != start:
                yield owner, letter
    taken: dict[Norm | Bias, str] = {}
    for row in layout.weights:
        for value, called in ((row.norm, _norm_name(row.norm)), (row.bias, _bias_name(row.bias))):
            if value is not None and value not in taken:
                while called in taken.values():
                    called += "_TOO"
                taken[value] = called
    yield from taken.items()


def _norm_name(norm: Norm | None) -> str:
    if norm is None:
        return ""
    return f"{norm.of.rpartition('.')[2].upper()}_NORM" if norm.where == "inner" else norm.where.upper()


def _bias_name(bias: Bias | None) -> str:
    if bias is None:
        return ""
    words = "".join(c if c.isalnum() else "_" for c in bias.when.upper())
    return (words if "BIAS" in words else f"{words}_BIAS") if words else "BIAS"


def _parts(value: Any) -> Iterator[Any]:
    """A value, and all that is in it."""
    yield value
    if is_dataclass(value):
        for each in fields(value):
            yield from _parts(getattr(value, each.name))
    elif isinstance(value, Mapping):
        for each in cast("Mapping[Any, Any]", value).values():
            yield from _parts(each)
    elif isinstance(value, tuple | list):
        for each in cast("Iterable[Any]", value):
            yield from _parts(each)


def _shown(value: Any, known: Mapping[Any, str], depth: int, before: int = 0) -> str:
    """An expression, on one line where it fits."""
    if isinstance(value, str):
        return _text(value, known)
    if isinstance(value, Norm | Bias) and value in known:
        return known[value]
    opened, parts, closed = _pieces(value, known, depth)
    if opened is None:
        return repr(value)
    flat = opened + ", ".join(parts) + closed
    if isinstance(value, tuple) and len(parts) == 1:
        flat = f"{opened}{parts[0]},{closed}"
    if "\n" not in flat and len(flat) + before + 4 * depth < WIDTH:
        return flat
    indent = "    " * (depth + 1)
    return f"{opened}\n" + "".join(f"{indent}{part},\n" for part in parts) + "    " * depth + closed


def _pieces(value: Any, known: Mapping[Any, str], depth: int) -> tuple[str | None, list[str], str]:
    """What opens an expression, its parts, what closes it."""

    def inside(each: Any) -> str:
        return _shown(each, known, depth + 1)

    if is_dataclass(value):
        return f"{type(value).__name__}(", list(_arguments(value, inside)), ")"
    if isinstance(value, frozenset):
        return "frozenset({", [inside(each) for each in sorted(cast("frozenset[Any]", value))], "})"
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return "{", [f"{inside(key)}: {inside(each)}" for key, each in items], "}"
    if isinstance(value, tuple | list):
        ends = "()" if isinstance(value, tuple) else "[]"
        return ends[0], [inside(each) for each in cast("Iterable[Any]", value)], ends[1]
    return None, [], ""


def _arguments(value: Any, inside: Callable[[Any], str]) -> Iterator[str]:
    """The fields that are not their defaults; those that a reader knows by their place come without names."""
    placed, named = PLACED.get(type(value), 0), False
    for i, each in enumerate(fields(value)):
        said = getattr(value, each.name)
        if i >= placed or named:
            if said != _default(each):
                yield f"{each.name}={inside(said)}"
        elif said == _default(each):
            named = True
        else:
            yield inside(said)


def _default(each: Field[Any]) -> Any:
    if each.default is not MISSING:
        return each.default
    return each.default_factory() if each.default_factory is not MISSING else MISSING


def _text(value: str, known: Mapping[Any, str]) -> str:
    """A string, with a name for its beginning where there is one."""
    starts = [
        start for start in known if isinstance(start, str) and value.startswith(start) and value != start
    ]
    best = max(starts, key=len, default="")
    quoted = _quoted(value[len(best) :])
    return f"{known[best]} + {quoted}" if best else quoted


def _quoted(value: str) -> str:
    return repr(value) if '"' in value or "\\" in value else f'"{value}"'
