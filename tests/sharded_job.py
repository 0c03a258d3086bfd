"""One rank of a few: grows sharded models, compares its parts with what one process makes, and reports."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, cast

import tiny
import torch
import transformers
from joining import joined
from rows import FAMILIES
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor import Shard as Place
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.optim.swa_utils import AveragedModel

import isogrow
from isogrow.growth import api
from isogrow.growth.forecasting import foretold
from isogrow.growth.sharding import tensors_of
from isogrow.interpreters.sharded import exchanging
from isogrow.numbers import statistics
from isogrow.numbers.local import box_of, local_of
from isogrow.numbers.statistics import FIXED
from isogrow.optim.moments import carried
from isogrow.plans.boxes import boxes, slices
from isogrow.plans.dealing import sums_of
from isogrow.plans.forecast import Bounds
from isogrow.plans.parts import is_tied
from isogrow.plans.pieces import OldBox, pieces
from isogrow.plans.placing import read_mesh
from isogrow.plans.plan import Plan
from isogrow.plans.taking import taken

Shard = Callable[[Any], Any]
Report = dict[str, Any]
Case = Mapping[str, Any]


def world() -> int:
    return torch.distributed.get_world_size()


# ── how models are sharded ──


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of a model of transformers."""
    for part in model.modules():
        if isinstance(part, nn.ModuleList):
            yield from (each for each in part if any(True for _ in each.parameters()))
            return


def fsdp(mesh: DeviceMesh, **policies: Any) -> Shard:
    def shard(model: nn.Module) -> nn.Module:
        for block in blocks(model):
            fully_shard(block, mesh=mesh, **policies)
        return fully_shard(model, mesh=mesh, **policies)

    return shard


def columns(mesh: DeviceMesh) -> Shard:
    """Each tensor cut along its last dim."""

    def shard(model: nn.Module) -> nn.Module:
        return fully_shard(model, mesh=mesh, shard_placement_fn=lambda x: Place(x.dim() - 1))

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


# What fully_shard is given beside. Without an accelerator nothing can be pinned.
POLICIES: Mapping[str, Mapping[str, Any]] = {
    "offloaded": {"offload_policy": CPUOffloadPolicy(pin_memory=False)},
    "mixed": {"mp_policy": MixedPrecisionPolicy(param_dtype=torch.float32, reduce_dtype=torch.float64)},
}


def shard_as(kind: str) -> Shard:
    if kind == "fsdp":
        return fsdp(init_device_mesh("cpu", (world(),)))
    if kind in POLICIES:
        return fsdp(init_device_mesh("cpu", (world(),)), **POLICIES[kind])
    if kind == "hsdp":
        return fsdp(init_device_mesh("cpu", (2, world() // 2), mesh_dim_names=("copies", "shards")))
    if kind == "columns":
        return columns(init_device_mesh("cpu", (world(),)))
    if kind == "tp":
        return tensor_parallel(init_device_mesh("cpu", (world(),)))
    mesh = init_device_mesh("cpu", (2, world() // 2), mesh_dim_names=("dp", "tp"))

    def both(model: nn.Module) -> nn.Module:
        return fsdp(mesh["dp"])(tensor_parallel(mesh["tp"])(model))

    return both


# ── models, and what trains them ──

# Llama's sizes that two ranks can share evenly.
EVEN = dict(hidden_size=28, num_attention_heads=4, num_key_value_heads=2, intermediate_size=22)


def made(family: str, seed: int = 0, **changes: Any) -> Any:
    """A float64 model, the same on every rank."""
    row = FAMILIES[family]
    with torch.random.fork_rng(devices=[]):
        config = row.config.from_dict(row.json(**changes))
        config._experts_implementation = "eager"
        model = getattr(transformers, row.classes[0])(config).double().eval()  # dropout is off
    tiny.randomize_(model, seed)
    return model


def ids(model: Any, seed: int) -> Tensor:
    return torch.randint(
        1, model.config.vocab_size - 1, (2, 9), generator=torch.Generator().manual_seed(seed)
    )


def train_(model: Any, optimizer: Any, seed: int, scaler: torch.amp.GradScaler | None = None) -> None:
    model.zero_grad()
    batch = ids(model, seed)
    loss = model(input_ids=batch, labels=batch).loss
    (loss if scaler is None else scaler.scale(loss)).backward()
    for each in each_of(optimizer):
        each.step() if scaler is None else scaler.step(each)
    if scaler is not None:
        scaler.update()


class Lion(torch.optim.Optimizer):
    """One of a user's own: the sign of a mean of gradients."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 1e-2})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            mean = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
            p.add_(torch.sign(0.9 * mean + 0.1 * p.grad), alpha=-self.param_groups[0]["lr"])
            mean.mul_(0.99).add_(p.grad, alpha=0.01)


class Lookahead(torch.optim.Optimizer):
    """One that keeps a mean of the parameters beside them."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 1e-2})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            slow = self.state[p].setdefault("slow", p.detach().clone())
            p.add_(p.grad, alpha=-self.param_groups[0]["lr"])
            slow.lerp_(p, 0.5)


def muon_and_adam(parameters: Sequence[nn.Parameter]) -> list[torch.optim.Optimizer]:
    matrices = [p for p in parameters if p.dim() == 2]
    return [torch.optim.Muon(matrices, lr=1e-2), torch.optim.AdamW([p for p in parameters if p.dim() != 2])]


def one_of_each(parameters: Sequence[nn.Parameter]) -> list[torch.optim.Optimizer]:
    """Optimizers that share the parameters among themselves: every kind has vectors and matrices."""
    kinds = [kind for name, kind in OPTIMIZERS.items() if name not in ("each", "muon")]
    return [kind(parameters[i :: len(kinds)]) for i, kind in enumerate(kinds)]


OPTIMIZERS: Mapping[str, Callable[[Sequence[nn.Parameter]], Any]] = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    "foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    "lion": Lion,
    "lookahead": Lookahead,
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-2, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2, initial_accumulator_value=0.1),
    "muon": muon_and_adam,
    "each": one_of_each,
}


def each_of(optimizer: Any) -> list[torch.optim.Optimizer]:
    return optimizer if isinstance(optimizer, list) else [optimizer]


def state_of(optimizer: Any, p: Tensor) -> dict[str, Any]:
    return next((each.state[p] for each in each_of(optimizer) if p in each.state), {})


def whole(x: Tensor) -> Tensor:
    return x.full_tensor().detach() if isinstance(x, DTensor) else x.detach().clone()


def gathered(model: Any, optimizer: Any, single: Any, kind: str) -> Any:
    """An optimizer of `single`, and in both the numbers that all ranks together have."""
    for (name, mine), (own, theirs) in zip(model.named_parameters(), single.named_parameters(), strict=True):
        assert name == own
        with torch.no_grad():
            theirs.copy_(whole(mine))
    alone = OPTIMIZERS[kind](list(single.parameters()))
    owners = {p: each for each in each_of(alone) for group in each.param_groups for p in group["params"]}
    for mine, theirs in zip(model.parameters(), single.parameters(), strict=True):
        found = state_of(optimizer, mine).items()
        owners[theirs].state[theirs] = {key: whole(x) if isinstance(x, Tensor) else x for key, x in found}
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
        own, other = state_of(optimizer, mine), state_of(alone, theirs)
        assert own.keys() == other.keys(), (name, own.keys(), other.keys())
        for key, x in own.items():
            if parts_differ(x, other[key]) if isinstance(x, Tensor) else x != other[key]:
                wrong.append(f"{name} {key}")
            if isinstance(x, Tensor) and x.dim():
                assert isinstance(x, DTensor) == isinstance(mine, DTensor)
    return wrong


def apart(one: Tensor, two: Tensor) -> float:
    return float((one - two).detach().abs().max() / two.detach().abs().max())


def lacking(job: Any, plan: Plan, old: Any, new: Any) -> int:
    """How many old entries this rank's parts of the grown tensors read that it does not hold: counted entry
    by entry."""
    wanted: dict[Any, Tensor] = {}
    before, after = (tensors_of(model) for model in (old, new))
    for stored in job.made:
        for made in boxes(stored, box_of(after[stored.name]), plan.target):
            for piece in pieces(plan, made.block, made.box):
                if isinstance(piece.value, OldBox):
                    block = piece.value.block
                    if block not in wanted:
                        wanted[block] = torch.zeros(block.shape(plan.source), dtype=torch.bool)
                    wanted[block][slices(piece.value.box)] = True
    for stored in (each for each in job.anatomy.stored if not is_tied(job.anatomy, each)):
        for held in boxes(stored, box_of(before[stored.source]), plan.source):
            if held.block in wanted:
                wanted[held.block][slices(held.box)] = False
    return sum(int(x.sum()) for x in wanted.values())


def looked_at(job: Any, plan: Plan) -> int:
    """How many entries statistics are made of."""
    asked = taken(plan, [block for stored in job.made for _, block in stored.blocks(plan.target)])
    likes = sum(prod(map(len, box)) for block in asked.matched for box, _ in sums_of(block, plan, FIXED))
    return likes + sum(prod(map(len, average.box)) for average in asked.means)


def needed_bytes(job: Any, old: Any, new: Any, powers: Sequence[int], seeded: bool) -> Report:
    """What this rank lacks, and what all ranks look at, of the model and of moments of these powers."""
    plans = [job.plan, *(carried(job.anatomy, job.plan, power, seeded and power == 2) for power in powers)]
    return {
        "lacking": sum(8 * lacking(job, plan, old, new) for plan in plans),
        "looked_at": sum(8 * looked_at(job, plan) for plan in plans),
    }


def grow_case(case: Mapping[str, Any], counts: list[Any]) -> Report:
    """Two steps of a sharded model, a growth, more steps; and the same growth and steps in one process."""
    family, growth = case["family"], case.get("growth") or dict(FAMILIES[case["family"]].together)
    shard, kind = shard_as(case["mesh"]), case.get("optimizer", "adamw")
    policy = isogrow.Policy(**case["policy"]) if "policy" in case else None
    model, single = made(family, **case.get("changes", {})), made(family, **case.get("changes", {}))
    next(model.parameters()).requires_grad_(not case.get("frozen"))
    next(single.parameters()).requires_grad_(not case.get("frozen"))
    shard(model)
    optimizer = OPTIMIZERS[kind](list(model.parameters()))
    for seed in (1, 2):
        train_(model, optimizer, seed)
    alone = gathered(model, optimizer, single, kind)
    with torch.no_grad():
        before = model(input_ids=ids(model, 3)).logits  # leaves the root's parameters gathered
    counts.clear()
    options = {"policy": policy, "seed": 7, **growth}
    grown = isogrow.grow_training(model, optimizer=optimizer, shard=shard, **options)
    one = isogrow.grow_training(single, optimizer=alone, **options)
    report: Report = {"other": other_tensors(grown.model, one.model)}
    report["states"] = other_states(grown.model, grown.optimizer, one.model, one.optimizer)
    with torch.no_grad():
        after = grown.model(input_ids=ids(model, 3)).logits
        report["function"] = apart(whole(after), whole(before))
        report["computed in"] = [str(x.dtype) for x in (before, after)]
    for seed in (4, 5) if policy else (4,):
        for each in (grown, one):
            train_(each.model, each.optimizer, seed)
    report["counted"], report["told"] = counted_and_told(case, counts[0], model, optimizer, grown)
    pairs = zip(grown.model.parameters(), one.model.parameters(), strict=True)
    report["step"] = max(apart(whole(mine), theirs) for mine, theirs in pairs)
    if kind == "muon":
        report |= by_rate(grown.model, one.model)
    report["kinds"] = sorted({type(each).__name__ for each in each_of(grown.optimizer)})
    report["tied"], report["tied alone"] = (tied(each.model) for each in (grown, one))
    count = counts[0].count
    if kind == "adamw":
        seeded = policy is None or policy.moments == "seeded"
        report |= needed_bytes(counts[0], model, grown.model, (1, 2, 2), seeded)
    return report | {"sent": count.sent, "most": count.most, "times": count.exchanges}


def by_rate(mine: Any, theirs: Any) -> Report:
    """How far entries are apart after one step, in units of Muon's rate for a matrix of this shape; and of
    what AdamW has, relative."""
    pairs = list(zip(mine.parameters(), theirs.parameters(), strict=True))
    units = [
        float((whole(one) - two).detach().abs().max()) / (1e-2 * max(1, two.shape[0] / two.shape[1]) ** 0.5)
        for one, two in pairs
        if two.dim() == 2
    ]
    return {"matrices": max(units), "rest": max(apart(whole(a), b) for a, b in pairs if b.dim() != 2)}


MESHES: Mapping[str, Callable[[int], dict[str, int]]] = {
    **dict.fromkeys(("fsdp", *POLICIES), lambda count: {"fsdp": count}),
    "hsdp": lambda count: {"replicate": 2, "fsdp": count // 2},
    "tp": lambda count: {"tp": count},
    "both": lambda count: {"fsdp": 2, "tp": count // 2},
}
POWERS = {"adamw": (1, 2, 2)}  # amsgrad


def counted_and_told(case: Case, job: Any, model: Any, optimizer: Any, grown: Any) -> tuple[Report, Report]:
    """What this rank counted, and what was told of it beforehand (nothing, of cases that can't be told)."""
    count = job.count
    counted = {name: getattr(count, name) for name in ("read", "received", "sent", "most")}
    counted |= {"rounds": count.exchanges, "totals": count.totals}
    counted |= {"before": held(model, optimizer, job.sources)}
    counted["after"] = held(grown.model, grown.optimizer, [stored.name for stored in job.made])
    kind = case.get("optimizer", "adamw")
    if case["mesh"] not in MESHES or kind not in POWERS or case.get("frozen"):
        return {}, {}
    mesh = read_mesh(MESHES[case["mesh"]](world()))
    names = [name for name, _ in model.named_parameters()]
    seeded = case.get("policy", {}).get("moments", "seeded") == "seeded"
    bounds = Bounds(statistics.FIXED, exchanging.ROUND)
    told = foretold(job.anatomy, job.plan, mesh, names, POWERS[kind], seeded, bounds)
    plain = foretold(job.anatomy, job.plan, mesh, names, POWERS[kind], seeded, bounds, memory=False)
    assert told == plain
    me = torch.distributed.get_rank()
    figures = {name: getattr(told, name) for name in counted}
    return counted, {name: x[me] if isinstance(x, tuple) else x for name, x in figures.items()}


def held(model: Any, optimizer: Any, names: Sequence[str]) -> int:
    """The bytes of this rank's parts, moments too."""
    tensors, states = tensors_of(model), [s for each in each_of(optimizer) for s in each.state.values()]
    parts = [tensors[name] for name in names]
    parts += [x for state in states for x in state.values() if isinstance(x, Tensor) and x.dim()]
    return sum(local_of(x).numel() * x.element_size() for x in parts)


def tied(model: Any) -> bool:
    return model.get_input_embeddings().weight is model.get_output_embeddings().weight


def counted() -> list[Any]:
    """The jobs that grow from here on."""
    found, true = list[Any](), api.grow_together

    def noted(job: Any, *rest: Any, **how: Any) -> Any:
        found.append(job)
        return true(job, *rest, **how)

    api.grow_together = noted
    return found


def reports(cases: Mapping[str, Any]) -> dict[str, Report]:
    found, counts = dict[str, Report](), counted()
    for name, case in cases.items():
        statistics.FIXED, exchanging.ROUND = 512, 1 << 14
        found[name] = grow_case(case, counts)
    return found


# ── what goes with it ──


def average_and_schedule() -> Report:
    """A running average (a model, a dict, and torch's own), a schedule, and a function that draws new
    entries; with a model in bfloat16 whose average is in float32."""
    shard, model, single = shard_as("fsdp"), made("llama").bfloat16(), made("llama").bfloat16()
    averages = made("llama", seed=5).float(), made("llama", seed=5).float()
    shard(model)
    shard(averages[0])
    optimizer = OPTIMIZERS["sgd"](list(model.parameters()))
    train_(model, optimizer, 1)
    around = AveragedModel(averages[1])  # a copy, which can't be had of what fully_shard has wrapped
    around.n_averaged.fill_(7)
    shard(around.module)
    many, named = with_average(model, optimizer, averages[0], {"shard": shard})
    one, named_alone = with_average(single, gathered(model, optimizer, single, "sgd"), averages[1], {})
    wrong = [*other_tensors(many.model, one.model), *other_tensors(many.ema, one.ema)]
    wrong += other_states(many.model, many.optimizer, one.model, one.optimizer)
    kept = isogrow.grow_training(model, ema=around, shard=shard, ffn="+9").ema
    wrong += other_tensors(kept.module, isogrow.grow_training(single, ema=averages[1], ffn="+9").ema)
    assert isinstance(kept, AveragedModel) and int(kept.n_averaged) == 7 == int(around.n_averaged)
    wrong += [name for name, x in named_alone.ema.items() if parts_differ(named.ema[name], x)]
    assert named.ema.keys() == named_alone.ema.keys()
    many.scheduler.step()
    return {"wrong": wrong, "rate": many.optimizer.param_groups[0]["lr"]}


def with_average(model: Any, optimizer: Any, ema: Any, how: Mapping[str, Any]) -> tuple[Any, Any]:
    """What is grown with an average that is a model, and with one that is a dict."""
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    sizes = {"ffn": "+9", "layers": "+1", "hidden": "x2", "heads": "x2", "init": drawn, "init_std": 0.5}
    options: Any = {"optimizer": optimizer, "scheduler": schedule, **how, **sizes}
    by_name = {name: x.detach() for name, x in ema.named_parameters()}
    return (
        isogrow.grow_training(model, ema=ema, **options),
        isogrow.grow_training(model, ema=by_name, **options),
    )


def scaled() -> Report:
    """A gradient scaler, which knows no sizes, goes on through a growth out of place and one in place; a step
    whose gradients are not finite is left out on every rank. And the same in one process."""
    found: Report = {}
    for where in ("beside", "in place"):
        shard, model, single = shard_as("fsdp"), made("llama"), made("llama")
        shard(model)
        optimizer = OPTIMIZERS["adamw"](list(model.parameters()))
        alone = OPTIMIZERS["adamw"](list(single.parameters()))
        scalers = [torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2) for _ in range(2)]
        runs = [[model, optimizer], [single, alone]]
        for number, growth in enumerate(({}, {"ffn": "x2", "layers": "+1"}, {"hidden": "x2", "heads": "x2"})):
            for run, scaler, how in zip(runs, scalers, ({"shard": shard}, {}), strict=True):
                if growth and where == "in place":
                    isogrow.grow_(run[0], optimizer=run[1], **how, **growth)
                elif growth:
                    grown = isogrow.grow_training(run[0], optimizer=run[1], **how, **growth)
                    run[:] = grown.model, grown.optimizer
                for seed in (1, 2, 3):
                    train_(*run, number + seed, scaler)
            skipped = [each.clone() for each in map(whole, runs[0][0].parameters())]
            for run, scaler in zip(runs, scalers, strict=True):
                scaler.scale(run[0](input_ids=ids(run[0], 1)).logits.sum() * float("inf")).backward()
                scaler.step(run[1])
                scaler.update()
            kept = zip(skipped, map(whole, runs[0][0].parameters()), strict=True)
            assert all(torch.equal(one, two) for one, two in kept)
        pairs = zip(runs[0][0].parameters(), runs[1][0].parameters(), strict=True)
        scales = [scaler.get_scale() for scaler in scalers]
        found[where] = {"apart": max(apart(whole(a), b) for a, b in pairs), "scales": scales}
    return found


def drawn(region: isogrow.Region) -> Any:
    generator = torch.Generator().manual_seed(region.seed)
    return region.mean + region.std * torch.rand(region.shape, generator=generator)


def old_drawn(region: isogrow.Region) -> Any:
    return drawn(region) + region.old().mean()


def drawn_by_rank(region: isogrow.Region) -> Any:
    return drawn(region) + torch.distributed.get_rank()


# ── what is refused ──


def refusals() -> Report:
    """What each of these says on this rank; that the next one says something shows that no rank waits."""
    rank = torch.distributed.get_rank()
    mesh = init_device_mesh("cpu", (world(),))
    model = made("llama")
    fsdp(mesh)(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train_(model, optimizer, 1)
    shard = fsdp(mesh)

    def grow(**said: Any) -> Any:
        return isogrow.grow_training(
            model, **{"optimizer": optimizer, "shard": shard, "release": True, **said}
        )

    def breaking(large: Any) -> None:
        if rank == 1:
            raise RuntimeError("no such mesh")
        shard(large)

    parallel, stray = made("llama", **EVEN), cast("Any", 3)
    tensor_parallel(mesh)(parallel)
    tried: dict[str, Callable[[], Any]] = {
        "no function": lambda: grow(ffn="x2", shard=None),
        "no function on one": lambda: grow(ffn="x2", shard=None if rank else shard),
        "not callable": lambda: grow(ffn="x2", shard="fsdp"),
        "one refuses": lambda: grow(ffn=1 if rank else "x2"),
        "another request": lambda: grow(ffn="x3" if rank else "x2"),
        "another seed": lambda: grow(ffn="x2", seed=rank),
        "breaks on one": lambda: grow(ffn="x2", shard=breaking),
        "uneven columns": lambda: grow(ffn=45, shard=columns(mesh)),
        "uneven rows": lambda: isogrow.grow(parallel, ffn=45, shard=tensor_parallel(mesh)),
        "looks": lambda: grow(ffn="x2", init=isogrow.GradMax([{"input_ids": ids(model, 1)}])),
        "looks at old ones": lambda: grow(ffn="x2", init=old_drawn),
        "few rows": lambda: few_rows(mesh),
        "factored": lambda: strange_state(model, shard, {"row_var": (0, -1), "col_var": (0, -2)}),
        "whole": lambda: strange_state(model, shard, {"exp_avg": (0,)}),
        "rates of their own": lambda: found_rates(model, shard),
        "not finite": lambda: not_finite(shard, rank),
        "beyond float16": lambda: beyond(shard),
        "no optimizer on one": lambda: grow(ffn="x2", optimizer=None if rank else optimizer),
        "no average on one": lambda: grow(ffn="x2", ema=stray if rank else None),
        "no optimizer in place on one": lambda: isogrow.grow_(
            model, optimizer=stray if rank else optimizer, shard=shard, ffn="x2"
        ),
        "another word on one": lambda: isogrow.grow(
            model, shard=shard, ffn="x2", **({"release": True} if rank else {})
        ),
        "no model on one": lambda: isogrow.grow(stray if rank else model, shard=shard, ffn="x2"),
        "left out on one": lambda: isogrow.grow(on_the_first(), shard=shard, ffn="x2"),
        "drawn otherwise": lambda: grow(ffn="x2", init=drawn_by_rank),
        "renamed": lambda: isogrow.grow(
            model, ffn="x2", shard=lambda large: large.add_module("more", nn.Linear(2, 3))
        ),
    }
    found: Report = {}
    for name, attempt in tried.items():
        try:
            attempt()
            found[name] = "nothing"
        except ValueError as error:
            found[name] = f"{type(error).__name__}: {error}"
    found["kept"] = len(optimizer.state)
    grown = grow(ffn="x2")
    found["released"] = len(optimizer.state)
    found["at last"] = grown.model.config.intermediate_size
    return found


def on_the_first() -> Any:
    """A model that the first rank alone holds."""
    model, mesh = made("llama"), DeviceMesh("cpu", [0])
    for part in model.modules():
        for name, p in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(distribute_tensor(p.detach(), mesh, [Place(0)])))
    return model


def few_rows(mesh: DeviceMesh) -> Any:
    config = FAMILIES["llama"].config.from_dict(FAMILIES["llama"].json(num_labels=1))
    model = transformers.LlamaForSequenceClassification(config)
    fsdp(mesh)(model)
    return isogrow.grow_training(
        model, optimizer=muon_and_adam(list(model.parameters())), shard=fsdp(mesh), ffn="x2"
    )


def strange_state(model: Any, shard: Shard, kinds: Mapping[str, Sequence[int]]) -> Any:
    """A state that torch's optimizers don't make of a sharded model."""
    optimizer = torch.optim.AdamW(model.parameters())
    p = next(p for p in model.parameters() if p.dim() == 2)
    for name, gone in kinds.items():
        shape = list(p.shape)
        for dim in gone[1:]:
            del shape[dim]
        optimizer.state[p][name] = torch.zeros(shape)
    return isogrow.grow_training(model, optimizer=optimizer, shard=shard, ffn="x2")


def found_rates(model: Any, shard: Shard) -> Any:
    """An optimizer that found its rate by its own part, as each rank's does that asks sums for `.item()`; and
    another of its class, whose rate was given."""
    sums = [p.detach().abs().sum().item() for p in model.parameters()]
    first, *rest = model.parameters()
    optimizer, other = torch.optim.AdamW(rest), torch.optim.AdamW([first])
    other.param_groups[0]["d"] = 0.5
    assert sum(sums) != sum(x.full_tensor().abs().sum().item() for x in model.parameters())
    optimizer.param_groups[0]["d"] = sum(sums)
    return isogrow.grow_training(model, optimizer=[optimizer, other], shard=shard, ffn="x2")


def not_finite(shard: Shard, rank: int) -> Any:
    model = made("llama")
    shard(model)
    if rank:
        with torch.no_grad():
            local_of(model.model.layers[0].mlp.up_proj.weight)[-1, 1] = float("nan")
    return isogrow.grow(model, ffn="x2", shard=shard)


def beyond(shard: Shard) -> Any:
    """Keys that growing the head dim scales, the last of which only one rank has."""
    model = made("qwen2").half()
    with torch.no_grad():
        model.model.layers[0].self_attn.k_proj.bias[-1] = 60000.0
    shard(model)
    return isogrow.grow(model, head_dim="x4", shard=shard)


# ── one that ends in the middle ──


def ended() -> None:
    """The second rank is gone at its third exchange."""
    true, done = exchanging.Exchange._exchanged, list[int]()

    def dying(self: Any, moves: Any) -> Any:
        done.append(1)
        if torch.distributed.get_rank() == 1 and len(done) == 3:
            os._exit(9)
        return true(self, moves)

    exchanging.Exchange._exchanged = dying
    exchanging.ROUND = 1 << 12
    model = made("llama")
    shard_as("fsdp")(model)
    isogrow.grow(model, ffn="x2", shard=shard_as("fsdp"))


# ── how it is started ──


def run(out: Path) -> dict[str, Any]:
    asked = json.loads((out / "asked.json").read_text())
    if asked == "ended":
        ended()
        return {}
    found: dict[str, Any] = reports(asked["cases"])
    for name in asked["also"]:
        found[name] = {"refusals": refusals, "average": average_and_schedule, "scaled": scaled}[name]()
    return found


def main(folder: Path, rank: int, count: int) -> None:
    """One rank, in a process of its own, whose errors are left beside what it reports."""
    with (folder / f"{rank}.log").open("w") as log:
        os.dup2(log.fileno(), 2)
        joined(folder, rank, count, 300)
        (folder / f"{rank}.json").write_text(json.dumps(run(folder)))
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
