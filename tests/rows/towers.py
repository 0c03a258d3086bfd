"""One tower, of images or of texts, by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import transformers
from family import EPS, LAYERS, Family, Json, Requests, Steps, fused_growths
from hypothesis import strategies as st
from torch import Tensor

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import HeadAddition, HiddenExpansion
from rows.two_towers import TEXT, VISION, pairs, patched

KIN = True

GROWTHS: Requests = {
    "hidden and heads": {"hidden": 42, "heads": 7},
    "hidden and head_dim": {"hidden": 60, "head_dim": 12},
    "ffn": {"ffn": 51},
    "layers": {"layers": 5},
}
NARROW: Requests = {axis: GROWTHS[axis] for axis in ("ffn", "layers")}


def texts(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    given = pairs(kind, generator)
    return {name: given[name] for name in ("input_ids", "attention_mask")}


def images(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    return {"pixel_values": pairs(kind, generator)["pixel_values"]}


def patches(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    given = patched(kind, generator)
    return {name: given[name] for name in ("pixel_values", "pixel_attention_mask", "spatial_shapes")}


def options(draw: st.DrawFn) -> Json:
    heads, dim = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([4, 7]))
    return dict(
        hidden_size=heads * dim,
        num_attention_heads=heads,
        num_hidden_layers=draw(LAYERS),
        layer_norm_eps=draw(EPS),
    )


SIZES = {"hidden_size": 30, "num_attention_heads": 5}


def row(
    name: str,
    config: type[transformers.PreTrainedConfig],
    classes: Sequence[str],
    sizes: Json,
    inputs: Any,
    wide: bool = True,
    **more: Any,
) -> Family:
    """A row of one tower; `wide`: its width grows."""
    return Family(
        name,
        config,
        tuple(classes),
        {**sizes, **SIZES},
        GROWTHS if wide else NARROW,
        dict(hidden=98, heads=7, head_dim=14, ffn="x3", layers="+2") if wide else dict(ffn="x3", layers="+2"),
        options,
        fused_growths if wide else (lambda draw, anatomy: []),
        inputs=inputs,
        **more,
    )


def text(name: str, config: type[transformers.PreTrainedConfig], *classes: str, **more: Any) -> Family:
    return row(
        name, config, classes, TEXT, texts, unread={"token_embedding.weight": [TEXT["pad_token_id"]]}, **more
    )


def vision(name: str, config: type[transformers.PreTrainedConfig], *classes: str, **more: Any) -> Family:
    return row(name, config, classes, VISION, more.pop("inputs", images), **more)


MULTIPLES: Requests = {
    "hidden and heads": {"hidden": 60, "heads": 10},
    "hidden and head_dim": {"hidden": 90, "head_dim": 18},
    **NARROW,
}


def multiplied(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """A residual that a norm writes is multiplied, and the heads with it."""
    sizes = draw(st.sampled_from([[], ["x2"], ["x3"]]))
    return [step(size) for size in sizes for step in (HiddenExpansion, HeadAddition)]


def clip(name: str, config: type[transformers.PreTrainedConfig], *classes: str) -> Family:
    """A row of CLIP's tower of images, or one like it."""
    together = dict(hidden=120, heads=10, head_dim=12, ffn="x3", layers="+2")
    return replace(vision(name, config, *classes), growths=MULTIPLES, together=together, draws=multiplied)


FLAT = {key: said for key, said in VISION.items() if key != "image_size"} | {"num_patches": 9}

ROWS = (
    text("clip_text_model", transformers.CLIPTextConfig, "CLIPTextModel", "CLIPTextModelWithProjection"),
    text("metaclip_2_text_model", transformers.MetaClip2TextConfig, "MetaClip2TextModel"),
    text("siglip_text_model", transformers.SiglipTextConfig, "SiglipTextModel"),
    text("siglip2_text_model", transformers.Siglip2TextConfig, "Siglip2TextModel"),
    text("clipseg_text_model", transformers.CLIPSegTextConfig, "CLIPSegTextModel"),
    text("owlvit_text_model", transformers.OwlViTTextConfig, "OwlViTTextModel"),
    text("owlv2_text_model", transformers.Owlv2TextConfig, "Owlv2TextModel"),
    text("xclip_text_model", transformers.XCLIPTextConfig, "XCLIPTextModel"),
    text("groupvit_text_model", transformers.GroupViTTextConfig, "GroupViTTextModel"),
    clip(
        "clip_vision_model", transformers.CLIPVisionConfig, "CLIPVisionModel", "CLIPVisionModelWithProjection"
    ),
    clip("metaclip_2_vision_model", transformers.MetaClip2VisionConfig, "MetaClip2VisionModel"),
    clip("chinese_clip_vision_model", transformers.ChineseCLIPVisionConfig, "ChineseCLIPVisionModel"),
    clip("altclip_vision_model", transformers.AltCLIPVisionConfig, "AltCLIPVisionModel"),
    clip("clipseg_vision_model", transformers.CLIPSegVisionConfig, "CLIPSegVisionModel"),
    clip("git_vision_model", transformers.GitVisionConfig, "GitVisionModel"),
    clip("owlvit_vision_model", transformers.OwlViTVisionConfig, "OwlViTVisionModel"),
    clip("owlv2_vision_model", transformers.Owlv2VisionConfig, "Owlv2VisionModel"),
    vision("siglip_vision_model", transformers.SiglipVisionConfig, "SiglipVisionModel", wide=False),
    replace(
        vision("siglip2_vision_model", transformers.Siglip2VisionConfig, "Siglip2VisionModel", wide=False),
        sizes={**FLAT, **SIZES},
        inputs=patches,
    ),
    vision("idefics3_vision", transformers.Idefics3VisionConfig, "Idefics3VisionTransformer"),
    vision("smolvlm_vision", transformers.SmolVLMVisionConfig, "SmolVLMVisionTransformer"),
    vision("blip_vision_model", transformers.BlipVisionConfig, "BlipVisionModel", wide=False),
    vision("blip_2_vision_model", transformers.Blip2VisionConfig, "Blip2VisionModel", wide=False),
    vision(
        "instructblip_vision_model",
        transformers.InstructBlipVisionConfig,
        "InstructBlipVisionModel",
        wide=False,
    ),
    vision(
        "instructblipvideo_vision_model",
        transformers.InstructBlipVideoVisionConfig,
        "InstructBlipVideoVisionModel",
        wide=False,
    ),
)
