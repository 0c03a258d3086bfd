"""ALiBi: slopes as the models' own code computes them, and old heads where their slopes are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import families as F
import pytest
import torch
from torch import Tensor
from transformers.models.bloom.modeling_bloom import build_alibi_tensor as bloom_biases
from transformers.models.falcon.modeling_falcon import build_alibi_tensor as falcon_biases
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor as mpt_biases

from isogrow.errors import LawError, SizeError
from isogrow.laws import check
from isogrow.plans.plan import Place, Plan, Step
from isogrow.rules import attention
from isogrow.rules.alibi import exponents

HEADS = 96
STEEPEST = (4, 6, 8, 16)

Slopes = Callable[[int], Tensor]


def bloom(heads: int) -> Tensor:
    return bloom_biases(torch.ones(1, 2, dtype=torch.long), heads, torch.float32)[:, 0, 1]


def falcon(heads: int) -> Tensor:
    return falcon_biases(torch.ones(1, 2, dtype=torch.long), heads, torch.bfloat16)[:, 0, 1]


def mpt(heads: int, most: int = 8) -> Tensor:
    return -mpt_biases(heads, 2, most)[:, 0, 0]


def exact(heads: int, most: int = 8) -> Tensor:
    return torch.tensor([2.0 ** (-most * float(e)) for e in exponents(heads)], dtype=torch.float64)


# Slopes


@pytest.mark.parametrize("slopes", [bloom, falcon, mpt])
def test_slopes_are_those_of_the_models(slopes: Slopes) -> None:
    for heads in range(1, HEADS + 1):
        with F.float64():
            found = slopes(heads)
        assert torch.allclose(found, exact(heads), rtol=1e-13, atol=0)
    assert not torch.allclose(exact(HEADS).flip(0), exact(HEADS), rtol=1e-3, atol=0)


@pytest.mark.parametrize("most", STEEPEST)
def test_mpt_chooses_the_steepest(most: int) -> None:
    for heads in range(1, HEADS + 1):
        with F.float64():
            found = mpt(heads, most)
        assert torch.allclose(found, exact(heads, most), rtol=1e-13, atol=0)


def test_old_slopes_are_among_the_new_ones() -> None:
    """Of any number of heads among those of any larger one, and each of them once."""
    sets = [frozenset(exponents(heads)) for heads in range(1, 2 * HEADS + 1)]
    assert [len(found) for found in sets] == list(range(1, 2 * HEADS + 1))
    assert all(small <= large for small, large in pairwise(sets))
    assert not sets[4] >= sets[5]


def moved(slopes: Slopes, old: int, new: int) -> float:
    """How far the old heads' slopes are from those that they find among the new ones, relatively."""
    places = {e: head for head, e in enumerate(exponents(new))}
    before, after = slopes(old).double(), slopes(new).double()
    return float(((after[[places[e] for e in exponents(old)]] - before) / before).abs().max())


@pytest.mark.slow
@pytest.mark.parametrize(("slopes", "most"), [(bloom, 2e-6), (falcon, 0.0), (mpt, 0.0)])
def test_slopes_in_the_models_own_dtype(slopes: Slopes, most: float) -> None:
    """MPT's and Falcon's are equal bit for bit. BLOOM raises a rounded base to a power, in float32."""
    assert max(moved(slopes, old, new) for new in range(1, HEADS + 1) for old in range(1, new + 1)) <= most
    assert most == 0.0 or moved(slopes, 32, 64) > 0.0


# Places

GROUPED = dict(hidden_size=32, num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True)
PLAIN = dict(new_decoder_architecture=False, num_kv_heads=None, multi_query=False)
VARIANTS: dict[str, tuple[str, F.Json, dict[str, F.Size]]] = {
    "bloom": ("bloom", {}, {"hidden": 60, "heads": 10}),
    "bloom, normalised residual": (
        "bloom",
        {"apply_residual_connection_post_layernorm": True},
        {"hidden": 60, "heads": 10},
    ),
    "mpt": ("mpt", {}, {"hidden": 60, "heads": 10}),
    "falcon, plain": ("falcon", {**PLAIN, "parallel_attn": False}, {"hidden": 110, "heads": 11}),
    "falcon, multi-query": ("falcon", {**PLAIN, "multi_query": True}, {"hidden": 110, "heads": 11}),
    "falcon, more in each group": ("falcon", GROUPED, {"hidden": 64, "heads": 8}),
    "falcon, more groups": ("falcon", GROUPED, {"hidden": 48, "heads": 6, "kv_heads": 3}),
}


def small(variant: str) -> F.Subject:
    name, changes, _ = VARIANTS[variant]
    alibi = {"alibi": True} if hasattr(F.FAMILIES[name].config(), "alibi") else {}
    return F.subject(F.FAMILIES[name], "", F.FAMILIES[name].json(**changes, **alibi), spread=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_heads_go_where_their_slopes_are(variant: str) -> None:
    subject, wanted = small(variant), VARIANTS[variant][2]
    assert subject.error(subject.plan(wanted)) < F.EXACT


@pytest.mark.parametrize("variant", ["bloom", "mpt", "falcon, plain", "falcon, multi-query"])
def test_heads_elsewhere_are_refused_and_break(variant: str) -> None:
    """Old heads in front, as without ALiBi: the law sees it, and so does the model."""
    subject = small(variant)
    plan = subject.plan(VARIANTS[variant][2])
    wrong = in_front(plan)
    assert subject.error(wrong) > F.BROKEN
    with pytest.raises(LawError, match="old head heads 0 an ALiBi slope of .* go where its slope is"):
        check(subject.anatomy, wrong)


def in_front(plan: Plan) -> Plan:
    """The plan with old heads before new ones."""

    def step(made: Step) -> Step:
        places = (Place(0, made.old, 0), Place(made.old, made.new - made.old, 0, "new"))
        rewrites = {
            slot: {label: entry for label, entry in rewrite.items() if label in ("old", "new")}
            for slot, rewrite in made.rewrites.items()
        }
        return dataclasses.replace(made, places=places, rewrites=rewrites)

    return dataclasses.replace(plan, steps=tuple(step(s) if s.axis == "heads" else s for s in plan.steps))


@pytest.mark.parametrize(
    ("wanted", "message", "mend"),
    [
        ({"hidden": 48, "heads": 6}, "heads can't grow from 4 to 6.*heads=8 or heads=16", {"heads": 16}),
        ({"kv_heads": 5}, "kv_heads can't grow from 2 to 5.*give kv_heads=3$", {"kv_heads": 3}),
    ],
)
def test_groups_that_can_not_move_are_refused(
    wanted: dict[str, F.Size], message: str, mend: dict[str, F.Size]
) -> None:
    subject = small("falcon, more groups")
    with pytest.raises(SizeError, match=message):
        subject.plan(wanted)
    heads = int(mend.get("heads", 2 * int(mend.get("kv_heads", 2))))
    assert subject.error(subject.plan({**mend, "hidden": 8 * heads})) < F.EXACT


# What lies inside the scaled logits

WIDER = {"hidden": 84, "head_dim": 14}


def test_biases_that_are_scaled_refuse_another_head_dim(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = small("falcon, plain")
    with pytest.raises(
        SizeError, match="adds ALiBi to the logits before it scales them.* grow heads instead"
    ):
        subject.plan(WIDER)
    monkeypatch.setattr(attention, "_check_biases", lambda *_: None)
    with pytest.raises(LawError, match="instead of .*: it must go where its slope is"):
        subject.plan(WIDER)
    monkeypatch.setattr("isogrow.laws.check_slopes", lambda *_: None)
    assert subject.error(subject.plan(WIDER)) > F.BROKEN


@pytest.mark.parametrize("variant", ["bloom", "mpt"])
def test_biases_beside_the_scale_do_not_mind(variant: str) -> None:
    subject = small(variant)
    assert subject.error(subject.plan({"hidden": 60, "head_dim": 12})) < F.EXACT


def test_a_steepest_slope_that_changes_is_refused() -> None:
    subject = small("mpt")
    plan = subject.plan({"layers": 4})
    step = dataclasses.replace(plan.steps[0], config={"attn_config.alibi_bias_max": 8})
    with pytest.raises(LawError, match="an ALiBi slope"):
        check(subject.anatomy, dataclasses.replace(plan, steps=(step,)))


# Positions come from the mask and the cache


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_cache_under_left_padding(variant: str) -> None:
    """Distances are counted from the first token that is not padding: in the grown model as in the old one,
    at once and token by token."""
    subject = small(variant)
    large = subject.large(subject.plan({**VARIANTS[variant][2]}))
    given = F.batch("")
    mask = torch.ones_like(given["input_ids"])
    mask[0, :4], mask[1, :1] = 0, 0
    padded = {"input_ids": given["input_ids"], "attention_mask": mask}
    real = mask.bool()
    at_once = [F.outputs(model, padded)["logits"][real] for model in (subject.small, large)]
    assert F.error({"logits": at_once[0]}, {"logits": at_once[1]}) < F.EXACT
    with F.float64():
        one_by_one = F.decoded(large, padded)["logits"][real]
    assert F.error({"logits": at_once[0]}, {"logits": one_by_one}) < F.EXACT
    unpadded = F.outputs(large, {**padded, "attention_mask": torch.ones_like(mask)})["logits"][real]
    assert F.error({"logits": at_once[0]}, {"logits": unpadded}) > F.BROKEN
