#!/usr/bin/env bash
# transformers 5.23.0 with schedulefree 1.4.1: a Trainer saves the weights that it trains, or those that it evaluates.
#
# A schedule-free optimizer has two sets of weights, and `train()` and `eval()` put one of them into the model. Trainer
# switches to one for a step and to the other for an evaluation, and saves what is there: after an evaluation at the
# same step the weights of the evaluation, otherwise those that gradients are taken at. So two runs that differ in
# nothing but whether they are evaluated at step 10 have the same losses and save different models at step 10; and the
# last checkpoint of a run that was never evaluated is another model than the one that `evaluate` tells of afterwards.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/pip" install --quiet transformers==5.23.0 accelerate==1.15.0 schedulefree==1.4.1
cat > "$work/seen.py" <<'PY'
import sys

import torch
import transformers
from torch.utils.data import Dataset, default_collate
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)


class Counting(Dataset):
    """Rows that count in steps of 1 to 5."""

    def __len__(self):
        return 64

    def __getitem__(self, i):
        ids = (torch.arange(12) * (1 + i % 5) + i) % 31
        return dict(input_ids=ids, labels=ids)


def loss(model):
    rows = default_collate([Counting()[i] for i in range(64)])
    with torch.no_grad():
        return round(float(model.eval()(**rows).loss), 4)


def run(folder, **options):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=31, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    ))
    asked = TrainingArguments(
        output_dir=folder, optim="schedule_free_adamw", learning_rate=1e-2, lr_scheduler_type="constant",
        max_steps=20, save_steps=10, logging_steps=5, per_device_train_batch_size=8,
        per_device_eval_batch_size=64, report_to=[], disable_tqdm=True, use_cpu=True, seed=1, **options,
    )
    trainer = Trainer(model, asked, train_dataset=Counting(), eval_dataset=Counting())
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return trainer


def of(trainer, key):
    return {r["step"]: round(r[key], 4) for r in trainer.state.log_history if key in r}


def saved(folder, step):
    return loss(LlamaForCausalLM.from_pretrained(f"{folder}/checkpoint-{step}"))


work = sys.argv[1]
evaluated = run(f"{work}/evaluated", eval_strategy="steps", eval_steps=10)
plain = run(f"{work}/plain")
told, mine, theirs = of(evaluated, "eval_loss"), of(plain, "loss"), of(evaluated, "loss")
one, two = ([saved(f"{work}/{name}", step) for step in (10, 20)] for name in ("evaluated", "plain"))
after = round(plain.evaluate()["eval_loss"], 4)
print(f"transformers {transformers.__version__}: losses of training {mine}, of the other run {theirs}")
print(f"  evaluated at every tenth step {told}: what it saved has {one}")
print(f"  never evaluated: what it saved has {two}; evaluated after its end it tells {after}")
as_described = (
    mine == theirs
    and one == [told[10], told[20]]
    and abs(two[0] - one[0]) > 0.01
    and abs(two[1] - one[1]) > 0.01
    and after == told[20]
)
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py" "$work"
