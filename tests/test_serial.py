"""Plans come back from JSON as they went in, and what is no plan is refused by its place."""

from __future__ import annotations

import copy
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from isogrow.errors import LawError
from isogrow.families import layout_for
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Header
from isogrow.plans.choices import Choices
from isogrow.plans.expansions import expansions
from isogrow.plans.matching import match
from isogrow.plans.plan import Constant, Entry, Free, Init, Mean, Old, Place, Plan, Step
from isogrow.plans.serial import VERSION, PlanError, digest, from_json, to_json
from isogrow.plans.sizes import Sizes

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
FLOATS = st.floats(allow_nan=False)
INITS = st.builds(
    Init,
    st.sampled_from(["normal", "uniform", "orthogonal", "copy"]),
    st.one_of(st.just("match"), st.floats(1e-9, 1000.0)),
)
ENTRIES: st.SearchStrategy[Entry] = st.one_of(
    st.builds(Old, FLOATS, FLOATS),
    st.builds(Constant, FLOATS),
    st.builds(Mean, WORDS, FLOATS),
    st.builds(Free, INITS, st.booleans(), st.sampled_from([1.0, -1.0]), WORDS),
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
CONFIGS = st.dictionaries(WORDS, JSON_VALUES, max_size=3)
NAMES = st.lists(WORDS, max_size=2)
FORMULAS = st.dictionaries(WORDS, WORDS, max_size=2).map(lambda found: tuple(found.items()))
CHOICES = st.builds(Choices, NAMES.map(tuple), FORMULAS, st.booleans())


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """A step whose new channels stand before, after or between the old ones."""
    old, new = draw(st.integers(1, 5)), draw(st.integers(0, 4))
    if draw(st.booleans()):
        places = (Place(0, old, 0, stride=2), *(Place(2 * i + 1, 1, i, "new") for i in range(old)))
        new = old
    else:
        cut = draw(st.integers(0, old))
        runs = [(0, cut, "old"), (0, new, draw(st.sampled_from(["new", "more"]))), (cut, old - cut, "old3")]
        places, start = (), 0
        for source, count, label in runs:
            places += (Place(start, count, source, label),) if count else ()
            start += count
    rewrites = st.dictionaries(WORDS, st.dictionaries(WORDS, ENTRIES, max_size=3), max_size=3)
    site = draw(st.sampled_from([(), (("layers", 3),), (("layers", 0), ("heads", 2))]))
    return Step(
        draw(WORDS), draw(WORDS), old, old + new, places, draw(rewrites), site, draw(CONFIGS),
        tuple(draw(st.lists(WORDS, max_size=2))), draw(CHOICES),
    )  # fmt: skip


SIZES = st.builds(
    Sizes,
    st.dictionaries(WORDS, st.integers(1, 9), max_size=3),
    st.dictionaries(WORDS, st.lists(WORDS, max_size=2).map(tuple), max_size=2),
)
PLANS = st.builds(
    Plan, WORDS, SIZES, st.lists(steps(), max_size=3).map(tuple), CONFIGS, st.integers(0, 2**63)
)


@given(PLANS)
def test_every_plan_comes_back(made: Plan) -> None:
    assert from_json(json.loads(json.dumps(to_json(made)))) == made


@given(PLANS, PLANS)
def test_equal_digests_mean_equal_plans(a: Plan, b: Plan) -> None:
    assert digest(from_json(json.loads(json.dumps(to_json(a))))) == digest(a)
    assert (digest(a) == digest(b)) == (to_json(a) == to_json(b))


def made(name: str, request: Mapping[str, int | str], init: Init | None = None) -> Plan:
    model = tiny.model(name)
    headers = {key: Header(tuple(value.shape), "F32") for key, value in model.state_dict().items()}
    anatomy = match(layout_for(model.config.model_type), model.config.to_dict(), headers)
    return plan(anatomy, expansions(request), init, seed=11)


GROWTHS = {
    "LlamaForCausalLM": {"hidden": 36, "head_dim": 20, "kv_heads": 3, "ffn": 50, "layers": "+2"},
    "Qwen3ForCausalLM": {"hidden": 36, "head_dim": 20, "layers": "+1"},
    "GPT2LMHeadModel": {"hidden": 36, "heads": 6, "ffn": 50, "layers": "+2"},
    "BertForMaskedLM": {"hidden": "x3", "heads": "x3", "ffn": 50},
}


@pytest.mark.parametrize("name", GROWTHS)
@pytest.mark.parametrize("kind", ["normal", "copy"])
def test_real_plans_come_back(name: str, kind: Any) -> None:
    found = made(name, GROWTHS[name], Init(kind, 0.1))
    assert found.steps
    assert from_json(json.loads(json.dumps(to_json(found)))) == found


def test_a_record_that_holds_a_plan_is_read() -> None:
    found = made("LlamaForCausalLM", {"ffn": 50})
    assert from_json({"format": 1, "plan": to_json(found)}) == found


def at(*path: str | int) -> Callable[[Any], Any]:
    def find(data: Any) -> Any:
        for key in path:
            data = data[key]
        return data

    return find


def put(*path: str | int, value: Any) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        at(*path[:-1])(data)[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        del at(*path[:-1])(data)[path[-1]]

    return change


STEP = ("steps", 0)
ENTRY = (*STEP, "rewrites", "mlp.up", "new")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("version", value=VERSION + 1), "plan.version is 5, and this isogrow reads 1 and 4"),
        (put("version", value=3), "plan.version is 3, and this isogrow reads 1 and 4"),
        (put("version", value=True), "plan.version is true, where a whole number was expected"),
        (drop("seed"), "plan lacks 'seed'"),
        (put("seed", value=1.5), "plan.seed is 1.5, where a whole number was expected"),
        (put("source", "values", "hidden", value="24"), 'plan.source.values.hidden is "24"'),
        (put("steps", value={}), "plan.steps is no list"),
        (put(*STEP, value=[]), "plan.steps[0] is no object"),
        (put(*STEP, "site", value=[["layers"]]), "plan.steps[0] has a site"),
        (put(*STEP, "places", 0, "count", value=7), "plan.steps[0] has places that do not fill"),
        (put(*STEP, "places", 0, "source", value=1), "do not keep 0..44"),
        (put(*STEP, "places", 0, "stride", value=0), "plan.steps[0].places[0] has a number below"),
        (put(*ENTRY, "kind", value="zero"), "plan.steps[0].rewrites.mlp.up.new is of kind 'zero'"),
        (put(*ENTRY, "init", "std", value="wide"), 'init.std is "wide", where a number was expected'),
        (put(*ENTRY, "center", value=1), "center is 1, where true or false was expected"),
    ],
)
def test_what_is_no_plan_is_refused(change: Callable[[Any], None], said: str) -> None:
    data = copy.deepcopy(to_json(made("LlamaForCausalLM", {"ffn": 50})))
    change(data)
    with pytest.raises(PlanError) as refused:
        from_json(data)
    assert said in str(refused.value)
    assert "isogrow" in str(refused.value)  # the mend


def test_a_plan_of_version_1_draws_what_it_drew() -> None:
    plan = made("LlamaForCausalLM", {"ffn": 50})
    old = from_json({**to_json(plan), "version": 1})

    def kinds(some: Plan) -> set[str]:
        entries = (e for step in some.steps for rewrite in step.rewrites.values() for e in rewrite.values())
        return {entry.init.kind for entry in entries if isinstance(entry, Free)}

    assert kinds(plan) == {"normal"} and kinds(old) == {"box-muller"}
    assert from_json(to_json(old)) == old
    assert digest(old) != digest(plan)


def test_a_plan_of_version_1_matches_the_std_of_all_entries() -> None:
    plan = made("LlamaForCausalLM", {"ffn": 50})
    written = {key: value for key, value in to_json(plan).items() if key != "std_of"}
    old = from_json({**written, "version": 1})
    assert (plan.std_of, old.std_of) == ("sample", "all")
    assert from_json(to_json(old)) == old
    after = dataclasses.replace(plan, source=old.target, steps=())
    with pytest.raises(LawError, match="matches the std of all entries and the other that of sample"):
        old.then(after)
    with pytest.raises(PlanError, match="plan.std_of is 'some', and sample or all was expected"):
        from_json({**to_json(plan), "std_of": "some"})


@pytest.mark.parametrize("data", [None, 3, [], "plan", {}])
def test_other_json_is_refused(data: Any) -> None:
    with pytest.raises(PlanError, match="plan"):
        from_json(data)


def test_plans_are_read_without_torch() -> None:
    code = "import isogrow.plans.serial, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
