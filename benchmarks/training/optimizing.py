"""What trains a model: AdamW, or Muon for the matrices of its layers and AdamW for all else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BETAS, DECAY = (0.9, 0.95), 0.1
MUON = "Muon"
TIMES = 5  # Newton and Schulz's iteration is made so often, as torch's Muon does


@dataclass(frozen=True)
class Together:
    """Optimizers that step as one."""

    parts: tuple[torch.optim.Optimizer, ...]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> Mapping[Tensor, dict[str, Any]]:
        return {p: own for part in self.parts for p, own in part.state.items()}

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {str(i): part.state_dict() for i, part in enumerate(self.parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for i, part in enumerate(self.parts):
            part.load_state_dict(state[str(i)])


def optimizer_of(model: Any, matrices: str | None = None) -> torch.optim.AdamW | Together:
    """A new one; the rate is set step by step. `matrices`: what trains those of layers, where AdamW does not.

    Muon's steps are scaled to the size of AdamW's, so that one rate is for both.
    """
    if matrices is None:
        return _adamw(list(model.parameters()))
    assert matrices == MUON, matrices
    own = matrices_of(model)
    rest = [p for p in model.parameters() if all(p is not each for each in own)]
    muon = torch.optim.Muon(own, 0.0, DECAY, ns_steps=TIMES, adjust_lr_fn="match_rms_adamw")
    return Together((muon, _adamw(rest)))


def _adamw(parameters: Sequence[Tensor]) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, 0.0, BETAS, weight_decay=DECAY, fused=True)


def parts_of(optimizer: Any) -> tuple[torch.optim.Optimizer, ...]:
    """The optimizers of which it is made."""
    return optimizer.parts if isinstance(optimizer, Together) else (optimizer,)


def matrices_of(model: Any) -> list[Tensor]:
    """The matrices of its layers."""
    return [p for name, p in model.named_parameters() if ".layers." in name and p.dim() == 2]


def matrices_by(optimizer: Any) -> str | None:
    """What trains the matrices of layers by this optimizer, as `optimizer_of` takes it."""
    return MUON if isinstance(optimizer, Together) else None


def muon_flops(model: Any) -> int:
    """Operations of Muon's step: each time 4 n²m + 2 n³ for n rows of m, by its products alone."""
    shapes = [sorted(p.shape) for p in matrices_of(model)]
    return sum(TIMES * (4 * n * n * m + 2 * n**3) for n, m in shapes)
