"""Run each engine in an environment of its own: `make engines`, or some of them by name.

    python -m benchmarks.engines.environments [ENGINE]... [--family F]... [--axis A]... [--rows FILE]

An environment holds isogrow, torch, transformers and what the engine's table says (`packages`, and the parts
of its source archive that are no package: `sources`). It is made once, in build/. The rest is for `python -m
benchmarks.engines`. What one engine can't do keeps no other from its turn; the exit code tells.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

from isogrow.engines import ENGINES

ROOT = Path(__file__).parents[2]


def environment(engine: str) -> tuple[Path, dict[str, str]]:
    """The Python of an engine's environment, which is made where it is missing, and the variables that it
    reads."""
    folder = ROOT / "build" / "engines" / engine
    python, made = folder / "bin" / "python", folder / ".made"
    if not made.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        known = ENGINES[engine]
        # torch goes first and alone: what comes after finds it there and pulls no other build.
        within = ["-c", str(ROOT / "constraints.txt")]
        subprocess.run([*pip, "install", "--quiet", *within, "torch"], check=True)
        subprocess.run([*pip, "install", "--quiet", *limits(engine), str(ROOT), *known.packages], check=True)
        if known.without:
            subprocess.run([*pip, "uninstall", "--quiet", "--yes", *known.without], check=True)
        if known.sources:
            unpacked(pip, known.packages[0], folder / "source")
        made.touch()
    (top,) = (folder / "source").glob("*/") if ENGINES[engine].sources else [folder]
    here = {"PYTHONPATH": str(ROOT / "src")}  # as it is now, not as it was when the environment was made
    return python, here | {name: str(top / path) for name, path in ENGINES[engine].sources.items()}


def limits(engine: str) -> list[str]:
    """The versions that were tested together, but for those that an engine has a say in."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition("==")[0] not in ENGINES[engine].apart]
    file = ROOT / "build" / "engines" / f"{engine}.txt"
    file.write_text("\n".join(kept) + "\n")
    return ["-c", str(file)]


def unpacked(pip: list[str | Path], package: str, folder: Path) -> None:
    """The source archive of a package, unpacked."""
    name = package.partition("==")[0]
    only = ["--no-deps", "--no-binary", name, "--dest", str(folder)]
    subprocess.run([*pip, "download", "--quiet", *only, package], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as held:
        held.extractall(folder, filter="data")
    archive.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines.environments")
    able = [name for name, engine in ENGINES.items() if engine.packages]
    parser.add_argument("engine", nargs="*", choices=able)
    given, rest = parser.parse_known_args()
    failed: list[str] = []
    for engine in given.engine or able:
        try:
            python, variables = environment(engine)
            for keys in ("4", "5"):
                command = [python, "-m", "benchmarks.engines", engine, "--keys", keys, *rest]
                subprocess.run(command, cwd=ROOT, check=True, env=os.environ | variables)
        except subprocess.CalledProcessError as error:
            failed.append(f"{engine}: {error}")
    print("\n".join(failed), file=sys.stderr)
    return len(failed) > 0


if __name__ == "__main__":
    sys.exit(main())
