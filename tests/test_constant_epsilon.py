"""A constant ε on a real family: OPT in every form that its config has, each exact, or refused by rule."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import checkpoints
import families as F
import pytest
import torch
import transformers
from breaking import Change, changed, switched_on, unscaled, zeroed
from safetensors.torch import save_file

import isogrow
from isogrow.errors import LawError, SizeError
from isogrow.laws import check, norms
from isogrow.rules import layers

pytestmark = pytest.mark.slow  # models of many kinds are built, grown and run


OPT = F.FAMILIES["opt"]
WIDER = {"hidden": "x2", "heads": "x2"}
HEAD, BASE, SCORE = OPT.classes[0], OPT.classes[1], OPT.classes[2]
Form = tuple[str, bool, bool, bool, bool, bool]
FORMS: list[Form] = [
    (kind, tied, before, removed, affine, narrow)
    for kind, before, removed, affine, narrow in product((HEAD, BASE, SCORE), *[(True, False)] * 4)
    for tied in ((True, False) if kind == HEAD else (True,))
    if before or not removed  # there is no last norm to remove after a post-norm layer
]


@cache
def form(kind: str, tied: bool, before: bool, removed: bool, affine: bool, narrow: bool) -> F.Subject:
    source = OPT.json(
        tie_word_embeddings=tied,
        do_layer_norm_before=before,
        _remove_final_layer_norm=removed,
        layer_norm_elementwise_affine=affine,
        word_embed_proj_dim=9 if narrow else None,
    )
    return F.subject(OPT, kind, source, spread=0.1)


def reads_through_no_gain(kind: str, tied: bool, before: bool, removed: bool, affine: bool) -> bool:
    """Whether what changes in the residual reaches the output, and nothing there can undo it."""
    if kind == SCORE or (kind == HEAD and not tied):
        return False
    return (removed or not affine) if before else kind == HEAD


@pytest.mark.parametrize("kind,tied,before,removed,affine,narrow", FORMS)
def test_every_form_is_exact_or_refused(
    kind: str, tied: bool, before: bool, removed: bool, affine: bool, narrow: bool
) -> None:
    """Refused is only what the width of the embeddings is the residual's for: a projection reads it else."""
    subject = form(kind, tied, before, removed, affine, narrow)
    if not narrow and reads_through_no_gain(kind, tied, before, removed, affine):
        with pytest.raises(
            SizeError, match="hidden can't grow: .* (untie the head|with its head),? or .*ffn"
        ):
            subject.plan(WIDER)
        assert subject.error(subject.plan({"ffn": 51})) < F.EXACT
        return
    plan = subject.plan(WIDER)
    assert subject.error(plan) < F.EXACT
    assert "word_embed_proj_dim" not in plan.config if narrow else plan.config["word_embed_proj_dim"] == 80
    if before:
        assert subject.error(subject.plan({"hidden": 56, "heads": 7, "ffn": 51, "layers": 5})) < F.EXACT
    else:
        assert subject.error(subject.plan({"hidden": "x3", "head_dim": "x3", "ffn": 51})) < F.EXACT
        with pytest.raises(SizeError, match="post-norm.*; grow ffn, heads or hidden instead"):
            subject.plan({"layers": 5})
        with pytest.raises(SizeError, match="only whole copies keep its mean.* multiples of 40: give 80"):
            subject.plan({"hidden": 56, "heads": 7})


@pytest.mark.parametrize("affine", [True, False], ids=["with tensors", "without"])
def test_layers_that_normalise_the_residual_break_and_are_refused(
    affine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the rule, by the law on its own, and with reason."""
    subject = form(HEAD, True, False, False, affine, True)
    monkeypatch.setattr(layers, "_check_post", lambda *_: None)
    with pytest.raises(LawError, match=r"normalise the residual itself \(attn_after.*\).* LN\(x\), never x"):
        subject.plan({"layers": 5})
    monkeypatch.setattr(norms, "_check_identity", lambda *_: None)
    error = subject.error(subject.plan({"layers": 5}, allow_dead=True))
    assert error > (F.BROKEN if affine else F.EXACT)  # a norm without a gain is off by no more than ε


PLAIN: Form = (HEAD, True, True, False, True, False)
BARE: Form = (HEAD, False, True, True, True, False)
NARROW: Form = (HEAD, True, True, True, True, True)


@pytest.mark.parametrize(
    ("given", "slots", "change"),
    [
        (PLAIN, ("final_norm",), unscaled),
        (PLAIN, ("final_norm.bias",), unscaled),
        (PLAIN, ("attn_norm",), unscaled),
        (PLAIN, ("embed",), zeroed),
        (PLAIN, ("positions",), zeroed),
        (PLAIN, ("mlp.down",), unscaled),
        (BARE, ("head",), unscaled),
        (BARE, ("head",), switched_on),
        (NARROW, ("project_in",), unscaled),
        (NARROW, ("project_out",), unscaled),
        (NARROW, ("project_out",), switched_on),
    ],
)
def test_a_broken_plan_is_refused_and_breaks(given: Form, slots: tuple[str, ...], change: Change) -> None:
    subject = form(*given)
    plan = changed(subject.plan({"hidden": 56, "heads": 7}), slots, change)
    assert subject.error(plan) > F.BROKEN
    with pytest.raises(LawError):
        check(subject.anatomy, plan)


@pytest.mark.parametrize("given", [PLAIN, BARE, NARROW, (HEAD, True, False, False, True, True)])
def test_verify(given: Form) -> None:
    """Caches, padding on either side, all positions, liveness."""
    small = live(*given)
    report = isogrow.verify(small, isogrow.grow(small, hidden=80, heads=10, ffn=51))
    assert report.passed, report.failed


def live(*given: Any) -> Any:
    """A model in float32, as a user has it."""
    subject = form(*given)
    made = F.class_of(subject.kind)(F.config_of(OPT, subject.source))
    made.load_state_dict(subject.small.state_dict(), strict=False)
    return made.eval()


# Whose head it is


def test_a_checkpoint_without_the_prefix_is_its_class(tmp_path: Path) -> None:
    """Old files leave out `model.`: whether the embedding is a head's, too, is said by the config's class."""
    subject = form(*PLAIN)
    subject.small.save_pretrained(tmp_path / "new")  # type: ignore[operator]
    old = {name.removeprefix("model."): x for name, x in checkpoints.tensors(tmp_path / "new").items()}
    old["decoder.version"] = torch.ones(1)
    for kind in (HEAD, BASE):
        folder = tmp_path / kind
        folder.mkdir()
        save_file(old, folder / "model.safetensors", {"format": "pt"})
        config = {**checkpoints.config(tmp_path / "new"), "architectures": [kind]}
        transformers.OPTConfig.from_dict(config).save_pretrained(folder)
        isogrow.grow_checkpoint(folder, tmp_path / f"large-{kind}", **WIDER)
        small, large = (
            F.rebuilt(getattr(transformers, kind).from_pretrained(path))
            for path in (folder, tmp_path / f"large-{kind}")
        )
        assert F.error(F.outputs(small, F.batch(kind)), F.outputs(large, F.batch(kind))) < F.EXACT


def test_a_model_in_memory_is_its_own_class() -> None:
    """The config of an OPTModel may come from a checkpoint of a language model."""
    small = live(BASE, True, True, False, True, False)
    small.config.architectures = [HEAD]
    large = isogrow.grow(small.double(), **WIDER)
    given = F.batch(BASE)
    assert F.error(F.outputs(small, given), F.outputs(large, given)) < F.EXACT
