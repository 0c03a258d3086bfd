"""One tower by itself, of images or of texts: what stands in CLIP and SigLIP as one of two, and its kin in
other models. BLIP's is the same with queries, keys and values in one tensor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isogrow.families.edits import Edit, after, alter, drop, like, swap
from isogrow.families.heads import BIAS
from isogrow.families.two_towers import CLIP, SIGLIP, SIGLIP2
from isogrow.layouts.layout import Attention, Bias, Key, Layout, Slot, Stream, Weight

POOLED = (
    "what pools the residual looks at it with attention of the same width, which stays: grow ffn or layers"
    " instead"
)


AGAIN = "what the last norm gives is normalised once more where it is pooled: grow ffn or layers instead"


def alone(pair: Layout, stack: str, family: str, *edits: Edit, **changes: Any) -> Layout:
    """The layout of one of two towers as a model of its own: the same rows, without the tower's name."""
    config, prefix = f"{stack}_config.", changes.pop("named", f"{stack}_model.")

    def bare(said: str) -> str:
        return said.replace(config, "").replace(f"{stack}_", "")

    def row(weight: Weight) -> Weight:
        norm = weight.norm
        if norm is not None and isinstance(norm.eps, str):
            norm = replace(norm, eps=norm.eps.removeprefix(config))
        name = weight.name.removeprefix(prefix).replace(f"{{{stack}_", "{")
        said = {"pattern": bare(weight.pattern), "slot": weight.slot.removeprefix(f"{stack}.")}
        return replace(weight, name=name, **said, norm=norm, required=not weight.head, stream="")

    rows = tuple(
        row(each)
        for each in pair.weights
        if each.name.startswith(prefix) or each.slot.startswith(f"{stack}.")
    )
    used = {axis for each in rows for line in each.lines() for slot in line.slots for axis in _all(slot)}
    carried = tuple(name.removeprefix(prefix) for name in pair.carried if name.startswith(prefix))
    said: dict[str, Any] = {
        "weights": rows,
        "axes": {
            bare(axis): formula.replace(config, "")
            for axis, formula in pair.axes.items()
            if bare(axis) in used and (axis.startswith(stack) or axis in pair.fixed or axis == "hidden")
        },
        "keys": tuple(
            replace(key, name=key.name.removeprefix(config), size=bare(key.size), **_meant(key, config))
            for key in pair.keys
            if key.name.startswith(config) or key.name == "projection_dim"
        ),
        "attentions": tuple(
            Attention(axis="key_dim", scale=bare(each.scale))
            for each in pair.attentions
            if each.query.startswith(f"{stack}.")
        ),
        "prefixes": (prefix, ""),
        "streams": (Stream(tie="", longest="max_position_embeddings" if stack == "text" else ""),),
        "stacks": (),
        "constraints": tuple(bare(each) for each in pair.constraints if each.startswith(f"{stack}_")),
        "carried": (*carried, *(prefix + name for name in carried)),
        "refusals": {},
    }
    return like(pair, family, *edits, **{**said, **changes})


def _all(slot: Slot) -> tuple[str, ...]:
    return (*slot.index, *slot.axes)


def _meant(key: Key, config: str) -> dict[str, Any]:
    """A key's defaults, where they are formulas."""
    return {
        name: value.replace(config, "")
        for name in ("default", "null")
        if isinstance(value := getattr(key, name), str)
    }


CLIP_TEXT = alone(CLIP, "text", "clip_text_model")
CLIP_VISION = alone(CLIP, "vision", "clip_vision_model")
SIGLIP_TEXT = alone(SIGLIP, "text", "siglip_text_model")
MAYBE_POOLED = alter("pool.up pool.down", required=False)
SIGLIP_VISION, SIGLIP2_VISION = (
    alone(
        pair,
        "vision",
        f"{pair.family}_vision_model",
        MAYBE_POOLED,
        more=(Key("vision_use_head", default=True),),
        refusals={"hidden": POOLED},
        lifted={"hidden": "not vision_use_head"},
    )
    for pair in (SIGLIP, SIGLIP2)
)

BARE = drop("project")
SPELLED = alter("embed_norm", name="pre_layernorm.weight")
SHORT = {"max_position_embeddings": 16}
ALIKE = tuple(
    like(base, name, *edits, defaults=defaults, lacks="projection_dim" if edits else "", axes=axes)
    for base, name, edits, defaults in (
        (CLIP_TEXT, "metaclip_2_text_model", (), {}),
        (CLIP_TEXT, "clipseg_text_model", (BARE,), {}),
        (CLIP_TEXT, "xclip_text_model", (BARE,), {}),
        (CLIP_TEXT, "owlvit_text_model", (BARE,), SHORT),
        (CLIP_TEXT, "owlv2_text_model", (BARE,), SHORT),
        (
            CLIP_TEXT,
            "groupvit_text_model",
            (BARE,),
            {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4},
        ),
        (CLIP_VISION, "metaclip_2_vision_model", (), {}),
        (CLIP_VISION, "chinese_clip_vision_model", (BARE,), {}),
        (CLIP_VISION, "altclip_vision_model", (BARE,), {}),
        (CLIP_VISION, "clipseg_vision_model", (BARE,), {}),
        (CLIP_VISION, "git_vision_model", (BARE,), {}),
        (CLIP_VISION, "owlvit_vision_model", (BARE, SPELLED), {}),
        (CLIP_VISION, "owlv2_vision_model", (BARE, SPELLED), {}),
    )
    for axes in ({axis: said for axis, said in base.axes.items() if not edits or axis != "shared"},)
)

IDEFICS3_VISION = like(
    SIGLIP_VISION,
    "idefics3_vision",
    drop("pool.up pool.down"),
    lacks="vision_use_head",
    lifted={},
    defaults={"hidden_size": 1152, "num_attention_heads": 16},
    carried=(),
    refusals={},
)

L = "encoder.layers.{layers}."
QKV = "(q: heads key_dim + k: heads key_dim + v: heads value_dim)"
FUSED = Weight(L + "self_attn.qkv.weight", f"{QKV} <- hidden", "attn.*", bias=BIAS)
BLIP_VISION = like(
    SIGLIP_VISION,
    "blip_vision_model",
    drop("pool.up pool.down"),
    swap("positions", Weight("embeddings.position_embedding", "1 places -> hidden", "positions")),
    after("positions", Weight("embeddings.class_embedding", "-> 1 1 hidden", "class")),
    swap("attn.q attn.k attn.v", FUSED),
    alter("attn.o", name=L + "self_attn.projection.weight"),
    defaults=dict(layer_norm_eps=1e-5),
    lacks="num_channels vision_use_head",
    lifted={},
    axes={axis: said for axis, said in SIGLIP_VISION.axes.items() if axis != "channels"},
    carried=(),
    refusals={"hidden": AGAIN},
)
LARGE = dict(
    hidden_size=1408,
    intermediate_size=6144,
    num_hidden_layers=39,
    num_attention_heads=16,
    layer_norm_eps=1e-6,
    qkv_bias=True,
)
BLIP2_VISION = like(
    BLIP_VISION,
    "blip_2_vision_model",
    alter("attn.*", bias=Bias("qkv_bias")),
    defaults=LARGE,
)
INSTRUCTED = tuple(
    like(BLIP2_VISION, name) for name in ("instructblip_vision_model", "instructblipvideo_vision_model")
)

LAYOUTS = (
    CLIP_TEXT,
    CLIP_VISION,
    SIGLIP_TEXT,
    SIGLIP_VISION,
    like(SIGLIP_TEXT, "siglip2_text_model"),
    SIGLIP2_VISION,
    *ALIKE,
    IDEFICS3_VISION,
    like(IDEFICS3_VISION, "smolvlm_vision"),
    BLIP_VISION,
    BLIP2_VISION,
    *INSTRUCTED,
)
