"""Towers that take images and videos as patches in a grid: Qwen2-VL's, Qwen3-VL's, GLM-OCR's and their kin.
What merges neighbouring patches reads several of them at once, as wide as they are together, so that the
width stays."""

from __future__ import annotations

from typing import Any

from isogrow.families.edits import Edit, after, alter, drop, like, swap
from isogrow.families.heads import BIAS
from isogrow.layouts.layout import Attention, Bias, Key, Kinds, Layout, Norm, Readout, Stream, Weight

SHOWN = (
    "it shows the residual itself beside what is merged of it, and what it shows would be scaled: grow ffn or"
    " layers instead"
)
MERGED = (
    "what merges neighbouring patches normalises them together, over all of their channels: grow ffn or"
    " layers instead"
)
TURNED = (
    "rotary positions of two directions are computed from a head's dim, and no config keeps them for a larger"
    " one: grow heads with hidden, ffn or layers instead"
)
B = "blocks.{layers}."
RMS, LAYER = (Norm(kind, "pre", eps=1e-6) for kind in ("rms", "layer"))
QKV = "(q: heads key_dim + k: heads key_dim + v: heads value_dim)"
FIXED = frozenset({"channels", "frames", "rows", "columns", "places"})


def gated(bias: Bias | None = BIAS) -> tuple[Weight, ...]:
    """An MLP with a gate."""
    return (
        Weight(B + "mlp.gate_proj.weight", "ffn <- hidden", "mlp.gate", bias=bias),
        Weight(B + "mlp.up_proj.weight", "ffn <- hidden", "mlp.up", bias=bias),
        Weight(B + "mlp.down_proj.weight", "hidden <- ffn", "mlp.down", bias=bias),
    )


def plain(first: str, second: str) -> tuple[Weight, ...]:
    """An MLP without one."""
    return (
        Weight(f"{B}mlp.{first}.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(f"{B}mlp.{second}.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
    )


MLP = "mlp.gate mlp.up mlp.down"
GRIDDED = Layout(
    family="qwen2_5_vl_vision",
    model_types=("qwen2_5_vl_vision",),
    weights=(
        Weight("patch_embed.proj.weight", "hidden <- channels frames rows columns", "embed"),
        Weight(B + "norm1.weight", "* hidden", "attn_norm", RMS),
        Weight(B + "attn.qkv.weight", f"{QKV} <- hidden", "attn.*", bias=BIAS),
        Weight(B + "attn.proj.weight", "hidden <- (heads value_dim)", "attn.o", bias=BIAS),
        Weight(B + "norm2.weight", "* hidden", "mlp_norm", RMS),
        *gated(),
        Weight("merger.ln_q.weight", "* hidden", "final_norm", RMS),
    ),
    axes={
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "heads": "num_heads",
        "key_dim": "hidden_size // num_heads",
        "value_dim": "hidden_size // num_heads",
        "channels": "in_channels",
        "layers": "depth",
    },
    keys=(
        Key("hidden_size", "hidden", 3584),
        Key("intermediate_size", "ffn", 3420),
        Key("num_heads", "heads", 16, alias="num_attention_heads"),
        Key("depth", "layers", 32, alias="num_hidden_layers"),
        Key("in_channels", default=3),
        Key("fullatt_block_indexes", default=(7, 15, 23, 31)),
    ),
    prefixes=("visual.", ""),
    attentions=(Attention(),),
    kinds=(Kinds("fullatt_block_indexes", "layers in fullatt_block_indexes"),),
    streams=(Stream(tie="", longest=""),),
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    refusals={"hidden": SHOWN, "key_dim": TURNED, "value_dim": TURNED},
    fixed=FIXED,
)


def merging(first: str, second: str) -> Edit:
    """What makes one vector of neighbouring patches, channel by channel of each behind the last norm."""
    return after(
        "final_norm",
        Weight(f"merger.{first}.weight", "merged <- (corners hidden)", "merger.up", bias=BIAS),
        Weight(f"merger.{second}.weight", "out <- merged", "merger.down", bias=BIAS),
    )


SIDES = (Key("spatial_merge_size", default=2), Key("out_hidden_size", default=3584))
TOGETHER: dict[str, Any] = {
    "more": SIDES,
    "follows": {"merged": "corners * hidden"},
    "axes": {
        **GRIDDED.axes,
        "corners": "spatial_merge_size ** 2",
        "merged": "hidden_size * spatial_merge_size ** 2",
        "out": "out_hidden_size",
    },
    "fixed": FIXED | {"corners", "out"},
}
QWEN2_5 = like(GRIDDED, "qwen2_5_vl_vision", merging("mlp.0", "mlp.2"), **TOGETHER)
# Of which `hidden_size` is what it gives.
QWEN2 = like(
    QWEN2_5,
    "qwen2_vl_vision",
    alter("attn_norm mlp_norm final_norm", norm=LAYER, bias=BIAS),
    swap(MLP, *plain("fc1", "fc2")),
    keys=(
        Key("embed_dim", "hidden", 1280),
        Key("mlp_ratio", "ffn // hidden", 4),
        Key("hidden_size", default=3584),
        *(key for key in QWEN2_5.keys if key.name in ("num_heads", "depth", "in_channels", SIDES[0].name)),
    ),
    axes={
        **{axis: said.replace("hidden_size", "embed_dim") for axis, said in QWEN2_5.axes.items()},
        "ffn": "embed_dim * mlp_ratio",
        "out": "hidden_size",
    },
    constraints=(*QWEN2_5.constraints, "ffn % hidden == 0"),
    kinds=(),
)
EXAONE = like(
    QWEN2_5,
    "exaone4_5_vision",
    swap(
        "attn.*",
        Weight(
            B + "attn.qkv.weight",
            "(q: kv_heads group key_dim + k: kv_heads key_dim + v: kv_heads value_dim) <- hidden",
            "attn.*",
            bias=BIAS,
        ),
    ),
    alter("attn.o", pattern="hidden <- (kv_heads group value_dim)"),
    axes={
        **{axis: said for axis, said in QWEN2_5.axes.items() if axis != "heads"},
        "kv_heads": "num_key_value_heads",
        "group": "num_heads // num_key_value_heads",
    },
    lacks="num_heads",
    more=(
        Key("num_heads", "kv_heads * group", 16, alias="num_attention_heads"),
        Key("num_key_value_heads", "kv_heads", 8),
    ),
    constraints=("key_dim == value_dim", "kv_heads * group * key_dim == hidden"),
)

QWEN3 = like(
    GRIDDED,
    "qwen3_vl_vision",
    alter("embed", bias=BIAS),
    after("embed", Weight("pos_embed.weight", "places -> hidden", "positions")),
    alter("attn_norm mlp_norm", norm=LAYER, bias=BIAS),
    swap(MLP, *plain("linear_fc1", "linear_fc2")),
    swap("final_norm", Weight("merger.norm.weight", "* hidden", "final_norm", LAYER, BIAS)),
    merging("linear_fc1", "linear_fc2"),
    **TOGETHER,
    defaults=dict(hidden_size=1152, intermediate_size=4304, depth=27),
    lacks="fullatt_block_indexes",
    kinds=(),
    readouts=(Readout("deepstack_visual_indexes", behind=True),),
    carried=("deepstack_merger_list.",),
    refusals={**GRIDDED.refusals, "hidden": MERGED},
)
SHALLOW: dict[str, Any] = {"readouts": (), "carried": (), "refusals": GRIDDED.refusals}

EPS = "rms_norm_eps"
RMS_SAID = Norm("rms", "pre", eps=EPS)
SAID = Bias("attention_bias")
GLM_OCR = like(
    GRIDDED,
    "glm_ocr_vision",
    alter("embed", bias=BIAS),
    alter("attn_norm mlp_norm", norm=RMS_SAID),
    swap(
        "attn.*",
        Weight(B + "attn.qkv.weight", f"{QKV} <- hidden", "attn.*", bias=SAID),
        Weight(B + "attn.q_norm.weight", "* key_dim", "attn.q_norm", Norm("rms", "inner", EPS, of="attn.q")),
        Weight(B + "attn.k_norm.weight", "* key_dim", "attn.k_norm", Norm("rms", "inner", EPS, of="attn.k")),
    ),
    alter("attn.o", bias=SAID),
    swap(MLP, *gated(SAID)),
    swap("final_norm", Weight("post_layernorm.weight", "* hidden", "final_norm", RMS_SAID)),
    defaults=dict(
        hidden_size=1024,
        intermediate_size=4096,
        depth=24,
        rms_norm_eps=1e-5,
        attention_bias=True,
    ),
    lacks="fullatt_block_indexes",
    kinds=(),
    carried=("merger.", "downsample."),
)

SHIFTED = Norm("layer", "pre", eps="layer_norm_eps")
GLM_IMAGE = like(
    GRIDDED,
    "glm_image_vision",
    alter("embed", pattern="hidden <- channels rows columns", bias=BIAS),
    after("embed", Weight("embeddings.position_embedding.weight", "places -> hidden", "positions")),
    alter("attn_norm mlp_norm", norm=SHIFTED, bias=BIAS),
    alter("attn.* attn.o", bias=SAID),
    swap(MLP, *plain("fc1", "fc2")),
    drop("final_norm"),
    defaults=dict(
        hidden_size=1536,
        intermediate_size=6144,
        depth=40,
        layer_norm_eps=1e-6,
        attention_bias=True,
    ),
    lacks="fullatt_block_indexes",
    kinds=(),
    carried=(),
    refusals={"hidden": "its output is the residual itself: grow ffn or layers instead"},
)

LAYOUTS = (
    QWEN2_5,
    EXAONE,
    QWEN3,
    like(QWEN3, "qwen3_vl_moe_vision"),
    like(QWEN3, "qwen3_5_vision", **SHALLOW),
    like(QWEN3, "qwen3_5_moe_vision", **SHALLOW),
    GLM_OCR,
    GLM_IMAGE,
)
