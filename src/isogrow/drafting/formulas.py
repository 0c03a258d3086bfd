"""Formulas for what was measured: the simplest expression over config keys that holds in every sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from isogrow.drafting.twins import BESIDE, word_of
from isogrow.errors import FormulaError
from isogrow.layouts.formula import evaluate

Samples = Sequence[tuple[Mapping[str, Any], float]]  # a config, and what was measured under it
TIMES = (4, 2, 3, 8)
MORE = (1, 2)  # rows that a table of positions has for padding
CLOSE = 1e-9


def fitted(samples: Samples, prefer: str = "") -> str | None:
    """The first formula that has every sample's value; keys of the word `prefer` are tried before others.

    >>> fitted([({"hidden_size": 48, "num_attention_heads": 6}, 8), ({"hidden_size": 96,
    ...         "num_attention_heads": 6}, 16)])
    'hidden_size // num_attention_heads'
    """
    config, value = samples[0]
    return next((each for each in candidates(config, value, prefer) if holds(each, samples)), None)


def candidates(config: Mapping[str, Any], value: float, prefer: str = "") -> Iterator[str]:
    """Formulas that have this value under this config, the simplest first."""
    keys = [key for key, held in config.items() if _whole(held) and word_of(key) and key not in BESIDE]
    keys.sort(key=lambda key: word_of(key) != prefer)
    yield from (key for key in keys if config[key] == value)
    for wide in keys:
        for part in keys:
            if part != wide and config[wide] % config[part] == 0 and config[wide] // config[part] == value:
                yield f"{wide} // {part}"
    yield from (f"{times} * {key}" for key in keys for times in TIMES if times * config[key] == value)
    for i, one in enumerate(keys):
        for other in keys[i + 1 :]:
            if config[one] * config[other] == value:
                yield f"{one} * {other}"
    yield from (f"{key} + {more}" for key in keys for more in MORE if config[key] + more == value)


def scales(config: Mapping[str, Any]) -> Iterator[str]:
    """Formulas of an attention's scale, over sizes and config keys."""
    yield "key_dim ** -0.5"
    for key, value in config.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            yield f"{key} ** -0.5"
            yield key
            yield f"{key} * key_dim ** -0.5"
    yield "1 / key_dim"
    yield ""


def holds(formula: str, samples: Samples) -> bool:
    """Whether a formula has every sample's value (an empty one is 1)."""
    try:
        made = [evaluate(formula, config) if formula else 1.0 for config, _ in samples]
    except FormulaError:
        return False
    pairs = zip(made, samples, strict=True)
    return all(abs(value - wanted) <= CLOSE * max(1.0, abs(wanted)) for value, (_, wanted) in pairs)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
