"""How far two models' outputs lie apart, and how far one model's own outputs do.

The numbers that a proof of preservation is made of: the largest difference, absolute and relative,
and the Kullback-Leibler divergence of what the outputs predict, beside the model's noise floor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn

from isogrow.errors import IsogrowError
from isogrow.verification.runs import Batch, Outputs, called, first_tensor, full, row_by_row, still


@dataclass(frozen=True)
class Difference:
    """The difference of b from a, both of shape (…, n).

    `absolute` = max|a − b| and `scale` = max|a|, each over every entry of the tensor; an entry
    that is equal on both sides (infinite ones too) differs by 0, and one that is not a number on
    either side by infinity. `kl_mean` and `kl_max` are over the `rows` (all dims but the last) of
    KL(softmax a ‖ softmax b) in nats; they mean something where a and b are logits.
    """

    absolute: float
    scale: float
    kl_mean: float
    kl_max: float
    rows: int

    @property
    def relative(self) -> float:
        """max|a − b| / max|a|; 0 if nothing differs, infinite if a is all zero and b is not."""
        if self.absolute == 0:
            return 0.0
        return self.absolute / self.scale if self.scale > 0 else math.inf


@dataclass(frozen=True)
class NoiseFloor:
    """How far a model's outputs move in its own dtype when nothing about it changes.

    `by` holds, for each other way of evaluating it, the difference of each output by name.
    """

    by: Mapping[str, Mapping[str, Difference]]

    @property
    def worst(self) -> Difference:
        """All ways and outputs taken together."""
        return combined(each for ways in self.by.values() for each in ways.values())

    def within(self, most: float) -> NoiseFloor:
        """Without the ways in which a class computes another function: an output moves more than `most`."""
        return NoiseFloor({way: by for way, by in self.by.items() if combined(by.values()).absolute <= most})


def difference(a: Tensor, b: Tensor) -> Difference:
    """How far `b` lies from `a`, computed in float64; raises if their shapes differ.

    >>> difference(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 3.0])).relative
    0.25
    """
    absolute, scale = gap(a, b)
    divergence = _divergence(a.detach().double(), b.detach().double())
    rows = divergence.numel()
    return Difference(
        absolute=absolute,
        scale=scale,
        kl_mean=divergence.mean().item() if rows else 0.0,
        kl_max=divergence.max().item() if rows else 0.0,
        rows=rows,
    )


def differences(a: Outputs, b: Outputs) -> dict[str, Difference]:
    """The difference of each output, by name; raises if the two hold different names."""
    if a.keys() != b.keys():
        raise IsogrowError(
            f"one model returns {sorted(a)} and the other {sorted(b)}: compare models of the same class"
        )
    return {name: difference(a[name], b[name]) for name in a}


def combined(parts: Iterable[Difference]) -> Difference:
    """What `difference` would say of all the parts' tensors concatenated along a leading dim.

    >>> combined([Difference(1.0, 2.0, 0.1, 0.2, 3), Difference(0.5, 4.0, 0.3, 0.3, 1)]).relative
    0.25
    """
    parts = tuple(parts)
    rows = sum(part.rows for part in parts)
    return Difference(
        absolute=max((part.absolute for part in parts), default=0.0),
        scale=max((part.scale for part in parts), default=0.0),
        kl_mean=sum(part.kl_mean * part.rows for part in parts) / max(rows, 1),
        kl_max=max((part.kl_max for part in parts), default=0.0),
        rows=rows,
    )


def shared(whole: Outputs, alone: Outputs) -> tuple[Outputs, Outputs]:
    """Both without what rows have together, as the scores of each image for each text."""
    names = [name for name, value in whole.items() if name in alone and alone[name].shape == value.shape]
    return {name: whole[name] for name in names}, {name: alone[name] for name in names}


def noise_floor(model: nn.Module, batch: Batch) -> NoiseFloor:
    """The model against itself on one batch: each row alone, and with another attention kernel.

    No exact growth can be expected to differ by less in the model's own dtype. A model that has
    one attention implementation only is evaluated in another batch shape only.
    """
    whole = full(model, batch)
    by = {"row by row": differences(*shared(whole, row_by_row(model, batch)))}
    other = other_attention(model)
    if other is not None:
        with attention(model, other):
            by[f"{other} attention"] = differences(whole, full(model, batch))
    return NoiseFloor(by)


def first_difference(
    small: nn.Module,
    large: nn.Module,
    batch: Batch,
    layer_map: Mapping[str, str],
    channels: Tensor | None,
    tolerance: float,
) -> str | None:
    """The first module whose output differs by more than `tolerance`, relative; None if none does.

    `layer_map` names modules of the small model and their counterparts in the large one, in the
    order in which they run; the first output tensor of each one's first call is compared. Where
    the large one's is wider, `channels` (n indices into its last dim) picks the old channels. The
    answer is the module's name, or "small -> large" where the two bear different names.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    >>> other = nn.Sequential(model[0], nn.Linear(3, 4))
    >>> first_difference(model, other, {"input": torch.ones(1, 2)}, {"0": "0", "1": "1"}, None, 0)
    '1'
    """
    old = _recorded(small, batch, layer_map.keys())
    new = _recorded(large, batch, layer_map.values())
    apart = {name for name, counterpart in layer_map.items() if (name in old) != (counterpart in new)}
    assert not apart, f"modules that ran in one model alone: {apart}"
    for name, counterpart in layer_map.items():
        if name not in old:  # its weights are read, and it is never called
            continue
        a, b = old[name], new[counterpart]
        if channels is not None and b.shape[-1] != a.shape[-1]:
            b = b.index_select(-1, channels.to(b.device))
        absolute, scale = gap(a, b)
        if absolute > tolerance * scale:
            return name if name == counterpart else f"{name} -> {counterpart}"
    return None


def gap(a: Tensor, b: Tensor) -> tuple[float, float]:
    """max|a − b| and max|a| over finite entries."""
    if a.shape != b.shape:
        raise IsogrowError(
            f"outputs of shape {tuple(a.shape)} and {tuple(b.shape)} can't be compared: give the "
            "same batch to both models, and the old channels where hidden has grown"
        )
    if not a.numel():
        return 0.0, 0.0
    a, b = a.detach().double(), b.detach().double()
    absolute, scale = (a - b).abs().max().item(), a.abs().max().item()
    if math.isfinite(absolute) and math.isfinite(scale):
        return absolute, scale
    apart = torch.where(a == b, 0.0, (a - b).abs()).nan_to_num(nan=math.inf, posinf=math.inf)
    return apart.max().item(), torch.where(a.isfinite(), a.abs(), 0.0).max().item()


def _divergence(a: Tensor, b: Tensor) -> Tensor:
    """KL(softmax a ‖ softmax b) of each row; a class that a gives no probability adds nothing."""
    a, b = a.log_softmax(-1), b.log_softmax(-1)
    terms = torch.where(a == -math.inf, 0.0, a.exp() * (a - b))
    return terms.sum(-1).nan_to_num(nan=math.inf).clamp_min(0.0)


def _recorded(model: nn.Module, batch: Batch, names: Iterable[str]) -> dict[str, Tensor]:
    """The first output tensor of each named module, from one forward pass."""
    modules: dict[str, nn.Module] = dict(cast(Any, model).named_modules())
    seen: dict[str, Tensor] = {}
    wanted = list(names)
    assert set(wanted) <= modules.keys(), f"no such modules: {set(wanted) - modules.keys()}"
    with ExitStack() as hooks, still(model):
        for name in wanted:
            hooks.enter_context(modules[name].register_forward_hook(_keeper(seen, name)))
        called(model, batch)
    assert seen, f"modules that never ran: {set(wanted)}"
    return seen


def _keeper(seen: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        # A clone, since a later module may change the tensor in place.
        if name not in seen:
            seen[name] = first_tensor(output).detach().clone()

    return keep


def other_attention(model: nn.Module) -> str | None:
    """The other of `eager` and `sdpa`, where the model and its parts can change between them; else None."""
    if not isinstance(model, transformers.PreTrainedModel):
        return None
    flags = cast(Any, model)
    if not (flags._supports_sdpa and flags._can_set_attn_implementation()):
        return None
    other = "eager" if flags.config._attn_implementation == "sdpa" else "sdpa"
    try:
        with attention(model, other):
            return other
    except ValueError:  # a tower's class may refuse what the model's takes
        return None


@contextmanager
def attention(model: nn.Module, name: str) -> Generator[None]:
    """Switch the attention implementation of a Hugging Face model, and back."""
    found = [_config(part) for part in model.modules()]
    configs = {id(each): each for each in found if each is not None}
    before = [(each, each._attn_implementation_internal) for each in configs.values()]
    try:
        cast(Any, model).set_attn_implementation(name)
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation


@contextmanager
def as_run(model: nn.Module, other: nn.Module) -> Generator[None]:
    """Switch a Hugging Face model to the attention of its copy in another dtype where that is torch's own,
    and back."""
    wanted = getattr(_config(other), "_attn_implementation", None)
    if wanted != "sdpa" or other_attention(model) != wanted:
        yield
        return
    with attention(model, wanted):
        yield


def _config(part: nn.Module) -> Any:
    return getattr(part, "config", None)
