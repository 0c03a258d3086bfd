"""From files to sequences of tokens: text, JSONL, or a folder saved by `datasets`; bytes or a tokenizer.

Tokens are written once, into the run's folder, and mapped: a corpus may be larger than memory.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from isogrow.errors import RecipeError
from isogrow.train.recipe import Data

BYTES = 256
Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Vocabulary:
    """How text becomes tokens."""

    size: int
    encode: Encode
    between: tuple[int, ...] = ()
    tokenizer: Any = None


class Sequences(Dataset[dict[str, Tensor]]):
    """Consecutive pieces of a token array, each both input and labels."""

    def __init__(self, tokens: np.ndarray[Any, Any], length: int) -> None:
        self.tokens, self.length = tokens, length

    def __len__(self) -> int:
        return len(self.tokens) // self.length

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        piece = self.tokens[i * self.length : (i + 1) * self.length].astype(np.int64)
        ids = torch.from_numpy(piece)
        return {"input_ids": ids, "labels": ids}


def vocabulary(data: Data, base: Path) -> Vocabulary:
    """The tokenizer of a recipe. Raises `RecipeError` where there is none."""
    if data.tokenizer == "bytes":
        return Vocabulary(BYTES, lambda text: list(text.encode()))
    from transformers import AutoTokenizer

    folder = base / data.tokenizer
    if not folder.is_dir():
        raise RecipeError(f"data, tokenizer: {folder} is no folder: give a tokenizer's folder, or bytes")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    end = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    return Vocabulary(len(tokenizer), encode, end, tokenizer)


def files(names: tuple[str, ...], base: Path, where: str) -> list[Path]:
    """The files (or saved datasets) that names and patterns mean, in order, each once."""
    found: list[Path] = []
    for name in names:
        hits = sorted(glob.glob(str(base / name), recursive=True))
        if not hits:
            raise RecipeError(f"data, {where}: {name} is not there (looked in {base}): mend the name")
        found += [Path(hit) for hit in hits]
    return list(dict.fromkeys(found))


def sequences(data: Data, names: tuple[str, ...], where: str, base: Path, cache: Path) -> Sequences:
    """The sequences of these files, tokenised into `cache` unless they are there already."""
    words, paths = vocabulary(data, base), files(names, base, where)
    dtype = np.uint8 if words.size <= BYTES else np.uint16 if words.size <= 1 << 16 else np.uint32
    stored = cache / f"{where}-{_key(data, paths)}.{np.dtype(dtype).name}"
    if not stored.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = stored.with_suffix(".unfinished")
        with unfinished.open("wb") as out:
            for text in texts(paths, data.text):
                out.write(np.array([*words.encode(text), *words.between], dtype=dtype).tobytes())
        unfinished.rename(stored)
    size = stored.stat().st_size // np.dtype(dtype).itemsize
    if size < data.length:
        raise RecipeError(
            f"data, {where}: {size} tokens are less than one sequence of {data.length}: give more text"
        )
    return Sequences(np.memmap(stored, dtype=dtype, mode="r"), data.length)


def texts(paths: list[Path], field: str) -> Iterator[str]:
    """The texts of files, one by one."""
    for path in paths:
        if path.is_dir():
            yield from _saved(path, field)
        elif path.suffix in (".jsonl", ".ndjson"):
            yield from _lines(path, field)
        else:
            yield path.read_text(encoding="utf-8", errors="replace")


def _saved(path: Path, field: str) -> Iterator[str]:
    import datasets  # pyright: ignore[reportMissingTypeStubs]

    try:
        rows: Any = datasets.load_from_disk(str(path))
    except (FileNotFoundError, ValueError) as error:
        raise RecipeError(
            f"{path} is no folder saved by datasets ({error}): give files, or such a folder"
        ) from error
    if isinstance(rows, datasets.DatasetDict):
        rows = rows["train"] if "train" in rows else datasets.concatenate_datasets(list(rows.values()))
    if field not in rows.column_names:
        raise RecipeError(
            f"{path} has no column {field!r} but {', '.join(rows.column_names)}: name it in data, text"
        )
    yield from (str(row[field]) for row in rows)


def _lines(path: Path, field: str) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield str(json.loads(line)[field])
            except (ValueError, KeyError, TypeError) as error:
                raise RecipeError(
                    f"{path}, line {number} is no JSON object with {field!r}: mend it"
                ) from error


def _key(data: Data, paths: list[Path]) -> str:
    """What two runs share iff they read the same tokens."""
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    said = [data.tokenizer, data.text, stats]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
