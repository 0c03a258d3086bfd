"""Towers of images and videos: masked ones, those with rotary positions, those of wrappers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import transformers
from family import Family, Json, Requests
from hypothesis import strategies as st
from torch import Tensor

from rows.stacks import CHANNELS, IMAGE, PATCH
from rows.vit import images, vit, vit_options

KIN = True

NARROW: Requests = {"ffn": {"ffn": 51}, "layers": {"layers": 5}}
TOGETHER = dict(ffn="x3", layers="+2")
SQUARE = {"patch_size": PATCH[0], "image_size": 4 * PATCH[0]}


def squares(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    side = 4 * PATCH[0]
    return {"pixel_values": torch.randn(3, CHANNELS, side, side, generator=generator, dtype=torch.float64)}


def grids(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Two images as patches, and how they are merged."""
    grid = torch.tensor([[1, 4, 4], [1, 2, 8]])
    pixels = torch.randn(32, CHANNELS * PATCH[0] ** 2, generator=generator, dtype=torch.float64)
    return {"pixel_values": pixels, "grid_thw": grid, "merge_sizes": torch.tensor([2, 1])}


def noisy(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Images, and the noise that says which patches are left out."""
    given = images(kind, generator)
    patches = (IMAGE // PATCH[0]) * (IMAGE // PATCH[1])
    return {**given, "noise": torch.rand(len(given["pixel_values"]), patches, generator=generator)}


def narrow(name: str, config: type[transformers.PreTrainedConfig], *kinds: str, **more: Any) -> Family:
    """A row of a tower whose width stays, without the keys that its class `lacks`."""
    inputs, lacks = more.pop("inputs", squares), more.pop("lacks", ())
    row = vit(name, config, *kinds)
    said = {**row.sizes, **SQUARE, "hidden_size": 40, **more}
    sizes = {key: size for key, size in said.items() if key not in lacks}

    def options(draw: st.DrawFn) -> Json:
        found = row.options(draw)
        heads = found["num_attention_heads"]
        found |= {"hidden_size": heads * draw(st.sampled_from([4, 8]))}  # both directions turn pairs
        return {key: said for key, said in found.items() if key in sizes}

    return replace(
        row,
        sizes=sizes,
        growths=NARROW,
        together=TOGETHER,
        options=options,
        draws=lambda draw, anatomy: [],
        inputs=inputs,
    )


def moving(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    side = 4 * PATCH[0]
    shape = (3, 4, CHANNELS, side, side)
    return {"pixel_values": torch.randn(shape, generator=generator, dtype=torch.float64)}


PIXIO = dict(
    **SQUARE,
    num_channels=CHANNELS,
    hidden_size=30,
    num_hidden_layers=3,
    num_attention_heads=5,
    mlp_ratio=2,
    n_cls_tokens=3,
    layer_norm_eps=1e-2,
)
ROWS = (
    replace(vit("vit_mae", transformers.ViTMAEConfig, "ViTMAEModel"), inputs=noisy),
    narrow(
        "beit",
        transformers.BeitConfig,
        "BeitModel",
        "BeitForImageClassification",
        use_relative_position_bias=True,
        use_absolute_position_embeddings=True,
        use_mask_token=True,
    ),
    narrow("dinov3_vit", transformers.DINOv3ViTConfig, "DINOv3ViTModel", num_register_tokens=3),
    narrow("mlcd_vision_model", transformers.MLCDVisionConfig, "MLCDVisionModel"),
    narrow("pixtral", transformers.PixtralVisionConfig, "PixtralVisionModel", lacks=("layer_norm_eps",)),
    narrow("internvl_vision", transformers.InternVLVisionConfig, "InternVLVisionModel"),
    narrow("qianfan_ocr_vision", transformers.QianfanOCRVisionConfig, "QianfanOCRVisionModel"),
    narrow(
        "aimv2_vision_model", transformers.Aimv2VisionConfig, "Aimv2VisionModel", lacks=("layer_norm_eps",)
    ),
    narrow(
        "video_llama_3_vision",
        transformers.VideoLlama3VisionConfig,
        "VideoLlama3VisionModel",
        inputs=grids,
        lacks=("image_size",),
    ),
    narrow(
        "videomae",
        transformers.VideoMAEConfig,
        "VideoMAEModel",
        "VideoMAEForVideoClassification",
        inputs=moving,
        num_frames=4,
        tubelet_size=2,
    ),
    replace(
        vit("pixio", transformers.PixioConfig, "PixioModel", mlp_ratio=2, n_cls_tokens=3),
        sizes=PIXIO,
        growths={
            "ffn": {"ffn": 90},
            "layers": {"layers": 5},
            "hidden, heads and ffn": {"hidden": 42, "heads": 7, "ffn": 84},
        },
        together=dict(hidden=42, heads=7, ffn=126, layers="+2"),
        widths=((), ("x2",)),
        draws=lambda draw, anatomy: [],
        options=vit_options,
        inputs=squares,
    ),
    *(
        narrow(
            name,
            config,
            kind,
            num_hidden_layers=4,
            window_size=2,
            global_attn_indexes=[1, 3],
            mlp_dim=37,
            output_channels=18,
            lacks=("intermediate_size",),
        )
        for name, config, kind in (
            ("sam_vision_model", transformers.SamVisionConfig, "SamVisionModel"),
            ("sam_hq_vision_model", transformers.SamHQVisionConfig, "SamHQVisionModel"),
        )
    ),
)
