"""Grow a checkpoint on disk: tensor by tensor from the old files into new ones, large ones in slabs.

Every shape is known from the plan, so each file's header is written first and its tensors follow front
to back. Old tensors are mapped; two slabs of a new one are in memory, one filled while the other is
written, however large the model is. What can be checked is checked before a byte is written, and the
output appears by one rename.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from math import prod
from pathlib import Path
from typing import Any

from isogrow import __version__
from isogrow.errors import CheckpointError, OutputError, SizeError
from isogrow.layouts.config import edited
from isogrow.layouts.lines import name_axes
from isogrow.layouts.naming import as_kept
from isogrow.numbers.initializers import check_whole
from isogrow.planning.planner import check_fits
from isogrow.plans.anatomy import Anatomy, Header, Stored
from isogrow.plans.parts import made_of
from isogrow.plans.pieces import Draw
from isogrow.plans.plan import Plan
from isogrow.plans.serial import RECORD, digest
from isogrow.stores.asking import Question, grown_config, here
from isogrow.stores.binding import check_ties, outputs
from isogrow.stores.card import model_card, record
from isogrow.stores.carrying import Beside, Within, carried, contents, dump
from isogrow.stores.dtypes import GROWN, WORDS
from isogrow.stores.items import Item
from isogrow.stores.loadable import check_loadable, rebound
from isogrow.stores.mapping import mapped
from isogrow.stores.shards import Shard, nbytes, parse_bytes, shards
from isogrow.stores.sources import Checkpoint
from isogrow.stores.staging import (
    JOURNAL,
    check_place,
    check_space,
    failed_of,
    flush,
    set_aside,
    staged,
    write_file,
)
from isogrow.stores.store import Store
from isogrow.stores.writing import CHUNK, Source, items_of, one_thread, write_shards

FLOATS = {name: WORDS[name] for name in GROWN}
LIBRARIES = ("torch", "transformers", "safetensors", "numpy")
ROOM = 1 << 24  # bytes for what is made beside the weights

FORMATS = ("safetensors", "distributed")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """Everything about an output that is known before it is written; its tensors by the names that its files
    have for them, which are of the kind that the source's have."""

    checkpoint: Checkpoint
    anatomy: Anatomy
    plan: Plan
    config: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    shards: tuple[Shard, ...]
    format: str
    carried: tuple[str, ...]
    optimizer: Beside | Within | None
    # The grown and the old tensors by their names of today, and both as other lines name them.
    named: Mapping[str, Header]
    old: Mapping[str, Header]
    others: tuple[Mapping[str, Header], Mapping[str, Header]]

    @property
    def headers(self) -> dict[str, Header]:
        return {name: stored.header for name, stored in self.tensors.items()}

    @property
    def weight_bytes(self) -> int:
        return sum(map(nbytes, self.headers.values()))

    @property
    def carried_bytes(self) -> int:
        return sum((self.checkpoint.folder / name).stat().st_size for name in self.carried)

    @property
    def optimizer_bytes(self) -> int:
        """About as many as the optimizer's state will have: it grows as the parameters do."""
        if isinstance(self.optimizer, Within):
            return sum(item.size for item in self.optimizer.items.values())
        before, after = self.parameters
        return 0 if self.optimizer is None else self.optimizer.size * after // before

    @property
    def parameters(self) -> tuple[int, int]:
        """How many there are in the old and in the new model, tied ones counted once."""
        old = [stored for stored in self.anatomy.stored if stored.line.slot.name in self.anatomy.slots]
        new = {(stored.line, stored.index): stored for stored in self.tensors.values()}
        before, after = (sum(prod(s.header.shape) for s in some) for some in (old, new.values()))
        return before, after

    @property
    def digest(self) -> str:
        """What two runs share iff they write the same bytes."""
        files = self.checkpoint.paths
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        split = [(shard.file, shard.header.hex()) for shard in self.shards]
        beside = [*self.carried, *([] if self.optimizer is None else [self.optimizer.name])]
        said = [digest(self.plan), dict(self.config), stats, split, self.format, beside, versions()]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


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
) -> None:
    """Write the grown checkpoint into the folder `out`, completely or not at all.

    `dtype` (float32, float16, bfloat16) converts; by default each tensor keeps its own, and old bytes
    that no rule scales are bit-equal. `progress` is called with the bytes of weights done and in all.
    `verify` is called with the finished folder before it gets its name: what it returns goes into the
    model card, and if it raises there is no output (with `keep_failed` it stays beside, as `OUT.failed`).
    `resume` goes on with what a killed run left.
    `format` is "safetensors", or "distributed" for a checkpoint of torch.distributed.checkpoint.
    `optimizer` writes the grown state of the run's optimizer; with it the rest of the run's state travels.
    `chunk` entries are computed at a time; it changes no byte. `question` asks the model's class what it
    makes of the grown config: the answer is heard when it comes, and before the output gets its name.

    Raises `OutputError` for a place that can't be written, `SizeError` for sizes that the model's class
    refuses, `CheckpointError` for a source that can't be grown; then nothing is left behind.
    """
    out = Path(out)
    check_place(out, checkpoint.folder, overwrite)
    if keep_failed:
        check_place(failed_of(out), checkpoint.folder, overwrite=False)
    job = laid_out(checkpoint, anatomy, plan, dtype, max_shard_size, optimizer, format)
    heard = _Heard(job, question or here(job.config))
    heard.if_ready()
    check_space(out, job.weight_bytes + job.carried_bytes + job.optimizer_bytes + ROOM)
    with mapped(checkpoint) as store:
        check_ties(anatomy, store)
        with staged(out, job.digest, overwrite, resume) as folder:
            hashes: dict[str, str] | None = {} if hash_files else None
            _write_weights(folder, job, store, chunk, progress, heard, hashes)
            _write_rest(folder, job)
            heard.at_last()
            try:
                said = verify(folder) if verify is not None else ""
            except Exception:
                if keep_failed:
                    _write_records(folder, job, "", hashes)
                    set_aside(folder, out)
                raise
            _write_records(folder, job, said, hashes)


def prepared(
    checkpoint: Checkpoint,
    anatomy: Anatomy,
    plan: Plan,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    optimizer: Beside | Within | None = None,
    format: str = "safetensors",
) -> Job:
    """What `grow_checkpoint` would write, with all that can be checked without weights checked."""
    job = laid_out(checkpoint, anatomy, plan, dtype, max_shard_size, optimizer, format)
    _Heard(job, here(job.config)).at_last()
    return job


class _Heard:
    """The check of what is to be written by what its class says, made once, when the class has said it."""

    def __init__(self, job: Job, question: Question) -> None:
        self.job, self.question, self.done = job, question, False

    def if_ready(self) -> None:
        if not self.done and self.question.ready():
            self.at_last()

    def at_last(self) -> None:
        if not self.done:
            self.done = True
            check_loadable(self.question.answer(), self.job.named, self.job.old, self.job.others)


def laid_out(
    checkpoint: Checkpoint,
    anatomy: Anatomy,
    plan: Plan,
    dtype: str | None,
    max_shard_size: int | str,
    optimizer: Beside | Within | None,
    format: str,
) -> Job:
    """What is to be written, as far as it is known without asking the class."""
    check_fits(anatomy, plan)
    if format not in FORMATS:
        raise OutputError(f"format {format!r} is not known: give {' or '.join(FORMATS)}")
    made = [_typed(stored, dtype) for stored in _ordered(outputs(anatomy, plan))]
    tensors = {_name(anatomy, stored, format): stored for stored in made}
    headers = {name: stored.header for name, stored in tensors.items()}
    named = {stored.name: stored.header for stored in made}
    config = grown_config(checkpoint.config, plan, dtype)
    grown = dataclasses.replace(
        anatomy,
        config=edited(anatomy.config, plan.config),
        sizes=plan.target,
        stored=tuple(tensors.values()),
    )
    old = {stored.name: stored.header for stored in anatomy.stored}
    others = (rebound(grown), rebound(anatomy))
    _check_regions(plan, tensors.values())
    files = carried(checkpoint, run="" if optimizer is None else optimizer.name)
    for name in files:
        contents(checkpoint, name, _hidden(anatomy, plan))
    split = shards(headers, parse_bytes(max_shard_size))
    return Job(
        checkpoint, anatomy, plan, config, tensors, split, format, files, optimizer, named, old, others
    )


def versions() -> dict[str, str]:
    """The versions of all libraries that have a part in the bytes."""
    found = {"isogrow": __version__}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "unknown"
    return found


# ── what is to be written ──


def _name(anatomy: Anatomy, stored: Stored, format: str) -> str:
    """What a tensor is called in the output: as the source's files have it, but in a distributed checkpoint,
    which is loaded into the class's own names, by its name of today."""
    return as_kept(anatomy.layout, stored.name, stored.source) if format == "safetensors" else stored.name


def _typed(stored: Stored, dtype: str | None) -> Stored:
    """The tensor in the dtype that was asked for, or in its own."""
    floats = stored.header.dtype in FLOATS.values()
    if not floats and not stored.line.slot.grows:
        return stored
    if not floats:
        raise CheckpointError(
            f"{stored.name} is {stored.header.dtype}, and only floating-point weights can be grown:"
            " convert the model to float32, float16 or bfloat16"
        )
    if dtype is None:
        return stored
    if dtype not in FLOATS:
        raise SizeError(f"dtype {dtype!r} is not known: give one of {', '.join(FLOATS)}")
    header = dataclasses.replace(stored.header, dtype=FLOATS[dtype])
    return dataclasses.replace(stored, header=header)


def _hidden(anatomy: Anatomy, plan: Plan) -> tuple[int, int]:
    axis = anatomy.layout.residual
    return plan.source.of(axis), plan.target.of(axis)


def _ordered(tensors: Iterable[Stored]) -> list[Stored]:
    """Layer by layer, as the model runs them and as most files hold them."""
    found = list(tensors)
    lines = list(dict.fromkeys(stored.line for stored in found))
    numbers = {line: i for i, line in enumerate(lines)}
    first = next((i for i, line in enumerate(lines) if name_axes(line.name)), len(lines))

    def place(stored: Stored) -> tuple[int, tuple[int, ...], int]:
        line = numbers[stored.line]
        group = 1 if stored.index else 0 if line < first else 2
        return group, tuple(i for _, i in stored.index), line

    return sorted(found, key=place)


def _check_regions(plan: Plan, tensors: Iterable[Stored]) -> None:
    """Refuse a region that is too large for an initializer that must make it whole."""
    for stored in tensors:
        for _, piece in made_of(stored, plan):
            if isinstance(piece.value, Draw):
                check_whole(piece.value.init.kind, piece.value.shape)


# ── writing ──


def _write_weights(
    folder: Path,
    job: Job,
    store: Store,
    limit: int,
    progress: Progress | None,
    heard: _Heard,
    hashes: dict[str, str] | None,
) -> None:
    total, done = job.weight_bytes, 0
    if isinstance(job.optimizer, Within):
        total += job.optimizer_bytes

    def tick(count: int) -> None:
        nonlocal done
        done += count
        heard.if_ready()
        if progress is not None:
            progress(done, total)

    source = Source(job.anatomy, job.plan, store)
    with one_thread():
        if job.format == "distributed":
            _write_distributed(folder, job, source, tick)
        else:
            write_shards(folder, job.shards, job.tensors, source, limit, tick, hashes)


def _write_distributed(folder: Path, job: Job, source: Source, tick: Callable[[int], None]) -> None:
    """The weights, and the optimizer's state where that is saved alike: with them, or in its own folder."""
    from isogrow.stores.distributed_output import write_distributed  # torch.distributed loads with it

    run = job.optimizer if isinstance(job.optimizer, Within) else Within("", {})
    saved = defaultdict[Path, dict[str, Item]](dict)
    saved[folder / run.weights] |= items_of(job.tensors, source, run.under)
    saved[folder / run.folder] |= run.items
    for place, items in saved.items():
        place.mkdir(exist_ok=True)
        write_distributed(place, items, tick)


def _write_rest(folder: Path, job: Job) -> None:
    """config.json, the files that travel, and the optimizer's state."""
    write_file(folder / "config.json", dump(job.config))
    for name in job.carried:
        changed = contents(job.checkpoint, name, _hidden(job.anatomy, job.plan))
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


def _write_records(folder: Path, job: Job, verified: str, known: dict[str, str] | None) -> None:
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
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
