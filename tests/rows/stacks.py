"""DINOv2: models that are no decoders of one stack of tokens."""

from __future__ import annotations

import torch
import transformers
from family import BOOLS, EPS, LABELS, LAYERS, Family, Json, Steps
from hypothesis import strategies as st
from torch import Tensor

from isogrow.anatomy import Anatomy
from isogrow.expansions import (
    AttentionExpansion,
    HeadAddition,
    HeadsExpansion,
    HiddenExpansion,
    MlpExpansion,
)

IMAGE, PATCH, CHANNELS = 12, (2, 6), 4


def images(kind: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Images, and a mask of their patches where the class takes one."""
    pixels = torch.randn(3, CHANNELS, IMAGE, IMAGE, generator=generator, dtype=torch.float64)
    patches = (IMAGE // PATCH[0]) * (IMAGE // PATCH[1])
    masked = torch.rand(len(pixels), patches, generator=generator) < 0.3
    mask = {"bool_masked_pos": masked} if kind == "Dinov2Model" else {}
    return {"pixel_values": pixels, **mask}


def dinov2_options(draw: st.DrawFn) -> Json:
    heads, head_dim = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([4, 7]))
    return dict(
        hidden_size=heads * head_dim,
        num_attention_heads=heads,
        num_hidden_layers=draw(LAYERS),
        mlp_ratio=draw(st.sampled_from([1, 2, 4])),
        layer_norm_eps=draw(EPS),
        qkv_bias=draw(BOOLS),
        use_swiglu_ffn=draw(BOOLS),
    )


def dinov2_growths(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """Heads fill hidden, and ffn is computed from it."""
    now = anatomy.sizes.values
    heads, dim = now["heads"] + draw(st.integers(0, 3)), now["key_dim"] + draw(st.integers(0, 4))
    said = anatomy.layout.defaults(anatomy.config)
    hidden, ratio = heads * dim, said["mlp_ratio"] + draw(st.integers(0, 2))
    ffn = (int(hidden * ratio * 2 / 3) + 7) // 8 * 8 if said["use_swiglu_ffn"] else hidden * ratio
    dims = (AttentionExpansion(dim), HeadsExpansion(dim))
    return [HiddenExpansion(hidden), MlpExpansion(ffn), HeadAddition(heads), *dims]


DINOV2 = Family(
    "dinov2",
    transformers.Dinov2Config,
    ("Dinov2Model", "Dinov2ForImageClassification"),
    dict(
        num_labels=LABELS,
        image_size=IMAGE,
        patch_size=list(PATCH),
        num_channels=CHANNELS,
        hidden_size=30,
        mlp_ratio=2,
        num_hidden_layers=3,
        num_attention_heads=5,
        layer_norm_eps=1e-2,
    ),
    {
        "hidden and heads": {"hidden": 42, "heads": 7, "ffn": 84},
        "hidden and head_dim": {"hidden": 55, "head_dim": 11, "ffn": 110},
        "ffn": {"ffn": 90},
        "layers": {"layers": 5},
    },
    dict(hidden=98, heads=7, head_dim=14, ffn=294, layers="+2"),
    dinov2_options,
    dinov2_growths,
    inputs=images,
    widths=((),),
)

ROWS = (DINOV2,)
