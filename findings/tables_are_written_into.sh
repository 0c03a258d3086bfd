#!/usr/bin/env bash
# transformers 5.23.0: a config keeps the rope_parameters that it is given, and many classes write into it.
#
# One table for two configs is therefore another table for the second one. Phi turns half of each head and StableLM a
# quarter. Each class writes that part into the caller's table, where the next class finds it and takes it for what
# the caller wanted: a StableLM that is made after a Phi turns half, one that is made first turns a quarter, from the
# same two lines in another order. A Llama that is given the table afterwards has the part in its config, too.
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
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=2, pad_token_id=None,
)


def turned(kind, table):
    """Channels of a head of 16 that turn in a model of this kind."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, rope_parameters=table))
    return 2 * len(model.model.rotary_emb.inv_freq)


def fresh():
    return {"rope_type": "default", "rope_theta": 10000.0}


print(f"transformers {transformers.__version__}: channels of 16 that turn")
found = {}
for order in (("phi", "stablelm", "llama"), ("stablelm", "phi", "llama")):
    table = fresh()
    found[order] = [turned(kind, table) for kind in order]
    print(f"  one table for {', '.join(order)}: {found[order]}; the table then says {table}")
own = {kind: turned(kind, fresh()) for kind in ("phi", "stablelm", "llama")}
print(f"  a table for each: {own}")
as_described = (
    own == {"phi": 8, "stablelm": 4, "llama": 16}
    and found["phi", "stablelm", "llama"][:2] == [8, 8]
    and found["stablelm", "phi", "llama"][:2] == [4, 4]
)
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py"
