"""More of ViT's kin: what is masked (ViT-MAE, VideoMAE, BEiT), what turns its patches by rotary positions
(DINOv3, MLCD, Pixtral, VideoLLaMA 3), and towers of wrappers (InternVL)."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.bart import SINES
from isogrow.families.dinov2 import DINOV2
from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.heads import BIAS, head
from isogrow.families.towers import CLIP_VISION, IDEFICS3_VISION
from isogrow.families.vit import FILES, VIT, E
from isogrow.layouts.layout import Attention, Bias, Binding, Key, Layout, Norm, Weight

TURNED = (
    "rotary positions of two directions are computed from a head's dim, and no config keeps them for a larger"
    " one: grow ffn or layers instead"
)
BEFORE = "encoder.layer.{layers}."
ALONE = {axis: said for axis, said in VIT.axes.items() if axis != "pooled"}
LEFT = VIT.fixed - {"pooled"}
PLACES = VIT.bindings[0].places
NORMS = {FILES + "layernorm_before.weight": "norm1.weight", FILES + "layernorm_after.weight": "norm2.weight"}

VIT_MAE = like(
    VIT,
    "vit_mae",
    drop("mask pooler classifier"),
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

# Its files have the biases of queries and values under names of their own.
MEAN, CLASS = "use_mean_pooling", "not use_mean_pooling"
READ = Bias("qv_bias")
POOLED_NORM = Norm("layer", "pre", 1e-5)
VIDEOMAE = like(
    VIT,
    "videomae",
    drop("class mask positions pooler decoder"),
    alter("embed", pattern="hidden <- channels frames rows columns"),
    alter("attn_norm", name=BEFORE + "layernorm_before.weight"),
    alter("attn.q", name=BEFORE + "attention.attention.query.weight", bias=READ),
    alter("attn.k", name=BEFORE + "attention.attention.key.weight", bias=None),
    alter("attn.v", name=BEFORE + "attention.attention.value.weight", bias=READ),
    alter("attn.o", name=BEFORE + "attention.output.dense.weight"),
    alter("mlp_norm", name=BEFORE + "layernorm_after.weight"),
    alter("mlp.up", name=BEFORE + "intermediate.dense.weight"),
    alter("mlp.down", name=BEFORE + "output.dense.weight"),
    alter("final_norm", when=CLASS),
    after(
        "final_norm",
        head(
            "fc_norm.weight", "* hidden", "pooled_norm", norm=Norm("layer", "pre", 1e-5), bias=BIAS, when=MEAN
        ),
    ),
    lacks="pooler_output_size qkv_bias",
    defaults=dict(qv_bias=True, use_mean_pooling=True),
    axes=ALONE,
    prefixes=("videomae.", ""),
    bindings=(
        Binding(
            "files",
            {
                BEFORE + "attention.attention.q_bias": ("attn.q.bias", "-> (heads key_dim)"),
                BEFORE + "attention.attention.v_bias": ("attn.v.bias", "-> (heads value_dim)"),
            },
        ),
    ),
    refusals={"hidden": SINES},
    fixed=LEFT | {"frames"},
)

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

MLCD = like(
    CLIP_VISION,
    "mlcd_vision_model",
    drop("positions project"),
    lacks="projection_dim",
    defaults=dict(hidden_size=1664, intermediate_size=8192, num_hidden_layers=48, num_attention_heads=16),
    axes={axis: said for axis, said in CLIP_VISION.axes.items() if axis != "shared"},
    carried=("class_pos_emb", "vision_model.class_pos_emb"),
    refusals={"key_dim": TURNED, "value_dim": TURNED},
)
VIDEO_LLAMA = like(
    IDEFICS3_VISION,
    "video_llama_3_vision",
    drop("positions"),
    defaults=dict(hidden_size=768, num_attention_heads=12),
    refusals={"hidden": TURNED},
)

P = "transformer.layers.{layers}."
PIXTRAL = Layout(
    family="pixtral",
    model_types=("pixtral",),
    weights=(
        Weight("patch_conv.weight", "hidden <- channels rows columns", "embed"),
        Weight("ln_pre.weight", "* hidden", "embed_norm", Norm("rms", "post", 1e-5)),
        Weight(P + "attention_norm.weight", "* hidden", "attn_norm", Norm("rms", "pre", 1e-5)),
        Weight(P + "attention.q_proj.weight", "(heads key_dim) <- hidden", "attn.q"),
        Weight(P + "attention.k_proj.weight", "(heads key_dim) <- hidden", "attn.k"),
        Weight(P + "attention.v_proj.weight", "(heads value_dim) <- hidden", "attn.v"),
        Weight(P + "attention.o_proj.weight", "hidden <- (heads value_dim)", "attn.o"),
        Weight(P + "ffn_norm.weight", "* hidden", "mlp_norm", Norm("rms", "pre", 1e-5)),
        Weight(P + "feed_forward.gate_proj.weight", "ffn <- hidden", "mlp.gate"),
        Weight(P + "feed_forward.up_proj.weight", "ffn <- hidden", "mlp.up"),
        Weight(P + "feed_forward.down_proj.weight", "hidden <- ffn", "mlp.down"),
    ),
    axes=ALONE,
    keys=(
        Key("hidden_size", "hidden", 1024),
        Key("intermediate_size", "ffn", 4096),
        Key("num_channels", default=3),
        Key("num_attention_heads", "heads", 16),
        Key("num_hidden_layers", "layers", 24),
    ),
    prefixes=("vision_encoder.", ""),
    streams=VIDEO_LLAMA.streams,
    attentions=(Attention(),),
    constraints=VIT.constraints,
    refusals={"hidden": TURNED},
    fixed=LEFT,
)

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

LAYOUTS = (
    VIT_MAE,
    PIXIO,
    VIDEOMAE,
    BEIT,
    DINOV3,
    MLCD,
    VIDEO_LLAMA,
    PIXTRAL,
    INTERN,
    QIANFAN,
)
