"""How often a growth reads the model, in memory and on disk: once to copy it, before that for statistics."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from test_module import live
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import isogrow
from isogrow.interpreters import checkpoint, module
from isogrow.numbers import filling, statistics
from isogrow.numbers.filling import Read
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.boxes import slices
from isogrow.stores import binding, writing
from isogrow.stores.store import StateDict, Store, all_of

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


def size(model: nn.Module) -> int:
    return sum(x.numel() * x.element_size() for x in model.parameters())


def in_memory(model: nn.Module, folder: Path, **request: Any) -> float:
    """Bytes read to grow a model in memory, in sizes of the model."""
    with Counted(model) as counted:
        isogrow.grow(model, **request)
    return counted.read / size(model)


def turned(model: nn.Module, folder: Path, **request: Any) -> float:
    """The same of a model whose matrices lie the other way round."""
    return in_memory(transposed(model), folder, **request)


def on_disk(model: Any, folder: Path, **request: Any) -> float:
    """Bytes read to grow its files: the model's own tensors stand for the mapped ones."""
    model.save_pretrained(folder / "small")
    state: dict[str, Tensor] = model.state_dict()

    @contextmanager
    def mapped(_: Any) -> Generator[Any]:
        yield StateDict({**state, **{name.removeprefix("transformer."): x for name, x in state.items()}})

    with pytest.MonkeyPatch.context() as patch, Counted(model) as counted:
        patch.setattr(checkpoint, "mapped", mapped)
        isogrow.grow_checkpoint(folder / "small", folder / "large", **request)
    return counted.read / size(model)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many parts are computed, and many slabs written, of each tensor."""
    monkeypatch.setattr(filling, "WORK", 64)
    monkeypatch.setattr(statistics, "FIXED", 64)
    monkeypatch.setattr(checkpoint, "grow_checkpoint", partial(checkpoint.grow_checkpoint, chunk=80))
    monkeypatch.setattr("isogrow.stores.workers.MOST", 1)  # what a thread reads is counted in that thread


every_way = pytest.mark.parametrize("grown", [in_memory, turned, on_disk])


@pytest.mark.slow
@every_way
@pytest.mark.parametrize(
    ("name", "request_", "low", "high"),
    [
        # With a given std each number is read once, to copy it.
        ("llama", {"ffn": 51, "init_std": 0.02}, 0.9, 1.1),
        ("llama", {"ffn": 51, "layers": "+1", "init_std": 0.02}, 0.9, 1.1),
        ("llama", {"hidden": 36, "init_std": 0.02}, 0.9, 1.1),
        # A std to match is known when all of a tensor has been read, and the copies are read after that.
        ("llama", {"ffn": 51}, 1.1, 2.1),
        ("llama", {"hidden": 36, "ffn": 51}, 1.1, 2.1),
        # So are means, which a LayerNorm's residual grows by: of what writes to it alone.
        ("gpt2", {"hidden": "x2", "heads": "x2", "init_std": 0.02}, 1.1, 2.1),
    ],
)
def test_how_often_a_model_is_read(
    grown: Any, name: str, request_: dict[str, Any], low: float, high: float, tmp_path: Path
) -> None:
    assert low < grown(live(name), tmp_path, **request_) < high


@pytest.mark.slow
@every_way
def test_whole_blocks_for_each_part_are_seen(
    grown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was once: whoever wanted a part fetched the block, and cut it."""

    def wasteful(anatomy: Anatomy, store: Store) -> Read:
        view = binding.viewer(anatomy, partial(all_of, store))
        return lambda block, box: view(block).clone()[slices(box)]

    for each in (module, writing):
        monkeypatch.setattr(each, "reader", wasteful)
    assert grown(live("llama"), tmp_path, ffn=51) > 5


def test_how_a_model_lies_in_memory_changes_no_bit() -> None:
    one, two = (
        isogrow.grow(model, hidden=36, head_dim=22) for model in (live("llama"), transposed(live("llama")))
    )
    assert all(torch.equal(x, two.state_dict()[name]) for name, x in one.state_dict().items())
