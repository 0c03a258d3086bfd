#!/usr/bin/env bash
# bitsandbytes 0.50.2 and torchao 0.18.0, on a CPU: moments in 8 bits shrink where a block's largest one is negative.
#
# Each block of 256 numbers is kept as its largest size and a table's shares of it. The table of signed numbers goes
# from -0.993 to 1. So a largest number that is negative is read back as 0.993 of itself, it is the block's largest
# when the block is written again, and every step takes 0.7 % of the whole block once more. Two blocks have constant
# gradients, 0.1 everywhere and 1 or -1 in one place: the first mean should end at the gradient in both. With -1 it
# ends at 0.93 of it under AdamW8bit (beta 0.9) and at 0.59 under Lion8bit (beta 0.99), the places beside it, too.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet bitsandbytes==0.50.2 torchao==0.18.0
cat > "$work/seen.py" <<'PY'
import sys
import warnings

warnings.simplefilter("ignore")
import bitsandbytes
import torch
import torchao.optim

torch.compile = lambda step, **options: step  # torchao's step as it is written, no compiler needed


def means(kind, **options):
    """After 600 steps: of the first block the largest and another place, the same of the second."""
    p = torch.nn.Parameter(torch.zeros(4096))
    optimizer = kind([p], lr=1e-9, weight_decay=0.0, **options)
    gradient = torch.full((4096,), 0.1)
    gradient[0], gradient[256] = 1.0, -1.0
    for _ in range(600):
        p.grad = gradient.clone()
        optimizer.step()
    state = optimizer.state[p]
    if "qmap1" in state:
        told = state["qmap1"][state["state1"].long()] * state["absmax1"].repeat_interleave(256)
    else:
        told = state["exp_avg"].dequantize()
    return [round(float(told[i]), 2) for i in (0, 1, 256, 257)]


print(f"bitsandbytes {bitsandbytes.__version__}, torch {torch.__version__}: means of constant gradients"
      " (1, 0.1; -1, 0.1)")
found = {
    "bitsandbytes AdamW8bit": means(bitsandbytes.optim.AdamW8bit, betas=(0.9, 0.999)),
    "bitsandbytes Lion8bit": means(bitsandbytes.optim.Lion8bit, betas=(0.9, 0.99)),
    "torchao AdamW8bit": means(torchao.optim.AdamW8bit, betas=(0.9, 0.999)),
}
for name, values in found.items():
    print(f"  {name}: {values}")
as_described = (
    found["bitsandbytes AdamW8bit"] == [1.0, 0.1, -0.93, 0.09]
    and found["bitsandbytes Lion8bit"] == [1.0, 0.1, -0.59, 0.06]
    and found["torchao AdamW8bit"] == found["bitsandbytes AdamW8bit"]
)
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py"
