"""A folder that appears complete, by one rename, or not at all.

Everything is written into `.NAME.isogrow-partial` beside the folder that is to be, and flushed to disk;
then that is renamed. Whatever happens before, there is no folder NAME (or the old one, untouched).

A run that is killed leaves its partial folder. The next run clears it away and starts anew, or with
`resume` goes on where it stopped, if it is asked for the same bytes (`digest`). A partial folder that
another process is writing to is left alone, and so is one that isogrow did not make.

The lock is a file of its own beside both, `.NAME.isogrow-lock`, held from before the partial folder is
made until after the rename (and, with `overwrite`, until the old folder is gone): a lock inside the folder
would go away, or along, with the rename, and a second run would then clear what the first one publishes.
It takes over what the journal says before that goes, so that a run which is killed just before the rename
can be gone on with, too.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from isogrow.errors import OutputError, RankLost

JOURNAL = ".isogrow-journal"
FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file system, or a limit of this process, allows no file that large",
}
MARKED = {"model": "config.json", "adapter": "adapter_config.json"}  # what an output is known by
DROPPED = (
    "the {:,.1f} MB that a stopped run of this growth left are gone; --resume (resume=True) goes on with them"
)
NOREPLACE, EXCHANGE = 1, 2  # renameat2's flags
AT_FDCWD = -100

Told = Callable[[str, str], None]


def check_place(out: Path, source: Path, overwrite: bool, what: str = "model") -> None:
    """Refuse an output that exists, holds the source (of this kind: `MARKED`) or lies in it. Raises
    `OutputError`."""
    try:
        here, there = out.resolve(), source.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise OutputError(f"{out} can't be followed to a place: name another folder") from error
    if not out.name:
        raise OutputError(f"{out} is no name that a folder can get: name the folder to write")
    _check_name(out)
    if any(parent.exists() and not parent.is_dir() for parent in here.parents):
        raise OutputError(f"{out} would lie in something that is no folder: name another place")
    if _same(here, there):
        raise OutputError(f"{out} is the {what} itself, which is never written to: name another folder")
    if any(_same(parent, there) for parent in here.parents):
        raise OutputError(f"{out} lies inside the {what} {source}: name a folder outside it")
    if any(_same(parent, here) for parent in there.parents):
        raise OutputError(f"{out} holds the {what} {source}: name another folder")
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not out.is_dir():
        raise OutputError(f"{out} is no folder, so it is not overwritten: remove it, or name another")
    marked = MARKED[what]
    if any(out.iterdir()) and not (out / marked).is_file():
        raise OutputError(
            f"{out} holds other things than {'an' if what == 'adapter' else 'a'} {what} (no {marked}), so it"
            " is not overwritten: name another folder"
        )
    if not overwrite:
        raise OutputError(f"{out} exists: name another folder, or give --overwrite to replace it")


def _same(one: Path, other: Path) -> bool:
    """Whether two places are one; where a file system takes upper for lower case, so may two names be."""
    try:
        return one == other or os.path.samefile(one, other)
    except OSError:  # one of them is not there
        return False


def check_apart(folder: Path, names: Iterable[str]) -> None:
    """Refuse files that would be one, where their folder's file system takes upper for lower case. Raises
    `OutputError`."""
    found: dict[str, str] = {}
    for name in names:
        other = found.setdefault(name.casefold(), name)
        if other != name and _one_case(folder):
            raise OutputError(
                f"{other} and {name} are one file in {folder.parent}, whose file system does not tell upper"
                " from lower case: rename one of them, or name a folder on another disk"
            )


def _one_case(folder: Path) -> bool:
    """Whether a folder that has a journal has it under a name in other letters, too."""
    return os.path.lexists(folder / JOURNAL.upper())


def _check_name(out: Path) -> None:
    """Refuse a name for which the file system has no room, with what the hidden folder's adds to it."""
    try:
        os.lstat(partial_of(out.absolute()))
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OutputError(
                f"{out} has too long a name for its file system: name another folder"
            ) from error


def check_space(out: Path, needed: int) -> None:
    """Refuse an output that its disk has no room for. Raises `OutputError`."""
    place = next(parent for parent in out.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(place).free + _left(partial_of(out.absolute()))
    if free < needed:
        raise OutputError(
            f"{out} needs {needed / 1e9:.2f} GB, and its disk has {free / 1e9:.2f} GB free: free some, or"
            " name a folder on another disk"
        )


def _left(partial: Path) -> int:
    """Bytes that a killed run left on the disk: a new run goes on with them, or clears them away first."""
    if partial.is_symlink() or not _made_here(partial):
        return 0
    files = (Path(folder, name) for folder, _, names in os.walk(partial) for name in names)
    return sum(file.lstat().st_blocks * 512 for file in files)


def failed_of(out: Path) -> Path:
    """Where an output is kept, on request, that failed its proof."""
    return out.with_name(f"{out.name}.failed")


def set_aside(folder: Path, out: Path) -> None:
    """Keep a folder that is being written, and will not become the output, as `failed_of(out)`."""
    with _refusing(failed_of(out)):
        (folder / JOURNAL).unlink(missing_ok=True)
        os.rename(folder, failed_of(out))


def lock_of(out: Path) -> Path:
    """The file that the process which writes the output holds locked."""
    return out.with_name(f".{out.name}.isogrow-lock")


def partial_of(out: Path) -> Path:
    """Where the output is written until it is complete."""
    return out.with_name(f".{out.name}.isogrow-partial")


@contextmanager
def staged(
    out: Path, digest: str, overwrite: bool = False, resume: bool = False, told: Told | None = None
) -> Generator[Path]:
    """A folder to write into; it becomes `out` when the block ends without an error. `told` hears where a
    stopped run of the same growth is dropped.

    An error clears it away (but not with `resume`, and not an interruption by the user or the end of another
    rank, which can be resumed). Raises `OutputError` where it can't be written.
    """
    out = out.absolute()
    partial = partial_of(out)
    with _refusing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        begun = os.path.lexists(partial)
        try:
            with _refusing(out):
                _begin(out, partial, digest, resume, told)
        except OutputError:
            if not begun:
                shutil.rmtree(partial, ignore_errors=True)
            raise
        try:
            with _refusing(out):
                yield partial
                _publish(partial, out, overwrite)
        except RankLost:  # it may have been killed, and others may still write here
            raise
        except Exception:
            if not resume:
                shutil.rmtree(partial, ignore_errors=True)
            raise


def write_file(path: Path, data: bytes) -> None:
    """Write a small file, and flush it to disk."""
    path.write_bytes(data)
    flush(path)


def flush(path: Path) -> None:
    """Flush a file's bytes, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _refusing(out: Path) -> Generator[None]:
    """What the file system says no to, as a sentence."""
    try:
        yield
    except OSError as error:
        why = FULL.get(error.errno or 0, f"the system says {error.strerror or error}")
        raise OutputError(
            f"{out} can't be written: {why}; make room or name another folder, and run again"
        ) from error


@contextmanager
def _locked(out: Path) -> Generator[None]:
    """Nobody else writes this output meanwhile. Raises `OutputError` where somebody does."""
    path = lock_of(out)
    with _refusing(out):
        lock = _open_lock(path)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                f"{out} is being written by another process: wait for it, or name another folder"
            ) from error
        if not _is_at(lock, path):  # the other process has just finished, and taken its lock away
            raise OutputError(f"{out} was being written by another process just now: run again")
        try:
            yield
        finally:
            path.unlink()
    finally:
        os.close(lock)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is still the one that this path leads to."""
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except FileNotFoundError:
        return False


def _check_ours(partial: Path) -> None:
    if partial.is_symlink() or not partial.is_dir() or (any(partial.iterdir()) and not _made_here(partial)):
        raise OutputError(f"{partial} is in the way, and isogrow did not make it: remove it")


def _made_here(partial: Path) -> bool:
    return any((partial / name).is_file() for name in (JOURNAL, "isogrow.json"))


def _begin(out: Path, partial: Path, digest: str, resume: bool, told: Told | None) -> None:
    """The partial folder: new, or cleared, or with `resume` as a killed run of the same growth left it."""
    if os.path.lexists(partial):
        _check_ours(partial)
    partial.mkdir(exist_ok=True)
    kept = [path for path in partial.iterdir() if path.name != JOURNAL]
    if resume and kept and digest not in (_digest(partial / JOURNAL), _published(out, partial)):
        raise OutputError(
            f"{partial} was left by another growth (other sizes, options, source or version), so it can't"
            " be resumed: run again without --resume to start over"
        )
    if not resume:
        if told is not None and kept and _digest(partial / JOURNAL) == digest:
            told("started over", DROPPED.format(_left(partial) / 1e6))
        for path in kept:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    # Last: until all is cleared, what lies here belongs to the growth that the old journal names.
    write_file(partial / JOURNAL, json.dumps({"digest": digest}).encode())


def _published(out: Path, partial: Path) -> str | None:
    """The digest of what a run was killed at giving its name; None if none was."""
    return None if (partial / JOURNAL).exists() else _digest(lock_of(out))


def _digest(journal: Path) -> str | None:
    try:
        return json.loads(journal.read_bytes())["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _publish(partial: Path, out: Path, overwrite: bool) -> None:
    """The rename that makes the output appear."""
    for folder, _, _ in os.walk(partial):
        flush(Path(folder))
    write_file(lock_of(out), (partial / JOURNAL).read_bytes())
    (partial / JOURNAL).unlink()
    if os.path.lexists(out):
        if not overwrite:
            raise OutputError(f"{out} appeared while it was being written: name another folder")
        _replace(partial, out)
    elif not _renameat2(partial, out, NOREPLACE):
        os.rename(partial, out)
    flush(out.parent)


def _replace(partial: Path, out: Path) -> None:
    """Put the new folder in the old one's place, then delete the old one."""
    if _renameat2(partial, out, EXCHANGE):
        flush(out.parent)
        shutil.rmtree(partial, ignore_errors=True)
        return
    aside = out.with_name(f".{out.name}.isogrow-old")
    os.rename(out, aside)
    try:
        os.rename(partial, out)
    except OSError:
        os.rename(aside, out)
        raise
    flush(out.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _renameat2(old: Path, new: Path, flag: int) -> bool:
    """Linux's rename with flags; False where the system or the file system has none."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if call(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(new))
