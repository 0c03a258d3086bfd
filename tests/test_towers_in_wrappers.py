"""Towers in wrappers grow as stacks of their own: what the language model hears of an image or a sound is
what it was, whichever of the tower's states is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import transformers
import wrapped
from families import BROKEN, EXACT, randomized
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from wrapped import OWN, TEXTS, class_of, error, given, grown

import isogrow
from isogrow.errors import IsogrowError, LawError, SizeError
from isogrow.families import LAYOUTS, layout_of
from isogrow.families.wrappers import WRAPPERS
from isogrow.growth.models import anatomy_of
from isogrow.interpreters.module import grow_module
from isogrow.laws import check, lives
from isogrow.laws.building import network
from isogrow.plans.caching import caches_of
from isogrow.plans.serial import from_json, to_json
from isogrow.plans.words import named
from isogrow.verification import sounds, verify
from isogrow.verification.differences import Difference, NoiseFloor
from isogrow.verification.float64 import build, float64
from isogrow.verification.pictures import among, pictured

Sizes = Mapping[str, Any]
# Sizes of stacks are no keywords that types know.
plan: Any = isogrow.plan
grow_checkpoint: Any = isogrow.grow_checkpoint
LAST: Sizes = {"vision.layers": "+1"}
BOTH: Sizes = {"ffn": 50, "heads": 8, "layers": "+1", "vision.ffn": 40}
DEEP = {**wrapped.CLIP, "num_hidden_layers": 4}
# A tower that is read before its last layer, which nothing reads then; two states at once; and at its end.
BEFORE = {"vision_config": DEEP, "vision_feature_layer": -2}
TWICE = {"vision_config": DEEP, "vision_feature_layer": [-2, 1]}
WIDER: Sizes = {"vision.hidden": "x2", "vision.heads": "x2"}
ALL: Sizes = {**WIDER, "vision.ffn": "+5", "vision.layers": "+2", "ffn": 51}
NARROW: Sizes = {"vision.ffn": "+5", "vision.layers": "+2", "hidden": 28}
HEARD: Sizes = {"audio.ffn": "+5", "audio.layers": "+2", "hidden": 28}
# Which grow in hidden, too; of the others what reads the tower stays as wide as it was.
WIDE = (
    "llava", "llava_next", "llava_next_video", "llava_onevision", "cohere2_vision", "paligemma", "idefics3",
    "smolvlm", "deepseek_vl", "deepseek_vl_hybrid", "exaone4_5", "hyperclovax_vision_v2", "qwen2_vl",
    "qwen2_5_vl", "qwen3_5", "qwen3_5_moe",
)  # fmt: skip
OFTEN = ("paligemma", "qwen2_5_vl")  # every run; all others are swept
SWEPT = [
    pytest.param(kind, marks=() if kind in OFTEN else pytest.mark.sweep)
    for kind in OWN
    if any(tower.own or tower.kind in LAYOUTS for tower in WRAPPERS[kind].towers)
]


@cache
def seeing(kind: str, told: str = "") -> nn.Module:
    """A small wrapper, or one whose projector reads other states of its tower."""
    return edited(kind, {"before": BEFORE, "twice": TWICE}.get(told, {}))


def edited(kind: str, more: Mapping[str, Any]) -> nn.Module:
    """A small wrapper with other keys in its config."""
    text = WRAPPERS[kind].text
    source = {**wrapped.config(kind, text if text in TEXTS else "cohere", False), **more}
    own = transformers.CONFIG_MAPPING[kind].from_dict(source)
    with torch.device("meta"):
        shapes = {name: tuple(x.shape) for name, x in class_of(kind)(own).state_dict().items()}
    return build(class_of(kind), own, randomized(shapes, 0, 0.2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", SWEPT)
def test_images_are_read_as_before(kind: str) -> None:
    small, wanted = seeing(kind), dict(_wanted(kind))
    if kind in ("llava", "qwen2_vl"):
        wanted["vision.ffn"] = "x2"  # a multiple of its width
    if kind == "qwen3_5_moe":
        wanted["expert_ffn"] = wanted.pop("ffn")
    if kind == "granite4_vision":
        wanted = {"vision.ffn": "+5"}
    if kind in ("blip-2", "instructblip", "glm_ocr", "moss_transcribe_diarize"):
        wanted.pop("hidden")  # OPT's heads fill it; what follows the others' towers normalises over as much
    large = grown(small, **wanted)
    assert error(small, large, given(small, kind)) < EXACT
    stacks = ("vision", "audio")
    before, after = (named(anatomy_of(each).sizes, stacks) for each in (small, large))
    assert all(after[axis] > before[axis] for axis in wanted if axis in after)
    assert {"vision.ffn", "audio.ffn"} & after.keys() & wanted.keys()


def _wanted(kind: str) -> Sizes:
    if any(tower.stack == "audio" for tower in WRAPPERS[kind].towers):
        return HEARD
    return ALL if kind in WIDE else NARROW


def test_a_word_without_a_stack_s_means_the_language_model_s() -> None:
    """And where that has none, as one of experts has no ffn, no tower's in its place."""
    small = seeing("qwen3_5_moe")
    for more in ({}, {"vision.ffn": "+5"}):
        with pytest.raises(SizeError, match="^ffn is no axis of this .*, which has hidden, .*expert_ffn"):
            grown(small, ffn="x2", **more)
    assert "ffn" not in named(anatomy_of(small).sizes, ("vision",))


@pytest.mark.parametrize("told", ["before", "twice"])
def test_a_state_before_the_end_is_read_behind_the_layers_that_it_was_read_behind(told: str) -> None:
    small = seeing("llava", told)
    large = grown(small, **ALL)
    assert large.config.vision_feature_layer == small.config.vision_feature_layer
    assert error(small, large, given(small, "llava")) < EXACT
    first = grown(small, **{"vision.layers": "+2"}, layers_at=(0, 3))
    assert error(small, first, given(small, "llava")) < EXACT
    assert first.config.vision_feature_layer == (-2 if told == "before" else [-2, 2])


def test_layers_that_nothing_reads_are_refused() -> None:
    small = seeing("llava", "before")
    with pytest.raises(SizeError, match="nothing reads what comes behind the first 3 layers.*layers-at 3"):
        plan(small, **LAST, layers_at=(4,))


def test_a_key_that_says_another_state_is_refused_and_breaks() -> None:
    """The check can fail: a plan that leaves the key to another state, and one whose new layer none reads."""
    small = seeing("llava", "twice")
    anatomy, made = anatomy_of(small), plan(small, **LAST, layers_at="start")
    assert made.config["vision_feature_layer"] == [-2, 2]
    said = to_json(made)
    old = {"vision_feature_layer": [-2, 1]}
    steps = [{**step, "config": {**step["config"], **old}} for step in said["steps"]]
    spoilt = from_json({**said, "steps": steps, "config": {**said["config"], **old}})
    with pytest.raises(LawError, match="behind 3, 0 of its old layers, and before behind 3, 1"):
        check(anatomy, spoilt)
    with float64():
        large = grow_module(small, anatomy, spoilt)
    assert error(small, large, given(small, "llava")) > BROKEN


def test_what_the_projector_reads_of_new_channels_is_seen() -> None:
    small = seeing("paligemma")
    large = grown(small, **WIDER)
    assert error(small, large, given(small, "paligemma")) < EXACT
    with torch.no_grad():
        large.model.vision_tower.encoder.layers[0].mlp.fc2.weight[20:] += 0.1
    assert error(small, large, given(small, "paligemma")) > BROKEN


def test_layers_that_nothing_reads_have_no_gradient_and_all_new_ones_have() -> None:
    """Autograd of the class, after the switches are open, against the laws' network."""
    small = seeing("llava", "before")
    made = plan(small, **ALL)
    anatomy = anatomy_of(small)
    assert all(life.step for life in lives(anatomy, network(anatomy, made)))
    with float64():
        large: Any = grow_module(small, anatomy, made)
        with torch.no_grad():
            for weight in large.parameters():
                weight += 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        batch = {k: x.double() if x.is_floating_point() else x for k, x in given(small, "llava").items()}
        large(**batch).logits.square().sum().backward()
    tower = {n: w.grad for n, w in large.named_parameters() if "vision_tower" in n and "layers." in n}
    silent = {name for name, grad in tower.items() if grad is None or not grad.any()}
    keys = {name for name in tower if name.endswith("k_proj.bias")}  # the softmax cancels them
    assert silent - keys == {name for name in tower if ".layers.5." in name} - keys


@pytest.mark.parametrize(
    ("kind", "wanted", "why"),
    [
        ("gemma3", {"vision.hidden": 40}, "reads as many channels, and no rule is known"),
        ("qwen3_vl", {"vision.hidden": 32}, "normalises them together"),
        ("granite4_vision", {"vision.layers": 3}, "stands in pairs"),
        ("glm4v", {"vision.layers": 3}, "no table is known of what stands beside its language model"),
        ("fuyu", {"audio.layers": 3}, "no table is known of what stands beside its language model"),
        ("llava", {"audio.layers": 3}, "no table is known of such a tower in it"),
        ("llava", {"vision.kv_heads": 3}, "whose vision has vision.hidden, vision.ffn, vision.heads"),
        ("llava", {"vision.layers": "x0.6"}, "would shrink vision.layers from 2 to 1.2: give more than 2"),
    ],
)
def test_what_can_t_grow_is_refused_with_its_reason(kind: str, wanted: Sizes, why: str) -> None:
    with pytest.raises(SizeError, match=why):
        plan(seeing(kind), **wanted)


def test_a_word_without_the_tower_s_means_the_language_model() -> None:
    made = plan(seeing("llava", "before"), **BOTH)
    assert {step.axis for step in made.steps} == {"ffn", "group", "layers", "vision_ffn"}


def test_a_grown_tower_leaves_caches_of_the_language_model_valid() -> None:
    small = seeing("llava", "before")
    found = caches_of(anatomy_of(small), plan(small, **WIDER))
    assert found.valid and found.layers.keys() == {"layers"}
    assert not caches_of(anatomy_of(small), plan(small, head_dim=20)).valid


def test_a_name_with_an_underscore_means_the_tower_too() -> None:
    assert plan(seeing("paligemma"), **{**LAST, "vision_ffn": 40}).target.of("vision_ffn") == 40


@pytest.mark.parametrize("kind", WRAPPERS)
def test_the_tower_that_a_config_leaves_out_is_the_class_s(kind: str) -> None:
    """And `named` is where its class is made by the name that the config has."""
    own: Any = transformers.CONFIG_MAPPING[kind]
    for tower in WRAPPERS[kind].towers:
        assert getattr(own(), tower.config).model_type == tower.kind
        assert (own.sub_configs[tower.config] is transformers.AutoConfig) == tower.named
        if tower.state is not None:
            default = getattr(own(), tower.state.name)
            assert tower.state.default == (tuple(default) if isinstance(default, list) else default)


def test_another_tower_is_that_which_the_config_names() -> None:
    source = {"model_type": "llava", "text_config": {"model_type": "llama"}}
    assert layout_of({**source, "vision_config": {"model_type": "dinov2"}}).slots["vision.attn.scale"]
    unknown = layout_of({**source, "vision_config": {"model_type": "timm_wrapper"}})
    assert unknown.stacks == () and "no table is known" in unknown.apart["vision"]
    assert not any("vision" in axis for slot in unknown.table for axis in slot.axes)


# ── on disk, with the proof ──


@pytest.mark.slow
def test_a_folder_grows_in_its_tower_and_is_proven_with_images(tmp_path: Path) -> None:
    """Files keep their names, and the large folder loads whole."""
    made: Any = class_of("llava")(seeing("llava", "before").config)
    made.save_pretrained(tmp_path / "small")
    grow_checkpoint(tmp_path / "small", tmp_path / "large", **ALL)
    report = verify(tmp_path / "small", tmp_path / "large")
    assert report.passed, str(report)
    found = {each.name: each for each in report.checks}
    assert "images" in found["float64"].detail and found["liveness"].passed
    _, info = class_of("llava").from_pretrained(tmp_path / "large", output_loading_info=True)
    assert not any(info.values())


@pytest.mark.slow
def test_own_dtype_is_held_against_the_function_that_its_attention_computes() -> None:
    """PaliGemma's texts without images look ahead under torch's attention, and not under its own."""
    source: Any = dict(wrapped.config("paligemma", "gemma", False))
    made: Any = class_of("paligemma")(transformers.PaliGemmaConfig.from_dict(source)).eval()
    figures: Any = verify(made, isogrow.grow(made, ffn="+5")).figures
    found = figures["own_dtype"]
    assert max(found["small_to_exact"], found["large_to_exact"], found["noise"]) < 1e-3
    assert NoiseFloor({"a": {"x": Difference(3.0, 1.0, 0, 0, 1)}}).within(2.0).by == {}


def test_a_dtype_that_a_class_notes_and_never_reads_is_no_change() -> None:
    cast: Any = class_of("paligemma")(seeing("paligemma").config).bfloat16()
    assert isogrow.grow(cast, ffn="+5").config.text_config.intermediate_size == 45


def test_images_are_counted_and_not_their_patches() -> None:
    small: Any = seeing("qwen2_5_vl")
    report = verify(small, grown(small, **{"vision.ffn": "+5"}))
    assert "3 images" in next(each.detail for each in report.checks if each.name == "float64")


EAR = {
    "num_mel_bins": 5, "hidden_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 80, "max_source_positions": 12,
}  # fmt: skip
EARS: Mapping[str, tuple[Any, Sizes]] = {
    "qwen2_audio": (transformers.Qwen2AudioForConditionalGeneration, HEARD),
    "voxtral": (transformers.VoxtralForConditionalGeneration, {**HEARD, "audio.ffn": 80}),  # which is refused
    "audioflamingo3": (transformers.AudioFlamingo3ForConditionalGeneration, HEARD),
    "musicflamingo": (transformers.MusicFlamingoForConditionalGeneration, HEARD),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind == "qwen2_audio" else pytest.mark.sweep) for kind in EARS]
)
def test_a_tower_for_sound_grows_and_is_proven_with_sound(kind: str, tmp_path: Path) -> None:
    made, wanted = EARS[kind]
    text, tower = WRAPPERS[kind].text, WRAPPERS[kind].towers[0].kind
    source = {
        "text_config": {**TEXTS[text], "model_type": text}, "audio_config": {**EAR, "model_type": tower},
        "audio_token_id": 50, "audio_token_index": 50,
    }  # fmt: skip
    made(transformers.CONFIG_MAPPING[kind].from_dict(source)).save_pretrained(tmp_path / "small")
    grow_checkpoint(tmp_path / "small", tmp_path / "large", **wanted)
    report = verify(tmp_path / "small", tmp_path / "large")
    assert report.passed, str(report)
    assert "sounds" in next(each.detail for each in report.checks if each.name == "float64")


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("heard", [True, False])
def test_a_proof_says_which_of_two_towers_it_did_not_run(
    streamed: bool, heard: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is shown nothing but images has its tower for sound named."""
    cast(Any, seeing("qwen2_5_omni_thinker")).save_pretrained(tmp_path / "small")
    grow_checkpoint(tmp_path / "small", tmp_path / "large", hidden=28)
    if not heard:
        monkeypatch.setattr(sounds, "sounded", lambda *_: None)
    report = verify(tmp_path / "small", tmp_path / "large", streamed=streamed)
    assert report.passed, str(report)
    found = {each.name: each for each in report.checks}
    assert ("3 sounds" in found["float64"].detail) == heard
    assert "3 images" in found["float64"].detail
    # Two embeddings of the tower's are read by what makes prompts, and by no run.
    missed = "projector.ends" if heard else "projector.ends and 1 more"
    assert f"reaches {missed}, which ran in neither" in found["towers"].detail


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("positions", [26, 64])
def test_texts_have_room_for_their_images(positions: int, streamed: bool, tmp_path: Path) -> None:
    """Of a class that reads no text without one, and whose rows have so many positions."""
    text = {**wrapped.config("blip-2", "opt", False)["text_config"], "max_position_embeddings": positions}
    cast(Any, edited("blip-2", {"text_config": text})).save_pretrained(tmp_path / "small")
    grow_checkpoint(tmp_path / "small", tmp_path / "large", **{"vision.ffn": "+5"})
    report = verify(tmp_path / "small", tmp_path / "large", streamed=streamed)
    found = {each.name: each for each in report.checks}
    assert report.passed and found["liveness"].passed, str(report)
    assert "images" in found["float64"].detail and "towers" not in found


def test_a_class_that_reads_no_text_without_an_image_is_refused_where_none_can_be_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = seeing("blip-2")
    large = grown(small, **{"vision.ffn": "+5"})
    monkeypatch.setattr(sounds, "pictured", lambda *_: None)
    said = (
        "Blip2ForConditionalGeneration reads no text without an image, and it runs none that isogrow makes of"
    )
    with pytest.raises(IsogrowError, match=said):
        verify(small, large)


GEMMA_EAR = {
    "model_type": "gemma4_audio", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "output_proj_dims": 12, "subsampling_conv_channels": [4, 4],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "more", "wanted", "missed"),
    [
        ("aria", {"vision_config": {**wrapped.eye("idefics3_vision")["vision_config"], "image_size": 42}},
         {"vision.ffn": "+5"}, "vision.mlp.up"),
        ("gemma4", {"audio_config": GEMMA_EAR, "audio_token_id": 49}, {"hidden": 28}, "projector.sound"),
    ],
)  # fmt: skip
def test_what_a_tower_s_class_refuses_is_said_and_no_fault(
    kind: str, more: Mapping[str, Any], wanted: Sizes, missed: str
) -> None:
    """An image of a size that it has no number for; another attention kernel."""
    small = edited(kind, more)
    report = verify(small, grown(small, **wanted), liveness=False)
    assert report.passed, str(report)
    found = {each.name: each for each in report.checks}
    assert f"reaches {missed}" in found["towers"].detail


def test_patches_are_merged_by_as_many_as_the_config_says() -> None:
    told = {
        **wrapped.config("qwen2_5_vl", "qwen2_5_vl_text", False)["vision_config"],
        "spatial_merge_size": 3,
    }
    small: Any = edited("qwen2_5_vl", {"vision_config": {**told, "window_size": 24}})
    found = given(small, "qwen2_5_vl")
    assert found["image_grid_thw"].tolist() == [[1, 6, 12]] * 2
    assert error(small, grown(small, **{"vision.ffn": "+5"}), found) < EXACT


class Strided(nn.Module):
    """A tower whose states have a height and a width, as those of another library's convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 64, 64)

    def forward(self, pixels: torch.Tensor, return_dict: bool = True) -> BaseModelOutputWithPooling:
        return BaseModelOutputWithPooling(last_hidden_state=self.patches(pixels))


def test_an_image_has_a_size_where_no_config_says_one() -> None:
    """FastVLM's tower is another library's, whose config has none, or has it among its arguments."""
    made: Any = class_of("fast_vlm")(seeing("fast_vlm").config)
    made.model.vision_tower = Strided(made.config.vision_config.hidden_size)
    made.float()
    for args, side in ((None, 256), ({"img_size": [128, 192]}, (128, 192))):
        made.config.vision_config = transformers.TimmWrapperConfig(model_args=args)
        found: Any = pictured(made, torch.arange(10).reshape(2, 5))
        assert found["pixel_values"].shape[-2:] == (side if isinstance(side, tuple) else (side, side))
        assert int((found["input_ids"] == wrapped.IMAGE).sum()) == found["pixel_values"].numel() // 3 // 64**2


def test_tokens_of_an_image_take_no_other_s_place() -> None:
    config: Any = transformers.Qwen2_5OmniThinkerConfig(image_token_id=2, audio_token_id=1, video_token_id=0)
    found = among(config, torch.tensor([[2, 3, 2, 5]]), 2, 3)
    assert found[0, 1:4].tolist() == [2, 2, 2]
    assert not {0, 1, 2} & set(found[0, [0, 4, 5, 6]].tolist())


def test_frames_as_wide_as_ffn_are_refused() -> None:
    own = transformers.VoxtralConfig()
    layout = layout_of(own.to_dict())
    assert "several of its frames" in str(layout.refused("audio_ffn", own.to_dict()))
    assert replace(layout, lifted={"audio_ffn": "True"}).refused("audio_ffn", own.to_dict()) is None
