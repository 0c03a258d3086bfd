"""Plans are data: what a step may say, what sizes a plan ends in, how plans compose."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from isogrow.errors import LawError
from isogrow.plans.plan import Constant, Free, Init, Old, Place, Plan, Step, grown
from isogrow.plans.sizes import Sizes

SITES = {"heads": ("layers",), "ffn": ("layers",), "dim": ("layers", "heads")}
SIZES = Sizes(
    {"hidden": 6, "layers": 2, "ffn[0]": 5, "ffn[1]": 7, "heads[0]": 1, "heads[1]": 2}
    | {"dim[0,0]": 3, "dim[1,0]": 4, "dim[1,1]": 8},
    SITES,
)
FREE = {"up": {"new": Free()}, "down": {"new": Constant(0.0), "old": Old(2.0)}}


def step(axis: str, old: int, new: int, site: Any = (), *places: Place, **changes: Any) -> Step:
    tiled = places or (Place(0, old, 0), Place(old, new - old, 0, "new"))
    return Step("Growth", axis, old, new, tiled, FREE, site, **changes)


def test_places_hold_positions() -> None:
    place = Place(1, 3, 0, "new", stride=2)
    assert list(place.positions) == [1, 3, 5]
    assert not place.old
    assert Place(0, 1, 0).old and Place(0, 1, 0, "old3").old


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ((Place(0, 3, 0), Place(4, 2, 0, "new")), "do not tile 0..6"),
        ((Place(0, 3, 0), Place(2, 4, 0, "new")), "do not tile 0..6"),
        ((Place(0, 4, 0), Place(4, 2, 0, "new")), "do not keep 0..3"),
        ((Place(0, 2, 0), Place(2, 4, 0, "new")), "do not keep 0..3"),
        ((Place(0, 3, 1), Place(3, 3, 0, "new")), "do not keep 0..3"),
    ],
)
def test_places_tile_the_new_axis_and_keep_the_old(places: tuple[Place, ...], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        step("hidden", 3, 6, (), *places)


def test_sources_of_positions() -> None:
    strided = step("hidden", 3, 6, (), Place(0, 3, 0, stride=2), Place(1, 3, 0, "new", stride=2))
    assert [strided.source(p) for p in range(6)] == [
        (0, "old"), (0, "new"), (1, "old"), (1, "new"), (2, "old"), (2, "new"),
    ]  # fmt: skip
    inserted = step("layers", 2, 3, (), Place(0, 1, 0), Place(1, 1, 0, "new"), Place(2, 1, 1))
    assert [inserted.source(p)[0] for p in range(3)] == [0, 0, 1]


def test_entries() -> None:
    made = step("hidden", 3, 6)
    assert made.entry("up", "old") == made.entry("elsewhere", "old") == Old()
    assert made.entry("down", "old") == Old(2.0)
    assert made.entry("up", "new") == Free()
    with pytest.raises(AssertionError, match="does not say what elsewhere is at 'new'"):
        made.entry("elsewhere", "new")


def test_a_step_is_at_its_site_alone() -> None:
    made = step("dim", 3, 6, (("layers", 1), ("heads", 0)))
    assert made.at((("layers", 1), ("heads", 0), ("experts", 3)))
    assert not made.at((("layers", 1), ("heads", 2)))
    assert made.at(())  # what has no such index is outside the question
    assert step("hidden", 3, 6).at((("layers", 1),))


def test_sizes_after_a_step() -> None:
    assert grown(SIZES, step("hidden", 6, 9)).values == {**SIZES.values, "hidden": 9}
    wide = grown(SIZES, step("ffn", 7, 11, (("layers", 1),)))
    assert wide.values == {**SIZES.values, "ffn[1]": 11}


def test_a_new_layer_has_the_sizes_of_the_one_it_extends() -> None:
    places = (Place(0, 1, 0), Place(1, 1, 0, "new"), Place(2, 1, 1), Place(3, 1, 1, "new"))
    deep = grown(SIZES, step("layers", 2, 4, (), *places))
    assert [deep.of("ffn", (("layers", n),)) for n in range(4)] == [5, 5, 7, 7]
    assert [deep.of("heads", (("layers", n),)) for n in range(4)] == [1, 1, 2, 2]
    dims = [deep.of("dim", site) for site in deep.all_sites("dim")]
    assert dims == [3, 3, 4, 8, 4, 8]


def test_a_new_head_has_the_sizes_of_the_one_it_extends() -> None:
    places = (Place(0, 2, 0), Place(2, 1, 1, "new"))
    more = grown(SIZES, step("heads", 2, 3, (("layers", 1),), *places))
    assert [more.of("dim", site) for site in more.all_sites("dim")] == [3, 4, 8, 8]


def plan(*steps: Step, **changes: Any) -> Plan:
    return Plan("family", SIZES, steps, **changes)


def test_stages_and_target() -> None:
    made = plan(step("hidden", 6, 9), step("hidden", 9, 11))
    assert [stage.of("hidden") for stage in made.stages] == [6, 9, 11]
    assert made.target.of("hidden") == 11
    assert plan().target == SIZES


def test_then_appends() -> None:
    one, two = step("hidden", 6, 9), step("hidden", 9, 11)
    first, second = plan(one, config={"a": 1, "b": 1}), plan(two, config={"b": 2, "c": 2})
    both = first.then(replace(second, source=first.target))
    assert both.steps == (one, two)
    assert both.config == {"a": 1, "b": 2, "c": 2}
    assert first.then(Plan("family", first.target)) == first
    for wrong in (second, replace(second, source=first.target, family="other")):
        with pytest.raises(LawError, match="does not start at the sizes where the first one ends"):
            first.then(wrong)


def test_plans_are_frozen_and_compare() -> None:
    made = plan(step("hidden", 6, 9))
    assert made == plan(step("hidden", 6, 9))
    assert made != plan(step("hidden", 6, 9), seed=1)
    assert made != plan(step("hidden", 6, 10))
    assert Free() == Free(Init("normal", "match")) != Free(Init(std=0.1))
    with pytest.raises(FrozenInstanceError):
        made.seed = 3  # type: ignore[misc]


def test_no_two_growths_have_one_key() -> None:
    wide = step("ffn", 7, 11, (("layers", 1),))
    deeper = grown(SIZES, step("layers", 2, 3))
    assert wide.key(SIZES) != wide.key(deeper)
    assert len({step("hidden", 6, n).key(SIZES) for n in (7, 8, 9)}) == 3
    assert step("hidden", 6, 9).key(SIZES) == step("hidden", 6, 9).key(deeper)


def test_a_plan_prints_as_a_table() -> None:
    wide = step("ffn", 7, 11, (("layers", 1),))
    assert str(plan(step("hidden", 6, 9), wide, config={"a.b": 1.5}, seed=3)) == "\n".join(
        [
            "family, seed 3",
            "Growth               hidden               6 -> 9",
            "  free         up",
            "  x 2          down",
            "  zero         down",
            "Growth               ffn[1]               7 -> 11",
            "  free         up",
            "  x 2          down",
            "  zero         down",
            "config: a.b = 1.5",
        ]
    )
    assert str(plan()) == "family, seed 0"
