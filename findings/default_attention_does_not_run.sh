#!/usr/bin/env bash
# transformers 5.23.0: DBRX does not run with its config's own defaults, and Longformer not with a window of two.
#
# DbrxConfig() makes an attention config without rope_theta, which DbrxAttention reads: the class can't be built.
# With one, clip_qkv is None by default, and the forward pass calls clamp(min=None, max=None), which torch refuses.
# Longformer takes any even attention_window, and with 2 a slice of its chunks is empty: the forward pass fails.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0
cat > "$work/seen.py" <<'PY'
import sys

import torch
import transformers

small = dict(vocab_size=11, d_model=16, n_heads=2, n_layers=1, ffn_config={"ffn_hidden_size": 8})
long = dict(vocab_size=11, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8)
ids = torch.ones(1, 6, dtype=torch.long)


def failing(make) -> str:
    try:
        with torch.no_grad():
            make()(ids)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return ""


def dbrx(**attention):
    config = transformers.DbrxConfig(**small, attn_config=attention or None)
    return transformers.DbrxForCausalLM(config)


found = {
    "DBRX, its defaults": failing(dbrx),
    "DBRX with a theta": failing(lambda: dbrx(rope_theta=1e4)),
    "DBRX with a theta and a clip": failing(lambda: dbrx(rope_theta=1e4, clip_qkv=8.0)),
    "Longformer, a window of 2": failing(
        lambda: transformers.LongformerModel(transformers.LongformerConfig(**long, attention_window=2)).eval()
    ),
    "Longformer, a window of 4": failing(
        lambda: transformers.LongformerModel(transformers.LongformerConfig(**long, attention_window=4)).eval()
    ),
}
for name, said in found.items():
    print(f"{name}: {said or 'runs'}")
fails = [name for name, said in found.items() if said]
sys.exit(fails != ["DBRX, its defaults", "DBRX with a theta", "Longformer, a window of 2"])
PY
"$work/venv/bin/python" "$work/seen.py"
