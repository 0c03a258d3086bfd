#!/usr/bin/env bash
# transformers 5.23.0: Bamba and MiniMax decode as if every token stood at position 0.
#
# Given a cache and no position_ids, other classes count on from what the cache holds. Bamba's counts from 0 whatever
# it holds, and MiniMax asks a cache of its own, which answers 0 where the first layer is linear attention. Both rotate
# queries and keys by these numbers, so from the second token on the logits are not those of one pass over all tokens.
# With position_ids they are, but for the float32 in which states are kept. Nothing is said.
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
from transformers import AutoConfig, AutoModelForCausalLM

transformers.logging.set_verbosity_error()
sizes = dict(vocab_size=43, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64)
state = dict(mamba_n_heads=8, mamba_d_head=8, mamba_d_state=8, mamba_n_groups=1, mamba_chunk_size=8)
kinds = {
    "llama": sizes,
    "bamba": {**sizes, **state, "attn_layer_indices": [1]},
    "minimax": {**sizes, "num_local_experts": 4, "block_size": 4, "layer_types": ["linear_attention", "full_attention"]},
}


def decoded(model, ids, told):
    cache, steps = None, []
    for i in range(ids.shape[1]):
        where = {"position_ids": torch.full((len(ids), 1), i)} if told else {}
        out = model(input_ids=ids[:, i : i + 1], past_key_values=cache, use_cache=True, **where)
        cache = out.past_key_values
        steps.append(out.logits)
    return torch.cat(steps, 1)


print(f"transformers {transformers.__version__}, torch {torch.__version__}: largest difference from one pass, relative")
apart = {}
for name, said in kinds.items():
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **said)
    config._experts_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
        ids = torch.randint(1, 43, (2, 12))
        full = model(input_ids=ids).logits
        for told in (False, True):
            step = decoded(model, ids, told)
            apart[name, told] = float((step - full).abs().max() / full.abs().max())
    print(f"  {name:8} without position_ids {apart[name, False]:.0e}, with them {apart[name, True]:.0e}")
as_described = apart["llama", False] < 1e-12 and all(
    apart[name, False] > 1e-4 and apart[name, True] < 1e-6 for name in ("bamba", "minimax")
)
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py"
