"""DINOv2, T5: models that are no single stack of tokens."""

from __future__ import annotations

import torch
import transformers
from family import BOOLS, EPS, LABELS, LAYERS, PAD, POSITIONS, VOCAB, Family, Json, Steps
from family import ROWS as ROWS_
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

IMAGE, PATCH, CHANNELS = 12, (2, 6), 4


def images(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Images, and a mask of their patches where the class takes one."""
    pixels = torch.randn(3, CHANNELS, IMAGE, IMAGE, generator=generator, dtype=torch.float64)
    patches = (IMAGE // PATCH[0]) * (IMAGE // PATCH[1])
    masked = torch.rand(len(pixels), patches, generator=generator) < 0.3
    mask = {"bool_masked_pos": masked} if kind == "Dinov2Model" else {}
    return {"pixel_values": pixels, **mask}


def dinov2_options(draw: st.DrawFn) -> Json:
    heads, head_dim = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([4, 7]))
    return dict(
        hidden_size=heads * head_dim,
        num_attention_heads=heads,
        num_hidden_layers=draw(LAYERS),
        mlp_ratio=draw(st.sampled_from([1, 2, 4])),
        layer_norm_eps=draw(EPS),
        qkv_bias=draw(BOOLS),
        use_swiglu_ffn=draw(BOOLS),
    )


def dinov2_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Heads fill hidden, and ffn is computed from it."""
    now = anatomy.sizes.values
    heads, dim = now["heads"] + draw(st.integers(0, 3)), now["key_dim"] + draw(st.integers(0, 4))
    said = anatomy.layout.defaults(anatomy.config)
    hidden, ratio = heads * dim, said["mlp_ratio"] + draw(st.integers(0, 2))
    ffn = (int(hidden * ratio * 2 / 3) + 7) // 8 * 8 if said["use_swiglu_ffn"] else hidden * ratio
    dims = (AttentionExpansion(dim), HeadsExpansion(dim))
    return [HiddenExpansion(hidden), MlpExpansion(ffn), HeadAddition(heads), *dims]


DINOV2 = Family(
    "dinov2",
    transformers.Dinov2Config,
    ("Dinov2Model", "Dinov2ForImageClassification"),
    dict(
        num_labels=LABELS,
        image_size=IMAGE,
        patch_size=list(PATCH),
        num_channels=CHANNELS,
        hidden_size=30,
        mlp_ratio=2,
        num_hidden_layers=3,
        num_attention_heads=5,
        layer_norm_eps=1e-2,
    ),
    {
        "hidden and heads": {"hidden": 42, "heads": 7, "ffn": 84},
        "hidden and head_dim": {"hidden": 55, "head_dim": 11, "ffn": 110},
        "ffn": {"ffn": 90},
        "layers": {"layers": 5},
    },
    dict(hidden=98, heads=7, head_dim=14, ffn=294, layers="+2"),
    dinov2_options,
    dinov2_growths,
    inputs=images,
    widths=((),),
)

END = VOCAB - 2  # at the end of each text


def texts(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Texts that end, some of them padded, and what a decoder makes of them."""
    ids = torch.randperm(ROWS_ * POSITIONS, generator=generator).reshape(ROWS_, POSITIONS) % END
    mask = torch.ones_like(ids)
    ids[:, -4], mask[0, -3:] = END, 0
    given = {"input_ids": ids, "attention_mask": mask}
    decodes = kind not in ("T5EncoderModel", "T5ForTokenClassification")
    shorter = 0 if kind.endswith("ForSequenceClassification") else 2
    return {**given, "decoder_input_ids": ids.flip(0)[:, shorter:]} if decodes else given


def t5_options(draw: st.DrawFn) -> Json:
    return dict(
        d_model=draw(st.sampled_from([15, 18])),
        d_kv=draw(st.sampled_from([4, 7])),
        num_heads=draw(st.sampled_from([1, 3, 5])),
        num_layers=draw(LAYERS),
        num_decoder_layers=draw(st.sampled_from([None, 1, 2])),
        feed_forward_proj=draw(st.sampled_from(["relu", "gated-gelu"])),
        tie_word_embeddings=draw(BOOLS),
        layer_norm_epsilon=draw(EPS),
    )


def t5_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """No size depends on another, but the dims of keys and values are one."""
    found: Steps = [HiddenExpansion(f"+{n}") for n in draw(st.sampled_from([[], [3], [1, 40]]))]
    for n in draw(st.sampled_from([[], [1], [3, 20]])):
        found += [AttentionExpansion(f"+{n}"), HeadsExpansion(f"+{n}")]
    return found + [HeadAddition(f"+{n}") for n in draw(st.sampled_from([[], [1], [2, 9]]))]


T5 = Family(
    "t5",
    transformers.T5Config,
    (
        "T5ForConditionalGeneration",
        "T5Model",
        "T5EncoderModel",
        "T5ForSequenceClassification",
        "T5ForTokenClassification",
        "T5ForQuestionAnswering",
    ),
    dict(
        num_labels=LABELS,
        pad_token_id=PAD,
        eos_token_id=END,
        decoder_start_token_id=PAD,
        vocab_size=VOCAB,
        d_model=26,
        d_kv=5,
        d_ff=37,
        num_layers=4,  # a class with more decoder layers can't generate
        num_decoder_layers=3,
        num_heads=6,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=12,
        feed_forward_proj="gated-gelu",  # a ReLU that no token switches on has no gradient
        layer_norm_epsilon=1e-2,
    ),
    {
        "hidden": {"hidden": 35},
        "ffn": {"ffn": 51},
        "heads": {"heads": 9},
        "head_dim": {"head_dim": 11},
        "layers": {"layers": "+2"},
        "encoder.layers": {"encoder.layers": 7},
        "decoder.layers": {"decoder.layers": 5},
    },
    dict(hidden=75, ffn="x3", heads=9, head_dim=11, layers="+2"),
    t5_options,
    t5_growths,
    inputs=texts,
    # No token stands at distance 0 and ahead: half of the buckets are for those that do.
    unread={"encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": [4]},
)

ROWS = (DINOV2, T5)
