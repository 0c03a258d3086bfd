"""Two towers, of images and of texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import transformers
from family import EPS, LABELS, LAYERS, PAD, POSITIONS, VOCAB, Family, Json, Requests, Steps
from family import ROWS as TEXTS
from hypothesis import strategies as st
from torch import Tensor

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import AttentionExpansion, HeadAddition, HeadsExpansion, HiddenExpansion
from rows.stacks import END

KIN = True

IMAGE, PATCH = 12, 4
PATCHES = (IMAGE // PATCH) ** 2


def pairs(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Texts that end, and images."""
    ids = torch.randperm(TEXTS * (POSITIONS - 1), generator=generator).reshape(TEXTS, -1) % END
    ids = torch.cat([ids, torch.full((TEXTS, 1), END)], 1)
    pixels = torch.randn(3, 3, IMAGE, IMAGE, generator=generator, dtype=torch.float64)
    if kind.endswith("ForImageClassification"):
        return {"pixel_values": pixels}
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def patched(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """The same with images as patches."""
    given = pairs(kind, generator)
    pixels = torch.randn(3, PATCHES, 3 * PATCH**2, generator=generator, dtype=torch.float64)
    return {
        **given,
        "pixel_values": pixels,
        "pixel_attention_mask": torch.ones(3, PATCHES, dtype=torch.long),
        "spatial_shapes": torch.tensor([[IMAGE // PATCH] * 2] * 3),
    }


TEXT: Json = dict(
    vocab_size=VOCAB,
    hidden_size=24,
    intermediate_size=37,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=POSITIONS,
    layer_norm_eps=1e-2,
    hidden_act="gelu",
    pad_token_id=PAD,
    bos_token_id=None,
    eos_token_id=END,
)
VISION: Json = dict(
    hidden_size=30,
    intermediate_size=41,
    num_hidden_layers=3,
    num_attention_heads=5,
    image_size=IMAGE,
    patch_size=PATCH,
    layer_norm_eps=1e-2,
    hidden_act="gelu",
)


def towers(draw: st.DrawFn) -> Json:
    """Heads and layers of each tower."""
    text, vision = draw(st.sampled_from([(2, 3), (4, 1), (3, 5)]))
    return dict(
        text_config={
            **TEXT,
            "hidden_size": 6 * text,
            "num_attention_heads": text,
            "num_hidden_layers": draw(LAYERS),
            "layer_norm_eps": draw(EPS),
        },
        vision_config={
            **VISION,
            "hidden_size": 4 * vision,
            "num_attention_heads": vision,
            "num_hidden_layers": draw(LAYERS),
            "layer_norm_eps": draw(EPS),
        },
        projection_dim=11,
    )


def both(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """The images' residual is multiplied, that of texts grows by any number of heads."""
    now = anatomy.sizes.values
    found: Steps = []
    heads = now["text_heads"] + draw(st.integers(0, 2))
    dim = now["text_key_dim"] + draw(st.integers(0, 3))
    found += [
        HiddenExpansion(heads * dim, "text"),
        HeadAddition(heads, stack="text"),
        AttentionExpansion(dim, stack="text"),
        HeadsExpansion(dim, stack="text"),
    ]
    for size in draw(st.sampled_from([[], ["x2"], ["x3"]])):
        found += [HiddenExpansion(size, "vision"), HeadAddition(size, stack="vision")]
    return found


LAYER: Requests = {
    "ffn of both": {"ffn": "+5"},
    "text_ffn": {"text_ffn": 53},
    "layers": {"layers": "+2"},
    "text.layers": {"text.layers": 5},
}
WIDER: Requests = {
    "text.hidden and heads": {"text.hidden": 42, "text.heads": 7},
    "vision.hidden and head_dim": {"vision.hidden": 60, "vision.head_dim": 12},
}


def pair(name: str, config: type[transformers.PreTrainedConfig], **more: Any) -> Family:
    """A row of a model of two towers."""
    prefix = config.__name__.removesuffix("Config")
    return Family(
        name,
        config,
        (f"{prefix}Model",),
        dict(text_config=TEXT, vision_config=VISION, projection_dim=11, num_labels=LABELS),
        {**WIDER, **LAYER},
        {
            "text.hidden": 42,
            "text.heads": 7,
            "vision.hidden": 60,
            "vision.heads": 10,
            "ffn": "x3",
            "layers": "+2",
        },
        towers,
        both,
        inputs=pairs,
        widths=((),),
        alone="text_ffn",
        unread={"token_embedding.weight": [PAD]},
        **more,
    )


def narrow(row: Family) -> Family:
    """The same where the widths stay."""
    return replace(
        row,
        growths={**LAYER},
        together={"ffn": "x3", "layers": "+2"},
        draws=lambda draw, anatomy: [],
    )


SIGLIP = narrow(pair("siglip", transformers.SiglipConfig))
ALIKE = {**TEXT, "projection_size": 30}
SIGLIP = replace(SIGLIP, sizes={**SIGLIP.sizes, "text_config": ALIKE})


def met(draw: st.DrawFn) -> Json:
    """Towers of which the texts' gives what the images' is wide."""
    found = towers(draw)
    width = found["vision_config"]["hidden_size"]
    return {**found, "text_config": {**found["text_config"], "projection_size": width}}


SIGLIP = replace(SIGLIP, options=met)
SIGLIP2 = replace(SIGLIP, name="siglip2", config=transformers.Siglip2Config, classes=("Siglip2Model",))
FLAT = {key: said for key, said in VISION.items() if key != "image_size"} | {"num_patches": PATCHES}


def flat(draw: st.DrawFn) -> Json:
    """Images as patches, of which there is a number."""
    found = met(draw)
    vision = {key: said for key, said in found["vision_config"].items() if key != "image_size"}
    return {**found, "vision_config": {**vision, "num_patches": PATCHES}}


SIGLIP2 = replace(
    SIGLIP2,
    sizes={**SIGLIP.sizes, "vision_config": FLAT},
    options=flat,
    inputs=patched,
)
ROWS = (
    pair("clip", transformers.CLIPConfig),
    pair("metaclip_2", transformers.MetaClip2Config),
    SIGLIP,
    SIGLIP2,
    narrow(pair("clipseg", transformers.CLIPSegConfig)),
    narrow(pair("owlvit", transformers.OwlViTConfig)),
    narrow(pair("owlv2", transformers.Owlv2Config)),
)
