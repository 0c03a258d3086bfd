"""Families whose tensors have other names on disk than in memory: both are grown alike, and load back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import families as F
import pytest
import torch

import isogrow

pytestmark = pytest.mark.slow  # models of many kinds are built, grown and run


TWICE = [("dinov2", kind, gated) for kind in F.FAMILIES["dinov2"].classes for gated in (False, True)]


@pytest.mark.parametrize(("name", "kind", "gated"), TWICE)
def test_disk_and_memory_are_grown_alike(name: str, kind: str, gated: bool, tmp_path: Path) -> None:
    family = F.FAMILIES[name]
    source = family.json(use_swiglu_ffn=gated)
    small: Any = F.model(family, kind, source, spread=0.1).float()
    wanted = {**family.together, "ffn": 264} if gated else family.together
    small.save_pretrained(tmp_path / "small")
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", **wanted)
    loaded, info = type(small).from_pretrained(tmp_path / "large", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    ours = isogrow.grow(small, **wanted).state_dict()
    theirs = loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(x, theirs[n]) for n, x in ours.items())
    report = isogrow.verify(tmp_path / "small", tmp_path / "large")
    assert report.passed, report.failed
