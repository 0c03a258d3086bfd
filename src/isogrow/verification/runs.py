"""Running one model in the ways in which it is used, to outputs that can be compared.

A batch maps the names of a model's inputs to tensors; outputs map the names of what it returns
(`logits`, `last_hidden_state`, `pooler_output`, …) to tensors. Every function runs without
gradient and dropout and leaves the model as it was. `channels` are the old channels' indices in
the last dim of every output: a model without a head returns wider outputs once hidden has grown.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from isogrow.errors import IsogrowError

GRID = "grid_thw"  # of each image: how many patches in time, rows and columns; the patches of all are rows
Batch = Mapping[str, Tensor]
Outputs = Mapping[str, Tensor]
Side = Literal["left", "right"]
DECODER, MEMORY = "decoder_input_ids", "encoder_hidden_states"
# Each class refuses what it does not take in its own words.
FAULTS = (TypeError, ValueError, RuntimeError, AttributeError, LookupError, ArithmeticError, AssertionError)
# What is said where a class runs on nothing that can be made of its config.
UNPROVEN = (
    "so nothing can be proven on it: give --no-verify (verify=False), and compare it on inputs of your own"
)
CLASSIFIERS = frozenset(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.values())
CACHES = ("cache", "past_key_values", "cache_params")  # what models call theirs


def full(model: nn.Module, batch: Batch, channels: Tensor | None = None) -> Outputs:
    """Every output of one forward pass over the whole batch.

    >>> full(nn.Linear(2, 3), {"input": torch.ones(4, 2)})["output"].shape
    torch.Size([4, 3])
    """
    with still(model):
        return _picked(main_outputs(called(model, batch)), channels)


def called(model: nn.Module, batch: Batch) -> Any:
    """What a model returns for a batch; each row is one choice of its own where a model compares choices, and
    is run alone where a model takes one row at a time."""
    if takes_one_row(model) and len(rows := rows_of(batch)) > 1:
        return _stacked([main_outputs(called(model, row)) for row in rows])
    batch = narrowed(model, batch)
    choices = type(model).__name__ in MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES.values()
    given = {name: value.unsqueeze(1) for name, value in batch.items()} if choices else batch
    # Hybrids of layers with a state alone fail with the cache that they make, which one pass has no use for.
    return model(**given, **({"use_cache": False} if _takes(model, "use_cache") else {}))


def narrowed(model: nn.Module, batch: Batch) -> Batch:
    """A batch as the model reads it: numbers in its own dtype, of an encoder's output the first channels."""
    dtype = next((x.dtype for x in model.parameters() if x.is_floating_point()), torch.get_default_dtype())
    given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in batch.items()}
    if MEMORY in batch:
        given[MEMORY] = given[MEMORY][..., : cast(Any, model).config.hidden_size]
    return given


def takes_one_row(model: nn.Module) -> bool:
    """Whether the model may refuse more rows than one: classes that read a text's class off its last token
    find that by the padding behind it, and without a padding token most decoders' take one text at a time."""
    if not any(kind.__name__ in CLASSIFIERS for kind in type(model).__mro__):
        return False
    config = cast(Any, model).config.get_text_config()
    return getattr(config, "pad_token_id", None) is None


def rows_of(batch: Batch) -> list[Batch]:
    """The rows of a batch, each as a batch of its own."""
    rows = len(batch[GRID] if GRID in batch else next(iter(batch.values())))
    chunks = {name: value.chunk(rows) for name, value in batch.items()}
    return [{name: chunks[name][row] for name in batch} for row in range(rows)]


def row_by_row(model: nn.Module, batch: Batch, channels: Tensor | None = None) -> Outputs:
    """What `full` returns, each row of the batch run alone."""
    return _stacked([full(model, row, channels) for row in rows_of(batch)])


def _stacked(parts: list[Any]) -> dict[str, Tensor]:
    """The outputs of several rows as those of one batch; what is one number for a batch has no rows."""
    rows = [name for name, value in parts[0].items() if value.dim()]
    return {name: torch.cat([part[name] for part in parts]) for name in rows}


def runs(model: nn.Module, batch: Batch) -> bool:
    """Whether the whole model runs on it: some classes ask for more than their tower does."""
    try:
        full(model, batch)
    except FAULTS:
        return False
    return True


def decodes(model: nn.Module, batch: Batch) -> bool:
    """Whether the model is to run a batch token by token: a decoder with a cache, which may yet fail."""
    name = cache_of(model)
    if name is None or not {DECODER, "input_ids"} & batch.keys():
        return False
    with still(model):
        given = _token(narrowed(model, {name: value[:1] for name, value in batch.items()}), 1)
        try:
            return getattr(model(**given, use_cache=True), name, None) is not None
        except FAULTS:
            return True


def cache_of(model: nn.Module) -> str | None:
    """What a model calls its cache of keys and values, or of states, given and returned; None: it takes none.

    Of keys and values it is `past_key_values` up to transformers 5.23 and `cache` since 5.24, which has the
    former no longer among a forward's parameters and an output's keys; of states alone, `cache_params`.
    """
    return next((name for name in CACHES if _takes(model, name)), None)


def two_stacks(model: nn.Module) -> bool:
    """Whether the model is an encoder and a decoder, which is given ids of its own."""
    encodes = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    return bool(encodes) and _takes(model, DECODER)


def decoded(model: nn.Module, batch: Batch, channels: Tensor | None = None) -> Outputs:
    """What `full` returns, computed token by token with the model's cache.

    Outputs without a position (those of a classifier of sequences) and those of an encoder, which is given
    all of its ids at each step, are the last step's. Raises for a model that is no decoder.
    """
    if takes_one_row(model) and len(rows := rows_of(batch)) > 1:
        return _stacked([decoded(model, row, channels) for row in rows])
    steps: list[Outputs] = []
    name, cache = cache_of(model), cast(Any, None)
    with still(model):
        for end in range(1, batch[DECODER if DECODER in batch else "input_ids"].shape[1] + 1):
            held = {} if name is None else {name: cache}
            result = model(**_token(narrowed(model, batch), end), **held, use_cache=True)
            cache = getattr(result, name or "", None)
            if cache is None:
                raise IsogrowError(
                    f"{type(model).__name__} returns no key-value cache, so it can't be run token "
                    "by token: compare its full forward passes only"
                )
            steps.append(main_outputs(result))
    joined = {name: _joined(name, [step[name] for step in steps]) for name in steps[0]}
    return _picked(joined, channels)


def padded(model: nn.Module, batch: Batch, side: Side, channels: Tensor | None = None) -> Outputs:
    """The outputs at real positions of rows that are cut to various lengths and padded.

    Row r keeps its first `lengths(batch)[r]` tokens; padding fills it up to the batch's width.
    Given are an attention mask and, where the model takes them, position ids as `generate` makes
    them: cumsum(mask) − 1, and 0 where padding is. Outputs with a position come as (real
    positions, n), row after row, whichever side the padding is on; others come whole.
    """
    given = _padding(batch, side, _pad_id(model))
    if DECODER in given and _takes(model, "decoder_attention_mask"):
        given["decoder_attention_mask"] = given["attention_mask"]
    if _takes(model, "position_ids"):
        mask = given["attention_mask"]
        given["position_ids"] = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 0)
    real = given["attention_mask"].bool()
    return {
        name: value[real] if value.shape[:-1] == real.shape else value
        for name, value in full(model, given, channels).items()
    }


def lengths(batch: Batch) -> list[int]:
    """How many tokens `padded` keeps of each row: one less from row to row, then anew.

    At least one token of each row becomes padding and, of rows longer than two tokens, at least
    half of them stay.
    """
    rows, width = batch["input_ids"].shape
    if width < 2:
        raise IsogrowError("a row of one token leaves no place for padding: give at least two")
    return [width - 1 - row % max(width // 2, 1) for row in range(rows)]


def generated(model: nn.Module, prompt: Tensor, steps: int, **options: bool) -> Tensor:
    """The (rows, steps) token ids that greedy `generate` appends to a prompt of (rows, tokens).

    An end-of-text token is held back, so that every row gets its steps; `options` are those of `generate`.
    """
    if not (isinstance(model, transformers.GenerationMixin) and cast(Any, model).can_generate()):
        raise IsogrowError(f"{type(model).__name__} can't generate: compare its forward passes only")
    with still(model):
        ids = cast(Any, model).generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=steps,
            min_new_tokens=steps,
            do_sample=False,
            num_beams=1,
            pad_token_id=_pad_id(model),
            **options,
        )
    return ids[:, 1 if two_stacks(model) else prompt.shape[1] :]


def batches(
    vocab: int,
    positions: int,
    *,
    rows: int = 4,
    token_types: int = 1,
    exclude: Collection[int] = (),
    seed: int = 0,
) -> Iterator[dict[str, Tensor]]:
    """Batches of (rows, positions) int64 ids that together hold every id below `vocab`.

    Each id that is not excluded comes at least once, in an order drawn from `seed` alone; the last
    batch is filled up with ids drawn again. With more than one token type, each batch holds
    `token_type_ids` too.

    >>> ids = torch.cat([batch["input_ids"] for batch in batches(50, 7, rows=3)])
    >>> ids.shape, len(ids.unique())
    (torch.Size([9, 7]), 50)
    """
    generator = torch.Generator().manual_seed(seed)
    valid = torch.tensor(sorted(set(range(vocab)) - set(exclude)))
    if not len(valid):
        raise IsogrowError(f"no id below {vocab} is left to make a batch of: exclude fewer")
    size = rows * positions
    spare = torch.randint(len(valid), (-len(valid) % size,), generator=generator)
    order = torch.cat([torch.randperm(len(valid), generator=generator), spare])
    for ids in valid[order].view(-1, rows, positions):
        batch = {"input_ids": ids}
        if token_types > 1:
            batch["token_type_ids"] = torch.randint(token_types, ids.shape, generator=generator)
        yield batch


def main_outputs(result: Any) -> dict[str, Tensor]:
    """The tensors that a model returned, by name, but for its loss; a bare one is "output", and of several
    without names the others are "output 2" and so on. What is within one of them (a cache) is left out."""
    if isinstance(result, tuple | list):
        parts = [part for part in cast(Iterable[Any], result) if isinstance(part, Tensor)]
        told = [part for part in parts if part.dim() and part.is_floating_point()]
        found = {f"output {n}" if n > 1 else "output": part for n, part in enumerate(told, 1)}
        return found or {"output": first_tensor(result)}
    if not isinstance(result, Mapping):
        return {"output": first_tensor(result)}
    named = cast(Mapping[str, Any], result)
    return {name: value for name, value in named.items() if isinstance(value, Tensor) and name != "loss"} or {
        "output": first_tensor(named)
    }


def first_tensor(output: Any) -> Tensor:
    """The first tensor of what a module returned; raises if there is none."""
    parts: Iterable[Any] = (output,)
    if isinstance(output, Mapping):
        parts = cast(Mapping[str, Any], output).values()
    elif isinstance(output, tuple | list):
        parts = cast(Iterable[Any], output)
    for part in parts:
        if isinstance(part, Tensor):
            return part
    kind = type(cast(Any, output)).__name__
    raise IsogrowError(
        f"a module returned {kind} without a tensor in it, so there is nothing to compare: "
        "give a model whose outputs are tensors"
    )


@contextmanager
def still(model: nn.Module) -> Generator[None]:
    """Eval mode without gradients; afterwards each module trains again if it did before."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def one_by_one(*models: nn.Module) -> Generator[None]:
    """Within it mixtures run their experts one after the other, since the kernel that runs them together
    takes only widths of whole 16 bytes."""
    configs = [cast(Any, m).config for m in models if isinstance(m, transformers.PreTrainedModel)]
    before = [config._experts_implementation for config in configs]
    try:
        for config in configs:
            config._experts_implementation = "eager"
        yield
    finally:
        for config, kind in zip(configs, before, strict=True):
            config._experts_implementation = kind


def _picked(outputs: Outputs, channels: Tensor | None) -> Outputs:
    if channels is None:
        return outputs
    return {name: value.index_select(-1, channels.to(value.device)) for name, value in outputs.items()}


def _takes(model: nn.Module, name: str) -> bool:
    return name in inspect.signature(model.forward).parameters


def _token(batch: Batch, end: int) -> dict[str, Tensor]:
    """What the model is given at the step that reads token `end` − 1; the mask holds the past."""
    width = batch[DECODER if DECODER in batch else "input_ids"].shape[1]
    given: dict[str, Tensor] = {}
    for name, value in batch.items():
        encoded = DECODER in batch and not name.startswith("decoder")
        if encoded or value.ndim < 2 or value.shape[1] != width:
            given[name] = value
        else:
            given[name] = value[:, (0 if name.endswith("attention_mask") else end - 1) : end]
    return given


def _joined(name: str, steps: list[Tensor]) -> Tensor:
    whole = steps[0].ndim < 3 or name.startswith("encoder")
    return steps[-1] if whole else torch.cat(steps, dim=1)


def _padding(batch: Batch, side: Side, pad: int) -> dict[str, Tensor]:
    """The batch with each row cut and padded, and the attention mask that says so."""
    ids = batch["input_ids"]
    kept = lengths(batch)
    if len(ids[:, -1].unique()) == 1:  # a row that ends in an end-of-text token still does
        ids = ids.clone()
        ids[range(len(ids)), [n - 1 for n in kept]] = ids[:, -1]
        batch = {**batch, "input_ids": ids}
    given = {
        name: _filled(value, kept, side, pad if name.endswith("input_ids") else 0)
        if value.shape == ids.shape
        else value
        for name, value in batch.items()
    }
    return given | {"attention_mask": _filled(torch.ones_like(ids), kept, side, 0)}


def _filled(value: Tensor, kept: list[int], side: Side, fill: int) -> Tensor:
    width = value.shape[1]
    rows = [
        functional.pad(row[:n], (width - n, 0) if side == "left" else (0, width - n), value=fill)
        for row, n in zip(value, kept, strict=True)
    ]
    return torch.stack(rows)


def _pad_id(model: nn.Module) -> int:
    pad = getattr(getattr(model, "config", None), "pad_token_id", None)
    return 0 if pad is None else int(pad)
