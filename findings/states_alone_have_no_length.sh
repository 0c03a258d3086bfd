#!/usr/bin/env bash
# transformers 5.23.0: a hybrid without one attention layer is built, computes without a cache, and does not generate.
#
# Configs of Bamba, Granite's hybrid, Nemotron-H, LFM2, Qwen3-Next and Jamba may say that every layer is one with a
# state. Their forward pass asks the cache for its length, and a cache of states alone has none to tell: a ValueError,
# with the default use_cache=True and so in generate, too. Mamba-2, which is all states by design, and MiniMax do not
# ask. OLMo's hybrid refuses such a config when it is made.
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
SIZES = dict(
    vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2,
)
KINDS = {
    "bamba": dict(attn_layer_indices=[], mamba_n_heads=8, mamba_d_head=16, mamba_n_groups=1, mamba_d_state=8),
    "granitemoehybrid": dict(
        layer_types=["mamba"] * 2, mamba_n_heads=4, mamba_d_head=32, mamba_n_groups=1, num_local_experts=0,
        shared_intermediate_size=48,
    ),
    "nemotron_h": dict(
        hybrid_override_pattern="MM", mamba_num_heads=4, mamba_head_dim=16, n_groups=1, ssm_state_size=8
    ),
    "lfm2": dict(layer_types=["conv"] * 2),
    "qwen3_next": dict(
        layer_types=["linear_attention"] * 2, linear_num_value_heads=4, linear_num_key_heads=2,
        linear_key_head_dim=8, linear_value_head_dim=8, num_experts=0, head_dim=16,
    ),
    "jamba": dict(
        attn_layer_period=9, attn_layer_offset=8, num_experts=1, mamba_d_state=4, use_mamba_kernels=False
    ),
    "mamba2": dict(num_heads=8, head_dim=16, expand=2, n_groups=1),
    "minimax": dict(layer_types=["linear_attention"] * 2, num_local_experts=2, head_dim=16),
}
RUN = {"mamba2", "minimax"}


def said(work):
    try:
        work()
    except ValueError as error:
        return f"ValueError: {str(error).splitlines()[0][:60]}…"
    return "runs"


print(f"transformers {transformers.__version__}, torch {torch.__version__}")
as_described = True
for kind, own in KINDS.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **own)).eval()
    ids = torch.arange(1, 6)[None]
    found = {
        "without a cache": said(lambda: model(ids, use_cache=False)),
        "as it is": said(lambda: model(ids)),
        "generate": said(lambda: model.generate(ids, max_new_tokens=3, do_sample=False)),
    }
    for what, words in found.items():
        print(f"  {kind:17} {what:16} {words}")
    runs = [words == "runs" for words in found.values()]
    as_described &= runs == ([True] * 3 if kind in RUN else [True, False, False])
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py"
