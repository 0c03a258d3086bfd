"""InternVL's tower and Qianfan's: ViT with norms of either kind, on queries and keys too; scaled branches."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.beit import L
from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.heads import BIAS
from isogrow.families.videomae import CLASS
from isogrow.families.vit import VIT
from isogrow.families.vit_mae import ALONE, BEFORE, LEFT
from isogrow.layouts.layout import Bias, Norm, Weight

LAYER, ROOT = "norm_type == 'layer_norm'", "norm_type == 'rms_norm'"
RMS = Norm("rms", "pre", eps="layer_norm_eps")


def _either(name: str, slot: str) -> tuple[Weight, Weight]:
    """A norm of the kind that the config says."""
    return (
        Weight(name, "* hidden", slot, VIT.weights[4].norm, BIAS, when=LAYER),
        Weight(name, "* hidden", f"{slot}.rms", RMS, when=ROOT),
    )


def _whole(letter: str) -> Weight:
    """A norm over all heads' queries, or keys."""
    norm = Norm("rms", "inner", 1e-6, of=f"attn.{letter}")
    name = f"{BEFORE}attention.{letter}_norm.weight"
    return Weight(name, "* (heads key_dim)", f"attn.{letter}_norm", norm, when="use_qk_norm")


INTERN = like(
    VIT,
    "internvl_vision",
    alter("mask", when="use_mask_token"),
    alter("positions", when="use_absolute_position_embeddings"),
    swap("attn_norm", *_either(BEFORE + "layernorm_before.weight", "attn_norm")),
    *(
        alter(f"attn.{letter}", name=f"{BEFORE}attention.{letter}_proj.weight", bias=Bias("attention_bias"))
        for letter in "qkv"
    ),
    after("attn.k", _whole("q"), _whole("k")),
    alter("attn.o", name=BEFORE + "attention.projection_layer.weight"),
    after("attn.o", Weight(BEFORE + "lambda_1", "* hidden", "attn.scale", gates="attn.o")),
    swap("mlp_norm", *_either(BEFORE + "layernorm_after.weight", "mlp_norm")),
    alter("mlp.up", name=BEFORE + "mlp.fc1.weight"),
    alter("mlp.down", name=BEFORE + "mlp.fc2.weight"),
    after("mlp.down", Weight(BEFORE + "lambda_2", "* hidden", "mlp.scale", gates="mlp.down")),
    alter("final_norm", when=CLASS),
    drop("pooler classifier decoder"),
    lacks="pooler_output_size qkv_bias",
    defaults=dict(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        layer_norm_eps=1e-6,
        norm_type="'layer_norm'",
        attention_bias=False,
        use_qk_norm=False,
        use_mask_token=False,
        use_absolute_position_embeddings=True,
        use_mean_pooling=True,
    ),
    axes=ALONE,
    prefixes=("",),
    bindings=(),
    refusals={"hidden": "its output is the residual itself: grow ffn or layers instead"},
    fixed=LEFT,
)

# The same layers under a shorter name.
QIANFAN = like(
    INTERN,
    "qianfan_ocr_vision",
    weights=tuple(replace(row, name=row.name.replace(BEFORE, L)) for row in INTERN.weights),
    defaults=dict(attention_bias=True),
)

LAYOUTS = (INTERN, QIANFAN)
