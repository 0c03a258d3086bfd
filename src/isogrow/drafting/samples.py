"""Models of one type under one config and under changes of it: what is measured of a type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from torch import nn

from isogrow.drafting.kinds import config_of, json_of, on_meta, random_model
from isogrow.drafting.roles import Role, layer_roles
from isogrow.drafting.tracing import Trace, traced
from isogrow.drafting.twins import BESIDE, SECTIONS, TINY, depth_key, twin, word_of
from isogrow.errors import FamilyError
from isogrow.layouts.config import Config
from isogrow.quiet import quiet

# Each size changed alone: still pairwise distinct, still divisible by what it was divisible by.
OTHER: Mapping[str, int] = {
    "hidden": 96, "heads": 12, "kv_heads": 3, "head_dim": 16, "ffn": 46, "positions": 72, "vocab": 103,
    "expert_ffn": 28, "shared_ffn": 30, "dense_ffn": 42, "experts": 7, "shared": 3, "layers": 5,
}  # fmt: skip
WITHOUT = ("layers",)  # changes nothing that is measured

# What is tried when a type's default config does not build, or does not run, with small sizes.
MENDS: tuple[Mapping[str, int], ...] = (
    {"ffn": TINY["ffn"]},
    {},
    {"kv_heads": TINY["heads"]},
    {"head_dim": 8},
    {"kv_heads": TINY["heads"], "head_dim": 8},
    {"kv_heads": TINY["heads"], "head_dim": TINY["rope_dim"]},
    {"head_dim": 16},
    {"heads": 8, "kv_heads": 8, "hidden": 64},
    {SECTIONS: 1},
    {SECTIONS: 1, "kv_heads": TINY["heads"]},
    {name: size for name, size in TINY.items() if name in ("experts", "shared", "kv_heads", "top")},
)


@dataclass(frozen=True)
class Sample:
    """A tiny model, run once."""

    config: Config
    trace: Trace

    @cached_property
    def roles(self) -> tuple[tuple[Role, ...], ...]:
        """The roles of each layer's modules. Raises `FamilyError` for one that has none."""
        return tuple(layer_roles(self.trace, i) for i in range(len(self.trace.inputs)))

    @cached_property
    def partial(self) -> tuple[tuple[Role, ...], ...]:
        """The roles of each layer's modules, as far as they are told."""
        return tuple(layer_roles(self.trace, i, whole=False) for i in range(len(self.trace.inputs)))

    @property
    def model(self) -> nn.Module:
        return self.trace.model


def sampled(config: Config) -> Sample:
    """A tiny model of exactly this config, run once. Raises `FamilyError` for a model without layers."""
    depth = depth_key(config)
    if not depth:
        raise FamilyError(
            f"a {config['model_type']!r} config has no number of layers of its own: it is a model of several"
            " parts"
        )
    trace = traced(random_model(config), int(config[depth]), config)
    if not trace.layers or len(trace.inputs) != int(config[depth]):
        raise FamilyError(
            f"no list of layers in a {config['model_type']!r} model has {config[depth]} entries that all run"
        )
    return Sample(config, trace)


def smallest(source: Config) -> Sample:
    """The tiny twin of a config, as it is, or mended so that it builds and runs.

    Raises `FamilyError` with what the class said at the first try.
    """
    said: Exception | None = None
    for mend in MENDS:
        try:
            return sampled(seen(twin(_sectioned(source, mend), **_mended(source, mend))))
        except FamilyError:
            raise
        except Exception as error:  # whatever a class raises on sizes that it does not like
            said = said or error
    assert said is not None
    reason = " ".join(str(said).split())
    raise FamilyError(f"it does not run under small sizes: {reason:.160}") from said


def seen(config: Config) -> dict[str, Any]:
    """A config as its class completes it."""
    return {**json_of(config_of(config)), "model_type": config["model_type"]}


def unsaid(config: Config, source: Config) -> dict[str, Any]:
    """A twin's config without the keys that its source leaves out and its class completes alike.

    What a layout takes such a key for is then seen in what is computed.
    """
    kept: dict[str, Any] = {**config}
    for path in _further(config, source):
        less = _without(kept, path)
        try:
            same = seen(less) == seen(config)
        except Exception:  # whatever a class raises on a config without the key
            continue
        kept = less if same else kept
    return kept


def _further(config: Config, source: Config) -> Iterator[tuple[str, ...]]:
    """The paths of the keys that only the first config has."""
    for key, value in config.items():
        if key not in source:
            yield (key,)
        elif isinstance(value, Mapping) and isinstance(source[key], Mapping):
            yield from ((key, *path) for path in _further(cast(Config, value), cast(Config, source[key])))


def _without(config: Config, path: tuple[str, ...]) -> dict[str, Any]:
    first, *more = path
    if not more:
        return {key: value for key, value in config.items() if key != first}
    return {**config, first: _without(config[first], tuple(more))}


def _sectioned(source: Config, mend: Mapping[str, int]) -> Config:
    """The config, where a mend says so with the sections of a rotary table, which a class has in its code."""
    table = source.get("rope_parameters")
    if SECTIONS not in mend or not isinstance(table, Mapping):
        return source
    return {**source, "rope_parameters": {**table, SECTIONS: []}}


def _mended(source: Config, mend: Mapping[str, int]) -> dict[str, int]:
    return {key: mend[word_of(key)] for key in source if word_of(key) in mend}


def changed(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, the config with that size changed) for each size that a twin has."""
    for key, value in config.items():
        word = word_of(key)
        if word in OTHER and word not in WITHOUT and key not in BESIDE and value == TINY.get(word):
            yield key, {**config, key: OTHER[word], **beside(config, word, OTHER[word])}


def beside(config: Config, word: str, size: int) -> dict[str, int]:
    """The keys that say a width once more."""
    return {key: size for key in BESIDE if word == "hidden" and config.get(key) == TINY["hidden"]}


def shapes_under(config: Config) -> dict[str, tuple[int, ...]] | None:
    """Names and shapes under a config; None where its class refuses it."""
    try:
        with quiet():
            return {name: tuple(value.shape) for name, value in on_meta(config).named_parameters()}
    except Exception:  # whatever a class raises on sizes that it does not like
        return None
