"""Proving that an adapter grew with its base: both pairs loaded by PEFT, and compared.

With S and L for the bases, a and â for the adapters, and what is stored of each:

    max |L + â − (S + a)|  ≤  1e-12 max |S + a|              where all of it is stored in float64,
                           ≤  OWN · max(rounding, ulp)       where it is stored in a coarser dtype,

both run in float64; rounding is how far S + a in that dtype is from itself in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isogrow.errors import CheckpointError, EngineError
from isogrow.growth.opening import opened
from isogrow.quiet import on_cpu, quiet
from isogrow.stores.adapters import Adapter, read_adapter
from isogrow.stores.dtypes import word_of
from isogrow.stores.sources import Checkpoint, open_checkpoint
from isogrow.verification.checks import EXACT, OWN
from isogrow.verification.elsewhere.outputs import batches_for, coarsest, farthest
from isogrow.verification.float64 import float64, rebuilt
from isogrow.verification.memory import parameters, shortage
from isogrow.verification.pair import loaded
from isogrow.verification.report import Check, Report, silent
from isogrow.verification.runners.runner import Ids, Logits
from isogrow.verification.runners.transformers import outputs

NAME = "adapter"


@dataclass(frozen=True)
class Both:
    """A base and its adapter."""

    base: Checkpoint
    adapter: Adapter

    @property
    def dtypes(self) -> list[str]:
        """In what each tensor of both is stored."""
        own = [word_of(tensor.dtype) for tensor in self.adapter.tensors.values()]
        return [*own, *(header.dtype for header in self.base.headers.values())]


@on_cpu()
def verify_adapter(
    adapter: str | Path,
    grown: str | Path,
    *,
    base: str | Path,
    small: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Compare base + adapter with the grown base + the grown adapter, as PEFT runs both; it has to be
    installed.

    `base` is the grown base's folder; the small one's is what the adapter's config names, or `small`. Raises
    `CheckpointError` for what is no adapter or no model, `EngineError` where PEFT is not installed.

    >>> verify_adapter("adapter/", "adapter-large/", base="large/").passed  # doctest: +SKIP
    True
    """
    say = progress or silent
    one, two = read_adapter(adapter), read_adapter(grown)
    first = opened(small if small is not None else _named(one))
    before, after = Both(first.checkpoint, one), Both(open_checkpoint(base), two)
    if lack := shortage(*(parameters(each.base) for each in (before, after))):
        return Report((Check(NAME, None, detail=lack),), proves=NAME)
    ids = batches_for(first)[0]
    say("base and adapter in float64, before and after")
    right = computed(before, ids)
    gap = farthest([right], [computed(after, ids)])
    say("what rounding allows")
    dtype = coarsest([], (word for each in (before, after) for word in each.dtypes))
    rounding = farthest([right], [computed(before, ids, dtype)]).relative
    limit = EXACT if dtype == torch.float64 else OWN * max(rounding, torch.finfo(dtype).eps)
    passed = gap.relative <= limit
    told = f"{ids.size} tokens, stored in {str(dtype).removeprefix('torch.')}" if passed else gap.where
    return Report((Check(NAME, passed, gap.relative, limit, told),), proves=NAME)


def computed(both: Both, ids: Ids, dtype: torch.dtype | None = None) -> Logits:
    """What a base and its adapter compute, in a dtype or (None) in float64 throughout."""
    context = float64() if dtype is None else nullcontext()
    with context, torch.no_grad():
        return outputs(together(both, dtype), torch.from_numpy(ids)).double().numpy()


def together(both: Both, dtype: torch.dtype | None) -> nn.Module:
    """A base with its adapter, as PEFT loads them, in a dtype or in float64 throughout."""
    if find_spec("peft") is None:
        raise EngineError("an adapter is proven by PEFT, which is not installed here: pip install peft")
    peft: Any = import_module("peft")
    model: Any = loaded(both.base.folder, dtype)
    model.config._experts_implementation = "eager"  # the other kernel has no float64
    with quiet(), torch.random.fork_rng(devices=[]):
        base = rebuilt(model) if dtype is None else model
        return peft.PeftModel.from_pretrained(
            base, str(both.adapter.folder), autocast_adapter_dtype=False
        ).eval()


def _named(adapter: Adapter) -> str:
    """The base that an adapter's config names."""
    said = adapter.config.get("base_model_name_or_path")
    if not isinstance(said, str) or not said:
        raise CheckpointError(
            f"{adapter.folder} names no base (base_model_name_or_path): give it too (small=, --small)"
        )
    return said
