"""`--to` a sibling of a model whose config says more than sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import families as F
import pytest

from isogrow.errors import SizeError
from isogrow.planning.sibling import sizes_of

OPT = F.FAMILIES["opt"]
WIDER = {"hidden_size": 80, "num_attention_heads": 10}


def sizes(here: dict[str, Any], there: dict[str, Any], folder: Path) -> Any:
    (folder / "config.json").write_text(json.dumps(OPT.json(**WIDER, **there)))
    return sizes_of(F.subject(OPT, "", OPT.json(**here)).anatomy, folder)


@pytest.mark.parametrize("width", [None, 9])
def test_a_width_of_the_embeddings_stays(width: int | None, tmp_path: Path) -> None:
    same = {"word_embed_proj_dim": width}
    assert sizes(same, same, tmp_path) == {"hidden": 80, "heads": 10}


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ({"word_embed_proj_dim": 9}, {"word_embed_proj_dim": 11}, r"narrow \(here 9, there 11\)"),
        ({}, {"word_embed_proj_dim": 9}, r"word_embed_proj_dim == hidden_size \(here True, there False\)"),
        ({}, {"do_layer_norm_before": False}, r"do_layer_norm_before \(here True, there False\)"),
        ({}, {"_remove_final_layer_norm": True}, r"_remove_final_layer_norm \(here False, there True\)"),
    ],
)
def test_what_is_no_size_is_refused(
    here: dict[str, Any], there: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(SizeError, match=f"growing changes sizes alone, and they differ in {said}"):
        sizes(here, there, tmp_path)
