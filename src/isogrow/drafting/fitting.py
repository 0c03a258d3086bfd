"""Axes and patterns: the formulas over config keys under which every row has its shape in every sample."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product

from isogrow.drafting.attentions import AttentionSizes
from isogrow.drafting.formulas import candidates
from isogrow.drafting.twins import BESIDE, word_of
from isogrow.errors import FamilyError, FormulaError
from isogrow.layouts.config import Config
from isogrow.layouts.formula import evaluate, names
from isogrow.layouts.layout import Weight
from isogrow.layouts.pattern import parse

Shapes = Sequence[tuple[Config, Mapping[str, tuple[int, ...]]]]
FEW = 5  # candidates for each axis
DEEPEST = 16  # layers that a twin may have
# How parts of fused tensors may lie: queries, keys, values head by head; gate and up channel by channel.
# And what may be so where an attention was not seen: its logits are not scaled.
BY_HEAD, PAIRED, UNSCALED = 1, 2, 4
OWN = "own_"  # how axes begin that are a module's own, which no formula says
FOLLOWS = re.compile(r"(\d+) \* (\w+)")

# How heads lie: whether keys are grouped, shared by all, or each head's own.
GROUPED = {"Q": "kv_heads group", "K": "kv_heads"}
PLAIN = {"Q": "heads", "K": "heads"}
SHARED = {"Q": "heads", "K": ""}
PATTERNS: Mapping[str, tuple[str, ...]] = {
    "attn.q": ("(Q key_dim) <- hidden",),
    "attn.k": ("(K key_dim) <- hidden",),
    "attn.v": ("(K value_dim) <- hidden",),
    "attn.o": ("hidden <- (Q value_dim)",),
    "attn.*": (
        "(q: Q key_dim + k: K key_dim + v: K value_dim) <- hidden",
        "(K (q: G key_dim + k: key_dim + v: value_dim)) <- hidden",
    ),
    "mlp.up": ("ffn <- hidden",),
    "mlp.gate": ("ffn <- hidden",),
    "mlp.*": ("(gate: ffn + up: ffn) <- hidden",),
    "mlp.down": ("hidden <- ffn",),
}


@dataclass(frozen=True)
class Fit:
    """What was fitted."""

    rows: tuple[Weight, ...]
    axes: dict[str, str]
    keys: dict[str, str]
    follows: dict[str, str] = field(default_factory=dict[str, str])
    constraints: tuple[str, ...] = ()


def fit(
    rows: Sequence[Weight],
    shapes: Shapes,
    heads: AttentionSizes | None,
    prefix: str,
    way: int = 0,
    transposed: frozenset[str] = frozenset(),
) -> Fit:
    """The rows with their patterns, and the axes. Raises `FamilyError` where no formulas have all shapes."""
    config = shapes[0][0]
    style = PLAIN if heads is None else _style(heads, config)
    rows = tuple(_patterned(row, style, way, row.name in transposed) for row in rows)
    known = _sized(rows, shapes[0][1], prefix)
    known |= {} if heads is None else _headed(heads, style)
    if any("shared " in row.pattern for row in rows):
        known["shared"] = next(int(v) for k, v in config.items() if word_of(k) == "shared")
    known["layers"] = next(int(v) for k, v in config.items() if word_of(k) == "layers" and isinstance(v, int))
    for axes in _choices(known, config, style):
        if all(_fits(rows, axes, each, found, prefix) for each, found in shapes):
            return Fit(rows, axes, *_held(axes, style, config))
    raise FamilyError("no formulas over config keys have the shapes of all projections")


def _style(heads: AttentionSizes, config: Config) -> Mapping[str, str]:
    said = [value for key, value in config.items() if word_of(key) == "kv_heads" and value is not None]
    grouping = bool(said)
    if heads.kv_heads == 1 and heads.heads > 1 and 1 not in said:
        return SHARED
    return GROUPED if grouping or heads.kv_heads != heads.heads else PLAIN


def _patterned(row: Weight, style: Mapping[str, str], way: int, transposed: bool) -> Weight:
    """The row with the axes of its heads written out; `way` says how parts of fused tensors lie (BY_HEAD,
    PAIRED)."""
    choices = PATTERNS.get(row.slot, (row.pattern,))
    pattern = choices[min(way & BY_HEAD, len(choices) - 1)]
    if way & PAIRED:
        pattern = re.sub(r"\(gate: (\w+) \+ up: \1\)", r"(\1 (gate: 1 + up: 1))", pattern)
    pattern = re.sub(r"<([QK])( key_dim)?>", lambda m: f"({style[m[1]]}{m[2] or ''})", pattern)
    group = "" if style["Q"] == style["K"] else style["Q"].removeprefix(style["K"]).strip()
    if pattern.startswith("(K (") and not style["K"]:
        pattern = pattern.replace("(K (q: G", "((q: Q")
    pattern = re.sub(r"\bG ", f"{group} " if group else "", pattern)
    for word, axes in style.items():
        pattern = re.sub(rf"\b{word} ", f"{axes} " if axes else "", pattern)
    pattern = re.sub(r"\(([a-z_]+)\)", r"\1", pattern)
    if transposed and " <- " in pattern:
        made, read = pattern.split(" <- ")
        pattern = f"{read} -> {made}"
    return replace(row, pattern=str(parse(pattern)))


def _sized(rows: Sequence[Weight], shapes: Mapping[str, tuple[int, ...]], prefix: str) -> dict[str, int]:
    """The sizes that dims of one axis have."""
    found: dict[str, int] = {}
    for row in rows:
        shape = _shape(row, shapes, prefix)
        for dim, length in zip(parse(row.pattern).dims, shape or (), strict=False):
            axis = dim.factors[0]
            if (
                len(dim.factors) == 1
                and isinstance(axis, str)
                and not (axis.isdigit() or axis.startswith(OWN))
            ):
                found.setdefault(axis, length)
    for row in (row for row in rows if row.slot in ("mlp.*",)):
        shape = _shape(row, shapes, prefix)
        found.setdefault("ffn", (shape or (0,))[0] // 2)
    return found


def _shape(row: Weight, shapes: Mapping[str, tuple[int, ...]], prefix: str) -> tuple[int, ...] | None:
    """The shape of a row's tensor in the first layer that has it."""
    name = ("" if row.head else prefix) + row.name
    return next(
        (shapes[at] for i in range(DEEPEST) if (at := name.replace("{layers}", str(i))) in shapes), None
    )


def _headed(heads: AttentionSizes, style: Mapping[str, str]) -> dict[str, int]:
    found = {"key_dim": heads.key_dim, "value_dim": heads.value_dim}
    if style is GROUPED:
        return {**found, "kv_heads": heads.kv_heads, "group": heads.heads // heads.kv_heads}
    return {**found, "heads": heads.heads}


def _choices(known: Mapping[str, int], config: Config, style: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Assignments of formulas to axes that have the sizes of the first sample."""
    said: dict[str, list[str]] = {}
    for axis, size in known.items():
        word = {"key_dim": "head_dim", "value_dim": "head_dim", "transform": "hidden"}.get(axis, axis)
        if axis == "types":
            said[axis] = [key for key in ("type_vocab_size",) if config.get(key) == size]
        elif axis != "group":
            said[axis] = list(islice(candidates(config, size, word), FEW))
        if axis != "group" and not said[axis]:
            raise FamilyError(f"no formula over config keys gives {axis}={size}")
    if style is GROUPED:
        total = known["kv_heads"] * known["group"]
        said["group"] = list(islice(candidates(config, total, "heads"), FEW))
    for chosen in product(*said.values()):
        axes = dict(zip(said, chosen, strict=True))
        if style is GROUPED:
            axes["group"] = f"{axes['group']} // {axes['kv_heads']}"
        yield axes


def _fits(
    rows: Sequence[Weight],
    axes: Mapping[str, str],
    config: Config,
    shapes: Mapping[str, tuple[int, ...]],
    prefix: str,
) -> bool:
    """Whether every row has its shape under a config."""
    try:
        sizes = {axis: int(evaluate(formula, config)) for axis, formula in axes.items()}
    except FormulaError:
        return False
    for row in (row for row in rows if OWN not in row.pattern):
        shape = _shape(row, shapes, prefix)
        if shape is not None and parse(row.pattern).shape(sizes.__getitem__) != shape:
            return False
    return True


def _held(
    axes: Mapping[str, str], style: Mapping[str, str], config: Config
) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """The keys that hold sizes, the axes that follow others, and what the config can't hold otherwise."""
    keys: dict[str, str] = {}
    for axis, formula in axes.items():
        if formula.isidentifier() and axis not in ("group", "transform"):
            keys.setdefault(formula, axis if axis not in ("vocab", "positions", "types") else "")
    if style is GROUPED:
        keys[axes["group"].partition(" ")[0]] = "kv_heads * group"
        keys[axes["kv_heads"]] = "kv_heads"
    for formula in axes.values():
        for name in names(formula):
            keys.setdefault(name, "")
    keys |= {key: "hidden" for key in BESIDE if key in config and key not in keys}
    heads = "kv_heads * group" if style is GROUPED else "heads"
    if "key_dim" not in axes:
        return keys, _following(axes), ()
    constraints = ["key_dim == value_dim"] if axes["key_dim"] == axes["value_dim"] else []
    if "//" in axes["key_dim"]:
        constraints.append(f"{heads} * key_dim == hidden")
    return keys, _following(axes), tuple(constraints)


def _following(axes: Mapping[str, str]) -> dict[str, str]:
    """The axes that are a multiple of the width."""
    follows = {
        axis: f"{hit[1]} * hidden"
        for axis, formula in axes.items()
        if (hit := FOLLOWS.fullmatch(formula)) and hit[2] == axes["hidden"]
    }
    return follows | ({"transform": "hidden"} if "transform" in axes else {})
