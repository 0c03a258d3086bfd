"""Wrappers whose images are patches in a grid: tokens of images have positions in time, height and width
(families/multimodal_rope.py)."""

from __future__ import annotations

from typing import Any

from isogrow.families.patch_grid_towers import QWEN2
from isogrow.families.wrapped_towers import Tower
from isogrow.families.wrapping import NORMED, OUT, WRITTEN, Wrapper, last
from isogrow.layouts.layout import Bias, Key, Rename, Weight

VISUAL = "visual"
MERGING = ("hidden",)
# Of several depths of the tower, whose features are added behind the first layers.
DEEP = Weight(
    "visual.deepstack_merger_list.{depths}.linear_fc2.weight", WRITTEN, "projector.deep", bias=Bias()
)
MERGED = last("visual.merger.linear_fc2.weight", Bias(), "vision_merged")


def grid(kind: str, **more: Any) -> tuple[Tower, ...]:
    """A tower of patches in a grid, whose merger is read."""
    return (Tower(VISUAL, kind, **more),)


GRIDS = (
    Wrapper(
        "qwen2_vl",
        "qwen2_vl_text",
        ("visual",),
        last("visual.merger.mlp.2.weight", Bias(), "vision_merged"),
        either=True,
        keys=(Key("vision_config.hidden_size", "hidden", 3584),),
        flat=True,
        towers=grid("qwen2_vl_vision", lifted=MERGING, own=QWEN2),
    ),
    Wrapper(
        "qwen2_5_vl",
        "qwen2_5_vl_text",
        ("visual",),
        last("visual.merger.mlp.2.weight", Bias(), "vision_merged"),
        either=True,
        keys=OUT,
        flat=True,
        towers=grid("qwen2_5_vl_vision", lifted=MERGING),
    ),
    *(
        Wrapper(
            kind,
            f"{kind}_text",
            ("visual",),
            (*MERGED, DEEP),
            keys=OUT,
            leading="depths",
            towers=grid(f"{kind}_vision"),
        )
        for kind in ("qwen3_vl", "qwen3_vl_moe")
    ),
    *(
        Wrapper(
            kind,
            f"{kind}_text",
            ("visual",),
            MERGED,
            keys=OUT,
            towers=grid(f"{kind}_vision", lifted=MERGING),
        )
        for kind in ("qwen3_5", "qwen3_5_moe")
    ),
    *(
        Wrapper(
            kind,
            text,
            ("visual",),
            either=either,
            refusals={"hidden": NORMED},
            towers=grid(f"{text.removesuffix('_text')}_vision", named=kind in ("glm46v", "glmga")),
        )
        for kind, text, either in (
            ("glm4v", "glm4v_text", True),
            ("glm4v_moe", "glm4v_moe_text", True),
            ("glm46v", "glm4v_text", False),
            ("glmga", "glm4v_text", False),
            ("glm_ocr", "glm_ocr_text", True),
        )
    ),
    Wrapper(
        "paddleocr_vl",
        "paddleocr_vl_text",
        ("visual", "projector"),
        last("projector.linear_2.weight", Bias()),
        renames=(Rename("mlp_AR.", "model.projector."),),
        tie=True,
        either=True,
        flat=True,
    ),
    Wrapper(
        "hunyuan_vl",
        "hunyuan_vl_text",
        ("vision_tower",),
        renames=(Rename("vit.", "model.vision_tower."), Rename("model.vit.", "model.vision_tower.")),
        tie=True,
        either=True,
        flat=True,
        refusals={"hidden": NORMED},
    ),
    Wrapper(
        "exaone4_5",
        "exaone4",
        ("visual",),
        last("visual.merger.mlp.2.weight", Bias(), "vision_merged"),
        keys=OUT,
        towers=grid("exaone4_5_vision", lifted=MERGING),
    ),
)
