#!/usr/bin/env bash
# torch 2.13.0: an AveragedModel pairs its parameters with the model's by their order, as far as the shorter list goes.
#
# A layer is put into a model that is training, and its running average is updated as before. Nothing is said: the
# average of the second layer is mixed with the new one, that of the third with the second, and the last layer of the
# model is not averaged any more. `n_averaged` goes on, and the average's state has no entry for the new layer.
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
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def filled(value):
    layer = nn.Linear(3, 3, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def told(model):
    return [round(float(layer.weight.detach().mean()), 3) for layer in model]


model = nn.Sequential(filled(1.0), filled(2.0), filled(3.0))
average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
average.update_parameters(model)
print(f"torch {torch.__version__}: mean weight of each layer; nothing is trained in between")
print(f"  model {told(model)}, average {told(average.module)}")
model.insert(1, filled(0.0))
average.update_parameters(model)
print(f"  a layer of zeros is put behind the first: model {told(model)}, average {told(average.module)}")
print(f"  n_averaged is {int(average.n_averaged)}")
as_described = (
    told(model) == [1.0, 0.0, 2.0, 3.0]
    and told(average.module) == [1.0, 1.0, 2.5]
    and int(average.n_averaged) == 2
)
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py"
