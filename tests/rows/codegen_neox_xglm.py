"""CodeGen, GPT-NeoX Japanese, and XGLM, whose positions are sines."""

from __future__ import annotations

from dataclasses import replace

import transformers
from family import BOOLS, COMMON, EPS, LAYERS, POSITIONS, VOCAB, Family, Json, Steps
from hypothesis import strategies as st

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import (
    AttentionExpansion,
    HeadAddition,
    HeadsExpansion,
    HiddenExpansion,
    LayerAddition,
    MlpExpansion,
)
from rows.fused import GPTJ, NEOX

KIN = True


def grouped_options(draw: st.DrawFn) -> Json:
    """Heads in four groups."""
    heads, dim = draw(st.sampled_from([4, 8])), draw(st.sampled_from([8, 10]))
    return dict(
        n_embd=heads * dim,
        n_head=heads,
        n_layer=draw(LAYERS),
        layer_norm_epsilon=draw(EPS),
        n_inner=draw(st.sampled_from([None, 37])),
        rotary_dim=draw(st.sampled_from([2, 4, 8])),
        tie_word_embeddings=draw(BOOLS),
    )


def grouped_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    now = anatomy.sizes.values
    heads, dim = 4 * (now["group"] + draw(st.integers(0, 2))), now["key_dim"] + draw(st.integers(0, 4))
    dims = (AttentionExpansion(dim), HeadsExpansion(dim))
    return [HiddenExpansion(heads * dim), HeadAddition(heads), *dims]


CODEGEN = replace(
    GPTJ,
    name="codegen",
    config=transformers.CodeGenConfig,
    classes=("CodeGenForCausalLM", "CodeGenModel"),
    sizes={**GPTJ.sizes, "n_embd": 80, "n_head": 8, "n_ctx": POSITIONS},
    growths={
        "hidden and heads": {"hidden": 120, "heads": 12},
        "hidden and head_dim": {"hidden": 88, "head_dim": 11},
        "ffn": {"ffn": 51},
        "layers": {"layers": 5},
    },
    together=dict(hidden=168, heads=12, head_dim=14, ffn="x3", layers="+2"),
    options=grouped_options,
    draws=grouped_growths,
)


def multiple_options(draw: st.DrawFn) -> Json:
    heads, dim = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([8, 12]))
    rope = {"rope_type": "default", "rope_theta": 500.0}
    return dict(
        hidden_size=heads * dim,
        num_attention_heads=heads,
        num_hidden_layers=draw(LAYERS),
        intermediate_multiple_size=draw(st.sampled_from([1, 2])),
        layer_norm_eps=draw(EPS),
        tie_word_embeddings=draw(BOOLS),
        rope_parameters={**rope, "partial_rotary_factor": draw(st.sampled_from([0.5, 1.0]))},
    )


def multiple_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """The MLP is a multiple of the width."""
    now = anatomy.sizes.values
    heads, dim = now["heads"] + draw(st.integers(0, 2)), now["key_dim"] * draw(st.sampled_from([1, 2]))
    hidden = heads * dim
    ffn = hidden * (now["ffn"] // now["hidden"] + draw(st.integers(0, 1)))
    dims = (AttentionExpansion(dim), HeadsExpansion(dim))
    return [HiddenExpansion(hidden), MlpExpansion(ffn), HeadAddition(heads), *dims]


JAPANESE = replace(
    NEOX,
    name="gpt_neox_japanese",
    config=transformers.GPTNeoXJapaneseConfig,
    classes=("GPTNeoXJapaneseForCausalLM", "GPTNeoXJapaneseModel"),
    sizes={
        **{key: said for key, said in NEOX.sizes.items() if key != "intermediate_size"},
        "intermediate_multiple_size": 2,
    },
    growths={
        "hidden and heads": {"hidden": 56, "heads": 7, "ffn": 112},
        "hidden and head_dim": {"hidden": 80, "head_dim": 16, "ffn": 160},
        "ffn": {"ffn": 120},
    },
    together=dict(hidden=112, heads=7, head_dim=16, ffn=336),
    options=multiple_options,
    draws=multiple_growths,
    widths=((),),
    places=("start",),
)


def narrow_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    return [LayerAddition(n) for n in draw(st.sampled_from([[], ["+1"], ["+2", "+1"]]))]


def xglm_options(draw: st.DrawFn) -> Json:
    heads = draw(st.sampled_from([1, 3, 5]))
    return dict(
        d_model=8 * heads,
        attention_heads=heads,
        num_layers=draw(LAYERS),
        scale_embedding=draw(BOOLS),
        tie_word_embeddings=draw(BOOLS),
    )


XGLM = Family(
    "xglm",
    transformers.XGLMConfig,
    ("XGLMForCausalLM", "XGLMModel"),
    dict(
        COMMON,
        vocab_size=VOCAB,
        d_model=30,
        ffn_dim=37,
        num_layers=3,
        attention_heads=5,
        max_position_embeddings=VOCAB + POSITIONS,
    ),
    {"ffn": {"ffn": 51}, "layers": {"layers": 5}},
    dict(ffn="x3", layers="+2"),
    xglm_options,
    lambda draw, anatomy: [],
)


ROWS = (CODEGEN, JAPANESE, XGLM)
