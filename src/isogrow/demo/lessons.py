"""What the demo's models go on learning from: an honest objective for each, on data that is at hand."""

from __future__ import annotations

import ast
import random
import re
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from isogrow.verification.runs import cache_of

Batch = Any
HELD = 3  # batches that are not trained on
WARMUP = 5


@dataclass(frozen=True)
class Lesson:
    """Batches to train on, batches held out, and the loss of a model on one."""

    about: str
    train: tuple[Batch, ...]
    held: tuple[Batch, ...]
    loss: Callable[[nn.Module, Batch], Tensor]

    def held_out(self, model: nn.Module) -> float:
        """The mean loss on the batches that are held out."""
        with torch.no_grad():
            return sum(float(self.loss(model, batch)) for batch in self.held) / len(self.held)


def teach_(model: nn.Module, lesson: Lesson, rate: float) -> Iterator[float]:
    """Train on each batch once, with a short warmup; yields the loss that each step started from."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    for step, batch in enumerate(lesson.train, 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / WARMUP)
        optimizer.zero_grad()
        loss: Any = lesson.loss(model, batch)
        loss.backward()
        optimizer.step()
        yield loss.item()


def own_samples(model: nn.Module, steps: int, rows: int = 8, length: int = 40) -> Lesson:
    """Sequences that the model draws itself: its tokens are gene names, and no corpus of them is at hand."""
    generator = torch.Generator().manual_seed(0)
    ids = _drawn(model, (steps + HELD) * rows, length, generator)
    batches = tuple(ids.split(rows))
    return Lesson("sequences drawn from the model itself", batches[HELD:], batches[:HELD], next_token)


def source_text(vocab: int, steps: int, rows: int = 8, length: int = 64) -> Lesson:
    """Python's own standard library, byte by byte."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    data = torch.tensor(list(b"".join(path.read_bytes() for path in paths[:40]))) % vocab
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(len(data) - length, ((steps + HELD) * rows,), generator=generator)
    ids = torch.stack([data[start : start + length] for start in starts.tolist()])
    batches = tuple(ids.split(rows))
    return Lesson("the source text of Python's standard library", batches[HELD:], batches[:HELD], next_token)


def next_token(model: nn.Module, ids: Tensor) -> Tensor:
    """Mean cross-entropy of each next token."""
    logits = model(input_ids=ids).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def docstrings(folder: Path, steps: int, rows: int = 16) -> Lesson:
    """Find a function's docstring by its name: sentence embeddings, contrastive loss within a batch."""
    from transformers import PreTrainedTokenizerFast

    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]")
    pairs = list(dict(_documented()).items())
    random.Random(0).shuffle(pairs)

    def encoded(texts: list[str]) -> Any:
        return tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")

    chunks = [pairs[i * rows : (i + 1) * rows] for i in range(steps + HELD)]
    batches = tuple((encoded([d for d, _ in c]), encoded([n for _, n in c])) for c in chunks)
    about = "matching docstrings of Python's standard library to the names of their functions"
    return Lesson(about, batches[HELD:], batches[:HELD], _matched)


def _matched(model: nn.Module, batch: tuple[Any, Any]) -> Tensor:
    scores = 20.0 * _embedded(model, batch[0]) @ _embedded(model, batch[1]).T
    return functional.cross_entropy(scores, torch.arange(len(scores)))


def _embedded(model: nn.Module, texts: Any) -> Tensor:
    """Mean-pooled, normalised sentence embeddings, as the model was made for."""
    mask = texts["attention_mask"]
    hidden = model(input_ids=texts["input_ids"], attention_mask=mask).last_hidden_state
    weights = mask[..., None].to(hidden.dtype)
    return functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


def _documented() -> Iterator[tuple[str, str]]:
    """(first sentence of the docstring, module and function name) of the standard library's functions."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="ignore"))):
            text = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if not isinstance(node, ast.FunctionDef) or not text or node.name.startswith("_"):
                continue
            first = " ".join(re.split(r"\n\s*\n|(?<=[.])\s", text.strip())[0].split())
            if 5 <= len(first.split()) <= 25:
                yield first, f"{path.stem} {node.name}".replace("_", " ")


def _drawn(model: Any, rows: int, length: int, generator: torch.Generator) -> Tensor:
    """Sample rows of tokens, with the model's own cache."""
    ids = torch.full((rows, 1), int(model.config.bos_token_id or 0))
    name, cache = cache_of(model), cast(Any, None)
    assert name is not None, "the demo's own model decodes"
    token = ids
    with torch.no_grad():
        for _ in range(length - 1):
            result = model(input_ids=token, **{name: cache}, use_cache=True)
            cache = getattr(result, name)
            chances = (result.logits[:, -1] / 0.7).softmax(-1)
            token = torch.multinomial(chances, 1, generator=generator)
            ids = torch.cat([ids, token], dim=1)
    return ids
