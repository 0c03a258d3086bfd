"""torchtitan's checkpoints: names of its own, adjacent channels that turn, and a flat optimizer's state."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from command import isogrow as isogrow_said
from titan import SIZES, Titan, head_dim
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import isogrow
from isogrow.families import LAYOUTS as KNOWN
from isogrow.families.torchtitan import LLAMA3
from isogrow.growth import models
from isogrow.growth.comparing import compare_bytes
from isogrow.growth.opening import opened

FLAT = StateDictOptions(flatten_optimizer_state_dict=True)
GROWTH: dict[str, Any] = dict(hidden=36, ffn=57, heads=6, kv_heads=3, head_dim=12, layers="+2")
PARTS = ("wq", "wk", "wv")


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """The reference model is known in memory while a test runs; in files the table alone is."""
    before, known = dict(models._REGISTERED), dict(KNOWN)  # pyright: ignore[reportPrivateUsage]
    isogrow.register(LLAMA3, module=Titan, build=lambda config, sizes: Titan(config))
    yield
    for now, then in ((models._REGISTERED, before), (KNOWN, known)):  # pyright: ignore[reportPrivateUsage]
        now.clear()
        now.update(then)


def trained(**said: Any) -> tuple[Titan, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = Titan({**SIZES, **said}).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(2):
        model(ids()).logsumexp(-1).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def ids() -> Tensor:
    return torch.arange(38).view(2, 19)


def parted(model: Titan) -> dict[str, Tensor]:
    """What torchtitan saves of a model's weights: a fused projection as its three parts."""
    found = model.state_dict()
    kv, group = model.config["n_kv_heads"], model.config["n_heads"] // model.config["n_kv_heads"]
    for name in [name for name in found if "wqkv" in name]:
        heads = found.pop(name).view(kv, group + 2, head_dim(model.config), -1)
        for part, own in zip(PARTS, heads.split([group, 1, 1], 1), strict=True):
            found[name.replace("wqkv", part)] = own.flatten(0, 2).contiguous()
    return found


def joined_(model: Titan, state: dict[str, Tensor]) -> None:
    """Load what torchtitan saved."""
    kv, head = model.config["n_kv_heads"], head_dim(model.config)
    for name in [name for name in model.state_dict() if "wqkv" in name]:
        own = [
            state.pop(name.replace("wqkv", part)).view(kv, -1, head, model.config["dim"]) for part in PARTS
        ]
        state[name] = torch.cat(own, 1).flatten(0, 2)
    model.load_state_dict(state)


def saved(model: Titan, optimizer: torch.optim.Optimizer, run: Path) -> Path:
    """A step's folder: weights at the root, all else below keys of its own."""
    moments = get_optimizer_state_dict(model, optimizer, options=FLAT)
    beside = {"train_state": {"step": 10, "ntokens_seen": 380}, "lr_scheduler": {"last_epoch": 10}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is but one process
        dcp.save(
            {**parted(model), "optimizer": moments, **beside}, checkpoint_id=run / "step-10", no_dist=True
        )
    (run / "config.json").write_text(json.dumps(model.config))
    return run / "step-10"


def loaded(folder: Path) -> tuple[Titan, torch.optim.AdamW, dict[str, Any]]:
    """A model of the grown config, and its optimizer, from what was written."""
    model = Titan(json.loads((folder / "config.json").read_text())).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5)
    state: dict[str, Any] = {**parted(model), "train_state": {"step": 0, "ntokens_seen": 0}}
    state["optimizer"] = get_optimizer_state_dict(model, optimizer, options=FLAT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(state, checkpoint_id=folder, no_dist=True)
    set_optimizer_state_dict(model, optimizer, state.pop("optimizer"), options=FLAT)
    beside = state.pop("train_state")
    joined_(model, state)
    return model, optimizer, beside


@pytest.mark.parametrize("said", [{}, {"before": True}, {"fused": True}], ids=["0.3", "before", "fused"])
def test_a_step_grows_into_one_of_the_same_names(said: dict[str, Any], tmp_path: Path) -> None:
    """The grown model computes what the old one does, and the optimizer's state is that of a running job."""
    model, optimizer = trained(**said)
    step, out = saved(model, optimizer, tmp_path / "run"), tmp_path / "out"
    config = tmp_path / "run" / "config.json"
    isogrow.grow_checkpoint(step, out, config=config, format="distributed", **GROWTH)
    assert compare_bytes(opened(step, config=config), out).passed
    grown, anew, beside = loaded(out)
    assert beside == {"step": 10, "ntokens_seen": 380}
    with torch.no_grad():
        one, two = model(ids()), grown(ids())
    assert (one - two).abs().max() < 1e-12 * one.abs().max()
    expected = isogrow.grow_training(model, optimizer=optimizer, **GROWTH)
    wanted = dict(expected.model.named_parameters())
    assert dict(grown.named_parameters()).keys() == wanted.keys()
    for name, p in grown.named_parameters():
        assert torch.equal(p, wanted[name]), name
        theirs = expected.optimizer.state[wanted[name]]
        assert anew.state[p].keys() == theirs.keys() and len(theirs) == 3
        assert all(torch.equal(anew.state[p][key].double(), value.double()) for key, value in theirs.items())


def test_turning_halves_of_a_head_would_not_do() -> None:
    """The proof that the comparison can fail: rows in Hugging Face's order are another function."""
    model, _ = trained()
    wrong = isogrow.grow(model, head_dim=12, hidden=36)
    with torch.no_grad():
        rows = wrong.layers["0"].attention.qkv_linear.wk.weight.unflatten(0, (-1, 6, 2))
        rows.copy_(rows.transpose(1, 2).reshape(rows.shape).clone())
        gap = (model(ids()) - wrong(ids())).abs().max()
    assert gap > 1e-3


def test_the_shell_knows_it(tmp_path: Path) -> None:
    """Seen, planned, grown and compared by bytes; transformers has no class to run it, and that is said."""
    model, optimizer = trained()
    step, out = saved(model, optimizer, tmp_path / "run"), tmp_path / "out"
    given = ("--config", tmp_path / "run" / "config.json")
    assert "torchtitan_llama3" in isogrow_said("inspect", step, *given).out
    planned = isogrow_said("plan", step, "--ffn", "x2", *given).out
    assert "hidden_dim" in planned and "no class for" in planned
    grow = ("grow", step, out, "--ffn", "x2", "--format", "distributed", *given)
    refused = isogrow_said(*grow)
    assert refused.code == 2 and "--no-verify writes it unproven" in refused.err
    assert isogrow_said(*grow, "--no-verify").code == 0
    assert isogrow_said("verify", step, out, "--bytes", *given).code == 0
    ran = isogrow_said("verify", step, out, *given)
    assert ran.code == 2 and "isogrow verify --bytes" in ran.err
    again = isogrow_said("plan", out, "--layers", "+1")
    assert again.code == 0 and "no class for" in again.out
