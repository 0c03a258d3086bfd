#!/usr/bin/env bash
# mlx-lm 0.32.2: two things in what transformers 5.23.0 saves that it does not read.
#
# Mamba-2's layer_norm_epsilon reaches the last norm and those within the mixers; the norms before them have 1e-5
# whatever the config says. And a Qwen3-MoE that transformers 5 saved does not load: transformers writes
# num_local_experts and rope_parameters, and mlx-lm looks for num_experts and rope_theta, as the published files have.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/pip" install --quiet transformers==5.23.0 mlx==0.32.4 mlx-cpu==0.32.4 mlx-lm==0.32.2
cat > "$work/seen.py" <<'PY'
import sys
import tempfile
from pathlib import Path

import transformers
from mlx_lm.utils import load_model
from transformers import Mamba2Config, Mamba2ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

transformers.logging.set_verbosity_error()
sizes = dict(vocab_size=31, hidden_size=16, num_hidden_layers=2)
inner = dict(num_heads=4, head_dim=8, state_size=8, n_groups=1, intermediate_size=32)
mamba = Mamba2Config(**sizes, **inner, layer_norm_epsilon=0.5)
heads = dict(num_attention_heads=2, num_key_value_heads=1, head_dim=8, num_experts=4, num_experts_per_tok=2)
with tempfile.TemporaryDirectory() as folder:
    Mamba2ForCausalLM(mamba).save_pretrained(folder)
    model = load_model(Path(folder))[0]
    norms = [layer.norm.eps for layer in model.layers]
    print(f"Mamba-2 with layer_norm_epsilon 0.5: norms before mixers {norms}, the last {model.backbone.norm_f.eps}")
    ignored = set(norms) == {1e-5} and model.backbone.norm_f.eps == 0.5
with tempfile.TemporaryDirectory() as folder:
    Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, **heads, moe_intermediate_size=12)).save_pretrained(folder)
    try:
        load_model(Path(folder))
        said = ""
    except TypeError as error:
        said = str(error)
    print(f"Qwen3-MoE: {said or 'loads'}")
sys.exit(not (ignored and "num_experts" in said and "rope_theta" in said))
PY
"$work/venv/bin/python" "$work/seen.py"
