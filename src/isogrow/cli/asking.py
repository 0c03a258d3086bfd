"""From options to a plan, and to the plan that led to a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from isogrow.cli.options import Asked
from isogrow.errors import OutputError, SizeError
from isogrow.growth.opening import Opened
from isogrow.planning.planner import check_led
from isogrow.planning.request import Planned, check_grows, read_plan
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.placing import Mesh, read_mesh
from isogrow.plans.plan import Plan
from isogrow.plans.serial import to_json
from isogrow.plans.words import flag
from isogrow.stores.texts import write_text

KEPT = ("adamw", "none")  # the optimizers whose state `plan` can count


def planned(asked: Asked, anatomy: Anatomy) -> Planned:
    """The plan that the options mean for this model. Raises `SizeError` where they mean none."""
    made = asked.request().planned(anatomy)
    check_grows(made.plan)
    return made


def alone_of(flag: str, given: bool, others: Mapping[str, bool]) -> None:
    """Raises `SizeError` where an option is given beside others that it leaves nothing to do."""
    beside = [name for name, there in others.items() if there]
    if given and beside:
        raise SizeError(f"{flag} leaves {' and '.join(beside)} nothing to do: give one of them")


def led(found: Opened, plan: str | None, new: bool = True) -> Plan:
    """The plan that led to this model: its own, or the one in a file. Raises `SizeError` for another's."""
    if not new:
        raise SizeError("--plan says which entries are new: give --new too")
    made = read_plan(plan or found.checkpoint.folder, flag("plan"))
    check_led(found.anatomy, made)
    return made


def spread(ranks: int | None, mesh: str | None, optimizer: str | None) -> tuple[Mesh, str] | None:
    """The mesh that a job would be spread over, and what its optimizer keeps; None where no job is meant.
    Raises `SizeError` for what can't be read."""
    kind = "adamw" if optimizer is None else optimizer
    if kind not in KEPT:
        raise SizeError(f"--optimizer-state {kind!r} is not known: give {' or '.join(KEPT)}")
    if ranks is None and mesh is None:
        if optimizer is not None:
            raise SizeError("--optimizer-state is that of a sharded job: give --ranks or --mesh too")
        return None
    return read_mesh(mesh, ranks), kind


def written(made: Plan, path: Path, model: Path, overwrite: bool) -> None:
    """Write a plan to a file outside the model's folder. Raises `OutputError`."""
    if path.resolve().is_relative_to(model.resolve()):
        raise OutputError(f"{path} lies inside the model {model}: name a file outside it")
    write_text(json.dumps(to_json(made), indent=1) + "\n", path, overwrite)
