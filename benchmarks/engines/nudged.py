"""Whether `isogrow verify --engine` tells a right growth from one with a weight that is off.

    python -m benchmarks.engines.nudged ENGINE [MODEL_TYPE]

Run it where that engine is installed. A small model of random weights is grown in ffn and layers for the
engine, and compared there; then one weight in its first layer is larger by 0.05.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from safetensors.torch import load_file, save_file

import isogrow
from benchmarks.engines.__main__ import made
from isogrow.engines import ENGINES
from isogrow.verification.report import Check
from isogrow.verification.runners import RUNNERS

FILE = "model.safetensors"


def nudged(large: Path, out: Path) -> Path:
    """The same folder with one weight of the first layer that reads the residual larger."""
    shutil.copytree(large, out)
    weights = load_file(out / FILE)
    name = next(n for n in sorted(weights) if ".0." in n and n.endswith("up_proj.weight"))
    weights[name][2, 3] += 0.05
    save_file(weights, out / FILE, {"format": "pt"})
    return out


def told(check: Check) -> str:
    assert check.value is not None and check.limit is not None
    return f"{'passes' if check.passed else 'fails'}: {check.value:.1e} (limit {check.limit:.1e})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines.nudged")
    parser.add_argument("engine", choices=sorted(RUNNERS))
    parser.add_argument("family", nargs="?", default="llama")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        small = made(given.family, "4", here / "small")
        isogrow.grow_checkpoint(small, here / "large", ffn="x2", layers="+1", engines=given.engine)
        pair = here / "large", nudged(here / "large", here / "nudged")
        found = [told(isogrow.verify_in(given.engine, small, large).checks[0]) for large in pair]
    engine = ENGINES[given.engine]
    print(f"| {engine.title} {engine.version} | {given.family} | {found[0]} | {found[1]} |")


if __name__ == "__main__":
    main()
