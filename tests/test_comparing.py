"""`verify --bytes`: any flipped bit is found, wherever it is, and what is missing or foreign is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command import GROWTH, checkpoints, isogrow

from isogrow import grow_checkpoint
from isogrow.growth.comparing import compare_bytes
from isogrow.stores.sources import open_checkpoint

SIZES = {"hidden": 36, "ffn": 50, "layers": "+1"}


@pytest.fixture(scope="module")
def small() -> Path:
    return checkpoints()["LlamaForCausalLM"]


@pytest.fixture(scope="module")
def grown(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bytes") / "out"
    grow_checkpoint(small, out, **SIZES)
    return out


def flipped(grown: Path, folder: Path, name: str, byte: int, bit: int) -> Path:
    """A copy of the folder in which one bit of a tensor is another."""
    shutil.copytree(grown, folder)
    held = open_checkpoint(folder)
    with held.files[name].open("r+b") as file:
        file.seek(held.starts[name] + byte)
        (old,) = file.read(1)
        file.seek(held.starts[name] + byte)
        file.write(bytes([old ^ (1 << bit)]))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [7, 1000, 1 << 21])
def test_what_was_grown_is_the_same(small: Path, grown: Path, chunk: int) -> None:
    found = compare_bytes(small, grown, chunk=chunk)
    assert found.passed and "every byte is what the plan makes" in str(found)
    assert found.tensors == len(open_checkpoint(grown).headers)


@pytest.mark.slow
def test_one_flipped_bit_is_found_in_any_tensor(small: Path, grown: Path, tmp_path: Path) -> None:
    for number, (name, header) in enumerate(open_checkpoint(grown).headers.items()):
        size = 4 if header.dtype == "F32" else 2
        entry = number * 37 % header.shape[0]
        inner = header.shape[1] if len(header.shape) > 1 else 1
        broken = flipped(grown, tmp_path / "broken", name, entry * inner * size, number % 8)
        (fault,) = compare_bytes(small, broken).faults
        assert (fault.name, fault.at[0], fault.count) == (name, entry, 1)
        shutil.rmtree(broken)


@pytest.mark.slow
def test_the_first_of_many_is_named(small: Path, grown: Path, tmp_path: Path) -> None:
    broken = flipped(grown, tmp_path / "one", "model.layers.0.mlp.up_proj.weight", 8, 3)
    broken = flipped(broken, tmp_path / "two", "model.norm.weight", 4, 0)
    found = compare_bytes(small, broken, chunk=11)
    assert not found.passed
    assert str(found).startswith(
        "model.layers.0.mlp.up_proj.weight[0, 2] is the first entry that differs, of 2 in 2 of"
    )


def test_another_dtype_is_compared_in_that_dtype(small: Path, tmp_path: Path) -> None:
    grow_checkpoint(small, tmp_path / "out", dtype="bfloat16", **SIZES)
    assert compare_bytes(small, tmp_path / "out").passed


@pytest.mark.parametrize("asked", [None, "float32", "bfloat16"])
def test_a_dtype_that_growing_did_not_write_is_told(asked: str | None, small: Path, tmp_path: Path) -> None:
    """The config says what the small one says, or what the tensors have; anything else was edited."""
    grow_checkpoint(small, tmp_path / "out", dtype=asked, **SIZES)
    path = tmp_path / "out" / "config.json"
    config = json.loads(path.read_text())
    assert compare_bytes(small, tmp_path / "out").passed
    path.write_text(json.dumps({**config, "dtype": "float16"}))
    assert str(compare_bytes(small, tmp_path / "out")) == "config.json differs in dtype"


def test_another_plan_and_another_config_are_told(small: Path, grown: Path, tmp_path: Path) -> None:
    grow_checkpoint(small, tmp_path / "other", seed=1, **SIZES)
    found = compare_bytes(small, grown, plan=tmp_path / "other" / "isogrow.json")
    assert found.faults and not found.missing and not found.foreign
    shutil.copytree(grown, tmp_path / "edited")
    config = json.loads((tmp_path / "edited" / "config.json").read_text())
    (tmp_path / "edited" / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1.0}))
    assert str(compare_bytes(small, tmp_path / "edited")) == "config.json differs in rms_norm_eps"
    unset = next(key for key, value in config.items() if value is None)  # a class may have another default
    del config[unset]
    (tmp_path / "edited" / "config.json").write_text(json.dumps({**config, "strange": None}))
    assert str(compare_bytes(small, tmp_path / "edited")) == "config.json differs in " + ", ".join(
        sorted((unset, "strange"))
    )
    grow_checkpoint(small, tmp_path / "longer", hidden=36, ffn=50, layers="+2")
    found = compare_bytes(small, tmp_path / "longer", plan=grown / "isogrow.json")
    assert found.foreign and "is in no plan" in str(found)


def test_the_verb(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert isogrow("grow", small, out, *GROWTH, "--no-verify").code == 0
    done = isogrow("verify", small, out, "--bytes", "--json")
    assert done.code == 0 and json.loads(done.out)["passed"] is True
    broken = flipped(out, tmp_path / "broken", "lm_head.weight", 2, 1)
    done = isogrow("verify", small, broken, "--bytes")
    assert done.code == 1 and "lm_head.weight[0, 0]" in done.out + done.err
