"""DINOv3: DINOv2 whose patches are turned by rotary positions."""

from __future__ import annotations

from isogrow.families.dinov2 import DINOV2
from isogrow.families.edits import alter, drop, like, swap
from isogrow.families.rotary_towers import TURNED
from isogrow.families.vit import E
from isogrow.layouts.layout import Bias, Binding, Key, Weight

D = "model.layer.{layers}."
A, M = D + "attention.", D + "mlp."
SAID = Bias("mlp_bias")

STORED = {
    ".{layers}.norm1.weight": "attn_norm",
    ".{layers}.attention.q_proj.weight": "attn.q",
    ".{layers}.attention.k_proj.weight": "attn.k",
    ".{layers}.attention.v_proj.weight": "attn.v",
    ".{layers}.attention.o_proj.weight": "attn.o",
    ".{layers}.layer_scale1.lambda1": "attn.scale",
    ".{layers}.norm2.weight": "mlp_norm",
    ".{layers}.mlp.gate_proj.weight": "mlp.gate",
    ".{layers}.mlp.up_proj.weight": "mlp.up",
    ".{layers}.mlp.down_proj.weight": "mlp.down",
    ".{layers}.layer_scale2.lambda1": "mlp.scale",
}

DINOV3 = like(
    DINOV2,
    "dinov3_vit",
    swap(
        "mask positions",
        Weight(E + "mask_token", "-> 1 1 hidden", "mask", idle="True"),
        Weight(E + "register_tokens", "-> 1 registers hidden", "registers"),
    ),
    alter("embed", name=E + "patch_embeddings.weight"),
    alter("attn_norm", name=D + "norm1.weight"),
    alter("attn.q", name=A + "q_proj.weight", bias=Bias("query_bias")),
    alter("attn.k", name=A + "k_proj.weight", bias=Bias("key_bias")),
    alter("attn.v", name=A + "v_proj.weight", bias=Bias("value_bias")),
    alter("attn.o", name=A + "o_proj.weight", bias=Bias("proj_bias")),
    alter("attn.scale", name=D + "layer_scale1.lambda1"),
    alter("mlp_norm", name=D + "norm2.weight"),
    swap(
        "mlp.up mlp.* mlp.down",
        Weight(M + "gate_proj.weight", "ffn <- hidden", "mlp.gate", bias=SAID, when="use_gated_mlp"),
        Weight(M + "up_proj.weight", "ffn <- hidden", "mlp.up", bias=SAID),
        Weight(M + "down_proj.weight", "hidden <- ffn", "mlp.down", bias=SAID),
    ),
    alter("mlp.scale", name=D + "layer_scale2.lambda1"),
    alter("final_norm", name="norm.weight"),
    drop("classifier"),
    axes={**DINOV2.axes, "ffn": "intermediate_size", "registers": "num_register_tokens"},
    lacks="mlp_ratio qkv_bias use_mask_token use_swiglu_ffn",
    defaults=dict(
        hidden_size=384,
        num_attention_heads=6,
        layer_norm_eps=1e-5,
        num_register_tokens=0,
        query_bias=True,
        key_bias=False,
        value_bias=True,
        proj_bias=True,
        mlp_bias=True,
        use_gated_mlp=False,
    ),
    more=(Key("intermediate_size", "ffn", 1536),),
    prefixes=("",),
    bindings=(Binding("files", {f"layer{place}": slot for place, slot in STORED.items()}),),
    readouts=DINOV2.readouts,
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    refusals={"key_dim": TURNED, "value_dim": TURNED},
    fixed=DINOV2.fixed | {"registers"},
)

LAYOUTS = (DINOV3,)
