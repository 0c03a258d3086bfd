#!/usr/bin/env bash
# transformers 5.24.0: a Trainer that resumes between two logs logs the mean of the steps since then alone.
#
# Trainer logs the mean loss of the steps since its last log, and keeps their sum in memory. A checkpoint between two
# logs (save_steps no multiple of logging_steps, or a save that a callback or a time limit asks for) does not hold it: a
# resumed run starts the sum at 0 and counts from the step that it resumes at. Weights and losses are those of a run that
# nothing stopped, and the first record of its log is another one, by as much as a step's loss differs from its
# neighbours'. Whatever is decided by the log (a plateau, stopping early) may then be decided otherwise.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/pip" install --quiet transformers==5.24.0 accelerate==1.15.0
cat > "$work/seen.py" <<'PY'
import sys

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

transformers.logging.set_verbosity_error()
LOGGED, SAVED, STEPS, FROM = 3, 2, 6, 2


def rows():
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 32, (24, 8), generator=drawn)
    return [{"input_ids": each, "labels": each} for each in ids]


def trained(folder, resumed=None):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=8, n_embd=16, n_layer=1, n_head=2))
    options = TrainingArguments(
        output_dir=folder, max_steps=STEPS, per_device_train_batch_size=4, learning_rate=3e-2, logging_steps=LOGGED,
        save_steps=SAVED, report_to=[], disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False, seed=0,
    )
    trainer = Trainer(model, options, train_dataset=rows())
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train(resume_from_checkpoint=resumed)
    losses = {record["step"]: record["loss"] for record in trainer.state.log_history if "loss" in record}
    return losses, model.state_dict()


work = sys.argv[1]
whole, weights = trained(f"{work}/whole")
again, others = trained(f"{work}/again", f"{work}/whole/checkpoint-{FROM}")
alike = all(torch.equal(value, others[name]) for name, value in weights.items())
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
print(f"  a log every {LOGGED} steps, a checkpoint every {SAVED}; resumed from step {FROM}")
for step in whole:
    print(f"  logged at step {step}: {whole[step]:.4f} without a stop, {again[step]:.4f} resumed")
print(f"  weights at the end: {'the same' if alike else 'others'}")
sys.exit(not (alike and abs(whole[3] - again[3]) > 1e-3 and whole[6] == again[6]))
PY
"$work/venv/bin/python" "$work/seen.py" "$work"
