#!/usr/bin/env bash
# transformers 5.23.0: a LLaVA with vision_feature_layer=0 does not read an image.
#
# The key is an index of the tower's hidden states, of which 0 is what its layers read. Whether states are asked of
# the tower at all is taken from the truth of that number, so none come back, and the class takes the first of None.
# A list ([0]) and every other index run.
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
from transformers import LlavaConfig, LlavaForConditionalGeneration

text = {"model_type": "llama", "vocab_size": 53, "hidden_size": 24, "intermediate_size": 40}
text |= {"num_hidden_layers": 2, "num_attention_heads": 4}
eye = {"model_type": "clip_vision_model", "hidden_size": 20, "intermediate_size": 30, "num_hidden_layers": 2}
eye |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 7}
seen = {}
for layer in (1, [0], 0):
    config = LlavaConfig(text_config=text, vision_config=eye, image_token_index=50, vision_feature_layer=layer)
    try:
        LlavaForConditionalGeneration(config).model.get_image_features(torch.zeros(1, 3, 28, 28))
        seen[str(layer)] = "runs"
    except TypeError as error:
        seen[str(layer)] = str(error)
print(f"transformers {transformers.__version__}, LLaVA by vision_feature_layer: {seen}")
sys.exit(not (seen["1"] == seen["[0]"] == "runs" and "NoneType" in seen["0"]))
PY
"$work/venv/bin/python" "$work/seen.py"
