"""Towers of images whose patches are turned by rotary positions: MLCD, VideoLLaMA 3's, Pixtral."""

from __future__ import annotations

from isogrow.families.edits import drop, like
from isogrow.families.towers import CLIP_VISION, IDEFICS3_VISION
from isogrow.families.vit import VIT
from isogrow.families.vit_mae import ALONE, LEFT
from isogrow.layouts.layout import Attention, Key, Layout, Norm, Weight

TURNED = (
    "rotary positions of two directions are computed from a head's dim, and no config keeps them for a larger"
    " one: grow ffn or layers instead"
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

LAYOUTS = (MLCD, VIDEO_LLAMA, PIXTRAL)
