"""The lines of a mixture's experts: single in files, stacked with gate and up in one tensor in memory.

Both name the same blocks, so a model may have either.
"""

from __future__ import annotations

from isogrow.layout import Weight


def single(
    stem: str,
    ffn: str,
    when: str = "",
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
) -> tuple[Weight, ...]:
    """The lines of experts that are stored one by one."""
    gate, up, down = (f"{stem}experts.{{experts}}.{name}.weight" for name in names)
    return (
        Weight(gate, f"{ffn} <- hidden", "experts.gate", when=when),
        Weight(up, f"{ffn} <- hidden", "experts.up", when=when),
        Weight(down, f"hidden <- {ffn}", "experts.down", when=when),
    )


def stacked(stem: str, ffn: str, when: str = "") -> tuple[Weight, ...]:
    """The lines of experts that are stored together."""
    both = f"{{experts}} (gate: {ffn} + up: {ffn}) <- hidden"
    return (
        Weight(stem + "experts.gate_up_proj", both, "experts.*", when=when),
        Weight(stem + "experts.down_proj", f"{{experts}} hidden <- {ffn}", "experts.down", when=when),
    )
