"""What a row of the families' table is made from: the row itself, and options and growths to draw."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from hypothesis import strategies as st

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import (
    AttentionExpansion,
    Expansion,
    HeadAddition,
    HeadsExpansion,
    HiddenExpansion,
    Size,
)

Json = dict[str, Any]
Requests = Mapping[str, Mapping[str, Size]]
Steps = list[Expansion]

VOCAB, ROWS, POSITIONS, LABELS, CHOICES = 43, 4, 13, 3, 2
PAD = VOCAB - 1  # in no batch


@dataclass(frozen=True)
class Family:
    """One family: its config class and its model classes (the first is the language model).

    `sizes` is what a plain config is made with, `growths` one request for each axis, with all that the
    family's config wants to grow with it; `together` grows everything at once. `options` draws a config's
    keys, `draws` expansions of all but ffn and layers. `absent` are keys of the layout that the config class
    has no default for: keys of the model's own code, and nulls that the code fills in. `inputs` makes a batch
    for one of its classes, where that is not token ids alone; `widths` are the requests for ffn to draw from.
    `unread` are rows of tables, by the end of their names, that no batch reads.
    `places` are those where layers can be added. `dated` is false where its class reads no old config.json.
    `alone` is an axis that grows without another and scales no weight; `copied` is true where hidden grows by
    copies, and growing it twice makes twins. `said` are keys without which the class can't build a model.
    """

    name: str
    config: type[transformers.PreTrainedConfig]
    classes: tuple[str, ...]
    sizes: Json
    growths: Requests
    together: Mapping[str, Size]
    options: Callable[[st.DrawFn], Json]
    draws: Callable[[st.DrawFn, Anatomy], Steps]
    absent: frozenset[str] = frozenset()
    inputs: Callable[[str, torch.Generator], Mapping[str, torch.Tensor]] | None = None
    widths: tuple[tuple[Size, ...], ...] = ((), ("+10",), ("+1", "+90"))
    unread: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    alone: str = "ffn"
    copied: bool = False
    said: Json = field(default_factory=dict[str, Any])
    dated: bool = True
    places: tuple[str, ...] = ("start", "end", "even")

    def json(self, **changes: Any) -> Json:
        """A config.json of this family."""
        return modern(self.config(**{**self.sizes, **changes}))


def modern(config: transformers.PreTrainedConfig) -> Json:
    return json.loads(config.to_json_string(use_diff=False))


# Configs to draw from

EPS = st.sampled_from([1e-2, 1e-6, 1e-12])
LAYERS = st.sampled_from([1, 2, 3])
BOOLS = st.booleans()


def gated_options(draw: st.DrawFn) -> Json:
    """Options of Llama and its like: MHA, GQA and MQA, ties, ε, rotary positions."""
    kv_heads, group = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2, 3]))
    head_dim = draw(st.sampled_from([8, 10, 14]))
    heads, layers = kv_heads * group, draw(st.sampled_from([1, 2, 3]))
    return dict(
        # Some classes want hidden divisible by heads, though head_dim is a key of its own.
        hidden_size=draw(st.sampled_from([15, 18, 25])),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        rms_norm_eps=draw(EPS),
        tie_word_embeddings=draw(st.booleans()),
        rope_parameters=rope_options(draw, head_dim // 2),
    )


def more_options(**choices: st.SearchStrategy[Any]) -> Callable[[st.DrawFn], Json]:
    """The gated options, and keys of a family's own."""

    def options(draw: st.DrawFn) -> Json:
        return {**gated_options(draw), **{key: draw(choice) for key, choice in choices.items()}}

    return options


def windowed_options(**choices: st.SearchStrategy[Any]) -> Callable[[st.DrawFn], Json]:
    """The same, and windows in some layers."""

    def options(draw: st.DrawFn) -> Json:
        found = more_options(**choices)(draw)
        return {**found, **window_options(draw, found["num_hidden_layers"])}

    return options


def partial_options(plain: bool = False, **choices: st.SearchStrategy[Any]) -> Callable[[st.DrawFn], Json]:
    """The same, and a part of each head that rotates."""

    def options(draw: st.DrawFn) -> Json:
        found = more_options(**choices)(draw)
        if plain:  # all else is LongRoPE to this class, which needs factors of its own
            found["rope_parameters"] = {"rope_type": "default", "rope_theta": 300.0}
        dim, part = draw(st.sampled_from([8, 12])), draw(st.sampled_from([0.5, 1.0]))
        rope = {**found["rope_parameters"], "partial_rotary_factor": part}
        rope |= longrope(draw, int(dim * part) // 2) if rope["rope_type"] == "longrope" else {}
        return {**found, "head_dim": dim, "rope_parameters": rope}

    return options


def fused_options(**choices: st.SearchStrategy[Any]) -> Callable[[st.DrawFn], Json]:
    """GPT-NeoX and GPT-J: as many keys as queries, heads that fill hidden, a part of each that rotates."""

    def options(draw: st.DrawFn) -> Json:
        heads, dim, layers = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([8, 12])), draw(LAYERS)
        own = {key: draw(choice) for key, choice in choices.items()}
        names = ("n_embd", "n_head", "n_layer", "layer_norm_epsilon")
        if "n_inner" not in choices:
            names = ("hidden_size", "num_attention_heads", "num_hidden_layers", "layer_norm_eps")
        found = dict(zip(names, (heads * dim, heads, layers, draw(EPS)), strict=True))
        return {**found, "tie_word_embeddings": draw(st.booleans()), **own}

    return options


def rope_options(
    draw: st.DrawFn,
    pairs: int,
    kinds: Sequence[str] = ("default", "linear", "llama3", "yarn", "longrope"),
) -> Json:
    kind = draw(st.sampled_from(kinds))
    rope: Json = {"rope_type": kind, "rope_theta": draw(st.sampled_from([50.0, 10000.0, 5e5]))}
    if kind != "default":
        rope["factor"] = draw(st.sampled_from([2.0, 7.0]))
    if kind in ("llama3", "yarn"):
        rope["original_max_position_embeddings"] = draw(st.sampled_from([24, 700]))
    if kind == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    if kind == "longrope":
        rope |= longrope(draw, pairs)
    if kind == "yarn":
        rope["truncate"] = draw(st.booleans())
        rope |= draw(st.sampled_from([{}, {"beta_fast": 8.0, "beta_slow": 2.0}]))
    return rope


def longrope(draw: st.DrawFn, pairs: int) -> Json:
    """A factor for each pair, in texts that are short or long beside this length."""
    factors = st.lists(st.sampled_from([1.0, 1.5, 4.0, 7.25]), min_size=pairs, max_size=pairs)
    short, long, length = draw(factors), draw(factors), draw(st.sampled_from([POSITIONS - 4, 700]))
    return {"short_factor": short, "long_factor": long, "original_max_position_embeddings": length}


def window_options(draw: st.DrawFn, layers: int) -> Json:
    """Windows in some layers, told by a number or by a list."""
    if not draw(st.booleans()):
        return {}
    found: Json = {"use_sliding_window": True, "sliding_window": 5}
    if draw(st.booleans()):
        kinds = st.sampled_from(["full_attention", "sliding_attention"])
        return {**found, "layer_types": draw(st.lists(kinds, min_size=layers, max_size=layers))}
    return {**found, "max_window_layers": draw(st.integers(0, layers))}


# Growths to draw from


def gated_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Sizes are relative, so that they mean the same in any order."""
    now, hidden = anatomy.sizes.values, anatomy.sizes.of("hidden")
    kv, group = now["kv_heads"], now["group"]
    divided = "hidden % (kv_heads * group) == 0" in anatomy.layout.constraints
    normed = [slot.normed for slot in anatomy.slots.values() if slot.norm and slot.norm.of]
    whole = any("kv_heads" in axes for axes in normed)
    steps = (1, 2) if whole else (0, 1, 2)
    heads = [(n * kv, m * group) if whole else (n + kv, m + group) for n in steps for m in steps]
    heads = [(n, m) for n, m in heads if not divided or hidden % (n * m) == 0]
    kv_heads, group = draw(st.sampled_from(heads))
    found: Steps = [HeadAddition(heads=kv_heads * group, kv_heads=kv_heads)]
    unit = kv_heads * group if divided else 1
    wider = st.sampled_from([[], [2 * unit], [unit, 5 * unit]])
    if not (anatomy.plain_norms and anatomy.tied_head):
        found += [HiddenExpansion(f"+{n}") for n in draw(wider)]
    dims = [[], ["x2"], ["x3"]] if normed else [[], ["+2"], ["x2"], ["x3"], ["+2", "+6"]]
    layout, config = anatomy.layout, anatomy.config
    kinds = {rope.kind(config) for attention in layout.attentions for rope in attention.ropes}
    clamped = any(layout.clamps(slot, config) for slot in anatomy.slots.values())
    if clamped or (normed and "yarn" in kinds):
        return found
    for size in draw(st.sampled_from(dims)):
        found += [AttentionExpansion(size), HeadsExpansion(size)]
    return found


def fused_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Where heads fill hidden: heads and their dim grow by any numbers, and hidden with them."""
    now = anatomy.sizes.values
    heads, dim = draw(st.integers(0, 3)), draw(st.integers(0, 4))
    hidden = (now["heads"] + heads) * (now["key_dim"] + dim) - now["hidden"]
    parts = draw(st.sampled_from([[hidden], [hidden // 2, hidden - hidden // 2]]))
    found: Steps = [HiddenExpansion(f"+{n}") for n in parts]
    dims = (AttentionExpansion(f"+{dim}"), HeadsExpansion(f"+{dim}"))
    return [*found, HeadAddition(f"+{heads}"), *dims]


def filled_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """The same under grouped queries; where queries are normalised, the dim of heads grows by multiples."""
    now = anatomy.sizes.values
    normed = any(slot.norm is not None and slot.norm.of for slot in anatomy.slots.values())
    dim = draw(st.sampled_from([1, 2] if normed else [1, 2, 1.5])) * now["key_dim"]
    kv_heads, group = now["kv_heads"] + draw(st.integers(0, 2)), now["group"] + draw(st.integers(0, 2))
    size = f"+{int(dim) - now['key_dim']}"
    heads = [HeadAddition(kv_heads * group, kv_heads), AttentionExpansion(size), HeadsExpansion(size)]
    return [HiddenExpansion(f"+{kv_heads * group * int(dim) - now['hidden']}"), *heads]


# Rows

HEADS = ("ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification")
COMMON = dict(num_labels=LABELS, pad_token_id=PAD, bos_token_id=None, eos_token_id=None)
GATED: Json = dict(
    COMMON,
    vocab_size=VOCAB,
    hidden_size=30,
    intermediate_size=37,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=10,
    max_position_embeddings=POSITIONS,
    rms_norm_eps=1e-2,
)
GATED_GROWTHS: Requests = {
    "hidden": {"hidden": 42},
    "ffn": {"ffn": 51},
    "heads": {"heads": 10},
    "kv_heads": {"kv_heads": 5},
    "heads and kv_heads": {"heads": 15, "kv_heads": 3},
    "head_dim": {"head_dim": 14},
    "head_dim, a multiple": {"head_dim": 30},
    "layers": {"layers": 5},
}
CLASSES = frozenset(dir(transformers))  # asking for one by name loads its module
GATED_TOGETHER: Mapping[str, Size] = dict(hidden=75, ffn="x3", heads=15, kv_heads=3, head_dim=20, layers="+2")


def gated(
    name: str,
    config: type[transformers.PreTrainedConfig],
    options: Callable[[st.DrawFn], Json],
    growths: Requests | None = None,
    together: Mapping[str, Size] | None = None,
    absent: Iterable[str] = (),
    without: Iterable[str] = (),
    said: Json | None = None,
    **sizes: Any,
) -> Family:
    """A row for Llama or one of its like; classes `without` can't grow in all that is asked for together."""
    prefix = config.__name__.removesuffix("Config").removesuffix("Text")
    classes = [prefix + head for head in (*HEADS, "ForQuestionAnswering")]
    classes = tuple(kind for kind in classes if kind in CLASSES and kind not in without)
    grown = {**GATED_GROWTHS, **(growths or {})}
    wanted = {axis: request for axis, request in grown.items() if request}
    return Family(
        name,
        config,
        classes,
        {**GATED, **sizes},
        wanted,
        together or GATED_TOGETHER,
        options,
        gated_growths,
        frozenset(absent),
        said=said or {},
    )


# Refused (see the tests of refusals): under QK-norm a head dim that is no multiple; where the norm runs over
# all heads, heads that are no multiple.
NORMED: Requests = {"head_dim": {}}
NORMED_HEADS: Requests = {
    "head_dim": {},
    "heads": {"heads": 12},
    "kv_heads": {"kv_heads": 4},
    "heads and kv_heads": {"heads": 36, "kv_heads": 6},
}
