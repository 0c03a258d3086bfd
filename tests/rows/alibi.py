"""BLOOM, MPT, Falcon."""

from __future__ import annotations

import transformers
from family import COMMON, EPS, LAYERS, VOCAB, Family, Json, Steps, rope_options
from hypothesis import strategies as st

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import AttentionExpansion, HeadAddition, HeadsExpansion, HiddenExpansion
from rows.bert import bert_growths

HEADS = (
    "ForCausalLM",
    "Model",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
)


def bloom_options(draw: st.DrawFn) -> Json:
    heads, head_dim = draw(st.sampled_from([1, 3, 5, 8])), draw(st.sampled_from([4, 7]))
    return dict(
        hidden_size=heads * head_dim,
        n_head=heads,
        n_layer=draw(LAYERS),
        layer_norm_epsilon=draw(EPS),
        tie_word_embeddings=draw(st.booleans()),
    )


def mpt_options(draw: st.DrawFn) -> Json:
    """With a scale of its own, or one that a clamp would meet: see `mpt_growths`."""
    heads, head_dim = draw(st.sampled_from([1, 3, 5, 8])), draw(st.sampled_from([4, 7]))
    return dict(
        d_model=heads * head_dim,
        n_heads=heads,
        n_layers=draw(LAYERS),
        layer_norm_epsilon=draw(EPS),
        tie_word_embeddings=draw(st.booleans()),
        attn_config=dict(
            clip_qkv=draw(st.sampled_from([None, 0.5])),
            softmax_scale=draw(st.sampled_from([None, 0.3])),
            alibi_bias_max=draw(st.sampled_from([8, 6])),
        ),
    )


def mpt_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    view = anatomy.layout.defaults(anatomy.config)
    scaled = view["attn_config.clip_qkv"] and not view["attn_config.softmax_scale"]
    now = anatomy.sizes.values
    heads, dim = draw(st.integers(0, 3)), 0 if scaled else draw(st.integers(0, 4))
    hidden = (now["heads"] + heads) * (now["key_dim"] + dim) - now["hidden"]
    dims = (AttentionExpansion(f"+{dim}"), HeadsExpansion(f"+{dim}"))
    return [HiddenExpansion(f"+{hidden}"), HeadAddition(f"+{heads}"), *dims]


def falcon_options(draw: st.DrawFn) -> Json:
    """Plain, multi-query and grouped heads, one after the other or in parallel, turning or biased."""
    grouped, parallel = draw(st.booleans()), draw(st.booleans())
    kv_heads, group = draw(st.sampled_from([(1, 3), (2, 2), (3, 1), (5, 1)]))
    heads, head_dim, layers = kv_heads * group, draw(st.sampled_from([8, 10])), draw(LAYERS)
    return dict(
        hidden_size=heads * head_dim,
        ffn_hidden_size=draw(st.sampled_from([None, 37])),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_kv_heads=kv_heads if grouped else None,
        new_decoder_architecture=grouped,
        num_ln_in_parallel_attn=draw(st.sampled_from([None, 1, 2])) if grouped else None,
        multi_query=draw(st.booleans()),
        parallel_attn=grouped or parallel,
        alibi=draw(st.booleans()),
        bias=draw(st.booleans()),
        layer_norm_epsilon=draw(EPS),
        tie_word_embeddings=draw(st.booleans()),
        rope_parameters=rope_options(draw, head_dim // 2),
    )


def falcon_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Heads and their dim, and hidden with them; biased heads in groups only where whole groups can move."""
    now, alibi = anatomy.sizes.values, anatomy.layout.defaults(anatomy.config)["alibi"]
    dim = 0 if alibi else draw(st.sampled_from([0, 2, now["key_dim"]]))
    if "heads" in now:
        heads = now["heads"] + draw(st.integers(0, 3))
        more = HeadAddition(heads)
    else:
        kv_heads, group = now["kv_heads"], now["group"]
        if alibi and kv_heads > 1:
            kv_heads, group = (kv_heads + draw(st.integers(0, 3)), 1) if group == 1 else (kv_heads, 2 * group)
        else:
            group += draw(st.integers(0, 2))
            kv_heads += 0 if alibi else draw(st.integers(0, 2))
        heads = kv_heads * group
        more = HeadAddition(heads, kv_heads)
    hidden = heads * (now["key_dim"] + dim) - now["hidden"]
    dims = (AttentionExpansion(f"+{dim}"), HeadsExpansion(f"+{dim}"))
    return [HiddenExpansion(f"+{hidden}"), more, *dims]


BLOOM = Family(
    "bloom",
    transformers.BloomConfig,
    tuple("Bloom" + head for head in HEADS),
    dict(COMMON, vocab_size=VOCAB, hidden_size=30, n_layer=3, n_head=5, layer_norm_epsilon=1e-2),
    {
        "hidden and heads": {"hidden": 60, "heads": 10},
        "hidden and head_dim": {"hidden": 90, "head_dim": 18},
        "hidden, heads and head_dim": {"hidden": 60, "heads": 6, "head_dim": 10},
        "layers": {"layers": 5},
    },
    dict(hidden=90, heads=9, head_dim=10, layers="+2"),
    bloom_options,
    bert_growths,
    alone="layers",
    widths=((),),
)
MPT = Family(
    "mpt",
    transformers.MptConfig,
    tuple("Mpt" + head for head in HEADS),
    dict(
        COMMON,
        vocab_size=VOCAB,
        d_model=30,
        n_layers=3,
        n_heads=5,
        max_seq_len=64,
        layer_norm_epsilon=1e-2,
        attn_config=dict(alibi_bias_max=6),
    ),
    {
        "hidden and heads": {"hidden": 42, "heads": 7},
        "hidden and head_dim": {"hidden": 40, "head_dim": 8},
        "layers": {"layers": 5},
    },
    dict(hidden=98, heads=7, head_dim=14, layers="+2"),
    mpt_options,
    mpt_growths,
    frozenset({"attn_config.clip_qkv", "attn_config.softmax_scale"}),
    alone="layers",
    widths=((),),
)
FALCON = Family(
    "falcon",
    transformers.FalconConfig,
    tuple("Falcon" + head for head in HEADS),
    dict(
        COMMON,
        vocab_size=VOCAB,
        hidden_size=60,
        ffn_hidden_size=37,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_kv_heads=2,
        new_decoder_architecture=True,
        bias=True,
        layer_norm_epsilon=1e-2,
    ),
    {
        "hidden and heads": {"hidden": 80, "heads": 8},
        "hidden and kv_heads": {"hidden": 150, "kv_heads": 5},
        "hidden and head_dim": {"hidden": 84, "head_dim": 14},
        "hidden and head_dim, a multiple": {"hidden": 180, "head_dim": 30},
        "ffn": {"ffn": 51},
        "layers": {"layers": 5},
    },
    dict(hidden=240, heads=12, kv_heads=3, head_dim=20, ffn="x3", layers="+2"),
    falcon_options,
    falcon_growths,
    frozenset({"num_ln_in_parallel_attn"}),
)

ROWS = (BLOOM, MPT, FALCON)

REAL = {
    "bloom-560m": ("BloomForCausalLM", dict(hidden_size=1024, n_layer=24, n_head=16), {"layers": "+1"}),
    "bloom": (
        "BloomForCausalLM",
        dict(n_embed=14336, n_layer=70, num_attention_heads=112, pretraining_tp=4),
        {"hidden": 28672, "heads": 224},
    ),
    "mpt-7b": (
        "MptForCausalLM",
        dict(d_model=4096, n_heads=32, n_layers=32, vocab_size=50432, attn_config=dict(alibi=True)),
        {"hidden": 6144, "heads": 48},
    ),
    "mpt-30b": (
        "MptForCausalLM",
        dict(d_model=7168, n_heads=64, n_layers=48, vocab_size=50432, max_seq_len=8192),
        {"layers": "x2"},
    ),
    "falcon-7b": ("FalconForCausalLM", dict(num_kv_heads=71)),
    "falcon-11B": (
        "FalconForCausalLM",
        dict(
            hidden_size=4096,
            ffn_hidden_size=16384,
            num_hidden_layers=60,
            num_attention_heads=32,
            num_kv_heads=8,
            num_ln_in_parallel_attn=1,
            new_decoder_architecture=True,
            tie_word_embeddings=False,
        ),
    ),
    "falcon-40b": (
        "FalconForCausalLM",
        dict(
            hidden_size=8192,
            num_hidden_layers=60,
            num_attention_heads=128,
            num_kv_heads=8,
            new_decoder_architecture=True,
        ),
    ),
    "falcon-rw-1b": (
        "FalconForCausalLM",
        dict(
            hidden_size=2048,
            num_hidden_layers=24,
            num_attention_heads=32,
            vocab_size=50304,
            alibi=True,
            bias=True,
            multi_query=False,
            parallel_attn=False,
        ),
    ),
}
