"""Families with layers that hold a recurrence."""

from __future__ import annotations

from dataclasses import replace

import transformers
from family import (
    BOOLS,
    COMMON,
    EPS,
    GATED_GROWTHS,
    LAYERS,
    NORMED,
    PAD,
    POSITIONS,
    VOCAB,
    Family,
    Json,
    Requests,
    Steps,
    gated,
    gated_growths,
    more_options,
    partial_options,
)
from hypothesis import strategies as st

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import HeadAddition, HiddenExpansion
from rows.experts_llama_attention import narrow
from rows.sparse import ALL, EACH, MIXED, ROUTED, SHARED

KIN = True

LINEAR: Json = dict(
    linear_num_key_heads=2,
    linear_num_value_heads=6,
    linear_key_head_dim=5,
    linear_value_head_dim=7,
    linear_conv_kernel_dim=4,
    head_dim=16,
    attention_bias=True,
    rope_parameters={"rope_type": "default", "rope_theta": 300.0, "partial_rotary_factor": 0.5},
)
KINDS = ("linear_attention", "full_attention", "linear_attention")
TAPS: Requests = {"taps": {"taps": 6}}
OF_STATES: Requests = {**TAPS, "state_dim": {"state_dim": 9}}
HEAD: Requests = {**NORMED, **TAPS, "head_dim, a multiple": {"head_dim": 32}}
STATES = {
    "linear_num_value_heads": st.sampled_from([2, 4]),
    "attention_bias": BOOLS,
}


def kinds(draw: st.DrawFn, found: Json, names: tuple[str, ...]) -> Json:
    """Any layers of these kinds, the last of the last one: transformers 5.23 runs no model whose cache has no
    layer of attention (`get_seq_length` of a cache of states alone raises)."""
    n = found["num_hidden_layers"] - 1
    return {
        **found,
        "layer_types": [*draw(st.lists(st.sampled_from(names), min_size=n, max_size=n)), names[-1]],
    }


def delta_options(**choices: st.SearchStrategy[object]):
    def options(draw: st.DrawFn) -> Json:
        found = partial_options(plain=True, **STATES, **choices)(draw)
        return kinds(draw, found, ("linear_attention", "full_attention"))

    return options


TOGETHER = {"head_dim": 32}
QWEN3_NEXT = gated(
    "qwen3_next",
    transformers.Qwen3NextConfig,
    delta_options(**MIXED),
    {**HEAD, **SHARED},
    {**ALL, **TOGETHER, "shared_ffn": "+3"},
    absent=("full_attention_interval",),
    layer_types=list(KINDS),
    num_experts=4,
    num_experts_per_tok=4,
    moe_intermediate_size=11,
    mlp_only_layers=[1],
    shared_expert_intermediate_size=17,
    **LINEAR,
)
QWEN3_5 = replace(
    gated(
        "qwen3_5_text",
        transformers.Qwen3_5TextConfig,
        delta_options(),
        HEAD,
        dict(hidden=75, ffn="x3", heads=15, kv_heads=3, head_dim=32, layers="+2"),
        absent=("full_attention_interval",),
        layer_types=list(KINDS),
        **LINEAR,
    ),
    classes=("Qwen3_5ForCausalLM", "Qwen3_5TextModel"),
)
QWEN3_5_MOE = narrow(
    replace(
        gated(
            "qwen3_5_moe_text",
            transformers.Qwen3_5MoeTextConfig,
            delta_options(**ROUTED),
            {**HEAD, **EACH, "shared_ffn": {"shared_ffn": 20}},
            {**ALL, **TOGETHER, "shared_ffn": "+3"},
            absent=("full_attention_interval",),
            layer_types=list(KINDS),
            num_experts=4,
            num_experts_per_tok=4,
            moe_intermediate_size=11,
            shared_expert_intermediate_size=17,
            **LINEAR,
        ),
        classes=("Qwen3_5MoeForCausalLM", "Qwen3_5MoeTextModel"),
    )
)


def windowed_options(draw: st.DrawFn) -> Json:
    """Layers of all three kinds, the last of them with attention."""
    found = more_options(**STATES, **ROUTED)(draw)
    found = {key: said for key, said in found.items() if key != "first_k_dense_replace"}
    return {**kinds(draw, found, (*WINDOWED[:2], "full_attention")), "sliding_window": 5}


WINDOWED = ("linear_attention", "sliding_attention", "linear_attention", "full_attention")
LARA_MINI = narrow(
    gated(
        "lara_mini",
        transformers.LaraMiniConfig,
        windowed_options,
        {**HEAD, **EACH, "shared_ffn": {"shared_ffn": 20}},
        {**ALL, **TOGETHER, "shared_ffn": "+3"},
        num_hidden_layers=4,
        layer_types=list(WINDOWED),
        sliding_window=5,
        num_experts=4,
        num_experts_per_tok=4,
        moe_intermediate_size=11,
        shared_expert_intermediate_size=17,
        **{**LINEAR, "rope_parameters": {"rope_type": "default", "rope_theta": 300.0}},
    )
)

ROWS: tuple[Family, ...] = (QWEN3_NEXT, QWEN3_5, QWEN3_5_MOE, LARA_MINI)

CONVOLVED = {"mamba_conv_bias": BOOLS, "mamba_proj_bias": BOOLS}


def whole(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Where hidden times a whole number is the width of the states, it doubles or stays."""
    steps = [step for step in gated_growths(draw, anatomy) if not isinstance(step, HiddenExpansion)]
    if "key_dim" in anatomy.layout.refusals:
        steps = [step for step in steps if isinstance(step, HeadAddition)]
    return [*steps, *(HiddenExpansion(n) for n in draw(st.sampled_from([[], ["x2"], ["x2", "x2"]])))]


MAMBA: Json = dict(
    mamba_n_heads=6,
    mamba_n_groups=2,
    mamba_d_head=20,
    mamba_d_state=7,
    mamba_d_conv=4,
    mamba_expand=4,
    mamba_chunk_size=8,
    mamba_proj_bias=True,
    time_step_limit=[0.01, 2.0],
)


def granite_options(draw: st.DrawFn) -> Json:
    found = more_options(
        hidden_size=st.just(30),
        attention_bias=BOOLS,
        num_local_experts=st.sampled_from([0, 2]),
        num_experts_per_tok=st.sampled_from([1, 2]),
        position_embedding_type=st.sampled_from([None, "rope"]),
        num_hidden_layers=st.sampled_from([2, 3]),
        **CONVOLVED,
    )(draw)
    found = kinds(draw, found, ("linear_attention", "full_attention"))
    return {**found, "layer_types": ["linear_attention", *found["layer_types"][1:]]}


GRANITE = gated(
    "granitemoehybrid",
    transformers.GraniteMoeHybridConfig,
    granite_options,
    {"hidden": {"hidden": 60}, "shared_ffn": {"shared_ffn": 20}, **OF_STATES},
    dict(hidden=60, ffn="x3", shared_ffn="+5", heads=15, kv_heads=3, head_dim=20, layers="+2"),
    absent=("head_dim", "position_embedding_type"),
    attention_bias=True,
    attention_multiplier=0.3,
    embedding_multiplier=3.0,
    residual_multiplier=0.4,
    logits_scaling=2.0,
    shared_intermediate_size=17,
    num_local_experts=4,
    num_experts_per_tok=4,
    layer_types=list(KINDS),
    **MAMBA,
)

BAMBA = gated(
    "bamba",
    transformers.BambaConfig,
    more_options(
        hidden_size=st.just(30),
        rope_parameters=st.just({"rope_type": "default", "rope_theta": 300.0}),
        num_hidden_layers=st.sampled_from([2, 3]),
        attn_layer_indices=st.sampled_from([[1], [1, 2]]),
        attention_bias=BOOLS,
        mlp_bias=BOOLS,
        **CONVOLVED,
    ),
    {"hidden": {"hidden": 60}, "head_dim": {}, "head_dim, a multiple": {}, **OF_STATES},
    dict(hidden=60, ffn="x3", heads=15, kv_heads=3, layers="+2"),
    absent=("head_dim", "attn_layer_indices"),
    attention_bias=True,
    mlp_bias=True,
    attn_layer_indices=[1],
    **MAMBA,
)
FALCON_H1 = gated(
    "falcon_h1",
    transformers.FalconH1Config,
    more_options(mamba_rms_norm=BOOLS, mamba_norm_before_gate=BOOLS, projectors_bias=BOOLS, **CONVOLVED),
    OF_STATES,
    absent=("head_dim",),
    attention_bias=True,
    mlp_bias=True,
    mamba_rms_norm=True,
    mamba_d_ssm=120,
    key_multiplier=0.7,
    ssm_out_multiplier=0.6,
    projectors_bias=True,
    ssm_multipliers=[0.5, 0.6, 0.7, 0.8, 0.9],
    **MAMBA,
)
ROWS = (*ROWS, *(replace(row, draws=whole) for row in (GRANITE, BAMBA)), FALCON_H1)

PURE = Family(
    "mamba2",
    transformers.Mamba2Config,
    ("Mamba2ForCausalLM", "Mamba2Model"),
    dict(
        COMMON,
        vocab_size=VOCAB,
        hidden_size=30,
        num_hidden_layers=3,
        expand=4,
        num_heads=6,
        head_dim=20,
        n_groups=2,
        state_size=7,
        chunk_size=8,
        use_bias=True,
        layer_norm_epsilon=1e-2,
        time_step_limit=[0.01, 2.0],
    ),
    {"hidden": {"hidden": 60}, "layers": {"layers": 5}, **OF_STATES},
    dict(hidden=60, layers="+2"),
    lambda draw: dict(
        num_hidden_layers=draw(LAYERS),
        use_bias=draw(BOOLS),
        use_conv_bias=draw(BOOLS),
        layer_norm_epsilon=draw(EPS),
        tie_word_embeddings=draw(BOOLS),
    ),
    lambda draw, _: [HiddenExpansion(n) for n in draw(st.sampled_from([[], ["x2"], ["x2", "x2"]]))],
    unread={"embeddings.weight": [PAD]},
    alone="layers",
)
SPREAD = st.lists(st.sampled_from(["linear_attention", "mlp", "moe"]), max_size=3)
NEMOTRON = Family(
    "nemotron_h",
    transformers.NemotronHConfig,
    ("NemotronHForCausalLM", "NemotronHModel"),
    dict(
        COMMON,
        vocab_size=VOCAB,
        hidden_size=30,
        layers_block_type=["linear_attention", "moe", "full_attention", "mlp"],
        intermediate_size=37,
        moe_intermediate_size=11,
        moe_shared_expert_intermediate_size=17,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=10,
        n_routed_experts=4,
        num_experts_per_tok=4,
        mamba_num_heads=6,
        mamba_head_dim=9,
        n_groups=2,
        ssm_state_size=7,
        chunk_size=8,
        use_bias=True,
        mlp_bias=True,
        mlp_hidden_act="gelu",
        layer_norm_epsilon=1e-2,
        max_position_embeddings=POSITIONS,
    ),
    {**GATED_GROWTHS, **EACH, "shared_ffn": {"shared_ffn": 20}, "layers": {"layers": 6}, **OF_STATES},
    dict(
        hidden=75, ffn="x3", expert_ffn="+5", shared_ffn="+3", heads=15, kv_heads=3, head_dim=20, layers="+2"
    ),
    lambda draw: dict(
        hidden_size=draw(st.sampled_from([15, 18, 25])),
        layers_block_type=[*draw(SPREAD), "full_attention"],
        use_bias=draw(BOOLS),
        use_conv_bias=draw(BOOLS),
        mlp_bias=draw(BOOLS),
        num_experts_per_tok=draw(st.sampled_from([1, 2, 4])),
        norm_topk_prob=draw(BOOLS),
        layer_norm_epsilon=draw(EPS),
        tie_word_embeddings=draw(BOOLS),
    ),
    gated_growths,
    unread={"embeddings.weight": [PAD]},
)
ROWS = (*ROWS, PURE, NEMOTRON)

LFM2 = gated(
    "lfm2",
    transformers.Lfm2Config,
    lambda draw: kinds(
        draw,
        {**more_options(norm_eps=EPS, conv_bias=BOOLS)(draw), "rms_norm_eps": 1e-6},
        ("conv", "full_attention"),
    ),
    {**NORMED, **TAPS},
    absent=("head_dim",),
    layer_types=["conv", "full_attention", "conv"],
    norm_eps=1e-2,
    conv_bias=True,
    block_auto_adjust_ff_dim=False,
)
ROWS = (*ROWS, LFM2)
