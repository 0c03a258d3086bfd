"""What is read from files is anything: it is understood, or refused in a sentence, and nothing is harmed."""

from __future__ import annotations

import copy
import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sweeping
from checkpoints import SMALL, digests, save
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import isogrow
from isogrow.errors import IsogrowError
from isogrow.plans.serial import to_json
from isogrow.recipes.reading import parse

ROOM = 64 << 20  # bytes that reading a file of a few kB may take

pytestmark = [pytest.mark.slow, pytest.mark.sweep("examples")]
many = settings(
    max_examples=sweeping.FUZZED,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

ODD: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, 10**30, 0.0, -0.0, 0.5, 1e308, 1e-320]
    ),
    st.sampled_from(["", " ", "x", "0", "relu", "../x", "/x", "a\0b", "F32", "BF16", "é", "{layers}"]),
    st.sampled_from([[], {}, [[]], [None], [1, 2], {"a": 1}, {"": None}, [1.5], ["x"] * 3]),
    st.integers(-5, 50),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something in JSON."""
    yield path
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from places(data[key], (*path, key))


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


@st.composite
def spoiled(draw: st.DrawFn, data: Any) -> Any:
    """JSON with one to three things in it changed: replaced, gone, twice, or under another name."""
    made = json.loads(json.dumps(data))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([place for place in places(made) if place] or [()]))
        if not path:
            return draw(ODD)
        inside, key = at(made, path[:-1]), path[-1]
        how = draw(st.sampled_from(["replace", "replace", "replace", "leave out", "add", "rename"]))
        if how == "leave out":
            del inside[key]
        elif how == "rename" and isinstance(inside, dict):
            inside[draw(st.text(max_size=4))] = inside.pop(key)
        elif how == "add" and isinstance(inside, list):
            inside.insert(key, copy.deepcopy(draw(ODD)))  # hypothesis gives the same list again
        else:
            inside[key] = copy.deepcopy(draw(ODD))
    return made


def answered(do: Callable[[], object]) -> str:
    """What was refused, in a sentence of ours; "" if nothing was. Anything else that is raised is a fault."""
    try:
        do()
    except IsogrowError as error:
        said = str(error)
        assert said.strip(), f"{type(error).__name__} says nothing"
        assert len(said) < 2000, said[:200]
        return said
    return ""


def within(do: Callable[[], object]) -> str:
    """The same, in bounded memory."""
    tracemalloc.start()
    try:
        said = answered(do)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < ROOM, f"{peak:,} bytes: {said}"
    return said


@cache
def home() -> TemporaryDirectory[str]:
    """Gone with the process."""
    return TemporaryDirectory()


@cache
def small() -> Path:
    return save(Path(home().name) / "small")


def grown_from(spoil: Callable[[Path], None]) -> None:
    """Growing what was spoiled leaves a whole output, or none, and the source as it was."""
    with TemporaryDirectory() as beside:
        folder = Path(beside) / "a"
        shutil.copytree(small(), folder)
        spoil(folder)
        before = digests(folder)
        said = within(lambda: isogrow.grow_checkpoint(folder, Path(beside) / "b", ffn="+3", layers="+1"))
        assert digests(folder) == before
        assert {path.name for path in Path(beside).iterdir()} <= ({"a"} if said else {"a", "b"})
        if not said:
            isogrow.plan(Path(beside) / "b", ffn="+2")


def header_of(file: bytes) -> tuple[Any, bytes]:
    end = 8 + int.from_bytes(file[:8], "little")
    return json.loads(file[8:end]), file[end:]


def filed(header: Any, rest: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


WEIGHTS = "model.safetensors"


@many
@given(data=st.data())
def test_headers(data: st.DataObject) -> None:
    header, rest = header_of((small() / WEIGHTS).read_bytes())
    said = data.draw(spoiled(header))
    grown_from(lambda folder: (folder / WEIGHTS).write_bytes(filed(said, rest)) and None)


@many
@given(at=st.integers(0, 700), there=st.binary(max_size=9), gone=st.integers(0, 9), keep=st.integers(0, 2000))
@example(at=0, there=b"\xff" * 8, gone=8, keep=2000)
@example(at=0, there=(2**40).to_bytes(8, "little"), gone=8, keep=2000)
@example(at=8, there=b"[" * 9, gone=0, keep=2000)
def test_bytes_of_a_file(at: int, there: bytes, gone: int, keep: int) -> None:
    file = (small() / WEIGHTS).read_bytes()
    made = file[:at] + there + file[at + gone :]
    made = made if keep == 2000 else made[: len(made) * keep // 2000]
    grown_from(lambda folder: (folder / WEIGHTS).write_bytes(made) and None)


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "vocab_size", "num_attention_heads"])
def test_a_config_of_more_than_any_memory_holds(key: str) -> None:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, key: 2**31}))

    grown_from(spoil)


@many
@given(data=st.data())
def test_configs(data: st.DataObject) -> None:
    said = data.draw(spoiled(json.loads((small() / "config.json").read_text())))
    grown_from(lambda folder: (folder / "config.json").write_text(json.dumps(said)) and None)


@many
@given(data=st.data())
def test_indexes(data: st.DataObject) -> None:
    header, _ = header_of((small() / WEIGHTS).read_bytes())
    names = [name for name in header if name != "__metadata__"]
    index = {"metadata": {"total_size": 5}, "weight_map": dict.fromkeys(names, "one.safetensors")}
    said = data.draw(spoiled(index))

    def spoil(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "one.safetensors")
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(said))

    grown_from(spoil)


@many
@given(data=st.data())
def test_plans(data: st.DataObject) -> None:
    said = data.draw(spoiled(planned()))
    within(lambda: isogrow.plan(small(), plan=said))


@cache
def planned() -> Any:
    return to_json(isogrow.plan(small(), **SMALL))


RECIPE = {
    "run": "runs/a",
    "model": {"family": "llama", "sizes": {"hidden": 24, "ffn": 40, "heads": 4, "kv_heads": 2, "layers": 2}},
    "data": {"train": "*.txt", "length": 16},
    "training": {"rate": 2e-3, "warmup": 4, "decay": 10, "batch": 2, "accumulate": 3},
    "stages": [
        {"steps": 20},
        {"hidden": "x2", "ffn": 96, "slope": {"below": 1e-4, "at_most": "1K", "window": 30}},
        {"layers": "+1", "tokens": 4800, "layers_at": [1]},
    ],
}


@many
@given(data=st.data())
def test_recipes(data: st.DataObject) -> None:
    said = data.draw(spoiled(RECIPE))
    within(lambda: parse(said))


def test_what_is_no_sentence_of_ours_is_a_fault() -> None:
    def wrong() -> None:
        raise KeyError("x")

    def much() -> None:
        bytearray(ROOM + 1)

    with pytest.raises(KeyError):
        answered(wrong)
    with pytest.raises(AssertionError, match="bytes"):
        within(much)
    with pytest.raises(AssertionError):
        grown_from(lambda folder: (folder.parent / "beside").write_text("") and None)


def test_as_many_kinds_are_fuzzed_as_a_run_says() -> None:
    fuzzed = [each for each in globals().values() if getattr(each, "is_hypothesis_test", False)]
    assert len(fuzzed) == sweeping.KINDS
