"""Memory that is free, given back to the system."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Have the C library return what it keeps for later: runs in many threads leave some in each of their
    pools, and what comes next is not theirs. Nothing happens where it knows no such call."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return
