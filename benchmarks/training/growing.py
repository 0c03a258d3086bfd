"""The paper's expansions, as a method of growth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import isogrow
from benchmarks.training.models import loss_of
from benchmarks.training.optimizing import Together, parts_of
from benchmarks.training.scale import scale
from benchmarks.training.text import batch
from isogrow.gradmax import Fitted

LOOKED_AT = 1  # batches: GradMax makes about as many passes over them as a row has entries


def grow(
    model: Any, optimizer: Any, size: str, seed: int, step: int, options: Mapping[str, Any]
) -> tuple[Any, ...]:
    """The paper's expansions, with the optimizer's state carried by law.

    GradMax looks at the next batches; its passes over the large model are counted.
    """
    given, found = dict(options), list[Fitted]()
    if given.get("init") == "gradmax":
        batches = [batch(seed, step + i) for i in range(LOOKED_AT)]
        given["init"] = isogrow.GradMax(batches, loss_of, found.append)
    policy = isogrow.Policy(**given.pop("policy", {}))
    large, made, *_ = isogrow.grow_training(
        model, optimizer=list(parts_of(optimizer)), policy=policy, seed=seed, **scale().sizes[size], **given
    )
    one, *more = made
    return large, Together((one, *more)) if more else one, sum(each.passes for each in found)
