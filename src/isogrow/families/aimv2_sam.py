"""Two more towers of images: AIMv2, with RMSNorms and a gated MLP, and SAM's, with windows and positions that
are added to what attention compares."""

from __future__ import annotations

from isogrow.families.dinov3 import SAID
from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.heads import BIAS
from isogrow.families.towers import IDEFICS3_VISION, POOLED
from isogrow.families.vit import VIT
from isogrow.families.vit_mae import ALONE, LEFT
from isogrow.layouts.layout import Bias, Key, Kinds, Norm, Weight

V = "encoder.layers.{layers}."
ROOTED = Norm("rms", "pre", eps="rms_norm_eps")
AIMV2 = like(
    IDEFICS3_VISION,
    "aimv2_vision_model",
    swap(
        "embed positions",
        Weight("embeddings.patch_embed.weight", "hidden <- channels rows columns", "embed", bias=BIAS),
        Weight("embeddings.rms_norm.weight", "* hidden", "embed_norm", Norm("rms", "post", "rms_norm_eps")),
        Weight("embeddings.position_embedding.weight", "places -> hidden", "positions", when="not is_native"),
    ),
    swap(
        "attn_norm",
        Weight(V + "rms_norm1.weight", "* hidden", "attn_norm", ROOTED),
    ),
    *(
        alter(f"attn.{letter}", name=f"{V}attention.{name}_proj.weight", bias=Bias("qkv_bias"))
        for letter, name in (("q", "q"), ("k", "k"), ("v", "v"), ("o", "out"))
    ),
    swap("mlp_norm", Weight(V + "rms_norm2.weight", "* hidden", "mlp_norm", ROOTED)),
    swap(
        "mlp.up mlp.down",
        Weight(V + "ffn.gate_proj.weight", "ffn <- hidden", "mlp.gate", bias=SAID),
        Weight(V + "ffn.up_proj.weight", "ffn <- hidden", "mlp.up", bias=SAID),
        Weight(V + "ffn.down_proj.weight", "hidden <- ffn", "mlp.down", bias=SAID),
    ),
    swap("final_norm", Weight("rms_norm.weight", "* hidden", "final_norm", ROOTED)),
    lacks="layer_norm_eps",
    defaults=dict(
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=24,
        num_attention_heads=8,
        rms_norm_eps=1e-5,
        qkv_bias=False,
        mlp_bias=False,
        is_native=False,
    ),
    carried=("head.", "vision_model.head."),
    refusals={"hidden": POOLED},
)

PATCHES = "vision_encoder.patch_embed.projection.weight"
S = "vision_encoder.layers.{layers}."
WIDE, NARROW = (
    "use_rel_pos and layers in global_attn_indexes",
    "use_rel_pos and layers not in global_attn_indexes",
)
SAM = like(
    VIT,
    "sam_vision_model",
    drop("class mask pooler classifier decoder final_norm"),
    swap(
        "positions",
        Weight("vision_encoder.pos_embed", "1 rows columns -> hidden", "positions", when="use_abs_pos"),
    ),
    alter(
        "embed", name="vision_encoder.patch_embed.projection.weight", pattern="hidden <- channels tall wide"
    ),
    alter("attn_norm", name=S + "layer_norm1.weight"),
    swap(
        "attn.q attn.k attn.v",
        Weight(
            S + "attn.qkv.weight",
            "(q: heads key_dim + k: heads key_dim + v: heads value_dim) <- hidden",
            "attn.*",
            bias=Bias("qkv_bias"),
        ),
    ),
    alter("attn.o", name=S + "attn.proj.weight"),
    after(
        "attn.*",
        *(
            Weight(
                f"{S}attn.rel_pos_{way}",
                f"{axis}_{way} -> key_dim",
                f"attn.{axis}_{way}",
                when=when,
                scales="attn.o",
            )
            for axis, when in (("far", WIDE), ("near", NARROW))
            for way in "hw"
        ),
    ),
    alter("mlp_norm", name=S + "layer_norm2.weight"),
    alter("mlp.up", name=S + "mlp.lin1.weight"),
    alter("mlp.down", name=S + "mlp.lin2.weight"),
    lacks="pooler_output_size intermediate_size",
    defaults=dict(
        layer_norm_eps=1e-6,
        mlp_ratio=4.0,
        use_abs_pos=True,
        use_rel_pos=True,
        global_attn_indexes=(2, 5, 8, 11),
    ),
    more=(Key("mlp_dim", "ffn", "int(hidden_size * mlp_ratio)", null="int(hidden_size * mlp_ratio)"),),
    axes={**ALONE, "ffn": "mlp_dim"},
    kinds=(Kinds("global_attn_indexes", "layers in global_attn_indexes"),),
    prefixes=("",),
    bindings=(),
    carried=("vision_encoder.neck.",),
    refusals={"hidden": "convolutions read the residual: grow ffn or layers instead"},
    fixed=LEFT | {"tall", "wide", *(f"{axis}_{way}" for axis in ("far", "near") for way in "hw")},
)

LAYOUTS = (AIMV2, SAM, like(SAM, "sam_hq_vision_model"))
