"""Are the bytes still the same? Digests of what every family grows to, and what every layout expands to.

    python tests/same_bytes.py write FILE        before a change that should change no number
    python tests/same_bytes.py compare FILE      after it

Each family of tests/rows grows in all that it grows in `together`: in memory, and on disk with an
`optimizer.pt` beside it, both with the state of an AdamW. Every tensor, every state and every file is
digested, and so are the tensors and plans of each of the family's classes.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import families as F
import torch
from test_module import live
from torch import nn

import isogrow
from isogrow.families import LAYOUTS
from isogrow.growth.resuming import trainer_groups
from isogrow.layouts.layout import Layout
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.serial import to_json

Digests = dict[str, str]


def expansion(layout: Layout) -> list[tuple[str, str, str]]:
    """(name, pattern, slot) of all that a layout's lines hold, in their order."""
    return [(line.name, line.pattern, slot.name) for line in layout.lines for slot in line.slots]


def held(anatomy: Anatomy) -> list[tuple[str, str, str]]:
    """(name, pattern, slot) of all that a model holds, in the order of its tensors."""
    return [
        (stored.name, stored.line.pattern, slot.name)
        for stored in anatomy.stored
        for slot in stored.line.slots
    ]


def digest(value: Any) -> str:
    """Of bytes, or of data that JSON can say."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return hashlib.sha256(data).hexdigest()


def layouts() -> Iterator[tuple[str, str]]:
    """What every layout expands to, whatever the order."""
    for name, layout in LAYOUTS.items():
        yield f"{name} expands", digest(sorted(set(expansion(layout))))


def classes(name: str) -> Iterator[tuple[str, str]]:
    """What the classes of a family hold, in order, and their plans."""
    family = F.FAMILIES[name]
    for kind in family.classes:
        made = F.subject(family, kind)
        yield f"{name} {kind} holds", digest(held(made.anatomy))
        try:
            planned: Any = to_json(made.plan(family.together))
        except isogrow.IsogrowError as error:
            planned = str(error)
        yield f"{name} {kind} plans", digest(planned)


def grown(name: str, folder: Path) -> Iterator[tuple[str, str]]:
    """What a family grows to, in memory and on disk."""
    family = F.FAMILIES[name]
    small: Any = live(name)
    optimizer = _optimizer(small)
    large, moved, *_ = isogrow.grow_training(small, optimizer=optimizer, **family.together)
    for key, tensor in large.state_dict().items():
        yield f"{name} memory {key}", digest(_bytes(tensor))
    yield from _state(f"{name} memory state", moved.state_dict())

    small.save_pretrained(folder / "small")
    torch.save(optimizer.state_dict(), folder / "small" / "optimizer.pt")
    isogrow.grow_checkpoint(folder / "small", folder / "large", **family.together)
    for path in sorted((folder / "large").iterdir()):
        if path.name == "optimizer.pt":
            yield from _state(f"{name} disk state", torch.load(path, weights_only=True))
        else:
            yield f"{name} disk {path.name}", digest(path.read_bytes())


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """An AdamW as the Trainer makes it, after some steps; its state is made up."""
    named = dict(model.named_parameters())
    groups = [{"params": [named[each] for each in group]} for group in trainer_groups(model)]
    made = torch.optim.AdamW(groups, lr=1e-3)
    generator = torch.Generator().manual_seed(5)
    for p in named.values():
        drawn = [torch.randn(p.shape, generator=generator) for _ in range(2)]
        made.state[p] = {"step": torch.tensor(3.0), "exp_avg": drawn[0], "exp_avg_sq": drawn[1].square()}
    return made


def _state(where: str, state: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for number, entries in state["state"].items():
        for key, value in entries.items():
            yield f"{where} {number} {key}", digest(_bytes(value))
    yield f"{where} groups", digest(str(state["param_groups"]))


def _bytes(tensor: torch.Tensor) -> bytes:
    kept = io.BytesIO()
    kept.write(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    kept.write(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return kept.getvalue()


def digests(names: tuple[str, ...] = ()) -> Digests:
    """By what was digested; of some families, or of all."""
    found = dict(layouts())
    for name in names or tuple(F.FAMILIES):
        with tempfile.TemporaryDirectory() as folder:
            found |= dict(grown(name, Path(folder)))
        found |= dict(classes(name))
    return found


def faults(before: Digests, after: Digests) -> list[str]:
    """What was there before and is not the same, and what is there now alone."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def main(verb: str, file: str, *names: str) -> int:
    found, path = digests(names), Path(file)
    if verb == "write":
        path.write_text(json.dumps(found, indent=0))
        return 0
    before = {k: v for k, v in json.loads(path.read_text()).items() if not names or k in found}
    wrong = faults(before, found)
    sys.stdout.write("".join(f"{key}\n" for key in wrong) + f"{len(wrong)} of {len(found)} differ\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
