"""Newer towers of images within wrappers."""

from __future__ import annotations

from dataclasses import replace

import torch
import transformers
from family import Family, Json
from hypothesis import strategies as st
from torch import Tensor

from rows.image_towers import CHANNELS, NARROW, PATCH, TOGETHER, narrow
from rows.patch_grid_towers import DEEP, FLAT, row

KIN = True


def packed(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Two images as patches, one behind the other."""
    grid = torch.tensor([[1, 4, 4], [1, 2, 8]])
    pixels = torch.randn(32, CHANNELS * PATCH[0] ** 2, generator=generator, dtype=torch.float64)
    return {"pixel_values": pixels, "grid_thw": grid}


GLM = transformers.models.glm5_next.configuration_glm5_next.Glm5NextVisionConfig
COSMOS = transformers.models.cosmos3_edge.configuration_cosmos3_edge.Cosmos3EdgeVisionConfig


def tapped(made: Family) -> Family:
    """The same, read behind its first and its last layer."""

    def options(draw: st.DrawFn) -> Json:
        found = made.options(draw)
        return {**found, "deepstack_visual_indexes": sorted({0, found["num_hidden_layers"] - 1})}

    return replace(made, options=options)


ROWS = (
    row("cohere_compass_vision", transformers.CohereCompassVisionConfig, "CohereCompassVisionModel", **DEEP),
    row("qwen4_exp_vision", transformers.Qwen4ExpVisionConfig, "Qwen4ExpVisionModel", **FLAT),
    row("glm5_next_vision", GLM, "Glm5NextVisionModel", image_size=16, projection_intermediate_size=20),
    replace(
        narrow(
            "cosmos3_edge_vision",
            COSMOS,
            "Cosmos3EdgeVisionModel",
            inputs=packed,
            num_patches=16,
            lacks=("image_size", "qkv_bias"),
        ),
        together={**TOGETHER, "hidden": 56, "heads": 7},
        growths={**NARROW, "hidden and heads": {"hidden": 56, "heads": 7}},
    ),
    tapped(
        narrow(
            "granite_docling_vision",
            transformers.GraniteDoclingVisionConfig,
            "GraniteDoclingVisionModel",
            scale_factor=2,
            out_hidden_size=24,
            deepstack_visual_indexes=[0, 1],
            lacks=("qkv_bias",),
        )
    ),
    narrow(
        "hunyuan_vl_vision",
        transformers.HunYuanVLVisionConfig,
        "HunYuanVLVisionTransformer",
        inputs=packed,
        max_image_size=16,
        text_hidden_size=22,
        rms_norm_eps=1e-2,
        lacks=("image_size", "layer_norm_eps", "qkv_bias"),
    ),
)
