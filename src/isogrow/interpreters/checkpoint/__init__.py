"""Grow a checkpoint on disk: tensor by tensor from the old files into new ones, large ones in slabs.

Every shape is known from the plan, so each file's header is written first, and workers fill its slabs in any
order, each where it belongs. A few slabs are in memory, however large the model is. What can be checked is
checked before a byte is written, and the output appears by one rename.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

from isogrow.interpreters.checkpoint.laying_out import (
    FLOATS,
    Manifest,
    check_unchanged,
    laid_out,
    named_in_full,
    second_names,
    versions,
    widened,
)
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import Plan
from isogrow.plans.serial import RECORD
from isogrow.stores.asking import Question, here
from isogrow.stores.binding import check_ties
from isogrow.stores.card import model_card, record
from isogrow.stores.carrying import Beside, Within, contents, dump
from isogrow.stores.distributed_output import clear, write_distributed
from isogrow.stores.files import is_written
from isogrow.stores.items import Item
from isogrow.stores.loadable import check_loadable
from isogrow.stores.mapping import mapped
from isogrow.stores.sources import Checkpoint
from isogrow.stores.staging import (
    JOURNAL,
    Told,
    check_apart,
    check_place,
    check_space,
    failed_of,
    flush,
    partial_of,
    set_aside,
    staged,
    write_file,
)
from isogrow.stores.stopping import stopping, unmark
from isogrow.stores.store import Store
from isogrow.stores.writers import ONE, Writers, check_alike
from isogrow.stores.writing import (
    CHUNK,
    NEIGHBOURS,
    Source,
    Tick,
    hashed_file,
    items_of,
    made_whole,
    one_thread,
    write_shards,
)

ROOM = 1 << 24  # bytes for what is made beside the weights

Progress = Callable[[int, int], None]


def grow_checkpoint(
    checkpoint: Checkpoint,
    anatomy: Anatomy,
    plan: Plan,
    out: str | Path,
    *,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
    resume: bool = False,
    hash_files: bool = False,
    keep_failed: bool = False,
    progress: Progress | None = None,
    verify: Callable[[Path], str] | None = None,
    optimizer: Beside | Within | None = None,
    format: str = "safetensors",
    chunk: int = CHUNK,
    question: Question | None = None,
    told: Told | None = None,
    writers: Writers = ONE,
) -> None:
    """Write the grown checkpoint into the folder `out`, completely or not at all.

    `dtype` (float32, float16, bfloat16) converts; by default each tensor keeps its own, and old bytes
    that no rule scales are bit-equal. `progress` is called with the bytes of weights done and in all.
    `verify` is called with the finished folder before it gets its name: what it returns goes into the
    model card, and if it raises there is no output (with `keep_failed` it stays beside, as `OUT.failed`).
    `resume` goes on with what a killed run left; `told` hears what becomes of that.
    `format` is "safetensors", or "distributed" for a checkpoint of torch.distributed.checkpoint.
    `optimizer` writes the grown state of the run's optimizer; with it the rest of the run's state travels.
    `chunk` entries are computed at a time; it changes no byte. `question` asks the model's class what it
    makes of the grown config: the answer is heard when it comes, and before the output gets its name. Of
    `writers` each writes its share, and the first the rest.

    Raises `OutputError` for a place that can't be written, `SizeError` for sizes that the model's class
    refuses, `CheckpointError` for a source that can't be grown; then nothing is left behind.
    """
    out, first = Path(out), writers.me == 0
    if first:
        _check_places(out, checkpoint.folder, overwrite, keep_failed)
    job = laid_out(checkpoint, anatomy, plan, dtype, max_shard_size, optimizer, format)
    digest, question = job.digest, question or here(job.config)
    check_alike(writers, digest)
    heard = _Heard(job, question)
    with mapped(checkpoint) as store:
        if first:
            heard.if_ready()
            check_space(out, job.weight_bytes + job.carried_bytes + job.optimizer_bytes + ROOM)
            check_ties(anatomy, store)
        place = staged(out, digest, overwrite, resume, told) if first else nullcontext(partial_of(out))
        with place as folder, writers.region(), stopping(folder, writers) as look:
            hashes: dict[str, str] | None = {} if hash_files else None
            if first:
                _begin(folder, job, told if resume else None)
            writers.meet(None)  # the folder is there
            tick = _ticking(job, writers.world, look, progress if first else None, heard if first else None)
            _write_weights(folder, job, store, chunk, tick, hashes, writers, question)
            if first:
                _complete(folder, job, out, heard, verify, hashes, keep_failed)


def _check_places(out: Path, source: Path, overwrite: bool, keep_failed: bool) -> None:
    check_place(out, source, overwrite)
    if keep_failed:
        check_place(failed_of(out), source, overwrite=False)


def _begin(folder: Path, job: Manifest, told: Told | None) -> None:
    check_apart(folder, job.files)
    unmark(folder)
    if told is not None:
        told(*_whole(folder, job))


def _complete(
    folder: Path,
    job: Manifest,
    out: Path,
    heard: _Heard,
    verify: Callable[[Path], str] | None,
    hashes: dict[str, str] | None,
    keep_failed: bool,
) -> None:
    """Write what stands beside the weights, and prove the whole."""
    _write_rest(folder, job)
    check_unchanged(job)
    heard.at_last()
    try:
        said = verify(folder) if verify is not None else ""
    except Exception:
        if keep_failed:
            _write_records(folder, job, "", hashes)
            set_aside(folder, out)
        raise
    _write_records(folder, job, said, hashes)


def _whole(folder: Path, job: Manifest) -> tuple[str, str]:
    """What becomes of a killed run's work: a word, and how much of it stays."""
    if job.format == "distributed":
        return "started over", "a distributed checkpoint is written as a whole"
    found = sum(is_written(folder, shard) for shard in job.shards)
    if not found:
        return "started over", "no file of weights is whole"
    return "resumed", f"{found} of {len(job.shards)} files of weights are whole"


def prepared(
    checkpoint: Checkpoint,
    anatomy: Anatomy,
    plan: Plan,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    optimizer: Beside | Within | None = None,
    format: str = "safetensors",
) -> Manifest:
    """What `grow_checkpoint` would write, with all that can be checked without weights checked."""
    job = laid_out(checkpoint, anatomy, plan, dtype, max_shard_size, optimizer, format)
    _Heard(job, here(job.config)).at_last()
    return job


class _Heard:
    """The check of what is to be written by what its class says, made once, when the class has said it."""

    def __init__(self, job: Manifest, question: Question) -> None:
        self.job, self.question, self.done = job, question, False

    def if_ready(self) -> None:
        if not self.done and self.question.ready():
            self.at_last()

    def at_last(self) -> None:
        if not self.done:
            self.done = True
            check_loadable(self.question.answer(), self.job.named, self.job.old, self.job.others)


# ── writing ──


def _ticking(
    job: Manifest, world: int, look: Callable[[], None], progress: Progress | None, heard: _Heard | None
) -> Tick:
    """What is called whenever some bytes are written; `progress` and `heard` are the first rank's."""
    total, done = job.weight_bytes, 0
    if isinstance(job.optimizer, Within):
        total += job.optimizer_bytes

    def tick(count: int) -> None:
        nonlocal done
        done += count
        look()
        if heard is not None:
            heard.if_ready()
        if progress is not None:
            progress(min(done * world, total), total)

    return tick


def _write_weights(
    folder: Path,
    job: Manifest,
    store: Store,
    limit: int,
    tick: Tick,
    hashes: dict[str, str] | None,
    writers: Writers,
    question: Question,
) -> None:
    """This process's share of the weights."""
    source = Source(job.anatomy, job.plan, store)
    with one_thread():
        if job.format == "distributed":
            _write_distributed(folder, job, source, tick, writers, question)
        else:
            write_shards(folder, job.shards, job.tensors, source, limit, tick, hashes, writers)


def _write_distributed(
    folder: Path, job: Manifest, source: Source, tick: Tick, writers: Writers, question: Question
) -> None:
    """The weights, and the optimizer's state where that is saved alike: with them, or in its own folder.

    A distributed checkpoint is loaded into a state dict, and `dcp.load` asks for every name of that: a tied
    head's too, which has the same chunks. Only the class knows it, which is asked when all is written."""
    run = job.optimizer if isinstance(job.optimizer, Within) else Within("", {})
    alone = made_whole(job.tensors.values(), job.plan)
    saved = defaultdict[Path, dict[str, Item]](dict)
    weights = folder / run.weights
    saved[weights] |= items_of(job.tensors, source, run.under, 1 if alone else NEIGHBOURS)
    saved[folder / run.folder] |= run.items

    def also() -> dict[str, tuple[tuple[str, ...], str]]:
        under = run.under
        names = second_names(job, question).items()
        return {".".join((*under, name)): ((*under, name), ".".join((*under, home))) for name, home in names}

    for place, items in saved.items():
        if writers.me == 0:
            place.mkdir(exist_ok=True)
            clear(place)
        writers.meet(None)
        names = also if place == weights else dict
        write_distributed(place, items, tick, writers=writers, alone=alone, also=names)


def _write_rest(folder: Path, job: Manifest) -> None:
    """config.json, the files that travel, and the optimizer's state."""
    write_file(folder / "config.json", dump(job.config))
    for name in job.carried:
        changed = contents(job.checkpoint, name, widened(job.anatomy, job.plan))
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if changed is None:
            shutil.copyfile(job.checkpoint.folder / name, target)
            flush(target)
        else:
            write_file(target, changed)
    if isinstance(job.optimizer, Beside):
        job.optimizer.write(folder / job.optimizer.name)
        flush(folder / job.optimizer.name)


def _write_records(folder: Path, job: Manifest, verified: str, known: dict[str, str] | None) -> None:
    """README.md, and last of all isogrow.json; with the hashes of all files where some are `known`."""
    readme = job.checkpoint.folder / "README.md"
    source = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    used = versions()
    card = model_card(job.checkpoint, job.plan, job.parameters, used, source, verified)
    write_file(folder / "README.md", card.encode())
    hashes = None if known is None else _hashes(folder, known)
    write_file(folder / RECORD, dump(record(job.checkpoint, job.plan, used, hashes)))


def _hashes(folder: Path, known: Mapping[str, str]) -> dict[str, str]:
    """sha256 of every file, by its name in the folder; no file is read whose hash is known."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found: dict[str, str] = {}
    for path in files:
        name = str(path.relative_to(folder))
        if name in known:
            found[name] = known[name]
        elif path.name not in (JOURNAL, RECORD):
            found[name] = hashed_file(path)
    return found


__all__ = ["CHUNK", "FLOATS", "grow_checkpoint", "laid_out", "named_in_full", "prepared"]
