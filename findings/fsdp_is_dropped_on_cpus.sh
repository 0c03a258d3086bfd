#!/usr/bin/env bash
# transformers 5.23.0, accelerate 1.15.0: a Trainer that is asked for FSDP on CPUs trains replicas, without a word.
#
# fully_shard works on CPUs over gloo. But Accelerate keeps an FSDP plugin only where the processes have
# accelerators; for several CPU processes the plugin is dropped, and so TrainingArguments(fsdp=True) ends in
# DistributedDataParallel: every process holds the whole model and the optimizer's whole state. No error and no
# warning is given, also not where the plugin is handed to Accelerator itself.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0
"$work/venv/bin/pip" install --quiet transformers==5.23.0 accelerate==1.15.0
cat > "$work/seen.py" <<'PY'
import sys
import tempfile
import warnings

import accelerate
import torch
import transformers
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

transformers.logging.disable_progress_bar()
sizes = dict(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
model = LlamaForCausalLM(LlamaConfig(**sizes))
ids = [torch.arange(8) for _ in range(8)]
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    options = TrainingArguments(
        tempfile.mkdtemp(), max_steps=1, use_cpu=True, fsdp=True, fsdp_config={"version": 2}, report_to=[],
        save_strategy="no", disable_tqdm=True,
    )
    trainer = Trainer(model, options, train_dataset=[{"input_ids": x, "labels": x} for x in ids])
    trainer.train()
kind, wrapped = trainer.accelerator.distributed_type.name, type(trainer.model_wrapped).__name__
whole = not any(isinstance(p, DTensor) for p in trainer.model.parameters())
said = [str(each.message) for each in told if "fsdp" in str(each.message).lower()]
if trainer.args.process_index == 0:
    print(f"transformers {transformers.__version__}, accelerate {accelerate.__version__}, torch {torch.__version__}")
    print(f"asked for FSDP: it is {kind}, the model is held by {wrapped}, whole on each process: {whole}")
    print(f"warnings about it: {said}")
torch.distributed.barrier()
torch.distributed.destroy_process_group()
sys.exit(not (kind == "MULTI_CPU" and wrapped == "DistributedDataParallel" and whole and not said))
PY
OMP_NUM_THREADS=1 "$work/venv/bin/torchrun" --standalone --nproc-per-node 2 "$work/seen.py"
