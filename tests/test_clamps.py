"""No scale passes a clamp: refused where one would have to, and where it does all the same, it shows."""

from __future__ import annotations

from dataclasses import replace

import families as F
import pytest

from isogrow import laws
from isogrow.errors import LawError, SizeError
from isogrow.families import layout_for
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import Expansion, LayerAddition, expansions
from isogrow.plans.matching import match
from isogrow.plans.plan import OLD, Old, Plan

OLMO = F.FAMILIES["olmo"]
BOUND = 0.4  # about half of what queries, keys and values are without it


def olmo(kind: str = "", **config: object) -> F.Subject:
    return F.subject(OLMO, kind, OLMO.json(**config))


clamped, free = olmo(clip_qkv=BOUND), olmo()


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden": 42},
        {"heads": 10},
        {"kv_heads": 5},
        {"ffn": 51, "layers": 5},
        {"hidden": 60, "heads": 15, "kv_heads": 3, "ffn": 51, "layers": 4},
    ],
)
def test_what_is_clamped_grows_where_nothing_is_scaled(sizes: dict[str, F.Size]) -> None:
    assert clamped.error(clamped.plan(sizes)) < F.EXACT


def test_the_bound_is_met() -> None:
    """Else no test here would say anything."""
    given = F.batch(clamped.kind)
    same = F.build(F.class_of(clamped.kind), F.config_of(OLMO, free.source), clamped.small.state_dict())
    assert F.error(F.outputs(clamped.small, given), F.outputs(same, given)) > F.BROKEN


def test_a_scale_before_a_clamp_is_refused_and_shows() -> None:
    """The plan of a model without the clamp is exact there, and wrong here."""
    wanted: dict[str, F.Size] = {"head_dim": 14}
    made = free.plan(wanted)
    assert free.error(made) < F.EXACT
    with pytest.raises(SizeError, match=r"what it gives \(clip_qkv\).* leave the head dim and grow heads"):
        clamped.plan(wanted)
    with pytest.raises(SizeError, match="no scale passes"):  # odd or not
        clamped.plan({"head_dim": 13})
    with pytest.raises(LawError, match="no scale passes a clamp"):
        laws.check(clamped.anatomy, made)
    assert clamped.error(made) > F.BROKEN


@pytest.mark.parametrize("slot", ["attn.q", "attn.k", "attn.v"])
def test_what_reads_behind_a_clamp_undoes_the_norm_before_it(slot: str) -> None:
    """Left to be undone behind the clamp (by the output projection, say) it would be too late."""
    made = clamped.plan({"hidden": 42})
    (step,) = made.steps
    kept = {**step.rewrites, slot: {**step.rewrites[slot], OLD: Old()}}
    wrong = replace(made, steps=(replace(step, rewrites=kept),))
    with pytest.raises(LawError, match=f"must scale {slot}"):
        laws.check(clamped.anatomy, wrong)
    assert clamped.error(wrong) > F.BROKEN


def test_the_last_norm_has_no_gain() -> None:
    """So neither the base model's output nor a tied head can be kept where hidden grows."""
    bare, tied = olmo("OlmoModel"), olmo(tie_word_embeddings=True)
    with pytest.raises(SizeError, match="this model has no head that reads it; grow the model with its head"):
        bare.plan({"hidden": 42})
    with pytest.raises(SizeError, match="untie the head, or grow ffn"):
        tied.plan({"hidden": 42})
    for subject in (bare, tied):
        assert subject.error(subject.plan({"heads": 10, "head_dim": 14, "ffn": 51, "layers": 5})) < F.EXACT
    with pytest.raises(
        LawError,
        match="must scale the output along hidden by (1, not|0.84)",
    ):
        laws.check(bare.anatomy, without_head(free.plan({"hidden": 42})))


def without_head(made: Plan) -> Plan:
    (step,) = made.steps
    rewrites = {slot: rewrite for slot, rewrite in step.rewrites.items() if slot != "head"}
    return replace(made, steps=(replace(step, rewrites=rewrites),))


# Clamps where no family has one


def with_clamp(name: str, slots: tuple[str, ...], **config: object) -> tuple[F.Subject, Anatomy]:
    """A model, and the same seen as if its code clamped what these slots give."""
    subject = F.subject(F.FAMILIES[name], "", F.FAMILIES[name].json(**config))
    layout = layout_for(name)
    lines = tuple(replace(w, clamp="1") if w.slot in slots else w for w in layout.weights)
    tensors = {stored.name: stored.header for stored in subject.anatomy.stored}
    return subject, match(replace(layout, weights=lines), subject.source, tensors)


def test_a_clamp_behind_a_norm_forbids_its_gain() -> None:
    _, seen = with_clamp("qwen3", ("attn.k_norm",))
    with pytest.raises(SizeError, match="attn.k_norm would have to be scaled"):
        plan(seen, expansions({"head_dim": 20}))


def test_a_clamp_before_a_norm_leaves_its_epsilon() -> None:
    """What feeds it can't follow ε, so the residual's writers make up for the mean square instead."""
    subject, seen = with_clamp("qwen3", ("attn.q", "attn.k"))
    made = plan(seen, expansions({"hidden": 42}))
    assert "rms_norm_eps" not in made.config
    assert subject.error(made) < F.EXACT
    with pytest.raises(LawError, match="no scale passes a clamp"):
        laws.check(seen, subject.plan({"hidden": 42}))


def test_a_clamped_key_is_not_scaled_by_its_layer() -> None:
    _, seen = with_clamp("gpt2", ("attn.*",), scale_attn_by_inverse_layer_idx=True)
    start: tuple[Expansion, ...] = (LayerAddition("+1", "start"),)
    with pytest.raises(SizeError, match="layers can't grow: attn.k would.* put the new layers at the end"):
        plan(seen, start)
    assert plan(seen, (LayerAddition("+1", "end"),)).target.of("layers") == 4


def test_a_scale_that_the_config_holds_passes() -> None:
    """Nothing is scaled then."""
    subject, seen = with_clamp("gemma2", ("attn.q", "attn.k", "attn.v"))
    made = plan(seen, expansions({"head_dim": 14}))
    assert subject.error(made) < F.EXACT
