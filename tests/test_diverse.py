"""The families that tests of interpreters run on have every kind of thing that any family has; and what a run
leaves out of a sweep."""

from __future__ import annotations

from functools import cache

import diverse
import pytest
import sweeping
from rows import FAMILIES
from sweeping import DIVERSE

kinds = cache(diverse.kinds)


def lacking(names: tuple[str, ...], each: bool = sweeping.EVERYTHING) -> set[str]:
    """The kinds that some family has and none of these."""
    every, theirs = ([kinds(name, each) for name in some] for some in (FAMILIES, names))
    return set[str]().union(*every) - set[str]().union(*theirs)


@pytest.mark.slow
def test_they_have_every_kind_that_any_family_has() -> None:
    assert lacking(DIVERSE) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", DIVERSE)
def test_none_of_them_can_be_spared(name: str) -> None:
    """So the check above can fail, too. What one is there for is in its growth along all axes at once."""
    assert lacking(tuple(other for other in DIVERSE if other != name), each=False) != set()


def test_kinds_are_what_is_to_be_covered() -> None:
    """A kind of each sort, where it is known to be."""
    assert {"stacks", "Mean scaled at new", "a norm without a tensor"}.isdisjoint(kinds("llama"))
    assert kinds("deepseek_v3") >= {"an index inside a tensor", "parts in one dim", "Free at new"}
    assert kinds("bloom") >= {"old places on both sides of new ones", "Free negated shared at copy"}
    assert "named by layers kv_heads" in kinds("stablelm")
    assert kinds("gemma3_text") >= {"edits a config's list", "Old scaled shifted at old"}


# What is left to `make sweep`

CASES = [f"test_it[{name}]" for name in FAMILIES]


def test_a_part_of_a_sweep_is_the_same_in_each_run_and_never_empty() -> None:
    part = sweeping.chosen("test_it", CASES)
    assert part == sweeping.chosen("test_it", CASES[::-1])
    assert len(part) == -(-len(CASES) // sweeping.SHARE)
    assert sweeping.chosen("test_it", CASES[:1]) == set(CASES[:1])


def test_other_tests_and_other_seeds_take_other_cases() -> None:
    assert sweeping.chosen("test_it", CASES) != sweeping.chosen("test_that", CASES)
    some = (sweeping.chosen("test_it", CASES, seed) for seed in range(400))
    assert set[str]().union(*some) == set(CASES)


def test_a_slow_test_of_many_cases_runs_on_a_part_of_them(request: pytest.FixtureRequest) -> None:
    """And one of few on all."""
    few, many = (cases(request, count) for count in (sweeping.MANY, sweeping.MANY + 1))
    assert sweeping.left_out(few) == []
    assert len(sweeping.left_out(many)) == len(many) - sweeping.part_of(len(many), sweeping.SLOW_SHARE)


def cases(request: pytest.FixtureRequest, count: int) -> list[pytest.Item]:
    """Cases of a slow test, which no run makes."""

    def test_slow() -> None:
        raise AssertionError

    found = [
        pytest.Function.from_parent(request.node.parent, name=f"test_slow[{n}]", callobj=test_slow)
        for n in range(count)
    ]
    for each in found:
        each.add_marker("slow")
    return [*found]


def test_only_what_is_marked_is_left_out(request: pytest.FixtureRequest) -> None:
    marked = {mark.name for case in sweeping.swept(FAMILIES) for mark in case.marks}
    whole = [case.values[0] for case in sweeping.swept(FAMILIES) if not case.marks]
    assert marked == {"sweep"} and sorted(whole) == sorted(DIVERSE)
    assert sweeping.left_out([request.node]) == []
    assert sweeping.left_out([request.node] * 2 * sweeping.MANY) == []
    assert 1 <= sweeping.examples(2) <= 2 <= sweeping.part_of(2 * sweeping.SHARE)
