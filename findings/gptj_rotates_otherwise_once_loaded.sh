#!/usr/bin/env bash
# transformers 5.23.0, torch 2.13.0: a GPT-J (CodeGen alike) that is made in bfloat16 rotates by other angles than the
# same model once it is saved and loaded.
#
# The class computes its table of sines and cosines in torch's default dtype, which from_config(dtype=torch.bfloat16)
# sets while it builds: angles have 8 bits. from_pretrained computes the table in float32. So logits change by saving
# and loading, though every weight is the same bit by bit. Llama, whose table says float32, does not change.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/pip" install --quiet transformers==5.23.0
cat > "$work/seen.py" <<'PY'
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, CodeGenConfig, GPTJConfig, LlamaConfig

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
ids = torch.arange(60)[None] % 50
alike = dict(vocab_size=50, bos_token_id=None, eos_token_id=None)
old = dict(n_embd=48, n_layer=2, n_head=4, rotary_dim=12, n_positions=64)
new = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
found = {}
for config in (GPTJConfig(**alike, **old), CodeGenConfig(**alike, **old), LlamaConfig(**alike, **new)):
    torch.manual_seed(3)
    made = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    for weight in made.parameters():
        weight.data.mul_(8)
    folder = f"{sys.argv[1]}/{config.model_type}"
    made.save_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder).eval()
    same = all(torch.equal(x, loaded.state_dict()[name]) for name, x in made.state_dict().items())
    with torch.no_grad():
        gap = (made(ids).logits - loaded(ids).logits).abs().max() / made(ids).logits.abs().max()
    found[config.model_type] = float(gap)
    print(f"{config.model_type}: {loaded.dtype}, weights the same: {same}, logits differ by {gap:.1e} of the largest")
sys.exit(not (found["gptj"] > 0 and found["codegen"] > 0 and found["llama"] == 0))
PY
"$work/venv/bin/python" "$work/seen.py" "$work"
