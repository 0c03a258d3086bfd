"""Distributed checkpoints of torch are opened as data, mapped, and grown as any other model."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import families as F
import pytest
import torch
import torch.distributed.checkpoint as dcp
from checkpoints import tensors
from command import isogrow as isogrow_said
from families_verb import python
from rows import FAMILIES
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

import isogrow
from isogrow.errors import CheckpointError, OutputError, StateError
from isogrow.growth.comparing import compare_bytes
from isogrow.plans.anatomy import Header
from isogrow.stores import distributed_output, inert
from isogrow.stores.distributed import read_distributed
from isogrow.stores.frames import frame_of
from isogrow.stores.items import Item
from isogrow.stores.mapping import mapped
from isogrow.stores.sources import open_checkpoint
from isogrow.stores.states import form_of, left_behind
from isogrow.stores.store import all_of
from isogrow.stores.workers import MOST, cores
from isogrow.verification import verify

KINDS = ("llama", "gpt2", "mixtral", "falcon")


def saved(state: Mapping[str, Any], folder: Path) -> Path:
    """A checkpoint as one process saves it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is but one process
        dcp.save(dict(state), checkpoint_id=folder, no_dist=True)
    return folder


def live(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """A float32 model of a family, and its config."""
    subject = F.subject(FAMILIES[name])
    return subject.small.float(), {**subject.source, "architectures": [subject.kind]}


def configured(source: Mapping[str, Any], folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(source)))
    return folder


@pytest.mark.parametrize("under", [True, False])
def test_every_tensor_is_mapped_as_it_was_saved(under: bool, tmp_path: Path) -> None:
    state = {
        "a": torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).bfloat16(),
        "b.c": torch.randn(3, 4, 2).transpose(0, 2),
        "n": torch.tensor(5),
        "none": torch.zeros(0, 3),
    }
    folder = saved(
        {"model": state, "optim": {"state": {"a": torch.ones(2)}}} if under else state, tmp_path / "d"
    )
    found = open_checkpoint(folder, config={"model_type": "none"})
    assert set(found.headers) == set(state)
    with mapped(found) as store:
        for name, tensor in state.items():
            assert torch.equal(all_of(store, name), tensor), name
            assert all_of(store, name).dtype == tensor.dtype


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_it_grows_to_the_same_tensors_as_the_model_in_memory(name: str, tmp_path: Path) -> None:
    model, source = live(name)
    optimizer = torch.optim.AdamW(model.parameters())
    weights, moments = get_state_dict(model, optimizer)
    saved({"model": weights, "optim": moments}, tmp_path / "small")
    wanted = FAMILIES[name].together
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", config=source, **wanted)
    expected = isogrow.grow(model, **wanted).state_dict()
    for key, tensor in tensors(tmp_path / "large").items():
        assert torch.equal(tensor, expected[key]), key
    assert json.loads((tmp_path / "large" / "config.json").read_text())["model_type"] == source["model_type"]


@pytest.mark.slow
def test_accelerate_s_folders_and_the_shell(tmp_path: Path) -> None:
    """`pytorch_model_fsdp_0` beside an optimizer's folder, and a config elsewhere."""
    model, source = live("llama")
    weights, moments = get_state_dict(model, torch.optim.AdamW(model.parameters()))
    saved({"model": weights}, tmp_path / "run" / "pytorch_model_fsdp_0")
    saved({"optimizer": moments}, tmp_path / "run" / "optimizer_0")
    config = configured(source, tmp_path / "config")
    ran = python(
        "-m", "isogrow", "grow", tmp_path / "run", tmp_path / "out", "--ffn", "x2", "--config", config
    )
    assert ran.returncode == 0, ran.stderr
    assert "float64" in ran.stdout
    assert verify(open_checkpoint(tmp_path / "run", config=config), tmp_path / "out", liveness=False).passed


def test_chunks_of_several_ranks_are_one_tensor(tmp_path: Path) -> None:
    """Each half of the rows saved by its own rank, as fully_shard does."""
    full = torch.arange(35.0).view(7, 5)
    folder = saved({"w": full}, tmp_path / "whole")
    cut = split(folder, tmp_path / "cut", full)
    found = open_checkpoint(cut, config={})
    assert len(found.chunks["w"]) == 2
    assert len(found.paths) == 2
    with mapped(found) as store:
        assert torch.equal(all_of(store, "w"), full)


def split(folder: Path, out: Path, full: Tensor) -> Path:
    """The same tensor in two chunks, in two files: the metadata that torch writes, edited."""
    out.mkdir()
    said = pickle.loads((folder / ".metadata").read_bytes())
    (name, about), (index, info) = *said.state_dict_metadata.items(), *said.storage_data.items()
    said.storage_data.clear()
    kind = type(about.chunks[0])
    about.chunks = [
        kind(torch.Size([0, 0]), torch.Size([4, 5])),
        kind(torch.Size([4, 0]), torch.Size([3, 5])),
    ]
    for rank, chunk in enumerate(about.chunks):
        file = io.BytesIO()
        first = chunk.offsets[0]
        torch.save(full[first : first + chunk.sizes[0]].clone(), file)
        padding = b"\0" * (13 * rank)
        (out / f"__{rank}_0.distcp").write_bytes(padding + file.getvalue())
        at = type(info)(f"__{rank}_0.distcp", len(padding), len(file.getvalue()))
        said.storage_data[type(index)(name, chunk.offsets)] = at
    (out / ".metadata").write_bytes(pickle.dumps(said))
    return out


def test_what_grew_is_not_said_to_be_left_behind(tmp_path: Path) -> None:
    """Accelerate's folders: the weights grow, and the state in one of two formats."""
    model, optimizer, source = trained("llama")
    saved_run("accelerate", model, optimizer, tmp_path / "run")
    (tmp_path / "run" / "others").mkdir()
    (tmp_path / "run" / "others" / "flax_model.msgpack").write_text("a")
    found = open_checkpoint(tmp_path / "run", config=source)
    assert left_behind(found, "grow", "distributed") == ["others/"]
    assert [each.partition(" ")[0] for each in left_behind(found, "grow", "safetensors")] == [
        "others/",
        "random_states_0.pkl",
        "optimizer_0",
    ]


def test_parts_of_safetensors_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="holds one rank's parts of tensors: save with"):
        open_checkpoint(tmp_path)


def test_metadata_is_read_without_torch(tmp_path: Path) -> None:
    saved({"w": torch.ones(3, 2)}, tmp_path / "d")
    script = (
        "import sys, pathlib; from isogrow.stores.distributed import read_distributed;"
        f"print(len(read_distributed(pathlib.Path({str(tmp_path / 'd')!r})).weights), 'torch' in sys.modules)"
    )
    assert python("-c", script).stdout.split() == ["1", "False"]


# ── written ──


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_what_is_written_is_loaded_by_torch(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways, in many chunks: the same tensors as in memory."""
    monkeypatch.setattr(distributed_output, "PART", 512)
    model, _ = live(name)
    model.save_pretrained(tmp_path / "small")
    wanted = FAMILIES[name].together
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", format="distributed", **wanted)
    expected = isogrow.grow(model, **wanted).state_dict()
    found = open_checkpoint(tmp_path / "large")
    assert max(map(len, found.chunks.values())) > 3
    assert not (tmp_path / "large" / "model.safetensors").exists()
    names = {key: tensor for key, tensor in expected.items() if key in found.headers}
    assert names.keys() == found.headers.keys()
    into = {key: torch.empty_like(tensor) for key, tensor in names.items()}
    dcp.load(into, checkpoint_id=tmp_path / "large", no_dist=True)
    assert all(torch.equal(into[key], tensor) for key, tensor in names.items())


def test_safetensors_are_read_by_torch_s_own_reader(tmp_path: Path) -> None:
    """Grown from a distributed checkpoint into several files."""
    model, source = live("llama")
    saved({"model": model.state_dict()}, tmp_path / "run")
    said: Any = {"config": source, "max_shard_size": "30KB", "ffn": "x2"}
    isogrow.grow_checkpoint(tmp_path / "run", tmp_path / "out", **said)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    expected = isogrow.grow(model, ffn="x2").state_dict()
    state = {key: torch.zeros_like(x) for key, x in expected.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = dcp.HuggingFaceStorageReader(str(tmp_path / "out"))
        dcp.load(state, storage_reader=reader, no_dist=True)
    assert all(torch.equal(state[key], x) for key, x in expected.items())


def test_a_distributed_checkpoint_is_inspected_and_planned(tmp_path: Path) -> None:
    model, source = live("llama")
    saved({"model": model.state_dict()}, tmp_path / "run")
    config = configured(source, tmp_path / "config")
    told = isogrow_said("inspect", tmp_path / "run", "--config", config, "--json").json
    assert told["model_type"] == "llama"
    words = ("plan", tmp_path / "run", "--ffn", "x2", "--ranks", 2, "--config", config, "--json")
    assert isogrow_said(*words).json["sharded"]["ranks"] == 2


@pytest.mark.slow
def test_a_distributed_checkpoint_is_proven_and_grown_again(tmp_path: Path) -> None:
    model, _ = live("llama")
    model.save_pretrained(tmp_path / "a")
    arguments = ("--ffn", "x2", "--format", "distributed")
    ran = python("-m", "isogrow", "grow", tmp_path / "a", tmp_path / "b", *arguments)
    assert ran.returncode == 0, ran.stderr
    assert "liveness" in ran.stdout
    isogrow.grow_checkpoint(tmp_path / "b", tmp_path / "c", layers="+1")
    assert verify(tmp_path / "b", tmp_path / "c", liveness=False).passed


def test_a_format_that_is_not_known_is_refused(tmp_path: Path) -> None:
    model, _ = live("llama")
    model.save_pretrained(tmp_path / "a")
    with pytest.raises(OutputError, match="format 'gguf' is not known: give safetensors or distributed"):
        isogrow.grow_checkpoint(tmp_path / "a", tmp_path / "b", format="gguf", ffn="x2")


# ── with the optimizer's state ──


def trained(name: str) -> tuple[nn.Module, torch.optim.AdamW, dict[str, Any]]:
    """A model and its optimizer in two groups after a step, and its config."""
    model, source = live(name)
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if (p.dim() > 1) is many]} for many in (True, False)]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    optimizer.param_groups[1]["weight_decay"] = 0.0
    draw = torch.Generator().manual_seed(5)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=draw)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer, source


FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


def saved_run(form: str, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """A run as torch's users save it, with its state flattened, as Accelerate does, and all of it below one
    key, as torch's recipe for applications has it."""
    weights, moments = get_state_dict(model, optimizer, options=FLAT if form == "flat" else None)
    if form == "app":
        saved({"app": {"model": weights, "optim": moments}, "step": 7}, folder)
        return
    if form != "accelerate":
        saved({"model": weights, "optim": moments, "step": 7}, folder)
        return
    saved({"model": weights}, folder / "pytorch_model_fsdp_0")
    saved({"optimizer": moments}, folder / "optimizer_0")
    (folder / "random_states_0.pkl").write_bytes(b"random")


def loaded_run(form: str, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> int:
    """Load a grown run into the grown model and its new optimizer, as torch says how to; its step."""
    options = FLAT if form == "flat" else None
    weights, moments = get_state_dict(model, optimizer, options=options)
    run: dict[str, Any] = {"model": weights, "optim": moments, "step": 0}
    if form == "app":
        run = {"app": {"model": weights, "optim": moments}, "step": 0}
    if form == "accelerate":
        dcp.load({"model": weights}, checkpoint_id=folder / "pytorch_model_fsdp_0", no_dist=True)
        dcp.load({"optimizer": moments}, checkpoint_id=folder / "optimizer_0", no_dist=True)
    else:
        dcp.load(run, checkpoint_id=folder, no_dist=True)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=moments, options=options)
    return int(run["step"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "name"),
    [("nested", "gpt2"), ("flat", "llama"), ("accelerate", "mixtral"), ("nested", "bloom"), ("app", "llama")],
)
def test_the_optimizer_s_state_grows_with_it(
    form: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaded by torch into a grown model and a new optimizer, it is what the running job would have."""
    monkeypatch.setattr(distributed_output, "PART", 2048)
    model, optimizer, source = trained(name)
    saved_run(form, model, optimizer, tmp_path / "run")
    wanted = FAMILIES[name].together
    isogrow.grow_checkpoint(tmp_path / "run", tmp_path / "out", config=source, format="distributed", **wanted)
    expected = isogrow.grow_training(model, optimizer=optimizer, **wanted)
    fresh = emptied(isogrow.grow(model, **wanted))
    decays = {id(p) for p in expected.optimizer.param_groups[0]["params"]}
    pairs = list(zip(fresh.parameters(), expected.model.parameters(), strict=True))
    groups = [{"params": [p for p, q in pairs if (id(q) in decays) is many]} for many in (True, False)]
    anew = torch.optim.AdamW(groups, lr=0.5)
    assert loaded_run(form, fresh, anew, tmp_path / "out") == (0 if form == "accelerate" else 7)
    assert [group["weight_decay"] for group in anew.param_groups] == [0.01, 0.0]
    assert {group["lr"] for group in anew.param_groups} == {1e-3}
    for p, q in pairs:
        assert torch.equal(p, q)
        theirs = expected.optimizer.state[q]
        assert anew.state[p].keys() == theirs.keys()
        assert all(torch.equal(anew.state[p][key], value) for key, value in theirs.items())
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert ("random_states_0.pkl" in files) is (form == "accelerate")


@pytest.mark.parametrize(
    ("name", "second"), [("gpt2", "lm_head.weight"), ("t5", "decoder.embed_tokens.weight")]
)
def test_what_is_tied_has_every_name_of_its_class(name: str, second: str, tmp_path: Path) -> None:
    """safetensors keep one name; `dcp.load` into a state dict asks for all of them."""
    model, source = live(name)
    assert second in model.state_dict()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path / "small")
    wanted = FAMILIES[name].together
    isogrow.grow_checkpoint(tmp_path / "small", tmp_path / "large", format="distributed", **wanted)
    expected = isogrow.grow(model, **wanted)
    fresh = emptied(isogrow.grow(model, **wanted))
    state = fresh.state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(state, checkpoint_id=tmp_path / "large", no_dist=True)
    for key, tensor in expected.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], tensor), key
    assert compare_bytes(tmp_path / "small", tmp_path / "large").passed
    again = open_checkpoint(tmp_path / "large")
    assert second in again.headers and second not in open_checkpoint(tmp_path / "small").headers


def emptied(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    return model


@pytest.mark.parametrize("alone", [True, False])
def test_chunks_are_made_in_the_same_places(alone: bool, tmp_path: Path) -> None:
    """Each worker holds one slab; torch's writer would keep every chunk."""
    made: list[int] = []

    def fill(number: int, region: Any, out: Tensor) -> None:
        out.fill_(float(number))
        made.append(out.data_ptr())

    items = {
        name: Item((name,), Header((4, 5), "F32"), fill=partial(fill, number))
        for number, name in enumerate("abc")
    }
    distributed_output.write_distributed(tmp_path, items, lambda count: None, limit=10, alone=alone)
    assert len(made) == 6 and len(set(made)) <= (1 if alone else min(cores(), MOST))
    state = {name: torch.empty(4, 5) for name in items}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(state, checkpoint_id=tmp_path, no_dist=True)
    assert [x.unique().tolist() for x in state.values()] == [[0.0], [1.0], [2.0]]


@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (300, 700)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64], ids=str)
def test_what_stands_around_numbers_is_what_torch_writes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """An archive put together is one that torch and zipfile take, checksums and all; only its id differs."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul(99).to(dtype)
    frame, wanted = frame_of(shape, dtype), io.BytesIO()
    torch.save(x, wanted)
    numbers = bytes(x.reshape(-1).view(torch.uint8).tolist())
    whole = frame.before + numbers + frame.ended(zlib.crc32(numbers))
    assert len(whole) == frame.length == len(wanted.getvalue())
    assert torch.equal(torch.load(io.BytesIO(whole), weights_only=True), x)
    archives = [zipfile.ZipFile(io.BytesIO(each)) for each in (whole, wanted.getvalue())]
    assert archives[0].testzip() is None
    made, theirs = ({each.filename: each.CRC for each in file.infolist()} for file in archives)
    assert made.keys() == theirs.keys()
    assert {name for name in made if made[name] != theirs[name]} <= {"archive/.data/serialization_id"}
    if numbers:
        spoiled = frame.before + numbers + frame.after  # with the checksum of zeros
        assert zipfile.ZipFile(io.BytesIO(spoiled)).testzip() is not None or not any(numbers)


def test_a_state_by_numbers_is_refused_unless_it_is_dropped(tmp_path: Path) -> None:
    model, optimizer, source = trained("llama")
    saved({"model": model.state_dict(), "optim": optimizer.state_dict()}, tmp_path / "run")
    said = {"config": source, "format": "distributed", "ffn": "x2"}
    with pytest.raises(StateError, match=r"optim\.state\.0\.\w+, and parameters are known there by names"):
        isogrow.grow_checkpoint(tmp_path / "run", tmp_path / "out", **said)
    assert not (tmp_path / "out").exists()
    isogrow.grow_checkpoint(tmp_path / "run", tmp_path / "out", optimizer="drop", **said)
    assert form_of(read_distributed(tmp_path / "out")) is None


@pytest.mark.parametrize("format", ["safetensors", "distributed"])
def test_no_file_of_the_old_weights_travels(format: str, tmp_path: Path) -> None:
    """They have the names that the new ones get."""
    model, source = live("llama")
    saved(model.state_dict(), tmp_path / "run")
    (tmp_path / "run" / "tokenizer.json").write_text("{}")
    isogrow.grow_checkpoint(tmp_path / "run", tmp_path / "out", config=source, format=format, ffn="x2")
    found = {path.name for path in (tmp_path / "out").iterdir()}
    weights = {".metadata", "__0_0.distcp"} if format == "distributed" else {"model.safetensors"}
    assert found == {"README.md", "config.json", "isogrow.json", "tokenizer.json", *weights}
    expected = isogrow.grow(model, ffn="x2").state_dict()
    with mapped(open_checkpoint(tmp_path / "out")) as store:
        assert all(torch.equal(all_of(store, name), expected[name]) for name in store.headers)


@pytest.mark.parametrize("form", ["nested", "accelerate", "alone"])
def test_the_form_of_the_source_stays_without_a_state_too(form: str, tmp_path: Path) -> None:
    """The model is below its key, or in its folder; what is beside it stays where no state is left behind."""
    model, optimizer, source = trained("llama")
    if form == "alone":
        saved({"model": model.state_dict(), "step": 7}, tmp_path / "run")
    else:
        saved_run(form, model, optimizer, tmp_path / "run")
    said: Any = {"config": source, "format": "distributed", "ffn": "x2"}
    dropped = {} if form == "alone" else {"optimizer": "drop"}
    isogrow.grow_checkpoint(tmp_path / "run", tmp_path / "out", **said, **dropped)
    inner = tmp_path / "out" / ("pytorch_model_fsdp_0" if form == "accelerate" else "")
    held = read_distributed(inner)
    assert held.under == ("model",) and form_of(held) is None
    assert not (tmp_path / "out" / "optimizer_0").exists() and (tmp_path / "out" / "config.json").exists()
    expected = isogrow.grow(model, ffn="x2").state_dict()
    state: Any = {"model": {key: torch.zeros_like(x) for key, x in expected.items()}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(
            more := {**state, **({"step": 0} if form == "alone" else {})}, checkpoint_id=inner, no_dist=True
        )
    assert all(torch.equal(state["model"][key], x) for key, x in expected.items())
    assert more.get("step", 7) == 7 and ("step" in held.saved) is (form == "alone")
    assert verify(open_checkpoint(tmp_path / "run", config=source), tmp_path / "out", liveness=False).passed


# ── what is refused ──


def test_a_pickle_that_calls_something_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Harmless()))
    with pytest.raises(CheckpointError, match="nothing of it was run"):
        read_distributed(tmp_path)


class Harmless:
    """Unpickled, it would make an empty list."""

    def __reduce__(self) -> tuple[type[list[Any]], tuple[()]]:
        return list, ()


def spoiled(folder: Path, change: Callable[[Any], None]) -> Path:
    path = folder / ".metadata"
    said = pickle.loads(path.read_bytes())
    change(said)
    path.write_bytes(pickle.dumps(said))
    return folder


def outside(said: Any) -> None:
    (info,) = said.storage_data.values()
    object.__setattr__(info, "relative_path", "../elsewhere")


def gone(said: Any) -> None:
    (info,) = said.storage_data.values()
    object.__setattr__(info, "relative_path", "__9_0.distcp")


def unplaced(said: Any) -> None:
    said.storage_data.clear()


def larger(said: Any) -> None:
    (about,) = said.state_dict_metadata.values()
    about.size = torch.Size([8, 5])


def overlapping(said: Any) -> None:
    """Rows 0 to 3 and 2 to 5 of 7, and the last: as many entries as there are."""
    from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex

    (about,) = said.state_dict_metadata.values()
    (info,) = said.storage_data.values()
    rows = [(0, 3), (2, 3), (6, 1)]
    about.chunks = [ChunkStorageMetadata(torch.Size((at, 0)), torch.Size((n, 5))) for at, n in rows]
    said.storage_data = {MetadataIndex("w", each.offsets): info for each in about.chunks}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (outside, "^the metadata in .* outside of it: nothing was read$"),
        (gone, "^__9_0.distcp is missing from .*: copy it, too$"),
        (overlapping, "two of its chunks of w hold the same entries"),
        (unplaced, "contradicts itself"),
        (larger, "its chunks of w are 35 of 40 entries"),
    ],
)
def test_metadata_that_can_t_be_right_is_refused(change: Any, why: str, tmp_path: Path) -> None:
    folder = saved({"w": torch.ones(7, 5)}, tmp_path / "d")
    with pytest.raises(CheckpointError, match=why):
        _ = read_distributed(spoiled(folder, change)).weights


def test_a_chunk_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    folder = saved({"w": torch.ones(70, 5)}, tmp_path / "d")
    file = folder / "__0_0.distcp"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="it is cut off, or another checkpoint's"):
        open_checkpoint(folder, config={})


def test_a_chunk_of_other_bytes_is_refused(tmp_path: Path) -> None:
    folder = saved({"w": torch.ones(70, 5)}, tmp_path / "d")
    file = folder / "__0_0.distcp"
    file.write_bytes(bytes(file.stat().st_size))
    with (
        mapped(open_checkpoint(folder, config={})) as store,
        pytest.raises(CheckpointError, match="does not hold the numbers"),
    ):
        all_of(store, "w")


def test_numbers_of_another_tensor_are_refused(tmp_path: Path) -> None:
    """Of as many entries, and of another shape than the metadata tells of."""
    folder = saved({"w": torch.ones(7, 5)}, tmp_path / "d")
    file = io.BytesIO()
    torch.save(torch.ones(5, 7), file)
    (folder / "__0_0.distcp").write_bytes(file.getvalue())

    def change(said: Any) -> None:
        (info,) = said.storage_data.values()
        object.__setattr__(info, "offset", 0)
        object.__setattr__(info, "length", len(file.getvalue()))

    found = open_checkpoint(spoiled(folder, change), config={})
    with mapped(found) as store, pytest.raises(CheckpointError, match=r"of shape \[5, 7\]"):
        all_of(store, "w")


def test_a_config_is_asked_for_and_not_taken_twice(tmp_path: Path) -> None:
    folder = saved({"w": torch.ones(2)}, tmp_path / "d")
    with pytest.raises(CheckpointError, match=r"config.json is missing from .*--config"):
        open_checkpoint(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="leave out config="):
        open_checkpoint(folder, config={})
    assert open_checkpoint(folder).format == "distributed"


def test_the_names_that_are_allowed_are_those_that_torch_writes(tmp_path: Path) -> None:
    """So that a new torch which writes others is noticed here."""
    model, _ = live("llama")
    weights, moments = get_state_dict(model, torch.optim.AdamW(model.parameters(), foreach=True))
    folder = saved({"model": weights, "optim": moments}, tmp_path / "d")
    seen: set[tuple[str, str]] = set()

    class Seen(pickle.Unpickler):
        def find_class(self, module_name: str, global_name: str, /) -> Any:
            seen.add((module_name, global_name))
            return super().find_class(module_name, global_name)

    Seen(io.BytesIO((folder / ".metadata").read_bytes())).load()
    assert seen <= inert.ALLOWED.keys()
    assert len(read_distributed(folder).weights) == len(weights)
