"""What became of positions, asked place by place, is what it is position by position."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isogrow.laws.history import Classes, is_old
from isogrow.laws.twins import copies_of
from isogrow.plans.plan import OLD, Place, Plan, Step
from isogrow.plans.sizes import Sizes

LABELS = ("new", "copy1", "copy2")


@st.composite
def steps(draw: st.DrawFn, old: int) -> Step:
    """Old positions in order, apart by a stride or cut by new ones that extend some of them."""
    if draw(st.booleans()):
        stride = draw(st.integers(2, 3))
        others = [Place(at, old, 0, LABELS[at - 1], stride) for at in range(1, stride)]
        return Step("S", "axis", old, old * stride, (Place(0, old, 0, OLD, stride), *others), {})
    cuts = sorted({0, old, *draw(st.lists(st.integers(0, old), max_size=3))})
    places: list[Place] = []
    start = 0
    for number, (low, high) in enumerate(zip(cuts, cuts[1:], strict=False)):
        places.append(Place(start, high - low, low, draw(st.sampled_from([OLD, f"{OLD}{number}"]))))
        start += high - low
        source = draw(st.integers(0, old - 1))
        count = draw(st.integers(0, min(4, old - source)))
        places += [Place(start, count, source, draw(st.sampled_from(LABELS)))] if count else []
        start += count
    return Step("S", "axis", old, start, tuple(places), {})


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Up to four growths of one axis, and one of another between them."""
    size = draw(st.integers(1, 7))
    found: list[Step] = []
    now = size
    for _ in range(draw(st.integers(1, 4))):
        found.append(draw(steps(now)))
        now = found[-1].new
    between = Step("L", "layers", 2, 3, (Place(0, 1, 0), Place(1, 1, 0, "new"), Place(2, 1, 1)), {})
    found.insert(draw(st.integers(0, len(found))), between)
    return Plan("made-up", Sizes({"axis": size, "layers": 2}), tuple(found), {}, 0)


@given(plans())
def test_runs_tile_an_axis_and_say_the_past_of_each_position(plan: Plan) -> None:
    classes, size = Classes(plan), plan.target.of("axis")
    seen = [position for run in classes.runs("axis", ()) for position in run.positions]
    assert sorted(seen) == list(range(size))
    for run in classes.runs("axis", ()):
        for position, origin in zip(run.positions, run.origins, strict=True):
            past = list(classes.past("axis", (), position))
            assert (run.history, origin) == (tuple(label for label, _ in past), past[-1][1])


@given(plans())
def test_classes_have_the_first_position_of_each_history(plan: Plan) -> None:
    classes = Classes(plan)
    found: dict[tuple[str, ...], int] = {}
    for position in range(plan.target.of("axis")):
        found.setdefault(classes.history("axis", (), position), position)
    wanted = {position: not is_old(history) for history, position in found.items()}
    assert list(classes.of("axis", ()).items()) == list(wanted.items())


@given(plans())
def test_copies_of_one_origin_have_an_example_for_each_set_of_histories(plan: Plan) -> None:
    classes = Classes(plan)
    origins: dict[int, dict[tuple[str, ...], int]] = {}
    for position in range(plan.target.of("axis")):
        past = list(classes.past("axis", (), position))
        origins.setdefault(past[-1][1], {}).setdefault(tuple(label for label, _ in past), position)
    wanted = {frozenset(same) for same in origins.values()}
    found = copies_of(plan, "axis", ())
    assert {frozenset(classes.history("axis", (), p) for p in each) for each in found} == wanted
    for each in found:
        assert len({list(classes.past("axis", (), p))[-1][1] for p in each}) == 1


def test_an_axis_costs_what_its_places_are() -> None:
    """A vocabulary's worth of positions is not gone through."""
    size = 1 << 50
    step = Step("S", "axis", size, 2 * size, (Place(0, size, 0), Place(size, size, 0, "new")), {})
    plan = Plan("made-up", Sizes({"axis": size}), (step,), {}, 0)
    assert Classes(plan).of("axis", ()) == {0: False, size: True}
    assert copies_of(plan, "axis", ()) == {(size - 1, 2 * size - 1)}
