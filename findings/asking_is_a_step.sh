#!/usr/bin/env bash
# torch 2.13.0: what it does to an optimizer that has not stepped yet if its state is asked for.
#
# `get_state_dict` and `get_optimizer_state_dict` of torch.distributed.checkpoint make the state of such an optimizer by
# a step of zero gradients at a rate of 0. Parameters do not move, but the step is counted, and what it made stays:
# AdamW corrects the bias of its moments as if a gradient of zeros had come first, so that the first real update is 0.75
# as long; Rprop takes its first step sizes from the rate, which was 0, and hardly moves any more; ASGD's first update is
# nothing; SGD's first gradient is damped, as only later ones should be. It is so when a run is saved before its first
# step, and when the state is asked for as a place to load into and nothing is loaded. Who loads what was saved so goes
# on with it. Adagrad, RMSprop and Adadelta go on as if nothing had been asked. (For AdamW it is known: pytorch, issue
# 164929.)
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat > "$work/seen.py" <<'PY'
import sys

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

OPTIMIZERS = {
    "AdamW": {},
    "RAdam": {},
    "Adamax": {},
    "Rprop": {},
    "ASGD": {},
    "SGD": dict(momentum=0.9, dampening=0.1),
    "Adagrad": {},
    "RMSprop": {},
    "Adadelta": {},
}


def made(name):
    """A model of one layer, always the same, and its optimizer."""
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.arange(6.0).view(2, 3) / 10)
    return model, getattr(torch.optim, name)(model.parameters(), lr=0.01, **OPTIMIZERS[name])


def moved(model, optimizer, steps=5):
    """How far each step moves the weight; each learns other inputs."""
    far = []
    for step in range(steps):
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        before = model.weight.detach().clone()
        model(inputs).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        far.append((model.weight - before).norm().item())
    return far


def asked(name):
    """The same run, but its state was asked for before."""
    model, optimizer = made(name)
    before = model.weight.detach().clone()
    get_optimizer_state_dict(model, optimizer)
    assert torch.equal(model.weight, before)
    return moved(model, optimizer)


def loaded(name):
    """The state that was asked for before the first step, set into another optimizer."""
    model, optimizer = made(name)
    state = get_optimizer_state_dict(model, optimizer)
    other, anew = made(name)
    set_optimizer_state_dict(other, anew, state)
    return moved(other, anew)


print(f"torch {torch.__version__}: how far steps 1, 2 and 5 go if the state was asked for before them, by how far else")
ratios = {}
for name in OPTIMIZERS:
    alone = moved(*made(name))
    ratios[name] = [far / own for far, own in zip(asked(name), alone)]
    same = loaded(name) == asked(name)
    told = ", ".join(f"{ratios[name][step]:.3f}" for step in (0, 1, 4))
    print(f"  {name}: {told}; saved and loaded {'the same' if same else 'otherwise'}")
    ratios[name].append(same)
model, optimizer = made("AdamW")
steps = {float(each["step"]) for each in get_optimizer_state_dict(model, optimizer)["state"].values()}
print(f"  steps that an AdamW says to have made which has made none: {steps}")
as_described = (
    steps == {1.0}
    and all(ratio[-1] for ratio in ratios.values())
    and abs(ratios["AdamW"][0] - 0.744) < 0.005
    and abs(ratios["RAdam"][0] - 0.526) < 0.005
    and ratios["RAdam"][4] < 0.01  # it begins to correct its variance a step earlier
    and all(far < 0.01 for far in ratios["Rprop"][:5])
    and ratios["ASGD"][0] == 0
    and abs(ratios["SGD"][0] - 0.9) < 0.005
    and all(abs(far - 1) < 1e-4 for name in ("Adagrad", "RMSprop", "Adadelta") for far in ratios[name][:5])
)
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py"
