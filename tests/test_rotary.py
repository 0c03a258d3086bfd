"""Rotary positions under every type of scaling, in one table or several: exact, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import families as F
import pytest

from isogrow import laws
from isogrow.errors import CheckpointError, FamilyError, LawError, SizeError
from isogrow.families import layout_for, layout_of
from isogrow.layouts.config import edited, get
from isogrow.layouts.layout import Rope
from isogrow.planning import planner as planning
from isogrow.plans.expansions import AttentionExpansion, HeadsExpansion, expansions
from isogrow.plans.matching import match
from isogrow.plans.plan import Plan
from isogrow.rules import rotary as positions

# θ, wherever it stands

SCALINGS: dict[str, F.Json] = {
    "none": {},
    "theta on top": {"rope_theta": 55.0},
    "linear": {"rope_theta": 55.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "theta inside": {
        "rope_theta": 5e5,
        "rope_scaling": {"type": "linear", "factor": 2.0, "rope_theta": 77.0},
    },
    "both names": {
        "rope_theta": 55.0,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_type": "default", "rope_theta": 77.0},
    },
    "the old name without theta": {
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_type": "default", "rope_theta": 77.0},
    },
    "the new name without theta": {"rope_parameters": {"rope_type": "linear", "factor": 3.0}},
    "yarn": {
        "rope_theta": 14.0,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 700},
    },
    "llama3": {
        "rope_theta": 500.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
}


def rotary(scaling: F.Json) -> F.Subject:
    source = F.legacy(F.FAMILIES["llama"].config(**F.FAMILIES["llama"].sizes))
    del source["rope_theta"], source["rope_scaling"]
    return F.subject(F.FAMILIES["llama"], "", {**source, **scaling})


@pytest.mark.slow
@pytest.mark.parametrize("head_dim", [14, 20])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_theta_wherever_the_config_keeps_it(scaling: str, head_dim: int) -> None:
    """The class reads one of several keys, old and new; the grown config is read as the old one was."""
    subject = rotary(SCALINGS[scaling])
    plan = subject.plan({"head_dim": head_dim})
    assert subject.error(plan) < F.EXACT
    moved = {path for path in plan.config if path.endswith("rope_theta")}
    assert bool(moved) == (head_dim == 14 or scaling == "yarn")


def test_a_ramp_that_is_cut_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """YaRN's ramp may end beyond the last pair, where the cut moves with the head dim."""
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 700}
    subject = rotary({"rope_theta": 5.0, "rope_scaling": scaling})
    with pytest.raises(SizeError, match="is cut off at pair 9, and the cut would move.* grow heads instead"):
        subject.plan({"head_dim": 14})
    assert subject.error(subject.plan({"heads": 10})) < F.EXACT
    monkeypatch.setattr(positions, "_check_ramp", lambda *_: None)
    with pytest.raises(LawError, match="it would turn at another frequency"):
        subject.plan({"head_dim": 14})
    monkeypatch.setattr(planning, "check", lambda *_: None)
    assert subject.error(subject.plan({"head_dim": 14})) > F.BROKEN


# Every type of scaling

TYPES: dict[str, F.Json] = {
    "default": {},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 700},
    "longrope": {"original_max_position_embeddings": 9, "factor": 4.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "proportional": {"factor": 2.0, "partial_rotary_factor": 0.5},
}
WHOLE, PARTLY, NORMED = ("llama",), ("glm4", "gpt_neox", "phi"), ("qwen3", "gemma3_text")
REFUSED = {
    **dict.fromkeys(WHOLE, {"dynamic"}),
    **dict.fromkeys(PARTLY, set[str]()),
    **dict.fromkeys(NORMED, {"dynamic", "yarn"}),
}
UNABLE = [("phi", "proportional")]  # the class itself can't run it
# Where the row's own is odd: all channels rotate under some types, and then pair.
EVEN: dict[str, list[dict[str, F.Size]]] = {"gpt_neox": [{"hidden": 60, "head_dim": 12}]}
AUDIT = [
    (name, kind, request)
    for name in (*WHOLE, *PARTLY, *NORMED)
    for kind in TYPES
    for request in EVEN.get(name, F.FAMILIES[name].growths.values())
    if "head_dim" in request and (name, kind) not in UNABLE
]


def scaled(name: str, kind: str, **more: Any) -> F.Subject:
    """A model of a family whose rotary positions (of its layers with full attention) are of this type."""
    family = F.FAMILIES[name]
    source = family.json()
    layout = layout_for(name)
    (rope, *_), size = layout.attentions[0].ropes, layout.read(source)["key_dim"]
    path = rope.scaling[-1]
    part = {"partial_rotary_factor": 0.5} if rope.share else {}
    table = {"rope_theta": 30.0, **part, "rope_type": kind, **TYPES[kind], **more}
    pairs = layout.rotated(rope, edited(source, {path: table}), size) // 2
    if kind == "longrope":
        table = {**lists(pairs), **table}
    return F.subject(family, "", edited(source, {path: table}))


def lists(pairs: int) -> F.Json:
    return {
        "short_factor": [1.0 + 0.3 * i for i in range(pairs)],
        "long_factor": [2.0 + 0.7 * i * i for i in range(pairs)],
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "wanted"), AUDIT)
def test_every_type_is_exact_or_refused(name: str, kind: str, wanted: Mapping[str, F.Size]) -> None:
    subject = scaled(name, kind)
    if kind in REFUSED[name]:
        with pytest.raises(SizeError, match=f"rope scaling '{kind}'.* grow heads instead"):
            subject.plan(wanted)
    else:
        assert subject.error(subject.plan(wanted)) < F.EXACT


def test_what_is_refused_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither placement keeps the frequencies of dynamic scaling; the law knows it without the rule."""
    subject = scaled("llama", "dynamic")
    monkeypatch.setattr(positions, "_check_kinds", lambda *_: None)
    for size in (14, 20):
        with pytest.raises(LawError, match="it would turn at another frequency"):
            subject.plan({"head_dim": size})
    assert subject.error(subject.plan({"heads": 10})) < F.EXACT
    monkeypatch.setattr(planning, "check", lambda *_: None)
    # It shows beyond the length that the model was trained on.
    subject = F.subject(F.FAMILIES["llama"], "", {**subject.source, "max_position_embeddings": 9})
    assert subject.error(subject.plan({"head_dim": 14})) > F.BROKEN


@pytest.mark.slow
@pytest.mark.parametrize("part", [0.25, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("size", [14, 20, 30])
def test_proportional(size: int, part: float) -> None:
    """Pairs that turned go on, and those that did not stay still, whatever the part rounds to."""
    subject = scaled("llama", "proportional", partial_rotary_factor=part)
    made = subject.plan({"head_dim": size})
    assert subject.error(made) < F.EXACT
    path = "rope_parameters.partial_rotary_factor"
    wrong = configured(made, {path: 0.9 if part == 0.25 else 0.1})
    with pytest.raises(LawError, match="it would turn at another frequency"):
        laws.check(subject.anatomy, wrong)
    assert subject.error(wrong) > F.BROKEN


def test_an_unknown_type_is_refused() -> None:
    subject = scaled("llama", "default")
    source = edited(subject.source, {"rope_parameters.rope_type": "spiral"})
    anatomy = replace(subject.anatomy, config=source)
    for size in (14, 20):
        with pytest.raises(SizeError, match="under rope scaling 'spiral'"):
            planning.plan(anatomy, expansions({"head_dim": size}))
    assert planning.plan(anatomy, expansions({"ffn": 51})).config == {"intermediate_size": 51}


# LongRoPE

CONTEXTS = pytest.mark.parametrize("context", [F.POSITIONS - 4, F.POSITIONS + 4], ids=["long", "short"])


@pytest.mark.slow
@pytest.mark.parametrize("size", [14, 20, 30])
@CONTEXTS
def test_longrope(context: int, size: int) -> None:
    """In texts that are longer than those of the first training, and in others: each has a list."""
    subject = scaled("llama", "longrope", original_max_position_embeddings=context)
    made = subject.plan({"head_dim": size})
    assert subject.error(made) < F.EXACT
    read, other = ("long_factor", "short_factor")[:: 1 if context < F.POSITIONS else -1]
    for key, matters in ((read, True), (other, False)):
        path = f"rope_parameters.{key}"
        factors = [9.0, *made.config[path][1:]]
        assert (subject.error(made, edited(subject.json(made), {path: factors})) > F.BROKEN) is matters


def test_factors_go_where_their_pairs_go() -> None:
    subject = scaled("llama", "longrope")
    short = lists(5)["short_factor"]
    spread, extended = (subject.plan({"head_dim": n}).config for n in (20, 14))
    assert spread["rope_parameters.short_factor"] == [f for f in short for _ in range(2)]
    assert extended["rope_parameters.short_factor"] == [*short, short[-1], short[-1]]
    assert "rope_parameters.rope_theta" in extended and "rope_parameters.rope_theta" not in spread


@pytest.mark.slow
@pytest.mark.parametrize(("size", "key"), [(20, "long_factor"), (14, "long_factor"), (20, "short_factor")])
@CONTEXTS
def test_factors_in_other_places_are_refused_and_show(context: int, size: int, key: str) -> None:
    subject = scaled("llama", "longrope", original_max_position_embeddings=context)
    made = subject.plan({"head_dim": size})
    path = f"rope_parameters.{key}"
    wrong = configured(made, {path: made.config[path][::-1]})
    with pytest.raises(LawError, match="it would turn at another frequency"):
        laws.check(subject.anatomy, wrong)
    read = (key == "long_factor") == (context < F.POSITIONS)
    assert (subject.error(wrong) > F.BROKEN) is read
    lost = configured(made, {path: made.config[path][:5]})
    with pytest.raises(LawError, match=f"without a {key[:-7]} factor"):
        laws.check(subject.anatomy, lost)


def configured(made: Plan, edits: F.Json) -> Plan:
    """The plan with other edits of the config."""
    first = replace(made.steps[0], config={**made.steps[0].config, **edits})
    return replace(made, steps=(first, *made.steps[1:]), config={**made.config, **edits})


def test_lists_of_another_length_are_refused() -> None:
    subject = scaled("llama", "longrope")
    source = edited(subject.source, {"rope_parameters.long_factor": [1.0] * 4})
    with pytest.raises(SizeError, match="'rope_parameters.long_factor' lists 4 factors, but 5 pairs rotate"):
        planning.plan(replace(subject.anatomy, config=source), expansions({"head_dim": 20}))


PHI3 = {"hidden_size": 60, "head_dim": 10, "original_max_position_embeddings": 9}


def phi3(kind: str = "longrope", **options: Any) -> F.Subject:
    sizes = {**PHI3, **options}
    pairs = int(sizes["head_dim"] * sizes.get("partial_rotary_factor", 1.0)) // 2
    source = F.legacy(F.FAMILIES["phi3"].config(**{**F.FAMILIES["phi3"].sizes, **sizes}))
    # Only the new name makes the class look for this length beside the table.
    length = {"original_max_position_embeddings": 9} if kind == "su" else {}
    source["rope_scaling"] = {"type": kind, **length, **lists(pairs)}
    return F.subject(F.FAMILIES["phi3"], "", source)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["longrope", "su", "yarn"])
@pytest.mark.parametrize("wanted", [{"hidden": 120, "head_dim": 20}, {"hidden": 84, "head_dim": 14}])
def test_phi3_by_all_its_names(wanted: dict[str, F.Size], kind: str) -> None:
    subject = phi3(kind)
    made = subject.plan({**wanted, "ffn": 51, "layers": 5})
    assert subject.error(made) < F.EXACT
    assert len(made.config["rope_scaling.long_factor"]) == int(wanted["head_dim"]) // 2
    assert subject.error(subject.plan({"hidden": 100, "heads": 10})) < F.EXACT


@pytest.mark.parametrize(
    ("wanted", "mend"),
    [({"hidden": 120}, "head_dim=20"), ({"head_dim": 20}, "hidden=120"), ({"heads": 10}, "")],
)
def test_phi3_holds_its_lists_against_hidden_and_heads(wanted: dict[str, F.Size], mend: str) -> None:
    with pytest.raises(SizeError, match=f"its config needs rope_type != 'longrope' or .*{mend}"):
        phi3().plan(wanted)


@pytest.mark.parametrize("size", [20, 24])
def test_a_part_that_does_not_rotate_leaves_the_lists(size: int) -> None:
    """As in Phi-4-mini."""
    subject = phi3(hidden_size=96, head_dim=16, partial_rotary_factor=0.75)
    made = subject.plan({"hidden": 6 * size, "head_dim": size})
    assert not any(path.endswith("_factor") for path in made.config if path != "partial_rotary_factor")
    assert subject.error(made) < F.EXACT


# Several tables

GEMMA = "gemma3_text"


def test_each_table_is_asked() -> None:
    """A θ that changes in one kind of layers alone is refused, and shows."""
    subject = scaled(GEMMA, "default")
    made = subject.plan({"head_dim": 20})
    for kind in ("full_attention", "sliding_attention"):
        wrong = configured(made, {f"rope_parameters.{kind}.rope_theta": 77.0})
        with pytest.raises(LawError, match="it would turn at another frequency"):
            laws.check(subject.anatomy, wrong)
        assert subject.error(wrong) > F.BROKEN


def test_each_table_gets_its_own_edits() -> None:
    """Without a norm on queries and keys any even size will do; each θ takes its own power."""
    subject = scaled("llama", "default")
    tables = Rope(
        theta=("one.rope_theta",),
        scaling=("one",),
        others=(Rope(theta=("two.rope_theta",), scaling=("two",)),),
    )
    layout = subject.anatomy.layout
    layout = replace(layout, attentions=(replace(layout.attentions[0], rope=tables),))
    config = {
        **subject.source,
        "one": {"rope_type": "longrope", "rope_theta": 50.0, **lists(5)},
        "two": {"rope_theta": 900.0},
    }
    anatomy = match(layout, config, {s.name: s.header for s in subject.anatomy.stored})
    grown = (AttentionExpansion(14), HeadsExpansion(14))
    made = planning.plan(anatomy, grown)
    assert made.config["one.rope_theta"] == 50.0**1.4
    assert made.config["two.rope_theta"] == 900.0**1.4
    assert len(made.config["one.short_factor"]) == 7
    with pytest.raises(LawError, match="it would turn at another frequency"):
        laws.check(anatomy, configured(made, {"two.rope_theta": 50.0**1.4}))
    partly = replace(tables, share=("part",))
    layout = replace(layout, attentions=(replace(layout.attentions[0], rope=partly),))
    mixed = match(layout, {**config, "part": 0.4}, {s.name: s.header for s in subject.anatomy.stored})
    with pytest.raises(SizeError, match="in some layers, and a part of them in others"):
        planning.plan(mixed, grown)


LEGACY: dict[str, F.Json] = {
    "nothing": {},
    "the local one": {"rope_local_base_freq": 40.0},
    "both": {"rope_local_base_freq": 40.0, "rope_theta": 900.0},
    "scaled": {"rope_theta": 900.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "one of two tables": {
        "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 9.0}}
    },
    "scaled over a table": {
        "rope_scaling": {"rope_type": "llama3", **TYPES["llama3"]},
        "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 7.0}},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("said", LEGACY)
def test_thetas_of_both_kinds_wherever_they_stand(said: str) -> None:
    """The layout reads what the class reads, in old and new configs."""
    source = F.FAMILIES[GEMMA].json()
    source = {**{key: value for key, value in source.items() if key != "rope_parameters"}, **LEGACY[said]}
    subject = F.subject(F.FAMILIES[GEMMA], "", source)
    read = F.config_of(F.FAMILIES[GEMMA], source).rope_parameters
    (full, sliding) = subject.anatomy.layout.attentions[0].ropes
    for rope, kind in ((full, "full_attention"), (sliding, "sliding_attention")):
        assert rope.base(source) == read[kind]["rope_theta"]
        assert rope.kind(source) == read[kind]["rope_type"]
    assert subject.error(subject.plan({"head_dim": 30, "hidden": 42})) < F.EXACT


@pytest.mark.slow
@pytest.mark.parametrize("at", ["start", "even", "end"])
def test_layers_keep_their_table(at: str) -> None:
    subject = scaled(GEMMA, "linear")
    made = subject.plan({"layers": 5}, at=at)
    assert subject.error(made) < F.EXACT
    kinds = made.config["layer_types"]
    other = [{"full_attention": "sliding_attention"}.get(kind, "full_attention") for kind in kinds]
    assert subject.error(made, edited(subject.json(made), {"layer_types": other})) > F.BROKEN


@pytest.mark.parametrize("theta", [None, 50.0])
@pytest.mark.parametrize(
    ("name", "head_dim", "is_written"),
    [("cwm", 14, True), ("cwm", 20, False), ("ministral3", 14, True), ("apertus", 20, False)],
)
def test_a_table_that_the_class_fills_in(
    name: str, head_dim: int, is_written: bool, theta: float | None
) -> None:
    """It stands in no config, and no θ beside it is read; it is written out where its θ changes."""
    said = {k: v for k, v in F.FAMILIES[name].json().items() if k != "rope_parameters"}
    if theta is not None:
        said |= {"rope_theta": theta, "rope_scaling": None}
    subject = F.subject(F.FAMILIES[name], "", said)
    plan = subject.plan({"head_dim": head_dim})
    assert subject.error(plan) < F.EXACT
    written = get(edited(subject.source, plan.config), "rope_parameters")
    assert (written is not None) is is_written and (not is_written or written["factor"] == 16.0)


def test_a_table_that_is_none_is_refused() -> None:
    subject = scaled(GEMMA, "default")
    source = edited(subject.source, {"rope_parameters.sliding_attention": 3})
    with pytest.raises(CheckpointError, match="rope_parameters.sliding_attention is 3, which is no table"):
        match(subject.anatomy.layout, source, {s.name: s.header for s in subject.anatomy.stored})
    assert get(subject.source, "rope_parameters.sliding_attention") is not None


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("linear", "factor", None),
        ("llama3", "low_freq_factor", "1"),
        ("longrope", "long_factor", []),
        ("longrope", "short_factor", [1.0, -1.0]),
    ],
)
def test_a_table_without_its_numbers_is_refused(kind: str, key: str, value: Any) -> None:
    subject = scaled("llama", kind)
    source = edited(subject.source, {f"rope_parameters.{key}": value})
    with pytest.raises(
        CheckpointError, match=f"says {key} of its rotary scaling '{kind}' is .*numbers above 0"
    ):
        match(subject.anatomy.layout, source, {s.name: s.header for s in subject.anatomy.stored})


def test_a_model_of_several_parts_is_refused_by_them() -> None:
    parts = {"text_config": {"model_type": GEMMA}, "vision_config": {"model_type": "siglip_vision_model"}}
    with pytest.raises(
        FamilyError, match="its text_config is a 'gemma3_text', which it grows; save that part"
    ):
        layout_of({"model_type": "gemma3n", **parts})
    with pytest.raises(FamilyError, match="its vision_config is a 'siglip_vision_model', which it grows"):
        layout_of({"model_type": "other", "vision_config": parts["vision_config"]})
    with pytest.raises(FamilyError, match="model_type 'other' is not known"):
        layout_of({"model_type": "other", "vision_config": {"model_type": "another"}})
