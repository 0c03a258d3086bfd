"""One rank of a few: grows sharded models, compares its parts with what one process makes, and reports."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import tiny
import torch
import transformers
from rows import FAMILIES
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import isogrow
from isogrow.growth import api
from isogrow.interpreters.sharded import exchanging
from isogrow.numbers import statistics
from isogrow.numbers.local import box_of, local_of
from isogrow.plans.boxes import slices

RANK, WORLD = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
Shard = Callable[[Any], Any]
Report = dict[str, Any]

# ── how models are sharded ──


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of a model of transformers."""
    for part in model.modules():
        if isinstance(part, nn.ModuleList):
            yield from (each for each in part if any(True for _ in each.parameters()))
            return


def fsdp(mesh: DeviceMesh) -> Shard:
    def shard(model: nn.Module) -> nn.Module:
        for block in blocks(model):
            fully_shard(block, mesh=mesh)
        return fully_shard(model, mesh=mesh)

    return shard


TP = {
    **{f"self_attn.{name}_proj": ColwiseParallel for name in "qkv"},
    **{f"mlp.{name}_proj": ColwiseParallel for name in ("gate", "up")},
    "self_attn.o_proj": RowwiseParallel,
    "mlp.down_proj": RowwiseParallel,
}


def tensor_parallel(mesh: DeviceMesh) -> Shard:
    def shard(model: Any) -> nn.Module:
        for block in blocks(model):
            parallelize_module(block, mesh, {name: style() for name, style in TP.items()})
        return model

    return shard


def shard_as(kind: str) -> Shard:
    if kind == "fsdp":
        return fsdp(init_device_mesh("cpu", (WORLD,)))
    if kind == "hsdp":
        return fsdp(init_device_mesh("cpu", (2, WORLD // 2), mesh_dim_names=("copies", "shards")))
    if kind == "tp":
        return tensor_parallel(init_device_mesh("cpu", (WORLD,)))
    mesh = init_device_mesh("cpu", (2, WORLD // 2), mesh_dim_names=("dp", "tp"))

    def both(model: nn.Module) -> nn.Module:
        return fsdp(mesh["dp"])(tensor_parallel(mesh["tp"])(model))

    return both


# ── models, and what trains them ──


def made(family: str, **changes: Any) -> Any:
    """A float64 model, the same on every rank."""
    row = FAMILIES[family]
    with torch.random.fork_rng(devices=[]):
        config = row.config.from_dict(row.json(**changes))
        config._experts_implementation = "eager"
        model = getattr(transformers, row.classes[0])(config).double()
    tiny.randomize_(model)
    return model


def ids(model: Any, seed: int) -> Tensor:
    return torch.randint(1, model.config.vocab_size - 1, (2, 9), generator=torch.Generator().manual_seed(seed))


def train_(model: Any, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad()
    batch = ids(model, seed)
    model(input_ids=batch, labels=batch).loss.backward()
    optimizer.step()


OPTIMIZERS: Mapping[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    "foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-2, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2, initial_accumulator_value=0.1),
}


def whole(x: Tensor) -> Tensor:
    return x.full_tensor().detach() if isinstance(x, DTensor) else x.detach().clone()


def gathered(model: Any, optimizer: Any, single: Any, kind: str) -> Any:
    """`single`, and an optimizer of it, with the numbers that all ranks together have."""
    for (name, mine), (own, theirs) in zip(model.named_parameters(), single.named_parameters(), strict=True):
        assert name == own
        with torch.no_grad():
            theirs.copy_(whole(mine))
    alone = OPTIMIZERS[kind](single.parameters())
    for mine, theirs in zip(model.parameters(), single.parameters(), strict=True):
        alone.state[theirs] = {key: whole(x) if isinstance(x, Tensor) else x for key, x in optimizer.state[mine].items()}
    return alone


# ── what is compared ──


def parts_differ(mine: Tensor, theirs: Tensor) -> bool:
    """Whether this rank's part has other bits than the same region of the whole tensor."""
    part = theirs.detach()[slices(box_of(mine))] if theirs.dim() else theirs
    own = local_of(mine)
    return own.dtype != part.dtype or own.shape != part.shape or not torch.equal(bits(own), bits(part))


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.uint8) if x.dim() else x.reshape(1).view(torch.uint8)


def other_tensors(large: Any, one: Any) -> list[str]:
    mine, theirs = dict(large.named_parameters()), dict(one.named_parameters())
    assert list(mine) == list(theirs)
    wrong = [name for name in mine if parts_differ(mine[name], theirs[name])]
    wrong += [name for name in mine if mine[name].requires_grad != theirs[name].requires_grad]
    buffers = dict(one.named_buffers())
    assert buffers.keys() == dict(large.named_buffers()).keys()
    return wrong + [name for name, x in large.named_buffers() if parts_differ(x, buffers[name])]


def other_states(large: Any, optimizer: Any, one: Any, alone: Any) -> list[str]:
    wrong: list[str] = []
    for (name, mine), theirs in zip(large.named_parameters(), one.parameters(), strict=True):
        own, other = optimizer.state[mine], alone.state[theirs]
        assert own.keys() == other.keys(), (name, own.keys(), other.keys())
        for key, x in own.items():
            if (parts_differ(x, other[key]) if isinstance(x, Tensor) else x != other[key]):
                wrong.append(f"{name} {key}")
            if isinstance(x, Tensor) and x.dim():
                assert isinstance(x, DTensor) == isinstance(mine, DTensor)
    return wrong


def apart(one: Tensor, two: Tensor) -> float:
    return float((one - two).abs().max() / two.abs().max())


def grow_case(case: Mapping[str, Any], counts: list[Any]) -> Report:
    """Two steps of a sharded model, a growth, one more step; and the same growth and step in one process."""
    family, growth = case["family"], case.get("growth") or dict(FAMILIES[case["family"]].together)
    shard, kind = shard_as(case["mesh"]), case.get("optimizer", "adamw")
    model, single = made(family, **case.get("changes", {})), made(family, **case.get("changes", {}))
    shard(model)
    optimizer = OPTIMIZERS[kind](model.parameters())
    for seed in (1, 2):
        train_(model, optimizer, seed)
    alone = gathered(model, optimizer, single, kind)
    with torch.no_grad():
        before = model(input_ids=ids(model, 3)).logits  # leaves the root's parameters gathered
    counts.clear()
    grown = isogrow.grow_training(model, optimizer=optimizer, shard=shard, seed=7, **growth)
    count = counts[0].count
    one = isogrow.grow_training(single, optimizer=alone, seed=7, **growth)
    report: Report = {"other": other_tensors(grown.model, one.model)}
    report["states"] = other_states(grown.model, grown.optimizer, one.model, one.optimizer)
    with torch.no_grad():
        report["function"] = apart(whole(grown.model(input_ids=ids(model, 3)).logits), whole(before))
    for each in (grown, one):
        train_(each.model, each.optimizer, 4)
    pairs = zip(grown.model.parameters(), one.model.parameters(), strict=True)
    report["step"] = max(apart(whole(mine), theirs) for mine, theirs in pairs)
    embed, head = (getattr(grown.model, f"get_{name}_embeddings")() for name in ("input", "output"))
    report["tied"] = embed.weight is head.weight
    report["asked_tied"] = bool(one.model.get_input_embeddings().weight is one.model.get_output_embeddings().weight)
    report |= {"sent": count.sent, "received": count.received, "most": count.most, "exchanges": count.exchanges}
    return report


def counted() -> list[Any]:
    """The jobs that grow from here on."""
    found, true = list[Any](), api.grow_together

    def noted(job: Any, *rest: Any) -> Any:
        found.append(job)
        return true(job, *rest)

    api.grow_together = noted
    return found


def reports(cases: Mapping[str, Any]) -> dict[str, Report]:
    found, counts = dict[str, Report](), counted()
    for name, case in cases.items():
        statistics.FIXED, exchanging.ROUND = case.get("fixed", 128), case.get("round", 1 << 14)
        try:
            found[name] = grow_case(case, counts)
        except Exception:
            found[name] = {"error": traceback.format_exc()}
            if WORLD > 1:
                break  # the others may wait for this rank
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{out}/meet", rank=RANK, world_size=WORLD, timeout=timedelta(seconds=60)
    )
    found = reports(json.loads((out / "cases.json").read_text()))
    (out / f"{RANK}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
