"""Language models within newer wrappers of images: Granite Docling's, Cosmos 3 Edge's and Cohere Compass's;
and UltraBERT, Llama that reads both ways with a rotary table for each kind of layer."""

from __future__ import annotations

from typing import Any

from isogrow.families.cohere2 import COHERE2
from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.granite import GRANITE
from isogrow.families.heads import TAG, head
from isogrow.families.llama import ATTENTION, LLAMA, MLP, M
from isogrow.families.mellum import rope
from isogrow.families.multimodal_rope import DIVIDED, FILLING, OLD
from isogrow.layouts.layout import Attention, Bias, PerLayer, Rename, Rope, Weight

SAID, INNER = Bias("attention_bias"), Bias("mlp_bias")
PLAIN = dict(attention_bias=False, mlp_bias=False)

GRANITE_DOCLING = like(
    GRANITE,
    "granite_docling_text",
    alter(ATTENTION, bias=SAID),
    alter(MLP, bias=INNER),
    drop("score span"),
    lacks="head_dim",
    axes=DIVIDED,
    defaults=dict(
        vocab_size=133800,
        hidden_size=1024,
        intermediate_size=2048,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=4,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        attention_multiplier=0.015625,
        **PLAIN,
    ),
    constraints=FILLING,
)

THIRDS: dict[str, Any] = {"grids": "interleaved", "sections": (24, 20, 20)}
SECTIONS = (
    "its config says how many pairs of a head turn by each of three positions, which are all of them: grow"
    " heads, ffn or hidden instead"
)
COSMOS3_EDGE = like(
    LLAMA,
    "cosmos3_edge_text",
    alter(ATTENTION, bias=SAID),
    swap(
        MLP,
        Weight(M + "fc1.weight", "ffn <- hidden", "mlp.up", bias=INNER),
        Weight(M + "fc2.weight", "hidden <- ffn", "mlp.down", bias=INNER),
    ),
    drop("head score span"),
    defaults=dict(
        vocab_size=131072,
        hidden_size=2048,
        intermediate_size=9216,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        rms_norm_eps=1e-5,
        **PLAIN,
    ),
    attentions=(Attention(rope=Rope(default=1e8, aliases=OLD, **THIRDS)),),
    refusals={"key_dim": SECTIONS, "value_dim": SECTIONS},
)

ULTRABERT = like(
    LLAMA,
    "ultrabert",
    alter(ATTENTION, bias=SAID),
    alter(MLP, bias=INNER),
    swap(
        "head",
        head("head.linear1.weight", "predicted <- hidden", "head.up"),
        head("head.linear2.weight", "transform <- predicted", "head.down", clamp="True"),
        head("head.decoder.weight", "vocab <- transform", "decoder", tied="embed"),
    ),
    after("score", TAG),
    axes={**LLAMA.axes, "predicted": "prediction_head_size", "transform": "hidden_size"},
    defaults=dict(prediction_head_size=768, **PLAIN),
    attentions=(Attention(rope=rope("full", 2560000.0, rope("sliding", 10000.0))),),
    per_layer=(PerLayer("layer_types", "'sliding_attention' if (i + 1) % 3 else 'full_attention'"),),
    follows={"transform": "hidden"},
    fixed=LLAMA.fixed | {"predicted"},
    # As its files name them.
    prefixes=("model.", "ultrabert.", ""),
    renames=(Rename("cls.", "head.decoder."),),
)

TABLES = "its config says how many pairs of a head turn by each position: grow heads and hidden instead"
COMPASS = like(
    COHERE2,
    "cohere_compass_text",
    after("head", head("score.weight", "labels <- hidden", "score")),
    lacks="sliding_window_pattern head_dim",
    axes=DIVIDED,
    attentions=(
        Attention(
            rope=rope("full", 10000.0, rope("sliding", 10000.0, **THIRDS), everywhere=False, **THIRDS),
        ),
    ),
    per_layer=(PerLayer("layer_types", "'full_attention'"),),
    constraints=FILLING,
    refusals={"key_dim": TABLES, "value_dim": TABLES},
)

LAYOUTS = (GRANITE_DOCLING, COSMOS3_EDGE, ULTRABERT, COMPASS)
