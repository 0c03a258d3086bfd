"""Mixtures of experts."""

from __future__ import annotations

from dataclasses import replace

import transformers
from family import (
    BOOLS,
    COMMON,
    EPS,
    HEADS,
    LAYERS,
    NORMED,
    POSITIONS,
    VOCAB,
    Family,
    Json,
    Steps,
    gated,
    gated_options,
    more_options,
    rope_options,
)
from hypothesis import strategies as st

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import AttentionExpansion, HeadAddition, HeadsExpansion, HiddenExpansion

# By default each token goes to all experts, so that none is without tokens in the tests of liveness (of such
# ones: tests/test_experts.py); drawn configs are sparse.
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 4}
QWEN = {"num_experts": 4, "num_experts_per_tok": 4, "moe_intermediate_size": 11, "mlp_only_layers": [1]}
ROUTED = {"num_experts": st.sampled_from([2, 4]), "num_experts_per_tok": st.sampled_from([1, 2])}
MIXED = {
    **ROUTED,
    "decoder_sparse_step": st.sampled_from([1, 2]),
    "mlp_only_layers": st.sampled_from([[], [0], [0, 2]]),
    "norm_topk_prob": BOOLS,
}
EACH = {"expert_ffn": {"expert_ffn": 16}}
SHARED = {**EACH, "shared_ffn": {"shared_ffn": 20}}
ALL = dict(hidden=75, ffn="x3", heads=15, kv_heads=3, head_dim=20, layers="+2", expert_ffn="+5")


def filled(draw: st.DrawFn) -> Json:
    """Options of a family whose heads fill hidden."""
    found = gated_options(draw)
    own = {key: draw(choice) for key, choice in ROUTED.items()}
    own |= {"norm_topk_prob": draw(BOOLS), "clip_qkv": draw(st.sampled_from([None, 0.4]))}
    return {**found, **own, "hidden_size": found["num_attention_heads"] * found["head_dim"]}


def multiples(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Where norms over all heads are as wide as hidden: heads and their dim by multiples, and hidden with
    them."""
    now = anatomy.sizes.values
    layout, config = anatomy.layout, anatomy.config
    kinds = {rope.kind(config) for attention in layout.attentions for rope in attention.ropes}
    clamped = any(layout.clamps(slot, config) for slot in anatomy.slots.values())
    n, m = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2]))
    d = 1 if clamped or "yarn" in kinds else draw(st.sampled_from([1, 2]))
    kv, heads = n * now["kv_heads"], n * m * now["kv_heads"] * now["group"]
    found: Steps = [HeadAddition(heads=heads, kv_heads=kv), HiddenExpansion(f"x{n * m * d}")]
    return [*found, AttentionExpansion(f"x{d}"), HeadsExpansion(f"x{d}")]


ROWS = (
    gated(
        "mixtral",
        transformers.MixtralConfig,
        more_options(
            num_local_experts=st.sampled_from([2, 4]),
            num_experts_per_tok=st.sampled_from([1, 2]),
            sliding_window=st.sampled_from([None, 5]),
        ),
        absent=("head_dim",),
        **EXPERTS,
    ),
    gated(
        "qwen2_moe",
        transformers.Qwen2MoeConfig,
        more_options(
            **MIXED,
            qkv_bias=BOOLS,
            use_sliding_window=BOOLS,
            sliding_window=st.just(5),
            max_window_layers=st.sampled_from([0, 2, 28]),
        ),
        SHARED,
        {**ALL, "shared_ffn": "+3"},
        absent=("head_dim",),
        use_sliding_window=True,
        sliding_window=5,
        shared_expert_intermediate_size=17,
        **QWEN,
    ),
    gated(
        "qwen3_moe",
        transformers.Qwen3MoeConfig,
        more_options(**MIXED, attention_bias=BOOLS),
        {**NORMED, **EACH},
        ALL,
        absent=("head_dim",),
        attention_bias=True,
        **QWEN,
    ),
    gated(
        "gpt_oss",
        transformers.GptOssConfig,
        more_options(
            num_local_experts=st.sampled_from([2, 4]),
            num_experts_per_tok=st.sampled_from([1, 2]),
            attention_bias=BOOLS,
            swiglu_limit=st.sampled_from([0.3, 7.0]),
            sliding_window=st.just(5),
        ),
        sliding_window=5,
        rope_parameters={"rope_type": "default", "rope_theta": 300.0},
        **EXPERTS,
    ),
    replace(
        gated(
            "olmoe",
            transformers.OlmoeConfig,
            filled,
            {
                "hidden": {},
                "heads": {},
                "kv_heads": {},
                "heads and kv_heads": {},
                "head_dim": {},
                "head_dim, a multiple": {},
                "hidden and heads": {"hidden": 120, "heads": 12},
                "hidden and kv_heads": {"hidden": 180, "kv_heads": 6},
                "hidden and head_dim": {"hidden": 120, "head_dim": 20},
            },
            dict(hidden=240, ffn="x3", heads=12, kv_heads=4, head_dim=20, layers="+2"),
            absent=("head_dim", "clip_qkv"),
            hidden_size=60,
            num_experts=4,
            num_experts_per_tok=4,
        ),
        draws=multiples,
    ),
)

LATENT: Json = dict(
    COMMON,
    vocab_size=VOCAB,
    hidden_size=30,
    intermediate_size=37,
    moe_intermediate_size=11,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=6,
    q_lora_rank=13,
    kv_lora_rank=17,
    qk_nope_head_dim=7,
    qk_rope_head_dim=8,
    v_head_dim=9,
    n_routed_experts=4,
    n_shared_experts=5,
    n_group=2,
    topk_group=2,
    num_experts_per_tok=4,
    first_k_dense_replace=1,
    max_position_embeddings=POSITIONS,
    rms_norm_eps=1e-2,
)


def latent_options(draw: st.DrawFn) -> Json:
    """Options of latent attention, and of experts in groups."""
    heads, rope = draw(st.sampled_from([1, 2, 3])), rope_options(draw, 4)
    if rope["rope_type"] == "yarn":
        rope |= draw(st.sampled_from([{}, {"mscale": 1.0, "mscale_all_dim": 0.8}]))
    groups, chosen, most = draw(st.sampled_from([(1, 1, 4), (2, 1, 2), (2, 2, 4)]))
    return dict(
        hidden_size=draw(st.sampled_from([15, 18, 25])),
        num_hidden_layers=draw(LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        q_lora_rank=draw(st.sampled_from([13, None])),
        qk_nope_head_dim=draw(st.sampled_from([3, 8])),
        rms_norm_eps=draw(EPS),
        tie_word_embeddings=draw(BOOLS),
        rope_parameters=rope,
        rope_interleave=draw(BOOLS),
        attention_bias=draw(BOOLS),
        first_k_dense_replace=draw(st.sampled_from([0, 1, 2, 5])),
        n_shared_experts=draw(st.sampled_from([1, 2])),
        n_group=groups,
        topk_group=chosen,
        num_experts_per_tok=draw(st.sampled_from([1, 2, most])),
        norm_topk_prob=draw(BOOLS),
    )


def latent_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Heads and their dims by any numbers."""
    sizes = st.sampled_from([[], ["+1"], ["x2"], ["+3", "x2"]])
    found: Steps = [HeadAddition(size) for size in draw(sizes)]
    found += [HiddenExpansion(size) for size in draw(sizes)]
    found += [AttentionExpansion(size) for size in draw(sizes)]
    return [*found, *(HeadsExpansion(size) for size in draw(sizes))]


DEEPSEEK_V3 = Family(
    "deepseek_v3",
    transformers.DeepseekV3Config,
    tuple(f"DeepseekV3{head}" for head in HEADS),
    LATENT,
    {
        "hidden": {"hidden": 42},
        "ffn": {"ffn": 51},
        "expert_ffn": {"expert_ffn": 16},
        "heads": {"heads": 10},
        "key_dim": {"key_dim": 12},
        "value_dim": {"value_dim": 14},
        "key_dim and value_dim": {"head_dim": 20},
        "q_rank": {"q_rank": 19},
        "kv_rank": {"kv_rank": 21},
        "layers": {"layers": 5},
    },
    dict(
        hidden=75,
        ffn="x3",
        expert_ffn="+5",
        heads=10,
        key_dim=12,
        value_dim=14,
        q_rank=19,
        kv_rank=34,
        layers="+2",
    ),
    latent_options,
    latent_growths,
)
ROWS = (*ROWS, DEEPSEEK_V3)

ALL_SPARSE = {"expert_ffn": "x2", "layers": "+1"}  # no layer has a ffn of its own
REAL = {
    "DeepSeek-V3": ("DeepseekV3ForCausalLM", {}),
    "gpt-oss-20b": ("GptOssForCausalLM", dict(num_hidden_layers=24, num_local_experts=32)),
    "Mixtral-8x7B": ("MixtralForCausalLM", {}),
    "Qwen1.5-MoE-A2.7B": ("Qwen2MoeForCausalLM", dict(intermediate_size=5632), ALL_SPARSE),
    "Qwen3-30B-A3B": (
        "Qwen3MoeForCausalLM",
        dict(num_hidden_layers=48, head_dim=128, norm_topk_prob=True),
        ALL_SPARSE,
    ),
    "OLMoE-1B-7B-0924": ("OlmoeForCausalLM", {}),
}
