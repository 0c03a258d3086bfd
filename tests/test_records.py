"""What is said of a grown folder's isogrow.json that can't be read: one sentence that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import checkpoints

import isogrow
from isogrow.errors import IsogrowError
from isogrow.growth.comparing import compare_bytes

Verb = Callable[[Path, Path], Any]
VERBS: dict[str, Verb] = {
    "verify": isogrow.verify,
    "verify --bytes": compare_bytes,
    "grow --plan": lambda small, grown: isogrow.grow_checkpoint(small, grown.parent / "again", plan=grown),
    "new entries": lambda _, grown: isogrow.new_entries(grown),
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    small, out = checkpoints()["LlamaForCausalLM"], tmp_path_factory.mktemp("records") / "out"
    isogrow.grow_checkpoint(small, out, ffn="+7")
    return small, out


@pytest.mark.parametrize("verb", VERBS)
def test_a_record_that_is_none_is_told_by_its_name(grown: tuple[Path, Path], verb: str) -> None:
    small, out = grown
    path = out / "isogrow.json"
    plan = json.loads(path.read_text())["plan"]
    older = json.dumps({"plan": {**plan, "version": 3}})
    for text in ("{", "[]", "{}", '{"plan": 3}', "\x00", older):
        path.write_text(text)
        with pytest.raises(IsogrowError) as refused:
            VERBS[verb](small, out)
        assert str(refused.value).startswith(str(path)), text
    path.unlink()
    with pytest.raises(IsogrowError, match="isogrow.json is missing"):
        VERBS[verb](small, out)
    path.write_text(json.dumps({"plan": plan}))
    assert not (out.parent / "again").exists()
