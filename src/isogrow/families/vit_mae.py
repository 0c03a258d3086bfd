"""ViT-MAE and Pixio: ViT of which most patches are masked, and a decoder that is carried along."""

from __future__ import annotations

from isogrow.families.edits import alter, drop, like, swap
from isogrow.families.heads import BIAS, head
from isogrow.families.vit import FILES, VIT
from isogrow.layouts.layout import Binding, Key

BEFORE = "encoder.layer.{layers}."
ALONE = {axis: said for axis, said in VIT.axes.items() if axis != "pooled"}
LEFT = VIT.fixed - {"pooled"}
PLACES = VIT.bindings[0].places
NORMS = {FILES + "layernorm_before.weight": "norm1.weight", FILES + "layernorm_after.weight": "norm2.weight"}

VIT_MAE = like(
    VIT,
    "vit_mae",
    drop("mask pooler classifier"),
    alter("positions", idle="True"),  # sines at first, which the class freezes
    swap("decoder", head("decoder.decoder_embed.weight", "inner <- hidden", "decoder", bias=BIAS)),
    lacks="pooler_output_size",
    axes=ALONE,
    prefixes=("vit.", ""),
    carried=("decoder.",),
    fixed=LEFT | {"inner"},
)

PIXIO = like(
    VIT,
    "pixio",
    alter("class", pattern="-> 1 classes hidden"),
    drop("mask pooler classifier decoder"),
    lacks="pooler_output_size intermediate_size",
    defaults=dict(hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, layer_norm_eps=1e-6),
    more=(Key("mlp_ratio", "ffn // hidden", 4),),
    axes={**ALONE, "ffn": "hidden_size * mlp_ratio"},
    constraints=(*VIT.constraints, "ffn % hidden == 0"),
    prefixes=("pixio.", ""),
    bindings=(
        Binding("files", {FILES + NORMS[at] if at in NORMS else at: slot for at, slot in PLACES.items()}),
    ),
    fixed=LEFT | {"classes"},
)

LAYOUTS = (VIT_MAE, PIXIO)
