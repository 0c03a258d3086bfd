"""The families as tests grow them: classes, configs and growths to draw from, and both sides run in float64.

One row of `FAMILIES` is one family. Sizes of one model are pairwise distinct, so that a swapped axis can't
pass; every weight is random, gains lie around 1, and no bias is zero.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from hypothesis import strategies as st
from torch import Tensor, nn

from isogrow.anatomy import Anatomy, match
from isogrow.config import edited
from isogrow.expansions import (
    AttentionExpansion,
    Expansion,
    HeadAddition,
    HeadsExpansion,
    HiddenExpansion,
    LayerAddition,
    MlpExpansion,
    Size,
)
from isogrow.families import layout_for
from isogrow.interpreters.module import grown_state, headers
from isogrow.plan import Plan
from isogrow.planning import expansions, plan
from isogrow.verification.float64 import build as build
from isogrow.verification.float64 import float64 as float64
from isogrow.verification.float64 import rebuilt as rebuilt
from isogrow.verification.liveness import copies_left as copies_left
from isogrow.verification.liveness import distinct as distinct
from isogrow.verification.liveness import training as training
from isogrow.verification.runs import decoded as decoded
from isogrow.verification.runs import full as full

EXACT = 1e-12
BROKEN = 1e-6  # what a test of a test must show at least: far above any exact growth

Json = dict[str, Any]
Batch = Mapping[str, Tensor]
Requests = Mapping[str, Mapping[str, Size]]

VOCAB, ROWS, POSITIONS, LABELS, CHOICES = 43, 4, 13, 3, 2
PAD = VOCAB - 1  # in no batch


@dataclass(frozen=True)
class Family:
    """One family: its config class and its model classes (the first is the language model).

    `sizes` is what a plain config is made with, `growths` one request for each axis, with all that the
    family's config wants to grow with it; `together` grows everything at once. `options` draws a config's
    keys, `draws` says which kind of growths to draw.
    """

    name: str
    config: type[transformers.PreTrainedConfig]
    classes: tuple[str, ...]
    sizes: Json
    growths: Requests
    together: Mapping[str, Size]
    options: Callable[[st.DrawFn], Json]
    draws: str = "gated"

    def json(self, **changes: Any) -> Json:
        """A config.json of this family."""
        return modern(self.config(**{**self.sizes, **changes}))


@dataclass(frozen=True)
class Subject:
    """A float64 model, and how its layout sees it."""

    family: Family
    kind: str
    source: Json
    small: nn.Module
    anatomy: Anatomy

    def plan(self, wanted: Mapping[str, Size] | Sequence[Expansion], **options: Any) -> Plan:
        """The plan of sizes by name (`at` says where layers go), or of expansions in the order given."""
        at = options.pop("at", "end")
        steps = expansions(wanted, at) if isinstance(wanted, Mapping) else wanted
        return plan(self.anatomy, steps, **options)

    def json(self, made: Plan) -> Json:
        """The grown model's config.json."""
        return edited(self.source, made.config)

    def large(self, made: Plan, source: Json | None = None) -> nn.Module:
        """The grown model, as its own class builds it from its config.json (or from `source`)."""
        state = grown_state(self.small.state_dict(), self.anatomy, made)
        config = config_of(self.family, self.json(made) if source is None else source)
        return build(class_of(self.kind), config, state)

    def error(self, made: Plan, source: Json | None = None) -> float:
        """How far the grown model's outputs lie from the old one's."""
        given = batch(self.kind)
        return error(outputs(self.small, given), outputs(self.large(made, source), given))


def subject(
    family: Family, kind: str = "", source: Json | None = None, seed: int = 0, spread: float = 0.3
) -> Subject:
    """A random model of a family (of its first class, by default), seen through its layout."""
    kind = kind or family.classes[0]
    labels = 2 if kind.endswith("ForQuestionAnswering") else LABELS  # a span's start and end
    source = family.json(num_labels=labels) if source is None else source
    small = model(family, kind, source, seed, spread)
    anatomy = match(layout_for(source["model_type"]), source, headers(small))
    return Subject(family, kind, source, small, anatomy)


class BertUnpooled(transformers.BertModel):
    """A BertModel without its pooler, as a class that can be built from a config alone."""

    def __init__(self, config: transformers.BertConfig) -> None:
        super().__init__(config, add_pooling_layer=False)


def class_of(kind: str) -> type[nn.Module]:
    return BertUnpooled if kind == BertUnpooled.__name__ else getattr(transformers, kind)


def config_of(family: Family, source: Json) -> transformers.PreTrainedConfig:
    """The config class's own reading of a config.json; it validates what it reads."""
    return family.config.from_dict(copy.deepcopy(source))


def model(family: Family, kind: str, source: Json, seed: int = 0, spread: float = 0.3) -> nn.Module:
    """A float64 model of this class with random weights; with a small `spread`, ε matters."""
    with torch.device("meta"):
        named = class_of(kind)(config_of(family, source)).named_parameters()
    shapes = {name: tuple(value.shape) for name, value in named}
    return build(class_of(kind), config_of(family, source), randomized(shapes, seed, spread))


def randomized(shapes: Mapping[str, tuple[int, ...]], seed: int, spread: float) -> dict[str, Tensor]:
    """Random float64 weights by name; `spread` is the std of matrices."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if len(shape) > 1:
            found[name] = spread * noise
        else:
            found[name] = 0.3 * noise + (1.0 if name.endswith("weight") else 0.0)
    return found


def batch(kind: str, seed: int = 0) -> dict[str, Tensor]:
    """Inputs for a class that together hold every token (but the padding's) at random positions."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randperm(ROWS * POSITIONS, generator=generator).reshape(ROWS, POSITIONS) % PAD
    mask = torch.ones_like(ids)
    mask[0, -3:] = 0
    given = {"input_ids": ids, "attention_mask": mask}
    if kind.startswith("Bert"):
        given["token_type_ids"] = torch.randint(2, ids.shape, generator=generator)
    if kind in ("BertForMultipleChoice", "GPT2DoubleHeadsModel"):
        given = {name: value.reshape(-1, CHOICES, POSITIONS) for name, value in given.items()}
    return given


def outputs(made: nn.Module, given: Batch) -> dict[str, Tensor]:
    """Every output of one forward pass in float64."""
    with float64():
        return dict(full(made, given))


def error(small: Mapping[str, Tensor], large: Mapping[str, Tensor]) -> float:
    """The largest relative error of any vector of any output; of wider outputs the old channels count."""
    assert small.keys() == large.keys()
    worst = torch.zeros(())
    for name, a in small.items():
        b = large[name][..., : a.shape[-1]]
        assert a.shape == b.shape, name
        gap = (a - b).abs().amax(-1) / a.abs().amax(-1)
        worst = torch.maximum(worst, gap.nan_to_num(nan=torch.inf).max())
    return float(worst)


# config.json, as different versions of transformers write it


def modern(config: transformers.PreTrainedConfig) -> Json:
    return json.loads(config.to_json_string(use_diff=False))


def legacy(config: transformers.PreTrainedConfig) -> Json:
    """As version 4 wrote it: rope_theta beside rope_scaling, and no list that follows from other keys."""
    source = modern(config)
    rope = source.pop("rope_parameters", None)
    if rope is not None:
        kind = rope.pop("rope_type")
        source["rope_theta"] = rope.pop("rope_theta")
        source["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    return source


def sparse(config: transformers.PreTrainedConfig) -> Json:
    """The least that a config.json can hold: what differs from the class's defaults."""
    defaults = legacy(type(config)())
    kept = {key: value for key, value in legacy(config).items() if defaults.get(key, ...) != value}
    return {"model_type": config.model_type, **kept}


WRITERS: Sequence[Callable[[transformers.PreTrainedConfig], Json]] = (modern, legacy, sparse)


# Configs to draw from

EPS = st.sampled_from([1e-2, 1e-6, 1e-12])
LAYERS = st.sampled_from([1, 2, 3])


@st.composite
def configs(draw: st.DrawFn, family: Family) -> Json:
    """A config.json of this family, with any of its options."""
    made = family.config(**{**family.sizes, **family.options(draw)})
    return draw(st.sampled_from(WRITERS))(made)


def gated_options(draw: st.DrawFn) -> Json:
    """Options of Llama and its like: MHA, GQA and MQA, ties, ε, rotary positions."""
    kv_heads, group = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2, 3]))
    heads, layers = kv_heads * group, draw(st.sampled_from([1, 2, 3]))
    return dict(
        # Some classes want hidden divisible by heads, though head_dim is a key of its own.
        hidden_size=draw(st.sampled_from([15, 18, 25])),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=draw(st.sampled_from([8, 10, 14])),
        rms_norm_eps=draw(EPS),
        tie_word_embeddings=draw(st.booleans()),
        rope_parameters=rope_options(draw),
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
        found["rope_parameters"]["partial_rotary_factor"] = draw(st.sampled_from([0.5, 1.0]))
        return {**found, "head_dim": draw(st.sampled_from([8, 12]))}

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


def rope_options(draw: st.DrawFn) -> Json:
    kind = draw(st.sampled_from(["default", "linear", "llama3", "yarn"]))
    rope: Json = {"rope_type": kind, "rope_theta": draw(st.sampled_from([50.0, 10000.0, 5e5]))}
    if kind != "default":
        rope["factor"] = draw(st.sampled_from([2.0, 7.0]))
    if kind in ("llama3", "yarn"):
        rope["original_max_position_embeddings"] = draw(st.sampled_from([24, 700]))
    if kind == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    if kind == "yarn":
        rope["truncate"] = draw(st.booleans())
        rope |= draw(st.sampled_from([{}, {"beta_fast": 8.0, "beta_slow": 2.0}]))
    return rope


def window_options(draw: st.DrawFn, layers: int) -> Json:
    """Windows in some layers, told by a number or by a list."""
    if not draw(st.booleans()):
        return {}
    found: Json = {"use_sliding_window": True, "sliding_window": 5}
    if draw(st.booleans()):
        kinds = st.sampled_from(["full_attention", "sliding_attention"])
        return {**found, "layer_types": draw(st.lists(kinds, min_size=layers, max_size=layers))}
    return {**found, "max_window_layers": draw(st.integers(0, layers))}


def gpt2_options(draw: st.DrawFn) -> Json:
    heads, head_dim = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([4, 7, 9]))
    return dict(
        n_embd=heads * head_dim,
        n_inner=draw(st.sampled_from([None, 37])),
        n_layer=draw(st.sampled_from([1, 2, 3])),
        n_head=heads,
        layer_norm_epsilon=draw(EPS),
        scale_attn_weights=draw(st.booleans()),
        scale_attn_by_inverse_layer_idx=draw(st.booleans()),
        tie_word_embeddings=draw(st.booleans()),
    )


def bert_options(draw: st.DrawFn) -> Json:
    heads, head_dim = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([4, 7]))
    return dict(
        hidden_size=heads * head_dim,
        num_attention_heads=heads,
        num_hidden_layers=draw(st.sampled_from([1, 2, 3])),
        layer_norm_eps=draw(EPS),
        is_decoder=draw(st.booleans()),
        tie_word_embeddings=draw(st.booleans()),
    )


# Growths to draw from

Steps = list[Expansion]


@st.composite
def growths(draw: st.DrawFn, anatomy: Anatomy) -> tuple[Expansion, ...]:
    """Expansions in any order, some axes in two of them, that end in sizes the family holds."""
    family = anatomy.layout.family
    kinds = {"fused": _gpt2_growths, "bert": _bert_growths, "gated": _gated_growths}
    found = kinds[FAMILIES[family].draws](draw, anatomy)
    found += [MlpExpansion(size) for size in draw(st.sampled_from([[], ["+10"], ["+1", "+90"]]))]
    if family != "bert":
        places = st.sampled_from(["start", "end", "even"])
        layers = draw(st.sampled_from([[], ["+1"], ["+2", "+1"]]))
        found += [LayerAddition(size, draw(places)) for size in layers]
    return tuple(draw(st.permutations(found)))


def _gated_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Sizes are relative, so that they mean the same in any order."""
    now, hidden = anatomy.sizes.values, anatomy.sizes.of("hidden")
    kv, group = now["kv_heads"], now["group"]
    divided = "hidden % (kv_heads * group) == 0" in anatomy.layout.constraints
    normed = [weight.parsed for weight, _ in anatomy.slots.values() if weight.norm and weight.norm.of]
    whole = any("kv_heads" in pattern.produced() for pattern in normed)
    steps = (1, 2) if whole else (0, 1, 2)
    heads = [(n * kv, m * group) if whole else (n + kv, m + group) for n in steps for m in steps]
    heads = [(n, m) for n, m in heads if not divided or hidden % (n * m) == 0]
    kv_heads, group = draw(st.sampled_from(heads))
    found: Steps = [HeadAddition(heads=kv_heads * group, kv_heads=kv_heads)]
    unit = kv_heads * group if divided else 1
    wider = st.sampled_from([[], [2 * unit], [unit, 5 * unit]])
    found += [HiddenExpansion(f"+{n}") for n in draw(wider)]
    dims = [[], ["x2"], ["x3"]] if normed else [[], ["+2"], ["x2"], ["x3"], ["+2", "+6"]]
    if normed and "yarn" in _rope_kinds(anatomy.config):
        return found
    for size in draw(st.sampled_from(dims)):
        found += [AttentionExpansion(size), HeadsExpansion(size)]
    return found


def _rope_kinds(config: Mapping[str, Any]) -> set[str]:
    ropes = (config.get(key) or {} for key in ("rope_parameters", "rope_scaling"))
    return {str(rope.get("rope_type", rope.get("type"))) for rope in ropes}


def _gpt2_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Heads and their dim grow by any numbers, and hidden with them."""
    now = anatomy.sizes.values
    heads, dim = draw(st.integers(0, 3)), draw(st.integers(0, 4))
    hidden = (now["heads"] + heads) * (now["key_dim"] + dim) - now["hidden"]
    parts = draw(st.sampled_from([[hidden], [hidden // 2, hidden - hidden // 2]]))
    found: Steps = [HiddenExpansion(f"+{n}") for n in parts]
    dims = (AttentionExpansion(f"+{dim}"), HeadsExpansion(f"+{dim}"))
    return [*found, HeadAddition(f"+{heads}"), *dims]


def _bert_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Hidden is multiplied, and heads or their dim with it."""
    factors = draw(st.sampled_from([[], ["x2"], ["x3"], ["x4"], ["x2", "x2"], ["x3", "x2"]]))
    found: Steps = []
    for size in factors:
        found.append(HiddenExpansion(size))
        wider = draw(st.booleans())
        found += [HeadAddition(size)] if wider else [AttentionExpansion(size), HeadsExpansion(size)]
    return found


# The families

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
GATED_TOGETHER: Mapping[str, Size] = dict(hidden=75, ffn="x3", heads=15, kv_heads=3, head_dim=20, layers="+2")


def gated(
    name: str,
    config: type[transformers.PreTrainedConfig],
    options: Callable[[st.DrawFn], Json],
    growths: Requests | None = None,
    together: Mapping[str, Size] | None = None,
    **sizes: Any,
) -> Family:
    """A row for Llama or one of its like."""
    prefix = config.__name__.removesuffix("Config").removesuffix("Text")
    classes = [prefix + head for head in (*HEADS, "ForQuestionAnswering")]
    classes = tuple(kind for kind in classes if hasattr(transformers, kind))
    grown = {**GATED_GROWTHS, **(growths or {})}
    wanted = {axis: request for axis, request in grown.items() if request}
    return Family(name, config, classes, {**GATED, **sizes}, wanted, together or GATED_TOGETHER, options)


# Refused (see the tests of refusals): under QK-norm a head dim that is no multiple; where the norm runs over
# all heads, heads that are no multiple.
NORMED: Requests = {"head_dim": {}}
NORMED_HEADS: Requests = {
    "head_dim": {},
    "heads": {"heads": 12},
    "kv_heads": {"kv_heads": 4},
    "heads and kv_heads": {"heads": 36, "kv_heads": 6},
}
BOOLS = st.booleans()


GPT2 = Family(
    "gpt2",
    transformers.GPT2Config,
    (
        "GPT2LMHeadModel",
        "GPT2Model",
        "GPT2ForSequenceClassification",
        "GPT2ForTokenClassification",
        "GPT2ForQuestionAnswering",
        "GPT2DoubleHeadsModel",
    ),
    dict(
        COMMON,
        vocab_size=VOCAB,
        n_embd=30,
        n_inner=37,
        n_layer=3,
        n_head=5,
        n_positions=POSITIONS,
        layer_norm_epsilon=1e-2,
    ),
    {
        "hidden and heads": {"hidden": 42, "heads": 7},
        "hidden and head_dim": {"hidden": 40, "head_dim": 8},
        "ffn": {"ffn": 51},
        "layers": {"layers": 5},
    },
    dict(hidden=98, heads=7, head_dim=14, ffn="x3", layers="+2"),
    gpt2_options,
    "fused",
)
BERT = Family(
    "bert",
    transformers.BertConfig,
    (
        "BertForMaskedLM",
        "BertModel",
        "BertUnpooled",
        "BertForPreTraining",
        "BertLMHeadModel",
        "BertForNextSentencePrediction",
        "BertForMultipleChoice",
        "BertForSequenceClassification",
        "BertForTokenClassification",
        "BertForQuestionAnswering",
    ),
    dict(
        COMMON,
        vocab_size=VOCAB,
        hidden_size=30,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=5,
        max_position_embeddings=POSITIONS,
        layer_norm_eps=1e-2,
    ),
    {
        "hidden and heads": {"hidden": 60, "heads": 10},
        "hidden and head_dim": {"hidden": 90, "head_dim": 18},
        "ffn": {"ffn": 51},
    },
    dict(hidden=90, heads=15, ffn="x3"),
    bert_options,
    "bert",
)
NEOX = Family(
    "gpt_neox",
    transformers.GPTNeoXConfig,
    (
        "GPTNeoXForCausalLM",
        "GPTNeoXModel",
        "GPTNeoXForSequenceClassification",
        "GPTNeoXForTokenClassification",
        "GPTNeoXForQuestionAnswering",
    ),
    dict(
        COMMON,
        vocab_size=VOCAB,
        hidden_size=40,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=5,
        max_position_embeddings=POSITIONS,
        layer_norm_eps=1e-2,
    ),
    {
        "hidden and heads": {"hidden": 56, "heads": 7},
        "hidden and head_dim": {"hidden": 55, "head_dim": 11},
        "ffn": {"ffn": 51},
        "layers": {"layers": 5},
    },
    dict(hidden=98, heads=7, head_dim=14, ffn="x3", layers="+2"),
    fused_options(
        use_parallel_residual=BOOLS,
        attention_bias=BOOLS,
        rope_parameters=st.sampled_from(
            [
                {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": part}
                for part in (0.25, 0.5)
            ]
        ),
    ),
    "fused",
)
GPTJ = Family(
    "gptj",
    transformers.GPTJConfig,
    ("GPTJForCausalLM", "GPTJModel", "GPTJForSequenceClassification", "GPTJForQuestionAnswering"),
    dict(
        COMMON,
        vocab_size=VOCAB,
        n_embd=40,
        n_inner=37,
        n_layer=3,
        n_head=5,
        n_positions=POSITIONS,
        rotary_dim=4,
        layer_norm_epsilon=1e-2,
    ),
    NEOX.growths,
    NEOX.together,
    fused_options(n_inner=st.sampled_from([None, 37]), rotary_dim=st.sampled_from([2, 4, 8])),
    "fused",
)
HALF = {"rope_type": "default", "rope_theta": 700.0, "partial_rotary_factor": 0.5}
ROWS_OF_FAMILIES = (
    gated(
        "llama",
        transformers.LlamaConfig,
        more_options(hidden_size=st.just(36), mlp_bias=BOOLS, attention_bias=BOOLS),
        attention_bias=True,
        mlp_bias=True,
    ),
    gated(
        "mistral",
        transformers.MistralConfig,
        more_options(sliding_window=st.sampled_from([None, 5])),
        sliding_window=5,
    ),
    gated("qwen2", transformers.Qwen2Config, windowed_options(), use_sliding_window=True, sliding_window=5),
    gated(
        "qwen3", transformers.Qwen3Config, windowed_options(attention_bias=BOOLS), NORMED, attention_bias=True
    ),
    GPT2,
    BERT,
    gated("gemma", transformers.GemmaConfig, more_options(attention_bias=BOOLS), attention_bias=True),
    gated(
        "gemma2",
        transformers.Gemma2Config,
        more_options(
            hidden_size=st.just(36),
            attention_bias=BOOLS,
            sliding_window=st.sampled_from([5, 50]),
            query_pre_attn_scalar=st.sampled_from([7, 256]),
            attn_logit_softcapping=st.sampled_from([None, 3.0]),
            final_logit_softcapping=st.sampled_from([None, 5.0]),
        ),
        sliding_window=5,
        query_pre_attn_scalar=7,
    ),
    gated(
        "granite",
        transformers.GraniteConfig,
        more_options(
            attention_bias=BOOLS,
            mlp_bias=BOOLS,
            attention_multiplier=st.sampled_from([0.2, 1.0]),
            embedding_multiplier=st.sampled_from([12.0, 1.0]),
            residual_multiplier=st.sampled_from([0.22, 1.0]),
            logits_scaling=st.sampled_from([8.0, 1.0]),
        ),
        attention_multiplier=0.3,
    ),
    gated(
        "smollm3",
        transformers.SmolLM3Config,
        more_options(
            attention_bias=BOOLS,
            mlp_bias=BOOLS,
            no_rope_layer_interval=st.sampled_from([2, 4]),
            use_sliding_window=BOOLS,
            sliding_window=st.just(5),
        ),
        no_rope_layer_interval=2,
        use_sliding_window=True,
        sliding_window=5,
    ),
    gated(
        "olmo2",
        transformers.Olmo2Config,
        more_options(attention_bias=BOOLS),
        NORMED_HEADS,
        dict(hidden=75, ffn="x3", heads=24, kv_heads=4, head_dim=20, layers="+2"),
        attention_bias=True,
    ),
    gated("phi3", transformers.Phi3Config, partial_options(plain=True)),
    gated("glm4", transformers.Glm4Config, partial_options(attention_bias=BOOLS), head_dim=12),
    NEOX,
    GPTJ,
    gated(
        "phi",
        transformers.PhiConfig,
        partial_options(),
        rope_parameters=HALF,
        head_dim=12,
    ),
)
FAMILIES: Mapping[str, Family] = {family.name: family for family in ROWS_OF_FAMILIES}
