"""Grow an adapter with its base: a folder that PEFT wrote becomes one for what isogrow grew from its base.

    isogrow.grow_checkpoint("small/", "large/", hidden=768)
    isogrow.grow_adapter("adapter/", "adapter-large/", base="large/")

The law is that of `isogrow.plans.factors`, under the plan that the grown base's isogrow.json holds.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isogrow.errors import CheckpointError, IsogrowError
from isogrow.families import layout_of
from isogrow.growth.adapted import IN_TURN, Adapted, GrownBase, bound
from isogrow.growth.opening import opened
from isogrow.layouts.config import edited
from isogrow.layouts.lines import name_axes
from isogrow.layouts.naming import as_kept
from isogrow.numbers.statistics import statistics
from isogrow.paths import expanded
from isogrow.planning.request import plan_in
from isogrow.plans.anatomy import Anatomy, Stored
from isogrow.plans.factors import factored
from isogrow.plans.pieces import whole
from isogrow.plans.plan import Plan
from isogrow.plans.regions import drawn
from isogrow.plans.serial import RECORD
from isogrow.quiet import on_cpu
from isogrow.stores.adapters import BEFORE, SAID, WEIGHTS, Adapter, read_adapter
from isogrow.stores.binding import check_range, fill_region_, outputs, reader
from isogrow.stores.carrying import dump, travelling
from isogrow.stores.dtypes import torch_dtype
from isogrow.stores.sources import CONFIG, read_json
from isogrow.stores.staging import check_place, flush, staged, write_file
from isogrow.stores.store import StateDict, header_of
from isogrow.stores.targets import followed

if TYPE_CHECKING:
    from torch import Tensor

README = "README.md"


@on_cpu()
def grow_adapter(adapter: str | Path, out: str | Path, *, base: str | Path, overwrite: bool = False) -> Plan:
    """Grow the LoRA adapter in the folder `adapter` into the new folder `out`, for the grown model in the
    folder `base`; the plan by which that grew is returned.

    Law, where `base` was grown from the adapter's own base: grown base + grown adapter computes what base +
    adapter did. Ranks and scales stay; a new layer has an adapter where the layer that it extends has one,
    with B zero. Tensors that the adapter holds whole (`modules_to_save`, biases) grow as the base's own do,
    and its config follows where it names layers by their numbers.

    Raises `CheckpointError` for a folder without an adapter, an adapter that is no LoRA or of another base,
    and a base that isogrow did not grow; `LawError` for a growth that no adapter can follow; `OutputError`
    for a place that can't be written.

    >>> grow_adapter("adapter/", "adapter-large/", base="large/")  # doctest: +SKIP
    """
    found, grown, out = read_adapter(adapter), _base(base), expanded(out)
    check_place(out, found.folder, overwrite, "adapter")
    _check_named(found, grown)
    seen = bound({name: header_of(tensor) for name, tensor in found.tensors.items()}, found.config, grown)
    config = edited(found.config, _edits(found.config, seen, grown))
    plan = dataclasses.replace(
        factored(drawn(grown.plan), grown.layout, seen.factors, seen.whole), source=seen.sizes
    )
    with staged(out, "", overwrite) as folder:
        _save(_tensors(found, seen, grown, plan), folder / WEIGHTS)
        write_file(folder / SAID, dump(config))
        _carry(found, grown, folder)
    return grown.plan


def _base(folder: str | Path) -> GrownBase:
    """The grown base in a folder."""
    found = expanded(folder)
    if not (found / RECORD).is_file():
        raise CheckpointError(
            f"{folder} has no {RECORD}, so it is not known how it grew from the adapter's base: give --base a"
            " folder that `isogrow grow` (isogrow.grow_checkpoint) wrote"
        )
    config = read_json(found / CONFIG, "the base is no Hugging Face model folder without it")
    plan = plan_in(found / RECORD, "it says how the base grew")
    layout = layout_of(config)
    if layout.family != plan.family:
        raise CheckpointError(
            f"{folder} is a {layout.family!r}, and its {RECORD} has the plan of a {plan.family!r}: the two do"
            " not belong together; grow the base again"
        )
    return GrownBase(str(found), config, layout, plan)


def _check_named(adapter: Adapter, base: GrownBase) -> None:
    """Refuse a base that grew from a model of other layers than the adapter's own has, where that is a folder
    here: names move, and are no proof, but no shape of the adapter's tells how many layers there are."""
    said = adapter.config.get("base_model_name_or_path")
    named = expanded(said if isinstance(said, str) and said else "-")
    if not (named / CONFIG).is_file() or named.samefile(base.name):
        return  # the grown base may have taken the other's place
    try:
        own = opened(named).anatomy
    except IsogrowError:  # what stands there is no model that isogrow knows, whose layers it could tell
        return
    if own.layout.family != base.layout.family:
        return
    sizes = base.plan.source
    for axis in dict.fromkeys(axis for line in base.layout.lines for axis in name_axes(line.name)):
        if own.sizes.has(axis) and sizes.has(axis) and own.sizes.of(axis) != sizes.of(axis):
            raise CheckpointError(
                f"the adapter is one of {said}, which has {axis}={own.sizes.of(axis)}, and {base.name} was"
                f" grown from a model with {axis}={sizes.of(axis)}: {IN_TURN}"
            )


def _edits(config: Mapping[str, Any], seen: Adapted, base: GrownBase) -> dict[str, Any]:
    """What the grown adapter's config says otherwise."""
    moved = followed(config, seen.modules, seen.adapted, seen.parameters)
    named: dict[str, Any] = {"base_model_name_or_path": base.name}
    return {**named, **({"revision": None} if config.get("revision") else {}), **moved}


def _tensors(adapter: Adapter, seen: Adapted, base: GrownBase, plan: Plan) -> dict[str, Tensor]:
    """The grown tensors, by the names that the file has for them."""
    anatomy = Anatomy(base.layout, base.config, seen.sizes, seen.stored)
    read = reader(anatomy, StateDict(adapter.tensors))
    made = {name: adapter.tensors[name] for name in seen.carried}
    for stored in outputs(anatomy, plan):
        name = _named(base, stored)
        stats = statistics(plan, (block for _, block in stored.blocks(plan.target)), read)
        import torch

        out = torch.empty(stored.header.shape, dtype=torch_dtype(stored.header.dtype))
        fill_region_(out, stored, whole(stored.header.shape), plan, read, stats)
        check_range(out, name, lambda stored=stored: adapter.tensors[stored.source])
        made[name] = out
    return made


def _named(base: GrownBase, stored: Stored) -> str:
    """A tensor's name in the file: in the way in which its source's is."""
    before = BEFORE if stored.source.startswith(BEFORE) else ""
    return before + as_kept(base.layout, stored.name, stored.source.removeprefix(BEFORE))


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})
    flush(path)


def _carry(adapter: Adapter, base: GrownBase, folder: Path) -> None:
    """The files beside the adapter: a tokenizer, a card whose base is now the grown one."""
    for name in travelling(adapter.folder):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(adapter.folder / name, target)
        flush(target)
    card = adapter.folder / README
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        old = re.escape(str(adapter.config.get("base_model_name_or_path")))
        named = re.compile(rf"^(base_model: |- base_model:adapter:){old}$", re.MULTILINE)
        write_file(folder / README, named.sub(lambda found: found[1] + base.name, text).encode())
