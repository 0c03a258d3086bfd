"""Layers of several kinds: which layers have which modules, as a formula over config keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from isogrow.drafting.slots import PlacedModule
from isogrow.errors import FamilyError, FormulaError
from isogrow.layouts.config import Config
from isogrow.layouts.formula import evaluate
from isogrow.layouts.layout import Kinds, Weight

LIKELY = ("dense", "sparse", "moe", "expert", "mlp", "layer", "first", "step", "interval")
LATE = ("mlp.down", "experts.down", "shared.down", "attn.o", "attn_after", "mlp_after")


@dataclass(frozen=True)
class Layered:
    """A module of a layer: when a layer has it ("": each does), and the first layer that does."""

    placed: PlacedModule
    when: str = ""
    first: int = 0


def layered(config: Config, layers: Sequence[Sequence[PlacedModule]]) -> Iterator[Layered]:
    """The modules of all layers. Raises `FamilyError` where no key says which layer is of which kind."""
    kinds = [tuple(_kind(each) for each in layer) for layer in layers]
    distinct = list(dict.fromkeys(kinds))
    if len(distinct) == 1:
        yield from (Layered(each) for each in layers[0])
        return
    if len(distinct) > 2:
        raise FamilyError(f"layers are of {len(distinct)} kinds, and no formula is tried for more than two")
    of_first = [kind == distinct[0] for kind in kinds]
    when = _condition(config, of_first)
    other = kinds.index(distinct[1])
    common = set(distinct[0]) & set(distinct[1])
    rest = [each for each in layers[other] if _kind(each) not in common]
    last = max((i for i, each in enumerate(layers[0]) if _kind(each) not in common), default=-1)
    for i, each in enumerate(layers[0]):
        yield Layered(each, "" if _kind(each) in common else when)
        if i == last:
            yield from (Layered(one, f"not ({when})", other) for one in rest)
    if last < 0:
        yield from (Layered(one, f"not ({when})", other) for one in rest)


def _kind(each: PlacedModule) -> tuple[Any, ...]:
    shapes = tuple(tuple(value.shape) for value in each.role.module.parameters(recurse=False))
    return each.role.path, each.slot, each.role.kind, shapes


def _condition(config: Config, truth: Sequence[bool]) -> str:
    """The formula over `layers` that is true where this is."""
    for formula in _formulas(config, len(truth)):
        try:
            if [bool(evaluate(formula, {**config, "layers": i})) for i in range(len(truth))] == list(truth):
                return formula
        except FormulaError:
            continue
    raise FamilyError("layers are of two kinds, and no config key that is known says which are which")


def _formulas(config: Config, depth: int) -> Iterator[str]:
    keys = sorted(config, key=lambda key: not any(word in key for word in LIKELY))
    for key in keys:
        value = config[key]
        if isinstance(value, list) and len(cast("list[Any]", value)) == depth:
            yield from (
                f"{key}[layers] == {each!r}" for each in dict.fromkeys(map(_plain, cast("list[Any]", value)))
            )
        elif isinstance(value, list):
            yield from (f"layers in {key}", f"layers not in {key}")
    for key in keys:
        if isinstance(config[key], int) and not isinstance(config[key], bool) and config[key] > 0:
            yield from (f"layers < {key}", f"(layers + 1) % {key} != 0", f"layers % {key} != 0")
            yield from (f"(layers + 1) % {key} == 0", f"layers % {key} == 0")


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)


def kinds_of(layers: Sequence[Layered]) -> tuple[Kinds, ...]:
    """The key that says which layers are of a kind, where it is a number of layers or a list of them."""
    for each in layers:
        words = each.when.split()
        if words[:2] == ["layers", "<"]:
            return (Kinds(words[2], each.when, counts=True),)
        if words[:2] == ["layers", "in"]:
            return (Kinds(words[2], each.when),)
    return ()


def in_order(made: Sequence[tuple[Layered, Sequence[Weight]]]) -> list[Weight]:
    """The rows of a layer: within a state of the residual what reads it before what writes to it."""
    placed: list[tuple[int, Weight]] = []
    for each, rows in made:
        role = each.placed.role
        for row in rows:
            late = role.kind in ("writes", "branch") or row.slot in LATE
            placed.append((2 * role.state + late, row))
    return [row for _, row in sorted(placed, key=lambda pair: pair[0])]
