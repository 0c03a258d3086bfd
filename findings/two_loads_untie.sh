#!/usr/bin/env bash
# transformers 5.23.0: two threads that load a model at the same time leave weight tying off for the process.
#
# While from_pretrained builds a model it replaces PreTrainedModel.tie_weights by an empty function, and puts
# back what it found there. When two loads overlap, one of them finds the other's empty function and puts that
# back last. From then on every model with tied weights has two tensors where it should have one, whether it
# is built from a config or loaded: training moves them apart, and nothing is said.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/pip" install --quiet transformers==5.23.0
cat > "$work/seen.py" <<'PY'
import sys
import tempfile
import threading

import transformers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel


def tied(model: GPT2LMHeadModel) -> bool:
    return model.lm_head.weight is model.transformer.wte.weight


transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
config = GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2)
folder = tempfile.mkdtemp()
model = GPT2LMHeadModel(config)
before = tied(model)
model.save_pretrained(folder)
usual = PreTrainedModel.tie_weights
rounds = 0
while PreTrainedModel.tie_weights is usual and rounds < 500:
    rounds += 1
    threads = [threading.Thread(target=GPT2LMHeadModel.from_pretrained, args=(folder,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
built, loaded = tied(GPT2LMHeadModel(config)), tied(GPT2LMHeadModel.from_pretrained(folder))
print(f"transformers {transformers.__version__}, torch {sys.modules['torch'].__version__}")
print(f"one tensor for embedding and head, at first: {before}")
print(f"after {rounds} rounds of two loads at once: built from a config {built}, loaded {loaded}")
sys.exit(not (before and not built and not loaded))
PY
"$work/venv/bin/python" "$work/seen.py"
