#!/usr/bin/env bash
# transformers 5.23.0: OLMo Hybrid's convolutions are saved under the names of other ones.
#
# A checkpoint of OLMo Hybrid holds one convolution each for queries, keys and values, which the class joins when it
# loads them: as many channels as these have. `save_pretrained` takes them apart again into three parts of (about) one
# size. By the config's defaults values are twice as wide as queries and keys, so that the file named q_conv1d holds all
# of the queries' and some of the keys', and k_conv1d the rest of those and some of the values'. Loaded again they are
# joined in the same order, so transformers does not notice; who reads one by its name does.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/pip" install --quiet transformers==5.23.0
cat > "$work/seen.py" <<'PY'
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

transformers.logging.set_verbosity_error()
config = transformers.OlmoHybridConfig(
    vocab_size=43, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, pad_token_id=0
)
keys = config.linear_num_key_heads * config.linear_key_head_dim
values = config.linear_num_value_heads * config.linear_value_head_dim
made = transformers.OlmoHybridForCausalLM(config)
with torch.no_grad():  # each channel says whose it is: 0 queries, 1 keys, 2 values
    made.model.layers[0].linear_attn.conv1d.weight.copy_(
        torch.repeat_interleave(torch.arange(3.0), torch.tensor([keys, keys, values]))[:, None, None]
    )
folder = Path(tempfile.mkdtemp())
made.save_pretrained(folder)
saved = load_file(folder / "model.safetensors")
print(f"transformers {transformers.__version__}: queries and keys have {keys} channels each, values {values}")
wrong = False
for number, part in enumerate("qkv"):
    taps = saved[f"model.layers.0.linear_attn.{part}_conv1d.weight"]
    held = taps[:, 0, 0].tolist()
    print(f"{part}_conv1d holds {held.count(0.0)} of the queries', {held.count(1.0)} of the keys', "
          f"{held.count(2.0)} of the values'")
    wrong |= held.count(float(number)) != len(held)
again = transformers.OlmoHybridForCausalLM.from_pretrained(folder)
same = torch.equal(again.model.layers[0].linear_attn.conv1d.weight, made.model.layers[0].linear_attn.conv1d.weight)
print(f"loaded again it is the same: {same}")
sys.exit(not (wrong and same))
PY
"$work/venv/bin/python" "$work/seen.py"
