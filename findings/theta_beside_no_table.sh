#!/usr/bin/env bash
# transformers 5.23.0: a rope_theta without a table of scaling beside it is not read by CWM, Apertus and Ministral 3.
#
# A config.json in the older form says rope_theta on its own. Llama's class takes it. These classes fill in a table
# where the config has none, and that table has a θ of its own, so the number that was given is gone, and scaling that
# nobody asked for is there. With an explicit table of the type "default" beside it the same number is read.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/pip" install --quiet transformers==5.23.0
cat > "$work/seen.py" <<'PY'
import json
import sys
import tempfile
from pathlib import Path

import transformers
from transformers import AutoConfig

transformers.logging.set_verbosity_error()


def read(said):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(said))
        rope = AutoConfig.from_pretrained(folder).rope_parameters
    return rope["rope_theta"], rope.get("rope_type", rope.get("type"))


print(f"transformers {transformers.__version__}: config.json says rope_theta 7777.0")
found = {}
for kind in ("llama", "cwm", "apertus", "ministral3"):
    alone = {"model_type": kind, "rope_theta": 7777.0}
    found[kind] = read(alone), read({**alone, "rope_scaling": {"rope_type": "default"}})
    print(f"  {kind:10} alone: {found[kind][0]}, beside a table of the type default: {found[kind][1]}")
others = [kind for kind in found if kind != "llama"]
as_described = found["llama"][0][0] == 7777.0 and all(
    found[kind][0][0] != 7777.0 and found[kind][1][0] == 7777.0 for kind in others
)
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py"
