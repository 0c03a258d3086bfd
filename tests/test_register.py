"""A model of one's own, registered with a layout: examples/nanogpt.py, along every axis."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import isogrow
from isogrow.errors import FamilyError, SizeError

EXACT = 1e-12


@pytest.fixture(scope="module")
def nanogpt() -> ModuleType:
    path = Path(__file__).parents[1] / "examples" / "nanogpt.py"
    spec = importlib.util.spec_from_file_location("nanogpt", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt"] = module
    spec.loader.exec_module(module)
    return module


def made(nanogpt: ModuleType, **options: Any) -> Any:
    """A float64 GPT whose weights are all random."""
    sizes = {"block_size": 11, "vocab_size": 37, "n_layer": 2, "n_head": 3, "n_embd": 18}
    model = nanogpt.GPT(nanogpt.GPTConfig(**{**sizes, **options})).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(noise * 0.2 + float(parameter.dim() == 1 and name.endswith("weight")))
    return model


def error(small: Any, large: Any) -> float:
    ids = torch.arange(37).repeat(2)[:66].view(6, 11)
    with torch.no_grad():
        a, b = small(ids), large(ids)
    return ((a - b).abs().max() / a.abs().max()).item()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden": 24, "heads": 4, "ffn": 96},
        {"hidden": 30, "head_dim": 10, "ffn": 120},
        {"layers": "+2"},
        {"hidden": 40, "heads": 5, "head_dim": 8, "ffn": 160, "layers": 5},
    ],
    ids=["heads", "head_dim", "layers", "all"],
)
def test_grown_exactly(nanogpt: ModuleType, sizes: dict[str, Any], bias: bool) -> None:
    small = made(nanogpt, bias=bias)
    large = isogrow.grow(small, **sizes)
    assert large.lm_head.weight is large.wte.weight
    assert error(small, large) < EXACT


def test_the_rescaled_gains_matter(nanogpt: ModuleType) -> None:
    small = made(nanogpt)
    large = isogrow.grow(small, hidden=24, heads=4, ffn=96)
    with torch.no_grad():
        large.h[0].ln_1.weight.mul_((24 / 18) ** 0.5)
    assert error(small, large) > 1e-3


def test_verified(nanogpt: ModuleType) -> None:
    small = made(nanogpt).float()
    report = isogrow.verify(small, isogrow.grow(small, hidden=24, heads=4, ffn=96, layers="+1"))
    assert report.passed, report.failed
    skipped = {check.name for check in report.skipped}
    assert skipped == {"config", "kv cache", "padding", "generate", "reload"}


def test_what_the_config_cannot_hold_is_refused(nanogpt: ModuleType) -> None:
    with pytest.raises(
        SizeError, match=r"'nanogpt' can't hold these sizes: its config needs ffn == 4 \* hidden"
    ):
        isogrow.grow(made(nanogpt), hidden=24, heads=4)


def test_the_example_runs_and_its_loss_goes_on(nanogpt: ModuleType) -> None:
    before, at_growth, after = nanogpt.main(steps=4)
    assert abs(at_growth - before) < 1e-5 * before  # float32: the loss is rounded, not the weights' law
    assert after < at_growth


def test_a_class_without_a_layout_or_a_builder_is_refused(nanogpt: ModuleType) -> None:
    class Other(torch.nn.Linear):
        pass

    with pytest.raises(FamilyError, match="Other has no config with a model_type: write a layout"):
        isogrow.grow(Other(2, 3), hidden=4)
    with pytest.raises(FamilyError, match="registering Other needs build="):
        isogrow.register(nanogpt.LAYOUT, Other)
