"""Law 1 for rotary positions: an old pair stays a pair, and keeps the frequency at which it turns.

The model computes the frequency ω_i of pair i of a head from its config (frequencies.py). When the axis grows
and an old pair moves from j to i, it keeps its frequency iff

    ω̂_i = ω_j    for every length of text, in every kind of layer

and the factor on cosine and sine stays if the rest of the table does. Without scaling that is i log θ̂ / k̂ =
j log θ / k. Where only the first r channels rotate, r takes the place of k.
"""

from __future__ import annotations

from math import isclose, log

from isogrow.errors import LawError
from isogrow.laws.frequencies import frequencies
from isogrow.layouts.config import Config, edited, get
from isogrow.layouts.layout import Attention, Rope
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import OLD, Plan, Step
from isogrow.plans.sizes import Sizes

TOLERANCE = 1e-13  # the quotient and the power are rounded once each


def check_positions(anatomy: Anatomy, plan: Plan) -> None:
    """Raise `LawError` where a step parts a rotary pair, or lets it turn at another frequency."""
    config = anatomy.config
    for step, sizes in zip(plan.steps, plan.stages, strict=False):
        after = edited(config, step.config)
        for attention in anatomy.layout.attentions:
            for rope in attention.ropes if attention.key in anatomy.slots else ():
                _check_rope(anatomy, step, attention, rope, sizes, (config, after))
        config = after


def _check_rope(
    anatomy: Anatomy,
    step: Step,
    attention: Attention,
    rope: Rope,
    sizes: Sizes,
    configs: tuple[Config, Config],
) -> None:
    grows = attention.axis == step.axis
    head = step.old if grows else sizes.of(attention.axis, next(sizes.all_sites(attention.axis)))
    heads = (head, step.new if grows else head)
    was, now = (anatomy.layout.rotated(rope, c, n) for c, n in zip(configs, heads, strict=True))
    if was == now == 0:  # positions of another kind (slopes.py)
        return
    pairs = _pairs(step, rope, was, now) if grows else {i: i for i in range(min(was, now) // 2)}
    if not grows and was != now:
        raise LawError(f"{step.expansion} lets {now} channels of a head rotate, and {was} did")
    _check_grids(step, rope, pairs, (was, now), configs)
    _check_thetas(step, rope, pairs, (was, now), configs)
    _check_turns(step, rope, pairs, heads, (was, now), configs)


def _pairs(step: Step, rope: Rope, was: int, now: int) -> dict[int, int]:
    """Old pair -> the pair that it becomes, of the channels that rotate; the others must not begin to."""
    moved: dict[int, int] = {}
    for position in range(step.new):
        source, label = step.source(position)
        if label.startswith(OLD):
            moved[source] = position
    found: dict[int, int] = {}
    for pair in range(was // 2):
        first, second = (moved[channel] for channel in _channels(pair, was, rope))
        if _channels(_pair(first, now, rope), now, rope) != (first, second):
            raise LawError(
                f"{step.expansion} parts the rotary pair {pair} of {step.axis}: its channels would be"
                f" {first} and {second} of {step.new}, which are no pair"
            )
        found[pair] = _pair(first, now, rope)
    begun = [channel for channel in range(was, step.old) if moved[channel] < now]
    if begun:
        raise LawError(
            f"{step.expansion} moves channel {begun[0]} of {step.axis}, which does not rotate, to"
            f" {moved[begun[0]]} of {step.new}, which does ({now} do)"
        )
    return found


def _channels(pair: int, size: int, rope: Rope) -> tuple[int, int]:
    return (pair, pair + size // 2) if rope.pairs == "half" else (2 * pair, 2 * pair + 1)


def _pair(channel: int, size: int, rope: Rope) -> int:
    return channel % (size // 2) if rope.pairs == "half" else channel // 2


def _check_turns(
    step: Step,
    rope: Rope,
    pairs: dict[int, int],
    heads: tuple[int, int],
    parts: tuple[int, int],
    configs: tuple[Config, Config],
) -> None:
    """Whatever the length of the text, old pairs turn as before; nothing else of the table changes."""
    was, now = (frequencies(rope, *at) for at in zip(configs, heads, parts, strict=True))
    known = bool(was) and was.keys() == now.keys()
    if rope.rest(configs[0]) != rope.rest(configs[1]) or not (known or heads[0] == heads[1]):
        kind = rope.kind(configs[1])
        raise LawError(
            f"{step.expansion} changes rotary positions of type {kind!r}, and it is not known that old pairs"
            " would turn as before"
        )
    for regime, turns in was.items():
        for old, new in pairs.items():
            if max(len(turns), len(now[regime])) <= max(old, new):
                raise LawError(f"{step.expansion} leaves rotary pair {new} without a {regime} factor")
            if not isclose(turns[old], now[regime][new], rel_tol=TOLERANCE):
                theta, before = rope.base(configs[1]), rope.base(configs[0])
                raise LawError(
                    f"{step.expansion} moves rotary pair {old} to {new} with θ = {theta:g} (before:"
                    f" {before:g}): it would turn at another frequency"
                )


def _check_grids(
    step: Step, rope: Rope, pairs: dict[int, int], parts: tuple[int, int], configs: tuple[Config, Config]
) -> None:
    """Of an image's positions, an old pair turns by the same one."""
    was, now = (rope.grid(config, size // 2) for config, size in zip(configs, parts, strict=True))
    for old, new in pairs.items():
        if was[old : old + 1] != now[new : new + 1]:
            raise LawError(
                f"{step.expansion} moves rotary pair {old} to {new}, which turns by another of an image's"
                " positions (mrope_section)"
            )


def _check_thetas(
    step: Step, rope: Rope, pairs: dict[int, int], parts: tuple[int, int], configs: tuple[Config, Config]
) -> None:
    """A θ that stands beside the one that is read, for other readers, lets pairs turn as before, too; so does
    that of each layer."""
    before, after = (rope.by_layer(config) for config in configs)
    layers = zip(before, after, strict=True) if len(before) == len(after) else ()
    known = [tuple(get(config, path) for config in configs) for path in rope.theta]
    for was, now in (*known, *layers):
        if not was or not now:
            if was != now and was is not None and now is not None:
                raise LawError(f"{step.expansion} makes the θ of a layer {now}, and it was {was}")
            continue
        for old, new in pairs.items():
            turned, turns = log(was) * old / parts[0], log(now) * new / parts[1]
            if not isclose(turned, turns, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                raise LawError(
                    f"{step.expansion} moves rotary pair {old} to {new} with θ = {now:g} (before: {was:g}):"
                    " it would turn at another frequency"
                )
