"""From files to sequences of tokens: text, JSONL, or a folder saved by `datasets`; bytes or a tokenizer.

Tokens are written once, into the run's folder, and mapped: a corpus may be larger than memory. What is held
at a time is one text: a line of JSONL, a row of a dataset, a whole text file where a tokenizer reads it (it
may join what stands at any cut), and a piece of the file where its bytes are the tokens.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from isogrow.errors import RecipeError
from isogrow.paths import expanded
from isogrow.recipes.recipe import Data
from isogrow.train.kept import damaged, said, write

BYTES = 256
LINES = (".jsonl", ".ndjson", ".json")
PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z", ".rar", ".tar", ".tgz")
TABLES = (".parquet", ".arrow", ".feather", ".orc", ".avro", ".npy", ".npz", ".h5", ".sqlite", ".db", ".xlsx")
OTHERS = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".safetensors", ".gguf", ".pdf", ".docx", ".odt", ".epub")
NO_TEXT = frozenset((*PACKED, *TABLES, *OTHERS))
PIECE = 1 << 20  # characters of a text file that are held at a time, where it may be cut
Encode = Callable[[str], Any]  # to an array, or a sequence, of token ids
Stats = Mapping[str, list[int]]  # of each file: its size, and when it was written


@dataclass(frozen=True)
class Vocabulary:
    """How text becomes tokens; with a `piece`, a text may be cut into pieces of so many characters."""

    size: int
    encode: Encode
    piece: int | None = None
    between: tuple[int, ...] = ()
    tokenizer: Any = None


class Sequences(Dataset[dict[str, Tensor]]):
    """Consecutive pieces of a token array, each both input and labels.

    `stored` names the file of the tokens, which were made from files of these `stats`.
    """

    def __init__(self, tokens: np.ndarray[Any, Any], length: int, stored: str, stats: Stats) -> None:
        self.tokens, self.length, self.stored, self.stats = tokens, length, stored, stats

    def __len__(self) -> int:
        return len(self.tokens) // self.length

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        piece = self.tokens[i * self.length : (i + 1) * self.length].astype(np.int64)
        ids = torch.from_numpy(piece)
        return {"input_ids": ids, "labels": ids}


def vocabulary(data: Data, base: Path) -> Vocabulary:
    """The tokenizer of a recipe. Raises `RecipeError` where there is none."""
    if data.tokenizer == "bytes":
        return Vocabulary(BYTES, lambda text: np.frombuffer(text.encode(), np.uint8), PIECE)
    tokenizer = _tokenizer(base / expanded(data.tokenizer))
    end = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    return Vocabulary(len(tokenizer), encode, None, end, tokenizer)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    mend = "give a tokenizer's folder, or bytes"
    if not folder.is_dir():
        raise RecipeError(f"data, tokenizer: {folder} is no folder: {mend}")
    try:
        found: Any = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # tokenizers raises nothing narrower
        why = str(error).strip().partition("\n")[0].rstrip(" :.")
        raise RecipeError(
            f"data, tokenizer: {folder} holds no tokenizer that transformers reads ({why}): {mend}"
        ) from error
    if len(found) < 2:  # some classes make an empty one of no file
        raise RecipeError(f"data, tokenizer: {folder} holds no tokenizer, or one of no words: {mend}")
    return found


def files(names: tuple[str, ...], base: Path, where: str) -> list[Path]:
    """The files (or saved datasets) that names and patterns mean, in order, each once. A name that is there
    is no pattern."""
    found: list[Path] = []
    for name in names:
        named = base / expanded(name)
        hits = [str(named)] if named.exists() else sorted(glob.glob(str(named), recursive=True))
        if not hits:
            raise RecipeError(f"data, {where}: {name} is not there (looked in {base}): correct the name")
        found += [Path(hit) for hit in hits]
    for path in found:
        if path.suffix.lower() in NO_TEXT and path.is_file():
            raise RecipeError(
                f"data, {where}: {path} is no text by its name: unpack or convert it to text, JSONL or a"
                " folder saved by datasets"
            )
    if found and all(path.is_file() and path.stat().st_size == 0 for path in found):
        what = f"{found[0]} is empty" if len(found) == 1 else f"all {len(found)} files are empty"
        raise RecipeError(f"data, {where}: {what}: name files that hold text")
    return list(dict.fromkeys(found))


def sequences(data: Data, names: tuple[str, ...], where: str, base: Path, cache: Path) -> Sequences:
    """The sequences of these files, tokenised into `cache` unless they are there already."""
    words, paths = vocabulary(data, base), files(names, base, where)
    stats = _stats(data, paths, base)
    dtype = np.uint8 if words.size <= BYTES else np.uint16 if words.size <= 1 << 16 else np.uint32
    stored = cache / f"{where}-{_key(data, stats)}.{np.dtype(dtype).name}"
    if not stored.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = stored.with_suffix(".unfinished")
        with unfinished.open("wb") as out:
            for text in texts(paths, data.text, words.piece):
                out.write(np.asarray(words.encode(text)).astype(dtype).tobytes())
                out.write(np.array(words.between, dtype=dtype).tobytes())
        unfinished.rename(stored)
    size = stored.stat().st_size // np.dtype(dtype).itemsize
    if size < data.length:
        raise RecipeError(
            f"data, {where}: {size} tokens are less than one sequence of {data.length}: give more text"
        )
    return Sequences(np.memmap(stored, dtype=dtype, mode="r"), data.length, stored.name, stats)


def settle(corpora: Mapping[str, Sequences], note: Path, going_on: bool) -> None:
    """Note what a run learns from; one that goes on must go on with the tokens that it began with.

    Raises `RecipeError` where they are others, and names the files that made them so.
    """
    before: dict[str, Any] = said(note, *corpora) if going_on and note.exists() else {}
    noted: dict[str, Any] = {}
    for where, found in corpora.items():
        was: dict[str, Any] = before.get(where, {})
        if was and not was.keys() >= {"stored", "tokens", "files"}:
            raise damaged(note, f"does not say which tokens {where} has")
        known = was.get("stored") == found.stored
        tokens: str = was["tokens"] if known else hashlib.sha256(found.tokens.data).hexdigest()
        if was and was["tokens"] != tokens:
            raise RecipeError(
                f"data, {where}: {_changes(was['files'], found.stats)} since the run began, and it would go"
                " on with other tokens: put the files back as they were, or name another folder in run"
            )
        noted[where] = {"stored": found.stored, "tokens": tokens, "files": found.stats}
    write(note, noted)


def texts(paths: list[Path], field: str, piece: int | None = None) -> Iterator[str]:
    """The texts of files, one by one; a text file whole, or in pieces of so many characters."""
    for path in paths:
        if path.is_dir():
            yield from _saved(path, field)
        elif path.suffix in LINES:
            yield from _lines(path, field)
        else:
            yield from _pieces(path, piece)


def _pieces(path: Path, piece: int | None) -> Iterator[str]:
    """A text file whose characters, ends of lines too, are those of the file."""
    with path.open(encoding="utf-8", newline="") as file:
        try:
            yield from iter(lambda: file.read(piece), "")
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path} is no UTF-8: convert it, or leave it out of data") from error


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
    for number, row in enumerate(rows):
        yield _text(row[field], field, f"{path}, row {number} (the first is 0)")


def _lines(path: Path, field: str) -> Iterator[str]:
    with path.open("rb") as lines:  # so that what is no UTF-8 fails at its line
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                found = json.loads(line)[field]
            except (ValueError, KeyError, TypeError) as error:
                raise RecipeError(
                    f"{path}, line {number} is no JSON object with {field!r} in UTF-8: correct it, one object"
                    " a line (name the file .txt if it is to be read as text)"
                ) from error
            yield _text(found, field, f"{path}, line {number}")


def _text(found: Any, field: str, where: str) -> str:
    """The text, if it is one. Raises `RecipeError` for null, numbers, lists, and halves of characters."""
    if not isinstance(found, str):
        shown = json.dumps(found, default=str)
        raise RecipeError(
            f"{where}: {field!r} is {shown[:40]}{'…' * (len(shown) > 40)}, and a text was expected:"
            " correct it, or leave it out"
        )
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise RecipeError(
            f"{where}: {field!r} holds half of a character ({found[error.start]!a}): correct it, or leave it"
            " out"
        ) from error
    return found


def _stats(data: Data, paths: list[Path], base: Path) -> Stats:
    """Of every file that is read, those of folders and of the tokenizer too."""
    tokenizer = [] if data.tokenizer == "bytes" else [base / expanded(data.tokenizer)]
    inside = (sorted(path.rglob("*")) if path.is_dir() else [path] for path in (*paths, *tokenizer))
    found = {os.path.relpath(path, base): path.stat() for each in inside for path in each if path.is_file()}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in found.items()}


def _key(data: Data, stats: Stats) -> str:
    """What two runs share iff they read the same tokens."""
    told = [data.tokenizer, data.text, list(stats.items())]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _changes(before: Stats, now: Stats) -> str:
    """What became of the files, in words; of those whose size is the same, only if nothing else happened."""
    both = [name for name in before if name in now]
    words = [f"{name} has changed" for name in both if before[name][0] != now[name][0]]
    words += [f"{name} is new" for name in now if name not in before]
    words += [f"{name} is gone" for name in before if name not in now]
    words = words or [f"{name} has changed" for name in both if before[name] != now[name]]
    return ", ".join(words[:3]) or "the order of the files has changed"
