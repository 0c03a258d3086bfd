#!/usr/bin/env bash
# pytorch_optimizer 4.1.0 beside dadaptation 3.2: DAdaptAdan's second moment is a mean of fourth powers in one of them.
#
# Both packages have DAdaptAdan under the same settings and keep `exp_avg_sq` for its denominator. With a constant
# gradient of 2 dadaptation's tends to 4 and pytorch_optimizer's to 16; ten times the gradient makes them 100 and
# 10,000 times as large. So the denominator, its root, is a square there, and a step is divided by the gradient's size
# once more: ten times the gradient moves a parameter as far as before in one package, and a tenth as far in the other.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet pytorch_optimizer==4.1.0 dadaptation==3.2
cat > "$work/seen.py" <<'PY'
import math
import sys
import warnings

warnings.simplefilter("ignore")
import dadaptation
import pytorch_optimizer
import torch

STEPS = 40


def seen(kind, size):
    """The second moment without its bias after steps with one gradient, and the last step's length for the rate."""
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = kind([p], lr=1.0, betas=(0.9, 0.9, 0.9), d0=1e-9, growth_rate=1.0)
    before = p.detach().clone()
    for _ in range(STEPS):
        before = p.detach().clone()
        p.grad = torch.full((3,), float(size))
        optimizer.step()
    moment = float(optimizer.state[p]["exp_avg_sq"][0]) / (1 - 0.9**STEPS)
    return moment, float((p.detach() - before).abs()[0])


def apart(one, other):
    return abs(one / other - 1)


found = {}
for package in (dadaptation, pytorch_optimizer):
    name = package.__name__
    (small, short), (large, long) = (seen(package.DAdaptAdan, size) for size in (2, 20))
    found[name] = small, large, long / short
    print(f"{name}: second moment {small:.3g} of gradients of 2, {large:.6g} of 20;"
          f" steps {long / short:.3g} times as long")
ours, theirs = found["dadaptation"], found["pytorch_optimizer"]
as_described = (
    apart(ours[0], 4) < 0.05
    and apart(ours[1], 400) < 0.05
    and apart(theirs[0], 16) < 0.05
    and apart(theirs[1], 160000) < 0.05
    and apart(ours[2], 1.0) < 0.05
    and apart(theirs[2], 0.1) < 0.05
)
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py"
