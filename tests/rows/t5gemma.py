"""T5Gemma: two stacks of Gemma 2's layers, each with sizes of its own."""

from __future__ import annotations

import torch
import transformers
from family import BOOLS, EPS, LABELS, LAYERS, PAD, POSITIONS, VOCAB, Family, Json, Steps
from hypothesis import strategies as st
from torch import Tensor

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import (
    AttentionExpansion,
    HeadAddition,
    HeadsExpansion,
    HiddenExpansion,
    MlpExpansion,
)
from rows.stacks import END, texts

COMMON: Json = dict(
    vocab_size=VOCAB,
    max_position_embeddings=POSITIONS,
    pad_token_id=PAD,
    bos_token_id=None,
    eos_token_id=END,
    rms_norm_eps=1e-2,
    sliding_window=5,
)
ENCODER: Json = dict(
    COMMON,
    hidden_size=30,
    intermediate_size=37,
    num_hidden_layers=4,  # a class with more decoder layers can't generate
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=8,
    query_pre_attn_scalar=8,
)
DECODER: Json = dict(
    COMMON,
    hidden_size=28,
    intermediate_size=41,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=10,
    query_pre_attn_scalar=7,
)


def _stack(draw: st.DrawFn, base: Json) -> Json:
    kv_heads, group, layers = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2, 3])), draw(LAYERS)
    kinds = st.sampled_from(["full_attention", "sliding_attention"])
    listed = {"layer_types": draw(st.lists(kinds, min_size=layers, max_size=layers))}
    return {
        **base,
        "hidden_size": 5 * kv_heads * group,
        "num_hidden_layers": layers,
        "num_attention_heads": kv_heads * group,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": draw(EPS),
        "attention_bias": draw(BOOLS),
        **(listed if draw(BOOLS) else {}),
    }


def longer(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Texts of which the decoder reads every token, so that each row of its own table has gradient."""
    found = texts(kind, generator)
    ids = found["input_ids"].flip(0)
    shown = ids if kind.endswith("ForSequenceClassification") else torch.cat([ids, ids[:, :2]], 1)
    return {**found, "decoder_input_ids": shown}


def options(draw: st.DrawFn) -> Json:
    return dict(encoder=_stack(draw, ENCODER), decoder=_stack(draw, DECODER), tie_word_embeddings=draw(BOOLS))


def growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Each stack by itself, and the dims of heads of both."""
    found: Steps = []
    for stack in ("encoder", "decoder"):
        now = anatomy.sizes.values
        kv, group = now[f"{stack}_kv_heads"] + draw(st.integers(0, 1)), now[f"{stack}_group"]
        group += draw(st.integers(0, 1))
        found.append(HeadAddition(kv * group, kv, stack=stack))
        wide = now[f"{stack}_hidden"] // (kv * group) + draw(st.integers(1, 2))
        found.append(HiddenExpansion(wide * kv * group, stack))
        found += [MlpExpansion(n, stack=stack) for n in draw(st.sampled_from([[], ["+3"], ["+1", "+40"]]))]
    for size in draw(st.sampled_from([[], ["x2"], ["+2", "+6"]])):
        found += [AttentionExpansion(size), HeadsExpansion(size)]
    return found


T5GEMMA = Family(
    "t5gemma",
    transformers.T5GemmaConfig,
    ("T5GemmaForConditionalGeneration", "T5GemmaModel", "T5GemmaForSequenceClassification"),
    dict(
        num_labels=LABELS,
        pad_token_id=PAD,
        eos_token_id=END,
        decoder_start_token_id=PAD,
        vocab_size=VOCAB,
        encoder=ENCODER,
        decoder=DECODER,
    ),
    {
        "encoder.hidden": {"encoder.hidden": 42},
        "decoder.hidden": {"decoder.hidden": 44},
        "ffn of both": {"ffn": 51},
        "encoder_ffn": {"encoder_ffn": 50},
        "encoder.heads": {"encoder.heads": 10},
        "decoder.heads and kv_heads": {"decoder.heads": 14, "decoder.kv_heads": 7},
        "head_dim": {"head_dim": 12},
        "head_dim, a multiple": {"head_dim": "x2"},
        "layers": {"layers": "+2"},
        "decoder.layers": {"decoder.layers": 5},
    },
    {
        "encoder.hidden": 60, "decoder.hidden": 56, "ffn": "x3", "encoder.heads": 12, "encoder.kv_heads": 3,
        "decoder.heads": 8, "decoder.kv_heads": 4, "head_dim": "x2", "layers": "+2",
    },
    options,
    growths,
    inputs=longer,
    dated=False,
    widths=((),),
    alone="encoder_ffn",
    unread={"lm_head.out_proj.weight": [PAD]},
)  # fmt: skip

ROWS = (T5GEMMA,)
