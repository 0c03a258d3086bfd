#!/usr/bin/env bash
# transformers 5.23.0, torch 2.13.0: a Trainer with Adafactor that trains bfloat16 weights goes on from rounded moments.
#
# transformers' Adafactor computes in float32 and keeps its second moments so, of weights in 16 bits, too, and the
# checkpoint's optimizer.pt holds them in float32. torch's `Optimizer.load_state_dict` casts what has a floating dtype to
# that of its parameter, so that they come back with 8 bits of mantissa. The run that goes on is not the one that was
# not stopped: half of the weights end otherwise six steps later. With AdamW, whose moments are bfloat16 beside such weights, and with
# Adafactor beside float32 weights both runs end with the same bits.
# (`isogrow grow` and `isogrow.grow_training` keep such moments in float32; what a Trainer loads is rounded all the same.)
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet transformers==5.23.0 accelerate==1.15.0
cat > "$work/seen.py" <<'PY'
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, Trainer, TrainingArguments
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
WORK, STEPS, STOP = Path(sys.argv[1]), 12, 6
SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)


def rows():
    given = torch.Generator().manual_seed(0)
    return [{"input_ids": ids, "labels": ids} for ids in torch.randint(64, (48, 10), generator=given)]


def trainer(folder, optim, dtype):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES)).to(dtype)
    given = TrainingArguments(
        str(folder), optim=optim, learning_rate=0.01, max_steps=STEPS, save_steps=STOP, use_cpu=True,
        per_device_train_batch_size=4, logging_strategy="no", report_to=[], disable_tqdm=True,
    )
    made = Trainer(model, given, train_dataset=rows())
    made.remove_callback(PrinterCallback)
    return made


def seen(optim, dtype):
    """Dtypes of second moments in the file and as they were loaded; the share of weights that end otherwise."""
    folder = WORK / f"{optim}-{dtype}".replace("torch.", "")
    whole = trainer(folder, optim, dtype)
    whole.train()
    stopped = folder / f"checkpoint-{STOP}"
    saved = torch.load(stopped / "optimizer.pt", weights_only=True)["state"]
    again = trainer(folder, optim, dtype)
    loaded = []
    load = torch.optim.Optimizer.load_state_dict

    def watched(optimizer, state):
        load(optimizer, state)
        loaded.extend(moments(own) for own in optimizer.state.values())

    torch.optim.Optimizer.load_state_dict = watched
    again.train(resume_from_checkpoint=str(stopped))
    torch.optim.Optimizer.load_state_dict = load
    pairs = list(zip(whole.model.parameters(), again.model.parameters(), strict=True))
    other = sum(int((a != b).sum()) for a, b in pairs) / sum(a.numel() for a, _ in pairs)
    kinds = [{str(kind) for found in each for kind in found} for each in ((moments(o) for o in saved.values()), loaded)]
    return (*(", ".join(sorted(each)) for each in kinds), other)


def moments(own):
    return {value.dtype for key, value in own.items() if key.startswith("exp_avg_sq")}


as_described = True
for optim, dtype, in_file, in_memory in (
    ("adafactor", torch.bfloat16, "torch.float32", "torch.bfloat16"),
    ("adafactor", torch.float32, "torch.float32", "torch.float32"),
    ("adamw_torch", torch.bfloat16, "torch.bfloat16", "torch.bfloat16"),
):
    found = seen(optim, dtype)
    print(f"{optim}, weights in {dtype}: second moments in {found[0]} in the file, in {found[1]} once loaded;"
          f" {found[2]:.1%} of the weights end otherwise")
    as_described &= found[:2] == (in_file, in_memory) and (found[2] > 0.3 if in_file != in_memory else found[2] == 0)
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py" "$work"
