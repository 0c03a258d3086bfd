#!/usr/bin/env bash
# peft 0.21.2 with transformers 5.23.0 (torch 2.13.0): layers that `layer_replication` repeats or leaves out, where the
# config says of each layer what it is.
#
# PEFT puts copies of a model's layers in the order that it is asked for and sets `num_hidden_layers`. `layer_types`, by
# which transformers chooses each layer's mask and rotary angles, stays what it was. So a Qwen 3 (or Gemma 3, OLMo 3,
# Cohere 2, SmolLM 3) that got more layers is built and ends in an IndexError when it is called, and can't be saved for
# its config. Where there are not more layers than types nothing is said, and a layer computes with the window, or without
# it, of whatever stood at its place: of a Gemma 3 with layers 0, 0, 1 in place of 0, 1, 2 the logits are off by half of
# their size. Llama and Mistral, whose layers are all alike, have no such list and run.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet transformers==5.23.0 peft==0.21.2 accelerate==1.15.0
cat > "$work/seen.py" <<'PY'
import sys
import warnings

import peft
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

warnings.simplefilter("ignore")
SIZES = dict(
    vocab_size=64,
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    pad_token_id=None,
)
WINDOWED = dict(sliding_window=4, layer_types=["sliding_attention", "full_attention"] * 2)
KINDS = {
    "llama": {},
    "mistral": dict(sliding_window=4),
    "qwen3": {},
    "smollm3": {},
    "gemma3_text": WINDOWED,
    "olmo3": WINDOWED,
    "cohere2": WINDOWED,
}
IDS = torch.arange(16)[None]


def replicated(kind, order):
    """A new model whose layers PEFT has put in this order; its LoRA adds nothing yet."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **KINDS[kind]))
    return get_peft_model(model, LoraConfig(target_modules=["q_proj"], layer_replication=order)).eval()


def called(model):
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def said(what):
    try:
        what()
    except (IndexError, StrictDataclassError) as error:
        return type(error).__name__
    return "fine"


print(f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
grown, kept = {}, {}
for kind in KINDS:
    model = replicated(kind, [[0, 3], [1, 4]])
    config = model.get_base_model().config
    grown[kind] = said(lambda: called(model))
    kept[kind] = said(lambda: config.save_pretrained("saved"))
    types = len(getattr(config, "layer_types", None) or ())
    print(f"  {kind}: {config.num_hidden_layers} layers, {types} types; called: {grown[kind]}, saved: {kept[kind]}")
model = replicated("gemma3_text", [[0, 1], [0, 2]])
before = called(model)
config = model.get_base_model().config
stood = config.layer_types[:3]
config.layer_types = [config.layer_types[i] for i in (0, 0, 1)]
after = called(model)
apart = ((after - before).norm() / after.norm()).item()
print(f"  gemma3_text, layers 0, 0, 1: types {stood} for {config.layer_types}, logits apart by {apart:.2f} of their size")
typed = [kind for kind in KINDS if kind not in ("llama", "mistral")]
as_described = (
    all(grown[kind] == "fine" == kept[kind] for kind in ("llama", "mistral"))
    and all(grown[kind] == "IndexError" for kind in typed)
    and all(kept[kind] != "fine" for kind in typed)
    and apart > 0.01
)
sys.exit(not as_described)
PY
cd "$work" && "$work/venv/bin/python" seen.py
