"""One of two processes: grows a model inside DistributedDataParallel, and one inside Trainer, and reports."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import tiny
import torch
from joining import joined
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainingArguments

import isogrow
from isogrow.growth import api
from isogrow.train.schedule import Growth
from isogrow.train.trainer import growing as grown_by_schedule

CASES = ("plain", "static", "hooked", "bucket views", "frozen")


def made() -> Any:
    """Dropout is off; the same on each process."""
    return tiny.model("LlamaForCausalLM").double()


def batch(step: int, rank: int) -> Tensor:
    return torch.randint(0, 32, (2, 7), generator=torch.Generator().manual_seed(97 * step + rank))


def digest(model: nn.Module) -> str:
    found = hashlib.sha256()
    for x in model.state_dict().values():
        found.update(x.contiguous().numpy().tobytes())
    return found.hexdigest()


def grow_and_step(model: Any, wrapper: nn.Module, alone: bool) -> dict[str, Any]:
    """Two steps, a growth, three steps. `alone`: see both processes' data, as one process would."""
    frozen = [x for x in model.parameters() if not x.requires_grad]
    optimizer = torch.optim.SGD((x for x in model.parameters() if x.requires_grad), lr=0.05, momentum=0.9)
    before, losses = "", list[float]()
    for step in range(5):
        if step == 2:
            isogrow.grow_(model, ffn="+9", layers="+1", heads="x2", optimizer=optimizer, seed=3)
            before = digest(model)
        optimizer.zero_grad()
        for rank in (0, 1) if alone else (torch.distributed.get_rank(),):
            ids = batch(step, rank)
            loss = wrapper(input_ids=ids, labels=ids).loss
            (loss / 2 if alone else loss).backward()
            losses.append(loss.item())
        optimizer.step()
    assert bool(frozen) == any(not x.requires_grad for x in model.parameters())
    return {"before": before, "after": digest(model), "losses": losses}


def replicas(case: str) -> dict[str, Any]:
    model, single = made(), made()
    if case == "frozen":
        for each in (model, single):
            each.model.embed_tokens.weight.requires_grad_(False)
    options = {"static": {"static_graph": True}, "bucket views": {"gradient_as_bucket_view": True}}
    wrapper = DistributedDataParallel(model, **options.get(case, {}))
    if case == "hooked":
        wrapper.register_comm_hook(None, default_hooks.allreduce_hook)
    report = grow_and_step(model, wrapper, alone=False)
    grow_and_step(single, single, alone=True)
    pairs = zip(model.parameters(), single.parameters(), strict=True)
    report["apart"] = max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
    return report


def left_alone() -> dict[str, Any]:
    """The same, with the step left out that makes the reducer anew."""
    true = api.renew_
    api.renew_ = lambda wrapper: None
    try:
        return replicas("plain")
    finally:
        api.renew_ = true


def in_trainer(folder: Path) -> dict[str, Any]:
    model = tiny.model("LlamaForCausalLM")
    ids = [batch(n, 0)[0] for n in range(40)]
    options = TrainingArguments(
        str(folder / "run"),
        max_steps=6,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=2,
    )
    trainer = Trainer(model, options, train_dataset=[{"input_ids": x, "labels": x} for x in ids])
    growth = Growth({"ffn": "x2", "layers": "+1"}, at=3)
    grown_by_schedule(trainer, [growth]).train()
    record = next(r for r in trainer.state.log_history if "growth" in r)
    return {
        "after": digest(model),
        "wrapped": type(trainer.model_wrapped).__name__,
        "sizes": [model.config.intermediate_size, model.config.num_hidden_layers],
        "difference": record["growth_difference"],
    }


def main(out: Path, rank: int) -> None:
    """The job of one of two processes."""
    where = {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), **where}
    joined(out, rank, 2, 120)
    reports: dict[str, Any] = {case: replicas(case) for case in CASES}
    reports["left alone"] = left_alone()
    reports["trainer"] = in_trainer(out)
    torch.distributed.barrier()
    (out / f"{rank}.json").write_text(json.dumps(reports))
    torch.distributed.destroy_process_group()
