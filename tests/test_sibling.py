"""`--to` a sibling of a model whose config says more than sizes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import families as F
import pytest
import transformers
import wrapped
from sweeping import swept

import isogrow
from isogrow.errors import SizeError
from isogrow.families.wrappers import WRAPPERS
from isogrow.growth.models import anatomy_of
from isogrow.layouts.config import edited, get
from isogrow.planning.sibling import sizes_of
from isogrow.plans.words import named

sized: Any = isogrow.plan  # sizes of stacks are no keywords that types know
ACT = "text_config.hidden_act"
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


def test_the_width_of_a_pooler_that_a_model_does_not_have_is_no_difference() -> None:
    """A ViT for classification has no pooler, and its config follows the width with the pooler's."""
    sizes = {"num_hidden_layers": 2, "image_size": 16, "patch_size": 8}
    small = transformers.ViTConfig(**sizes, hidden_size=24, num_attention_heads=3, intermediate_size=37)
    large = transformers.ViTConfig(**sizes, hidden_size=48, num_attention_heads=6, intermediate_size=74)
    classifier = transformers.ViTForImageClassification(small)
    grown = isogrow.grow(classifier, to=large.to_dict())
    assert grown.config.hidden_size == 48
    with pytest.raises(SizeError, match=r"pooled \(here 24, there 48\)"):
        isogrow.grow(transformers.ViTModel(small), to=large.to_dict())


def gemma(layers: int, full: tuple[int, ...]) -> transformers.Gemma3TextConfig:
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2}
    types = [f"{'full' if i in full else 'sliding'}_attention" for i in range(layers)]
    return transformers.Gemma3TextConfig(vocab_size=50, num_hidden_layers=layers, layer_types=types, **sizes)


def test_a_sibling_whose_layers_are_of_other_kinds_is_refused() -> None:
    """However it says so: by a list, or by a rule that its class fills one in by."""
    small = transformers.Gemma3ForCausalLM(gemma(4, (2,)))
    as_grown = isogrow.grow(small, layers="+2").config
    assert isogrow.grow(small, to=as_grown.to_dict()).config.layer_types == as_grown.layer_types
    for full in ((2, 5), (0, 2)):
        with pytest.raises(
            SizeError, match=r"says layer_types .*, and growing to its sizes gives .*layers_at="
        ):
            isogrow.grow(small, to=gemma(6, full).to_dict())
    unsaid = gemma(6, ()).to_dict()
    del unsaid["layer_types"]
    with pytest.raises(SizeError, match=r"says layer_types .*full_attention'\], and growing"):
        isogrow.grow(small, to=unsaid)


@pytest.mark.slow
@pytest.mark.parametrize("kind", swept(wrapped.OWN, lambda kind: kind in ("paligemma", "qwen3_vl_moe")))
def test_a_larger_wrapper_is_a_sibling(kind: str) -> None:
    """What a wrapper grows to is read back as the sizes that were asked for, of its tower too."""
    text = WRAPPERS[kind].text
    small = wrapped.model(kind, text if text in wrapped.TEXTS else "cohere")
    anatomy, wanted = anatomy_of(small), dict[str, str]()
    for word in ("ffn", "expert_ffn", "layers", "vision.ffn", "vision.layers"):
        with contextlib.suppress(SizeError):
            sized(small, **{word: "+1"})
            wanted[word] = "+1"
    assert {"ffn", "expert_ffn"} & wanted.keys()
    made = sized(small, **wanted)
    larger = edited(anatomy.config, made.config)
    words = named(made.target, anatomy.layout.stacks)
    found = sizes_of(anatomy, larger)
    assert {word: words[word] for word in wanted} == {word: found.get(word) for word in wanted}
    assert edited(anatomy.config, sized(small, to=larger).config) == larger
    if get(larger, ACT) is not None:
        with pytest.raises(SizeError, match=r"they differ in text_config\.hidden_act"):
            sizes_of(anatomy, edited(larger, {ACT: "another"}))
