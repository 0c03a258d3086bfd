"""Configs of published models, on the meta device: every tensor is named exactly once, and the grown config
builds the tensors that are planned.

A module of tests/rows lists them in `REAL`: model class, what its config says beside its defaults, and how it
grows, if it can't by `GROWTH`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import families as F
import pytest
import torch
import transformers
from rows import MODULES
from trial_layouts.checks import not_named_once

from isogrow.families import layout_for
from isogrow.interpreters.module import headers
from isogrow.layouts.config import edited
from isogrow.layouts.layout import Weight
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import expansions
from isogrow.plans.matching import match
from isogrow.stores.binding import outputs

Published = tuple[str, Mapping[str, Any]] | tuple[str, Mapping[str, Any], Mapping[str, Any]]
REAL: Mapping[str, Published] = {
    name: published for module in MODULES for name, published in getattr(module, "REAL", {}).items()
}
GROWTH: Mapping[str, Any] = {"ffn": "x2", "layers": "+1"}


def built(kind: str, source: F.Json) -> dict[str, Any]:
    """Names and shapes of a model of this class."""
    cls: Any = F.class_of(kind)
    with torch.device("meta"):
        return headers(cls(cls.config_class.from_dict(source)))


def published(name: str) -> tuple[str, F.Json, Anatomy]:
    kind, said, *_ = REAL[name]
    cls: Any = getattr(transformers, kind)
    source = F.modern(cls.config_class(**said))
    return kind, source, match(layout_for(source["model_type"]), source, built(kind, source))


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_every_tensor_is_named_once(name: str) -> None:
    kind, source, anatomy = published(name)
    tensors = built(kind, source)
    assert len(anatomy.stored) == len(tensors)
    assert not_named_once(anatomy.layout, anatomy.prefix, tensors, anatomy.config) == {}
    line = anatomy.stored[0].line
    other = Weight(line.name, line.pattern, "other", head=line.slot.head, when=line.slot.when)
    twice = (*anatomy.layout.weights, other)
    wrong = not_named_once(replace(anatomy.layout, weights=twice), anatomy.prefix, tensors, anatomy.config)
    assert anatomy.stored[0].name in wrong


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_the_grown_config_builds_what_is_planned(name: str) -> None:
    kind, source, anatomy = published(name)
    made = plan(anatomy, expansions(next(iter(REAL[name][2:]), GROWTH)))
    planned = {stored.name: stored.header.shape for stored in outputs(anatomy, made)}
    found = built(kind, edited(source, made.config))
    assert planned == {name: header.shape for name, header in found.items()}
