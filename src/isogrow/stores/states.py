"""Where an optimizer's state lies beside a checkpoint's weights: in a file of its own, or in a distributed
checkpoint, by names of parameters, as keys one below the other or flattened:

    optim · state · model.norm.weight · exp_avg         optim · param_groups · 0 · lr
    optim · state.model.norm.weight.exp_avg             optim · param_groups.model.norm.weight.lr
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from isogrow.stores.carrying import RUN, carried, left
from isogrow.stores.distributed import METADATA, Distributed, Saved
from isogrow.stores.sources import Checkpoint

KEYS = ("optim", "optimizer")  # what a state is called beside a model's
STATE, GROUPS = "state", "param_groups"
APART = "optimizer_0"  # the folder in which Trainer and Accelerate have FSDP save a state

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Form:
    """How a state is saved: below which keys, and whether flattened."""

    key: Path
    flat: bool

    def path(self, *keys: str | int) -> Path:
        """Where what these keys lead to is saved."""
        return (*self.key, ".".join(map(str, keys))) if self.flat else (*self.key, *keys)

    def keys(self, path: Path) -> Path:
        """The keys that lead to what is saved there, below `key`: three, of a state that can be grown."""
        below = path[len(self.key) :]
        if not self.flat:
            return below
        first, _, rest = str(below[0]).partition(".")
        return (first, *rest.rpartition(".")[::2])

    def entries(self, held: Distributed) -> Iterator[tuple[str, tuple[Path, Saved]]]:
        """The state's own entries: name, keys and what is saved."""
        for fqn, each in held.saved.items():
            if each.path[: len(self.key)] == self.key and len(each.path) > len(self.key):
                keys = self.keys(each.path)
                if keys[0] in (STATE, GROUPS):
                    yield fqn, (keys, each)


def form_of(held: Distributed) -> Form | None:
    """How the optimizer's state in a checkpoint is saved; None where there is none."""
    paths = [each.path for each in held.saved.values()]
    for key in (*((*held.under[:-1], name) for name in KEYS), ()):
        below = [path[len(key) :] for path in paths if path[: len(key)] == key]
        if any(path[0] in (STATE, GROUPS) and len(path) > 1 for path in below if path):
            return Form(key, flat=False)
        if any(str(path[0]).startswith((f"{STATE}.", f"{GROUPS}.")) for path in below if len(path) == 1):
            return Form(key, flat=True)
    return None


def state_in(checkpoint: Checkpoint) -> str:
    """What the optimizer's state in a checkpoint's folder is called; "" if there is none."""
    folder = checkpoint.folder
    if checkpoint.held is None:
        return next((name for name in RUN if (folder / name).is_file()), "")
    if (folder / APART / METADATA).is_file():
        return APART
    form = form_of(checkpoint.held)
    return "" if form is None else ".".join(map(str, form.key)) or STATE


def taken_along(checkpoint: Checkpoint, optimizer: str, format: str) -> str:
    """The name of the state that grows with a checkpoint into this format; "" if none does: one in a
    distributed checkpoint grows into another."""
    fits = checkpoint.format != "distributed" or format == "distributed"
    return state_in(checkpoint) if optimizer == "grow" and fits else ""


def left_behind(checkpoint: Checkpoint, optimizer: str, format: str) -> list[str]:
    """What of a checkpoint's folder an output in this format is without."""
    run, own = taken_along(checkpoint, optimizer, format), state_in(checkpoint)
    within = checkpoint.format == "distributed" and own and not run
    hint = "" if optimizer == "drop" else ", which --format distributed takes along"
    others = [name for name in left(checkpoint, run) if not within or name != f"{own}/"]  # it is told below
    return [*others, *([f"{own} (the optimizer's state{hint})"] if within else []), *_words(checkpoint)]


def _words(checkpoint: Checkpoint) -> list[str]:
    """The tokenizer of a GGUF file beside which none lies: what it is in is no file that travels."""
    if checkpoint.format != "gguf" or any(name.startswith("tokenizer") for name in carried(checkpoint)):
        return []
    (file,) = checkpoint.paths
    return [
        f"tokenizer (it is in {file.name}: take it from the model that the file was made from, or have"
        " transformers make one: AutoTokenizer.from_pretrained(…, gguf_file=…))"
    ]
