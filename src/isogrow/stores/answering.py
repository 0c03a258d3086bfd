"""The process that `asking` starts: it reads a config, and writes what its class makes of it into a file that
it was handed open.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from isogrow.errors import SizeError
from isogrow.stores.loadable import built


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
