"""BEiT: ViT with tables of relative positions, and scales on each branch."""

from __future__ import annotations

from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.heads import BIAS
from isogrow.families.videomae import CLASS, MEAN
from isogrow.families.vit import FILES, VIT
from isogrow.families.vit_mae import ALONE, LEFT, PLACES
from isogrow.layouts.layout import Attention, Binding, Weight

TABLE = "relative_position_bias.relative_position_bias_table"
SCALED = "layer_scale_init_value > 0"
L = "layers.{layers}."

BEIT = like(
    VIT,
    "beit",
    alter("mask", when="use_mask_token"),
    alter("positions", when="use_absolute_position_embeddings"),
    alter("attn.q attn.v", bias=BIAS),
    alter("attn.k", bias=None),
    after(
        "attn.v",
        Weight(
            L + TABLE,
            "distances -> heads",
            "attn.table",
            when="use_relative_position_bias",
        ),
    ),
    after("attn.o", Weight(L + "lambda_1", "* hidden", "attn.scale", gates="attn.o", when=SCALED)),
    after("mlp.down", Weight(L + "lambda_2", "* hidden", "mlp.scale", gates="mlp.down", when=SCALED)),
    alter("final_norm", when=CLASS),
    drop("decoder"),
    swap(
        "pooler",
        Weight(
            "pooler.layernorm.weight", "* hidden", "pooler_norm", VIT.weights[4].norm, BIAS, False, when=MEAN
        ),
    ),
    lacks="pooler_output_size qkv_bias",
    defaults=dict(
        use_mask_token=False,
        use_absolute_position_embeddings=False,
        use_relative_position_bias=False,
        use_shared_relative_position_bias=False,
        layer_scale_init_value=0.1,
        use_mean_pooling=True,
    ),
    axes=ALONE,
    attentions=(Attention(bias="attn.table"),),
    constraints=(*VIT.constraints, "not use_shared_relative_position_bias"),
    prefixes=("beit.", ""),
    bindings=(
        Binding(
            "files",
            {
                **PLACES,
                FILES
                + "attention.attention.relative_position_bias.relative_position_bias_table": "attn.table",
                FILES + "lambda_1": "attn.scale",
                FILES + "lambda_2": "mlp.scale",
            },
        ),
    ),
    refusals={
        "hidden": "its outputs are the residual itself, or a norm of its mean: grow ffn or layers instead"
    },
    fixed=LEFT | {"distances"},
)

LAYOUTS = (BEIT,)
