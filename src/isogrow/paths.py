"""How paths that a user gives are read, wherever one may be given."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with the user's folder for a ~ at its start, as a shell has it; the ~ of nobody stays.

    >>> str(expanded("large/~")), expanded("~") == Path.home()
    ('large/~', True)
    """
    return Path(os.path.expanduser(path))
