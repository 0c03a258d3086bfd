"""What a run keeps in its folder: under which names, and how it is read again.

Nothing heavy is imported here: the report reads a run's folder where no run could be carried out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from isogrow.errors import RecipeError

RECIPE, STAGES, CORPUS, LOG, OUTCOME = (
    f"{name}.json" for name in ("recipe", "stages", "corpus", "log", "outcome")
)
FINAL, TOKENS, RELEASED = "model", "tokens", "released"
STATE, CARD = "trainer_state.json", "README.md"
CHECKPOINT, STAGE = "checkpoint-", "stage-"


def checkpoints(folder: Path) -> list[Path]:
    """The run's checkpoints, the oldest first. One that no step names (a copy, say) is none of them."""
    found = {path.name.removeprefix(CHECKPOINT): path for path in folder.glob(f"{CHECKPOINT}*")}
    return [found[step] for step in sorted(filter(str.isdecimal, found), key=int) if found[step].is_dir()]


def released_name(stage: int) -> str:
    """The folder of a stage's release, in that of all releases."""
    return f"{STAGE}{stage}"


def stage_of(folder: Path) -> int:
    """The stage whose release a folder is."""
    return int(folder.name.removeprefix(STAGE))


def releases(folder: Path) -> list[Path]:
    """The folders of the run's releases, finished or not, by stage. What no stage names is none of them."""
    found = (folder / RELEASED).glob(f"{STAGE}*")
    return sorted((path for path in found if path.name.removeprefix(STAGE).isdecimal()), key=stage_of)


def history(checkpoint: Path) -> list[dict[str, Any]] | None:
    """The records of a checkpoint that was written to its end; None for one that was not.

    Trainer writes its state last, so a checkpoint without a readable state is none.
    """
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        return list(state["log_history"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # any other OSError is no word about the checkpoint, which may be whole


def said(path: Path, *keys: str) -> Any:
    """What a file of the folder says, with these keys. Raises `RecipeError` where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(path, f"is no JSON ({error})") from error
    if keys and not (isinstance(found, dict) and found.keys() >= {*keys}):
        raise damaged(path, f"does not say {', '.join(keys)}")
    return found


def damaged(path: Path, why: str) -> RecipeError:
    """What is to be said of a file of the folder that can't be."""
    return RecipeError(f"{path} {why}: it is damaged; put a copy back, or move the run's folder away")


def write(path: Path, content: Any) -> None:
    """Write a file of the folder, whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=1), encoding="utf-8")
    unfinished.rename(path)
