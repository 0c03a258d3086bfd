"""Mixtures whose config lists by name which layers are dense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import transformers
from family import BOOLS, NORMED, Json, gated, more_options, rope_options
from hypothesis import strategies as st

from rows.experts_llama_attention import ALL, EACH
from rows.sparse import DEEPSEEK_V3, LATENT, latent_options

KIN = True

LISTED = {key: said for key, said in LATENT.items() if key != "first_k_dense_replace"}


def listed(options: Callable[[st.DrawFn], Json]) -> Callable[[st.DrawFn], Json]:
    """The same, and which layers are dense: by the class, or by a list."""

    def drawn(draw: st.DrawFn) -> Json:
        found = options(draw)
        found.pop("first_k_dense_replace", None)
        count = found["num_hidden_layers"]
        named = st.lists(st.sampled_from(["dense", "sparse"]), min_size=count, max_size=count)
        return {**found, "mlp_layer_types": draw(st.one_of(st.none(), named))}

    return drawn


def always(options: Callable[[st.DrawFn], Json]) -> Callable[[st.DrawFn], Json]:
    """The same where queries always go through a latent."""
    return lambda draw: {**options(draw), "q_lora_rank": 13}


LATENT_KIN = replace(
    DEEPSEEK_V3,
    name="glm4_moe_lite",
    config=transformers.Glm4MoeLiteConfig,
    classes=("Glm4MoeLiteForCausalLM", "Glm4MoeLiteModel"),
    sizes={**LISTED, "mlp_layer_types": ["sparse", "dense", "sparse"]},
    options=listed(latent_options),
)
AXK1 = replace(
    LATENT_KIN,
    name="axk1",
    config=transformers.AXK1Config,
    classes=("AXK1ForCausalLM", "AXK1Model", "AXK1ForSequenceClassification", "AXK1ForTokenClassification"),
    options=always(listed(latent_options)),
    absent=frozenset({"first_k_dense_replace", "moe_layer_freq"}),
)
SPREAD = {"num_experts": st.sampled_from([2, 4]), "num_experts_per_tok": st.sampled_from([1, 2])}
EXPERTS: Json = dict(num_experts=4, num_experts_per_tok=4, moe_intermediate_size=11)
KINDS = ["sparse", "dense", "sparse"]
SHARED = st.sampled_from([1, 2])


def two_tables(draw: st.DrawFn) -> Json:
    """A rotary table for each kind of layers, or the class's own."""
    found = more_options(**SPREAD, attention_bias=BOOLS, norm_topk_prob=BOOLS, sliding_window=st.just(5))(
        draw
    )
    layers, pairs = found["num_hidden_layers"], found["head_dim"] // 2
    kinds = st.sampled_from(["full_attention", "sliding_attention"])
    tables = {kind: rope_options(draw, pairs) for kind in ("full_attention", "sliding_attention")}
    named = draw(st.lists(kinds, min_size=layers, max_size=layers))
    return {**found, "layer_types": named, "rope_parameters": draw(st.sampled_from([tables, None]))}


ROWS = (
    LATENT_KIN,
    AXK1,
    gated(
        "hy_v3",
        transformers.HYV3Config,
        listed(more_options(**SPREAD, attention_bias=BOOLS, mlp_bias=BOOLS, num_shared_experts=SHARED)),
        {**NORMED, **EACH},
        ALL,
        attention_bias=True,
        mlp_bias=True,
        num_shared_experts=5,
        mlp_layer_types=KINDS,
        **EXPERTS,
    ),
    gated(
        "exaone_moe",
        transformers.ExaoneMoeConfig,
        listed(
            more_options(
                **SPREAD,
                num_shared_experts=SHARED,
                norm_topk_prob=BOOLS,
                sliding_window=st.just(5),
                sliding_window_pattern=st.sampled_from([2, 4]),
            )
        ),
        {**NORMED, **EACH},
        ALL,
        num_shared_experts=5,
        sliding_window=5,
        sliding_window_pattern=2,
        mlp_layer_types=KINDS,
        absent=("head_dim",),
        **EXPERTS,
    ),
    replace(
        gated(
            "mellum",
            transformers.MellumConfig,
            listed(two_tables),
            {**NORMED, **EACH},
            ALL,
            attention_bias=True,
            mlp_layer_types=KINDS,
            layer_types=["full_attention", "sliding_attention", "full_attention"],
            sliding_window=5,
            **EXPERTS,
        ),
        dated=False,
    ),
    gated(
        "cohere2_moe",
        transformers.Cohere2MoeConfig,
        listed(
            more_options(
                **SPREAD,
                attention_bias=BOOLS,
                num_shared_experts=st.sampled_from([0, 2]),
                norm_topk_prob=BOOLS,
                rms_norm_eps=st.sampled_from([None, 1e-2]),
                layer_norm_eps=st.sampled_from([1e-6, 1e-2]),
                expert_selection_fn=st.sampled_from(["softmax", "sigmoid"]),
                prefix_dense_intermediate_size=st.sampled_from([None, 19]),
                prefix_dense_sliding_window_pattern=st.sampled_from([1, 2]),
                sliding_window=st.just(5),
                sliding_window_pattern=st.sampled_from([2, 4]),
            )
        ),
        EACH,
        ALL,
        num_experts=4,
        num_experts_per_tok=4,
        intermediate_size=11,
        prefix_dense_intermediate_size=37,
        num_shared_experts=5,
        attention_bias=True,
        sliding_window=5,
        mlp_layer_types=KINDS,
        absent=("first_k_dense_replace", "rms_norm_eps", "prefix_dense_intermediate_size"),
    ),
    gated(
        "ernie4_5_moe",
        transformers.Ernie4_5_MoeConfig,
        more_options(
            use_bias=BOOLS,
            moe_num_experts=st.sampled_from([2, 4]),
            moe_k=st.sampled_from([1, 2]),
            moe_num_shared_experts=st.sampled_from([0, 2]),
            moe_layer_start_index=st.sampled_from([0, 1]),
            num_hidden_layers=st.sampled_from([2, 3]),
        ),
        EACH,
        ALL,
        use_bias=True,
        moe_num_experts=4,
        moe_k=4,
        moe_num_shared_experts=5,
        moe_intermediate_size=11,
        absent=("head_dim",),
    ),
)
