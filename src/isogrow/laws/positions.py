"""Law 1 for rotary positions: an old pair stays a pair, and keeps the frequency at which it turns.

With θ in the config, pair j of k/2 turns by position · θ^(-2j/k). When the axis grows from k to k̂ and the
config's θ becomes θ̂, an old pair that moves from j to i keeps its frequency iff

    i log θ̂ / k̂ = j log θ / k

Where only the first r channels rotate, r takes the place of k, and the model computes it from the config.
Scaling of the frequencies acts on them alike before and after (which kinds do: rules/attention.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose, log

from isogrow.anatomy import Anatomy
from isogrow.config import Config, edited, get
from isogrow.errors import LawError
from isogrow.layout import Rope
from isogrow.plan import OLD, Plan, Step

_HEAD = 1 << 20  # any head dim shows whether a step that leaves it alone changes the part that rotates
TOLERANCE = 1e-13  # of an exponent: the quotient and the power are rounded once each


def check_positions(anatomy: Anatomy, plan: Plan) -> None:
    """Raise `LawError` where a step parts a rotary pair, or lets it turn at another frequency."""
    config = anatomy.config
    for step in plan.steps:
        after = edited(config, step.config)
        for attention in anatomy.layout.attentions:
            if attention.rope is not None and attention.key in anatomy.slots:
                rope, grows = attention.rope, attention.axis == step.axis
                heads = (step.old, step.new) if grows else (_HEAD, _HEAD)
                was, now = (
                    anatomy.layout.rotated(rope, c, n) for c, n in zip((config, after), heads, strict=True)
                )
                pairs = _pairs(step, rope, was, now) if grows else {0: 0, 1: 1}
                _check_turns(step, rope, pairs, (was, now), (config, after))
        config = after


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
    step: Step, rope: Rope, pairs: dict[int, int], sizes: tuple[int, int], configs: tuple[Config, Config]
) -> None:
    """Every θ that the config keeps, and the one that the model reads, must let the pairs turn as before."""
    for was, now in _thetas(rope, *configs):
        for old, new in pairs.items():
            turned, turns = log(was) * old / sizes[0], log(now) * new / sizes[1]
            if not isclose(turned, turns, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                raise LawError(
                    f"{step.expansion} moves rotary pair {old} to {new} with θ = {now:g} (before: {was:g}):"
                    " it would turn at another frequency"
                )


def _thetas(rope: Rope, before: Config, after: Config) -> Iterator[tuple[float, float]]:
    yield _read(rope, before), _read(rope, after)
    for path in rope.theta:
        was, now = get(before, path), get(after, path)
        if was is not None and now is not None:
            yield float(was), float(now)


def _read(rope: Rope, config: Config) -> float:
    """The θ that the model reads: the one within its scaling, or else the common one, or else the default."""
    active = next((path for path in rope.scaling if get(config, path)), "")
    kept = (get(config, f"{active}.rope_theta"), get(config, rope.theta[-1]), rope.default)
    return float(next(theta for theta in kept if theta is not None))
