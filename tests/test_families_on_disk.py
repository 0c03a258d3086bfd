"""Every family as a checkpoint: grown on disk, it is loaded whole by plain transformers, and is the same
function."""

from __future__ import annotations

from pathlib import Path

import checkpoints
import families as F
import pytest
from sweeping import turns

import isogrow
from isogrow.interpreters.module import headers
from isogrow.plans.anatomy import Header
from isogrow.plans.matching import match

pytestmark = pytest.mark.slow  # models of many kinds are built, grown and run


# What versions before wrote into files, and nobody reads.
BUFFERS = {
    "gpt_neo": ("transformer.h.0.attn.attention.bias", "transformer.h.0.attn.attention.masked_bias"),
    "opt": ("model.decoder.version",),
    "stablelm": ("model.layers.0.self_attn.rotary_emb.inv_freq",),
}


# What loading changes by itself: Marian computes its positions, Hunyuan rounds routers to float32, DeBERTa
# what it adds to queries and values, OLMo Hybrid how fast its states fade, Youtu the row of padding.
COMPUTED = ("marian", "hunyuan_v1_moe", "deberta", "olmo_hybrid", "youtu")


def computed(name: str, kind: str) -> bool:
    """Whether loading changes what the files hold, or rounds it: routers, of many families in transformers
    5.24."""
    return name in COMPUTED or bool(getattr(F.class_of(kind), "_keep_in_fp32_modules_strict", None))


@pytest.mark.parametrize("name", turns(F.FAMILIES))
def test_a_grown_checkpoint_is_loaded_whole(name: str, tmp_path: Path) -> None:
    family = F.FAMILIES[name]
    subject = F.subject(family, spread=0.1)
    subject.small.save_pretrained(tmp_path / "small")  # type: ignore[operator]
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", **family.together)
    large = checkpoints.loaded(tmp_path / "large", subject.kind)
    given = F.batch(subject.kind)
    small = subject.small
    if computed(name, subject.kind):
        small = F.rebuilt(checkpoints.loaded(tmp_path / "small", subject.kind))
    assert F.error(F.outputs(small, given), F.outputs(F.rebuilt(large), given)) < F.EXACT


@pytest.mark.parametrize("name", BUFFERS)
def test_old_buffers_are_ignored(name: str) -> None:
    subject = F.subject(F.FAMILIES[name])
    old = dict.fromkeys(BUFFERS[name], Header((1,), "F32"))
    found = match(subject.anatomy.layout, subject.source, headers(subject.small) | old)
    assert found.ignored == BUFFERS[name]
    assert found.stored == subject.anatomy.stored
