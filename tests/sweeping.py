"""The part of a sweep that every run of the tests makes, and the whole of it under `make sweep`.

A test that asks each family the same about an interpreter is marked `sweep` where the family is none of
DIVERSE (tests/diverse.py says why these). Of each such test one case in SHARE is run, chosen by SEED; with
SWEEP=all in the environment they all are. Families that are another one's kin (KIN of tests/rows) are swept
by `turns` in tests that every other family is in, too; what every run asks of them is one composition.
`sweep("examples")` marks a test all of whose cases run, each on a part of its examples: of a property one in
SHARE.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

EVERYTHING = os.environ.get("SWEEP") == "all"
DIVERSE = ("bloom", "deepseek_v3", "dinov2", "gemma3_text", "olmo", "stablelm", "t5")
SEED = 20
SHARE = 16


def swept(cases: Iterable[Any], kept: Callable[..., bool] = lambda name, *_: name in DIVERSE) -> list[Any]:
    """Cases for `parametrize`: names of families, or tuples that begin with one; the other ones are marked.

    Every run makes those of the diverse families, or of what `kept` says.
    """
    return [
        pytest.param(*each, marks=() if kept(*each) else pytest.mark.sweep)
        for each in (case if isinstance(case, tuple) else (case,) for case in cases)
    ]


def turns(cases: Iterable[Any], kept: Callable[..., bool] = lambda *_: True) -> list[Any]:
    """Cases for `parametrize` that every run makes, or those of them that `kept` says, but for kin's."""
    from rows import KIN  # not above: this module is read before torch

    return swept(cases, lambda name, *rest: name not in KIN and kept(name, *rest))


def examples(count: int) -> int:
    """How many examples of a property this run draws, of `count` in a whole sweep."""
    return count if EVERYTHING else part_of(count)


def part_of(count: int) -> int:
    return -(-count // SHARE)


def chosen(test: str, cases: Sequence[str], seed: int = SEED) -> set[str]:
    """The cases of one test that a run makes of a sweep: always some, and always the same."""
    return set(random.Random(f"{seed} {test}").sample(sorted(cases), part_of(len(cases))))


def left_out(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """What a run leaves for the whole sweep."""
    found: dict[str, list[str]] = {}
    marked = [item for item in items if _in_part(item)]
    for item in marked:
        found.setdefault(_test(item), []).append(item.nodeid)
    kept = set[str]().union(*(chosen(test, cases) for test, cases in found.items()))
    return [item for item in marked if item.nodeid not in kept]


def _in_part(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("sweep")
    return mark is not None and "examples" not in mark.args


def _test(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]
