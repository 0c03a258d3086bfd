"""Refusals speak in the words of who asked: of head_dim, where that was said, and never of what it is made
of."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from sweeping import DIVERSE, EVERYTHING, chosen

from isogrow.errors import IsogrowError
from isogrow.families import LAYOUTS
from isogrow.planning.planner import plan
from isogrow.planning.reach import specimen
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import Size, expansions
from isogrow.plans.plan import Init

FAMILIES = {layout.family: layout for layout in LAYOUTS.values()}  # before other tests register theirs

# By what was said: the words of which no refusal speaks.
UNSAID = {
    "head_dim": ("key_dim", "value_dim", "group"),
    "heads": ("key_dim", "value_dim", "group"),
    "kv_heads": ("key_dim", "value_dim", "group"),
    "key_dim": ("group",),
    "value_dim": ("group",),
    "layers": ("key_dim", "value_dim", "group", r"\w+_layers"),
}
SIZES: tuple[Size, ...] = (1, "x1", "+1", "+2", "+3", "x2", "x3", "2.5", "x1.01", "much")


def refusals(anatomy: Anatomy, word: str) -> Iterator[str]:
    for size in SIZES:
        for kind in ("normal", "copy"):
            try:
                plan(anatomy, expansions({word: size}), Init(kind))
            except IsogrowError as error:
                yield str(error)


@pytest.mark.slow
@pytest.mark.sweep("examples")
@pytest.mark.parametrize("word", UNSAID)
def test_no_refusal_says_a_word_that_the_asker_has_another_for(word: str) -> None:
    heard: list[str] = []
    for family in sorted(FAMILIES if EVERYTHING else {*DIVERSE, *chosen(word, list(FAMILIES))}):
        heard += refusals(specimen(FAMILIES[family]), word)
    assert len(heard) > 30
    for said in heard:
        assert not re.search(rf"\b(?:{'|'.join(UNSAID[word])})\b", said), said
