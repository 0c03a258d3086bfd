"""Wrappers of many makers: each grows on what its table lets grow, and reads texts and images as before."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from families import BROKEN, EXACT
from torch import Tensor, nn
from wrapped import IMAGE, OWN, SOUND, config, error, given, grown, model

import isogrow
from isogrow.errors import LawError, SizeError
from isogrow.families import layout_of
from isogrow.families.wrappers import WRAPPERS
from isogrow.growth.models import anatomy_of
from isogrow.interpreters.module import grow_module
from isogrow.laws import check
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import expansions
from isogrow.plans.plan import Plan
from isogrow.plans.serial import from_json, to_json
from isogrow.verification.float64 import float64

Request = Mapping[str, Any]
ALL: Request = dict(ffn=51, heads="x2", layers="+1", hidden=40)
NARROW: Request = {axis: size for axis, size in ALL.items() if axis != "hidden"}
DIVIDED: Request = {**ALL, "hidden": 48}  # heads fill the width
FILLED: Request = dict(ffn=51, layers="+1")
# Images are tokens, or the width stays: nothing of the towers changes.
UNSEEN = ("emu3", "apertus1p5", "glm_image", "minicpmv4_6", "minicpmv4_7", "minicpm_ocr")
# The language model in it, and what grows, where it is not all of them.
MORE: Mapping[str, tuple[str, Request]] = {
    "llava_next_video": ("llama", ALL),
    "video_llava": ("llama", ALL),
    "fast_vlm": ("qwen2", ALL),
    "qianfan_ocr": ("qwen3", ALL),
    "lfm2_vl": ("lfm2", FILLED),
    "aria": ("aria_text", {**DIVIDED, "ffn": "+3"}),
    "llama4": ("llama4_text", ALL),
    "gemma4": ("gemma4_text", {**ALL, "head_dim": 20}),
    "gemma4_unified": ("gemma4_unified_text", ALL),
    "qwen2_vl": ("qwen2_vl_text", DIVIDED),
    "qwen2_5_vl": ("qwen2_5_vl_text", DIVIDED),
    "qwen3_vl": ("qwen3_vl_text", ALL),
    "qwen3_vl_moe": ("qwen3_vl_moe_text", ALL),
    "glm4v": ("glm4v_text", FILLED),
    "glm46v": ("glm4v_text", FILLED),
    "glmga": ("glm4v_text", FILLED),
    "glm4v_moe": ("glm4v_moe_text", NARROW),
    "glm_ocr": ("glm_ocr_text", NARROW),
    "paddleocr_vl": ("paddleocr_vl_text", ALL),
    "hunyuan_vl": ("hunyuan_vl_text", NARROW),
    "idefics3": ("llama", ALL),
    "smolvlm": ("llama", ALL),
    "idefics2": ("mistral", NARROW),
    "deepseek_vl": ("llama", ALL),
    "exaone4_5": ("exaone4", ALL),
    "hyperclovax_vision_v2": ("hyperclovax", ALL),
    "video_llama_3": ("qwen2", ALL),
    "lighton_ocr": ("qwen3", ALL),
    "ovis2": ("qwen2", ALL),
    "fuyu": ("persimmon", dict(hidden=64, ffn=51, heads="x2", layers="+1")),
    "emu3": ("emu3_text_model", ALL),
    "apertus1p5": ("apertus1p5_text", ALL),
    "glm_image": ("glm_image_text", ALL),
    "kimi_k25": ("deepseek_v3", ALL),
    "mllama": ("mllama_text_model", DIVIDED),
    "minicpmv4_6": ("qwen3_5_text", NARROW),
    "minicpmv4_7": ("qwen3_5_text", NARROW),
    "minicpm_ocr": ("qwen3_5_text", NARROW),
    "granite4_vision": ("granite4_vision_text", ALL),
    "pp_chart2table": ("qwen2", ALL),
    "omniasr": ("llama", ALL),
    "glmasr": ("llama", ALL),
    "qwen3_asr": ("qwen3", ALL),
    "granite_speech": ("granite", ALL),
    "fun_asr_nano": ("qwen3", NARROW),
    "moss_transcribe_diarize": ("qwen3", NARROW),
    "qwen2_5_omni_thinker": ("qwen2_5_omni_text", ALL),
    "qwen3_omni_moe_thinker": ("qwen3_omni_moe_text", ALL),
    "deepseek_vl_hybrid": ("llama", ALL),
    "janus": ("llama", NARROW),
    "perception_lm": ("llama", ALL),
    "instructblip": ("opt", dict(hidden=48, ffn=51, heads="x2", layers="+1")),
    "blip-2": ("opt", dict(hidden=48, ffn=51, heads="x2", layers="+1")),
}


# A tower that needs a package of its own, and a class that transformers 5.24 does not run: the projector
# alone says what an image is.
PROJECTORS = {"fast_vlm": "model.multi_modal_projector", "llama4": "multi_modal_projector"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MORE)
def test_text_and_images_are_read_as_before(kind: str) -> None:
    text, request = MORE[kind]
    small = model(kind, text)
    large = grown(small, **request)
    if kind in PROJECTORS:
        a, b = (behind(each, PROJECTORS[kind]) for each in (small, large))
        assert float((a - b).abs().max() / a.abs().max()) < EXACT
        return
    batch = texts() if kind in UNSEEN else given(small, kind)
    assert kind in (*UNSEEN, "mllama") or bool(
        torch.isin(batch["input_ids"], torch.tensor([IMAGE, SOUND])).any()
    )
    assert error(small, large, batch) < EXACT


def texts() -> Mapping[str, Tensor]:
    return {"input_ids": torch.arange(2 * 11).reshape(2, 11) % IMAGE}


def behind(made: Any, name: str) -> Tensor:
    """The logits of a text behind what a projector makes of random features."""
    projector = made.get_submodule(name)
    linear = [each for each in projector.modules() if isinstance(each, nn.Linear)]
    generator = torch.Generator().manual_seed(1)
    count = len(inspect.signature(projector.forward).parameters)
    features = [torch.randn(1, 6, each.in_features, generator=generator) for each in linear[:count]]
    reads = made if hasattr(made, "lm_head") else made.language_model
    with float64(), torch.no_grad():
        seen = projector(*(each.double() for each in features))
        text = made.get_input_embeddings()(torch.arange(9)[None])
        return reads(inputs_embeds=torch.cat([seen, text], 1)).logits


# Positions in time, height and width.


SECTIONS = "text_config.rope_parameters.mrope_section"


@pytest.mark.parametrize(
    ("kind", "size", "sections"),
    [
        ("qwen2_vl", 8, [1, 1, 2]),
        ("qwen2_vl", 12, [2, 2, 2]),
        ("paddleocr_vl", 14, [2, 1, 4]),
        ("qwen3_vl", 40, [8, 4, 8]),
    ],
)
def test_pairs_turn_by_the_positions_that_they_turned_by(kind: str, size: int, sections: list[int]) -> None:
    """Runs of pairs grow at their end, or all by the same factor; interleaved ones by four."""
    small = model(kind, MORE[kind][0])
    wanted = {"head_dim": size} | ({"hidden": 4 * size} if kind == "qwen2_vl" else {})
    made = isogrow.plan(small, **wanted)
    assert made.config[SECTIONS] == sections
    assert error(small, grown(small, **wanted), given(small, kind)) < EXACT


@pytest.mark.parametrize(("kind", "size"), [("qwen2_vl", 12), ("qwen3_vl", 40)])
def test_pairs_that_would_turn_by_other_positions_are_seen(kind: str, size: int) -> None:
    small = model(kind, MORE[kind][0])
    wanted = {"head_dim": size} | ({"hidden": 4 * size} if kind == "qwen2_vl" else {})
    said, old = (
        to_json(isogrow.plan(small, **wanted)),
        small.config.text_config.rope_parameters["mrope_section"],
    )
    spoilt = from_json({**said, "steps": [_kept(step, old) for step in said["steps"]]})
    with pytest.raises(LawError, match="another of an image's positions"):
        check(anatomy_of(small), spoilt)


def _kept(step: dict[str, Any], old: list[int]) -> dict[str, Any]:
    """A step that says the old numbers of pairs."""
    return {**step, "config": {**step["config"], SECTIONS: old}} if SECTIONS in step["config"] else step


def test_interleaved_positions_can_t_be_spread_by_two() -> None:
    small = model("qwen3_vl", "qwen3_vl_text")
    with pytest.raises(SizeError, match="can't be spread, but to 40, where pairs turn by the same positions"):
        isogrow.plan(small, head_dim=20)


# Features of several depths.


@pytest.mark.parametrize(("kind", "first"), [("qwen3_vl", 1), ("qwen3_vl_moe", 2)])
def test_new_layers_come_behind_those_that_features_are_added_to(kind: str, first: int) -> None:
    small = model(kind, MORE[kind][0])
    batch = given(small, kind)
    with pytest.raises(SizeError, match=f"the first {first} layers stay the first.*give --layers-at {first}"):
        isogrow.plan(small, layers="+1", layers_at="start")
    large = grown(small, layers="+1", layers_at=(first,))
    assert error(small, large, batch) < EXACT


def test_a_plan_that_puts_a_layer_before_them_is_refused_and_would_show() -> None:
    """The same plan around a language model without such features is exact."""
    small = model("qwen3_vl", "qwen3_vl_text")
    anatomy = anatomy_of(small)
    free = replace(anatomy, layout=replace(anatomy.layout, leading=""))
    made = plan(free, expansions({"layers": "+1"}, "start"))
    with pytest.raises(LawError, match="must stay where it is"):
        check(anatomy, made)
    assert error(small, _grown_by(small, free, made), given(small, "qwen3_vl")) > BROKEN
    assert error(small, _grown_by(small, free, made), texts()) < EXACT


def _grown_by(small: nn.Module, anatomy: Anatomy, made: Plan) -> nn.Module:
    with float64():
        return grow_module(small, anatomy, made)


# Configs.


@pytest.mark.parametrize("kind", [kind for kind, wrapper in WRAPPERS.items() if wrapper.flat])
def test_a_config_without_a_text_config_says_the_same(kind: str) -> None:
    """As these types' files have it."""
    nested = config(kind, MORE[kind][0], tie=False)
    own = nested["text_config"]
    flat = {**own, **{key: said for key, said in nested.items() if key != "text_config"}, "model_type": kind}
    made = transformers.CONFIG_MAPPING[kind].from_dict(dict(flat))
    assert made.text_config.hidden_size == own["hidden_size"]
    there, here = layout_of(nested), layout_of(flat)
    assert here.read(flat) == there.read(nested)
    sizes = here.read(flat)
    written = there.written(nested, sizes)
    assert here.written(flat, sizes) == {key.removeprefix("text_config."): n for key, n in written.items()}


@pytest.mark.parametrize("kind", OWN)
def test_every_wrapper_here_is_one_of_the_table(kind: str) -> None:
    assert kind in WRAPPERS


def test_an_epsilon_that_the_language_model_reads_elsewhere_is_kept() -> None:
    """Llama 4's queries and keys are normalised with the epsilon of the residual's norms (5.23)."""
    small = model("llama4", "llama4_text")
    assert isogrow.plan(small, hidden=40).config.keys() == {"text_config.hidden_size"}
