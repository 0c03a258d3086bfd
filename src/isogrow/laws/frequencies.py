"""How fast each rotary pair turns, in radians a token: the frequencies that a config makes a model compute.

With n channels of a head rotating, pair i has ω_i = θ^(-2i/n), and then, by the type of scaling,

| type | frequency | source |
|---|---|---|
| default | ω | arXiv 2104.09864 |
| linear | ω / f | arXiv 2306.15595 |
| llama3 | ω / f for few turns in the original context, ω for many, a line between | Llama 3.1 |
| yarn | the same, the line drawn over the pair's number | arXiv 2309.00071 |
| longrope | ω_i / f_i, from one list or another as the text is short or long | arXiv 2402.13753 |
| dynamic | θ grows with the text | |
| proportional | θ^(-2i/k) for a part of the pairs, k the whole head; 0 for the rest | |
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, log, pi

from isogrow.layouts.config import Config, get
from isogrow.layouts.rotary import Rope

CONTEXT = 4096  # a length of text, where the config leaves it to its class

Frequencies = dict[str, list[float]]


def frequencies(rope: Rope, config: Config, head: int, rotating: int) -> Frequencies:
    """Regime (of the text's length) -> the frequency of each pair; none where the type is not known."""
    made = TYPES.get(rope.kind(config))
    return made(rope, config, head, rotating) if made is not None else {}


def _plain(theta: float, rotating: int) -> list[float]:
    return [theta ** (-2 * i / rotating) for i in range(rotating // 2)]


def _default(rope: Rope, config: Config, head: int, rotating: int) -> Frequencies:
    return {"": _plain(rope.base(config), rotating)}


def _linear(rope: Rope, config: Config, head: int, rotating: int) -> Frequencies:
    return {"": [w / rope.value(config, "factor") for w in _plain(rope.base(config), rotating)]}


def _llama3(rope: Rope, config: Config, head: int, rotating: int) -> Frequencies:
    factor = rope.value(config, "factor")
    low, high = (rope.value(config, f"{end}_freq_factor") for end in ("low", "high"))

    def scaled(w: float) -> float:
        kept = (_context(rope, config) * w / (2 * pi) - low) / ((high - low) or 0.001)
        kept = min(max(kept, 0.0), 1.0)
        return (1 - kept) * w / factor + kept * w

    return {"": [scaled(w) for w in _plain(rope.base(config), rotating)]}


def _yarn(rope: Rope, config: Config, head: int, rotating: int) -> Frequencies:
    theta, context = rope.base(config), _context(rope, config)
    factor = rope.value(config, "factor") or (get(config, "max_position_embeddings") or CONTEXT) / context
    fast, slow = rope.value(config, "beta_fast") or 32, rope.value(config, "beta_slow") or 1
    begin, end = (rotating * log(context / (n * 2 * pi)) / (2 * log(theta)) for n in (fast, slow))
    if rope.value(config, "truncate", True):
        begin, end = floor(begin), ceil(end)
    begin, end = max(begin, 0), min(end, rotating - 1)

    def scaled(i: int, w: float) -> float:
        ramp = (i - begin) / ((end - begin) or 0.001)
        ramp = min(max(ramp, 0.0), 1.0)
        return w / factor * ramp + w * (1 - ramp)

    return {"": [scaled(i, w) for i, w in enumerate(_plain(theta, rotating))]}


def _longrope(rope: Rope, config: Config, head: int, rotating: int) -> Frequencies:
    plain = _plain(rope.base(config), rotating)
    lists = {key: rope.value(config, f"{key}_factor", ()) for key in ("short", "long")}
    return {key: [w / f for w, f in zip(plain, factors, strict=False)] for key, factors in lists.items()}


def _dynamic(rope: Rope, config: Config, head: int, rotating: int) -> Frequencies:
    theta, factor = rope.base(config), rope.value(config, "factor")

    def longer(times: int) -> float:
        return (
            theta * (factor * times - (factor - 1)) ** (rotating / (rotating - 2)) if rotating > 2 else theta
        )

    return {f"{n} contexts": _plain(longer(n), rotating) for n in (1, 2)}


def _proportional(rope: Rope, config: Config, head: int, rotating: int) -> Frequencies:
    turning = rope.turning(config, head)
    factor = rope.value(config, "factor", 1.0)
    return {"": [w / factor if i < turning else 0.0 for i, w in enumerate(_plain(rope.base(config), head))]}


def _context(rope: Rope, config: Config) -> float:
    """The length of text that the model was first trained on."""
    key = "original_max_position_embeddings"
    given = (get(config, key), rope.value(config, key), get(config, "max_position_embeddings"), CONTEXT)
    return float(next(length for length in given if length is not None))


TYPES: dict[str, Callable[[Rope, Config, int, int], Frequencies]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "dynamic": _dynamic,
    "proportional": _proportional,
}
