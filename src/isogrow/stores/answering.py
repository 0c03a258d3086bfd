"""The process that `asking` starts: it loads what every class needs, waits until its standard input ends,
reads a config from a file that it was handed open, and writes what its class makes of it into another.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from typing import Any, NoReturn

from isogrow.errors import SizeError


def answer(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the class makes of a config, or why it refuses it."""
    from isogrow.stores.loadable import built  # brings torch

    try:
        found = built(config)
    except SizeError as error:
        return {"refused": str(error)}
    return {"built": None if found is None else asdict(found)}


def reply(asked: int, said: int) -> NoReturn:
    """Read, answer, and leave without what an interpreter clears up."""
    _load()
    with os.fdopen(asked, "rb") as file:
        file.seek(0)
        found = answer(json.load(file))
    with os.fdopen(said, "wb") as file:
        file.write(json.dumps(found).encode())
    os._exit(0)


def _load() -> None:
    """What every class needs."""
    gc.disable()  # a quarter of the time of these imports: this process ends before it has garbage
    import_module("transformers.modeling_utils")


if __name__ == "__main__":
    _load()
    sys.stdin.read()
    reply(*map(int, sys.argv[1:]))
