#!/usr/bin/env bash
# transformers 5.23.0: two keys that a config takes, keeps in its file, and that its model does not go by.
#
# BioGptConfig has layer_norm_eps (1e-12 where nothing is said), and all norms of BioGptForCausalLM have 1e-5:
# who edits the key, or converts the weights by it, has another model. UMT5Config(tie_word_embeddings=False) makes
# a model whose head is its embedding, and a config that says True: a head of its own can't be had.
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
from transformers import BioGptConfig, BioGptForCausalLM, UMT5Config, UMT5ForConditionalGeneration

transformers.logging.set_verbosity_error()
sizes = dict(vocab_size=31, hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3)


def model(eps: float, weights: dict) -> tuple[torch.Tensor, BioGptForCausalLM]:
    made = BioGptForCausalLM(BioGptConfig(**sizes, max_position_embeddings=16, layer_norm_eps=eps)).eval()
    made.load_state_dict(weights or made.state_dict())
    with torch.no_grad():
        return made(torch.arange(8)[None]).logits, made


small, one = model(1e-12, {})
large, other = model(0.5, one.state_dict())
norms = {module.eps for module in other.modules() if isinstance(module, torch.nn.LayerNorm)}
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
print(f"BioGPT with layer_norm_eps=0.5: its norms have {sorted(norms)}, its config says {other.config.layer_norm_eps}")
print(f"its logits differ from those with 1e-12 by {float((large - small).abs().max())}")
heads = dict(vocab_size=31, d_model=12, d_kv=4, d_ff=20, num_layers=1, num_decoder_layers=1, num_heads=3)
umt5 = UMT5ForConditionalGeneration(UMT5Config(**heads, tie_word_embeddings=False))
tied = umt5.lm_head.weight is umt5.shared.weight
print(f"UMT5 with tie_word_embeddings=False: one tensor {tied}, its config says {umt5.config.tie_word_embeddings}")
ignored = torch.equal(small, large) and norms == {1e-5} and other.config.layer_norm_eps == 0.5
sys.exit(not (ignored and tied and umt5.config.tie_word_embeddings is True))
PY
"$work/venv/bin/python" "$work/seen.py"
