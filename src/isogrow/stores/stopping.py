"""How ranks that are at work hear that another one has failed: it leaves a mark in the folder that they fill.

Ranks meet when all have done their share, which may take hours. The mark says no more than that they are to
meet now.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

from isogrow.stores.writers import Writers

MARK = ".isogrow-stop"
PAUSE = 1.0  # seconds between two looks


@contextmanager
def stopping(folder: Path, writers: Writers) -> Generator[Callable[[], None]]:
    """What is to be called often while this process writes: it raises what another rank has failed by."""
    if writers.world == 1:
        yield lambda: None
        return
    looked = monotonic()

    def look() -> None:
        nonlocal looked
        if monotonic() - looked > PAUSE:
            looked = monotonic()
            if (folder / MARK).exists():
                writers.meet(None)

    try:
        yield look
    except Exception:
        with suppress(OSError):  # others then hear of it when they have done their share
            (folder / MARK).touch()
        raise


def unmark(folder: Path) -> None:
    """Take away the mark of an earlier run."""
    (folder / MARK).unlink(missing_ok=True)
