"""The Python API: `grow` a model that is in memory, `grow_checkpoint` a folder.

small = AutoModelForCausalLM.from_pretrained(...)
large = isogrow.grow(small, hidden=768, ffn="x2", layers="+4")
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from torch import nn

from isogrow.anatomy import Anatomy, match
from isogrow.errors import SizeError
from isogrow.expansions import Expansion, Size
from isogrow.families import layout_of
from isogrow.interpreters.checkpoint import grow_checkpoint as write_checkpoint
from isogrow.interpreters.module import grow_module
from isogrow.laws import check
from isogrow.models import anatomy_of, build_of, remember
from isogrow.plan import Init, Plan
from isogrow.planning import check_fits
from isogrow.planning import expansions as in_order
from isogrow.planning import plan as make_plan
from isogrow.sources import open_checkpoint

Model = TypeVar("Model", bound=nn.Module)
Kind = Literal["normal", "uniform", "copy", "orthogonal"]
Std = float | Literal["match"]
Place = str | tuple[int, ...]


def grow(
    model: Model,
    *expansions: Expansion,
    layers_at: Place = "end",
    init: Kind = "normal",
    init_std: Std = "match",
    seed: int = 0,
    plan: Plan | None = None,
    allow_dead: bool = False,
    **sizes: Size,
) -> Model:
    """A larger model of the same class that computes the same function; `model` is left as it is.

    Sizes by name (`hidden=768, ffn="x2", layers="+4"`), or expansions in the order given, or a `plan`.
    New weights that the laws leave free are drawn by `init` with `init_std`.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> config = LlamaConfig(vocab_size=64, hidden_size=24, intermediate_size=40,
    ...                      num_hidden_layers=2, num_attention_heads=4)
    >>> small = LlamaForCausalLM(config).eval()
    >>> large = grow(small, hidden=32, ffn="x2", layers="+1")
    >>> ids = torch.arange(9)[None]
    >>> bool(torch.allclose(small(ids).logits, large(ids).logits, atol=1e-5))
    True
    """
    anatomy = anatomy_of(model)
    wanted = (*expansions, *in_order(sizes, layers_at))
    plan = _planned(anatomy, wanted, Init(init, init_std), seed, allow_dead, plan)
    large = grow_module(model, anatomy, plan, build_of(model))
    remember(large, anatomy, plan)
    return large  # pyright: ignore[reportReturnType]  (the same class, built anew)


def grow_checkpoint(
    src: str | Path,
    out: str | Path,
    *expansions: Expansion,
    layers_at: Place = "end",
    init: Kind = "normal",
    init_std: Std = "match",
    seed: int = 0,
    plan: Plan | None = None,
    allow_dead: bool = False,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
    resume: bool = False,
    hash_files: bool = False,
    revision: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    verify: Callable[[Path], str] | None = None,
    **sizes: Size,
) -> Plan:
    """Grow the checkpoint `src` (a folder or a Hub id) into the new folder `out`; the plan is returned.

    Sizes, `init` and `plan` are as in `grow`; what is written, and when it is refused, is as in
    `isogrow.interpreters.checkpoint`. Nothing is held in memory but a part of one tensor at a time.
    """
    checkpoint = open_checkpoint(src, revision)
    anatomy = match(layout_of(checkpoint.config), checkpoint.config, checkpoint.headers)
    wanted = (*expansions, *in_order(sizes, layers_at))
    plan = _planned(anatomy, wanted, Init(init, init_std), seed, allow_dead, plan)
    write_checkpoint(
        checkpoint,
        anatomy,
        plan,
        out,
        dtype=dtype,
        max_shard_size=max_shard_size,
        overwrite=overwrite,
        resume=resume,
        hash_files=hash_files,
        progress=progress,
        verify=verify,
    )
    return plan


def _planned(
    anatomy: Anatomy,
    wanted: tuple[Expansion, ...],
    init: Init,
    seed: int,
    allow_dead: bool,
    plan: Plan | None,
) -> Plan:
    """The plan that is asked for, or the one that is given, if it is for this model."""
    if plan is None:
        return make_plan(anatomy, wanted, init, seed, allow_dead)
    if wanted:
        raise SizeError("both a plan and sizes are given: give one of them")
    check_fits(anatomy, plan)
    check(anatomy, plan, allow_dead)
    return plan
