#!/usr/bin/env bash
# transformers 5.24.0: an EXAONE that is loaded by the class that its config names is saved so that nothing loads it.
#
# EXAONE's files name Llama's class in `architectures`, and loaded by that class the model is right. `save_pretrained`
# then writes `model_type: llama` beside tensors under EXAONE's names (transformer.h.…), which a Llama's files have not:
# loaded again, all tensors but one are missing and drawn at random, without an error.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/pip" install --quiet transformers==5.24.0
cat > "$work/seen.py" <<'PY'
import json
import sys

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, ExaoneConfig, LlamaForCausalLM

transformers.logging.set_verbosity_error()
out = sys.argv[1]
sizes = dict(
    vocab_size=50, hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2,
)
torch.manual_seed(0)
small = AutoModelForCausalLM.from_config(ExaoneConfig(**sizes)).eval()
small.save_pretrained(f"{out}/exaone")
named = json.load(open(f"{out}/exaone/config.json"))["architectures"]
by_name = LlamaForCausalLM.from_pretrained(f"{out}/exaone").eval()
ids = torch.arange(20)[None]
with torch.no_grad():
    alike = torch.equal(small(ids).logits, by_name(ids).logits)
by_name.save_pretrained(f"{out}/again")
kind = json.load(open(f"{out}/again/config.json"))["model_type"]
names = sorted(load_file(f"{out}/again/model.safetensors"))
again, info = AutoModelForCausalLM.from_pretrained(f"{out}/again", output_loading_info=True)
with torch.no_grad():
    old = small(ids).logits
    apart = float((old - again.eval()(ids).logits).abs().max() / old.abs().max())
missing, count = len(info["missing_keys"]), len(by_name.state_dict())
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
print(f"  EXAONE's config names {named}; loaded by that class it computes {'the same' if alike else 'something else'}")
print(f"  saved from there: model_type {kind}, tensors like {names[1]}")
print(f"  loaded again: {missing} of {count} tensors missing, logits off by {apart:.2f} of the largest")
sys.exit(not (alike and kind == "llama" and missing == count - 1 and apart > 0.1))
PY
"$work/venv/bin/python" "$work/seen.py" "$work"
