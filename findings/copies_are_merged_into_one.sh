#!/usr/bin/env bash
# peft 0.21.2 with transformers 5.23.0 (torch 2.13.0): what `merge_and_unload` makes of an adapter with
# `layer_replication`.
#
# Copies of a layer share one base weight and have a LoRA each, so nothing that they could be merged into is right. PEFT
# means to refuse it ("Cannot merge LORA layers when base model layers are replicated"), but asks the mapping of
# adapters by their names for a key "layer_replication", which none has. So it merges: the updates of all copies are added
# to the one weight, and the logits are off by as much as their size. (That it can't be merged is said in peft, issue
# 1707.) Asked for the config of the adapter itself, the same guard would refuse.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet transformers==5.23.0 peft==0.21.2 accelerate==1.15.0
cat > "$work/seen.py" <<'PY'
import sys

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = dict(
    vocab_size=64,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
)
IDS = torch.arange(16)[None]


def adapted(order):
    """A Llama whose layers are in this order, with an adapter that has learned something, in float64."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES)).double()
    config = LoraConfig(target_modules=["q_proj", "v_proj"], r=2, layer_replication=order)
    model = get_peft_model(model, config).double().eval()
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.3)
    return model


def apart(order):
    """How far the merged model's logits are from the adapter's, in parts of their size."""
    model = adapted(order)
    with torch.no_grad():
        before = model(input_ids=IDS, use_cache=False).logits
        after = model.merge_and_unload()(input_ids=IDS, use_cache=False).logits
    return ((after - before).norm() / before.norm()).item()


print(f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
plain, repeated = apart(None), apart([[0, 3], [1, 4]])
print(f"  4 layers: merged logits apart by {plain:.1e}; layers 0, 1, 2, 1, 2, 3: by {repeated:.2f}, and nothing is said")
asked = adapted([[0, 3], [1, 4]]).base_model.peft_config
print(f"  what the guard asks: {asked.get('layer_replication')}; the adapter: {asked['default'].layer_replication}")
as_described = (
    plain < 1e-12
    and repeated > 0.1
    and asked.get("layer_replication") is None
    and asked["default"].layer_replication == [[0, 3], [1, 4]]
)
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py"
