#!/usr/bin/env bash
# transformers 5.23.0: a PaliGemma that is given texts alone looks ahead under sdpa, its default attention.
#
# Its language model's layers are marked as reading both ways (use_bidirectional_attention of Gemma, which the
# wrapper's config fills in). Of texts without images and padding, eager attention is causal all the same; under
# sdpa each token is read by those before it, and the logits of the first tokens change with the last one.
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
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

text = {"model_type": "gemma", "vocab_size": 53, "hidden_size": 24, "intermediate_size": 40, "head_dim": 10}
text |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
eye = {"model_type": "siglip_vision_model", "hidden_size": 20, "intermediate_size": 30, "num_hidden_layers": 2}
eye |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 7}
torch.manual_seed(0)
config = PaliGemmaConfig(text_config=text, vision_config=eye, projection_dim=24, image_token_index=50)
model = PaliGemmaForConditionalGeneration(config).eval()
with torch.no_grad():
    for weight in model.parameters():
        weight += 0.2 * torch.randn_like(weight)
one = torch.arange(12)[None]
other = one.clone()
other[0, -1] = 40
moved = {}
for kind in ("default", "eager"):
    if kind == "eager":
        model.set_attn_implementation("eager")
    with torch.no_grad():
        before, after = model(input_ids=one).logits, model(input_ids=other).logits
    moved[kind] = float((before - after)[0, :-1].abs().max())
print(f"transformers {transformers.__version__}, PaliGemma, texts alone: another last token moves the logits before it")
print(f"by {moved['default']:.2g} as it is built, and by {moved['eager']:.2g} under eager attention")
sys.exit(not (moved["default"] > 1e-3 and moved["eager"] == 0))
PY
"$work/venv/bin/python" "$work/seen.py"
