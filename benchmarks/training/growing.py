"""The paper's expansions, as a method of growth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import isogrow
from benchmarks.training.models import SIZES


def grow(
    model: Any, optimizer: Any, size: str, seed: int, step: int, options: Mapping[str, Any]
) -> tuple[Any, Any]:
    """The paper's expansions, with the optimizer's state carried by law."""
    given = dict(options)
    policy = isogrow.Policy(**given.pop("policy", {}))
    return isogrow.grow(model, optimizer=optimizer, policy=policy, seed=seed, **SIZES[size], **given)
