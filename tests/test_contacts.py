"""ESM answers beside its outputs which residues touch, by where every head of every layer attends to."""

from __future__ import annotations

import families as F
import pytest
import torch
from torch import Tensor

import isogrow
from isogrow.errors import SizeError
from isogrow.plans.plan import Init, Rewrite
from isogrow.rules import layers as rule
from isogrow.rules.places import free
from isogrow.rules.subject import Subject

pytestmark = pytest.mark.slow  # models are grown and run

IDS = torch.randint(4, F.PAD, (3, 9), generator=torch.Generator().manual_seed(1))
WORDS = {"absolute": {"hidden": "x2", "head_dim": "x2"}, "rotary": {}}


def contacts(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return model.predict_contacts(IDS, torch.ones_like(IDS))  # type: ignore[operator]


@pytest.mark.parametrize("places", ["start", "even", "end"])
@pytest.mark.parametrize("kind", WORDS)
def test_contacts_are_the_same_wherever_layers_are_added(kind: str, places: str) -> None:
    family = F.FAMILIES["esm"]
    subject = F.subject(family, "EsmForMaskedLM", family.json(position_embedding_type=kind))
    subject.small.config._attn_implementation = "eager"
    large = isogrow.grow(subject.small, ffn=92, layers="+2", layers_at=places, **WORDS[kind])
    assert torch.allclose(contacts(subject.small), contacts(large), rtol=1e-12, atol=1e-12)
    assert contacts(subject.small).std() > F.BROKEN


def test_numbers_for_new_layers_that_are_not_zero_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    family = F.FAMILIES["esm"]
    subject = F.subject(family, "EsmForMaskedLM")
    subject.small.config._attn_implementation = "eager"
    entries = rule._entries  # pyright: ignore[reportPrivateUsage]

    def drawn(subject: Subject, slot: str, init: Init) -> Rewrite:
        return free(init) if subject.slots[slot].aside else entries(subject, slot, init)

    monkeypatch.setattr(rule, "_entries", drawn)
    large = isogrow.grow(subject.small, layers="+1")
    assert (contacts(subject.small) - contacts(large)).abs().max() > F.BROKEN


@pytest.mark.parametrize(
    ("wanted", "kind", "why"),
    [
        ({"hidden": "x2", "heads": "x2"}, "absolute", "its contact head has a number for each of them"),
        ({"hidden": "x2", "head_dim": "x2"}, "rotary", "its rotary table is read from the file"),
    ],
)
def test_what_is_refused_says_why(wanted: dict[str, str], kind: str, why: str) -> None:
    family = F.FAMILIES["esm"]
    subject = F.subject(family, "EsmForMaskedLM", family.json(position_embedding_type=kind))
    with pytest.raises(SizeError, match=why):
        isogrow.grow(subject.small, **wanted)
