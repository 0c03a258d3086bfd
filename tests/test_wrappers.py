"""A language model in a wrapper grows as it does alone, and what the tower says of an image stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from families import BROKEN, EXACT, randomized
from safetensors import safe_open
from torch import Tensor, nn
from wrapped import IMAGE, OWN, TEXTS, class_of, config, error, given, grown, model

import isogrow
from isogrow.errors import FamilyError
from isogrow.families import layout_for, layout_of
from isogrow.families.wrappers import WRAPPERS
from isogrow.growth.models import anatomy_of
from isogrow.layouts.config import edited
from isogrow.layouts.mounting import mounted
from isogrow.stores.sources import open_checkpoint
from isogrow.verification import verify
from isogrow.verification.float64 import build, float64

PAIRS = (
    ("llava", "llama"), ("llava", "qwen3"), ("vipllava", "llama"), ("mistral3", "mistral"),
    ("internvl", "qwen2"), ("gemma3", "gemma3_text"), ("paligemma", "gemma"), ("paligemma", "gemma2"),
    ("aya_vision", "cohere"),
    ("cohere2_vision", "cohere"), ("llava_next", "mistral"),
    ("llava_onevision", "qwen2"),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize(("kind", "text"), PAIRS)
def test_text_and_images_are_read_as_before(kind: str, text: str, tie: bool) -> None:
    small = model(kind, text, tie)
    batch = given(small, kind)
    assert int((batch["input_ids"] == IMAGE).sum()) > 0
    large = grown(small, ffn=51, heads="x2", layers="+1", hidden=40)
    assert error(small, large, batch) < EXACT
    before, after = (anatomy_of(each).sizes for each in (small, large))
    assert {axis for axis in before.values if before.of(axis) != after.of(axis)} >= {
        "hidden",
        "ffn",
        "layers",
    }


EAR = {
    "num_mel_bins": 5, "hidden_size": 20, "intermediate_size": 40, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_source_positions": 10, "d_model": 20, "encoder_layers": 1,
    "encoder_attention_heads": 2, "encoder_ffn_dim": 40, "head_dim": 10,
}  # fmt: skip
HEARING = {
    "AudioFlamingo3": ("audioflamingo3", "audioflamingo3_encoder", "qwen2"),
    "MusicFlamingo": ("musicflamingo", "audioflamingo3_encoder", "qwen2"),
    "Voxtral": ("voxtral", "voxtral_encoder", "llama"),
    "Qwen2Audio": ("qwen2_audio", "qwen2_audio_encoder", "qwen2"),
}


def hearing(name: str) -> nn.Module:
    """A small model that takes sound."""
    kind, ear, text = HEARING[name]
    made = getattr(transformers, f"{name}ForConditionalGeneration")
    own = transformers.CONFIG_MAPPING[kind].from_dict(
        {
            "model_type": kind,
            "text_config": {**TEXTS[text], "model_type": text, "tie_word_embeddings": False},
            "audio_config": {"model_type": ear, **EAR},
        }
    )
    with torch.device("meta"):
        shapes = {key: tuple(x.shape) for key, x in made(own).state_dict().items()}
    return build(made, own, randomized(shapes, 0, 0.2))


def heard(model: Any) -> Tensor:
    """The logits of a text behind features of sound, as the projector gives them to the language model."""
    projector = model.model.multi_modal_projector
    first = next(each for each in projector.modules() if isinstance(each, nn.Linear))
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(1, 6, first.in_features, generator=generator, dtype=torch.float64)
    with float64(), torch.no_grad():
        text = model.get_input_embeddings()(torch.arange(9)[None])
        return model(inputs_embeds=torch.cat([projector(features), text], 1)).logits


@pytest.mark.slow
@pytest.mark.parametrize("name", HEARING)
def test_text_and_sound_are_read_as_before(name: str) -> None:
    """The tower is the same, bit by bit, and so are its features; these classes never tie the head, whatever
    their config says (transformers 5.23)."""
    small = hearing(name)
    large = grown(small, ffn=51, heads="x2", layers="+1", hidden=40)
    old, new = small.state_dict(), large.state_dict()
    assert all(torch.equal(old[key], new[key]) for key in old if "audio_tower" in key)
    a, b = heard(small), heard(large)
    assert float((a - b).abs().max() / a.abs().max()) < EXACT
    with torch.no_grad():
        large.get_submodule("model.multi_modal_projector").get_parameter(
            "linear.weight" if name == "Qwen2Audio" else "linear_2.weight"
        )[24:] += 0.1
    assert float((a - heard(large)).abs().max() / a.abs().max()) > BROKEN


def test_an_epsilon_that_the_projector_reads_too_is_kept() -> None:
    """Mistral 3's projector normalises with the text's epsilon (transformers 5.23), which a wider residual
    would edit: what writes the residual is scaled instead."""
    small = model("mistral3", "mistral")
    large = grown(small, hidden=28)
    assert large.config.text_config.rms_norm_eps == small.config.text_config.rms_norm_eps
    edited_too = grown(small, hidden=28)
    edited_too.config.text_config.rms_norm_eps *= 24 / 28
    edited_too.model.multi_modal_projector.norm.variance_epsilon *= 24 / 28
    batch = given(small, "mistral3")
    assert error(small, large, batch) < EXACT
    assert error(small, edited_too, batch) > BROKEN


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "text"), [("llava", "llama"), ("gemma3", "gemma3_text"), ("paligemma", "gemma2")]
)
@pytest.mark.parametrize("wanted", [{"head_dim": 20}, {"kv_heads": 4}, {"hidden": 28}, {"layers": "+2"}])
def test_each_axis_alone(kind: str, text: str, wanted: dict[str, Any]) -> None:
    small = model(kind, text)
    assert error(small, grown(small, **wanted), given(small, kind)) < EXACT


def test_a_projector_that_writes_to_new_channels_is_seen() -> None:
    """The same with a wrong layout's numbers: what the tower says would reach new channels."""
    small = model("llava", "llama")
    large = grown(small, hidden=32)
    with torch.no_grad():
        large.model.multi_modal_projector.linear_2.weight[24:] += 0.1
    batch = given(small, "llava")
    assert error(small, large, batch) > BROKEN
    text = {"input_ids": batch["input_ids"] % IMAGE}
    assert error(small, large, text) < EXACT


def test_the_tower_is_carried_bit_by_bit_where_the_language_model_grows() -> None:
    small = model("gemma3", "gemma3_text")
    large = grown(small, hidden=36, layers="+1")
    old, new = small.state_dict(), large.state_dict()
    tower = [name for name in old if "vision_tower" in name or "mm_soft_emb_norm" in name]
    assert tower
    assert all(torch.equal(old[name], new[name]) for name in tower)


# ── on disk ──


@pytest.fixture(scope="module", params=[("llava", "llama", False), ("gemma3", "gemma3_text", True)], ids=str)
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    kind, text, tie = request.param
    folder = tmp_path_factory.mktemp(kind)
    small = class_of(kind)(transformers.CONFIG_MAPPING[kind].from_dict(config(kind, text, tie)))
    small.load_state_dict(model(kind, text, tie).state_dict())
    small.save_pretrained(folder / "small")  # under old names: what loads them is what names them so
    isogrow.grow_checkpoint(folder / "small", folder / "large", hidden=36, ffn=51, layers="+1")
    return folder / "small", folder / "large"


def names(folder: Path) -> set[str]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return set(file.keys())


def test_files_keep_the_names_that_they_came_with(folders: tuple[Path, Path]) -> None:
    small, large = map(names, folders)
    assert small < large
    assert {name.partition(".layers.2.")[0] for name in large - small} == {"language_model.model"}


def test_a_distributed_checkpoint_has_the_class_s_own_names(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    isogrow.grow_checkpoint(folders[0], tmp_path / "out", format="distributed", ffn=51)
    found = open_checkpoint(tmp_path / "out")
    own = class_of(str(found.config["model_type"]))(
        transformers.CONFIG_MAPPING[str(found.config["model_type"])].from_dict(dict(found.config))
    )
    text = {name for name in found.headers if "vision_tower" not in name}
    assert text <= own.state_dict().keys()


@pytest.mark.slow
def test_the_folder_is_proven_with_images(folders: tuple[Path, Path]) -> None:
    report = verify(*folders)
    assert report.passed, str(report)
    found = {check.name: check for check in report.checks}
    assert "images" in found["float64"].detail
    assert found["liveness"].passed


@pytest.mark.slow
def test_the_folder_loads_and_is_grown_again(folders: tuple[Path, Path], tmp_path: Path) -> None:
    small, large = folders
    kind = json.loads((large / "config.json").read_text())["model_type"]
    _, info = class_of(kind).from_pretrained(large, output_loading_info=True)
    assert not any(info.values())
    isogrow.grow_checkpoint(large, tmp_path / "again", ffn=60)
    assert verify(large, tmp_path / "again", liveness=False).passed
    assert open_checkpoint(tmp_path / "again").config["text_config"]["intermediate_size"] == 60


# ── the layouts ──


def test_a_language_model_that_is_not_known_is_named() -> None:
    with pytest.raises(FamilyError, match="model_type 'none' is not known"):
        layout_of({"model_type": "llava", "text_config": {"model_type": "none"}})


@pytest.mark.parametrize("kind", WRAPPERS)
def test_the_family_that_a_config_leaves_out_is_the_class_s(kind: str) -> None:
    text = transformers.CONFIG_MAPPING[kind]().text_config.model_type
    assert WRAPPERS[kind].text == text


@pytest.mark.slow
@pytest.mark.parametrize("kind", OWN)
def test_ties_are_as_the_class_has_them(kind: str) -> None:
    """Whatever the two keys say, and where they say nothing."""
    text = next((text for each, text in PAIRS if each == kind), WRAPPERS[kind].text)
    for top in (True, False, None):
        for own in (True, False):
            source = config(kind, text, own)
            source.pop("tie_word_embeddings")
            source |= {} if top is None else {"tie_word_embeddings": top}
            read = transformers.CONFIG_MAPPING[kind].from_dict(dict(source))
            layout = layout_of(source)
            said = layout.holds(layout.streams[0].tie, source)
            inside = read.text_config if WRAPPERS[kind].tie is None else read  # a class with a head
            assert said == getattr(inside, "tie_word_embeddings", False), (top, own)


@pytest.mark.parametrize(
    "text", ["llama", "gemma3_text", "qwen3", "gpt_oss", "bloom", "deepseek_v3", "mpt", "falcon"]
)
def test_a_mounted_layout_reads_what_the_plain_one_reads(text: str) -> None:
    """Law: whatever the config says, the mounted layout reads from under its key what the other one reads."""
    plain = layout_for(text)
    there = mounted(plain, "part.", "own.")
    source = json.loads(transformers.CONFIG_MAPPING[text]().to_json_string(use_diff=False))
    assert there.read({"own": source}) == plain.read(source)
    sizes = plain.read(source)
    inside = {key.removeprefix("own."): value for key, value in there.written({"own": source}, sizes).items()}
    assert inside == plain.written(source, sizes)
    for a, b in zip(plain.attentions, there.attentions, strict=True):
        for rope, moved in zip(a.ropes, b.ropes, strict=True):
            assert moved.base({"own": source}) == rope.base(source)
            assert there.rotated(moved, {"own": source}, 64) == plain.rotated(rope, source, 64)
    for slot, moved in zip(plain.table, there.table, strict=True):
        index = tuple((axis, 0) for axis in slot.index)
        assert there.applies(moved, {"own": source}, index) == plain.applies(slot, source, index)
    assert [line.name for line in there.lines] == [
        line.name if line.slot.head else f"part.{line.name}" for line in plain.lines
    ]
    changed = edited(
        {"own": source}, {key: value for key, value in there.written({"own": source}, sizes).items()}
    )
    assert changed["own"] == edited(source, plain.written(source, sizes))
