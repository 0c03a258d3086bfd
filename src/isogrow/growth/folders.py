"""`grow_checkpoint`, apart from what grows models in memory: it loads only what it needs, and torch late."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from isogrow.errors import OutputError
from isogrow.growth.meeting import together
from isogrow.growth.opening import Opened, opened
from isogrow.growth.taken import check_blind, check_taken
from isogrow.layouts.config import Config
from isogrow.optim.moments import Policy
from isogrow.paths import expanded
from isogrow.planning.request import Said, check_grows, requested
from isogrow.plans.expansions import Expansion
from isogrow.plans.plan import Plan
from isogrow.plans.regions import naming
from isogrow.quiet import on_cpu
from isogrow.stores.asking import asking, grown_config
from isogrow.stores.staging import Told, failed_of

if TYPE_CHECKING:
    from isogrow.growth.resuming import Groups


@on_cpu()
def grow_checkpoint(
    src: str | Path | Opened,
    out: str | Path,
    *expansions: Expansion,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
    resume: bool = False,
    hash_files: bool = False,
    keep_failed: bool = False,
    revision: str | None = None,
    config: Config | str | Path | None = None,
    format: str = "safetensors",
    optimizer: str = "grow",
    policy: Policy | None = None,
    groups: Groups | None = None,
    progress: Callable[[int, int], None] | None = None,
    verify: Callable[[Path], str] | None = None,
    told: Told | None = None,
    alone: bool = False,
    **request: Unpack[Said],
) -> Plan:
    """Grow the checkpoint `src` (a folder or a Hub id) into the new folder `out`; the plan is returned.

    The request is as in `grow`; the rest is as in `isogrow.interpreters.checkpoint`. Nothing is held in
    memory but a part of one tensor. `src` may be a distributed checkpoint of torch (DCP), and `format` write
    one; `config` is the config of a folder that has none: its values, its file, or a folder that holds it.
    An `optimizer.pt` that Hugging Face's Trainer left there is grown too (and held in memory for that, as
    Trainer does), and the rest of the run's state travels, so `train(resume_from_checkpoint=out)` goes on;
    `policy` and `groups` are as in `grow_optimizer_state`. `optimizer="drop"` writes the model alone.

    In a process group of torch.distributed, or under torchrun, every rank makes the same call and writes its
    share of the same bytes (docs/sharding.md); one that grows without the others gives `alone=True`.

    Raises what `grow` does, `CheckpointError` for what is no checkpoint, `OutputError` for a place that can't
    be written, `StateError` for a state that can't be grown; nothing is left behind then. Raises `RankLost`
    where another rank has ended.
    """
    check_taken("grow_checkpoint", request)
    _check_given(out, verify)
    how: dict[str, Any] = dict(dtype=dtype, max_shard_size=max_shard_size, format=format, overwrite=overwrite)
    how |= dict(resume=resume, hash_files=hash_files, keep_failed=keep_failed)
    how |= dict(progress=progress, verify=verify, told=told)
    with together(alone) as writers, asking(beside=verify is None and writers.me == 0) as ask:
        found, asked, first = opened(src, revision, config), requested(expansions, request), writers.me == 0
        check_blind(asked.kind)
        if keep_failed and first:
            _check_none_kept(failed_of(expanded(out)))
        with naming(asked.kind):
            plan = asked.plan(found.anatomy)
            check_grows(plan)
            question = ask(grown_config(found.checkpoint.config, plan, dtype))
            from isogrow.growth.resuming import resumable  # torch, while the class is asked
            from isogrow.interpreters.checkpoint import grow_checkpoint as write_checkpoint

            how["optimizer"] = resumable(found, plan, optimizer, policy, groups, format, here=first)
            source = (found.checkpoint, found.anatomy, plan, expanded(out))
            write_checkpoint(*source, question=question, writers=writers, **how)
    return plan


def _check_none_kept(kept: Path) -> None:
    """What failed before is somebody's to look at, so not even `overwrite` replaces it."""
    if os.path.lexists(kept):
        raise OutputError(
            f"{kept} exists, where an output that fails its proof would be kept: remove it, or leave out"
            " keep_failed=True (--keep-failed)"
        )


def _check_given(out: object, verify: object) -> None:
    if verify is not None and not callable(verify):
        raise OutputError(
            f"verify is {verify!r:.60}, and is a function that is called with the folder before it appears:"
            " leave it out, and compare by isogrow.verify(src, out)"
        )
    if not isinstance(out, str | Path):
        raise OutputError(
            f"out is {out!r:.60}: name the folder to write, isogrow.grow_checkpoint(src, out, …)"
        )
