"""The paper's expansions, as a method of growth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

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

    GradMax looks at the next batches; its passes over the large model are counted. `new_decay` is a factor on
    the weight decay of new entries, and `by_width` has std and rate of matrices as they are of so many times
    the width in µP; all other options are those of `isogrow.grow_training`.
    """
    given, found = dict(options), list[Fitted]()
    if given.get("init") == "gradmax":
        batches = [batch(seed, step + i) for i in range(LOOKED_AT)]
        given["init"] = isogrow.GradMax(batches, loss_of, found.append)
    decay, by_width = given.pop("new_decay", None), given.pop("by_width", False)
    policy = isogrow.Policy(**given.pop("policy", {}))
    large, made, *_ = isogrow.grow_training(
        model, optimizer=list(parts_of(optimizer)), policy=policy, seed=seed, **scale().sizes[size], **given
    )
    if decay is not None:
        for part in made:
            decay_apart_(large, part, decay)
    if by_width:
        ratio = model.config.hidden_size / large.config.hidden_size
        weaken_(large, ratio**0.5)
        for part in made:
            slow_(large, part, ratio)
    one, *more = made
    return large, Together((one, *more)) if more else one, sum(each.passes for each in found)


def weaken_(large: Any, factor: float) -> None:
    """Multiply the new entries of matrices; what is zero stays it, so the function is what it was."""
    new = isogrow.new_entries(large).parameters
    for name, matrix in _matrices(large).items():
        for box in new[name].slices if name in new else ():
            matrix.data[box] *= factor


def slow_(large: Any, optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Have matrices train at so many times the rate of all else (arXiv 2203.03466, table 8, for Adam)."""
    matrices = set(_matrices(large).values())
    for group in list(optimizer.param_groups):
        apart = [p for p in group["params"] if p in matrices]
        group["params"] = [p for p in group["params"] if p not in matrices]
        optimizer.param_groups.append({**group, "params": apart, "times": factor})


def _matrices(model: Any) -> dict[str, Any]:
    """Those of its layers, and its head."""
    return {name: p for name, p in model.named_parameters() if p.dim() > 1 and "embed" not in name}


def decay_apart_(large: Any, optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Have AdamW, or Muon, decay what is new so many times as much as what is old.

    Each takes w (1 - rate decay) before its update; what is new is first multiplied by what lacks.
    """
    new = isogrow.new_entries(large).parameters
    boxes = {large.get_parameter(name): own.slices for name, own in new.items()}

    def lacking(stepped: torch.optim.Optimizer, *_: Any) -> None:
        for group in stepped.param_groups:
            once = group["lr"] * group["weight_decay"]
            for parameter in group["params"]:
                for box in boxes.get(parameter, ()):
                    parameter.data[box] *= (1 - factor * once) / (1 - once)

    optimizer.register_step_pre_hook(lacking)
