"""ViT and its like: DeiT, I-JEPA, MSN, DINOv2 with registers; videos (ViViT), spectra (AST)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import transformers
from family import BOOLS, EPS, LABELS, LAYERS, Family, Json, fused_growths
from hypothesis import strategies as st
from torch import Tensor

from rows.stacks import CHANNELS, DINOV2, IMAGE, PATCH

KIN = True


def images(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(3, CHANNELS, IMAGE, IMAGE, generator=generator, dtype=torch.float64)}


def masked(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Images, and a mask of their patches where the class takes one."""
    given = images(kind, generator)
    patches = (IMAGE // PATCH[0]) * (IMAGE // PATCH[1])
    mask = torch.rand(len(given["pixel_values"]), patches, generator=generator) < 0.3
    return given | ({"bool_masked_pos": mask} if kind.endswith("Model") else {})


def vit_options(draw: st.DrawFn) -> Json:
    heads, dim = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([4, 7]))
    return dict(
        hidden_size=heads * dim,
        num_attention_heads=heads,
        num_hidden_layers=draw(LAYERS),
        layer_norm_eps=draw(EPS),
        qkv_bias=draw(BOOLS),
    )


def vit(name: str, config: type[transformers.PreTrainedConfig], *kinds: str, **more: Any) -> Family:
    """A row of one of ViT's kin."""
    return Family(
        name,
        config,
        kinds,
        dict(
            num_labels=LABELS,
            image_size=IMAGE,
            patch_size=list(PATCH),
            num_channels=CHANNELS,
            hidden_size=30,
            intermediate_size=37,
            num_hidden_layers=3,
            num_attention_heads=5,
            layer_norm_eps=1e-2,
            **more,
        ),
        {
            "hidden and heads": {"hidden": 42, "heads": 7},
            "hidden and head_dim": {"hidden": 55, "head_dim": 11},
            "ffn": {"ffn": 51},
            "layers": {"layers": 5},
        },
        dict(hidden=98, heads=7, head_dim=14, ffn="x3", layers="+2"),
        vit_options,
        fused_growths,
        inputs=images,
    )


REGISTERED = replace(
    DINOV2,
    name="dinov2_with_registers",
    config=transformers.Dinov2WithRegistersConfig,
    classes=("Dinov2WithRegistersModel", "Dinov2WithRegistersForImageClassification"),
    sizes={**DINOV2.sizes, "num_register_tokens": 6},
    inputs=masked,
)


def videos(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    shape = (3, 4, CHANNELS, IMAGE, IMAGE)
    return {"pixel_values": torch.randn(shape, generator=generator, dtype=torch.float64)}


def spectra(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    return {"input_values": torch.randn(3, 8, 6, generator=generator, dtype=torch.float64)}


VIDEO = vit("vivit", transformers.VivitConfig)
VIDEO.sizes.pop("patch_size")
AST = vit(
    "audio-spectrogram-transformer",
    transformers.ASTConfig,
    "ASTForAudioClassification",
    "ASTModel",
    max_length=8,
    num_mel_bins=6,
    frequency_stride=2,
    time_stride=3,
)
AST = replace(
    AST,
    sizes={key: said for key, said in AST.sizes.items() if key not in ("image_size", "num_channels")}
    | {"patch_size": 2},
    growths={axis: AST.growths[axis] for axis in ("ffn", "layers")},
    together=dict(ffn="x3", layers="+2"),
    draws=lambda draw, anatomy: [],
    inputs=spectra,
)

ROWS = (
    # The pooler's output is as wide as its config says, and takes the width only where that says nothing.
    vit("vit", transformers.ViTConfig, "ViTModel", "ViTForImageClassification", pooler_output_size=17),
    vit(
        "deit",
        transformers.DeiTConfig,
        "DeiTForImageClassificationWithTeacher",
        "DeiTModel",
        "DeiTForImageClassification",
        pooler_output_size=17,
    ),
    vit("ijepa", transformers.IJepaConfig, "IJepaModel", "IJepaForImageClassification"),
    vit("vit_msn", transformers.ViTMSNConfig, "ViTMSNModel", "ViTMSNForImageClassification"),
    REGISTERED,
    replace(
        vit("vivit", transformers.VivitConfig, "VivitModel", "VivitForVideoClassification"),
        sizes={**VIDEO.sizes, "num_frames": 4, "tubelet_size": [2, *PATCH], "pooler_output_size": 17},
        inputs=videos,
    ),
    AST,
)
