"""A backbone gives what runs between its layers: new layers move the places, and the config follows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from rows.stacks import DINOV2, images

import isogrow
from isogrow.families import LAYOUTS
from isogrow.verification.float64 import float64

KIND = "Dinov2Backbone"
STAGES = [[3], [1, 2], [0, 2, 3]]
EXACT = 1e-12


def backbone(folder: Path, **changes: Any) -> transformers.PreTrainedModel:
    """A model of random weights, and its folder."""
    generator = torch.Generator().manual_seed(0)
    with float64():
        model = transformers.Dinov2Backbone(transformers.Dinov2Config(**{**DINOV2.sizes, **changes}))
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.3, generator=generator)
    model.save_pretrained(folder)
    return model.eval()


def error(small: Any, folder: Path) -> float:
    """The largest relative error of a map of features, as plain transformers loads the folder."""
    with float64(), torch.no_grad():
        large: Any = transformers.Dinov2Backbone.from_pretrained(folder, dtype=torch.float64)
        inputs = images(KIND, torch.Generator().manual_seed(1))
        one, two = (model.eval()(**inputs).feature_maps for model in (small, large))
    assert len(one) == len(two)
    return max(float((a - b).norm() / a.norm()) for a, b in zip(one, two, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("at", ["start", "even", "end", (1, 1), (0, 3)])
@pytest.mark.parametrize("stages", STAGES)
def test_a_backbone_gives_the_same_maps(stages: list[int], at: Any, tmp_path: Path) -> None:
    small = backbone(tmp_path / "small", out_indices=stages)
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", layers=5, layers_at=at)
    assert error(small, tmp_path / "large") < EXACT
    said = json.loads((tmp_path / "large" / "config.json").read_text())
    assert said["stage_names"] == ["stem", *(f"stage{n}" for n in range(1, 6))]
    assert said["out_features"] == [said["stage_names"][k] for k in said["out_indices"]]
    assert error(isogrow.grow(small, layers=5, layers_at=at), tmp_path / "large") < EXACT
    if stages[-1] == 3:
        assert said["out_indices"][-1] == 5, "new layers at the end would stand behind all that is read"


def test_what_counts_from_the_end(tmp_path: Path) -> None:
    small = backbone(tmp_path / "small", out_indices=[-3, -1])
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", layers=5, layers_at=(1, 2))
    assert error(small, tmp_path / "large") < EXACT
    assert json.loads((tmp_path / "large" / "config.json").read_text())["out_indices"] == [-4, -1]


def test_without_the_keys_it_would_give_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = backbone(tmp_path / "small", out_indices=[1, 2])
    monkeypatch.setitem(LAYOUTS, "dinov2", replace(LAYOUTS["dinov2"], readouts=()))
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", layers=5, layers_at="start")
    assert error(small, tmp_path / "large") > 1e-3
