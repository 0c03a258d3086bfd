#!/usr/bin/env bash
# transformers 5.23.0: Olmo3Config gives rope_theta to full attention alone.
#
# A config with one rope_theta, as OLMo 3 is published, means it for all layers. Where it is another one than the
# default (500000), the layers with a sliding window get the default: the number is taken out of what was given as the
# full layers are filled in, and is gone when the others are. Nothing is said, and save_pretrained writes both.
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

said = {"model_type": "olmo3", "rope_theta": 7777.0, "num_hidden_layers": 4, "sliding_window": 8}
with tempfile.TemporaryDirectory() as folder:
    Path(folder, "config.json").write_text(json.dumps(said))
    found = AutoConfig.from_pretrained(folder).rope_parameters
print(f"transformers {transformers.__version__}: config.json says {said}")
thetas = {kind: rope["rope_theta"] for kind, rope in found.items()}
print(f"what the layers have: {thetas}")
sys.exit(thetas["full_attention"] != 7777.0 or thetas["sliding_attention"] == 7777.0)
PY
"$work/venv/bin/python" "$work/seen.py"
