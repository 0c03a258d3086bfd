"""The lines of a mixture's experts: single in files, stacked with gate and up in one tensor in memory.

Both name the same blocks, so a model may have either. What reads the residual stands before what writes it.
"""

from __future__ import annotations

from isogrow.layout import Weight

NAMES = ("gate_proj", "up_proj", "down_proj")


def router(stem: str, when: str = "", idle: str = "") -> Weight:
    """The line of a router without bias."""
    name = stem + "gate.weight"
    return Weight(name, "experts <- hidden", "router", when=when, scales="experts.down", idle=idle)


def readers(
    stem: str, ffn: str, when: str = "", files: str = "", names: tuple[str, str, str] = NAMES
) -> tuple[Weight, ...]:
    """Gate and up: one by one under the stem `files`, and stacked."""
    both = f"{{experts}} (gate: {ffn} + up: {ffn}) <- hidden"
    gate, up = (f"{files or stem}experts.{{experts}}.{name}.weight" for name in names[:2])
    return (
        Weight(gate, f"{ffn} <- hidden", "experts.gate", when=when),
        Weight(up, f"{ffn} <- hidden", "experts.up", when=when),
        Weight(stem + "experts.gate_up_proj", both, "experts.*", when=when),
    )


def writers(
    stem: str, ffn: str, when: str = "", files: str = "", names: tuple[str, str, str] = NAMES
) -> tuple[Weight, ...]:
    """Down: one by one, and stacked."""
    down = f"{files or stem}experts.{{experts}}.{names[2]}.weight"
    return (
        Weight(down, f"hidden <- {ffn}", "experts.down", when=when),
        Weight(stem + "experts.down_proj", f"{{experts}} hidden <- {ffn}", "experts.down", when=when),
    )
