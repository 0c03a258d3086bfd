"""Opening checkpoints: every format that people have, and every way in which one can be broken."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import huggingface_hub
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from isogrow.errors import CheckpointError, OutputError
from isogrow.plans.anatomy import Header
from isogrow.stores.hub import UNFETCHED
from isogrow.stores.mapping import mapped
from isogrow.stores.shards import BITS, header_bytes, index_json, nbytes, parse_bytes, read_spans, shards
from isogrow.stores.sources import open_checkpoint
from isogrow.stores.store import all_of

STATE = tiny.model("LlamaForCausalLM").to(torch.bfloat16).state_dict()


def saved(folder: Path, kind: str) -> Path:
    """A tiny Llama in one of the formats."""
    model = tiny.model("LlamaForCausalLM").to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="20KB" if "sharded" in kind else "5GB")
    if "bin" in kind:
        _to_bin(folder, legacy="legacy" in kind)
    return folder


def _to_bin(folder: Path, legacy: bool) -> None:
    for path in sorted(folder.glob("*.safetensors")):
        new = path.with_name(path.name.replace("model", "pytorch_model").replace(".safetensors", ".bin"))
        torch.save(load_file(path), new, _use_new_zipfile_serialization=not legacy)
        path.unlink()
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        text = index.read_text().replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
        (folder / "pytorch_model.bin.index.json").write_text(text)
        index.unlink()


KINDS = ("single", "sharded", "bin", "bin sharded", "bin legacy")


@pytest.mark.parametrize("kind", KINDS)
def test_opens(kind: str, tmp_path: Path) -> None:
    found = open_checkpoint(saved(tmp_path / "model", kind))
    assert found.name == "model"
    assert found.format == ("bin" if "bin" in kind else "safetensors")
    assert list(found.config) == list(json.loads((tmp_path / "model" / "config.json").read_text()))
    assert dict(found.headers) == {n: Header(tuple(t.shape), "BF16") for n, t in STATE.items()}
    assert len(set(found.files.values())) > 1 or "sharded" not in kind


@pytest.mark.parametrize("kind", KINDS)
def test_maps_the_same_bytes(kind: str, tmp_path: Path) -> None:
    found = open_checkpoint(saved(tmp_path / "model", kind))
    with mapped(found) as store:
        for name, tensor in STATE.items():
            assert torch.equal(all_of(store, name).view(torch.int16), tensor.view(torch.int16))


def test_writing_to_a_mapped_tensor_leaves_the_file(tmp_path: Path) -> None:
    found = open_checkpoint(saved(tmp_path / "model", "single"))
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    with mapped(found) as store:
        all_of(store, "model.norm.weight").zero_()
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("shift", [1, 2, 3, 7])
def test_maps_tensors_at_odd_places(shift: int, tmp_path: Path) -> None:
    """Old files do not pad their headers."""
    folder = saved(tmp_path / "model", "single")
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = raw[8 : 8 + length].rstrip() + b" " * shift
    header += b" " * (len(header) % 8 == 0)
    path.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length :])
    with mapped(open_checkpoint(folder)) as store:
        for name, tensor in STATE.items():
            assert torch.equal(all_of(store, name), tensor)


def test_an_empty_tensor_is_mapped(tmp_path: Path) -> None:
    headers = {"none": Header((0, 3), "F32"), "some": Header((2,), "F32")}
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(header_bytes(headers) + bytes(8))
    with mapped(open_checkpoint(tmp_path)) as store:
        assert all_of(store, "none").shape == (0, 3)


def test_safetensors_come_before_bin(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "single")
    (folder / "pytorch_model.bin").write_bytes(b"nothing")
    assert open_checkpoint(folder).format == "safetensors"


def test_safetensors_are_opened_without_torch(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "sharded")
    code = (
        "import sys; from isogrow.stores.sources import open_checkpoint;"
        f"assert open_checkpoint({str(folder)!r}).headers; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ── the Hub ──


def cached(folder: Path, kind: str) -> Path:
    """A snapshot as the Hub's cache holds it: links to blobs beside it."""
    whole, snapshot, blobs = saved(folder / "whole", kind), folder / "snapshots" / "c0ffee", folder / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for i, path in enumerate(sorted(whole.iterdir())):
        path.rename(blobs / str(i))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(i))
    return snapshot


@pytest.mark.parametrize("kind", ["sharded", "bin"])
def test_a_hub_id_is_fetched(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Mapping[str, Any]] = []

    def download(model: str, **options: Any) -> str:
        asked.append({"model": model, **options})
        return str(snapshot)

    snapshot = cached(tmp_path, kind)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = open_checkpoint("someone/some-model", revision="main")
    assert (found.name, found.revision) == ("someone/some-model", "c0ffee")
    assert set(found.headers) == set(STATE)
    assert all(one["model"] == "someone/some-model" and one["revision"] == "main" for one in asked)
    assert "*.bin" in asked[0]["ignore_patterns"]
    assert len(asked) == (2 if kind == "bin" else 1)  # .bin is fetched only where there is nothing else


def test_a_hub_id_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        CheckpointError, match="'no-one/nothing' is no folder here, and as a Hub id at revision"
    ):
        open_checkpoint("no-one/nothing", revision="main")


@pytest.mark.parametrize("error", ["LocalEntryNotFoundError", "OfflineModeIsEnabled"])
def test_what_the_hub_has_not_is_said_in_our_words(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise getattr(huggingface_hub.errors, error)("Cannot find an appropriate cached snapshot folder")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(CheckpointError, match="no copy of it here") as refused:
        open_checkpoint("nothere")
    assert "'nothere' is no folder here" in str(refused.value) and "snapshot" not in str(refused.value)


def test_the_hub_has_the_errors_that_are_explained() -> None:
    assert all(hasattr(huggingface_hub.errors, name) for name in UNFETCHED)


@pytest.mark.parametrize("name", ["./nothing", "/no/such/folder", "a/b/c", "~/nothing", "..", "a b"])
def test_a_path_that_is_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise AssertionError("asked the Hub for a path")

    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(CheckpointError):
        open_checkpoint(name)


def test_a_missing_path_object_is_never_a_hub_id() -> None:
    with pytest.raises(CheckpointError, match="is no folder: give a model's folder"):
        open_checkpoint(Path("gpt2"))


def test_a_revision_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder, and revision 'main'"):
        open_checkpoint(saved(tmp_path / "model", "single"), revision="main")


# ── broken checkpoints: each change makes one, and the refusal names the thing ──

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
NORM = "model.norm.weight"


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def in_json(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        change(data)
        (folder / name).write_text(json.dumps(data))

    return apply


def in_header(change: Callable[[Any], None]) -> Callable[[Path], None]:
    """Change the header of the single shard, its data staying what it is."""

    def apply(folder: Path) -> None:
        raw = (folder / WEIGHTS).read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])

    return apply


def in_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda folder: (folder / WEIGHTS).write_bytes(change((folder / WEIGHTS).read_bytes())) and None


def first_shard(folder: Path) -> Path:
    return min(folder.glob("model-*.safetensors"))


def cut(folder: Path) -> None:
    path = first_shard(folder)
    path.write_bytes(path.read_bytes()[:-1])


def renamed(old: str, new: str) -> Callable[[Any], None]:
    def change(data: dict[str, Any]) -> None:
        data[new] = data.pop(old)

    return change


def shard_of_norm(file: Any) -> Callable[[Path], None]:
    return in_json(INDEX, lambda index: index["weight_map"].update({NORM: file}))


def steal(folder: Path) -> None:
    """The index names a file that exists, above the folder."""
    first_shard(folder).rename(folder.parent / "stolen.safetensors")
    shard_of_norm("../stolen.safetensors")(folder)


def typed(dtype: str) -> Callable[[Path], None]:
    return in_header(lambda header: header[NORM].update(dtype=dtype))


QUANTIZED = r"model is quantized \(.*give the model that it was quantized from"

BROKEN: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "no config": ("single", lambda f: (f / "config.json").unlink(), "config.json is missing from"),
    "config is no JSON": ("single", write("config.json", "{'a': 1}"), "config.json is no valid JSON"),
    "config is a list": ("single", write("config.json", "[]"), "config.json is no JSON object"),
    "config is no text": (
        "single", lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00") and None, "no valid JSON",
    ),
    "no weights": ("single", lambda f: (f / WEIGHTS).unlink(), "model holds no weights: expected model.safe"),
    "missing shard": (
        "sharded", lambda f: first_shard(f).unlink(), "-00001-of-.* is missing from .*index.json names it",
    ),
    "truncated shard": ("sharded", cut, "-00001-of-.* is cut off: it has .* bytes; fetch it again"),
    "truncated header": ("single", in_bytes(lambda b: b[:100]), "model.safetensors is cut off"),
    "no length": ("single", in_bytes(lambda b: b[:3]), "is cut off: it has 3 of at least 8 bytes"),
    "empty": ("single", in_bytes(lambda _: b""), "is cut off: it has 0 of"),
    "no safetensors": ("single", in_bytes(lambda b: b"\xff" * 50), "is no safetensors file"),
    "header is no JSON": ("single", in_bytes(lambda b: b[:8] + b"x" + b[9:]), "has a broken header"),
    "header is a list": (
        "single", in_bytes(lambda b: (2).to_bytes(8, "little") + b"[]"), r"broken header \(no object\)",
    ),
    "a name twice": (
        "single",
        in_bytes(lambda b: (17).to_bytes(8, "little") + b'{"a": {},"a": {}}'),
        "a name stands in it twice",
    ),
    "no offsets": ("single", in_header(lambda h: h[NORM].pop("data_offsets")), f"entry for '{NORM}'"),
    "entry is no object": ("single", in_header(lambda h: h.update({NORM: 3})), f"entry for '{NORM}'"),
    "negative shape": ("single", in_header(lambda h: h[NORM].update(shape=[-24])), f"entry for '{NORM}'"),
    "negative offset": (
        "single", in_header(lambda h: h[NORM].update(data_offsets=[-48, 0])), f"entry for '{NORM}'",
    ),
    "offsets past the end": (
        "single",
        in_header(lambda h: h[NORM].update(data_offsets=[10**9, 10**9 + 48])),
        "is cut off: it has .* of at least 1,000,",
    ),
    "offsets against the shape": (
        "single", in_header(lambda h: h[NORM].update(shape=[23])), rf"{NORM} .* is BF16 \[23\], 46 bytes",
    ),
    "unknown dtype": ("single", typed("BF17"), f"{NORM} .* dtype 'BF17', which is not known"),
    "shard above": ("sharded", steal, r"names the shard '../stolen.safetensors', which is outside"),
    "shard at the root": ("sharded", shard_of_norm("/etc/passwd"), "'/etc/passwd', which is outside"),
    "shard below and up": ("sharded", shard_of_norm("a/../../b"), "which is outside the model's folder"),
    "shard of Windows": ("sharded", shard_of_norm("..\\b"), "which is outside"),
    "shard on a drive": ("sharded", shard_of_norm("C:b"), "which is outside"),
    "shard with a zero": ("sharded", shard_of_norm("a\0b"), "which is outside"),
    "shard without a name": ("sharded", shard_of_norm(""), "which is outside"),
    "shard is a number": ("sharded", shard_of_norm(3), "which is outside"),
    "index without a map": ("sharded", write(INDEX, "{}"), "index.json has no weight_map"),
    "index is no JSON": ("sharded", write(INDEX, "{"), "index.json is no valid JSON"),
    "index lists too much": (
        "sharded",
        in_json(INDEX, lambda i: i["weight_map"].update(ghost=i["weight_map"][NORM])),
        "ghost should be in .*, says the index, but is not",
    ),
    "index lists too little": (
        "sharded", in_json(INDEX, lambda i: i["weight_map"].pop(NORM)), f"{NORM} is in .*index does not list",
    ),
    "quantized config": (
        "single",
        in_json("config.json", lambda c: c.update(quantization_config={"quant_method": "gptq", "bits": 4})),
        r"\(config.json has quantization_config, gptq\)",
    ),
    "quantized to float8": ("single", typed("F8_E4M3"), QUANTIZED),
    "quantized to int8": ("single", typed("I8"), QUANTIZED),
    "quantized to uint8": ("single", typed("U8"), QUANTIZED),
    "packed": ("single", in_header(renamed(NORM, "model.norm.qweight")), QUANTIZED),
    "block-scaled": ("single", in_header(renamed(NORM, "model.norm.weight_scale_inv")), QUANTIZED),
    "broken bin": (
        "bin", lambda f: (f / "pytorch_model.bin").write_bytes(b"PK\x03\x04 no") and None,
        "pytorch_model.bin is damaged",
    ),
    "bin with a number": (
        "bin", lambda f: torch.save({"step": 3}, f / "pytorch_model.bin"), "holds 'step', which is no tensor",
    ),
    "bin with a list": ("bin", lambda f: torch.save([1], f / "pytorch_model.bin"), "holds no state dict"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_checkpoint_is_refused(case: str, tmp_path: Path) -> None:
    kind, change, said = BROKEN[case]
    folder = saved(tmp_path / "model", kind)
    open_checkpoint(folder)  # whole, it opens
    change(folder)
    if case.startswith("quantized to"):  # the bytes a tensor takes have changed with its dtype
        in_header(lambda h: h[NORM].update(shape=[h[NORM]["data_offsets"][1] - h[NORM]["data_offsets"][0]]))(
            folder
        )
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(folder)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_a_bin_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "bin")
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"weight": Evil(tmp_path / "pwned")}, file)
    with pytest.raises(CheckpointError, match="holds more than tensors, which is never unpickled"):
        open_checkpoint(folder)
    assert not (tmp_path / "pwned").exists()


def test_integer_buffers_of_old_checkpoints_are_no_quantization(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "bin")
    state: dict[str, Tensor] = torch.load(folder / "pytorch_model.bin")
    state["h.0.attn.bias"] = torch.ones(1, 1, 4, 4, dtype=torch.uint8)
    state["embeddings.position_ids"] = torch.arange(5)
    torch.save(state, folder / "pytorch_model.bin")
    assert open_checkpoint(folder).headers["h.0.attn.bias"] == Header((1, 1, 4, 4), "U8")


# ── the format ──

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9).filter(
    lambda name: name != "__metadata__"
)
HEADERS = st.dictionaries(
    NAMES,
    st.builds(
        Header, st.lists(st.integers(0, 4), max_size=3).map(tuple), st.sampled_from(["F64", "F32", "BF16"])
    ),
    min_size=1,
    max_size=8,
)


@given(HEADERS)
def test_headers_come_back(tmp_path_factory: pytest.TempPathFactory, headers: dict[str, Header]) -> None:
    path = tmp_path_factory.mktemp("headers") / "model.safetensors"
    whole = shards(headers, 10**9)[0]
    path.write_bytes(whole.header + bytes(whole.size - len(whole.header)))
    places = read_spans(path)
    assert {name: place.header for name, place in places.items()} == headers
    assert all(place.start % (BITS[place.header.dtype] // 8) == 0 for place in places.values())
    loaded = load_file(path)  # the format's own reader agrees
    assert {name: tuple(tensor.shape) for name, tensor in loaded.items()} == {
        name: header.shape for name, header in headers.items()
    }


@given(HEADERS, st.integers(1, 200))
def test_shards_hold_each_tensor_once_within_the_limit(headers: dict[str, Header], limit: int) -> None:
    split = shards(headers, limit)
    assert sorted(name for shard in split for name in shard.tensors) == sorted(headers)
    assert all(
        len(shard.tensors) == 1 or sum(map(nbytes, shard.tensors.values())) <= limit for shard in split
    )
    index = index_json(split)
    assert index["metadata"]["total_size"] == sum(map(nbytes, headers.values()))
    assert index["weight_map"] == {name: shard.file for shard in split for name in shard.tensors}


@pytest.mark.parametrize(
    ("size", "count"),
    [(7, 7), ("7", 7), ("5GB", 5 * 10**9), ("1.5 MB", 1500000), ("2kib", 2048), ("3T", 3e12)],
)
def test_sizes_in_bytes(size: int | str, count: int) -> None:
    assert parse_bytes(size) == count


@pytest.mark.parametrize("size", ["", "GB", "5XB", "-1", "0", "1e9", 0, -3])
def test_what_is_no_size_in_bytes_is_refused(size: int | str) -> None:
    with pytest.raises(OutputError, match="is no number of bytes: give one like 5GB"):
        parse_bytes(size)


def work_to_open(folder: Path, tensors: int, files: int) -> int:
    """How many functions are called and lines are run to open a checkpoint of so many tensors and files."""
    folder.mkdir()
    held = {f"t{i}": Header((), "F32") for i in range(tensors)}
    where = {name: f"{i % files}.safetensors" for i, name in enumerate(held)}
    for file in set(where.values()):
        own = {name: header for name, header in held.items() if where[name] == file}
        (folder / file).write_bytes(header_bytes(own) + bytes(4 * len(own)))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (folder / "config.json").write_text('{"model_type": "llama"}')
    steps = 0

    def counted(frame: FrameType, event: str, _: object) -> Any:
        nonlocal steps
        steps += 1
        return counted

    sys.settrace(counted)
    try:
        assert len(open_checkpoint(folder).headers) == tensors
    finally:
        sys.settrace(None)
    return steps


def test_opening_costs_what_tensors_and_files_do_and_not_their_product(tmp_path: Path) -> None:
    few, many = (work_to_open(tmp_path / f"{files}", 800, files) for files in (2, 80))
    assert many < 2 * few


def test_a_pointer_of_git_lfs_is_told(tmp_path: Path) -> None:
    folder = saved(tmp_path, "single")
    (folder / "model.safetensors").write_text("version https://git-lfs.example/spec/v1\nsize 12345678\n")
    with pytest.raises(CheckpointError, match="model.safetensors is a pointer of Git LFS.* run git lfs pull"):
        open_checkpoint(folder)
