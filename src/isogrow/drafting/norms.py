"""Norms, known by calling them: what kind, what is added to the gain, which ε."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from isogrow.verification.float64 import float64

CLOSE = 1e-9


@dataclass(frozen=True)
class Measured:
    """A norm as it behaves. `gain` and `shift` say whether it has them as parameters."""

    kind: Literal["rms", "layer"]
    offset: float
    eps: float
    gain: str
    shift: str


def measured(norm: nn.Module, width: int, lead: tuple[int, ...] = ()) -> Measured | None:
    """What a norm over the last dim does, or None for what is none.

    Law: norm(x) = (g + offset) · (x - m) / √(mean((x - m)²) + ε) + b, with m = mean(x) ("layer") or 0
    ("rms").
    """
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, *lead, width, generator=generator, dtype=torch.float64)
    own = {name: value for name, value in norm.named_parameters(recurse=False)}
    gain = next((name for name in own if name.endswith(("weight", "scale", "gamma"))), "")
    shift = next((name for name in own if name.endswith(("bias", "beta"))), "")
    with float64(), torch.no_grad():
        try:
            made, small = norm(x), norm(x * 1e-3)
        except (RuntimeError, TypeError, ValueError):
            return None
    if not isinstance(made, Tensor) or made.shape != x.shape or len(own) != bool(gain) + bool(shift):
        return None
    if any(own[name].shape != x.shape[x.dim() - own[name].dim() :] for name in (gain, shift) if name):
        return None
    g = own[gain].detach() if gain else torch.ones((), dtype=torch.float64)
    b = own[shift].detach() if shift else torch.zeros((), dtype=torch.float64)
    for kind in ("rms", "layer"):
        centre = x.mean(-1, keepdim=True) if kind == "layer" else torch.zeros(())
        for offset in (0.0, 1.0) if gain else (0.0,):
            eps = _epsilon(made - b, small - b, x - centre, g + offset)
            if eps is not None:
                return Measured(kind, offset, eps, gain, shift)
    return None


def _epsilon(made: Tensor, small: Tensor, x: Tensor, gain: Tensor) -> float | None:
    """The ε under which a centred x and x / 1000 give this; None if no ε does."""
    square = x.square().mean(-1)
    factor = ((gain * x) * made).sum(-1) / (gain * x).square().sum(-1)
    shrunk = ((gain * x * 1e-3) * small).sum(-1) / (gain * x * 1e-3).square().sum(-1)
    if bool((factor <= 0).any()) or not torch.allclose(
        factor[..., None] * gain * x, made, rtol=CLOSE, atol=1e-12
    ):
        return None
    eps = (shrunk.pow(-2) - square * 1e-6).mean()
    rebuilt = gain * x / (square + eps).sqrt()[..., None]
    if not torch.allclose(rebuilt, made, rtol=1e-7, atol=1e-9):
        return None
    return float(f"{max(float(eps), 0.0):.4g}")
