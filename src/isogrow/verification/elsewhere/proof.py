"""Proving a growth in another engine: the small model there against the grown one there.

An engine may compute the small model its own way (an ε of its own, another kernel). What a growth answers
for is that the grown one comes out there as the small one does. With f for the engine, S and L for the small
model and the large one, on the same batches:

    max |f(L) − f(S)|  ≤  ROOM · max(noise, rounding, ulp)

noise is how far the engine is from itself on the small model (the same rows in other batch shapes and
orders); rounding is what the small model's own dtype costs it in transformers (its distance from float64);
ulp is one unit of that dtype at the largest output. A grown model is rounded as often as the small one, in
other places: each of the two may be that far from what it means. The rest of ROOM is for the engine's own
rounding: it sums in another order, fuses other steps, and computes its tables of angles by other functions.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from pathlib import Path

import torch

from isogrow.engines import Engine, announced
from isogrow.errors import EngineError, IsogrowError
from isogrow.growth.opening import Opened, opened, seen
from isogrow.planning.request import read_plan
from isogrow.stores.sources import Checkpoint, open_checkpoint
from isogrow.verification.elsewhere import apart
from isogrow.verification.elsewhere.outputs import batches_for, coarsest, farthest, noise_of
from isogrow.verification.memory import parameters, shortage
from isogrow.verification.report import Check, Report, silent
from isogrow.verification.runners import runner_for
from isogrow.verification.runners import transformers as plain
from isogrow.verification.runners.runner import Ids

ROOM = 16.0
Folders = tuple[Checkpoint, Checkpoint]


def verify_in(
    engine: str,
    small: str | Path | Opened,
    large: str | Path | Checkpoint,
    *,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Compare a grown model with the one that it was grown from as `engine` computes them from their folders.

    The engine runs in a process of its own, on the CPU. The report has one check, named after the engine:
    the largest difference of any output, relative to the largest output, beside what the engine's own noise
    and the model's own rounding allow (this module has the formula). Where it fails, its detail says which
    token it is, what transformers makes of the same two folders, and what is known of the engine.

    Raises `SizeError` for an engine that is not known, `EngineError` for one that can't be run here or can't
    run the small model, `CheckpointError` for what is no checkpoint.

    >>> verify_in("ctranslate2", "small/", "large/").passed  # doctest: +SKIP
    True
    """
    say = progress or silent
    known, _ = runner_for(engine)
    first = opened(small)
    pair = first.checkpoint, large if isinstance(large, Checkpoint) else open_checkpoint(large)
    _check_plain(known, pair)
    if lack := shortage(*map(parameters, pair)):
        return Report((Check(known.name, None, detail=lack),), proves=known.name)
    say(f"running both in {known.title}")
    batches = batches_for(first)
    one, two = apart.ran(known.name, [each.folder for each in pair], batches)
    if one.refused:
        raise EngineError(
            f"{known.title} does not run {pair[0].name}, so there is nothing to compare the grown model with:"
            f" {one.refused}"
        )
    if not isfinite(noise := noise_of(one.outputs)):
        raise EngineError(f"{known.title} computes no finite numbers for {pair[0].name}: correct its weights")
    if ROOM * noise >= 1:
        raise EngineError(
            f"{known.title} computes {pair[0].name} otherwise in every batch, off by {noise:.1e} from itself,"
            " so nothing can be told of the grown model there"
        )
    if two.refused:
        check = Check(known.name, False, detail=f"it does not run the grown model: {two.refused}")
        return _report(known, pair, check)
    say("what rounding allows, in transformers")
    dtype = coarsest([torch.float32], (header.dtype for each in pair for header in each.headers.values()))
    found = farthest(one.outputs, two.outputs)
    rounding = _rounding(pair[0], batches[0], dtype)
    limit = ROOM * max(noise, rounding, torch.finfo(dtype).eps)
    detail = f"{batches[0].size} tokens, noise {noise:.1e}, rounding {rounding:.1e}"
    if not found.relative <= limit:
        detail = f"{found.where}; {_in_transformers(pair, batches[0], limit)}"
    return _report(known, pair, Check(known.name, found.relative <= limit, found.relative, limit, detail))


def _check_plain(engine: Engine, pair: Folders) -> None:
    """Refuse what transformers and the engines' converters don't load."""
    if other := next((each for each in pair if not each.plain), None):
        mend = "save it by save_pretrained, and give that folder"
        if other.format == "gguf":
            mend = "give the model that the file was made from"
        raise EngineError(
            f"{other.name} is in the {other.format} format, and {engine.title} is compared on folders that"
            f" transformers loads: {mend}"
        )


def _report(engine: Engine, pair: Folders, check: Check) -> Report:
    """One check; what fails is told with what the engine's table knows of this growth."""
    known = [] if check.passed else _known(engine, pair)
    told = "; ".join([check.detail, *known])
    return Report((Check(check.name, check.passed, check.value, check.limit, told),), proves=check.name)


def _rounding(small: Checkpoint, ids: Ids, dtype: torch.dtype) -> float:
    """How far the small model in a dtype is from itself in float64, by transformers, relative."""
    model = plain.model_of(small.folder, dtype)
    return farthest([plain.exact(model, ids)], [plain.computed(model, ids)]).relative


def _in_transformers(pair: Folders, ids: Ids, limit: float) -> str:
    """What transformers makes of the two folders."""
    one, two = (plain.computed(plain.model_of(each.folder, torch.float32), ids) for each in pair)
    gap = farthest([one], [two]).relative
    if gap <= limit:
        return f"in transformers they differ by {gap:.1e}, so the engine reads the grown one otherwise"
    return f"in transformers they differ by {gap:.1e} too, so the grown model computes something else"


def _known(engine: Engine, pair: Folders) -> list[str]:
    """What the engine's table says of this growth, where its plan came with it."""
    try:
        return announced(read_plan(pair[1].folder), seen(pair[0]).anatomy, engine)
    except IsogrowError:  # the comparison stands without it
        return []
