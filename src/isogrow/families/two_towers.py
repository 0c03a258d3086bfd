"""Two encoders that meet in one product, of images and texts: CLIP, MetaCLIP 2, SigLIP, OWL-ViT, CLIPSeg.
LayerNorms stand before each branch; CLIP's images have one behind their embeddings, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.heads import BIAS
from isogrow.layouts.layout import Attention, Key, Layout, Norm, Readout, Stream, Weight

STACKS = ("text", "vision")
PATCHES = "vision_hidden <- channels rows columns"
MEET = "both towers give vectors of this width, which meet in one product: grow ffn or layers instead"


def _norm(name: str, slot: str, stack: str, where: str = "pre") -> Weight:
    norm = Norm("layer", "post" if where == "post" else "pre", eps=f"{stack}_config.layer_norm_eps")
    return Weight(
        f"{stack}_model.{name}.weight", f"* {stack}_hidden", f"{stack}.{slot}", norm, BIAS, stream=stack
    )


def _layers(stack: str) -> tuple[Weight, ...]:
    """The layers of one tower."""
    layer = f"encoder.layers.{{{stack}_layers}}."
    at = f"{stack}_model.{layer}"
    hidden, ffn = f"{stack}_hidden", f"{stack}_ffn"
    qk, v = f"({stack}_heads {stack}_key_dim)", f"({stack}_heads {stack}_value_dim)"
    rows = (
        ("self_attn.q_proj", f"{qk} <- {hidden}", "attn.q"),
        ("self_attn.k_proj", f"{qk} <- {hidden}", "attn.k"),
        ("self_attn.v_proj", f"{v} <- {hidden}", "attn.v"),
        ("self_attn.out_proj", f"{hidden} <- {v}", "attn.o"),
        ("mlp.fc1", f"{ffn} <- {hidden}", "mlp.up"),
        ("mlp.fc2", f"{hidden} <- {ffn}", "mlp.down"),
    )
    made = tuple(
        Weight(f"{at}{name}.weight", pattern, f"{stack}.{slot}", bias=BIAS, stream=stack)
        for name, pattern, slot in rows
    )
    return (
        _norm(layer + "layer_norm1", "attn_norm", stack),
        *made[:4],
        _norm(layer + "layer_norm2", "mlp_norm", stack),
        *made[4:],
    )


def _axes(stack: str) -> Mapping[str, str]:
    config = f"{stack}_config."
    dim = f"{config}hidden_size // {config}num_attention_heads"
    return {
        f"{stack}_hidden": f"{config}hidden_size",
        f"{stack}_ffn": f"{config}intermediate_size",
        f"{stack}_heads": f"{config}num_attention_heads",
        f"{stack}_key_dim": dim,
        f"{stack}_value_dim": dim,
        f"{stack}_layers": f"{config}num_hidden_layers",
    }


def _keys(stack: str, hidden: int, ffn: int, heads: int, eps: float) -> tuple[Key, ...]:
    config = f"{stack}_config."
    return (
        Key(f"{config}hidden_size", f"{stack}_hidden", hidden),
        Key(f"{config}intermediate_size", f"{stack}_ffn", ffn),
        Key(f"{config}num_attention_heads", f"{stack}_heads", heads),
        Key(f"{config}num_hidden_layers", f"{stack}_layers", 12),
        Key(f"{config}layer_norm_eps", default=eps),
    )


def _attention(stack: str) -> Attention:
    axis = f"{stack}_key_dim"
    names = (f"{stack}.attn.{letter}" for letter in "qkv")
    return Attention(*names, axis=axis, scale=f"{axis} ** -0.5")


def _table(name: str, slot: str, pattern: str, stack: str) -> Weight:
    return Weight(f"{stack}_model.embeddings.{name}.weight", pattern, f"{stack}.{slot}", stream=stack)


TEXT = (
    _table("token_embedding", "embed", "vocab -> text_hidden", "text"),
    _table("position_embedding", "positions", "positions -> text_hidden", "text"),
    *_layers("text"),
    _norm("final_layer_norm", "final_norm", "text"),
)
LEARNED = _table("position_embedding", "positions", "places -> vision_hidden", "vision")
VISION = (
    Weight("vision_model.embeddings.class_embedding", "-> vision_hidden", "vision.class", stream="vision"),
    _table("patch_embedding", "embed", PATCHES, "vision"),
    LEARNED,
    _norm("pre_layrnorm", "embed_norm", "vision", "post"),
    *_layers("vision"),
    _norm("post_layernorm", "final_norm", "vision"),
)

CLIP = Layout(
    family="clip",
    model_types=("clip",),
    weights=(
        Weight("logit_scale", "->", "scale", stream="text"),
        *TEXT,
        *VISION,
        Weight("text_projection.weight", "shared <- text_hidden", "text.project", head=True, stream="text"),
        Weight(
            "visual_projection.weight",
            "shared <- vision_hidden",
            "vision.project",
            head=True,
            stream="vision",
        ),
    ),
    axes={
        "vocab": "text_config.vocab_size",
        "positions": "text_config.max_position_embeddings",
        "shared": "projection_dim",
        "channels": "vision_config.num_channels",
        **_axes("text"),
        **_axes("vision"),
    },
    keys=(
        Key("text_config.vocab_size", default=49408),
        Key("text_config.max_position_embeddings", default=77),
        *_keys("text", 512, 2048, 8, 1e-5),
        *_keys("vision", 768, 3072, 12, 1e-5),
        Key("vision_config.num_channels", default=3),
        Key("projection_dim", default=512),
    ),
    prefixes=("",),
    streams=(
        Stream("text", "text_hidden", tie="", longest="text_config.max_position_embeddings"),
        Stream("vision", "vision_hidden", tie="", longest=""),
    ),
    attentions=tuple(map(_attention, STACKS)),
    stacks=STACKS,
    constraints=tuple(
        said
        for stack in STACKS
        for said in (
            f"{stack}_key_dim == {stack}_value_dim",
            f"{stack}_heads * {stack}_key_dim == {stack}_hidden",
        )
    ),
    derived=(r"embeddings\.position_ids$",),
    fixed=frozenset({"vocab", "positions", "places", "shared", "channels", "rows", "columns"}),
)
METACLIP2 = like(CLIP, "metaclip_2")

POOL = "vision_model.head."
SIGLIP = like(
    CLIP,
    "siglip",
    drop("text.project vision.project vision.class vision.embed_norm"),
    swap(
        "scale",
        Weight("logit_scale", "-> 1", "scale", stream="text"),
        Weight("logit_bias", "-> 1", "shift", stream="text"),
    ),
    swap("vision.embed", replace(VISION[1], bias=BIAS)),
    after(
        "text.final_norm",
        Weight("text_model.head.weight", "given <- text_hidden", "text.head", bias=BIAS, stream="text"),
    ),
    after(
        "vision.final_norm",
        Weight(f"{POOL}mlp.fc1.weight", "vision_ffn <- vision_hidden", "pool.up", bias=BIAS, stream="vision"),
        Weight(
            f"{POOL}mlp.fc2.weight", "vision_hidden <- vision_ffn", "pool.down", bias=BIAS, stream="vision"
        ),
    ),
    axes={
        **{axis: said for axis, said in CLIP.axes.items() if axis != "shared"},
        "given": "text_config.projection_size",
    },
    keys=(
        Key("text_config.vocab_size", default=32000),
        Key("text_config.max_position_embeddings", default=64),
        *_keys("text", 768, 3072, 12, 1e-6),
        *_keys("vision", 768, 3072, 12, 1e-6),
        Key("vision_config.num_channels", default=3),
        Key("text_config.projection_size", default="text_config.hidden_size", null="text_config.hidden_size"),
    ),
    # Where it looks from, and with what, is as wide as the residual, which stays.
    carried=(f"{POOL}probe", f"{POOL}attention.", f"{POOL}layernorm."),
    refusals={"text_hidden": MEET, "vision_hidden": MEET},
    fixed=(CLIP.fixed - {"shared"}) | {"given"},
)
FLAT = replace(VISION[1], pattern="vision_hidden <- pixels", bias=BIAS)
SIGLIP2 = like(
    SIGLIP,
    "siglip2",
    swap("vision.embed", FLAT),
    axes={axis: said for axis, said in SIGLIP.axes.items() if axis != "channels"},
    fixed=SIGLIP.fixed | {"pixels"},
)

# Towers with heads for pictures or boxes, which read their residuals and stay.
PREPENDED = alter("vision.embed_norm", name="vision_model.pre_layernorm.weight")
HEADED = "heads for pictures or boxes read this width, which stay: grow ffn or layers instead"
READ = {"text_hidden": HEADED, "vision_hidden": HEADED}
CLIPSEG = like(
    CLIP,
    "clipseg",
    prefixes=("clip.", ""),
    carried=("decoder.",),
    refusals=READ,
    readouts=(Readout("extract_layers", axis="vision_layers", behind=True),),
)
OWLVIT = like(
    CLIP,
    "owlvit",
    PREPENDED,
    alter("text.project vision.project", head=False),
    prefixes=("owlvit.", ""),
    defaults={"text_config.max_position_embeddings": 16},
    carried=("class_head.", "box_head.", "layer_norm.", "objectness_head."),
    refusals=READ,
)
OWLV2 = like(OWLVIT, "owlv2", prefixes=("owlv2.", ""))

LAYOUTS = (CLIP, METACLIP2, SIGLIP, SIGLIP2, CLIPSEG, OWLVIT, OWLV2)
