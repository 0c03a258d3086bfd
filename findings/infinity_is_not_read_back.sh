#!/usr/bin/env bash
# transformers 5.23.0: a config's own JSON is refused by its own from_dict where a number is infinite.
#
# JSON has no infinity, so save_pretrained writes {"__float__": "Infinity"} (Mamba-2's time_step_limit has it by
# default). from_pretrained turns it back; from_dict of the same JSON does not, and the class's validation then refuses
# the object that stands for a number. Whoever reads config.json with a JSON reader and calls from_dict, as tools that
# edit configs do, has to turn it back first. Exits with 0 while it is so, with 1 if it is not.
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
from transformers import AutoConfig, Mamba2Config

with tempfile.TemporaryDirectory() as folder:
    Mamba2Config(num_hidden_layers=1).save_pretrained(folder)
    read = json.loads(Path(folder, "config.json").read_text())
    whole = AutoConfig.from_pretrained(folder).time_step_limit
print(f"transformers {transformers.__version__}: config.json has time_step_limit {read['time_step_limit']}")
print(f"from_pretrained makes of it {whole}")
try:
    print(f"from_dict makes of it {Mamba2Config.from_dict(read).time_step_limit}")
    refused = False
except Exception as error:
    print(f"from_dict refuses it: {type(error).__name__}: {' '.join(str(error).split())[:140]}")
    refused = True
sys.exit(not (refused and whole[1] == float("inf")))
PY
"$work/venv/bin/python" "$work/seen.py"
