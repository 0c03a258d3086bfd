"""What disks and file systems do wrong: reads that fail or end early, short writes, places that can't be
written, links. It is said in a sentence, the source stays as it was, and nothing half-finished is left."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from checkpoints import SMALL, digests, save, seen
from safetensors.torch import load_file
from test_distributed import saved, split

from isogrow.errors import CheckpointError, OutputError
from isogrow.stores import fetching, files, mapping, staging
from isogrow.stores.mapping import mapped
from isogrow.stores.sources import open_checkpoint
from isogrow.stores.staging import partial_of
from isogrow.stores.store import all_of

WEIGHTS = "model.safetensors"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A checkpoint that no test may change."""
    folder = save(tmp_path / "small")
    before = digests(folder)
    yield folder
    assert digests(folder) == before


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ── writes ──


@pytest.mark.parametrize("most", [1, 7, 4096])
def test_short_writes_are_gone_on_with(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    wanted = digests(seen(small).grow(tmp_path / "right", SMALL, hash_files=True))
    write = os.pwrite
    cut = 0

    def short(file: int, data: memoryview, start: int) -> int:
        nonlocal cut
        cut += len(data) > max(most, len(data) // 3)
        return write(file, data[: max(most, len(data) // 3)], start)  # some, never all of much

    monkeypatch.setattr(os, "pwrite", short)
    assert digests(seen(small).grow(tmp_path / "large", SMALL, hash_files=True)) == wanted
    assert cut > 10


def test_who_writes_once_and_looks_no_further_is_found(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail."""
    wanted = digests(seen(small).grow(tmp_path / "right", SMALL))
    write = os.pwrite
    monkeypatch.setattr(
        files, "write_at", lambda file, data, start: write(file, data[: len(data) // 3 or 1], start)
    )
    assert digests(seen(small).grow(tmp_path / "large", SMALL))[WEIGHTS] != wanted[WEIGHTS]


@pytest.mark.parametrize("call", ["pwrite", "fsync", "open", "rename"])
@pytest.mark.parametrize("at", [1, 2, 5])
def test_what_the_system_says_no_to_is_told(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    """A disk that is full at every stage: files made, written, flushed, and given their names."""
    whole, count, out = getattr(os, call), 0, tmp_path / "large"

    def failing(*args: Any, **options: Any) -> Any:
        nonlocal count
        ours = call in ("pwrite", "fsync") or partial_of(out).name in str(args[0])
        count += ours
        if ours and count == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(*args, **options)

    monkeypatch.setattr(os, call, failing)
    try:
        with pytest.raises(OutputError, match=r"large can't be written: the disk is full; make room"):
            seen(small).grow(out, SMALL, max_shard_size="30KB")
    finally:
        monkeypatch.undo()
    assert count >= at and left(tmp_path) == {"small"}


# ── reads ──


def failing_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source whose bytes can't be read: the system's copy says only that one side failed."""

    def fail(*_: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for call in ("copy_file_range", "pread", "preadv"):
        monkeypatch.setattr(os, call, fail)


def test_a_source_that_can_not_be_read_is_named(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_reads(monkeypatch)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors can't be read at byte [\d,]+ \(Input/output"
    ):
        seen(small).grow(tmp_path / "large", {"layers": "+1"})
    assert left(tmp_path) == {"small"}


def test_a_copy_that_the_system_fails_at_once_is_made_in_steps(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, failed = digests(seen(small).grow(tmp_path / "right", {"layers": "+1"})), 0

    def fail(*_: Any) -> Any:
        nonlocal failed
        failed += 1
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "copy_file_range", fail)
    assert digests(seen(small).grow(tmp_path / "large", {"layers": "+1"})) == wanted
    assert failed


def test_a_source_that_is_cut_off_while_it_is_mapped(tmp_path: Path) -> None:
    """The system ends a process that looks at pages behind the end of a file; so none is given out."""
    with mapped(open_checkpoint(save(tmp_path / "small"))) as store:
        name = max(store.headers)
        ((_, entries),) = store.parts(name)
        assert bool(entries.isfinite().all())
        os.truncate(tmp_path / "small" / WEIGHTS, 2000)
        with pytest.raises(CheckpointError, match=r"become shorter while it was read \(2,000 bytes of"):
            list(store.parts(name))


@pytest.mark.parametrize("at", [1, 5, 30])
def test_a_source_that_is_cut_off_in_the_middle_of_a_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """It is read, and not looked at where it is mapped: so the process lives, and says it."""
    folder, count = save(tmp_path / "small"), 0
    read = os.preadv

    def cutting(*given: Any) -> int:
        nonlocal count
        count += 1
        if count == at:
            os.truncate(folder / WEIGHTS, 2000)
        return read(*given)

    monkeypatch.setattr(mapping, "_check_length", lambda path, before: None)  # it was whole a moment ago
    monkeypatch.setattr(os, "preadv", cutting)
    with pytest.raises(CheckpointError, match=r"become shorter while it was read"):
        seen(folder).grow(tmp_path / "large", {"hidden": 36, "ffn": 57})
    assert count >= at and left(tmp_path) == {"small"}


def test_an_archive_that_is_cut_off_while_it_is_mapped(tmp_path: Path) -> None:
    """torch maps a `.bin` file itself, so how long it is now is asked before each look at it."""
    folder = save(tmp_path / "small")
    file = folder / "pytorch_model.bin"
    torch.save(load_file(folder / WEIGHTS), file)
    (folder / WEIGHTS).unlink()
    with mapped(open_checkpoint(folder)) as store:
        name = max(store.headers)
        assert bool(all_of(store, name).isfinite().all())
        os.truncate(file, 2000)
        with pytest.raises(CheckpointError, match=r"model\.bin has become shorter .* \(2,000 bytes of"):
            all_of(store, name)


@pytest.mark.parametrize("half", [False, True])
def test_chunks_that_are_cut_off_in_the_middle_of_a_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    """Those of a distributed checkpoint, whether one has all that is asked for, or each of two has a half."""
    full = torch.arange(35.0).view(7, 5)
    folder = saved({"w": full}, tmp_path / "whole")
    folder = split(folder, tmp_path / "cut", full) if half else folder
    monkeypatch.setattr(mapping, "_check_length", lambda path, before: None)  # it was whole a moment ago
    with mapped(open_checkpoint(folder, config={})) as store:
        assert torch.equal(all_of(store, "w"), full)
        read, cut = os.preadv, sorted(folder.glob("*.distcp"))[-1]

        def cutting(*given: Any) -> int:
            os.truncate(cut, 200)
            return read(*given)

        monkeypatch.setattr(os, "preadv", cutting)
        with pytest.raises(CheckpointError, match=r"distcp has become shorter while it was read"):
            all_of(store, "w")


def test_a_page_that_can_not_be_read_is_named(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_reads(monkeypatch)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors can't be read at byte [\d,]+ \(Input/output"
    ):
        seen(small).grow(tmp_path / "large", {"hidden": 36})
    assert left(tmp_path) == {"small"}


@pytest.mark.parametrize("most", [1, 100, 1 << 20])
@pytest.mark.parametrize("little", [1, 1 << 15])
def test_what_is_read_is_what_is_mapped(
    small: Path, monkeypatch: pytest.MonkeyPatch, most: int, little: int
) -> None:
    monkeypatch.setattr(fetching, "MOST", most)
    monkeypatch.setattr(fetching, "LITTLE", little)
    monkeypatch.setattr(fetching, "PARTS", 1 << 20)
    with mapped(open_checkpoint(small)) as store:
        for name in store.headers:
            ((_, whole),) = store.parts(name)
            for view in (whole, whole[1::3], whole[..., 2:5], whole.movedim(0, -1)[1:2], whole[:0]):
                found = store.fetched(name, view)
                assert found.shape == view.shape and torch.equal(found, view)
                assert (found.data_ptr() == view.data_ptr()) == (not 0 < view.numel() <= most)


def test_what_lies_in_many_parts_is_looked_at(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "LITTLE", 1)
    with mapped(open_checkpoint(small)) as store:
        name = next(name for name, header in store.headers.items() if min(header.shape) > fetching.PARTS)
        ((_, whole),) = store.parts(name)
        columns = whole[..., 2:5]
        assert store.fetched(name, columns).data_ptr() == columns.data_ptr()
        few = columns[: fetching.PARTS]
        assert torch.equal(store.fetched(name, few), few)
        assert store.fetched(name, few).data_ptr() != few.data_ptr()


# ── places ──


def test_a_place_that_may_not_be_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that is mounted read-only; as root, to whom modes say nothing, too."""
    whole = os.open

    def closed(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_CREAT and str(path).startswith(str(tmp_path)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return whole(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", closed)
    with pytest.raises(OutputError, match="large can't be written: the system says Read-only file system"):
        seen(small).grow(tmp_path / "large", SMALL)
    assert left(tmp_path) == {"small"}


def test_a_name_that_is_too_long_is_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="has too long a name for its file system: name another folder"):
        seen(small).grow(tmp_path / ("x" * 250), SMALL)  # the hidden folder's name is longer still
    assert left(tmp_path) == {"small"}


@pytest.mark.parametrize("out", ["SMALL", "Small/within"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_model_in_other_letters_is_the_model(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, overwrite: bool
) -> None:
    """On a file system that takes upper for lower case, where `--overwrite` would replace the model."""
    monkeypatch.setattr(os.path, "samefile", lambda one, other: str(one).lower() == str(other).lower())
    said = "SMALL is the model itself" if out == "SMALL" else "lies inside the model"
    with pytest.raises(OutputError, match=said):
        seen(small).grow(tmp_path / out, SMALL, overwrite=overwrite)
    monkeypatch.undo()
    assert left(tmp_path) == {"small"}


def test_files_whose_names_differ_in_case_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "small")
    (folder / "Config.JSON").write_text("{}")
    assert (seen(folder).grow(tmp_path / "apart", SMALL) / "Config.JSON").read_text() == "{}"
    monkeypatch.setattr(staging, "_one_case", lambda folder: True)
    with pytest.raises(OutputError, match=r"config\.json and Config\.JSON are one file in .*lower case"):
        seen(folder).grow(tmp_path / "large", SMALL)
    assert left(tmp_path) == {"small", "apart"}


def test_two_shards_whose_names_are_one_file(tmp_path: Path) -> None:
    """An index that was written where they are two: here each holds what the other should."""
    folder = save(tmp_path / "small", shard="30KB")
    index = folder / "model.safetensors.index.json"
    said = json.loads(index.read_text())
    first, second = sorted(set(said["weight_map"].values()))[:2]
    (folder / second).unlink()
    (folder / second).symlink_to(first)  # as a file system that takes upper for lower case has it
    with pytest.raises(CheckpointError, match="index and shards do not belong together"):
        seen(folder)


def test_a_cache_of_links_is_read_and_its_blobs_stay(small: Path, tmp_path: Path) -> None:
    """The Hub's cache: names in a snapshot are links to blobs elsewhere."""
    wanted = digests(seen(small).grow(tmp_path / "right", SMALL))
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "small"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(small.iterdir())):
        shutil.copyfile(path, blobs / str(number))
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / str(number))
    before = digests(blobs)
    large = seen(snapshot).grow(tmp_path / "large", SMALL)
    assert digests(large) == wanted and digests(blobs) == before
    assert not any(path.is_symlink() for path in large.iterdir())


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="asks for a second file system")
def test_an_output_on_another_file_system(small: Path, tmp_path: Path) -> None:
    wanted = digests(seen(small).grow(tmp_path / "right", {"layers": "+1"}))
    with TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == tmp_path.stat().st_dev:
            pytest.skip("it is the same file system")
        assert digests(seen(small).grow(Path(other) / "large", {"layers": "+1"})) == wanted
        assert left(Path(other)) == {"large"}
