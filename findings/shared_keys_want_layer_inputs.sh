#!/usr/bin/env bash
# transformers 5.23.0: a Gemma 4 whose last layers share keys does not run without inputs of each layer's own.
#
# num_kv_shared_layers and hidden_size_per_layer_input are keys of their own, and the class is built with one and
# without the other. Its forward pass, before the first layer that shares keys, cuts the layers' own inputs to the
# last tokens, and there are none: TypeError.
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
from transformers import Gemma4ForCausalLM, Gemma4TextConfig

sizes = dict(vocab_size=11, hidden_size=16, intermediate_size=8, num_hidden_layers=4, num_attention_heads=2,
             num_key_value_heads=1, head_dim=8, global_head_dim=8, pad_token_id=0)
said = {}
for width in (0, 4):
    own = dict(hidden_size_per_layer_input=width, vocab_size_per_layer_input=11)
    kinds = ["sliding_attention", "full_attention"] * 2
    model = Gemma4ForCausalLM(Gemma4TextConfig(**sizes, **own, layer_types=kinds, num_kv_shared_layers=2))
    try:
        said[width] = str(tuple(model(torch.tensor([[1, 2, 3]])).logits.shape))
    except TypeError as error:
        said[width] = f"TypeError: {error}"
    print(f"transformers {transformers.__version__}: 2 of 4 layers share keys, own inputs of width {width}:"
          f" {said[width]}")
sys.exit(not (said[0].startswith("TypeError") and said[4] == "(1, 3, 11)"))
PY
"$work/venv/bin/python" "$work/seen.py"
