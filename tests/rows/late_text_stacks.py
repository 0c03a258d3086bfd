"""Newer decoders and encoders of texts: mixtures with sinks or an indexer, and stacks within wrappers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import transformers
from family import (
    BOOLS,
    NORMED,
    Family,
    Json,
    Steps,
    filled_growths,
    gated,
    gated_growths,
    more_options,
    rope_options,
)
from hypothesis import strategies as st

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import AttentionExpansion, HeadsExpansion
from rows.dense import named
from rows.mlp_layer_types import KINDS, listed
from rows.rescaled_llama import GRANITE
from rows.sparse import ALL as TOGETHER
from rows.sparse import DEEPSEEK_V3, EXPERTS, LATENT, MIXED, QWEN, SHARED, latent_growths, latent_options
from rows.wrapped_language_models import FILLED, RUNS, THIRDS, WHOLE, free, one, sections, whole

KIN = True

SPARSE: Json = {"num_local_experts": st.sampled_from([2, 4]), "num_experts_per_tok": st.sampled_from([1, 2])}


def tables(options: Callable[[st.DrawFn], Json], *empty: str) -> Callable[[st.DrawFn], Json]:
    """The same with a rotary table for each kind of layer, of which one may be `empty`."""

    def drawn(draw: st.DrawFn) -> Json:
        found = options(draw)
        kinds = ("full_attention", "sliding_attention")
        ropes: Json = {kind: rope_options(draw, 4, ("default", "linear")) for kind in kinds}
        count = found["num_hidden_layers"]
        types = draw(st.lists(st.sampled_from(kinds), min_size=count, max_size=count))
        return {**found, "rope_parameters": ropes, "layer_types": types, "sliding_window": 5}

    return drawn


ROPES: Json = {
    "full_attention": {"rope_type": "default", "rope_theta": 300.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 70.0},
}
LOCAL: Json = dict(layer_types=["full_attention", "sliding_attention", "full_attention"], sliding_window=5)
READ = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
UNTURNED = {"head_dim": {}, "head_dim, a multiple": {}}
# Their heads keep their number and their dims.
NARROW = {**UNTURNED, "heads": {}, "kv_heads": {}, "heads and kv_heads": {}}


def indexed(options: Callable[[st.DrawFn], Json]) -> Callable[[st.DrawFn], Json]:
    """The same, and in which layers an indexer chooses what is read."""

    def drawn(draw: st.DrawFn) -> Json:
        found = options(draw)
        count = found["num_hidden_layers"]
        kinds = st.sampled_from(["full_attention", "minimax_m3_sparse"])
        named = st.lists(kinds, min_size=count, max_size=count)
        return {**found, "layer_types": draw(st.one_of(st.none(), named)), "index_n_heads": 1}

    return drawn


def divided(options: Callable[[st.DrawFn], Json]) -> Callable[[st.DrawFn], Json]:
    """The same with a width that heads divide."""

    def drawn(draw: st.DrawFn) -> Json:
        found = options(draw)
        return {**found, "hidden_size": found["num_attention_heads"] * draw(st.sampled_from([3, 5]))}

    return drawn


def unturned(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """The growths without those of a head's dims."""
    turned = (AttentionExpansion, HeadsExpansion)
    return [step for step in gated_growths(draw, anatomy) if not isinstance(step, turned)]


def bias(*names: str) -> dict[str, st.SearchStrategy[bool]]:
    return dict.fromkeys(names, BOOLS)


BOTH = bias("attention_bias", "mlp_bias")
BIASED: Json = dict(attention_bias=True, mlp_bias=True)


def filled(row: Family) -> Family:
    """The row of a class whose heads fill the width."""
    sizes = {key: said for key, said in row.sizes.items() if key != "head_dim"}
    return replace(row, sizes={**sizes, "hidden_size": 48}, draws=filled_growths)


def compass(draw: st.DrawFn) -> Json:
    """Layers without a window have no positions; heads fill the width."""
    found = named("layer_norm_eps", more_options(attention_bias=BOOLS))(draw)
    heads, pairs = found["num_attention_heads"], 4
    kinds = ("full_attention", "sliding_attention")
    types = st.lists(
        st.sampled_from(kinds), min_size=found["num_hidden_layers"], max_size=found["num_hidden_layers"]
    )
    found = {key: said for key, said in found.items() if key != "head_dim"}
    tables: Json = {"full_attention": None, "sliding_attention": sections(draw, pairs, "default", "linear")}
    own = {"hidden_size": heads * 8, "rope_parameters": tables, "layer_types": draw(types)}
    return {**found, **own, "sliding_window": 5}


COMPASS = filled(
    gated(
        "cohere_compass_text",
        transformers.CohereCompassTextConfig,
        compass,
        {**FILLED, **UNTURNED},
        {key: said for key, said in WHOLE.items() if key != "head_dim"} | {"hidden": 120},
        attention_bias=True,
        rope_parameters={"full_attention": None, "sliding_attention": RUNS},
        said={
            "rope_parameters": {"full_attention": None, "sliding_attention": RUNS}
        },  # the class can't be built without
        **LOCAL,
    )
)
COMPASS = replace(
    COMPASS,
    classes=(
        "CohereCompassForCausalLM",
        "CohereCompassTextModel",
        "CohereCompassTextForSequenceClassification",
    ),
    sizes={"layer_norm_eps" if key == "rms_norm_eps" else key: said for key, said in COMPASS.sizes.items()},
    draws=lambda draw, anatomy: [],
    dated=False,  # an old config.json has no table for each kind of layer
)

ROWS = (
    gated(
        "openai_privacy_filter",
        transformers.OpenAIPrivacyFilterConfig,
        more_options(
            **SPARSE,
            attention_bias=BOOLS,
            swiglu_limit=st.sampled_from([0.3, 7.0]),
            sliding_window=st.just(5),
        ),
        sliding_window=5,
        rope_parameters={"rope_type": "default", "rope_theta": 300.0},
        **EXPERTS,
    ),
    gated(
        "flint",
        transformers.FlintConfig,
        more_options(**MIXED, attention_bias=BOOLS, sliding_window=st.just(5)),
        {**NORMED, **SHARED},
        {**TOGETHER, "shared_ffn": "+3"},
        attention_bias=True,
        sliding_window=5,
        shared_expert_intermediate_size=17,
        **QWEN,
    ),
    replace(
        gated(
            "minimax_m3_vl_text",
            transformers.MiniMaxM3VLTextConfig,
            indexed(listed(more_options(**SPARSE))),
            {**NARROW, **SHARED},
            dict(hidden=75, ffn="x3", expert_ffn="+5", shared_ffn="+3", layers="+2"),
            intermediate_size=11,
            dense_intermediate_size=37,
            shared_intermediate_size=17,
            mlp_layer_types=KINDS,
            layer_types=["full_attention", "minimax_m3_sparse", "minimax_m3_sparse"],
            index_n_heads=2,
            index_head_dim=8,
            index_block_size=2,
            index_topk_blocks=2,
            **EXPERTS,
        ),
        classes=("MiniMaxM3VLForCausalLM", "MiniMaxM3VLTextModel"),
        draws=lambda draw, anatomy: [],
    ),
    replace(
        filled(
            gated(
                "granite_docling_text",
                transformers.GraniteDoclingTextConfig,
                whole,
                FILLED,
                WHOLE,
                rope_parameters={"rope_type": "default", "rope_theta": 300.0},
                **GRANITE,
                **BIASED,
            )
        ),
        classes=("GraniteDoclingTextModel",),
    ),
    replace(
        one(
            gated(
                "cosmos3_edge_text",
                transformers.Cosmos3EdgeTextConfig,
                divided(free("default", **BOTH)),
                UNTURNED,
                {key: said for key, said in WHOLE.items() if key != "head_dim"},
                rope_parameters=THIRDS,
                hidden_act="gelu",  # of a ReLU's units some sleep, and get no gradient
                **BIASED,
            ),
            "Cosmos3EdgeTextModel",
        ),
        draws=unturned,
    ),
    replace(
        gated(
            "ultrabert",
            transformers.UltrabertConfig,
            divided(tables(more_options(**BOTH))),
            rope_parameters=ROPES,
            prediction_head_size=19,
            **BIASED,
            **LOCAL,
        ),
        classes=tuple(f"Ultrabert{head}" for head in ("ForMaskedLM", "Model", *READ)),
        dated=False,
    ),
    COMPASS,
)


def yarn(factor: float) -> Json:
    """A table; a new one each time, since the class writes into it."""
    scaled = {"rope_type": "yarn", "rope_theta": 300.0, "factor": factor, "beta_fast": 8.0, "beta_slow": 2.0}
    sizes = {"original_max_position_embeddings": 8, "llama_4_scaling_beta": 0.1}
    return {**scaled, **sizes, "mscale": 1.0, "mscale_all_dim": 1.0}


def scaled(draw: st.DrawFn) -> Json:
    """Latent attention whose queries are scaled by their positions."""
    return {**latent_options(draw), "rope_parameters": yarn(draw(st.sampled_from([2.0, 8.0])))}


KEPT = ("key_dim", "key_dim and value_dim")
MISTRAL4 = replace(
    DEEPSEEK_V3,
    name="mistral4",
    config=transformers.Mistral4Config,
    classes=tuple(f"Mistral4{head}" for head in ("ForCausalLM", "Model", *READ[:2])),
    sizes={**LATENT, "rope_parameters": yarn(4.0)},
    growths={axis: said for axis, said in DEEPSEEK_V3.growths.items() if axis not in KEPT},
    together={axis: said for axis, said in DEEPSEEK_V3.together.items() if axis != "key_dim"},
    options=scaled,
    draws=lambda draw, anatomy: [
        step for step in latent_growths(draw, anatomy) if not isinstance(step, AttentionExpansion)
    ],
    dated=False,
)
ROWS = (*ROWS, MISTRAL4)


def windows(draw: st.DrawFn) -> Json:
    """Windows in some layers, and positions in some, as lists say or the class does."""
    found = divided(more_options(attention_bias=BOOLS))(draw)
    rope: Json = {"rope_type": "default", "rope_theta": 300.0}
    return {
        **found,
        "rope_parameters": rope,
        "sliding_window": 5,
        "layer_types": None,
        "layer_rope_theta": None,
    }


MUSE = replace(
    gated(
        "muse_glimmer_text",
        transformers.MuseGlimmerTextConfig,
        windows,
        UNTURNED,
        {key: said for key, said in WHOLE.items() if key != "head_dim"},
        attention_bias=True,
        post_norm_eps=1e-2,
        layer_rope_theta=[0, 300.0, 300.0],
        rope_parameters={"rope_type": "default", "rope_theta": 300.0},
        **LOCAL,
    ),
    classes=("MuseGlimmerTextModel",),
    draws=unturned,
)
ROWS = (*ROWS, MUSE)
