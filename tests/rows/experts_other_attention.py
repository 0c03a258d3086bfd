"""Mixtures of experts whose attention, norms or files are not Llama's: Aria, Phi-3.5, DBRX, Llama 4, Laguna,
DeepSeek-V2 and V3.2."""

from __future__ import annotations

from dataclasses import replace

import transformers
from family import (
    BOOLS,
    COMMON,
    LAYERS,
    POSITIONS,
    VOCAB,
    Family,
    Json,
    Steps,
    gated,
    gated_growths,
    more_options,
)
from hypothesis import strategies as st

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import AttentionExpansion, HeadAddition, HeadsExpansion, HiddenExpansion
from rows.experts_llama_attention import EACH
from rows.mlp_layer_types import KINDS, LISTED, always, listed
from rows.rescaled_llama import whole_heads
from rows.sparse import DEEPSEEK_V3, LATENT, latent_options

KIN = True

WHOLE: Json = {"head_dim": {}, "head_dim, a multiple": {}}
SPREAD = {"num_local_experts": st.sampled_from([2, 4]), "num_experts_per_tok": st.sampled_from([1, 2])}


def second(draw: st.DrawFn) -> Json:
    """Latent attention's, of a class without a choice of its pairs, and without weights that add to one."""
    found = latent_options(draw)
    gone = ("rope_interleave", "norm_topk_prob", "n_group", "topk_group")
    evened = {"qk_nope_head_dim": draw(st.sampled_from([4, 8])), "kv_lora_rank": 18, "hidden_size": 36}
    return {key: said for key, said in {**found, **evened}.items() if key not in gone}


SECOND = {key: said for key, said in LATENT.items() if key not in ("n_group", "topk_group")}
SECOND = {**SECOND, "qk_nope_head_dim": 6, "kv_lora_rank": 18}


def nested(draw: st.DrawFn) -> Json:
    kv_heads, group, dim = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2])), 8
    clip = draw(st.sampled_from([0.5, 3.0]))  # the class can't run without one
    return dict(
        d_model=kv_heads * group * dim,
        n_heads=kv_heads * group,
        n_layers=draw(LAYERS),
        attn_config={"kv_n_heads": kv_heads, "clip_qkv": clip, "rope_theta": 1.0},
        ffn_config={
            "ffn_hidden_size": 37,
            "moe_num_experts": draw(st.sampled_from([2, 4])),
            "moe_top_k": draw(st.sampled_from([1, 2])),
            "moe_normalize_expert_weights": draw(st.sampled_from([None, 1.0, 2.0])),
        },
    )


INDEX: Json = dict(index_topk=4, index_n_heads=3, index_head_dim=10)


def indexed(draw: st.DrawFn) -> Json:
    """Latent attention to some of the tokens."""
    found = always(listed(latent_options))(draw)
    found.pop("rope_interleave")
    return {**found, "index_topk": draw(st.sampled_from([2, 4, 50]))}


def clamped(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Heads by any numbers, and hidden with them; their dim stays, since what is clamped takes no scale."""
    now = anatomy.sizes.values
    kv_heads, group = now["kv_heads"] + draw(st.integers(0, 2)), now["group"] + draw(st.integers(0, 2))
    hidden = kv_heads * group * now["key_dim"]
    return [HiddenExpansion(f"+{hidden - now['hidden']}"), HeadAddition(kv_heads * group, kv_heads)]


def same_heads(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    return [step for step in gated_growths(draw, anatomy) if not isinstance(step, HeadAddition)]


def even(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Growths that leave what is turned as complex numbers at even places."""
    sizes = st.sampled_from([[], ["x2"], ["x2", "x3"]])
    found: Steps = [HiddenExpansion(size) for size in draw(sizes)]
    found += [HeadAddition(size) for size in draw(st.sampled_from([[], ["x2"]]))]
    found += [AttentionExpansion(size) for size in draw(sizes)]
    return [*found, *(HeadsExpansion(size) for size in draw(sizes))]


TABLES = {
    "full_attention": {"rope_type": "default", "rope_theta": 500.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
}
ATTENTION = {"kv_n_heads": 2, "clip_qkv": 0.5, "rope_theta": 1.0}
DBRX = Family(
    "dbrx",
    transformers.DbrxConfig,
    ("DbrxForCausalLM", "DbrxModel"),
    dict(
        pad_token_id=COMMON["pad_token_id"],
        vocab_size=VOCAB,
        d_model=48,
        n_heads=6,
        n_layers=3,
        max_seq_len=POSITIONS,
        attn_config=ATTENTION,
        ffn_config={"ffn_hidden_size": 37, "moe_num_experts": 4, "moe_top_k": 4},
    ),
    {
        "hidden and heads": {"hidden": 80, "heads": 10},
        "hidden and kv_heads": {"hidden": 120, "kv_heads": 5},
        "ffn": {"ffn": 51},
        "layers": {"layers": 5},
    },
    dict(hidden=120, ffn="x3", heads=15, kv_heads=3, layers="+2"),
    nested,
    clamped,
    absent=frozenset({"attn_config.clip_qkv"}),
    alone="layers",
    said={"attn_config": ATTENTION},  # the class reads a θ there, which it does not use, and has no default
)
ROWS = (
    replace(
        gated(
            "aria_text",
            transformers.AriaTextConfig,
            more_options(
                hidden_size=st.just(36),
                attention_bias=BOOLS,
                mlp_bias=BOOLS,
                moe_num_experts=st.sampled_from([2, 4]),
                moe_topk=st.sampled_from([1, 2]),
                moe_num_shared_experts=st.sampled_from([1, 2]),
            ),
            attention_bias=True,
            mlp_bias=True,
            moe_num_experts=4,
            moe_topk=4,
            moe_num_shared_experts=5,
        ),
        classes=("AriaTextForCausalLM", "AriaTextModel"),
    ),
    gated(
        "phimoe",
        transformers.PhimoeConfig,
        more_options(
            num_local_experts=st.sampled_from([2, 4]),
            attention_bias=BOOLS,
            lm_head_bias=BOOLS,
            sliding_window=st.sampled_from([None, 5]),
            rope_parameters=st.just({"rope_type": "default", "rope_theta": 300.0}),
        ),
        attention_bias=True,
        lm_head_bias=True,
        num_local_experts=2,  # it takes two for a token, so that each is asked
        absent=("head_dim",),
    ),
    DBRX,
    replace(
        gated(
            "llama4_text",
            transformers.Llama4TextConfig,
            more_options(
                **SPREAD,
                attention_bias=BOOLS,
                use_qk_norm=BOOLS,
                interleave_moe_layer_step=st.sampled_from([1, 2]),
                no_rope_layer_interval=st.sampled_from([2, 4]),
                attention_chunk_size=st.just(5),
                attn_temperature_tuning=BOOLS,
                floor_scale=st.just(4),
            ),
            {**WHOLE, **EACH},
            dict(hidden=75, ffn="x3", heads=15, kv_heads=3, layers="+2", expert_ffn="+5"),
            attention_bias=True,
            intermediate_size=11,
            intermediate_size_mlp=37,
            num_local_experts=4,
            num_experts_per_tok=4,
            interleave_moe_layer_step=2,
            no_rope_layer_interval=2,
            attention_chunk_size=5,
            floor_scale=4,
        ),
        draws=whole_heads,
    ),
    replace(
        gated(
            "laguna",
            transformers.LagunaConfig,
            listed(
                more_options(
                    num_experts=st.sampled_from([2, 4]),
                    num_experts_per_tok=st.sampled_from([1, 2]),
                    attention_bias=BOOLS,
                    gating=st.sampled_from([True, "per-head", "per-element"]),
                    sliding_window=st.just(5),
                    rope_parameters=st.just(TABLES),
                )
            ),
            {
                "heads": {},
                "kv_heads": {},
                "heads and kv_heads": {},
                "head_dim": {},
                "head_dim, a multiple": {"head_dim": 30},
                **EACH,
                "shared_ffn": {"shared_ffn": 20},
            },
            dict(hidden=75, ffn="x3", head_dim=20, layers="+2", expert_ffn="+5", shared_ffn="+3"),
            attention_bias=True,
            sliding_window=5,
            moe_intermediate_size=11,
            shared_expert_intermediate_size=17,
            num_experts=4,
            num_experts_per_tok=4,
            mlp_layer_types=KINDS,
            rope_parameters=TABLES,
        ),
        draws=same_heads,
        dated=False,
    ),
    replace(
        DEEPSEEK_V3,
        name="deepseek_v2",
        config=transformers.DeepseekV2Config,
        classes=("DeepseekV2ForCausalLM", "DeepseekV2Model", "DeepseekV2ForSequenceClassification"),
        sizes=SECOND,
        growths={
            **DEEPSEEK_V3.growths,
            "kv_rank": {"kv_rank": 22},
            "key_dim and value_dim": {"head_dim": 20},
        },
        together={**DEEPSEEK_V3.together, "hidden": 80, "kv_rank": 36},
        options=second,
        draws=even,
        widths=((), ("+10",), ("+2", "+90")),
        absent=frozenset({"num_experts_per_tok"}),
        said={"num_experts_per_tok": 2},
    ),
    replace(
        DEEPSEEK_V3,
        name="deepseek_v32",
        config=transformers.DeepseekV32Config,
        classes=("DeepseekV32ForCausalLM", "DeepseekV32Model"),
        sizes={**LISTED, "mlp_layer_types": KINDS, **INDEX},
        options=indexed,
    ),
)
