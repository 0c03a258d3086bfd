"""A model opened, and from options to a plan."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from isogrow.anatomy import Anatomy, match
from isogrow.cli.options import Request
from isogrow.cli.sibling import sizes_of
from isogrow.errors import CheckpointError, OutputError, SizeError
from isogrow.expansions import expansions
from isogrow.families import layout_of
from isogrow.laws import check
from isogrow.planning import check_fits, check_led
from isogrow.planning import plan as make_plan
from isogrow.plans import Init, Plan
from isogrow.regions import check_plan
from isogrow.serial import RECORD, from_json, to_json
from isogrow.sources import Checkpoint, open_checkpoint, read_json


@dataclass(frozen=True)
class Opened:
    """A checkpoint, and what it is."""

    checkpoint: Checkpoint
    anatomy: Anatomy


def opened(model: str, revision: str | None = None) -> Opened:
    """The model of this folder or Hub id, from its config and headers alone."""
    checkpoint = open_checkpoint(model, revision)
    if checkpoint.config.get("model_type") is None:
        raise CheckpointError(
            f"config.json of {checkpoint.name} states no model_type: it is no Hugging Face model's"
        )
    return Opened(checkpoint, match(layout_of(checkpoint.config), checkpoint.config, checkpoint.headers))


def planned(request: Request, anatomy: Anatomy) -> Plan:
    """The plan that a request means for this model. Raises `SizeError` where it means none."""
    made = _read(request, anatomy) if request.plan is not None else _made(request, anatomy)
    if not made.steps:
        raise SizeError("the model has these sizes already, so there is nothing to grow: give larger ones")
    return made


def read_plan(path: str) -> Plan:
    """The plan in a file that `plan --out` wrote, or in a grown model's folder or isogrow.json."""
    if Path(path).is_dir():
        path = str(Path(path) / RECORD)
    why = "no plan is known without it: name the one by which the model was grown (--plan)"
    data = read_json(Path(path), why if Path(path).name == RECORD else "--plan names it")
    return from_json(data.get("plan", data))


def led(found: Opened, plan: str | None, new: bool = True) -> Plan:
    """The plan that led to this model: its own, or the one in a file. Raises `SizeError` for another's."""
    if not new:
        raise SizeError("--plan says which entries are new: give --new too")
    made = read_plan(plan or str(found.checkpoint.folder))
    check_led(found.anatomy, made)
    return made


def written(made: Plan, path: Path, model: Path, overwrite: bool) -> None:
    """Write a plan to a file outside the model's folder, which appears complete or not at all. Raises
    `OutputError`."""
    if path.resolve().is_relative_to(model.resolve()):
        raise OutputError(f"{path} lies inside the model {model}: name a file outside it")
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists: name another file, or give --overwrite to replace it")
    partial = path.with_name(f".{path.name}.isogrow-partial")
    try:
        partial.write_text(json.dumps(to_json(made), indent=1) + "\n", encoding="utf-8")
        partial.rename(path)
    except OSError as error:
        raise OutputError(f"{path} can't be written ({error.strerror}): name another file") from error


def _made(request: Request, anatomy: Anatomy) -> Plan:
    sizes = request.sizes()
    if request.to is not None:
        if sizes:
            raise SizeError(
                f"--to gives every size: leave out --{', --'.join(sizes).replace('_', '-')}, or --to"
            )
        sizes = {**sizes_of(anatomy, Path(request.to))}
    elif not sizes:
        raise SizeError(
            "no size is given, so there is nothing to grow: give one, like --ffn x2, or --to or --plan"
            " (`isogrow inspect MODEL` shows what the model can grow to)"
        )
    if request.layers_at is not None and "layers" not in sizes:
        raise SizeError("--layers-at says where new layers go, and there are none: give --layers too")
    wanted = expansions(sizes, request.place)
    init = Init(request.kind, request.std)
    return make_plan(anatomy, wanted, init, request.seed or 0, request.allow_dead)


def _read(request: Request, anatomy: Anatomy) -> Plan:
    if request.given():
        raise SizeError(f"--plan says everything itself: leave out {', '.join(request.given())}, or --plan")
    made = read_plan(str(request.plan))
    if made.family != anatomy.layout.family or made.source != anatomy.sizes:
        raise SizeError(
            f"{request.plan} is for a {made.family!r} of sizes {_listed(made.source.values)}, and this is"
            f" a {anatomy.layout.family!r} of sizes {_listed(anatomy.sizes.values)}: make the plan anew"
        )
    check_fits(anatomy, made)
    check_plan(made)
    check(anatomy, made, request.allow_dead)
    return made


def _listed(values: object) -> str:
    assert isinstance(values, dict)
    return ", ".join(f"{axis}={size}" for axis, size in sorted(values.items()))
