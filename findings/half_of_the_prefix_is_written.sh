#!/usr/bin/env bash
# transformers 5.23.0: ViTMSNForImageClassification writes "vit." before its embeddings, and not before its layers.
#
# In memory every name of the model without its head begins with "vit.", and so does every name in a file of 4.57. The
# file that 5.23 saves has "encoder.layer.…" for the layers and "vit.embeddings.…" for the rest. 5.23 reads both; 4.57.6
# takes the layers of such a file for unknown, and starts them at random.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
for version in 4.57.6 5.23.0; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet torch==2.13.0
    "$work/$version/bin/pip" install --quiet "transformers==$version"
done
cat > "$work/seen.py" <<'PY'
import sys

import torch
import transformers
from safetensors import safe_open
from transformers import ViTMSNConfig, ViTMSNForImageClassification

folder, act = sys.argv[1:]
pixels = torch.linspace(-1, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)


def said(model, what):
    with torch.no_grad():
        logits = model.eval()(pixels).logits[0].tolist()
    print(f"transformers {transformers.__version__}, {what}: {[round(x, 4) for x in logits]}")
    return logits


if act == "save":
    torch.manual_seed(3)
    sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=28)
    model = ViTMSNForImageClassification(ViTMSNConfig(image_size=8, patch_size=4, num_labels=4, **sizes))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.3)
    model.save_pretrained(folder)
    torch.save(said(model, "saved"), f"{folder}/logits")
with safe_open(f"{folder}/model.safetensors", "pt") as file:
    starts = sorted({name.split(".")[0] for name in file.keys()})
model = ViTMSNForImageClassification.from_pretrained(folder)
same = torch.allclose(torch.tensor(said(model, "loaded")), torch.tensor(torch.load(f"{folder}/logits")), atol=1e-5)
print(f"  names begin with {starts}; the loaded model computes what was saved: {same}")
sys.exit(0 if (starts == ["classifier", "encoder", "vit"], same) == (True, act != "read") else 1)
PY
"$work/5.23.0/bin/python" "$work/seen.py" "$work/model" save
"$work/4.57.6/bin/python" "$work/seen.py" "$work/model" read
