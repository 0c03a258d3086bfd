"""All that is measured of a type under one config: a sample, a second one, shapes under changes, flags."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from isogrow.drafting.layering import Layered, layered
from isogrow.drafting.outside import Outside, beside, outside
from isogrow.drafting.samples import Sample, changed, sampled, shapes_under
from isogrow.drafting.slots import PlacedModule, placed
from isogrow.drafting.tracing import Attended
from isogrow.drafting.twins import word_of
from isogrow.errors import FamilyError
from isogrow.layouts.config import Config

SCALES = re.compile("scal|multiplier")
EPSILONS = (3e-4, 5e-4, 7e-4)


@dataclass(frozen=True)
class Measures:
    """All that was measured of a type under one config."""

    base: Sample
    other: Sample | None
    shapes: tuple[tuple[Config, Mapping[str, tuple[int, ...]]], ...]
    biases: Mapping[str, str]
    whole: bool = True

    @property
    def config(self) -> Config:
        return self.base.config

    @cached_property
    def layers(self) -> tuple[Layered, ...]:
        """The modules of all layers, each with the condition under which a layer has it."""
        roles = self.base.roles if self.whole else self.base.partial
        return tuple(layered(self.config, [placed(each, self.whole) for each in roles]))

    @cached_property
    def placed(self) -> tuple[PlacedModule, ...]:
        return tuple(each.placed for each in self.layers)

    @cached_property
    def outside(self) -> Outside:
        """What stands around the layers: told, or carried along."""
        try:
            return outside(self.base)
        except FamilyError as error:
            return beside(self.base, str(error))

    def attended(self, layer: int = 0) -> Attended | None:
        return next(iter(self.base.trace.attention(layer)), None)


def measure(base: Sample) -> Measures:
    """Measure a type from one sample of it on: changes of sizes, of ε and of flags."""
    config = base.config
    small = [key for key, value in config.items() if isinstance(value, float) and "eps" in key]
    marks = dict(zip(small, EPSILONS, strict=False))
    other = _other(config, marks)
    shapes = [(config, shapes_under(config)), *((each, shapes_under(each)) for _, each in changed(config))]
    whole = tuple((each, found) for each, found in shapes if found is not None)
    return Measures(base, other, whole, dict(_biases(config, whole[0][1])))


def _other(config: Config, marks: Mapping[str, float]) -> Sample | None:
    """A second model, with ε marked, and with other sizes and scales where its class allows it."""
    sizes = dict(item for key, each in changed(config) for item in [(key, each[key])])
    scale = {
        key: value * 3 for key, value in config.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and SCALES.search(key)
    }  # fmt: skip
    wide = {key: value for key, value in sizes.items() if word_of(key) in ("hidden", "head_dim")}
    for change in ({**sizes, **scale}, {**wide, **scale}, wide, {}):
        try:
            return sampled({**config, **change, **marks})
        except Exception:  # whatever a class raises on sizes that it does not like
            continue
    return None


def _biases(config: Config, known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name of a bias, the formula under which it is there), for those that a flag puts in or takes away."""
    for key, value in config.items():
        if not isinstance(value, bool) or key.startswith(("output_", "use_cache", "return_")):
            continue
        found = shapes_under({**config, key: not value})
        for name in (found.keys() ^ known.keys()) if found is not None else ():
            if name.endswith("bias"):
                there = value if name in known else not value
                yield name, key if there else f"not {key}"
