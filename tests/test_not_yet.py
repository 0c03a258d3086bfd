"""The page of model types that are not grown: all of them exist, none is grown."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file
from transformers.models.auto import modeling_auto as auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

from isogrow.drafting.drafts import draft
from isogrow.errors import CheckpointError, FamilyError
from isogrow.families import layout_for
from isogrow.families.not_yet import ALIASES, DRAFTED, REASONS, reasons
from isogrow.plans.anatomy import Header
from isogrow.plans.matching import match
from isogrow.stores.sources import read_json

SCRIPT = Path(__file__).parents[1] / "docs" / "not_yet.py"


def script() -> Any:
    found = importlib.util.spec_from_file_location("not_yet", SCRIPT)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_every_type_with_a_reason_exists_and_is_not_grown() -> None:
    made = script()
    named = [name for types in made.REASONS.values() for name in types.split()]
    assert len(named) == len(set(named))
    registered = {*made.types()}
    assert {name for name in named if name not in CONFIG_MAPPING_NAMES and name not in registered} == set()
    assert [name for name in named if made.grown(name)] == []


def test_each_type_is_grown_or_drafted_or_has_one_reason() -> None:
    made = script()
    assert len(auto.MODEL_MAPPING_NAMES) == 622
    assert made.unexplained(reasons()) == []
    assert made.unexplained(reasons().keys() - {"swin"}) == ["swin"]
    assert [why for why in REASONS if "looked at" in why] == []


def test_an_alias_is_a_type_whose_config_class_is_anothers() -> None:
    assert {name: CONFIG_MAPPING[name].model_type for name in ALIASES} == ALIASES
    assert not ALIASES.keys() & {*reasons(), *DRAFTED}


def test_the_page_is_as_written() -> None:
    made = script()
    assert made.PAGE.read_text(encoding="utf-8") == made.page()


def test_each_reason_is_said_where_the_type_is_asked_for() -> None:
    made = script()
    assert sorted(made.proven()) == [*DRAFTED]
    for name, why in reasons().items():
        with pytest.raises(FamilyError) as refused:
            layout_for(name)
        assert why in str(refused.value) and repr(name) in str(refused.value)
        assert "isogrow draft" in str(refused.value) or name not in DRAFTED


@pytest.mark.slow
def test_files_that_are_cut_otherwise_are_refused_under_a_draft(tmp_path: Path) -> None:
    (name,) = [name for name in script().RECUT if name == "tipsv2_text_model"]
    made = draft(name)
    transformers.Tipsv2TextModel(transformers.Tipsv2TextConfig.from_dict(dict(made.config))).save_pretrained(
        tmp_path
    )
    tensors = load_file(tmp_path / "model.safetensors")
    found = {key: Header(tuple(tensor.shape), "F32") for key, tensor in tensors.items()}
    with pytest.raises(CheckpointError, match="attn.in_proj_bias is in the checkpoint, and no pattern"):
        match(made.layout, read_json(tmp_path / "config.json", ""), found)
