#!/usr/bin/env bash
# transformers 5.24.0: a Llama 4 with its tower for images runs on nothing, not even on a text alone.
#
# `Llama4ForConditionalGeneration.forward` puts `image_outputs` of what its language model returned into its own output,
# and a language model returns no such thing: an AttributeError, with images or without, in `generate`, too. 5.23.0 takes
# them from its own tower. The language model by itself (`model.language_model`) runs in both.
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
from transformers import Llama4Config, Llama4ForConditionalGeneration

transformers.logging.set_verbosity_error()
text = dict(
    vocab_size=53, hidden_size=24, intermediate_size=40, intermediate_size_mlp=40, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=6, num_local_experts=2, num_experts_per_tok=1,
    pad_token_id=0,
)
vision = dict(
    hidden_size=16, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=7,
    vision_output_dim=22, projector_input_dim=22, projector_output_dim=22, pixel_shuffle_ratio=0.5,
)
torch.manual_seed(0)
whole = Llama4ForConditionalGeneration(Llama4Config(text_config=text, vision_config=vision, image_token_index=50)).eval()
ids = torch.tensor([[1, 2, 3, 4]])
pictured = torch.tensor([[1, 50, 50, 50, 50, 2, 3]])
ways = {
    "a text": lambda: whole(input_ids=ids),
    "a text with an image": lambda: whole(input_ids=pictured, pixel_values=torch.randn(1, 3, 28, 28)),
    "generate": lambda: whole.generate(ids, max_new_tokens=2, do_sample=False),
    "its language model": lambda: whole.language_model(input_ids=ids),
}
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
found = {}
for name, run in ways.items():
    try:
        with torch.no_grad():
            run()
        found[name] = "runs"
    except AttributeError as error:
        found[name] = f"AttributeError: {error}"
    print(f"  {name}: {found[name]}")
new = transformers.__version__ == "5.24.0"
faults = [name for name, said in found.items() if "image_outputs" in said]
sys.exit(faults != (["a text", "a text with an image", "generate"] if new else []))
PY
"$work/venv/bin/python" "$work/seen.py"
"$work/venv/bin/pip" install --quiet transformers==5.24.0
"$work/venv/bin/python" "$work/seen.py"
