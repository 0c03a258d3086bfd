"""An output is complete or absent: full disks, kills, resumption, and what stands in the way."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from checkpoints import SMALL, digests, loaded, names, save, seen, weights
from forking import PROCESSES

import isogrow
import isogrow.stores.staging
from isogrow.errors import CheckpointError, OutputError
from isogrow.stores.staging import JOURNAL, check_place, lock_of, partial_of, staged

LLAMA = "LlamaForCausalLM"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A checkpoint that no test may change."""
    folder = save(tmp_path / "small")
    before = digests(folder)
    yield folder
    assert digests(folder) == before


def refused(small: Path, out: Path, said: str, **options: Any) -> None:
    """Growing is refused with these words, and changes nothing beside the model."""
    before = digests(out.parent) if out.parent.is_dir() else None
    with pytest.raises(OutputError, match=said):
        seen(small).grow(out, SMALL, **options)
    assert (digests(out.parent) if out.parent.is_dir() else None) == before


# ── where ──


def test_an_output_that_exists(small: Path, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    refused(small, tmp_path / "large", "large exists: name another folder, or give --overwrite")


def test_an_output_that_is_a_dangling_link(small: Path, tmp_path: Path) -> None:
    (tmp_path / "large").symlink_to(tmp_path / "nothing")
    for overwrite in (False, True):  # --overwrite is not offered where it would not do
        refused(small, tmp_path / "large", "large is no folder, so it is not ov", overwrite=overwrite)


@pytest.mark.parametrize("nameless", ["/", "", "."])
def test_an_output_without_a_name(small: Path, nameless: str) -> None:
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is no name that a folder can get: name the folder to write"):
            check_place(Path(nameless), small, overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_inside_the_model(small: Path, tmp_path: Path, overwrite: bool) -> None:
    refused(small, small / "large", "large lies inside the model", overwrite=overwrite)
    (tmp_path / "other").symlink_to(small)
    refused(small, tmp_path / "other" / "large", "large lies inside the model", overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_that_is_the_model(small: Path, tmp_path: Path, overwrite: bool) -> None:
    refused(small, tmp_path / "x" / ".." / "small", "small is the model itself", overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_model_inside_the_output(small: Path, tmp_path: Path, overwrite: bool) -> None:
    refused(small, tmp_path, "holds the model", overwrite=overwrite)


def test_folders_above_the_output_are_made(small: Path, tmp_path: Path) -> None:
    loaded(seen(small).grow(tmp_path / "a" / "b" / "large", SMALL), LLAMA)


def test_a_file_above_the_output(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(small, tmp_path / "file" / "large", "would lie in something that is no folder")


# ── overwriting ──


@pytest.mark.parametrize("exchange", [True, False])
def test_overwriting_replaces_a_model_whole(
    small: Path, tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:  # a system or file system that has no such rename
        monkeypatch.setattr(isogrow.stores.staging, "_renameat2", lambda *_: False)
    large = seen(small).grow(tmp_path / "large", SMALL)
    first = digests(large)
    (large / "left-over.txt").write_text("old")
    seen(small).grow(large, {"ffn": 59}, overwrite=True)
    assert loaded(large, LLAMA).config.intermediate_size == 59
    assert names(large) == set(first)
    assert {path.name for path in tmp_path.iterdir()} == {"small", "large"}


def test_overwriting_keeps_the_old_output_until_the_new_one_is_complete(small: Path, tmp_path: Path) -> None:
    large = seen(small).grow(tmp_path / "large", SMALL)
    before = digests(large)

    def look(done: int, total: int) -> None:
        assert digests(large) == before
        if done == total:
            raise KeyError("a bug, late")

    with pytest.raises(KeyError):
        seen(small).grow(large, {"ffn": 59}, overwrite=True, progress=look)
    assert digests(large) == before
    assert {path.name for path in tmp_path.iterdir()} == {"small", "large"}


def test_a_second_rename_that_fails_brings_the_old_output_back(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = seen(small).grow(tmp_path / "large", SMALL)
    before = digests(large)
    rename = os.rename

    def fail(old: Path, new: Path) -> None:
        if str(old).endswith("-partial"):
            raise OSError(errno.EIO, "Input/output error")
        rename(old, new)

    monkeypatch.setattr(isogrow.stores.staging, "_renameat2", lambda *_: False)
    monkeypatch.setattr(isogrow.stores.staging.os, "rename", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        seen(small).grow(large, {"ffn": 59}, overwrite=True)
    assert digests(large) == before


def test_overwriting_spares_what_is_no_model(small: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("mine")
    refused(small, tmp_path / "home", "home holds other things than a model", overwrite=True)
    (tmp_path / "file").write_text("mine")
    refused(small, tmp_path / "file", "file is no folder", overwrite=True)
    (tmp_path / "empty").mkdir()
    seen(small).grow(tmp_path / "empty", SMALL, overwrite=True)


def test_an_output_that_appears_meanwhile_is_kept(small: Path, tmp_path: Path) -> None:
    def appear(done: int, total: int) -> None:
        (tmp_path / "large").mkdir(exist_ok=True)

    with pytest.raises(OutputError, match="large appeared while it was being written"):
        seen(small).grow(tmp_path / "large", SMALL, progress=appear)
    assert list((tmp_path / "large").iterdir()) == []


# ── full disks ──


def test_too_little_room_is_seen_before(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isogrow.stores.staging.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**7))
    refused(small, tmp_path / "large", r"large needs 0.02 GB, and its disk has 0.01 GB free: free some")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_leaves_nothing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write = os.pwrite
    count = 0

    def fill_up(file: int, data: memoryview, start: int) -> int:
        nonlocal count
        count += 1
        if count == 5:
            raise OSError(number, os.strerror(number))
        return write(file, data, start)

    monkeypatch.setattr(os, "pwrite", fill_up)
    refused(
        small, tmp_path / "large", "large can't be written: the disk (is full|quota is used up); make room"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"small"}


@pytest.mark.slow
@pytest.mark.parametrize("resume", [True, False])
def test_a_disk_with_room_for_one_output_has_room_for_what_a_killed_run_left(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    left = sum(path.stat().st_blocks * 512 for path in partial_of(killed).iterdir())
    wanted = whole(tmp_path)
    needed = sum((tmp_path / "other" / name).stat().st_size for name in wanted) + (1 << 24)
    usage = SimpleNamespace(free=needed - left // 2)
    monkeypatch.setattr(isogrow.stores.staging.shutil, "disk_usage", lambda _: usage)
    seen(tmp_path / "small").grow(killed, SMALL, max_shard_size="30KB", resume=resume)
    assert digests(killed) == wanted


def test_what_is_none_of_a_killed_run_is_no_room(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isogrow.stores.staging.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    refused(tmp_path / "small", killed, "its disk has 0.00 GB free", max_shard_size="30KB", resume=True)


def run(small: Path, out: Path, limit: int = 0, kill: int = 0) -> tuple[int | None, str]:
    """The growth in a process of its own: how it ended, and what it was refused with."""
    one, other = PROCESSES.Pipe()
    process = PROCESSES.Process(target=grown, args=(small, out, limit, kill, other))
    process.start()
    other.close()
    process.join()
    return process.exitcode, one.recv() if one.poll() and not kill else ""


def grown(small: Path, out: Path, limit: int, kill: int, said: Any) -> None:
    """The job of that process, which may write no file of more than `limit` bytes."""

    def progress(done: int, total: int) -> None:
        if kill and done > 0.6 * total:
            os.kill(os.getpid(), kill)

    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        seen(small).grow(out, SMALL, progress=progress, max_shard_size="30KB")
    except OutputError as error:
        said.send(str(error))


@pytest.mark.slow
def test_a_process_that_may_write_no_large_file(small: Path, tmp_path: Path) -> None:
    _, said = run(small, tmp_path / "large", limit=9000)
    assert "allows no file that large; make room" in said
    assert {path.name for path in tmp_path.iterdir()} == {"small"}


def test_a_real_full_disk(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("only root mounts a small disk")
    try:
        refused(small, disk / "large", "large needs 0.02 GB, and its disk has 0.00 GB free")
        monkeypatch.setattr("isogrow.interpreters.checkpoint.check_space", lambda *_: None)
        refused(small, disk / "large", "large can't be written: the disk is full; make room")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# ── kills, and going on ──


@pytest.fixture(scope="module")
def killing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and with what a run that was killed half-way leaves of its growth."""
    folder = tmp_path_factory.mktemp("killed")
    small = save(folder / "small")
    assert run(small, folder / "large", kill=signal.SIGKILL)[0] == -signal.SIGKILL
    return folder


@pytest.fixture
def killed(killing: Path, tmp_path: Path) -> Path:
    """No output, some whole shards, and one that is not; the model is its `small`."""
    shutil.copytree(killing, tmp_path, dirs_exist_ok=True)
    out = tmp_path / "large"
    assert {path.name for path in tmp_path.iterdir()} == {"small", partial_of(out).name, lock_of(out).name}
    left = {path.name for path in partial_of(out).iterdir()}
    assert JOURNAL in left
    assert any(name.endswith(".safetensors") for name in left)
    assert any(name.endswith(".safetensors.part") for name in left)
    return out


def whole(tmp_path: Path) -> dict[str, str]:
    return digests(seen(tmp_path / "small").grow(tmp_path / "other", SMALL, max_shard_size="30KB"))


def test_after_a_kill_a_new_run_starts_anew(killed: Path, tmp_path: Path) -> None:
    (partial_of(killed) / "stray").mkdir()
    told: list[tuple[str, str]] = []
    small = seen(tmp_path / "small")
    small.grow(killed, SMALL, max_shard_size="30KB", told=lambda *said: told.append(said))
    ((word, said),) = told
    assert word == "started over" and said.endswith(
        " MB that a stopped run of this growth left are gone; --resume (resume=True) goes on with them"
    )
    assert digests(killed) == whole(tmp_path)
    assert not partial_of(killed).exists() and not lock_of(killed).exists()


def test_a_killed_run_is_resumed(killed: Path, tmp_path: Path) -> None:
    kept = {p.name: p.stat().st_ino for p in partial_of(killed).glob("*.safetensors")}
    progress: list[int] = []
    told: list[tuple[str, str]] = []
    seen(tmp_path / "small").grow(
        killed,
        SMALL,
        max_shard_size="30KB",
        resume=True,
        progress=lambda done, _: progress.append(done),
        told=lambda *said: told.append(said),
    )
    ((word, said),) = told
    assert word == "resumed"
    assert said.startswith(f"{len(kept)} of ") and said.endswith(" files of weights are whole")
    assert digests(killed) == whole(tmp_path)
    assert {name: (killed / name).stat().st_ino for name in kept} == kept
    assert progress[0] > 20_000  # the first whole shard at once


def unnamed(small: Path, out: Path) -> None:
    """The job of a process that is killed where all but its output's name is there."""
    isogrow.stores.staging._renameat2 = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    seen(small).grow(out, SMALL, max_shard_size="30KB")


@pytest.mark.slow
def test_a_run_that_is_killed_before_its_output_has_a_name_is_resumed(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "large"
    process = PROCESSES.Process(target=unnamed, args=(small, out))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert {path.name for path in tmp_path.iterdir()} == {"small", partial_of(out).name, lock_of(out).name}
    assert not (partial_of(out) / JOURNAL).exists()
    left = {p.name: p.stat().st_ino for p in partial_of(out).glob("*.safetensors")}
    seen(small).grow(out, SMALL, max_shard_size="30KB", resume=True)
    assert {name: (out / name).stat().st_ino for name in left} == left
    assert digests(out) == whole(tmp_path)
    assert not lock_of(out).exists()


def test_what_was_to_get_its_name_is_known_by_the_lock_alone(tmp_path: Path) -> None:
    out = tmp_path / "large"
    partial_of(out).mkdir()
    (partial_of(out) / "isogrow.json").write_text("{}")
    lock_of(out).write_text('{"digest": "one"}')
    with pytest.raises(KeyboardInterrupt), staged(out, "one", resume=True) as folder:
        assert (folder / "isogrow.json").exists()
        raise KeyboardInterrupt
    (partial_of(out) / JOURNAL).unlink()
    lock_of(out).write_text('{"digest": "one"}')
    with pytest.raises(OutputError, match="was left by another growth"), staged(out, "two", resume=True):
        pass


def test_a_shard_of_a_killed_run_that_was_cut_is_made_again(killed: Path, tmp_path: Path) -> None:
    shard = min(partial_of(killed).glob("*.safetensors"))
    os.truncate(shard, shard.stat().st_size - 1)
    seen(tmp_path / "small").grow(killed, SMALL, max_shard_size="30KB", resume=True)
    assert digests(killed) == whole(tmp_path)


def test_what_another_growth_left_goes_without_a_word(killed: Path, tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    seen(tmp_path / "small").grow(killed, {"ffn": 59}, told=lambda *said: told.append(said))
    assert told == []


@pytest.mark.parametrize("options", [{"max_shard_size": "20KB"}, {"dtype": "bfloat16"}])
def test_another_growth_is_not_resumed(killed: Path, tmp_path: Path, options: Any) -> None:
    before = digests(partial_of(killed))
    with pytest.raises(OutputError, match="was left by another growth .* run again without --resume"):
        seen(tmp_path / "small").grow(killed, SMALL, resume=True, **{"max_shard_size": "30KB", **options})
    with pytest.raises(OutputError, match="was left by another growth"):
        seen(tmp_path / "small").grow(killed, {"ffn": 59}, resume=True, max_shard_size="30KB")
    assert digests(partial_of(killed)) == before


def test_a_changed_source_is_not_resumed(killed: Path, tmp_path: Path) -> None:
    os.utime(tmp_path / "small" / "model.safetensors", ns=(1, 1))
    with pytest.raises(OutputError, match="was left by another growth"):
        seen(tmp_path / "small").grow(killed, SMALL, resume=True, max_shard_size="30KB")


@pytest.mark.parametrize("how", ["touched", "replaced", "gone"])
def test_a_source_that_changes_meanwhile_is_seen(small: Path, tmp_path: Path, how: str) -> None:
    shutil.copytree(small, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"

    def change(done: int, total: int) -> None:
        if done < total:
            return
        if how == "touched":
            os.utime(weights, ns=(1, 1))
        elif how == "replaced":
            shutil.copyfile(weights, tmp_path / "other")
            os.replace(tmp_path / "other", weights)
        else:
            weights.unlink()

    with pytest.raises(
        CheckpointError, match=r"model\.safetensors was changed while it was read, so the output"
    ):
        isogrow.grow_checkpoint(tmp_path / "model", tmp_path / "large", ffn="x2", progress=change)
    assert not (tmp_path / "large").exists()


def test_resuming_nothing_is_a_new_run(small: Path, tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    loaded(
        seen(small).grow(tmp_path / "large", SMALL, resume=True, told=lambda *said: told.append(said)), LLAMA
    )
    assert told == [("started over", "no file of weights is whole")]


def test_an_interruption_can_be_resumed_and_an_error_leaves_nothing(small: Path, tmp_path: Path) -> None:
    def stop(kind: type[BaseException]) -> Any:
        def progress(done: int, total: int) -> None:
            if done == total:
                raise kind

        return progress

    out = tmp_path / "large"
    with pytest.raises(KeyboardInterrupt):
        seen(small).grow(out, SMALL, progress=stop(KeyboardInterrupt))
    assert partial_of(out).is_dir() and not out.exists()
    with pytest.raises(KeyError):
        seen(small).grow(out, SMALL, progress=stop(KeyError), resume=True)
    assert partial_of(out).is_dir()
    with pytest.raises(KeyError):
        seen(small).grow(out, SMALL, progress=stop(KeyError))
    assert not partial_of(out).exists()
    loaded(seen(small).grow(out, SMALL), LLAMA)


def test_a_partial_folder_in_use_is_left_alone(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "large"
    partial_of(out).mkdir()
    (partial_of(out) / JOURNAL).write_text("{}")
    (partial_of(out) / "model.safetensors.part").write_text("theirs")
    with lock_of(out).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(small, out, "large is being written by another process: wait for it")
        refused(small, out, "large is being written by another process: wait for it", resume=True)


def test_another_process_may_not_begin_while_one_publishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run is tried before each step of a publication, over an old output and where there is none."""
    tried: list[str] = []

    def between(name: str, step: Any) -> Any:
        def with_a_rival(*args: Any, **options: Any) -> Any:
            said = pytest.raises(OutputError, match="is being written by another process")
            with said, staged(out, "theirs", overwrite=True):
                raise AssertionError("two at once")
            tried.append(name)
            return step(*args, **options)

        return with_a_rival

    staging = isogrow.stores.staging
    for owner, name in ((staging, "_renameat2"), (staging, "flush"), (shutil, "rmtree")):
        monkeypatch.setattr(owner, name, between(name, getattr(owner, name)))
    out = tmp_path / "out"
    for text in ("old", "new"):
        with staged(out, "ours", overwrite=True) as folder:
            (folder / "config.json").write_text(text)
        assert (out / "config.json").read_text() == text and names(out) == {"config.json"}
        assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert {"_renameat2", "flush", "rmtree"} <= set(tried)


def test_a_lock_that_is_taken_away_while_it_is_waited_for_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run finishes between another one's opening of the lock and its locking."""
    out, opened = tmp_path / "out", isogrow.stores.staging._open_lock

    def then_taken_away(path: Path) -> int:
        lock = opened(path)
        path.unlink()
        return lock

    monkeypatch.setattr(isogrow.stores.staging, "_open_lock", then_taken_away)
    said = pytest.raises(OutputError, match="was being written by another process just now: run again")
    with said, staged(out, "digest"):
        raise AssertionError("a lock that another run can't see")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_isogrow_did_not_make_is_left_alone(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "large"
    partial_of(out).mkdir()
    (partial_of(out) / "thesis.tex").write_text("mine")
    refused(small, out, "isogrow-partial is in the way, and isogrow did not make it: remove it")


def test_nothing_is_seen_of_an_output_before_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged(out, "digest") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("a")
        assert not out.exists()
    assert names(out) == {"sub/file"}
    assert not partial_of(out).exists()


def test_a_good_place_is_accepted(small: Path, tmp_path: Path) -> None:
    check_place(tmp_path / "smaller", small, overwrite=False)  # not inside, though the name begins alike
    assert weights(small)
