"""The ways to make a trained model larger, by name.

A method takes a model, its optimizer, the size to reach, a seed, the step of the run and options; it gives a
larger model and its optimizer, and how many steps' operations it spent in looking at data, if it did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.training.growing import grow
from benchmarks.training.pruning import prune
from benchmarks.training.rivals import copied, doubled, padded, shrunk, stacked

METHODS: Mapping[str, Callable[[Any, Any, str, int, int, Mapping[str, Any]], tuple[Any, ...]]] = {
    "stay": lambda model, optimizer, *_: (model, optimizer),  # the rate alone changes
    "grow": grow,
    "stack": copied(stacked),
    "double": copied(doubled),
    "pad": padded,
    "shrink": shrunk,
    "prune": prune,
}
