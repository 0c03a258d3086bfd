"""Law 1 for rotary positions: an old pair stays a pair, and keeps the frequency at which it turns.

With θ in the config, pair j of k/2 turns by position · θ^(-2j/k). When the axis grows from k to k̂ and the
config's θ becomes θ̂, an old pair that moves from j to i keeps its frequency iff

    i log θ̂ / k̂ = j log θ / k

Scaling of the frequencies acts on them alike before and after (which kinds do: rules/attention.py).
"""

from __future__ import annotations

from math import isclose, log

from isogrow.anatomy import Anatomy
from isogrow.config import Config, edited, get
from isogrow.errors import LawError
from isogrow.layout import Rope
from isogrow.plan import OLD, Plan, Step

TOLERANCE = 1e-13  # of an exponent: the quotient and the power are rounded once each


def check_positions(anatomy: Anatomy, plan: Plan) -> None:
    """Raise `LawError` where a step parts a rotary pair, or lets it turn at another frequency."""
    config = anatomy.config
    for step in plan.steps:
        after = edited(config, step.config)
        for attention in anatomy.layout.attentions:
            if attention.rope is not None and attention.key in anatomy.slots:
                grows = attention.axis == step.axis
                pairs = _pairs(step, attention.rope) if grows else {0: 0, 1: 1}
                sizes = (step.old, step.new) if grows else (1, 1)
                _check_turns(step, attention.rope, pairs, sizes, (config, after))
        config = after


def _pairs(step: Step, rope: Rope) -> dict[int, int]:
    """Old pair -> the pair that it becomes."""
    moved: dict[int, int] = {}
    for position in range(step.new):
        source, label = step.source(position)
        if label.startswith(OLD):
            moved[source] = position
    found: dict[int, int] = {}
    for pair in range(step.old // 2):
        first, second = (moved[channel] for channel in _channels(pair, step.old, rope))
        if _channels(_pair(first, step.new, rope), step.new, rope) != (first, second):
            raise LawError(
                f"{step.expansion} parts the rotary pair {pair} of {step.axis}: its channels would be"
                f" {first} and {second} of {step.new}, which are no pair"
            )
        found[pair] = _pair(first, step.new, rope)
    return found


def _channels(pair: int, size: int, rope: Rope) -> tuple[int, int]:
    return (pair, pair + size // 2) if rope.pairs == "half" else (2 * pair, 2 * pair + 1)


def _pair(channel: int, size: int, rope: Rope) -> int:
    return channel % (size // 2) if rope.pairs == "half" else channel // 2


def _check_turns(
    step: Step, rope: Rope, pairs: dict[int, int], sizes: tuple[int, int], configs: tuple[Config, Config]
) -> None:
    """Every θ that the config keeps (or the default) must let the pairs turn as before."""
    for path in rope.theta:
        was, now = (_theta(config, path, rope) for config in configs)
        for old, new in pairs.items():
            turned, turns = log(was) * old / sizes[0], log(now) * new / sizes[1]
            if not isclose(turned, turns, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                raise LawError(
                    f"{step.expansion} moves rotary pair {old} to {new} with θ = {now:g} (before: {was:g}):"
                    " it would turn at another frequency"
                )


def _theta(config: Config, path: str, rope: Rope) -> float:
    """θ at a path: what stands there, or else what the model falls back to."""
    kept = [get(config, path), *(get(config, other) for other in reversed(rope.theta)), rope.default]
    return float(next(theta for theta in kept if theta is not None))
