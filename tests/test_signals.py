"""Models that take images, sound or fewer tokens than they have positions are proven like any other."""

from __future__ import annotations

import json
from pathlib import Path

import families as F
import pytest
import torch
import transformers
from sweeping import swept
from test_module import live

import isogrow
from isogrow.errors import CheckpointError, IsogrowError
from isogrow.growth.models import anatomy_of
from isogrow.growth.opening import opened
from isogrow.verification.runs import runs
from isogrow.verification.signals import signal_of, signals

TAKEN = {
    "whisper": "input_features",
    "moonshine": "input_values",
    "wav2vec2": "input_values",
    "audio-spectrogram-transformer": "input_values",
    "vivit": "pixel_values",
    "clip": "pixel_values",
    "siglip2": "pixel_values",
    "roberta": None,  # its positions begin behind the padding's number
    "nystromformer": None,  # its class takes no padding
}


def grown(name: str, small: torch.nn.Module) -> torch.nn.Module:
    (wanted,) = [sizes for axis, sizes in F.FAMILIES[name].growths.items() if axis.endswith("ffn")][:1]
    return isogrow.grow(small, **wanted)


@pytest.mark.slow
@pytest.mark.sweep("each")
@pytest.mark.parametrize("name", TAKEN)
def test_a_growth_is_proven_and_a_wrong_one_fails(name: str) -> None:
    small = live(name)
    assert signal_of(small) == TAKEN[name]
    large = grown(name, small)
    report = isogrow.verify(small, large)
    assert report.passed, str(report)
    with torch.no_grad():
        for matrix in (x for x in large.parameters() if x.dim() == 2):
            matrix[..., 0] += 1e-3
    assert not isogrow.verify(small, large, liveness=False).passed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["roberta", "nystromformer"])
def test_a_streamed_proof_skips_what_the_old_model_can_not_do(name: str) -> None:
    """Rows of the lengths, and padding, that its class takes, as in memory."""
    small = live(name)
    large = grown(name, small)
    whole = isogrow.verify(small, large, liveness=False)
    found = isogrow.verify(small, large, liveness=False, streamed=True)
    assert found.passed, str(found)
    for side in ("padding left", "padding right"):
        one, two = (next(c for c in each.checks if c.name == side) for each in (whole, found))
        assert (one.passed, one.detail) == (two.passed, two.detail)
        assert one.passed is (None if name == "nystromformer" else True)


def test_a_text_model_is_given_no_signal() -> None:
    assert signals(live("llama"), 3, seed=0) == {}


def test_every_sample_is_heard() -> None:
    """Sounds are as long as the convolutions need for some frames."""
    small = live("wav2vec2")
    (sound,) = signals(small, 2, seed=0).values()
    frames = small.wav2vec2.feature_extractor(sound).shape[-1]
    assert frames == 24


# Of which a file has parts of other sizes than the config says (findings/convolutions_are_cut_in_thirds.sh).
CUT = ("olmo_hybrid",)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", swept(F.FAMILIES, lambda name: name in ("vit", "vit_msn", "mixtral", "ultrabert"))
)
def test_what_the_class_writes_can_be_opened(name: str, tmp_path: Path) -> None:
    """Each of a family's, under whatever names: ViT's are others in a file than in memory, and of
    ViTMSNForImageClassification some have a prefix and some have none (transformers 5.24). In memory they
    are named as the layout names them."""
    family = F.FAMILIES[name]
    for i, kind in enumerate(family.classes):
        folder, model = tmp_path / str(i), F.class_of(kind)(F.config_of(family, F.labelled(family, kind)))
        model.save_pretrained(folder)
        assert all(stored.name == stored.source for stored in anatomy_of(model).stored)
        if name in CUT:
            with pytest.raises(CheckpointError, match="k_conv1d.weight has shape .21, 1, 4., but the"):
                opened(folder)
        else:
            assert opened(folder).anatomy.sizes.values


@pytest.mark.slow
def test_a_classifiers_file_is_proven_as_the_base_that_its_config_names(tmp_path: Path) -> None:
    """Of ViT-MSN: the names in its file are half of another kind than the base's own."""
    family, folder = F.FAMILIES["vit_msn"], tmp_path / "small"
    model = F.class_of("ViTMSNForImageClassification")(F.config_of(family, family.json()))
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["ViTMSNModel"]}))
    isogrow.grow_checkpoint(folder, tmp_path / "large", ffn="+5", layers="+1")
    for streamed in (False, True):
        report = isogrow.verify(folder, tmp_path / "large", streamed=streamed)
        assert report.passed and {check.name: check.passed for check in report.checks}["weights"]


def test_speech_to_text_hears_as_many_numbers_a_frame_as_its_config_says() -> None:
    family = F.FAMILIES["speech_to_text"]
    small = transformers.Speech2TextForConditionalGeneration(F.config_of(family, family.json()))
    heard = signals(small, 2, seed=5)["input_features"]
    assert heard.shape[-1] == small.config.input_feat_per_channel * small.config.input_channels
    assert small.model.encoder(heard).last_hidden_state.isfinite().all()


# Of which the config does not say how its input lies.
UNTOLD = (
    "cohere_compass_vision",
    "glmasr_encoder",
    "kimi_k25_vision",
    "muse_glimmer_vision",
    "nemotron3_diarization_audio",
    "qwen3_asr_encoder",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNTOLD)
def test_of_several_shapes_one_is_found_that_the_class_runs(name: str) -> None:
    small = live(name)
    given = signals(small, 2, seed=5)
    assert runs(small, given)
    assert all(torch.equal(x, given[key]) for key, x in signals(small, 2, seed=5).items())


@pytest.mark.slow
def test_where_none_is_run_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isogrow.verification.signals.runs", lambda model, given: False)  # pyright: ignore
    with pytest.raises(
        IsogrowError, match="takes input_features, and it runs none of the shapes that isogrow"
    ):
        signals(live("glmasr_encoder"), 2, seed=5)
