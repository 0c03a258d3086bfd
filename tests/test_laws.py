"""The laws are checked on plans alone, and each check can fail: every entry of every plan matters.

What a refused plan would do to real numbers is seen in test_theorems.py and in the families' tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from subjects import CONFIGS, anatomy, tensors

from isogrow import laws
from isogrow.errors import LawError
from isogrow.families import LAYOUTS
from isogrow.families.llama import LLAMA
from isogrow.laws.building import network
from isogrow.layouts.layout import Layout, Weight
from isogrow.planning.planner import plan, unchecked
from isogrow.planning.reach import specimen
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import (
    AttentionExpansion,
    Expansion,
    HeadAddition,
    HeadsExpansion,
    HiddenExpansion,
    LayerAddition,
    MlpExpansion,
)
from isogrow.plans.matching import match
from isogrow.plans.plan import OLD, Constant, Entry, Free, Init, Mean, Old, Plan, Rewrite
from isogrow.rules.places import append

DIMS: list[Expansion] = [AttentionExpansion(20), HeadsExpansion(20)]
GROWN: dict[str, tuple[Any, Any, list[Expansion]]] = {
    "rms, hidden": ("llama", {}, [HiddenExpansion(56)]),
    "rms, hidden, tied": ("llama", {"tie_word_embeddings": True}, [HiddenExpansion(112)]),
    "rms, hidden, shared eps": ("qwen3", {}, [HiddenExpansion(56)]),
    "layer, hidden, tied": ("gpt2", {}, [HiddenExpansion(64), HeadAddition(8)]),
    "layer, hidden, no gain": ("olmo", {}, [HiddenExpansion(56)]),
    "post, hidden x2": ("bert", {}, [HiddenExpansion(96), HeadAddition(12)]),
    "post, hidden x3": ("bert", {}, [HiddenExpansion(144), HeadAddition(18)]),
    "head dim": ("qwen2", {}, DIMS),
    "head dim under qk-norm": ("qwen3", {}, DIMS),
    "groups": ("qwen2", {}, [HeadAddition(16)]),
    "kv heads": ("qwen2", {}, [HeadAddition(12, 3)]),
    "ffn": ("llama", {}, [MlpExpansion(150)]),
    "layers": ("qwen2", {}, [LayerAddition("+1", (1,))]),
    "layers, numbered scale": (
        "gpt2", {"scale_attn_by_inverse_layer_idx": True}, [LayerAddition("+1", (0,))],
    ),
}  # fmt: skip
every_growth = pytest.mark.parametrize("name", GROWN)

# What an old entry, and what a new entry that is not free, may be mistaken for.
KEPT_WRONG = (Old(1.7), Old(1.0, 0.3), Free(), Constant(1.0))
NEW_WRONG = (Free(), Constant(0.0), Constant(2.0), Old(), Old(1.7), Mean(), Mean(a=0.5))


def made(name: str) -> tuple[Anatomy, Plan]:
    family, config, wanted = GROWN[name]
    count = 2 if isinstance(wanted[0], LayerAddition) else 1
    layers: Any = {"n_layer": count} if family == "gpt2" else {"num_hidden_layers": count}
    found = anatomy(family, **(layers | config))
    return found, plan(found, wanted)


def refuses(found: Anatomy, wrong: Plan, allow_dead: bool = True) -> bool:
    try:
        laws.check(found, wrong, allow_dead)
    except LawError:
        return True
    return False


def mistakes(right: Plan) -> Iterator[tuple[str, Plan]]:
    """The plan with one entry of one slot of one step mistaken."""
    for n, step in enumerate(right.steps):
        used = {place.label for place in step.places}
        for slot, rewrite in step.rewrites.items():
            for label in (OLD, *rewrite):
                entry = rewrite.get(label, Old())
                if label not in used or isinstance(entry, Free) and not entry.stream:
                    continue
                for wrong in KEPT_WRONG if label.startswith(OLD) else NEW_WRONG:
                    if wrong != entry:
                        yield f"{step.axis}: {slot} {label}: {wrong}", put(right, n, slot, label, wrong)


def put(right: Plan, n: int, slot: str, label: str, entry: Entry) -> Plan:
    step = right.steps[n]
    rewrite: Rewrite = {**step.rewrites[slot], label: entry}
    edited = replace(step, rewrites={**step.rewrites, slot: rewrite})
    return replace(right, steps=(*right.steps[:n], edited, *right.steps[n + 1 :]))


@pytest.mark.slow
@every_growth
def test_every_entry_that_is_not_free_matters(name: str) -> None:
    found, right = made(name)
    assert not refuses(found, right, allow_dead=False)
    accepted = [what for what, wrong in mistakes(right) if not refuses(found, wrong)]
    assert accepted == []


# The table of norms, cell by cell, and what is said


def message(found: Anatomy, wrong: Plan, allow_dead: bool = True) -> str:
    with pytest.raises(LawError) as refused:
        laws.check(found, wrong, allow_dead)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "slot", "label", "entry", "said"),
    [
        (
            "rms, hidden", "mlp.down", "new", Mean(),
            "HiddenExpansion fills what feeds a rms norm over hidden with mean and zero, which changes its"
            " statistics",
        ),
        (
            "layer, hidden, tied", "positions", "new", Constant(0.0),
            "HiddenExpansion fills what feeds a layer norm over hidden with mean and zero, which changes its"
            " statistics",
        ),
        (
            "post, hidden x2", "attn_norm.bias", "copy1", Old(2.0),
            "HiddenExpansion fills what feeds a layer norm over hidden with copy and other values, which"
            " changes its statistics",
        ),
        (
            "post, hidden x2", "attn_norm", "copy1", Free(),
            "HiddenExpansion must fill the gains of a norm that writes hidden as what feeds the next: copy",
        ),
        (
            "rms, hidden", "final_norm", "old", Old(),
            "HiddenExpansion must scale the gains of a norm over hidden by 0.92582",
        ),
        (
            "layer, hidden, tied", "final_norm", "old", Old(),
            "HiddenExpansion must scale the gains of a norm over hidden by 0.866025",
        ),
        (
            "rms, hidden, shared eps", "attn.k", "old", Old(),
            "HiddenExpansion scales the ε of the norm over attn.k by 0.857143, so attn.k must be scaled by"
            " 0.92582, not 1",
        ),
        (
            "rms, hidden", "attn.o", "old", Old(2.0),
            "HiddenExpansion scales what feeds a norm over hidden unevenly: [1.0, 2.0]",
        ),
        (
            "head dim", "attn.k.bias", "old", Old(),
            "AttentionExpansion scales attn.k and attn.k.bias unevenly: [1.0, 1.4142135623730951]",
        ),
        (
            "head dim under qk-norm", "attn.k_norm", "old", Old(),
            "AttentionExpansion changes the attention scale of attn.k {'layers': 0} from 0.316228 to"
            " 0.223607, so its old entries must be scaled by 1.41421, not 1",
        ),
        (
            "layers, numbered scale", "attn.k", "old1", Old(3.0),
            "LayerAddition scales attn.k and attn.k.bias unevenly: [2.0, 3.0]",
        ),
        (
            "ffn", "mlp.down", "old", Old(1.7),
            "MlpExpansion makes old entries of mlp.down Old(a=1.7, b=0.0), and nothing undoes that: they must"
            " stay what they are",
        ),
        (
            "post, hidden x3", "attn.q", "copy2", Free(stream="pair0"),
            "HiddenExpansion draws pair0 of attn.q for 2 copies of its channels, and they do not cancel: it"
            " would change the function",
        ),
        (
            "ffn", "mlp.down", "new", Free(),
            "new entries of mlp.down at layers 0, hidden 0, ffn 70 would reach old channels: the plan has no"
            " zero on that path, so it would change the function",
        ),
        (
            "head dim", "attn.k", "new", Free(),
            "new channels of attn.k {'layers': 0} meet non-zero queries: no zero on that path",
        ),
    ],
)  # fmt: skip
def test_what_is_said(name: str, slot: str, label: str, entry: Entry, said: str) -> None:
    found, right = made(name)
    assert message(found, put(right, 0, slot, label, entry)) == said


def test_copies_of_some_channels_alone_are_refused() -> None:
    """A LayerNorm keeps its mean where every channel has equally many copies, and not otherwise."""
    found, right = made("post, hidden x2")
    old, copied = right.steps[0].places
    half = replace(copied, count=copied.count // 2)
    twice = (old, half, replace(half, start=half.start + half.count))  # of the first half of the channels
    wrong = replace(right.steps[0], places=twice)
    assert message(found, replace(right, steps=(wrong, *right.steps[1:]))) == (
        "HiddenExpansion fills what feeds a layer norm over hidden with uneven copies, which changes its"
        " statistics"
    )


@pytest.mark.parametrize(
    "other", [{"init": Init("uniform")}, {"init": Init(std=0.5)}, {"center": True}], ids=str
)
def test_pairs_that_are_drawn_otherwise_do_not_cancel(other: dict[str, Any]) -> None:
    """r and -r are the same numbers only if both are drawn from one law, around one centre."""
    found, right = made("post, hidden x3")
    drawn = right.steps[0].rewrites["attn.q"]["copy2"]
    assert isinstance(drawn, Free)
    assert message(found, put(right, 0, "attn.q", "copy2", replace(drawn, **other))).startswith(
        "HiddenExpansion draws pair0 of attn.q for 2 copies of its channels, and they do not cancel"
    )


def test_a_scaled_embedding_that_is_a_far_head_too_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a masked language model's head makes of the residual stands between the last gain and the head."""
    found = specimen(LAYOUTS["megatron-bert"])  # its ε is a constant: what writes the residual is scaled

    def none(*_: object) -> tuple[()]:
        return ()

    with monkeypatch.context() as unasked:
        unasked.setattr(Layout, "far_heads", none)  # the rule refuses it, too
        wrong = unchecked(found, [HiddenExpansion(96), HeadAddition(12)])
    assert message(found, wrong) == (
        "HiddenExpansion scales embed by 1.41421, and decoder has the same entries, whose input no gain of"
        " the residual's undoes"
    )


def rotary(size: int) -> tuple[Anatomy, Plan]:
    found = anatomy("qwen2", num_hidden_layers=2)
    return found, plan(found, [AttentionExpansion(size), HeadsExpansion(size)])


@pytest.mark.parametrize(("size", "config"), [(14, {}), (20, {"rope_theta": 2e4}), (14, {"rope_theta": 1e6})])
def test_a_theta_that_turns_old_pairs_otherwise_is_refused(size: int, config: dict[str, float]) -> None:
    found, right = rotary(size)
    laws.check(found, right)
    wrong = replace(right.steps[0], config=config)
    assert message(found, replace(right, steps=(wrong, *right.steps[1:]))).endswith(
        "it would turn at another frequency"
    )


@pytest.mark.parametrize("config", [{"rope_theta": 2e4}, {"rope_parameters.rope_theta": 2e4}])
def test_a_theta_that_no_head_dim_asks_for_is_refused(config: dict[str, float]) -> None:
    found, right = made("ffn")
    wrong = replace(right.steps[0], config=config)
    assert message(found, replace(right, steps=(wrong,))) == (
        "MlpExpansion moves rotary pair 1 to 1 with θ = 20000 (before: 10000): it would turn at another"
        " frequency"
    )


def test_rotary_pairs_stay_together() -> None:
    found, right = rotary(14)
    parted = replace(right.steps[0], places=append(10, 14))
    assert message(found, replace(right, steps=(parted, *right.steps[1:]))) == (
        "AttentionExpansion parts the rotary pair 0 of key_dim: its channels would be 0 and 5 of 14, which"
        " are no pair"
    )


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("rms, hidden", "0.857143", {}),
        ("layer, hidden, tied", "0.75", {}),
        ("post, hidden x2", "1", {"layer_norm_eps": 2e-2}),
    ],
)
def test_epsilon_is_scaled_as_the_table_says(name: str, right: str, wrong: dict[str, float]) -> None:
    found, growth = made(name)
    first = replace(growth.steps[0], config=wrong)
    said = message(found, replace(growth, steps=(first, *growth.steps[1:])))
    assert said == (f"HiddenExpansion must scale ε of a norm over hidden by {right}, not {2 if wrong else 1}")


# Norms of other kinds: a constant ε in the model's code, gains of 1 + g


def variant(edit: Callable[[Weight], Weight], **changes: Any) -> Anatomy:
    layout: Layout = replace(LLAMA, weights=tuple(edit(weight) for weight in LLAMA.weights))
    config = {**CONFIGS["llama"], "num_hidden_layers": 1, **changes}
    without = ("head",) if changes.get("tie_word_embeddings") else ()
    return match(layout, config, tensors(layout, config, without))


def with_norms(**changes: Any) -> Callable[[Weight], Weight]:
    def edit(weight: Weight) -> Weight:
        return weight if weight.norm is None else replace(weight, norm=replace(weight.norm, **changes))

    return edit


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("changes", [{"eps": 1e-5}, {"offset": 1.0}], ids=str)
def test_other_norms(changes: dict[str, Any], tied: bool) -> None:
    found = variant(with_norms(**changes), tie_word_embeddings=tied)
    right = plan(found, [HiddenExpansion(112), LayerAddition("+1")])
    accepted = [what for what, wrong in mistakes(right) if not refuses(found, wrong)]
    assert accepted == []


# Law 2


def zeroed(right: Plan, *slots: str) -> Plan:
    """The plan with nothing but zeros for the new entries of these slots, in its first step."""
    for slot in slots:
        for label in right.steps[0].rewrites[slot]:
            if label != OLD:
                right = put(right, 0, slot, label, Constant(0.0))
    return right


def test_a_dead_part_is_named() -> None:
    found, right = made("ffn")
    dead = zeroed(right, "mlp.up", "mlp.up.bias")
    assert refuses(found, dead, allow_dead=False) and not refuses(found, dead)
    assert message(found, dead, allow_dead=False) == (
        "new entries of mlp.gate, mlp.gate.bias, mlp.up, mlp.up.bias, mlp.down would never get gradient"
        " (every path to them has two zeros in series), so they could not learn: grow otherwise, or allow it"
        " with allow_dead (--allow-dead)"
    )
    assert not refuses(found, zeroed(right, "mlp.up"), allow_dead=False)  # its bias keeps it alive


def test_zeros_on_both_sides_of_attention_are_dead() -> None:
    found, right = made("head dim")
    dead = zeroed(right, "attn.q", "attn.q.bias")
    stems = {life.slot for life in laws.lives(found, network(found, dead)) if life.step == 0}
    assert stems == {"attn.q", "attn.q.bias", "attn.k", "attn.k.bias"}
    assert refuses(found, dead, allow_dead=False)


def test_a_hidden_axis_with_gains_and_a_tied_head_at_zero_is_dead() -> None:
    # Table 1 of the paper lists zero gains: with a tied head nothing new would ever learn.
    found, right = made("rms, hidden, tied")
    dead = zeroed(right, "attn_norm", "mlp_norm", "final_norm")
    assert all(life.step == 0 for life in laws.lives(found, network(found, dead)))
    assert message(found, dead, allow_dead=False).startswith("new entries of embed, ")


@pytest.mark.parametrize(("name", "idle"), [("kv heads", False), ("post, hidden x2", True)])
def test_key_biases_learn_only_under_rotary_positions(name: str, idle: bool) -> None:
    found, right = made(name)
    slots = {life.slot for life in laws.lives(found, network(found, right))}
    assert laws.idle(found) == ({"attn.k.bias"} if idle else set())
    assert "attn.v.bias" in slots
    assert ("attn.k.bias" in slots) is not idle


# New channels differ


def test_twins_are_refused() -> None:
    found = anatomy("bert", num_hidden_layers=2)
    right = plan(found, [HeadAddition(18), HiddenExpansion(144)])
    step = right.steps[1]
    twins = right
    for slot, rewrite in step.rewrites.items():
        for label in (label for label, entry in rewrite.items() if isinstance(entry, Free)):
            twins = put(twins, 1, slot, label, Constant(0.0))
    assert twins != right
    assert re.fullmatch(
        r"channels \d+ and \d+ of hidden would be copies of one channel in every weight, and stay copies for"
        r" ever: grow hidden in one step, or train between the steps",
        message(found, twins, allow_dead=False),
    )
    assert not refuses(found, twins)


def test_copies_whose_readers_are_zero_differ_from_what_they_copy() -> None:
    found = anatomy("llama", num_hidden_layers=2)
    plan(found, [MlpExpansion("x2")], Init("copy"))
    right = plan(found, [MlpExpansion("x3")], Init("copy"))  # all but the first copy are drawn
    twins = right
    for slot in ("mlp.gate", "mlp.gate.bias", "mlp.up", "mlp.up.bias"):
        twins = put(twins, 0, slot, "more", Old())
    assert " of ffn, layers 0 would be copies " in message(found, twins, allow_dead=False)


def test_pairs_differ_from_each_other() -> None:
    found, right = made("post, hidden x3")
    assert not refuses(found, right, allow_dead=False)
    entries = right.steps[0].rewrites["attn.q"]
    assert isinstance(entries["copy1"], Free) and isinstance(entries["copy2"], Free)
    assert (entries["copy1"].sign, entries["copy2"].sign) == (1.0, -1.0)


def test_the_horizon_is_the_last_step_to_wake() -> None:
    found, right = made("ffn")
    assert laws.horizon(found, right) == 2
    chain = plan(found, [LayerAddition("+1"), AttentionExpansion(20), HeadsExpansion(20)])
    assert laws.horizon(found, chain) == 3
    assert laws.horizon(found, Plan("llama", found.sizes)) == 0
