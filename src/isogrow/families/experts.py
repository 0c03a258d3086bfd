"""The rows of a mixture's experts: single in files, stacked with gate and up in one tensor in memory.

What reads the residual stands before what writes it.
"""

from __future__ import annotations

from isogrow.layouts.layout import Bias, Binding, Weight

NAMES = ("gate_proj", "up_proj", "down_proj")


def router(stem: str, when: str = "", idle: str = "") -> Weight:
    """The row of a router without bias."""
    name = stem + "gate.weight"
    return Weight(name, "experts <- hidden", "router", when=when, scales="experts.down", idle=idle)


def readers(
    stem: str, ffn: str, when: str = "", names: tuple[str, str, str] = NAMES
) -> tuple[Weight, Weight]:
    """Gate and up."""
    gate, up = (f"{stem}experts.{{experts}}.{name}.weight" for name in names[:2])
    return (
        Weight(gate, f"{ffn} <- hidden", "experts.gate", when=when),
        Weight(up, f"{ffn} <- hidden", "experts.up", when=when),
    )


def writer(stem: str, ffn: str, when: str = "", names: tuple[str, str, str] = NAMES) -> Weight:
    """Down."""
    return Weight(
        f"{stem}experts.{{experts}}.{names[2]}.weight", f"hidden <- {ffn}", "experts.down", when=when
    )


def shared_readers(stem: str, size: str, when: str = "", bias: Bias | None = None) -> tuple[Weight, Weight]:
    """Gate and up of the shared experts, which are one MLP."""
    return (
        Weight(stem + "gate_proj.weight", f"{size} <- hidden", "shared.gate", when=when, bias=bias),
        Weight(stem + "up_proj.weight", f"{size} <- hidden", "shared.up", when=when, bias=bias),
    )


def shared_writer(stem: str, size: str, when: str = "", bias: Bias | None = None) -> Weight:
    """Down of them."""
    return Weight(stem + "down_proj.weight", f"hidden <- {size}", "shared.down", when=when, bias=bias)


def stacked(stem: str, ffn: str, **others: str) -> Binding:
    """How memory has them; `others` (router) are further slots under other names there, behind the stem."""
    return Binding(
        "memory",
        {
            **{stem + name: slot for slot, name in others.items()},
            stem + "experts.gate_up_proj": ("experts.*", f"{{experts}} (gate: {ffn} + up: {ffn}) <- hidden"),
            stem + "experts.down_proj": ("experts.down", f"{{experts}} hidden <- {ffn}"),
        },
    )
