"""From a request to a plan: what is made of it, and what is said when it can't be had."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from subjects import CONFIGS, PAPER, anatomy, tensors, trained

from isogrow.errors import SizeError
from isogrow.families.llama import LLAMA
from isogrow.growth.models import anatomy_of
from isogrow.planning.planner import check_fits, plan
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import (
    AttentionExpansion,
    Expansion,
    HeadAddition,
    HeadsExpansion,
    HiddenExpansion,
    LayerAddition,
    MlpExpansion,
    Size,
    expansion_name,
    expansions,
    places,
    target,
)
from isogrow.plans.matching import match
from isogrow.plans.plan import OLD, Init, Plan


def subject(family: str, **changes: Any) -> Anatomy:
    return anatomy_of(trained(PAPER)) if family == "paper" else anatomy(family, **changes)


def grown(family: str, *wanted: Expansion, **changes: Any) -> dict[str, int]:
    """The sizes that change."""
    made = plan(subject(family, **changes), wanted)
    before = made.source.values
    return {axis: size for axis, size in made.target.values.items() if before.get(axis) != size}


def said(found: Anatomy, *wanted: Expansion) -> str:
    with pytest.raises(SizeError) as refused:
        plan(found, wanted)
    return str(refused.value)


def dims(size: int | str) -> tuple[Expansion, Expansion]:
    return AttentionExpansion(size), HeadsExpansion(size)


# Sizes


@pytest.mark.parametrize(
    ("size", "now", "wanted"),
    [(768, 12, 768), ("768", 12, 768), ("+4", 12, 16), ("x2", 12, 24), ("X1.5", 12, 18), (" +0 ", 12, 12)],
)
def test_sizes_are_absolute_relative_or_factors(size: Any, now: int, wanted: int) -> None:
    assert target(size, now, "ffn") == wanted


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("big", "ffn='big' is no size: give a number, '+4' or 'x2'"),
        ("-3", "ffn='-3' is no size: give a number, '+4' or 'x2'"),
        ("2x", "ffn='2x' is no size: give a number, '+4' or 'x2'"),
        ("x1.4", "ffn='x1.4' is 16.8 from 12, which is not a whole number: give 17"),
        (2.5, "ffn=2.5 is 2.5 from 12, which is not a whole number: give 'x2.5' for 2.5 times 12"),
        (2.3, "ffn=2.3 is 2.3 from 12, which is not a whole number: give 28 for 2.3 times 12"),
        (13.5, "ffn=13.5 is 13.5 from 12, which is not a whole number: give 14"),
        ("x1e9", "ffn='x1e9' is no size: give a number, '+4' or 'x2'"),
        (1048577, "ffn='1048577' is larger than any model's: give 1,048,576 or less"),
        ("9" * 5000, f"ffn='{'9' * 20}…' is larger than any model's: give 1,048,576 or less"),
        (11, "ffn=11 would shrink ffn from 12 to 11: give more than 12"),
        ("x0.5", "ffn='x0.5' would shrink ffn from 12 to 6: give more than 12"),
        (0.5, "ffn=0.5 would shrink ffn from 12 to 0.5: give more than 12"),
        ("+0.001", "ffn='+0.001' is 12.001 from 12, which is not a whole number: give 13"),
        ("+1.50", "ffn='+1.50' is 13.5 from 12, which is not a whole number: give 14"),
        (
            "x1.2499999999",
            "ffn='x1.2499999999' is 14.9999999988 from 12, which is not a whole number: give 15",
        ),
    ],
)
def test_sizes_that_are_none(size: Any, message: str) -> None:
    with pytest.raises(SizeError) as refused:
        target(size, 12, "ffn")
    assert str(refused.value) == message


@pytest.mark.parametrize("decimals", [1, 2, 3])
def test_factors_are_what_is_written_and_advice_is_true(decimals: int) -> None:
    """In floats 1.4 times 45 is a little less than 63."""
    for now in (1, 7, 25, 45, 100, 999, 4097, 1 << 20):
        for written in range(10**decimals, 3 * 10**decimals, 7 ** (decimals - 1)):
            text = f"{written // 10**decimals}.{written % 10**decimals:0{decimals}}"
            for size in (f"x{text}", f"+{text}", text, float(text)):
                _check_size(size, now, Fraction(text))


def _check_size(size: str | float, now: int, value: Fraction) -> None:
    kind = str(size)[0]
    wanted = now * value if kind == "x" else now + value if kind == "+" else value
    try:
        assert target(size, now, "ffn") == wanted  # type: ignore[arg-type]
    except SizeError as refused:
        why, advice = str(refused), re.search(r"give '?(more than )?(x?[\d.,]+)", str(refused))
        assert advice is not None
        if "whole number" in why:
            assert wanted.denominator > 1
            assert target(advice[2], now, "ffn") >= wanted
        else:
            assert wanted < now if advice[1] else wanted > 1 << 20


@pytest.mark.parametrize(
    ("at", "wanted"),
    [("end", (5, 5)), ("start", (0, 0)), ("even", (2, 5)), ((4, 1), (1, 4)), ((5, 5), (5, 5))],
)
def test_layers_go_before_old_ones(at: Any, wanted: tuple[int, ...]) -> None:
    assert places(at, 5, 2) == wanted


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("middle", "layers at 'middle': give end, start, even, or a number for each new layer"),
        (
            (1,),
            "layers at 1: expected 2 numbers from 0 to 5, one for each new layer (the old layer that it is"
            " put before)",
        ),
        (
            (1, 6),
            "layers at 1,6: expected 2 numbers from 0 to 5, one for each new layer (the old layer that it is"
            " put before)",
        ),
    ],
)
def test_layers_that_have_no_place(at: Any, message: str) -> None:
    with pytest.raises(SizeError) as refused:
        places(at, 5, 2)
    assert str(refused.value) == message


def test_what_has_its_size_already_takes_no_step() -> None:
    found = anatomy("llama")
    assert plan(found, [MlpExpansion(70), HeadAddition("+0"), LayerAddition(3), HeadAddition()]).steps == ()


def test_sizes_by_name_become_expansions_in_an_order_that_leaves_most_free() -> None:
    sizes = dict(layers="+2", ffn=3, heads=4, kv_heads=2, head_dim=8, hidden=5)
    assert expansions(sizes, "even") == (
        HiddenExpansion(5),
        AttentionExpansion(8),
        HeadsExpansion(8),
        HeadAddition(4, 2),
        MlpExpansion(3),
        LayerAddition("+2", "even"),
    )
    assert expansions({"key_dim": 3, "head_dim": 4}) == (AttentionExpansion(3), HeadsExpansion(4))
    assert expansions({}) == ()
    with pytest.raises(SizeError) as refused:
        expansions({"hidden": 3, "vocab": 9, "foo": 1})
    assert str(refused.value) == (
        "foo, vocab is no axis that grows: give one of dt_rank, expert_ffn, ffn, head_dim, heads, hidden,"
        " key_dim, kv_heads, kv_rank, layers, q_rank, shared_ffn, state_dim, state_width, taps, value_dim"
    )


def test_axes_have_the_paper_s_names() -> None:
    names = [expansion_name(axis) for axis in ("ffn", "kv_heads", "value_dim", "key_dim", "hidden", "layers")]
    assert names == ["MlpExpansion", "HeadAddition", "HeadsExpansion", "AttentionExpansion",
                     "HiddenExpansion", "LayerAddition"]  # fmt: skip
    assert expansion_name("encoder_layers") == "LayerAddition"
    assert expansion_name("latent") == "MlpExpansion"


# Sites


@pytest.mark.parametrize(
    ("family", "wanted", "message"),
    [
        (
            "llama", MlpExpansion(80, layer=1),
            "ffn can't grow in layer 1 alone: a 'llama' config holds one ffn for all layers; leave out the"
            " layer",
        ),
        (
            "gpt2", HeadsExpansion(20, head=2),
            "value_dim can't grow in head 2 alone: a 'gpt2' config holds one value_dim for all heads; leave"
            " out the head",
        ),
        (
            "llama", HeadAddition(16, layer=0),
            "kv_heads can't grow in layer 0 alone: a 'llama' config holds one kv_heads for all layers; leave"
            " out the layer",
        ),
        ("paper", MlpExpansion(30, layer=7), "there is no layer 7: layers and heads are counted from 0"),
        (
            "paper", HeadsExpansion(30, layer=0, head=2),
            "there is no layer 0 with a head 2: layers and heads are counted from 0",
        ),
        ("paper", HeadsExpansion(30, head=5), "there is no head 5: layers and heads are counted from 0"),
        ("paper", MlpExpansion(18), "ffn[1]=18 would shrink ffn[1] from 19 to 18: give more than 19"),
    ],
)  # fmt: skip
def test_sites_that_can_t_be_had(family: str, wanted: Expansion, message: str) -> None:
    assert said(subject(family), wanted) == message


def test_sites_that_can() -> None:
    assert grown("paper", MlpExpansion("+1")) == {"ffn[0]": 18, "ffn[1]": 20}
    assert grown("paper", MlpExpansion(20, layer=1)) == {"ffn[1]": 20}
    assert grown("paper", AttentionExpansion(20, layer=1)) == {f"key_dim[1,{e}]": 20 for e in range(3)}
    assert grown("paper", HeadsExpansion(20, head=1)) == {f"value_dim[{n},1]": 20 for n in range(2)}
    assert grown("paper", HeadAddition("+1", layer=0)) == {
        "heads[0]": 3, "key_dim[0,2]": 4, "value_dim[0,2]": 7,
    }  # fmt: skip


# Heads


@pytest.mark.parametrize(
    ("wanted", "sizes"),
    [
        (HeadAddition(12), {"group": 6}),
        (HeadAddition(kv_heads=3), {"kv_heads": 3}),
        (HeadAddition(12, 3), {"kv_heads": 3}),
        (HeadAddition("x2", "x2"), {"kv_heads": 4}),
        (HeadAddition(24, 3), {"kv_heads": 3, "group": 8}),
    ],
)
def test_query_heads_come_in_groups(wanted: Expansion, sizes: dict[str, int]) -> None:
    assert grown("mistral", wanted) == sizes


@pytest.mark.parametrize(
    ("family", "wanted", "message"),
    [
        (
            "mistral", HeadAddition(9),
            "heads=9 can't be had with kv_heads=2: every key/value head has the same number of query heads,"
            " at least 4; give heads=10",
        ),
        (
            "mistral", HeadAddition(8, 4),
            "heads=8 can't be had with kv_heads=4: every key/value head has the same number of query heads,"
            " at least 4; give heads=16",
        ),
        (
            "mistral", HeadAddition("x2", "+1"),
            "heads=16 can't be had with kv_heads=3: every key/value head has the same number of query heads,"
            " at least 4; give heads=18, or kv_heads=4 with it",
        ),
        ("mistral", HeadAddition(6), "heads=6 would shrink heads from 8 to 6: give more than 8"),
        ("mistral", HeadAddition(8, 1), "kv_heads=1 would shrink kv_heads from 2 to 1: give more than 2"),
        (
            "gpt2", HeadAddition(8, 2),
            "kv_heads is no axis of 'gpt2', where every head has keys and values of its own: give heads"
            " alone",
        ),
    ],
)  # fmt: skip
def test_heads_that_can_t_be_had(family: str, wanted: Expansion, message: str) -> None:
    assert said(subject(family), wanted) == message


# What a family can hold


@pytest.mark.parametrize(
    ("family", "wanted", "message"),
    [
        (
            "llama", (HiddenExpansion(50),),
            "'llama' can't hold these sizes: its config needs hidden % heads == 0, and they would be"
            " heads=8, hidden=50; hidden=56 or heads=10 would do",
        ),
        (
            "llama", (AttentionExpansion(20),),
            "'llama' can't hold these sizes: its config needs key_dim == value_dim, and they would be"
            " key_dim=20, value_dim=10; head_dim=20 would do",
        ),
        (
            "gpt2", (HiddenExpansion(50),),
            "'gpt2' can't hold these sizes: its config needs heads * head_dim == hidden, and they would be"
            " head_dim=8, heads=6, hidden=50; hidden=56 with heads=7 or hidden=54 with head_dim=9 would do",
        ),
        (
            "gpt2", (HeadAddition(8),),
            "'gpt2' can't hold these sizes: its config needs heads * head_dim == hidden, and they would be"
            " head_dim=8, heads=8, hidden=48; hidden=64 would do",
        ),
        (
            "bert", (HiddenExpansion(96),),
            "'bert' can't hold these sizes: its config needs heads * head_dim == hidden, and they would be"
            " head_dim=8, heads=6, hidden=96; heads=12 or head_dim=16 would do",
        ),
        (
            "bert", (HiddenExpansion(60),),
            "hidden can't grow from 48 to 60 exactly: a LayerNorm writes the residual, so only whole copies"
            " keep its mean. It grows to multiples of 48: give 96",
        ),
        (
            "bert", (HiddenExpansion(100),),
            "hidden can't grow from 48 to 100 exactly: a LayerNorm writes the residual, so only whole copies"
            " keep its mean. It grows to multiples of 48: give 96 or 144",
        ),
        (
            "bert", (LayerAddition("+1"),),
            "layers can't grow: a layer of 'bert' normalises the residual itself (post-norm), so no new layer"
            " computes the identity exactly; grow ffn, heads or hidden instead",
        ),
        (
            "qwen3", dims(35),
            "key_dim can't grow from 10 to 35 exactly: queries and keys are normalised over it, so only"
            " copies fit. It grows to multiples of 10: give 30 or 40",
        ),
        ("llama", dims(13), "key_dim=13 is odd, and rotary positions pair its channels: give 14"),
    ],
)  # fmt: skip
def test_sizes_that_a_family_can_t_hold(family: str, wanted: Any, message: str) -> None:
    assert said(anatomy(family), *wanted) == message


@pytest.mark.parametrize(
    ("family", "wanted"),
    [
        ("llama", (HiddenExpansion(56),)),
        ("llama", (HiddenExpansion(50), HeadAddition(10))),
        ("llama", dims(20)),
        ("gpt2", (HiddenExpansion(56), HeadAddition(7))),
        ("gpt2", (HiddenExpansion(54), *dims(9))),
        ("bert", (HiddenExpansion(96), HeadAddition(12))),
        ("bert", (HiddenExpansion(96), *dims(16))),
        ("qwen3", dims(30)),
    ],
)
def test_the_mends_that_are_named_do(family: str, wanted: tuple[Expansion, ...]) -> None:
    assert plan(anatomy(family), wanted).steps


@pytest.mark.parametrize("kind", ["dynamic", "axial"])
def test_rope_scalings_without_a_rule_are_refused_by_name(kind: str) -> None:
    found = anatomy("llama", rope_scaling={"rope_type": kind, "factor": 2.0})
    assert said(found, *dims(14)) == (
        f"key_dim can't grow under rope scaling {kind!r}: its frequencies depend on the head dim in a way no"
        " config undoes; leave the head dim and grow heads instead"
    )


def test_an_axis_may_be_refused_by_its_layout() -> None:
    layout = replace(LLAMA, refusals={"ffn": "its rows are hashed; grow hidden instead"})
    found = match(layout, CONFIGS["llama"], tensors(layout, CONFIGS["llama"]))
    assert said(found, MlpExpansion("+1")) == (
        "ffn can't grow in 'llama': its rows are hashed; grow hidden instead"
    )
    assert plan(found, [MlpExpansion("+0")]).steps == ()


def test_an_axis_that_a_family_has_not_is_refused() -> None:
    layout = replace(LLAMA, axes={a: f for a, f in LLAMA.axes.items() if a not in ("ffn",)}, constraints=())
    weights = tuple(w for w in layout.weights if "ffn" not in w.pattern)
    layout = replace(layout, weights=weights, keys=tuple(k for k in layout.keys if k.size != "ffn"))
    found = match(layout, CONFIGS["llama"], tensors(layout, CONFIGS["llama"]))
    assert said(found, MlpExpansion("+1")) == (
        "ffn is no axis of this 'llama' model, which has hidden, heads, kv_heads, head_dim, key_dim,"
        " value_dim, layers"
    )


# What becomes of the config


def test_config_edits_are_the_keys_that_change() -> None:
    wanted = (HiddenExpansion(56), HeadAddition(14, 2), MlpExpansion(90), LayerAddition("+1"))
    assert plan(anatomy("llama"), wanted).config == {
        "rms_norm_eps": pytest.approx(1e-2 * 48 / 56, rel=1e-15),
        "hidden_size": 56,
        "num_attention_heads": 14,
        "intermediate_size": 90,
        "num_hidden_layers": 4,
    }


def test_a_default_that_no_longer_holds_is_written_out() -> None:
    config = {key: value for key, value in CONFIGS["llama"].items() if key != "head_dim"}
    layout = replace(LLAMA, constraints=("key_dim == value_dim",))
    found = match(layout, config, tensors(layout, config))
    assert plan(found, [HiddenExpansion(64)]).config["head_dim"] == 6
    assert "head_dim" not in plan(found, [MlpExpansion("+1")]).config


def test_rope_theta_follows_the_head_dim_unless_pairs_move() -> None:
    found = anatomy("llama", rope_theta=5000.0)
    assert plan(found, dims(14)).config["rope_theta"] == 5000.0 ** (14 / 10)
    assert "rope_theta" not in plan(found, dims(20)).config


def test_lists_of_layers_grow_with_them() -> None:
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    found = anatomy("qwen2", layer_types=kinds)
    made = plan(found, [LayerAddition("+2", (0, 2))])
    assert made.config["layer_types"] == [kinds[0], kinds[0], kinds[1], kinds[1], kinds[2]]


def test_the_init_reaches_every_free_entry() -> None:
    made = plan(anatomy("llama"), [MlpExpansion(90)], Init("uniform", 0.3), seed=4)
    free = [e for rewrite in made.steps[0].rewrites.values() for label, e in rewrite.items() if label != OLD]
    assert {getattr(entry, "init", None) for entry in free} == {None, Init("uniform", 0.3)}
    assert made.seed == 4


# Plans that are given


def misfit(found: Anatomy, given: Plan) -> str:
    with pytest.raises(SizeError) as refused:
        check_fits(found, given)
    return str(refused.value)


def test_a_plan_fits_the_model_that_it_was_made_for() -> None:
    found = anatomy("gpt2")
    made = plan(found, [HiddenExpansion(56), HeadAddition(7)])
    check_fits(found, made)
    other = misfit(anatomy("gpt2", n_inner=71), made)
    assert other.startswith("the plan is for 'gpt2' with vocab=97, ")
    assert other.endswith(", layers=3: make a plan for this model")
    assert misfit(anatomy("bert"), made).startswith("the plan is for 'gpt2' with ")


def test_a_plan_grows_axes_that_there_are() -> None:
    found = anatomy("gpt2")
    made = plan(found, [HiddenExpansion(56), HeadAddition(7)])
    other = replace(made, steps=(replace(made.steps[0], axis="width"), *made.steps[1:]))
    assert misfit(found, other) == "the plan grows 'width', which this model lacks: make a plan for it"


def test_a_plan_s_config_is_what_its_steps_make() -> None:
    found = anatomy("gpt2")
    made = plan(found, [HiddenExpansion(56), HeadAddition(7)])
    assert misfit(found, replace(made, config={**made.config, "n_head": 8})) == (
        "the plan makes n_head of the config 8, but its steps make it 7: make a plan for this model"
    )
    left = {key: value for key, value in made.config.items() if key != "layer_norm_epsilon"}
    assert "makes layer_norm_epsilon of the config 0.01, but its" in misfit(found, replace(made, config=left))


def test_a_config_may_leave_out_what_its_defaults_say() -> None:
    config = {key: value for key, value in CONFIGS["llama"].items() if key != "head_dim"}
    layout = replace(LLAMA, constraints=())
    short = match(layout, {**config, "hidden_size": 80}, tensors(layout, {**config, "hidden_size": 80}))
    full = replace(short, config={**short.config, "head_dim": 10})
    made = plan(short, [HiddenExpansion(96)])
    assert made.config["head_dim"] == 10
    check_fits(full, made)
    check_fits(short, replace(plan(full, [HiddenExpansion(96)]), config=made.config))


@pytest.mark.parametrize(
    ("made_for", "given_to", "wanted"),
    [
        # On the model itself the rules refuse, or edit the config otherwise.
        ({}, {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, {"head_dim": "x2"}),
        ({}, {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, {"head_dim": "x2"}),
        ({"rope_theta": 1e4}, {"rope_theta": 2e4}, {"head_dim": "+2"}),
        ({"rms_norm_eps": 1e-5}, {"rms_norm_eps": 1e-6}, {"hidden": "x2"}),
    ],
)
def test_a_plan_for_another_config_is_refused(
    made_for: dict[str, Any], given_to: dict[str, Any], wanted: dict[str, Size]
) -> None:
    made = plan(anatomy("llama", **made_for), expansions(wanted))
    check_fits(anatomy("llama", **made_for), made)
    with pytest.raises(SizeError):
        check_fits(anatomy("llama", **given_to), made)


def test_a_plan_for_layers_without_windows_is_refused_where_there_are_some() -> None:
    made = plan(anatomy("qwen2"), [LayerAddition("+1", "start")])
    windows = {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 1}
    with pytest.raises(SizeError, match="was made for another config of this family"):
        check_fits(anatomy("qwen2", **windows), made)


def test_a_plan_with_a_slot_that_the_model_lacks_is_refused() -> None:
    made = plan(anatomy("llama", tie_word_embeddings=False), [HiddenExpansion("x2")])
    with pytest.raises(SizeError, match="the plan says what becomes of head, which this model lacks"):
        check_fits(anatomy("llama", tie_word_embeddings=True), made)
