"""The part of a sweep that every run of the tests makes, and the whole of it under `make sweep`.

A test that asks each family the same about an interpreter is marked `sweep` where the family is none of
DIVERSE (tests/diverse.py says why these). Of each such test one case in SHARE is run, chosen by SEED; with
SWEEP=all in the environment they all are, with SWEEP=10 one in ten, which is what CI runs.
`sweep("examples")` marks a test all of whose cases run, each on a part of its examples: of a property one in
SHARE. Of a slow test of more than MANY cases that is not marked one case in SLOW_SHARE is run, but of one
that is marked `sweep("each")` all. `sweep("whole")` marks what only the whole sweep runs.

Families that are another one's kin (KIN of tests/rows) are swept by `turns` in tests that every other family
is in, too; what every run asks of them is one composition.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

ASKED = os.environ.get("SWEEP", "")
EVERYTHING = ASKED == "all"
KINDS = 6  # of files that are fuzzed (tests/test_fuzz.py)
FUZZED = 3000 if EVERYTHING else 100  # cases of each kind
KILLS = 120 if EVERYTHING else 8  # growths that are killed (tests/test_kills.py)
DIVERSE = (
    "bloom", "deepseek_v3", "dinov2", "gemma3_text", "gemma4_text", "megatron-bert",
    "qwen3_vl_text", "stablelm", "t5",
)  # fmt: skip
SEED = 20
SHARE = int(ASKED) if ASKED.isdigit() else 48
MANY = 3
SLOW_SHARE = 4


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


def examples(count: int, share: int = SHARE) -> int:
    """How many examples of a property this run draws, of `count` in a whole sweep."""
    return count if EVERYTHING else part_of(count, share)


def part_of(count: int, share: int = SHARE) -> int:
    return -(-count // share)


def chosen(test: str, cases: Sequence[str], seed: int = SEED, share: int = SHARE) -> set[str]:
    """The cases of one test that a run makes of a sweep: always some, and always the same."""
    return set(random.Random(f"{seed} {test}").sample(sorted(cases), part_of(len(cases), share)))


def left_out(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """What a run leaves for the whole sweep: of what is marked, and of slow tests of many cases."""
    marked = [item for item in items if _in_part(item)]
    gone = _rest(marked, SHARE)
    slow = [
        item for item in items if item.get_closest_marker("slow") and not item.get_closest_marker("sweep")
    ]
    counts = Counter(map(_test, slow))
    whole = [item for item in items if _says(item, "whole")]
    return [*gone, *whole, *_rest([item for item in slow if counts[_test(item)] > MANY], SLOW_SHARE)]


def _rest(items: Sequence[pytest.Item], share: int) -> list[pytest.Item]:
    """All but one in so many of each test."""
    found: dict[str, list[str]] = {}
    for item in items:
        found.setdefault(_test(item), []).append(item.nodeid)
    kept = set[str]().union(*(chosen(test, cases, share=share) for test, cases in found.items()))
    return [item for item in items if item.nodeid not in kept]


def _is(item: pytest.Item, mark: str) -> bool:
    return item.get_closest_marker(mark) is not None


def _in_part(item: pytest.Item) -> bool:
    return _is(item, "sweep") and not any(_says(item, word) for word in ("examples", "each", "whole"))


def _says(item: pytest.Item, word: str) -> bool:
    mark = item.get_closest_marker("sweep")
    return mark is not None and word in mark.args


def _test(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]
