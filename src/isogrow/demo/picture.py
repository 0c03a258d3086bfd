"""What the demo draws: a matrix whose new part wakes, and the loss that goes on where it was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from isogrow.growth.models import anatomy_of
from isogrow.plans.anatomy import Anatomy

FLOOR = 1e-6  # entries below are drawn as this, zeros are left blank


def switch(model: nn.Module) -> tuple[str, Tensor]:
    """The first layer's down-projection: it writes what the ffn channels say into the residual stream."""
    anatomy: Anatomy = anatomy_of(model)
    name = next(
        stored.name
        for stored in anatomy.stored
        for slot in stored.line.slots
        if anatomy.layout.on_residual(slot.produced) and "ffn" in slot.consumed
    )
    return name, model.state_dict()[name].detach().clone()


def draw(
    path: Path, title: str, matrices: Mapping[str, Tensor], before: float, curve: Sequence[float], every: int
) -> bool:
    """Write the picture as PNG; False where matplotlib is not installed.

    `matrices` are drawn side by side as log10|w| on one scale, `before` is the held-out loss of the small
    model, and `curve` the held-out loss of the grown one from growth on, `every` so many steps.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    shapes = [tuple(matrix.shape) for matrix in matrices.values()]
    wide = [shape[1] for shape in shapes]
    figure: Any = Figure(figsize=(11, 3.6), layout="constrained")
    axes = figure.subplots(1, len(matrices) + 1, width_ratios=[*wide, 1.2 * max(wide)])
    images = [
        _heat(axis, label, matrix) for axis, (label, matrix) in zip(axes, matrices.items(), strict=False)
    ]
    figure.colorbar(images[-1], ax=list(axes[:-1]), label="log10 |w|, zeros blank", shrink=0.8)
    axes[-1].axhline(before, color="0.6", linestyle="--", label="small model")
    axes[-1].plot(
        [every * i for i in range(len(curve))], curve, color="tab:blue", marker=".", label="grown model"
    )
    axes[-1].set(title="held-out loss", xlabel="training steps since growth")
    axes[-1].legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    return True


def _heat(axis: Any, label: str, matrix: Tensor) -> Any:
    size = matrix.double().abs()
    shown = size.clamp_min(FLOOR).log10().masked_fill(size == 0, math.nan)
    axis.set(title=label, xticks=[0, shown.shape[1]], yticks=[0, shown.shape[0]])
    return axis.imshow(shown.numpy(), cmap="viridis", vmin=-5, vmax=0, aspect="auto")
