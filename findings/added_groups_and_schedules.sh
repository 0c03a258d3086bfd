#!/usr/bin/env bash
# torch 2.13.0: what a learning-rate schedule does to a parameter group that is added in the middle of a run.
#
# Who adds layers to a model that is training gives them to its optimizer by `add_param_group`. Thirteen schedules of
# torch then do four things. LinearLR and ConstantLR count on rates that they had lowered before: the group's rate was
# never lowered, so it is raised, to 5/3 and to 3 times what was asked for, and stays there without a word. Three
# that multiply each step go on from the group's own rate, and PolynomialLR and CosineAnnealingLR bring both groups to
# 0 together. Five stop: four with a message about the arguments of zip, one with a KeyError, each after the optimizer
# has made its step. ReduceLROnPlateau alone has no trouble.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat > "$work/seen.py" <<'PY'
import sys
import warnings

import torch
from torch import nn
from torch.optim import lr_scheduler

warnings.simplefilter("ignore")
RATE = 0.1
SCHEDULES = {
    "LinearLR": {},  # from a third of the rate to all of it, in 5 steps
    "ConstantLR": {},  # a third for 5 steps
    "StepLR": dict(step_size=1),
    "ExponentialLR": dict(gamma=0.5),
    "MultiStepLR": dict(milestones=[1, 4]),
    "CosineAnnealingLR": dict(T_max=6),
    "PolynomialLR": dict(total_iters=6),
    "LambdaLR": dict(lr_lambda=lambda step: 0.5**step),
    "MultiplicativeLR": dict(lr_lambda=lambda step: 0.5),
    "CosineAnnealingWarmRestarts": dict(T_0=6),
    "CyclicLR": dict(base_lr=0.01, max_lr=RATE, cycle_momentum=False),
    "OneCycleLR": dict(max_lr=RATE, total_steps=20),
    "ReduceLROnPlateau": {},
}


def seen(name):
    """Rates of the old and of the added group after 2 steps before it and 4 behind it, or what stopped it."""
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=RATE)
    schedule = getattr(lr_scheduler, name)(optimizer, **SCHEDULES[name])
    told = (1.0,) if name == "ReduceLROnPlateau" else ()
    for step in range(6):
        if step == 2:
            optimizer.add_param_group(dict(params=nn.Linear(2, 2).parameters(), lr=RATE))
        optimizer.step()
        try:
            schedule.step(*told)
        except (KeyError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
    return tuple(round(float(group["lr"]), 4) for group in optimizer.param_groups)


print(f"torch {torch.__version__}: rates of the old group and of one that was added with {RATE}")
found = {name: seen(name) for name in SCHEDULES}
for name, what in found.items():
    print(f"  {name}: {what}")
stopped = {name: what for name, what in found.items() if isinstance(what, str)}
as_described = (
    found["LinearLR"] == (0.1, 0.1667)
    and found["ConstantLR"] == (0.1, 0.3)
    and found["ReduceLROnPlateau"] == (0.1, 0.1)
    and set(stopped) == {
        "LambdaLR", "MultiplicativeLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR",
    }
    and sum("zip() argument 2" in what for what in stopped.values()) == 4
    and stopped["OneCycleLR"] == "KeyError: 'initial_lr'"
)
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py"
