"""The families that isogrow knows: one data file each, and a registry by `model_type`."""

from __future__ import annotations

from isogrow.errors import FamilyError
from isogrow.families import bert, gemma, gpt2, gpt_neox, gptj, granite, llama, olmo2, phi, phi3, qwen3, starcoder2
from isogrow.layout import Layout

LAYOUTS: dict[str, Layout] = {}


def register(layout: Layout) -> Layout:
    """Make a layout known under its model types (its family's name, if it has none)."""
    for model_type in layout.model_types or (layout.family,):
        LAYOUTS[model_type] = layout
    return layout


def layout_for(model_type: str) -> Layout:
    """The layout of a config's `model_type`, or a refusal that names those that are known."""
    if model_type not in LAYOUTS:
        raise FamilyError(
            f"model_type {model_type!r} is not known: isogrow grows {', '.join(sorted(LAYOUTS))};"
            " for a model of your own write a layout (docs/add-a-family.md) and register it"
        )
    return LAYOUTS[model_type]


for _module in (llama, qwen3, gpt2, bert, gemma, granite, olmo2, phi3, gpt_neox, gptj, phi, starcoder2):
    for _layout in _module.LAYOUTS:
        register(_layout)
