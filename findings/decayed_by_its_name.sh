#!/usr/bin/env bash
# transformers 5.23.0: whether a Trainer decays a norm's gain depends on what the norm is called.
#
# A Trainer leaves biases and norms out of weight decay. A norm is what is a torch LayerNorm, or has "layernorm",
# "rmsnorm", "norm" or "_norm" in its name in one of five ways. So of one Mamba the gains before each mixer (`norm`) are
# left out, and the last one (`norm_f`) is decayed, as Mamba-2's and FalconMamba's is; in the image towers of Qwen2.5-VL
# and GLM-4V (`norm1`, `norm2`) and in ImageGPT (`ln_1`, of a class of its own) every layer's gains are decayed, and in
# Qwen2-VL's, whose `norm1` is a LayerNorm, none. Mamba's A_log and D are decayed, too: every A goes to -1.
#
# Shown by steps with gradients of zero, in which decay alone moves a parameter.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet transformers==5.23.0 accelerate==1.15.0
cat > "$work/seen.py" <<'PY'
import re
import sys
import warnings

warnings.simplefilter("ignore")
import torch
from transformers import AutoConfig, AutoModel, Trainer, TrainingArguments
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel
from transformers.utils import logging

logging.set_verbosity_error()
SMALL = dict(hidden_size=32, intermediate_size=40, vocab_size=64, num_hidden_layers=2)
MAMBA = dict(SMALL, state_size=8)
MAMBA2 = dict(SMALL, state_size=8, num_heads=8, head_dim=8, n_groups=1)
TOWER = dict(depth=2, hidden_size=32, embed_dim=32, num_heads=4, intermediate_size=40, out_hidden_size=32)
SEEN = {
    "mamba": (MAMBA, "1 of 3 norms: norm_f"),
    "falcon_mamba": (MAMBA, "1 of 3 norms: norm_f"),
    "mamba2": (MAMBA2, "1 of 5 norms: norm_f"),
    "qwen2_5_vl_vision": (TOWER, "5 of 5 norms: ln_q, norm1, norm2"),
    "qwen2_vl_vision": (TOWER, "0 of 5 norms"),
    "glm4v_vision": (TOWER, "4 of 7 norms: norm1, norm2"),
    "imagegpt": (dict(n_embd=32, n_layer=2, n_head=4, n_positions=16, vocab_size=64), "5 of 5 norms: ln_1, ln_2, ln_f"),
}
STEPS, RATE, DECAY = 10, 0.1, 0.1
SHRUNK = (1 - RATE * DECAY) ** STEPS


def decayed(kind, sizes, folder):
    """What steps with gradients of zero have shrunk, by name."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **sizes)
    known = {"qwen2_vl_vision": Qwen2VisionTransformerPretrainedModel}  # no auto class has it
    model = known[kind](config) if kind in known else AutoModel.from_config(config)
    given = TrainingArguments(folder, learning_rate=RATE, weight_decay=DECAY, report_to=[], use_cpu=True)
    optimizer = Trainer(model, given).create_optimizer()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(STEPS):
        optimizer.step()
    after = dict(model.named_parameters())
    moved = {name for name, old in before.items() if not torch.equal(old, after[name])}
    assert all(torch.allclose(after[name], SHRUNK * before[name], rtol=1e-4, atol=1e-7) for name in moved)
    return model, moved


def said(model, moved):
    gains = [
        f"{name}.weight" for name, part in model.named_modules()
        if re.search("norm", type(part).__name__, re.I) and "weight" in dict(part.named_parameters(recurse=False))
    ]
    own = sorted({name.split(".")[-2] for name in gains if name in moved})
    count = sum(name in moved for name in gains)
    return f"{count} of {len(gains)} norms" + (f": {', '.join(own)}" if own else "")


as_described = True
for kind, (sizes, wanted) in SEEN.items():
    model, moved = decayed(kind, sizes, sys.argv[1])
    found = said(model, moved)
    print(f"{kind}: decayed are {found}")
    as_described &= found == wanted
    if kind == "mamba":
        others = sorted({name.split(".")[-1] for name in moved} & {"A_log", "D", "dt_bias"})
        layer = model.layers[0].mixer
        print(f"{kind}: and {', '.join(others)}: A of the fastest state from -8 to {-layer.A_log.exp()[0, -1]:.2f}")
        as_described &= others == ["A_log", "D"]
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py" "$work/run"
