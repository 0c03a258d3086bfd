"""The families as tests grow them: classes, configs and growths to draw from, and both sides run in float64.

One row of tests/rows is one family. Sizes of one model are pairwise distinct, so that a swapped axis can't
pass; every weight is random, gains lie around 1, and no bias is zero.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import transformers
from family import CHOICES, LABELS, PAD, POSITIONS, ROWS, Family, Json, modern
from family import VOCAB as VOCAB
from hypothesis import strategies as st
from rows import FAMILIES
from torch import Tensor, nn

from isogrow.families import layout_for
from isogrow.interpreters.module import grown_state, headers
from isogrow.layouts.config import edited, untagged
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import (
    INNER,
    Expansion,
    LayerAddition,
    MlpExpansion,
    Size,
    expansions,
)
from isogrow.plans.matching import match
from isogrow.plans.plan import Plan
from isogrow.plans.words import STATES
from isogrow.verification.float64 import build as build
from isogrow.verification.float64 import float64 as float64
from isogrow.verification.float64 import rebuilt as rebuilt
from isogrow.verification.liveness import distinct as distinct
from isogrow.verification.liveness import training as training
from isogrow.verification.runs import decoded as decoded
from isogrow.verification.runs import full as full

EXACT = 1e-12
BROKEN = 1e-6  # what a test of a test must show at least: far above any exact growth

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Subject:
    """A float64 model, and how its layout sees it."""

    family: Family
    kind: str
    source: Json
    small: nn.Module
    anatomy: Anatomy

    def plan(self, wanted: Mapping[str, Size] | Sequence[Expansion], **options: Any) -> Plan:
        """The plan of sizes by name (`at` says where layers go), or of expansions in the order given."""
        at = options.pop("at", "end")
        steps = expansions(wanted, at) if isinstance(wanted, Mapping) else wanted
        return plan(self.anatomy, steps, **options)

    def json(self, made: Plan) -> Json:
        """The grown model's config.json."""
        return edited(self.source, made.config)

    def large(self, made: Plan, source: Json | None = None) -> nn.Module:
        """The grown model, as its own class builds it from its config.json (or from `source`)."""
        state = grown_state(self.small.state_dict(), self.anatomy, made)
        config = config_of(self.family, self.json(made) if source is None else source)
        return build(class_of(self.kind), config, state)

    def error(self, made: Plan, source: Json | None = None, large: nn.Module | None = None) -> float:
        """How far the grown model's outputs lie from the old one's; the grown model is built if not given."""
        large = self.large(made, source) if large is None else large
        return error(self.answers, outputs(large, batch(self.kind)))

    @cached_property
    def answers(self) -> Batch:
        """The old model's outputs; no test trains it or writes to it."""
        return outputs(self.small, batch(self.kind))


def subject(
    family: Family, kind: str = "", source: Json | None = None, seed: int = 0, spread: float = 0.3
) -> Subject:
    """A random model of a family (of its first class, by default), seen through its layout."""
    kind = kind or family.classes[0]
    source = labelled(family, kind) if source is None else source
    small = model(family, kind, source, seed, spread)
    anatomy = match(layout_for(source["model_type"]), source, headers(small))
    return Subject(family, kind, source, small, anatomy)


def labelled(family: Family, kind: str) -> Json:
    """The config.json that a class has; one that answers questions tells a span's start and end."""
    return family.json(num_labels=2 if kind.endswith("ForQuestionAnswering") else LABELS)


class BertUnpooled(transformers.BertModel):
    """A BertModel without its pooler, as a class that can be built from a config alone."""

    def __init__(self, config: transformers.BertConfig) -> None:
        super().__init__(config, add_pooling_layer=False)


def class_of(kind: str) -> type[nn.Module]:
    return BertUnpooled if kind == BertUnpooled.__name__ else getattr(transformers, kind)


def config_of(family: Family, source: Json) -> transformers.PreTrainedConfig:
    """The config class's own reading of a config.json; it validates what it reads."""
    return family.config.from_dict(copy.deepcopy(untagged(source)))


def model(family: Family, kind: str, source: Json, seed: int = 0, spread: float = 0.3) -> nn.Module:
    """A float64 model of this class with random weights; with a small `spread`, ε matters."""
    with torch.device("meta"):
        made = class_of(kind)(config_of(family, source))
    buffers = (each for each in made.named_buffers() if each[0] in made.state_dict())
    shapes = {name: tuple(value.shape) for name, value in (*made.named_parameters(), *buffers)}
    return build(class_of(kind), config_of(family, source), randomized(shapes, seed, spread))


def randomized(shapes: Mapping[str, tuple[int, ...]], seed: int, spread: float) -> dict[str, Tensor]:
    """Random float64 weights by name; `spread` is the std of matrices."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if len(shape) > 1:
            found[name] = spread * noise
        else:
            found[name] = 0.3 * noise + (1.0 if name.endswith(("weight", "scalar", "running_var")) else 0.0)
            if name.endswith("running_var"):
                found[name] = found[name].abs()  # of a batch norm, which takes its root
    return found


def batch(kind: str, seed: int = 0) -> dict[str, Tensor]:
    """Inputs for a class that together hold every token (but the padding's) at random positions."""
    generator = torch.Generator().manual_seed(seed)
    own = next((f.inputs for f in FAMILIES.values() if kind in f.classes), None)
    if own is not None:
        return dict(own(kind, generator))
    ids = torch.randperm(ROWS * POSITIONS, generator=generator).reshape(ROWS, POSITIONS) % PAD
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0
    given = {"input_ids": ids, "attention_mask": mask}
    if kind.startswith("Bert"):
        given["token_type_ids"] = torch.randint(2, ids.shape, generator=generator)
    if kind in ("BertForMultipleChoice", "GPT2DoubleHeadsModel"):
        given = {name: value.reshape(-1, CHOICES, POSITIONS) for name, value in given.items()}
    return given


def outputs(made: nn.Module, given: Batch) -> dict[str, Tensor]:
    """Every output of one forward pass in float64."""
    with float64():
        return dict(full(made, given))


def error(small: Mapping[str, Tensor], large: Mapping[str, Tensor]) -> float:
    """The largest relative error of any vector of any output; of wider outputs the old channels count."""
    assert small.keys() == large.keys()
    worst = torch.zeros(())
    for name, a in small.items():
        b = large[name][..., : a.shape[-1]]
        assert a.shape == b.shape, name
        gap = (a - b).abs().amax(-1) / a.abs().amax(-1)
        worst = torch.maximum(worst, gap.nan_to_num(nan=torch.inf).max())
    return float(worst)


# config.json, as different versions of transformers write it


def legacy(config: transformers.PreTrainedConfig) -> Json:
    """As version 4 wrote it: rope_theta beside rope_scaling, and no list that follows from other keys."""
    source = modern(config)
    rope = source.pop("rope_parameters", None)
    if rope is not None and "rope_type" not in rope:  # a table for each kind of layer
        source["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = dict(rope["full_attention"])
        kind = rope["rope_type"]
        source["rope_theta"] = rope.pop("rope_theta")
        source["rope_scaling"] = None if kind == "default" else rope
    elif rope is not None:
        kind = rope.pop("rope_type")
        source["rope_theta"] = rope.pop("rope_theta")
        plain = kind == "default" and "mrope_section" not in rope
        source["rope_scaling"] = None if plain else {"type": kind, **rope}
    return source


def sparse(config: transformers.PreTrainedConfig) -> Json:
    """The least that a config.json can hold: what differs from the class's defaults."""
    defaults = legacy(type(config)())
    kept = {key: value for key, value in legacy(config).items() if defaults.get(key, ...) != value}
    return {"model_type": config.model_type, **kept}


WRITERS: Sequence[Callable[[transformers.PreTrainedConfig], Json]] = (modern, legacy, sparse)


@st.composite
def configs(draw: st.DrawFn, family: Family) -> Json:
    """A config.json of this family, with any of its options."""
    made = family.config(**{**family.sizes, **family.options(draw)})
    return draw(st.sampled_from(WRITERS if family.dated else (modern,)))(made)


# Growths to draw from


@st.composite
def growths(draw: st.DrawFn, anatomy: Anatomy) -> tuple[Expansion, ...]:
    """Expansions in any order, some axes in two of them, that end in sizes the family holds."""
    family = FAMILIES[anatomy.layout.family]
    found = family.draws(draw, anatomy)
    for axis in (axis for axis in INNER if axis not in STATES and anatomy.sizes.has(axis)):
        found += [MlpExpansion(n, axis=axis) for n in draw(st.sampled_from(family.widths))]
    if "layers" in family.growths:
        places = st.sampled_from(family.places)
        layers = draw(st.sampled_from([[], ["+1"], ["+2", "+1"]]))
        found += [LayerAddition(size, draw(places)) for size in layers]
    return tuple(draw(st.permutations(found)))
