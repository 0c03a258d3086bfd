"""What both models are run on: token ids, images, sound, or several of them."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
import transformers
from torch import nn

from isogrow.errors import IsogrowError
from isogrow.laws import idle
from isogrow.layouts.config import get
from isogrow.verification.pair import Pair
from isogrow.verification.reach import holders, noting
from isogrow.verification.runs import DECODER, FAULTS, MEMORY, UNPROVEN, Batch, batches, full, two_stacks
from isogrow.verification.signals import WORDS, signal_of, signals
from isogrow.verification.sounds import SPECTRA, WAVES, shown

PROBE = (3, 24)  # rows and tokens of the small batch of the detailed checks
LEARN = (4, 32)  # rows and tokens of the batch that is trained on
LONGEST = 512  # tokens in a row where positions are not learned
NEAR = 4  # lengths that are tried one by one: some classes take rows of one length alone
SHORT = 64  # tokens in a row after the first
HEARD = (SPECTRA, WAVES)  # costs more than a row of tokens, so that rows are long
SEEN = 2  # rows of images beside texts, which need not be as many
MASKED = 0.3  # of an image's patches, where they can be masked
ENTRIES = 1 << 24  # output entries of one batch

# Of models for which images or sound could be made: the modules that they reached.
_RAN: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()
# Of rows that models were seen to run, by how long they were to be at most.
_LENGTHS: WeakKeyDictionary[nn.Module, dict[int, int]] = WeakKeyDictionary()


class _Enough(Exception):
    """Ends a run that has come far enough."""


def covering(pair: Pair) -> Iterator[Batch]:
    """Batches that hold every valid token id, and every position that has an embedding of its own.

    One row is as long as a row may be. Its ids are in no other row, and those are short: attention costs
    the square of a row's length.
    """
    if sees(pair):
        yield from (_sights(pair, PROBE[0], seed) for seed in range(2))
        return
    vocab, length, width = pair.before.tokens, positions(pair), _width(pair)
    if not _learned(pair):
        length = min(length, max(vocab, PROBE[1]))
    long = next(batches(vocab, length, rows=1, token_types=_types(pair)))
    yield _named(pair, long)
    seen = set(long["input_ids"].flatten().tolist())
    yield from filter(None, [pictures(pair, PROBE)])
    if len(seen) == vocab:
        return
    short = length if signal_of(pair.small) in HEARD else min(SHORT, length)
    rows = max(1, min(ENTRIES // (width * short), -(-(vocab - len(seen)) // short)))
    for batch in batches(vocab, short, rows=rows, token_types=_types(pair), exclude=seen):
        yield _named(pair, batch)


def probe(pair: Pair, shape: tuple[int, int] = PROBE) -> Batch:
    """One small batch."""
    rows, length = shape
    if sees(pair):
        return _sights(pair, rows, seed=2)
    return _named(pair, _texts(pair, rows, length))


def _texts(pair: Pair, rows: int, length: int) -> Batch:
    """Random texts, of this many tokens or as many as may be in a row."""
    wanted, vocab = positions(pair, length), pair.before.tokens
    return next(batches(vocab, wanted, rows=rows, token_types=_types(pair), seed=1))


def lesson(pair: Pair) -> Batch:
    """The batch that is trained on: with images, where the models take them."""
    return pictures(pair, LEARN) or probe(pair, LEARN)


def pictures(pair: Pair, shape: tuple[int, int]) -> Batch | None:
    """Texts of this many rows and tokens with images or sound in them; None where the models take none with
    texts."""
    if sees(pair) or signal_of(pair.small) or not pretrained(pair):
        return None
    return _shown(pair, _texts(pair, *shape)["input_ids"])


def _shown(pair: Pair, ids: torch.Tensor) -> Batch | None:
    """The same texts with images or sound in them, if any can be made; what they reach is kept."""
    with noting(pair.small) as ran:
        found = shown(pair.small, ids)
    if found is not None:
        _RAN.setdefault(pair.small, set()).update(ran)
    return found


def unreached(pair: Pair) -> frozenset[str]:
    """The slots that images or sound alone reach, and that none which could be made for the models does."""
    signalled = frozenset(pair.before.layout.signalled)
    if not signalled:
        return frozenset()
    if pair.small not in _RAN:
        pictures(pair, PROBE)
    ran, quiet = _RAN.get(pair.small, set()), idle(pair.before)
    return signalled - {
        block.slot
        for stored in pair.before.stored
        for _, block in stored.blocks(pair.plan.source)
        # What is read without a call of its own is read by what holds it, if by anything.
        if not ran.isdisjoint(holders(stored.source)[: 1 if block.slot in quiet else 2])
    }


def unrun(pair: Pair) -> list[str]:
    """Those of them that have grown."""
    missed = unreached(pair)
    grown = pair.grown_blocks(pair.after.stored) if missed else ()
    return list(dict.fromkeys(block.slot for block in grown if block.slot in missed))


def positions(pair: Pair, wanted: int | None = None) -> int:
    """How many tokens a row may have: as many as there are positions, or fewer where the class counts them
    from behind others (RoBERTa from behind its padding's number), which it is asked by being run.

    No more than are `wanted`, unless no row as short as that runs: some classes take one length alone.
    """
    most = _most(pair)
    limit = most if wanted is None else min(wanted, most)
    found = _LENGTHS.setdefault(pair.small, {})
    if limit not in found:
        # Where not even one token runs, the length is not what is wrong.
        found[limit] = _running(pair, limit) or (limit if limit == most else positions(pair))
    return found[limit]


def _most(pair: Pair) -> int:
    """How many positions there are; where none is learned, no more than a batch's outputs have room for."""
    if _learned(pair):
        return pair.before.sizes.of("positions")
    said = get(pair.before.config, pair.before.layout.streams[0].longest)
    room = LONGEST if sees(pair) else max(2, ENTRIES // _width(pair))
    return min(LONGEST, int(said or LONGEST), room)


def _width(pair: Pair) -> int:
    """The entries of an output at one position, at most."""
    return max(pair.before.tokens, pair.plan.target.of(pair.before.layout.residual))


def _running(pair: Pair, most: int) -> int:
    """The most tokens of a row, up to `most`, that the small model runs (0: none); `most` where it can't be
    run."""
    if sees(pair) or not pretrained(pair) or next(pair.small.parameters()).device.type == "meta":
        return most
    near = (length for length in range(most, max(most - NEAR, 0), -1) if _runs(pair, length))
    if found := next(near, 0):
        return found
    low, high = 0, most  # what runs, and what does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _runs(pair, middle) else (low, middle)
    return low


def _runs(pair: Pair, length: int) -> bool:
    """Whether a row of so many tokens does, all of one id: ids that the class takes for padding, whatever the
    config says, may have no position of their own."""
    vocab = pair.before.tokens
    given = next(batches(vocab, length, rows=1, token_types=_types(pair)))
    given["input_ids"] = torch.full_like(given["input_ids"], vocab // 2)
    try:
        with _no_further_than_a_layer(pair):
            full(pair.small, _named(pair, given))
    except FAULTS:
        return False
    return True


@contextmanager
def _no_further_than_a_layer(pair: Pair) -> Generator[None]:
    """Within it a run of the small model may end behind its first layer, where its weights are read as they
    are used: positions are looked up before, and windows and landmarks cut in it."""
    layers = [old for old, new in pair.layer_map.items() if new in pair.repeated]
    if pair.before.layout.stacks:  # those of towers are the first, and know nothing of a text's positions
        layers = [each for each in layers if each.rpartition(".")[0] == layers[-1].rpartition(".")[0]]
    layer = next(iter(layers), None)
    if layer is None or not next(pair.small.parameters()).is_meta:
        yield
        return

    def end(*_: object) -> None:
        raise _Enough

    hook = pair.small.get_submodule(layer).register_forward_hook(end)
    try:
        yield
    except _Enough:
        pass
    finally:
        hook.remove()


def sees(pair: Pair) -> bool:
    """Whether the models take images or sound and no ids, so that rows have one length and no padding."""
    signal = signal_of(pair.small)
    first = getattr(pair.small, "main_input_name", "")
    alone = signal is not None and (signal == first or "input_ids" not in _parameters(pair))
    return alone and not two_stacks(pair.small)


def taken(pair: Pair) -> str:
    """What they take beside ids or in their place, as a word; "" where it is nothing."""
    return WORDS.get(signal_of(pair.small) or "", "")


def pretrained(pair: Pair) -> bool:
    """Whether the models are Hugging Face's, which know caches, masks and folders."""
    return isinstance(pair.large, transformers.PreTrainedModel)


def _sights(pair: Pair, rows: int, seed: int) -> Batch:
    """Random images or sounds of the config's sizes, some of an image's patches masked if possible."""
    config: Any = pair.small.config
    given = dict(signals(pair.small, rows, seed))
    if getattr(config, "use_mask_token", False) and "bool_masked_pos" in _parameters(pair):
        generator = torch.Generator().manual_seed(seed)
        sides = (config.image_size, config.patch_size)
        size, patch = (side if isinstance(side, Sequence) else (side, side) for side in sides)
        patches = (size[0] // patch[0]) * (size[1] // patch[1])
        given["bool_masked_pos"] = torch.rand(rows, patches, generator=generator) < MASKED
    return given


def _end(pair: Pair) -> int | None:
    """The token that ends each text and stands nowhere else, where a class of two stacks reads it."""
    config: Any = pair.small.config
    reads = type(pair.small).__name__.endswith("ForSequenceClassification")
    return config.eos_token_id if reads and isinstance(config.eos_token_id, int) else None


def _memory(pair: Pair, ids: torch.Tensor) -> Batch:
    """What a decoder with cross-attention is given of an encoder: as wide as the large one reads."""
    config: Any = pair.small.config
    if not getattr(config, "add_cross_attention", False) or MEMORY not in _parameters(pair):
        return {}
    rows, tokens = ids.shape
    generator = torch.Generator().manual_seed(3)
    width = pair.plan.target.of("memory")
    return {MEMORY: torch.randn(rows, tokens + 1, width, generator=generator)}


def _parameters(pair: Pair) -> list[str]:
    return list(inspect.signature(pair.small.forward).parameters)


def _named(pair: Pair, batch: Batch) -> Batch:
    """A model of one's own takes its token ids first, whatever it calls them."""
    if two_stacks(pair.small):
        ids = batch["input_ids"]
        if (end := _end(pair)) is not None:
            other = (end + 1) % pair.before.tokens
            ids = torch.cat([ids.where(ids != end, other), torch.full_like(ids[:, :1], end)], dim=1)
        heard = signals(pair.small, len(ids), seed=2)
        return {**heard, DECODER: ids} if heard else {**batch, "input_ids": ids, DECODER: ids.flip(0, 1)}
    if pretrained(pair):
        ids = batch["input_ids"]
        if _needed(pair) and signal_of(pair.small) is None:
            return _with_images(pair, ids)
        # A small batch may be taken row by row; a detector has as many texts for each image.
        images = len(ids) if len(ids) <= PROBE[0] else SEEN if len(ids) % SEEN == 0 else 1
        return {**batch, **_memory(pair, ids), **signals(pair.small, images, seed=2)}
    return {_parameters(pair)[0]: batch["input_ids"]}


def _with_images(pair: Pair, ids: torch.Tensor) -> Batch:
    """Texts of a class that reads none without an image. Raises `IsogrowError` where none can be made."""
    found = _shown(pair, ids)
    if found is None:
        raise IsogrowError(
            f"{type(pair.small).__name__} reads no text without an image, and it runs none that isogrow makes"
            f" of its config beside {ids.shape[1]} tokens, {UNPROVEN}"
        )
    return found


def _needed(pair: Pair) -> bool:
    """Whether the models read no text without an image in it."""
    given = inspect.signature(pair.small.forward).parameters.get("pixel_values")
    return given is not None and given.default is inspect.Parameter.empty and not sees(pair)


def _learned(pair: Pair) -> bool:
    return pair.before.sizes.has("positions")


def _types(pair: Pair) -> int:
    return pair.before.sizes.of("types") if pair.before.sizes.has("types") else 1
