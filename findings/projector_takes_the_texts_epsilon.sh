#!/usr/bin/env bash
# transformers 5.23.0: in Mistral 3 the norm before the projector, which normalises what the vision tower gives,
# takes its epsilon from the language model's config.
#
# vision_config has no epsilon of its own, and the tower's norms have one in the code; but who edits
# text_config.rms_norm_eps, to prune or widen the language model without changing what it computes, changes the
# features of images too, before any of them meets the language model.
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
from transformers import Mistral3Config, Mistral3ForConditionalGeneration

transformers.logging.set_verbosity_error()
text = dict(model_type="mistral", vocab_size=53, hidden_size=24, intermediate_size=40, num_hidden_layers=1)
text |= dict(num_attention_heads=4, num_key_value_heads=2, head_dim=8)
eye = dict(model_type="pixtral", hidden_size=20, intermediate_size=30, num_hidden_layers=1)
eye |= dict(num_attention_heads=2, image_size=28, patch_size=7)
image = dict(pixel_values=torch.randn(1, 3, 28, 28), image_sizes=torch.tensor([[28, 28]]))


def features(eps: float, weights: dict) -> tuple[torch.Tensor, dict]:
    config = Mistral3Config(text_config={**text, "rms_norm_eps": eps}, vision_config=eye, vision_feature_layer=-1)
    model = Mistral3ForConditionalGeneration(config).eval()
    model.load_state_dict(weights or model.state_dict())
    with torch.no_grad():
        found = model.get_image_features(**image)
    found = getattr(found, "pooler_output", found)
    return torch.cat(list(found)).reshape(-1), model.state_dict()


before, weights = features(1e-5, {})
again, _ = features(1e-5, weights)
after, _ = features(1.0, weights)
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
print(f"the same text_config.rms_norm_eps: image features differ by {float((again - before).abs().max())}")
print(f"another one: by {float((after - before).abs().max() / before.abs().max()):.2f} of the largest")
sys.exit(not (torch.equal(again, before) and not torch.allclose(after, before, rtol=1e-3)))
PY
"$work/venv/bin/python" "$work/seen.py"
