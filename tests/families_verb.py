"""The verb `families` asks the planner for some ten plans a model type: it is run once for all tests, of a
part of the types, or under `make sweep` of all."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeping import EVERYTHING, chosen

TOLD = {"bert", "llama", "qwen3"}
SOURCE = Path(__file__).parents[1] / "src"


@dataclass(frozen=True)
class Asked:
    """What `isogrow families --json TYPES` said in a process of its own, and the modules that it loaded."""

    types: tuple[str, ...]
    code: int
    out: str
    loaded: frozenset[str]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def asked_once(shared: Path) -> Asked:
    """The answer, kept in a folder that all processes of a test run share."""
    kept = shared / "families.json"
    with (shared / "families.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            types = () if EVERYTHING else part()
            ran = python("-X", "importtime", "-m", "isogrow", "families", "--json", *types)
            kept.write_text(json.dumps([types, ran.returncode, ran.stdout, sorted(modules(ran.stderr))]))
    types, code, out, loaded = json.loads(kept.read_text())
    return Asked(tuple(types), code, out, frozenset(loaded))


def part() -> tuple[str, ...]:
    """One model type in five, and those of which the tests know what is said."""
    from isogrow.families import LAYOUTS  # not above: what hands tests out to workers loads none

    return tuple(sorted(chosen("families", sorted(LAYOUTS), share=5) | TOLD))


def modules(importtime: str) -> set[str]:
    """The modules in what `-X importtime` writes."""
    return {line.rsplit("|", 1)[-1].strip() for line in importtime.splitlines() if "|" in line}


def python(*arguments: object, **options: Any) -> subprocess.CompletedProcess[Any]:
    """A Python process that finds this package."""
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path} | options.pop("environment", {})
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        check=False,
        timeout=600,
        **({"capture_output": True, "text": True} | options),
    )
