#!/usr/bin/env bash
# transformers 5.23.0: from_pretrained sets the padding row of a Youtu's embedding to zero, whatever the file holds.
#
# Its _init_weights zeroes `module.weight.data[padding_idx]`. A loaded tensor is marked so that initializers pass it by,
# but a part of it through `.data` has no mark. A tied head trains that row; once loaded, both have zeros there.
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
from safetensors import safe_open
from transformers import YoutuConfig, YoutuForCausalLM

folder = sys.argv[1]
sizes = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, vocab_size=11)
latent = dict(q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=8, qk_nope_head_dim=6, v_head_dim=6)
model = YoutuForCausalLM(YoutuConfig(**sizes, **latent, intermediate_size=28, pad_token_id=3)).eval()
with torch.no_grad():
    model.model.embed_tokens.weight[3] = 1.5
model.save_pretrained(folder)
with safe_open(f"{folder}/model.safetensors", "pt") as file:
    stored = file.get_tensor("model.embed_tokens.weight")[3]
again = YoutuForCausalLM.from_pretrained(folder).eval()
rows = [part.weight[3, :3].tolist() for part in (again.model.embed_tokens, again.lm_head)]
print(f"transformers {transformers.__version__}")
print(f"  the padding row: in the file {stored[:3].tolist()}, loaded: embedding {rows[0]}, head {rows[1]}")
sys.exit(not (stored.all() and not any(rows[0])))
PY
"$work/venv/bin/python" "$work/seen.py" "$work/model"
