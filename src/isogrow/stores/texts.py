"""A text file that a user names: it appears complete or not at all, and replaces what it may."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from isogrow.errors import OutputError


def write_text(text: str, path: Path, overwrite: bool) -> None:
    """Write a file, which appears complete or not at all. Raises `OutputError`."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists: name another file, or give --overwrite to replace it")
    partial = path.with_name(f".{path.name}.isogrow-partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.rename(path)
    except OSError as error:
        raise OutputError(f"{path} can't be written ({error.strerror}): name another file") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
