"""Mixtures of experts: their rows, and the names that files have for what memory has stacked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from isogrow.drafting.filing import states
from isogrow.drafting.slots import PlacedModule
from isogrow.drafting.twins import word_of
from isogrow.errors import FamilyError
from isogrow.layouts.config import Config
from isogrow.layouts.layout import Bias, Binding, Weight

if TYPE_CHECKING:
    from isogrow.drafting.measuring import Measures

MIXED = ("router", "experts", "choice", "shared.gate", "shared.up", "shared.down", "shared.*")
TOP = ("num_experts_per_tok", "moe_topk", "num_experts_per_token", "moe_k")

# What files call an expert's three projections.
PARTS = (
    (r"gate_proj|w1|gate", "experts.gate"),
    (r"up_proj|w3|up", "experts.up"),
    (r"down_proj|w2|down", "experts.down"),
)


def mixture_rows(config: Config, each: PlacedModule, path: str, bias: Bias | None) -> tuple[Weight, ...]:
    """The rows of one module of a mixture."""
    idle = next((f"{key} == 1" for key in TOP if key in config), "")
    if each.slot == "router":
        return tuple(_router(each, path, bias, idle))
    if each.slot == "choice":
        return (Weight(f"{path}.weight", "1 <- hidden", "choice", bias=bias, scales="shared.down"),)
    if each.slot == "experts":
        return tuple(_experts(config, each, path))
    axis = _shared(config, each)
    patterns = {
        "shared.*": f"(gate: {axis} + up: {axis}) <- hidden",
        "shared.down": f"hidden <- ({axis})" if " " in axis else f"hidden <- {axis}",
    }
    pattern = patterns.get(each.slot, f"({axis}) <- hidden" if " " in axis else f"{axis} <- hidden")
    return (Weight(f"{path}.weight", pattern, each.slot, bias=bias),)


def _router(each: PlacedModule, path: str, bias: Bias | None, idle: str) -> Iterator[Weight]:
    yield Weight(f"{path}.weight", "experts <- hidden", "router", bias=bias, scales="experts.down", idle=idle)
    module = each.role.module
    count = module.get_parameter("weight").shape[0]
    own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    for name, value in own.items():
        if name not in ("weight", "bias") and name in module.state_dict():
            if tuple(value.shape) != (count,):
                raise FamilyError(f"{path}.{name} of a router has no entry for each expert")
            yield Weight(f"{path}.{name}", "-> experts", "router.choice", idle="True")


def choices(model: nn.Module, first: str, path: str) -> Iterator[Weight]:
    """What a mixture's block has beside its router for each expert, to choose by: it is no parameter."""
    router = model.get_submodule(first)
    owner, count = first.rpartition(".")[0], router.get_parameter("weight").shape[0]
    block = model.get_submodule(owner)
    for name, value in block.named_buffers(recurse=False):
        if tuple(value.shape) == (count,) and f"{owner}.{name}" in model.state_dict():
            at = f"{path.rpartition('.')[0]}.{name}"
            yield Weight(at, "-> experts", "router.choice", idle="True")


def _experts(config: Config, each: PlacedModule, path: str) -> Iterator[Weight]:
    """Gate and up in one tensor, and down; stored produced × consumed, or the other way around."""
    own = dict(each.role.module.named_parameters(recurse=False))
    stacked = {name: value for name, value in own.items() if value.dim() == 3}
    (up_name, up), (down_name, down) = stacked.items()
    hidden = next(int(v) for k, v in config.items() if word_of(k) == "hidden" and isinstance(v, int))
    width = down.shape[2] if down.shape[1] == hidden else down.shape[1]
    axis = axis_of(config, width)
    parts, slot = (f"(gate: {axis} + up: {axis})", "experts.*")
    if width in (up.shape[1], up.shape[2]):
        parts, slot = axis, "experts.up"
    turned = down.shape[2] == hidden
    read = f"{{experts}} hidden -> {parts}" if turned else f"{{experts}} {parts} <- hidden"
    write = f"{{experts}} {axis} -> hidden" if turned else f"{{experts}} hidden <- {axis}"
    biases = {name for name in own if name not in stacked}
    for name, pattern, called in ((up_name, read, slot), (down_name, write, "experts.down")):
        has = f"{name}_bias" in biases
        yield Weight(f"{path}.{name}", pattern, called, bias=Bias() if has else None)


def axis_of(config: Config, width: int) -> str:
    """The axis of this width: that of experts where a key of their own has it."""
    own = (word_of(key) for key, value in config.items() if value == width and word_of(key).endswith("ffn"))
    found = list(own)
    return "expert_ffn" if "expert_ffn" in found else found[0] if found else "ffn"


def _shared(config: Config, each: PlacedModule) -> str:
    """The axes of a shared expert's width."""
    made, read = each.role.shape
    width = read if each.slot == "shared.down" else made // 2 if each.slot == "shared.*" else made
    keys = {word_of(key): value for key, value in config.items() if word_of(key) and isinstance(value, int)}
    if keys.get("shared_ffn") == width:
        return "shared_ffn"
    if keys.get("shared") and keys["shared"] * keys.get("expert_ffn", 0) == width:
        return "shared expert_ffn"
    return axis_of(config, width)


def bindings(measures: Measures, rows: Sequence[Weight]) -> Iterator[Binding]:
    """Where files have what memory has stacked, as the library itself would write them."""
    experts = [row for row in rows if row.slot.startswith("experts.") and "{experts}" in row.pattern]
    if not experts:
        return
    state, filed = states(measures.config)
    places = dict(_places(filed.keys() - state.keys(), measures, experts))
    places |= dict(_renamed(filed, state, measures, rows))
    if places:
        yield Binding("files", places)


def _places(
    names: set[str], measures: Measures, experts: Sequence[Weight]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """An expert's own tensors in files."""
    axis = re.sub(
        r"\{experts\}|hidden|<-|->| ", "", next(row.pattern for row in experts if row.slot == "experts.down")
    )
    start = re.escape(measures.base.trace.layers)
    for name in sorted(names):
        hit = re.fullmatch(rf"{start}\.\d+\.(.+)\.(\d+)\.(\w+)\.weight", name)
        slot = next((slot for words, slot in PARTS if hit and re.fullmatch(words, hit[3])), "")
        if hit and slot:
            template = f"{measures.base.trace.layers}.{{layers}}.{hit[1]}.{{experts}}.{hit[3]}.weight"
            pattern = f"hidden <- {axis}" if slot == "experts.down" else f"{axis} <- hidden"
            yield template.removeprefix(measures.outside.prefix), (slot, pattern)


def _renamed(
    filed: dict[str, Any], state: dict[str, Any], measures: Measures, rows: Sequence[Weight]
) -> Iterator[tuple[str, str]]:
    """Other slots of a mixture that files name otherwise: those of one shape that stand alone."""
    layer = f"{measures.base.trace.layers}.{max(each.first for each in measures.layers)}."
    gone = {name for name in state.keys() - filed.keys() if name.startswith(layer)}
    new = {name for name in filed.keys() - state.keys() if name.startswith(layer)}
    for row in (row for row in rows if row.slot in ("router", "router.choice", "choice")):
        name = measures.outside.prefix + row.name.replace("{layers}", layer.split(".")[-2])
        if name not in gone:
            continue
        like = [other for other in new if filed[other].shape == state[name].shape]
        if len(like) == 1:
            other = like[0].replace(layer, f"{measures.base.trace.layers}.{{layers}}.")
            yield other.removeprefix(measures.outside.prefix), row.slot
