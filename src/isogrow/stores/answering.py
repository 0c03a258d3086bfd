"""The process that `asking` starts: it reads a config, and writes what its class makes of it into a file that
it was handed open.
"""

from __future__ import annotations

import gc

gc.disable()  # before the imports, a quarter of whose time it takes: this process ends before it has garbage

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Mapping  # noqa: E402
from dataclasses import asdict  # noqa: E402
from typing import Any  # noqa: E402

from isogrow.errors import SizeError  # noqa: E402
from isogrow.stores.loadable import built  # noqa: E402


def answer(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the class makes of a config, or why it refuses it."""
    try:
        found = built(config)
    except SizeError as error:
        return {"refused": str(error)}
    return {"built": None if found is None else asdict(found)}


def main(descriptor: int) -> None:
    """Read, answer, and leave without what an interpreter clears up."""
    said = json.dumps(answer(json.loads(sys.stdin.read()))).encode()
    with os.fdopen(descriptor, "wb") as file:
        file.write(said)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
