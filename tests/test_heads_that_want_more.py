"""Proofs of heads that want more than ids, or give one number for a whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from command import isogrow
from rows import FAMILIES as ROWS

from isogrow.verification.float64 import float64

TYPES = {row.config.model_type: row for row in ROWS.values()}
pytestmark = pytest.mark.slow  # models are grown and proven


def saved(model_type: str, name: str, folder: Path) -> Path:
    row = TYPES[model_type]
    config: Any = row.config(**row.sizes)
    if hasattr(config, "text_config"):  # a detector compares boxes with texts as wide as they are read
        config.projection_dim = config.text_config.hidden_size
    torch.manual_seed(0)
    getattr(transformers, name)(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("model_type", "name", "growth", "seen"),
    [
        ("wav2vec2", "Wav2Vec2ForPreTraining", ("--ffn", "x2"), "sounds"),  # codebooks, and their perplexity
        ("owlvit", "OwlViTForObjectDetection", ("--size", "text.layers=+1"), "4 images"),
    ],
)
def test_they_are_proven(
    model_type: str, name: str, growth: tuple[str, ...], seen: str, tmp_path: Path
) -> None:
    small = saved(model_type, name, tmp_path / "small")
    ran = isogrow("grow", small, tmp_path / "large", *growth, columns=200)
    assert ran.code == 0, ran.err
    assert seen in ran.out and "✗" not in ran.out


def test_a_class_that_does_not_run_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """Longformer asks for three separators in every text, and stops with an AssertionError."""
    small = saved("longformer", "LongformerForQuestionAnswering", tmp_path / "small")
    ran = isogrow("grow", small, tmp_path / "large", "--ffn", "x2", "--json")
    assert ran.code == 2 and not (tmp_path / "large").exists()
    said = ran.json["refused"]["why"]
    assert said.startswith("LongformerForQuestionAnswering does not run on what isogrow makes of its config")
    assert "AssertionError: There should be exactly three separator tokens" in said
    assert said.endswith("give --no-verify (verify=False), and compare it on inputs of your own")
    assert isogrow("grow", small, tmp_path / "large", "--ffn", "x2", "--no-verify").code == 0


def test_the_constructor_of_old_makes_float64() -> None:
    legacy = torch.FloatTensor
    with float64():
        assert torch.FloatTensor(2, 3).dtype == torch.float64
    assert torch.FloatTensor is legacy and torch.FloatTensor(2).dtype == torch.float32
