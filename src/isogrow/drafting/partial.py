"""A layout of what was told of a model, where not all was: its MLPs and what writes to its residual, so that
ffn and layers grow, and all else as it is.

What is kept has a row for each layer, whose axes are its own and grow by no rule. A new layer's is drawn as
any new weights are: as nothing of it is written to the residual, it may compute what it likes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from isogrow.drafting.assembling import bias_at, epsilon, keys_of, said, share
from isogrow.drafting.defaults import listed
from isogrow.drafting.fitting import OWN, fit
from isogrow.drafting.layering import Layered, in_order, kinds_of
from isogrow.drafting.measuring import Measures
from isogrow.drafting.mixtures import MIXED, bindings, mixture_rows
from isogrow.drafting.roles import Role
from isogrow.drafting.slots import KEPT, WRITES
from isogrow.drafting.twins import lists
from isogrow.layouts.layout import Bias, Layout, Norm, PerLayer, Weight

WIDTH = "some modules of its layers were not told, so that their width stays"
LOOSE = "a layer's output is no sum of its input and what its projections give, so no new one is the identity"


def assembled_partly(family: str, measures: Measures) -> Layout:
    """The layout that says what was told, and keeps all else. Raises `FamilyError` where no MLP is told and
    layers can't be added, or where sizes do not fit."""
    config, out = measures.config, measures.outside
    layers = [each for each in measures.layers if each.placed.role.kind != "loose"]
    made = [(each, tuple(_rows(measures, each))) for each in layers]
    rows = tuple(said(measures, row) for row in (*out.before, *in_order(made), *out.after))
    turned = frozenset(row.name for each, own in made if each.placed.role.transposed for row in own)
    found = fit(rows, measures.shapes, None, out.prefix, 0, turned)
    loose = len(layers) < len(measures.layers)
    return share(
        Layout(
            family=family,
            model_types=(str(config["model_type"]),),
            weights=found.rows,
            axes=found.axes,
            keys=tuple(keys_of(measures, found, found.rows)),
            prefixes=(out.prefix, "") if out.prefix else ("",),
            per_layer=tuple(PerLayer(key, listed(config, key)) for key in lists(config)),
            follows=found.follows,
            kinds=kinds_of(layers),
            bindings=tuple(bindings(measures, found.rows)),
            refusals={"hidden": WIDTH} | ({"layers": LOOSE} if loose else {}),
        ),
        out,
    )


def _rows(measures: Measures, layered: Layered) -> Iterator[Weight]:
    """The rows of one module."""
    base, each = measures.base, layered.placed
    path = f"{base.trace.layers}.{{layers}}.{each.role.path}".removeprefix(measures.outside.prefix)
    first = f"{base.trace.layers}.{layered.first}.{each.role.path}"
    for row in _plain_rows(measures, layered, path, first):
        yield replace(row, when=layered.when)


def _plain_rows(measures: Measures, layered: Layered, path: str, first: str) -> Iterator[Weight]:
    each, bias = layered.placed, bias_at(measures.biases, layered.placed.role.module, first)
    if each.slot == KEPT:
        yield from kept(each.role, path)
    elif each.role.norm is not None:
        yield _norm(measures, each.role, path, each.slot, bias)
    elif each.slot.startswith(WRITES):
        axis = _own(each.role.path, 0)
        pattern = f"{axis} -> hidden" if each.role.transposed else f"hidden <- {axis}"
        yield Weight(f"{path}.weight", pattern, each.slot, bias=bias)
    elif each.slot in MIXED:
        yield from mixture_rows(measures.config, each, path, bias)
    else:
        yield Weight(f"{path}.weight", "", each.slot, bias=bias)


def kept(role: Role, path: str) -> Iterator[Weight]:
    """A row for each tensor of a module, whose axes are its own."""
    module = role.module
    own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    stored = {name for name in module.state_dict() if "." not in name}
    for name, value in own.items():
        if name in stored:
            at = f"{role.path}.{name}".lstrip(".")
            yield _kept(f"{path}.{name}".replace("..", "."), at, value, name in dict(module.named_buffers()))


def _kept(name: str, at: str, value: Tensor, fixed: bool) -> Weight:
    axes = " ".join(_own(at, i) for i in range(value.dim()))
    slot = f"kept.{at.replace('.', '_')}"
    return Weight(name, f"-> {axes}".strip(), slot, idle="True", centred=value.dim() < 2, constant=fixed)


def _own(at: str, i: int) -> str:
    return OWN + re.sub(r"\W", "_", at) + f"_{i}"


def _norm(measures: Measures, role: Role, path: str, slot: str, bias: Bias | None) -> Weight:
    norm = role.norm
    assert norm is not None and role.kind in ("branch", "post")
    plain = Norm(norm.kind, role.kind, eps=epsilon(measures, role.path, norm.eps), offset=norm.offset)
    if not norm.gain:
        return Weight(path, "* hidden", slot, plain, stored=False)
    return Weight(f"{path}.{norm.gain}", "* hidden", slot, plain, bias)
