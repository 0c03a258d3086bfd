"""Model types that run in another type's class, under names of their own in files: EXAONE, Sarvam."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints
import families as F
import pytest
import transformers

import isogrow
from isogrow.stores.loadable import class_name, opener

# What their files on the Hub name: classes of the author's own code.
AUTHORS = {
    "exaone": ("ExaoneForCausalLM", "LlamaForCausalLM"),
    "sarvam_moe": ("SarvamMoEForCausalLM", "Glm4MoeForCausalLM"),
    "sarvam_mla": ("SarvamMLAForCausalLM", "DeepseekV3ForCausalLM"),
}


@pytest.mark.parametrize("name", AUTHORS)
def test_an_authors_class_is_the_one_that_transformers_has(name: str) -> None:
    authors, own = AUTHORS[name]
    config = {"model_type": name, "architectures": [authors]}
    assert class_name(config) == own
    assert opener(config) == opener({**config, "architectures": [own]}) == "AutoModelForCausalLM"
    assert opener({**config, "architectures": [own.replace("ForCausalLM", "Model")]}) == "AutoModel"


def test_a_class_that_nothing_knows_is_none() -> None:
    assert class_name({"model_type": "exaone", "architectures": ["ExaoneForDreams"]}) == ""
    assert class_name({"model_type": "exaone", "architectures": ["Exaone"]}) == ""
    assert class_name({"model_type": "unheard", "architectures": ["UnheardForCausalLM"]}) == ""
    assert opener({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}) == "LlamaForCausalLM"


def saved(folder: Path, name: str, kind: str, **changes: Any) -> Any:
    """A model in its class, and its files with a config that says more."""
    family = F.FAMILIES[name]
    given: Any = F.subject(family, kind, F.labelled(family, kind), spread=0.1).small
    # What was built of a state under the class's names would be saved under those.
    model: Any = F.class_of(kind)(given.config).double()
    model.load_state_dict(given.state_dict())
    model.eval().save_pretrained(folder)
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", AUTHORS)
def test_files_as_they_stand_on_the_hub_grow_and_are_proven(name: str, tmp_path: Path) -> None:
    authors, own = AUTHORS[name]
    saved(tmp_path / "small", name, own, architectures=[authors])
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", **F.FAMILIES[name].together)
    report = isogrow.verify(tmp_path / "small", tmp_path / "large", liveness=False)
    assert report.passed, report.failed
    old, new = (checkpoints.tensors(tmp_path / each) for each in ("small", "large"))
    assert {key.split(".", 3)[-1] for key in old} == {key.split(".", 3)[-1] for key in new}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["LlamaModel", "LlamaForQuestionAnswering", "LlamaForSequenceClassification"]
)
def test_files_of_other_classes_have_half_of_the_names(kind: str, tmp_path: Path) -> None:
    """transformers 5.24 renames what stands in a layer, and the rest behind `model.` alone."""
    small = F.rebuilt(saved(tmp_path / "small", "exaone", kind))
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", **F.FAMILIES["exaone"].together)
    large = checkpoints.loaded(tmp_path / "large", kind)
    given = F.batch(kind)
    assert F.error(F.outputs(small, given), F.outputs(F.rebuilt(large), given)) < F.EXACT


@pytest.mark.slow
def test_a_class_saves_the_files_of_another_type_as_its_own(tmp_path: Path) -> None:
    """Why users are told the Auto class (transformers 5.24): the names are EXAONE's, and the type is not."""
    saved(tmp_path / "small", "exaone", "LlamaForCausalLM")
    model: Any = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "small")
    model.save_pretrained(tmp_path / "again")
    assert checkpoints.config(tmp_path / "again")["model_type"] == "llama"
    assert "transformer.wte.weight" in checkpoints.tensors(tmp_path / "again")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    model.save_pretrained(tmp_path / "again")
    assert checkpoints.config(tmp_path / "again")["model_type"] == "exaone"
