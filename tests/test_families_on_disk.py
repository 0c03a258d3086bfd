"""Every family as a checkpoint: grown on disk, it is loaded whole by plain transformers, and is the same
function."""

from __future__ import annotations

from pathlib import Path

import checkpoints
import families as F
import pytest

import isogrow


@pytest.mark.parametrize("name", F.FAMILIES)
def test_a_grown_checkpoint_is_loaded_whole(name: str, tmp_path: Path) -> None:
    family = F.FAMILIES[name]
    subject = F.subject(family, spread=0.1)
    subject.small.save_pretrained(tmp_path / "small")  # type: ignore[operator]
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", **family.together)
    large = checkpoints.loaded(tmp_path / "large", subject.kind)
    given = F.batch(subject.kind)
    assert F.error(F.outputs(subject.small, given), F.outputs(F.rebuilt(large), given)) < F.EXACT
