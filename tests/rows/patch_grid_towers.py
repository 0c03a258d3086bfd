"""Towers that take images as patches in a grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import transformers
from family import LAYERS, Family, Json, Requests
from hypothesis import strategies as st
from torch import Tensor

KIN = True

GRID = (1, 4, 8)
FRAMES, CHANNELS, PATCH = 2, 3, 4


def patches(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Two images cut into patches, one behind the other."""
    grid = torch.tensor([GRID, (2, 4, 4)])
    count = int(grid.prod(-1).sum())
    shape = (count, CHANNELS * FRAMES * PATCH**2)
    return {"hidden_states": torch.randn(shape, generator=generator, dtype=torch.float64), "grid_thw": grid}


def still(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """The same without frames."""
    grid = torch.tensor([GRID, (1, 4, 4)])
    shape = (int(grid.prod(-1).sum()), CHANNELS * PATCH**2)
    return {"pixel_values": torch.randn(shape, generator=generator, dtype=torch.float64), "grid_thw": grid}


GROWTHS: Requests = {"ffn": {"ffn": 51}, "layers": {"layers": 5}}
SIZES: Json = dict(
    hidden_size=32,
    intermediate_size=37,
    num_heads=4,
    depth=3,
    in_channels=CHANNELS,
    patch_size=PATCH,
    temporal_patch_size=FRAMES,
    spatial_merge_size=2,
    out_hidden_size=22,
)


def options(draw: st.DrawFn) -> Json:
    heads = draw(st.sampled_from([1, 2, 4]))
    return dict(hidden_size=8 * heads, num_heads=heads, depth=draw(LAYERS))


def grouped(draw: st.DrawFn) -> Json:
    heads = draw(st.sampled_from([2, 4]))
    return dict(hidden_size=8 * heads, num_heads=heads, depth=draw(LAYERS))


def row(name: str, config: type[transformers.PreTrainedConfig], kind: str, **sizes: Any) -> Family:
    """A row of one tower."""
    return Family(
        name,
        config,
        (kind,),
        {**SIZES, **sizes},
        GROWTHS,
        dict(ffn="x3", layers="+2"),
        options,
        lambda draw, anatomy: [],
        inputs=patches,
    )


WINDOWS: Json = dict(window_size=16, fullatt_block_indexes=[1])
DEEP: Json = dict(num_position_embeddings=16, deepstack_visual_indexes=[0, 1])
FLAT: Json = dict(num_position_embeddings=16)
ROWS = (
    row(
        "qwen2_5_vl_vision",
        transformers.models.qwen2_5_vl.configuration_qwen2_5_vl.Qwen2_5_VLVisionConfig,
        "Qwen2_5_VisionTransformerPretrainedModel",
        **WINDOWS,
    ),
    replace(
        row(
            "exaone4_5_vision",
            transformers.Exaone4_5_VisionConfig,
            "Exaone4_5_VisionModel",
            **WINDOWS,
            num_key_value_heads=2,
        ),
        options=grouped,
    ),
    row("qwen3_vl_vision", transformers.Qwen3VLVisionConfig, "Qwen3VLVisionModel", **DEEP),
    row("qwen3_vl_moe_vision", transformers.Qwen3VLMoeVisionConfig, "Qwen3VLMoeVisionModel", **DEEP),
    row("qwen3_5_vision", transformers.Qwen3_5VisionConfig, "Qwen3_5VisionModel", **FLAT),
    row("qwen3_5_moe_vision", transformers.Qwen3_5MoeVisionConfig, "Qwen3_5MoeVisionModel", **FLAT),
    replace(
        row(
            "glm_image_vision",
            transformers.GlmImageVisionConfig,
            "GlmImageVisionModel",
            image_size=16,
            spatial_merge_size=1,
        ),
        inputs=still,
    ),
    row("glm_ocr_vision", transformers.GlmOcrVisionConfig, "GlmOcrVisionModel", image_size=16),
)
