"""Run grown models in an engine: the small one there against the grown one there, cell by cell.

    python -m benchmarks.engines ENGINE [--family F]... [--axis A]... [--keys 4|5] [--rows FILE] [--apart]

Run it where that engine is installed as its table says (`packages`), beside isogrow. Each cell is grown
twice, plainly and for the engine. Rows are appended to a file, and those that it has are not run again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as tf

import isogrow
from benchmarks.engines.cells import FEWER, NEWER, ROWS, USUAL, Cell, cells, growth, source
from isogrow.engines import ENGINES
from isogrow.errors import IsogrowError
from isogrow.families import layout_for
from isogrow.verification.elsewhere.apart import ran
from isogrow.verification.elsewhere.outputs import ORDERS, noise_of
from isogrow.verification.elsewhere.proof import ROOM
from isogrow.verification.runners import RUNNERS

ALIKE = 5e-5
Row = dict[str, Any]
Pair = tuple[np.ndarray, np.ndarray]


def made(family: str, keys: str, folder: Path) -> Path:
    """A small model with weights of std 0.2 and gains of 1 ± 0.2, as its class saves it, and a tokenizer."""
    given = source(family, keys)
    if any(listed.key == "layer_types" for listed in layout_for(family).per_layer):
        given["sliding_window"] = 8
    config = tf.AutoConfig.for_model(**given)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"):
        setattr(config, name, 0)
    torch.manual_seed(0)
    kind = tf.AutoModelForSeq2SeqLM if config.is_encoder_decoder else tf.AutoModelForCausalLM
    model = kind.from_config(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2)
        norm = "norm" in name or "ln" in name
        offset = 0.0 if "gemma" in family else 1.0
        if norm and name.endswith("weight") and parameter.ndim == 1:
            parameter.data += offset
    model.save_pretrained(folder)
    said = json.loads((folder / "config.json").read_text())
    if keys == "4":
        said.pop("rope_parameters", None)
        said |= {name: value for name, value in given.items() if "rope" in name or family in NEWER}
        said["torch_dtype"] = said.pop("dtype", "float32")
    (folder / "config.json").write_text(json.dumps(said, indent=1))
    _tokenizer().save_pretrained(folder)
    return folder


def _named(small: Path, folder: Path) -> Path:
    """The same model, with each θ under its old name too."""
    shutil.copytree(small, folder)
    said = json.loads((folder / "config.json").read_text())
    attentions = layout_for(said["model_type"]).attentions
    for rope in (rope for attention in attentions for rope in attention.ropes):
        said.setdefault(rope.theta[-1], rope.base(said))
    (folder / "config.json").write_text(json.dumps(said, indent=1))
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words = Tokenizer(WordLevel({f"t{i}": i for i in range(512)}, unk_token="t0"))
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="t0", bos_token="t0", eos_token="t0", pad_token="t0"
    )


def ids() -> np.ndarray:
    return np.random.default_rng(1).integers(1, 512, (2, 17))


@dataclass(frozen=True)
class Bench:
    """An engine, and a model type whose models are grown and run in a folder; `apart`: each run in a process
    of its own, for engines that end theirs."""

    engine: str
    family: str
    keys: str
    here: Path
    apart: bool = False

    @property
    def small(self) -> Path:
        return self.here / "small"

    def run(self, folder: Path) -> np.ndarray:
        """What the engine makes of a folder."""
        return self.outputs(folder, [ids()])[0]

    def outputs(self, folder: Path, batches: list[np.ndarray]) -> list[np.ndarray]:
        """The same of several batches, the folder converted in an empty one."""
        if self.apart:
            (answer,) = ran(self.engine, [folder], batches)
            if answer.refused:
                raise RuntimeError(answer.refused)
            return list(answer.outputs)
        scratch = self.here / "converted"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        running = RUNNERS[self.engine].load(folder, scratch)
        return [np.asarray(running(batch)) for batch in batches]

    def request(self, axis: str, asked: bool) -> Row:
        """What is asked for: the sizes of an axis, and (`asked`) the engine."""
        sizes, at = growth(self.family, axis)
        request: Row = {**sizes, **({"layers_at": at} if "layers" in sizes else {})}
        return request | ({"engines": self.engine} if asked else {})

    def alike(self, axis: str) -> bool:
        """Whether what is grown for the engine is what is grown plainly."""
        try:
            plain, own = (isogrow.plan(self.small, **self.request(axis, asked)) for asked in (False, True))
        except IsogrowError:
            return False
        return plain == own

    def grown(self, axis: str, asked: bool, right: Pair, limit: float) -> Row:
        """What became of a growth."""
        large = self.here / "large"
        shutil.rmtree(large, ignore_errors=True)
        try:
            isogrow.grow_checkpoint(self.small, large, **self.request(axis, asked))
        except IsogrowError as error:
            return {"verdict": "refused by plan", "said": str(error)}
        try:
            return _compared(right, self.run(large), limit)
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is what is measured
            return {"verdict": "refused", "said": str(error)[:200]}


def measured(bench: Bench, axes: list[str], done: Mapping[tuple[str, ...], Row]) -> Iterator[Row]:
    """The rows of one family that are not there yet: its baseline, and every axis as it is grown plainly and
    for the engine."""
    known = {"engine": bench.engine, "version": ENGINES[bench.engine].version}
    known |= {"family": bench.family, "keys": bench.keys}
    at = (bench.engine, bench.family, bench.keys)
    made(bench.family, bench.keys, bench.small)
    own = replace(bench, engine="transformers", apart=False).run(bench.small)
    first: Row = {"axis": "baseline", "made": "plainly"}
    try:
        base, *others = bench.outputs(bench.small, [ids(), *(ids()[order] for order in ORDERS)])
        both = bench.run(_named(bench.small, bench.here / "named"))
        if ROOM * (noise := noise_of(others)) >= 1:
            raise RuntimeError(f"it is off by {noise:.1e} from itself in other batches")
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is what is measured
        yield {**known, **first, "verdict": "refused", "said": str(error)[:200]}
        return
    limit = max(ALIKE, ROOM * noise)
    if (*at, "baseline", "plainly") not in done:
        yield {**known, **first, "noise": noise, **_compared((own, own), base, ALIKE)}
    for axis in axes:
        same, found = bench.alike(axis), done.get((*at, axis, "plainly"), {})
        for how in ("plainly", "for it"):
            if (*at, axis, how) not in done:
                if not (same and found):
                    found = bench.grown(axis, how == "for it", (base, both), limit)
                yield {**known, **found, "axis": axis, "made": how}


def _compared(right: Pair, found: np.ndarray, limit: float) -> Row:
    """How far outputs are from the small model's in the engine: as it is (`figure`), and with θ under both
    its names (`named`), since a growth may write one that the small one lacks. They are alike within `limit`,
    5e-5, or what the engine's own noise leaves room for."""
    figure, named = (float(np.abs(found - each).max() / np.abs(each).max()) for each in right)
    return {"verdict": "ok" if min(figure, named) < limit else "off", "figure": figure, "named": named}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines")
    parser.add_argument("engine", choices=sorted(RUNNERS))
    parser.add_argument("--family", action="append")
    parser.add_argument("--axis", action="append")
    parser.add_argument("--keys", default="4", choices=("4", "5"))
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--apart", action="store_true", help="each run in a process of its own")
    given = parser.parse_args()
    held = [json.loads(line) for line in given.rows.read_text().splitlines()] if given.rows.exists() else []
    done = {tuple(row[k] for k in ("engine", "family", "keys", "axis", "made")): row for row in held}
    for family, axes in _asked(given.engine, given.family, given.axis).items():
        left = [
            a
            for a in axes
            if any((given.engine, family, given.keys, a, h) not in done for h in ("plainly", "for it"))
        ]
        if left:
            with given.rows.open("a") as file, tempfile.TemporaryDirectory() as here:
                bench = Bench(given.engine, family, given.keys, Path(here), given.apart)
                for row in measured(bench, left, done):
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                    print(row, flush=True)


def _asked(engine: str, families: list[str] | None, axes: list[str] | None) -> dict[str, list[str]]:
    """The axes of each family that were measured in this engine, as far as they are asked for; of newer ones
    that are asked for, or that the engine's table knows, those that they have."""
    found: dict[str, dict[str, None]] = {}
    own: list[Cell] = [c for c in cells() if c.engine == engine and c.axis != "baseline"]
    for cell in own:
        if (not families or cell.family in families) and (not axes or cell.axis in axes):
            found.setdefault(cell.family, {})[cell.axis] = None
    known = {*ENGINES[engine].families, *ENGINES[engine].refused}
    for family in sorted(NEWER.keys() & set(families or known)):
        found[family] = {axis: None for axis in FEWER.get(family, USUAL) if not axes or axis in axes}
    return {family: list(each) for family, each in found.items()}


if __name__ == "__main__":
    main()
