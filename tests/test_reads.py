"""How often a growth in memory reads the model: a number once to copy it, and once for statistics."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from test_module import live
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import isogrow
import isogrow.interpreters.module
from isogrow.arithmetic import Filler

READS = (torch.ops.aten.clone, torch.ops.aten._to_copy, torch.ops.aten.copy_)


class Counted(TorchDispatchMode):
    """Bytes that are read off a model's tensors by whatever copies or converts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.storages = {x.untyped_storage().data_ptr() for x in model.state_dict().values()}
        self.read = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in READS:
            source = args[1] if func.overloadpacket is torch.ops.aten.copy_ else args[0]
            if not source.is_meta and source.untyped_storage().data_ptr() in self.storages:
                self.read += source.numel() * source.element_size()
        return func(*args, **(kwargs or {}))


def transposed(model: nn.Module) -> nn.Module:
    """The same model, its matrices in memory the other way round."""
    for x in model.parameters():
        if x.dim() == 2:
            x.data = x.data.t().contiguous().t()
    return model


def read(model: nn.Module, **request: Any) -> float:
    """Bytes read, in sizes of the model."""
    with Counted(model) as counted:
        isogrow.grow(model, **request)
    return counted.read / sum(x.numel() * x.element_size() for x in model.parameters())


@pytest.mark.parametrize("arranged", [lambda model: model, transposed])
@pytest.mark.parametrize(
    ("request_", "times"),
    [
        ({"ffn": 51, "init_std": 0.02}, 1.1),
        ({"ffn": 51, "layers": "+1", "init_std": 0.02}, 1.1),
        ({"hidden": 36, "init_std": 0.02}, 1.1),
        ({"hidden": 36, "ffn": 51}, 2.1),  # and once for the std that new entries match
    ],
)
def test_no_chunk_moves_a_whole_tensor(
    arranged: Any, request_: dict[str, Any], times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isogrow.interpreters.module.Filler", partial(Filler, limit=64))
    assert 0.5 < read(arranged(live("llama")), **request_) < times


def test_whole_tensors_for_each_chunk_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was once: every chunk made the tensor that it is a part of contiguous."""
    whole = isogrow.interpreters.module.reader
    monkeypatch.setattr("isogrow.interpreters.module.Filler", partial(Filler, limit=64))
    monkeypatch.setattr(
        "isogrow.interpreters.module.reader",
        lambda anatomy, get: whole(anatomy, lambda name: get(name).contiguous()),
    )
    assert read(transposed(live("llama")), ffn=51, init_std=0.02) > 10


def test_how_a_model_lies_in_memory_changes_no_bit() -> None:
    one, two = (
        isogrow.grow(model, hidden=36, head_dim=22) for model in (live("llama"), transposed(live("llama")))
    )
    assert all(torch.equal(x, two.state_dict()[name]) for name, x in one.state_dict().items())
