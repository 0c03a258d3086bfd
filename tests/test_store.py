"""A store says what is here of its tensors; whatever parts those are, the same bytes are read and grown."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import families as F
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save
from subjects import weights
from sweeping import examples
from test_boxes import PATTERNS, SIZES, numbered, stored, views
from torch import Tensor

from isogrow.errors import CheckpointError
from isogrow.interpreters.module import grown_state
from isogrow.numbers.statistics import statistics
from isogrow.plans.anatomy import Anatomy, Header
from isogrow.plans.boxes import counted_from, overlap, runs, slices
from isogrow.plans.parts import is_tied
from isogrow.plans.pieces import Box, whole
from isogrow.stores.binding import fill_region_, outputs, reader, viewer
from isogrow.stores.dtypes import GROWN, TABLE, torch_dtype, word_of
from isogrow.stores.files import is_written, written
from isogrow.stores.shards import Shard, shards
from isogrow.stores.store import Part, StateDict, all_of, read

FAMILIES = ("llama", "gpt2", "mixtral", "falcon", "gemma2", "bloom")


@dataclass(frozen=True)
class Chunked:
    """A store of tensors that are here in boxes of at most `rows` x `columns` x …, as chunks of a distributed
    checkpoint are; `lost` of them are not here."""

    state: Mapping[str, Tensor]
    sides: tuple[int, ...] = (3, 5)
    lost: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def headers(self) -> Mapping[str, Header]:
        return StateDict(self.state).headers

    def parts(self, name: str) -> list[Part]:
        tensor = self.state[name]
        found = [(box, tensor[slices(box)].clone()) for box in tiles(whole(tuple(tensor.shape)), self.sides)]
        return [part for i, part in enumerate(found) if i != self.lost.get(name)]


def tiles(box: Box, sides: tuple[int, ...]) -> list[Box]:
    """Boxes of such sides (taken by turns) that a box is made of."""
    found: list[Box] = [()]
    for d, r in enumerate(box):
        side = sides[d % len(sides)]
        cuts = [range(n, min(n + side, r.stop)) for n in range(r.start, r.stop, side)]
        found = [(*left, cut) for left in found for cut in cuts]
    return found


@pytest.mark.slow
@pytest.mark.sweep("examples")
@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=examples(25, 4))
@given(data=st.data())
def test_a_box_of_a_block_is_read_from_any_chunks(pattern: str, data: st.DataObject) -> None:
    found = stored(pattern)
    sides = tuple(data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=3)))
    anatomy = Anatomy(F.subject(F.FAMILIES["llama"]).anatomy.layout, {}, SIZES, (found,))
    full = numbered(found).double()
    ours = reader(anatomy, Chunked({"w": full}, sides))
    for block in views(found):
        shape = block.shape(SIZES)
        starts = [data.draw(st.integers(0, n - 1)) for n in shape]
        box = tuple(range(n, data.draw(st.integers(n + 1, m))) for n, m in zip(starts, shape, strict=True))
        whole_block = viewer(anatomy, {"w": full}.__getitem__)(block)
        assert torch.equal(ours(block, box), whole_block[slices(box)])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_growing_from_chunks_gives_the_same_bytes(name: str) -> None:
    subject = F.subject(F.FAMILIES[name])
    anatomy, plan = subject.anatomy, subject.plan(F.FAMILIES[name].together)
    state = subject.small.state_dict()
    expected = grown_state(state, anatomy, plan)
    ours = reader(anatomy, Chunked(state))
    for each in (each for each in outputs(anatomy, plan) if not is_tied(anatomy, each)):
        out = torch.empty(each.header.shape, dtype=expected[each.name].dtype)
        stats = statistics(plan, (block for _, block in each.blocks(plan.target)), ours)
        fill_region_(out, each, whole(each.header.shape), plan, ours, stats)
        assert torch.equal(out, expected[each.name]), each.name


def test_a_chunk_that_is_not_here_is_missed() -> None:
    subject = F.subject(F.FAMILIES["llama"])
    state = weights(subject.anatomy)
    one = next(each for each in subject.anatomy.stored if each.line.slot.name == "mlp.up")
    lost = Chunked(state, lost={one.name: 1})
    count = 3 * 5
    block = next(block for _, block in one.blocks(subject.anatomy.sizes))
    box = whole(block.shape(subject.anatomy.sizes))
    with pytest.raises(CheckpointError, match=f"{one.name} is not whole: {count} of the entries"):
        reader(subject.anatomy, lost)(block, box)
    with pytest.raises(CheckpointError, match=f"{one.name} is not whole: {count} of its entries"):
        all_of(lost, one.name)


@given(data=st.data())
def test_a_region_is_put_together_from_chunks(data: st.DataObject) -> None:
    full = torch.arange(7 * 5 * 3.0).view(7, 5, 3)
    region = data.draw(solid((7, 5, 3)))
    for store in (StateDict({"w": full}), Chunked({"w": full}, (2, 4, 3))):
        assert torch.equal(read(store, "w", region), full[slices(region)])


def test_a_region_of_one_part_is_a_view_and_a_scalar_is_whole() -> None:
    full = torch.arange(6.0).view(2, 3)
    assert read(StateDict({"w": full}), "w", (range(1, 2), range(3))).data_ptr() == full[1].data_ptr()
    assert read(StateDict({"n": torch.tensor(5.0)}), "n", ()) == 5.0


def solid(shape: tuple[int, ...]) -> st.SearchStrategy[Box]:
    """Boxes without gaps, of one entry at least."""
    sides = [
        st.tuples(st.integers(0, n - 1), st.integers(1, n)).map(
            lambda x, n=n: range(x[0], min(x[0] + x[1], n))
        )
        for n in shape
    ]
    return st.tuples(*sides)


# ── boxes ──


@given(solid((7, 5)), solid((7, 5)))
def test_what_two_boxes_have_in_common(one: Box, other: Box) -> None:
    entries = {(i, j) for i in one[0] for j in one[1]} & {(i, j) for i in other[0] for j in other[1]}
    common = overlap(one, other)
    assert entries == ({(i, j) for i in common[0] for j in common[1]} if common else set())
    full = torch.arange(35).view(7, 5)
    if common:
        local = full[slices(one)][slices(counted_from(one, common))]
        assert torch.equal(local, full[slices(common)])


@given(solid((3, 4, 5)))
def test_runs_are_consecutive_and_hold_each_entry_once(region: Box) -> None:
    full, found = torch.arange(60).view(3, 4, 5), list[int]()
    for offset, box in runs((3, 4, 5), region):
        count = prod(map(len, box))
        assert full[slices(box)].reshape(-1).tolist() == list(range(offset, offset + count))
        found += range(offset, offset + count)
    assert found == full[slices(region)].reshape(-1).tolist()


# ── files ──

STATE = {
    "a": torch.randn(7, 5, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16),
    "b": torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(1)),
    "c": torch.tensor(2.5, dtype=torch.float64),
    "d": torch.zeros(0, 3),
}


@given(data=st.data())
def test_regions_in_any_order_are_the_file_that_safetensors_writes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("files")
    (shard,) = shards(StateDict(STATE).headers, 1 << 20)
    sides = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    regions = [(name, box) for name, x in STATE.items() for box in tiles(whole(tuple(x.shape)), sides)]
    with written(folder, shard) as file:
        for name, box in data.draw(st.permutations(regions)):
            file.write(name, box, STATE[name][slices(box)])
    found = load_file(folder / shard.file)
    assert {name: (x.dtype, x.tolist()) for name, x in found.items()} == {
        name: (x.dtype, x.tolist()) for name, x in STATE.items()
    }
    ordered = {name: STATE[name] for name in shard.tensors}
    assert (folder / shard.file).stat().st_size == shard.size
    assert body(folder / shard.file) == body(save(ordered, {"format": "pt"}))


def test_a_system_that_writes_less_than_it_is_given_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, start: write(file, data[:7], start))
    (shard,) = shards(StateDict(STATE).headers, 1 << 20)
    with written(tmp_path, shard) as file:
        for name, x in STATE.items():
            file.write(name, whole(tuple(x.shape)), x)
    found = load_file(tmp_path / shard.file)
    assert all(torch.equal(found[name], x) for name, x in STATE.items())


def body(file: Path | bytes) -> bytes:
    data = file if isinstance(file, bytes) else file.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


def test_a_file_without_all_of_it_is_none(tmp_path: Path) -> None:
    """What stops meanwhile leaves no file under the shard's name, and no header under any."""
    shard = Shard("model.safetensors", {"b": Header((3, 4, 2), "F32")})
    with pytest.raises(KeyboardInterrupt), written(tmp_path, shard) as file:
        file.write("b", whole((3, 4, 2)), STATE["b"])
        raise KeyboardInterrupt
    assert not is_written(tmp_path, shard)
    (left,) = tmp_path.iterdir()
    with pytest.raises(json.JSONDecodeError):
        json.loads(left.read_bytes()[8 : len(shard.header)])
    with written(tmp_path, shard) as file:
        file.write("b", whole((3, 4, 2)), STATE["b"])
    assert is_written(tmp_path, shard)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


# ── dtypes ──


@pytest.mark.parametrize("word", TABLE)
def test_a_word_is_its_dtype_there_and_back(word: str) -> None:
    name, bits = TABLE[word]
    dtype = torch_dtype(word)
    assert (dtype is None) == (not name)
    if dtype is not None:
        assert word_of(dtype) == word
        assert dtype.itemsize * 8 == (8 if word == "F4" else bits)  # two numbers of F4 are one of torch's


def test_what_grows_has_a_word() -> None:
    assert [word_of(getattr(torch, name)) for name in GROWN] == ["F32", "F16", "BF16", "F64"]
    assert torch_dtype("NONE") is None
