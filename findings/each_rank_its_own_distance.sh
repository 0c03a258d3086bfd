#!/usr/bin/env bash
# dadaptation 3.2 and prodigyopt 1.1.2 under FSDP2 (torch 2.13.0), on two CPU processes: each rank ends with a rate of its
# own.
#
# DAdaptAdam, DAdaptSGD and Prodigy find their rate by sums over all parameters, and read each by `.item()`. Of a sharded
# parameter (a DTensor) that is the sum of the rank's own part: a reduction is put off until another operation needs it,
# and `.item()` does not (pytorch, issue 166638). So the two ranks learn at different rates, with nothing said, and end at
# weights that no single process has. Both packages add sums up over ranks if told to, or if they find FSDP's first
# version; they don't find the second one, and on CPUs `fsdp_in_use=True` stops, since it asks for CUDA. Where Prodigy
# looks at every 11th entry alone (`slice_p=11`), it has the rate of a single process, since picking them does reduce.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet dadaptation==3.2 prodigyopt==1.1.2
cat > "$work/seen.py" <<'PY'
import sys

import dadaptation
import prodigyopt
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

OPTIMIZERS = {
    "AdamW": lambda of: torch.optim.AdamW(of, lr=0.01),
    "DAdaptAdam": lambda of: dadaptation.DAdaptAdam(of, lr=1.0),
    "DAdaptSGD": lambda of: dadaptation.DAdaptSGD(of, lr=1.0),
    "Prodigy": lambda of: prodigyopt.Prodigy(of, lr=1.0),
    "Prodigy, slice_p=11": lambda of: prodigyopt.Prodigy(of, lr=1.0, slice_p=11),
}


def of_all_ranks(found):
    told = [None] * dist.get_world_size()
    dist.all_gather_object(told, found)
    return told


def trained(optimizer_of, mesh):
    """(the rate that was found, the weights) after 30 steps; every rank learns the same inputs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    if mesh is not None:
        for layer in (model[0], model[2], model):
            fully_shard(layer, mesh=mesh)
    optimizer = optimizer_of(model.parameters())
    for step in range(30):
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        model(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    whole = [p.full_tensor() if isinstance(p, DTensor) else p for p in model.parameters()]
    return optimizer.param_groups[0].get("d"), torch.cat([p.detach().flatten() for p in whole])


dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2,))
numbers = distribute_tensor(torch.arange(8.0).view(4, 2), mesh, [Shard(0)])
sums = of_all_ranks((numbers.sum().item(), numbers.sum().full_tensor().item()))
found = {}
for name, optimizer_of in OPTIMIZERS.items():
    rate, alone = trained(optimizer_of, None)
    own, sharded = trained(optimizer_of, mesh)
    rates = of_all_ranks(own)
    found[name] = rate, rates, ((sharded - alone).norm() / alone.norm()).item()
if dist.get_rank() == 0:
    print(f"torch {torch.__version__}; 0 + … + 7 by sum().item() on each rank, and by full_tensor(): {sums}")
    for name, (rate, rates, apart) in found.items():
        told = "" if rate is None else f"rate found alone {rate:.4f}, on each of two ranks {[round(r, 4) for r in rates]}; "
        print(f"  {name}: {told}weights apart by {apart:.1e}")
as_described = (
    sums == [(6.0, 28.0), (22.0, 28.0)]
    and found["AdamW"][2] < 1e-6
    and all(abs(r - found["Prodigy, slice_p=11"][0]) < 1e-6 for r in found["Prodigy, slice_p=11"][1])
    and all(
        rates[0] != rates[1] and rate not in rates and apart > 1e-4
        for name, (rate, rates, apart) in found.items()
        if name in ("DAdaptAdam", "DAdaptSGD", "Prodigy")
    )
)
dist.destroy_process_group()
sys.exit(not as_described)
PY
"$work/venv/bin/torchrun" --standalone --nproc-per-node 2 "$work/seen.py" 2> "$work/said" || { cat "$work/said"; exit 1; }
