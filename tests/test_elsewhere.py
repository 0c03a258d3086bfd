"""`isogrow verify --engine`: a grown model in another engine, which here is one that is made up."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import transformers
from command import isogrow as run
from safetensors.torch import load_file, save_file

import isogrow
from isogrow.engines import ENGINES
from isogrow.errors import EngineError, SizeError
from isogrow.verification.elsewhere import apart
from isogrow.verification.elsewhere.outputs import batches_of, farthest
from isogrow.verification.elsewhere.proof import verify_in
from isogrow.verification.runners import RUNNERS, llama_cpp, runner_for
from isogrow.verification.runners import transformers as plain
from isogrow.verification.runners.runner import Ids, Logits, Run, Runner, commanded

SIZES: dict[str, Any] = {"hidden": 36, "heads": 6, "ffn": 57, "layers": "+1"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small model and the grown one; nobody writes to them."""
    folder = tmp_path_factory.mktemp("pair")
    tiny.model("GPT2LMHeadModel").save_pretrained(folder / "small")
    isogrow.grow_checkpoint(folder / "small", folder / "large", **SIZES)
    return folder / "small", folder / "large"


@pytest.fixture
def nudged(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    """The grown model with one weight a hundredth larger."""
    out = tmp_path / "nudged"
    out.mkdir()
    for path in pair[1].iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    weights = load_file(out / "model.safetensors")
    name = next(name for name in weights if name.endswith("h.0.mlp.c_fc.weight"))
    weights[name][2, 3] += 0.01
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    return out


@pytest.fixture(autouse=True)
def inside(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The engine runs in this process; what starts another one is handed to the tests of that."""
    apart_from_here = apart.started

    def here(engine: str, work: Path) -> str:
        apart.carried_out(engine, work)
        return ""

    monkeypatch.setattr(apart, "started", here)
    return apart_from_here


def engine(monkeypatch: pytest.MonkeyPatch, load: Callable[[Path, Path], Run], *modules: str) -> str:
    """An engine whose table is CTranslate2's, and whose code is given."""
    monkeypatch.setitem(RUNNERS, "ctranslate2", Runner("ctranslate2", modules, load))
    return "ctranslate2"


def with_its_own_epsilon(folder: Path, scratch: Path) -> Run:
    """What CTranslate2 does to a GPT-2, more of it: ε is one of its own whatever the config says."""
    model = plain.model_of(folder, torch.float32)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-3
    return lambda ids: plain.computed(model, ids)


# ── what passes, and what does not ──


def test_a_good_one_passes(pair: tuple[Path, Path]) -> None:
    report = verify_in("transformers", *pair)
    (check,) = report.checks
    assert report.passed and check.name == "transformers" and check.detail.startswith("60 tokens, noise")
    assert check.value is not None and check.limit is not None and 0 < check.value < check.limit < 1e-4


def test_a_nudged_one_does_not(pair: tuple[Path, Path], nudged: Path) -> None:
    report = verify_in("transformers", pair[0], nudged)
    (check,) = report.failed
    assert not report.passed and "too, so the grown model computes something else" in check.detail
    assert check.detail.startswith("row ") and check.value is not None and check.value > 1e-4


def test_an_engine_with_a_number_of_its_own(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The small model is off there as well, which is not asked; what the table knows of it is told."""
    (check,) = verify_in(engine(monkeypatch, with_its_own_epsilon), *pair).failed
    assert "so the engine reads the grown one otherwise" in check.detail
    assert check.detail.endswith("which goes from 1e-05 to 6.66667e-06; --for ctranslate2 keeps it")


def test_a_grown_one_that_the_engine_refuses(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(folder: Path, scratch: Path) -> Run:
        if folder.name == "large":
            raise ValueError("axis 2 has dimension 128\nbut expected 192")
        return plain.load(folder, scratch)

    (check,) = verify_in(engine(monkeypatch, load), *pair).failed
    assert check.detail.startswith(
        "it does not run the grown model: ValueError: axis 2 has dimension 128 but expected 192; CTranslate2"
    )


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (lambda folder, scratch: 1 / 0, "does not run small, .*: ZeroDivisionError: division by zero$"),
        (
            lambda folder, scratch: lambda ids: np.full((*ids.shape, 53), np.nan),
            "computes no finite numbers for small: correct its weights",
        ),
    ],
)
def test_a_small_one_that_the_engine_refuses(
    load: Any, said: str, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match=said):
        verify_in(engine(monkeypatch, load), *pair)


def test_noise_gives_room(pair: tuple[Path, Path], nudged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose outputs depend on how many rows a batch has can prove no more than that."""

    def load(folder: Path, scratch: Path) -> Run:
        exact = plain.load(folder, scratch)
        return lambda ids: exact(ids) * np.float32(1 + 0.01 * (len(ids) == 1))

    report = verify_in(engine(monkeypatch, load), pair[0], nudged)
    assert report.passed and "noise 1.0e-02" in report.checks[0].detail


def test_an_engine_that_is_nowhere_near_itself_proves_nothing(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(folder: Path, scratch: Path) -> Run:
        exact = plain.load(folder, scratch)
        return lambda ids: exact(ids) * np.float32(1 + (len(ids) == 1))

    with pytest.raises(EngineError, match="otherwise in every batch, off by 1.0e.00 from itself, so nothing"):
        verify_in(engine(monkeypatch, load), *pair)


def test_an_encoder_and_a_decoder(tmp_path: Path) -> None:
    sizes = dict(vocab_size=53, d_model=24, d_kv=6, d_ff=34, num_layers=2, num_heads=3)
    config = transformers.T5Config(**sizes, decoder_start_token_id=0)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "small")
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", ffn="x2")
    assert verify_in("transformers", tmp_path / "small", tmp_path / "large").passed


# ── outputs ──


def test_batches_have_the_same_rows() -> None:
    first, turned, one, two, three = batches_of(53, 20)
    assert first.shape == (2, 18) and first.min() > 0 and first.max() < 53
    assert np.array_equal(turned, first[::-1]) and np.array_equal(three[1], first[0])
    assert np.array_equal(one, first[:1]) and np.array_equal(two, first[1:])


def test_where_outputs_differ() -> None:
    before: Logits = np.array([[[1.0, -4.0]]], dtype=np.float32)
    after: Logits = np.array([[[1.5, -4.0]]], dtype=np.float32)
    found = farthest([before, before], [before, after])
    assert (found.relative, found.where) == (0.125, "row 0, token 0, id 0: 1.5 for 1")
    assert farthest([before], [after * np.nan]).relative == np.inf
    other = farthest([before], [after[..., :1]])
    assert other.relative == np.inf and other.where.startswith("its outputs have shape (1, 1, 1)")


# ── who can be asked ──


def test_every_runner_is_of_an_engine_that_says_what_to_install() -> None:
    for name, runner in RUNNERS.items():
        assert name == runner.engine and name in ENGINES
        assert ENGINES[name].packages or runner.modules == ("transformers",)
    assert {name for name, each in ENGINES.items() if each.packages} <= RUNNERS.keys()


def test_who_can_not_be_asked(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SizeError, match="'ctranslate' is no engine that is known: give one of"):
        verify_in("ctranslate", *pair)
    with pytest.raises(
        EngineError,
        match="vLLM 0.33.0 is known by its tables alone, .* can't run it: give one of ctranslate2, ",
    ):
        verify_in("vllm", *pair)
    with pytest.raises(EngineError, match="^tensor parallelism over 2 is known by its tables alone"):
        verify_in("tp=2", *pair)
    name = engine(monkeypatch, with_its_own_epsilon, "no_such_module")
    with pytest.raises(
        EngineError, match=r"not installed here \(no_such_module is missing\): pip install ctr"
    ):
        runner_for(name)


# ── a process of its own ──


@pytest.mark.slow
def test_it_runs_apart(pair: tuple[Path, Path], tmp_path: Path, inside: Any, monkeypatch: Any) -> None:
    """What the engine refuses of one model is that model's answer alone."""
    monkeypatch.setattr(apart, "started", inside)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    ids: Ids = batches_of(53)[0][:, :7]
    right, wrong = apart.ran("transformers", [pair[0], tmp_path], [ids, ids[:1]])
    assert [each.shape for each in right.outputs] == [(2, 7, 53), (1, 7, 53)] and not right.refused
    assert np.array_equal(right.outputs[0], plain.load(pair[0], tmp_path)(ids))
    assert wrong.outputs == () and "no file named model.safetensors" in wrong.refused


def test_a_process_that_dies_says_so(inside: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell stands for a Python whose engine aborts."""
    shell = tmp_path / "python"
    shell.write_text("#!/bin/sh\necho 'GGML_ASSERT(n > 0) failed' >&2\nkill -ABRT $$\n")
    shell.chmod(0o700)
    monkeypatch.setattr(apart.sys, "executable", str(shell))
    assert inside("ctranslate2", tmp_path) == (
        "its process ended with signal SIGABRT: GGML_ASSERT(n > 0) failed"
    )
    monkeypatch.setattr(apart, "started", inside)
    (ran,) = apart.ran("ctranslate2", [tmp_path], [])
    assert ran.refused.startswith("its process ended with signal SIGABRT")


def test_a_converter_that_fails_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"no such model \(exit code 3\)"):
        commanded("-S", "-c", "import sys; print('no such model', file=sys.stderr); sys.exit(3)")


# ── llama.cpp's converter, which is no package ──

SCRIPT = """
import json, logging, pathlib, sys
def get_model_class(name):
    class Model:
        model_arch = 1
        def set_vocab(self): raise AssertionError("no tokenizer is known")
        def modify_tensors(self, data_torch, name, bid): return data_torch
    return Model
def main():
    made = get_model_class("m")()
    made.hparams, made.gguf_writer = {"vocab_size": 53}, Writer()
    made.set_vocab()
    if "refused" in sys.argv[1]:
        logging.getLogger("converter").error("Model Refused is not supported")
        sys.exit(1)
    weight = made.modify_tensors(1.0, "w", None)
    folder = pathlib.Path(sys.argv[1])
    tokens = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "tokenizer.json"]
    open(sys.argv[3], "w").write(f"{tokens} {made.gguf_writer.said} {sys.argv[4:]} {weight}")
class Writer:
    said = ""
    def add_tokenizer_model(self, name): self.said += name
    def add_vocab_size(self, count): self.said += f" {count}"
"""


def test_a_converter_in_a_folder_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is run as in a shell, but for the vocabulary; what it logged last says why it ends."""
    monkeypatch.delenv("LLAMA_CPP_SOURCE", raising=False)
    with pytest.raises(EngineError, match="LLAMA_CPP_SOURCE is not set.: set LLAMA_CPP_SOURCE to the folder"):
        llama_cpp.source()
    monkeypatch.setenv("LLAMA_CPP_SOURCE", str(tmp_path))
    with pytest.raises(
        EngineError, match="which holds convert_hf_to_gguf.py; llama-cpp-python's source arch"
    ):
        llama_cpp.source()
    (tmp_path / "convert_hf_to_gguf.py").write_text(SCRIPT)
    before = list(sys.path), list(sys.argv)
    small = tmp_path / "small"
    small.mkdir()
    (small / "config.json").write_text('{"text_config": {"vocab_size": 53}}')
    (small / "tokenizer.model").write_text("which the script is not shown")
    try:
        llama_cpp.converted(small, tmp_path / "m.gguf")
        assert (tmp_path / "m.gguf").read_text() == "53 none 53 ['--outtype', 'f32'] 1.0"
        llama_cpp.converted(small, tmp_path / "n.gguf", "bf16", more=0.5)
        assert (tmp_path / "n.gguf").read_text() == "53 none 53 ['--outtype', 'bf16'] 1.5"
        with pytest.raises(RuntimeError, match="^Model Refused is not supported$"):
            llama_cpp.converted(small, tmp_path / "refused.gguf")
    finally:
        sys.modules.pop("convert_hf_to_gguf", None)
    assert (sys.path, sys.argv) == before


# ── the command ──


def test_the_command(pair: tuple[Path, Path], nudged: Path) -> None:
    good = run("verify", *pair, "--engine", "transformers", "--json")
    assert (good.code, good.json["passed"], len(good.json["checks"])) == (0, True, 1)
    bad = run("verify", pair[0], nudged, "--engine", "transformers")
    assert bad.code == 1 and "failed: transformers: row " in bad.err
    more = run("verify", *pair, "--engine", "transformers", "--bytes")
    assert more.code == 2 and "leave out --plan, --bytes, --streamed and --config" in " ".join(
        more.err.split()
    )
    gone = run("verify", *pair, "--engine", "openvinos")
    assert gone.code == 2 and "is no engine that is known" in gone.err
