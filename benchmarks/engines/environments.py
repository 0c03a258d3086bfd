"""Run each engine in an environment of its own: `make engines`, or some of them by name.

    python -m benchmarks.engines.environments [ENGINE]...

An environment holds isogrow, torch, transformers and what the engine's table says (`packages`). It is made
once, in build/.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from isogrow.engines import ENGINES

ROOT = Path(__file__).parents[2]


def environment(engine: str) -> Path:
    """The Python of an engine's environment, which is made where it is missing."""
    folder = ROOT / "build" / "engines" / engine
    python, made = folder / "bin" / "python", folder / ".made"
    if not made.exists():
        venv.create(folder, with_pip=True)
        wanted = ["-c", str(ROOT / "constraints.txt"), str(ROOT), *ENGINES[engine].packages]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        made.touch()
    return python


def main() -> None:
    for engine in sys.argv[1:] or [name for name, engine in ENGINES.items() if engine.packages]:
        for keys in ("4", "5"):
            command = [environment(engine), "-m", "benchmarks.engines", engine, "--keys", keys]
            subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
