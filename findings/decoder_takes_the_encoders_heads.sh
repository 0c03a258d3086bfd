#!/usr/bin/env bash
# transformers 5.23.0: Moonshine's decoder has as many heads as its encoder, whatever its config says.
#
# MoonshineConfig has encoder_num_attention_heads and decoder_num_attention_heads. Each attention that is built
# writes its own number into the config as num_attention_heads, which is another name for the decoder's; the encoder
# is built first, so its number is what the decoder is then built with. The shapes fit (heads fill the width), so
# nothing is said, and the config says the new number from there on. And num_key_value_heads below the heads does not
# run: queries are cut into as many heads as there are keys.
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
from transformers import MoonshineConfig, MoonshineModel

SIZES = dict(hidden_size=32, intermediate_size=8, vocab_size=11)
LAYERS = dict(encoder_num_hidden_layers=1, decoder_num_hidden_layers=1)

config = MoonshineConfig(**SIZES, **LAYERS, encoder_num_attention_heads=2, decoder_num_attention_heads=8)
print(f"transformers {transformers.__version__}: encoder heads 2, decoder heads 8")
model = MoonshineModel(config)
heads = 32 // model.decoder.layers[0].self_attn.head_dim
print(f"the decoder that is built has {heads}, and its config says {model.config.decoder_num_attention_heads}")

grouped = {f"{stack}_num_{what}": n for stack in ("encoder", "decoder")
           for what, n in (("attention_heads", 4), ("key_value_heads", 2))}
model = MoonshineModel(MoonshineConfig(**SIZES, **LAYERS, **grouped))
try:
    model(input_values=torch.randn(1, 2431), decoder_input_ids=torch.tensor([[1, 2]]))
    said = ""
except RuntimeError as error:
    said = str(error)
print(f"4 heads that share 2 keys: {said or 'runs'}")
sys.exit(heads != 2 or "invalid for input of size" not in said)
PY
"$work/venv/bin/python" "$work/seen.py"
