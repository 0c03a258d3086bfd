"""A layout from what was measured: rows in the order of the model, axes and keys as formulas, attentions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from isogrow.drafting.attentions import AttentionSizes, Turning, multiple, turning
from isogrow.drafting.defaults import alias_of, default_of, listed
from isogrow.drafting.fitting import OWN, UNSCALED, Fit, fit
from isogrow.drafting.formulas import holds, scales
from isogrow.drafting.kinds import default_config
from isogrow.drafting.layering import Layered, in_order, kinds_of
from isogrow.drafting.measuring import EPSILONS, Measures
from isogrow.drafting.mixtures import MIXED, bindings, choices, mixture_rows
from isogrow.drafting.norms import measured
from isogrow.drafting.outside import Outside
from isogrow.drafting.roles import Role, by_token, sinks_of
from isogrow.drafting.samples import Sample, shapes_under
from isogrow.drafting.slots import SINKS, PlacedModule
from isogrow.drafting.tracing import Attended
from isogrow.drafting.twins import lists, word_of
from isogrow.errors import FamilyError
from isogrow.layouts.config import Config, get
from isogrow.layouts.formula import names
from isogrow.layouts.layout import Attention, Bias, Key, Layout, Norm, PerLayer, Rope, Stream, Weight

NAME = re.compile(r"[a-z_]\w*")
SHARE = (
    "rope_scaling.partial_rotary_factor",
    "rope_parameters.partial_rotary_factor",
    "partial_rotary_factor",
)


def assembled(family: str, measures: Measures, way: int = 0) -> Layout:
    """The layout that says what was measured, the parts of fused tensors lying in this `way` (`fit`).

    Raises `FamilyError` for what no layout can say.
    """
    config, out = measures.config, measures.outside
    heads = _heads(measures)
    made = [(each, _rows(measures, each, heads)) for each in measures.layers]
    layer_rows = in_order(made)
    rows = tuple(said(measures, row) for row in (*out.before, *layer_rows, *out.after))
    turned = frozenset(row.name for each, own in made if each.placed.role.transposed for row in own)
    found = fit(rows, measures.shapes, heads, out.prefix, way, turned)
    rows = found.rows
    keys = tuple(keys_of(measures, found, rows))
    layout = Layout(
        family=family,
        model_types=(str(config["model_type"]),),
        weights=rows,
        axes=found.axes,
        keys=keys,
        prefixes=(out.prefix, "") if out.prefix else ("",),
        attentions=(_attention(measures, found, heads, way),),
        per_layer=tuple(PerLayer(key, listed(config, key)) for key in lists(config)),
        follows=found.follows,
        constraints=(*found.constraints, *_divided(config, found)),
        kinds=kinds_of(measures.layers),
        bindings=tuple(bindings(measures, rows)),
        refusals=_unplaced(measures, rows, heads),
    )
    return share(layout, out)


def share(layout: Layout, out: Outside) -> Layout:
    """The layout with what is said of all that stands around its layers, and with what no rule grows."""
    named = {axis for row in layout.weights for axis in NAME.findall(row.pattern)}
    own = {axis for axis in named if axis.startswith(OWN)}
    fixed = {"vocab", "positions", *out.fixed, *({"experts", "shared"} & layout.axes.keys()), *own}
    return replace(
        layout,
        fixed=frozenset(fixed),
        carried=out.carried,
        refusals={**layout.refusals, **out.refusals},
        streams=(Stream(tie="" if out.carried else Stream().tie),),
    )


def _unplaced(measures: Measures, rows: Sequence[Weight], heads: AttentionSizes) -> dict[str, str]:
    """Heads may not grow where it is not told how a head knows of positions (a bias of its own, say)."""
    placed = any(row.slot == "positions" for row in rows) or _rope(measures, heads) is not None
    why = "no table of positions and no rotation was seen, so heads may differ in a bias of their own"
    return {} if placed else dict.fromkeys(("heads", "kv_heads", "group"), why)


def _divided(config: Config, found: Fit) -> Iterator[str]:
    """Whether the class wants a width that its heads divide, though it does not compute with it."""
    hidden, heads = found.axes["hidden"], "kv_heads * group" if "kv_heads" in found.axes else "heads"
    if "//" not in found.axes["key_dim"] and shapes_under({**config, hidden: config[hidden] + 1}) is None:
        yield f"hidden % ({heads}) == 0"


def said(measures: Measures, row: Weight) -> Weight:
    """A row outside of the layers with the key that holds its norm's ε."""
    path = measures.outside.norms.get(row.slot, "")
    if row.norm is None or not path or measures.other is None:
        return row
    call = next(call for call in measures.other.trace.outside() if call.path == path)
    norm = measured(call.module, call.given.shape[-1])
    key = _key_of(measures.other.config, norm.eps if norm else 0.0, float(row.norm.eps))
    return replace(row, norm=replace(row.norm, eps=key))


def _heads(measures: Measures) -> AttentionSizes:
    """The sizes of the attention: as seen, or as the keys of a head count say."""
    seen = measures.attended()
    if seen is not None:
        return AttentionSizes.of(seen)
    config = measures.config
    said = {word_of(key): value for key, value in config.items() if word_of(key)}
    query = next((p.role for p in measures.placed if p.slot == "attn.q"), None)
    count = int(said["heads"])
    if query is not None:
        dim = query.shape[0] // count
        key = next(p.role for p in measures.placed if p.slot == "attn.k")
        return AttentionSizes(count, key.shape[0] // dim, dim, dim)
    out = next(p.role for p in measures.placed if p.slot == "attn.o")
    dim = out.shape[1] // count
    fused = next(p.role for p in measures.placed if p.slot == "attn.*")
    return AttentionSizes(count, (fused.shape[0] // dim - count) // 2, dim, dim)


def _rows(measures: Measures, layered: Layered, heads: AttentionSizes) -> tuple[Weight, ...]:
    """The rows of a module; the axes of an attention's and an MLP's projections are told by `fit`."""
    base, each = measures.base, layered.placed
    role = each.role
    path = f"{base.trace.layers}.{{layers}}.{role.path}".removeprefix(measures.outside.prefix)
    first = f"{base.trace.layers}.{layered.first}.{role.path}"
    if role.norm is not None:
        rows = (_norm_row(measures, each, path, first, heads),)
    elif each.slot == SINKS:
        rows = (Weight(f"{path}.{sinks_of(role.module)}", "-> <Q>", SINKS),)
    elif each.slot in MIXED:
        rows = mixture_rows(measures.config, each, path, bias_at(measures.biases, role.module, first))
        rows += tuple(choices(base.model, first, path)) if each.slot == "router" else ()
    else:
        rows = (Weight(f"{path}.weight", "", each.slot, bias=bias_at(measures.biases, role.module, first)),)
    return tuple(replace(row, when=layered.when) for row in rows)


def bias_at(flags: Mapping[str, str], module: nn.Module, path: str, name: str = "bias") -> Bias | None:
    """The bias of a module, with the flag that it depends on."""
    own = f"{path}.{name}"
    if own in flags:
        return Bias(flags[own])
    there = any(each == name for each, _ in module.named_parameters(recurse=False))
    return Bias() if there else None


def _norm_row(measures: Measures, each: PlacedModule, path: str, first: str, heads: AttentionSizes) -> Weight:
    role, norm = each.role, each.role.norm
    assert norm is not None
    where = "inner" if role.kind == "inner" else role.kind
    assert where in ("pre", "post", "branch", "inner")
    said = Norm(
        norm.kind, where, eps=epsilon(measures, role.path, norm.eps), of=each.over, offset=norm.offset
    )
    pattern = "* hidden"
    if each.over:
        pattern, over = _inner_axes(each, heads)
        said = replace(said, over=over)
    if not norm.gain:
        return Weight(path, pattern, each.slot, said, stored=False)
    bias = bias_at(measures.biases, role.module, first, norm.shift or "bias")
    return Weight(f"{path}.{norm.gain}", pattern, each.slot, said, bias)


def _inner_axes(each: PlacedModule, heads: AttentionSizes) -> tuple[str, tuple[str, ...]]:
    """The axes of a norm on queries or keys, and those that it runs over where its gain has more."""
    assert each.role.norm is not None
    shape = tuple(each.role.module.get_parameter(each.role.norm.gain).shape) if each.role.norm.gain else ()
    count = heads.heads if each.over == "attn.q" else heads.kv_heads
    own = "Q" if each.over == "attn.q" else "K"
    if shape in ((), (heads.key_dim,)) and shape != (count * heads.key_dim,):
        return "* key_dim", ()
    if shape == (count, heads.key_dim):
        return f"* <{own}> key_dim", ("key_dim",)
    if shape == (count * heads.key_dim,):
        return f"* <{own} key_dim>", ()
    raise FamilyError(
        f"{each.role.path} has a gain of shape {list(shape)}, which is no head's and not all heads'"
    )


def epsilon(measures: Measures, path: str, eps: float) -> str | float:
    """The key that holds a norm's ε, or the number that its code has."""
    if measures.other is None:
        return eps
    for roles in measures.other.roles if measures.whole else measures.other.partial:
        for role in roles:
            if role.path == path and role.norm is not None:
                return _key_of(measures.other.config, role.norm.eps, eps)
    return eps


def _key_of(config: Config, seen: float, eps: float) -> str | float:
    marked = (
        key for key, value in config.items() if value in EPSILONS and math.isclose(seen, value, rel_tol=1e-2)
    )
    return next(marked, eps)


def keys_of(measures: Measures, found: Fit, rows: Sequence[Weight]) -> Iterator[Key]:
    """The keys of the config that sizes, ε, scales and conditions are read from."""
    config = measures.config
    for key, size in found.keys.items():
        yield Key(key, size, default_of(config, key), alias=alias_of(config, key))
    known = [row.norm.eps for row in rows if row.norm is not None and isinstance(row.norm.eps, str)]
    known += [flag.removeprefix("not ") for flag in measures.biases.values()]
    known += [*_scaled(measures, found)] if measures.whole else []
    conditions = (formula for row in rows for formula in (row.when, row.idle) if formula)
    known += [name for formula in conditions for name in sorted(names(formula)) if name != "layers"]
    for key in dict.fromkeys((*known, "tie_word_embeddings")):
        if key not in found.keys and (key in config or key == "tie_word_embeddings"):
            yield Key(key, default=default_of(config, key))


def _scaled(measures: Measures, found: Fit) -> Iterator[str]:
    scale = _scale(measures)
    yield from (key for key in measures.config if key in scale.replace("(", " ").split())


def _attention(measures: Measures, found: Fit, heads: AttentionSizes, way: int) -> Attention:
    sink = next((row.slot for row in found.rows if row.slot == SINKS), "")
    scale = "" if way & UNSCALED else _scale(measures)
    return Attention(scale=scale, rope=_rope(measures, heads), sink=sink)


def _scale(measures: Measures) -> str:
    """The formula of the attention's scale in all samples; the usual one where it was not seen."""
    seen = [
        (sample, next(iter(sample.trace.attention(0)), None))
        for sample in (measures.base, measures.other)
        if sample
    ]
    measured: list[tuple[Mapping[str, Any], float]] = []
    for sample, attended in seen:
        if attended is None or attended.scale is None:
            return "key_dim ** -0.5"
        ratio = _ratio(sample, measures.placed, attended)
        measured.append(({**sample.config, "key_dim": attended.query.shape[-1]}, attended.scale * ratio))
    known = {key: value for key, value in measures.config.items() if isinstance(value, int | float)}
    return next((each for each in scales(known) if holds(each, measured)), "key_dim ** -0.5")


def _ratio(sample: Sample, layer: Sequence[PlacedModule], attended: Attended) -> float:
    """By what queries were multiplied between their projection and the attention."""
    query = next((each.role for each in layer if each.slot == "attn.q"), None)
    made = None if query is None else _made(sample, query.path)
    if made is None or made[0, 0].numel() != attended.query[0, :, 0].numel():
        return 1.0
    normed = any(each.slot == "attn.q_norm" for each in layer)
    return 1.0 if normed else multiple(made[0, 0].flatten(), attended.query[0, :, 0].flatten()) or 1.0


def _made(sample: Sample, path: str, layer: int = 0) -> Tensor | None:
    end = f".{layer}.{path}"
    return next((call.made for call in sample.trace.within(layer) if call.path.endswith(end)), None)


def _turned(measures: Measures, layer: int) -> Turning | None:
    """How a layer's queries turn, against the last module that gives them."""
    attended = measures.attended(layer)
    if attended is None:
        return None
    givers: list[Role] = [role for role in measures.base.roles[layer] if "q" in role.feeds]
    if not givers:
        return None
    tokens = attended.query.shape[2]
    made = _made(measures.base, givers[-1].path, layer)
    assert made is not None
    seen = turning(by_token(made, tokens)[0], attended.query[0])
    if seen is not None or givers[-1].kind != "inner":
        return seen
    return _turned_before(measures, layer, givers[-1], tokens)


def _turned_before(measures: Measures, layer: int, norm: Role, tokens: int) -> Turning | None:
    """How queries turn before their norm, against their projection."""
    query = next((each.role for each in measures.placed if each.slot == "attn.q"), None)
    end = f".{layer}.{norm.path}"
    call = next(call for call in measures.base.trace.within(layer) if call.path.endswith(end))
    made = None if query is None else _made(measures.base, query.path, layer)
    if made is None or call.given.dim() != 4:
        return None
    return turning(by_token(made, tokens)[0], by_token(call.given, tokens)[0].transpose(0, 1))


def _rope(measures: Measures, heads: AttentionSizes) -> Rope | None:
    """The rotary positions, as far as they were seen; None where nothing turns."""
    seen = [_turned(measures, layer) for layer in range(len(measures.base.trace.inputs))]
    turned = [each for each in seen if each is not None]
    config = measures.config
    if measures.attended() is None and (get(config, "rope_parameters") or "rotary_dim" in config):
        turned, seen = [Turning(int(config.get("rotary_dim") or heads.key_dim), "half")], []
    if not turned:
        return None
    first = turned[0]
    said: dict[str, Any] = {"everywhere": None not in seen}
    if first.channels < heads.key_dim and config.get("rotary_dim") == first.channels:
        said["rotated"] = "rotary_dim"
    elif first.channels < heads.key_dim:
        said |= {"share": _share(config), "portion": first.channels / heads.key_dim}
    return _tabled(Rope(first.pairs, **said), config, default_config(str(config["model_type"])))


def _share(config: Config) -> tuple[str, ...]:
    own = [key for key in ("rotary_pct", "rope_pct") if key in config]
    return (*SHARE[:-1], *(own or SHARE[-1:]))


def _tabled(rope: Rope, config: Config, usual: Config) -> Rope:
    """The rope with the tables that its config has: one, or one for each kind of layer."""
    tables = get(config, "rope_parameters") or {}
    if "rope_theta" in tables or not tables:
        default = get(usual, "rope_parameters.rope_theta") or usual.get("rope_theta") or 10000.0
        return replace(rope, default=float(default))
    paths = [f"rope_parameters.{kind}" for kind, table in tables.items() if isinstance(table, Mapping)]
    kinds = [replace(rope, theta=(f"{path}.rope_theta", "rope_theta"), scaling=(path,)) for path in paths]
    return replace(kinds[0], others=tuple(kinds[1:])) if kinds else rope
