"""What an output of a growth is, before it is written: known from the plan, with all checked that can be."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from math import prod
from typing import Any

from isogrow import __version__
from isogrow.errors import CheckpointError, OutputError, SizeError
from isogrow.laws.history import Classes, is_old
from isogrow.layouts.lines import name_axes
from isogrow.layouts.naming import as_kept
from isogrow.numbers.initializers import PARTS, check_whole
from isogrow.planning.planner import check_fits
from isogrow.plans.anatomy import Anatomy, Header, Stored, grown_anatomy
from isogrow.plans.parts import made_of
from isogrow.plans.pieces import Draw
from isogrow.plans.plan import Free, Mean, Plan
from isogrow.plans.serial import RECORD, digest
from isogrow.stores.asking import Question, grown_config
from isogrow.stores.binding import outputs
from isogrow.stores.carrying import Beside, Within, carried, contents
from isogrow.stores.dtypes import GROWN, WORDS
from isogrow.stores.loadable import rebound
from isogrow.stores.sentences import Beyond, Widened
from isogrow.stores.shards import Shard, nbytes, parse_bytes, shards
from isogrow.stores.sources import Checkpoint

FLOATS = {name: WORDS[name] for name in GROWN}
LIBRARIES = ("torch", "transformers", "safetensors", "numpy")
FORMATS = ("safetensors", "distributed")


@dataclass(frozen=True)
class Manifest:
    """Everything about an output that is known before it is written; its tensors by the names that its files
    have for them, which are of the kind that the source's have."""

    checkpoint: Checkpoint
    stamps: Mapping[str, tuple[int, int]]  # of the source's files when this was laid out
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
    def files(self) -> tuple[str, ...]:
        """What will lie in the output's folder, but for what a distributed checkpoint's are called."""
        made = ("config.json", "README.md", RECORD, *(shard.file for shard in self.shards))
        return (*made, *self.carried)

    @property
    def digest(self) -> str:
        """What two runs share iff they write the same bytes."""
        stats = [(name, *stamp) for name, stamp in self.stamps.items()]
        split = [(shard.file, shard.header.hex()) for shard in self.shards]
        beside = [*self.carried, *([] if self.optimizer is None else [self.optimizer.name])]
        said = [digest(self.plan), dict(self.config), stats, split, self.format, beside, versions()]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def laid_out(
    checkpoint: Checkpoint,
    anatomy: Anatomy,
    plan: Plan,
    dtype: str | None,
    max_shard_size: int | str,
    optimizer: Beside | Within | None,
    format: str,
) -> Manifest:
    """What is to be written, as far as it is known without asking the class."""
    check_fits(anatomy, plan)
    if format not in FORMATS:
        raise OutputError(f"format {format!r} is not known: give {' or '.join(FORMATS)}")
    made = [_typed(stored, dtype) for stored in _ordered(outputs(anatomy, plan))]
    tensors = {_name(anatomy, stored, format): stored for stored in made}
    headers = {name: stored.header for name, stored in tensors.items()}
    named = {stored.name: stored.header for stored in made}
    config = grown_config(checkpoint.config, plan, dtype)
    grown = grown_anatomy(anatomy, plan, tensors.values())
    old = {stored.name: stored.header for stored in anatomy.stored}
    others = (rebound(grown), rebound(anatomy))
    _check_regions(plan, tensors.values())
    files = carried(checkpoint, run="" if optimizer is None else optimizer.name)
    for name in files:
        contents(checkpoint, name, widened(anatomy, plan))
    split = shards(headers, parse_bytes(max_shard_size))
    stamps = checkpoint.stamps()
    gone = [path for path in checkpoint.paths if path.name not in stamps]
    if gone:
        raise CheckpointError(f"{gone[0]} is gone since the model was opened: bring it back")
    return Manifest(
        checkpoint,
        stamps,
        anatomy,
        plan,
        config,
        tensors,
        split,
        format,
        files,
        optimizer,
        named,
        old,
        others,
    )


def named_in_full(job: Manifest, question: Question) -> Manifest:
    """The same, a distributed checkpoint with each name that its class has for a tensor."""
    if job.format != "distributed":
        return job
    more = {
        name: dataclasses.replace(job.tensors[home], name=name)
        for name, home in second_names(job, question).items()
    }
    return dataclasses.replace(job, tensors={**job.tensors, **more})


def second_names(job: Manifest, question: Question) -> dict[str, str]:
    """Further names of the class for tensors of the output, and the name that each has there."""
    model = question.answer()
    twins = {} if model is None else model.twins
    return {name: home for name, home in twins.items() if home in job.tensors and name not in job.tensors}


def check_unchanged(job: Manifest) -> None:
    """Refuse what was made of files that others changed meanwhile."""
    now = job.checkpoint.stamps()
    changed = sorted(name for name, stamp in job.stamps.items() if now.get(name) != stamp)
    if changed:
        raise CheckpointError(
            f"{job.checkpoint.folder / changed[0]} was changed while it was read, so the output may mix"
            " old and new numbers: grow again when nothing writes there"
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


def widened(anatomy: Anatomy, plan: Plan) -> Widened:
    """What becomes of the residual, and what the model's output has in its new channels."""
    axis = anatomy.layout.residual
    old = [run for run in Classes(plan).runs(axis, ()) if is_old(run.history)]
    kept = dict(pair for run in old for pair in zip(run.origins, run.positions, strict=True))
    sizes = plan.source.of(axis), plan.target.of(axis)
    return Widened(*sizes, tuple(kept[each] for each in sorted(kept)), _beside(anatomy, plan))


def _beside(anatomy: Anatomy, plan: Plan) -> Beyond:
    """Copies of channels come out as copies. New ones are zero, or the mean of the residual, which the norm
    that ends the model takes away."""
    axis = anatomy.layout.residual
    steps = [step for step in plan.steps if step.axis == axis]
    labels = {place.label for step in steps for place in step.places if not place.old}
    entries = (entry for step in steps for each in step.rewrites.values() for entry in each.values())
    means = any(isinstance(entry, Mean) for entry in entries)
    ends = [slot.norm for slot in anatomy.slots.values() if axis in slot.axes and not slot.index]
    if labels <= {"new", "more"} and (not means or any(norm and norm.where == "pre" for norm in ends)):
        return "zeros"
    return "copies" if all(label.startswith("copy") for label in labels) else "other"


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
    entries = (entry for step in plan.steps for made in step.rewrites.values() for entry in made.values())
    if not any(isinstance(entry, Free) and entry.init.kind not in PARTS for entry in entries):
        return  # without a look at each tensor: there may be tens of thousands
    for stored in tensors:
        for _, piece in made_of(stored, plan):
            if isinstance(piece.value, Draw):
                check_whole(piece.value.init.kind, piece.value.shape)
