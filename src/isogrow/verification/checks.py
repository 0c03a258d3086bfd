"""The checks themselves: each takes the pair (in float64 where it says so) and returns a `Check`."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, cast

import torch
from torch import Tensor, nn

from isogrow.errors import IsogrowError, in_a_line
from isogrow.layouts.config import edited, untagged
from isogrow.numbers.arithmetic import same
from isogrow.quiet import quiet
from isogrow.verification.differences import (
    Difference,
    NoiseFloor,
    as_run,
    combined,
    differences,
    first_difference,
    noise_floor,
)
from isogrow.verification.float64 import EXACT, float64, rebuilt
from isogrow.verification.inputs import HEARD, covering, positions, pretrained, probe, sees, taken, unrun
from isogrow.verification.pair import Pair
from isogrow.verification.report import Check
from isogrow.verification.runs import (
    UNPROVEN,
    Batch,
    Outputs,
    Side,
    decoded,
    decodes,
    first_tensor,
    full,
    generated,
    padded,
)
from isogrow.verification.stored import as_stored

OWN = 4.0  # own-dtype error, in units of the small model's own: rounded weights add to rounded values
OTHER = 100.0  # in the same units: what lies so far off is another function's, and no noise
NEW_TOKENS = 16
SIDES: tuple[Side, Side] = ("left", "right")  # of a row, where padding is
# Config keys that say nothing of the function.
FREE_KEYS = frozenset({
    "_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache",
    "return_dict", "output_attentions", "output_hidden_states", "problem_type", "id2label", "label2id",
    "bos_token_id", "eos_token_id", "pad_token_id",
})  # fmt: skip
GRIDS = "image_grid_thw"  # a row for each image, where its patches stand one behind the other
# What a class also returns of images and sound, as they are put among the embeddings.
JOINING = ("image_hidden_states", "video_hidden_states", "audio_hidden_states")


def config(pair: Pair) -> Check:
    """The large model's config is the small one's with what the plan edits, as their class reads both."""
    if not pretrained(pair):
        return Check("config", None, detail="a model of one's own: its shapes are what its sizes say")
    small, large = pair.configs
    right, found = (_read(pair, each) for each in (edited(small, pair.plan.config), large))
    wrong = sorted(key for key in right if key not in FREE_KEYS and found.get(key) != right[key])
    detail = "".join(f"{key} is {found.get(key)}, expected {right[key]}" for key in wrong[:1])
    return Check("config", not wrong, float(len(wrong)), 0.0, detail or f"{len(right)} keys")


def _read(pair: Pair, source: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config with all that its class fills in."""
    kind: Any = type(cast(Any, pair.large).config)
    return _told(kind.from_dict(untagged(source)).to_dict())


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what its parts say of how they were saved."""
    return {
        key: {name: each for name, each in value.items() if name not in FREE_KEYS}
        if isinstance(value, Mapping)
        else value
        for key, value in config.items()
    }


def exact(pair: Pair, small: nn.Module, large: nn.Module) -> tuple[Check, Difference]:
    """float64: every output at every valid token id and every learned position."""
    found: list[Difference] = []
    for batch in covering(pair):
        with float64():
            old = _of_the_old(small, batch)
            new = full(large, batch)
        if not all(bool(x.isfinite().all()) for x in old.values()):
            why = "the small model's own outputs are not finite: correct its weights"
            return Check("float64", False, detail=why), Difference(inf, inf, inf, inf, 0)
        found.append(combined(differences(compared(pair, old), matched(pair, old, new)).values()))
        if not found[-1].relative <= EXACT:
            where = first_layer(pair, small, large, batch, EXACT)
            return Check("float64", False, found[-1].relative, EXACT, where), found[-1]
    worst = max(found, key=lambda each: each.relative)
    return Check("float64", True, worst.relative, EXACT, seen(pair, list(covering(pair)))), worst


def _of_the_old(small: nn.Module, batch: Batch) -> Outputs:
    """What the old model gives; a class that wants something else than it is given is told, not a fault.

    Raises `IsogrowError`.
    """
    try:
        return full(small, batch)
    except Exception as error:  # each class in its own words
        raise IsogrowError(
            f"{type(small).__name__} does not run on what isogrow makes of its config"
            f" ({', '.join(batch)}): {in_a_line(error):.200}; {UNPROVEN}"
        ) from error


def seen(pair: Pair, batches: Sequence[Batch]) -> str:
    """What the models were compared on, where that is all there is to see."""
    given = [first_tensor(batch) for batch in batches]
    if sees(pair):
        return f"{sum(map(len, given))} {taken(pair)}"
    ids, tokens = pair.before.tokens, sum(each.numel() for each in given)
    images = sum(len(batch.get(GRIDS, batch["pixel_values"])) for batch in batches if "pixel_values" in batch)
    sounds = sum(len(batch[name]) for batch in batches for name in HEARD if name in batch)
    beside = (f", {count} {word}" for word, count in (("images", images), ("sounds", sounds)) if count)
    return f"all {ids:,} token ids, {tokens:,} tokens{''.join(beside)}"


def unrun_parts(pair: Pair) -> Iterator[Check]:
    """What has grown and is run by nothing that could be made here: its weights are right, and no more is
    known of it."""
    if found := unrun(pair):
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        yield Check(
            "towers",
            None,
            detail=f"no image or sound that isogrow makes for {type(pair.large).__name__} reaches {found[0]}"
            f"{more}, which ran in neither model: the weights alone were compared",
        )


def first_layer(pair: Pair, small: nn.Module, large: nn.Module, batch: Batch, limit: float) -> str:
    """Which module's output is the first to differ by more than `limit`, relative."""
    if pair.rescaled:
        return "the plan rescales the residual, so layers can't be told apart"
    with float64():
        name = first_difference(small, large, batch, pair.layer_map, pair.channels, limit)
    return f"first difference in {name}" if name else "every layer agrees: the difference is in the head"


def stored_difference(pair: Pair, exact: nn.Module) -> str:
    """Where the stored large model first leaves the one that the plan makes, both as stored.

    Mutates `exact`: its weights are rounded to the stored dtype, so that nothing but the wrong entries
    tells the two apart.
    """
    state = exact.state_dict()
    for tensor in pair.after.stored:
        state[tensor.source].copy_(as_stored(pair, tensor, state[tensor.source]))
    layers, large = {name: name for name in pair.layers}, rebuilt(pair.large)
    for batch in (probe(pair), *covering(pair)):
        with float64():
            name = first_difference(exact, large, batch, layers, None, EXACT)
        if name:
            return f"first difference in {name}"
    return "no layer's output depends on it"


def compared(pair: Pair, outputs: Outputs) -> Outputs:
    """The outputs that must be the same: not what joins the residual, where the plan rescales that."""
    joins = JOINING if pair.rescaled else ()
    return {name: x for name, x in outputs.items() if name not in joins}


def matched(pair: Pair, old: Outputs, new: Outputs) -> Outputs:
    """The large model's outputs at the old channels, where it has no head and they are wider."""
    new = compared(pair, new)
    if pair.channels is None:
        return new
    index = pair.channels
    wide = {n for n, x in new.items() if n in old and x.shape[-1] != old[n].shape[-1]}
    return {name: x.index_select(-1, index) if name in wide else x for name, x in new.items()}


def own_dtype(pair: Pair, small: nn.Module) -> tuple[Check, dict[str, Any]]:
    """The grown model in its own dtype is as near to the exact function as the old one is, times OWN.

    This is what rounding the scaled weights costs, beside the noise floor of the model itself. The exact
    function is that of the attention that the models run in: some classes compute another one by another.
    """
    batch = probe(pair)
    dtype = pair.coarsest
    base, large = (in_dtype(model, dtype) for model in (pair.small, pair.large))
    with float64(), as_run(small, base):
        exact_outputs = full(small, batch)
    return near(pair, exact_outputs, full(base, batch), full(large, batch), noise_floor(base, batch))


def near(
    pair: Pair, exact_outputs: Outputs, old: Outputs, new: Outputs, floor: NoiseFloor
) -> tuple[Check, dict[str, Any]]:
    """How near both models' outputs in their own dtype are to the exact ones, and whether that is enough."""
    dtype = pair.coarsest
    ours = combined(differences(compared(pair, exact_outputs), matched(pair, exact_outputs, new)).values())
    theirs = combined(differences(exact_outputs, old).values())
    between = combined(differences(compared(pair, old), matched(pair, old, new)).values())
    noise = floor.within(OTHER * max(theirs.absolute, torch.finfo(dtype).eps * theirs.scale)).worst
    limit = OWN * max(theirs.absolute, noise.absolute, torch.finfo(dtype).eps * theirs.scale)
    word = str(dtype).removeprefix("torch.")
    figures = {
        "dtype": word,
        "small_to_exact": theirs.absolute,
        "large_to_exact": ours.absolute,
        "small_to_large": between.absolute,
        "kl_mean": between.kl_mean,
        "kl_max": between.kl_max,
        "noise": noise.absolute,
        "noise_kl_mean": noise.kl_mean,
    }
    detail = (
        f"{word}: old {theirs.absolute:.1e} from exact, KL {between.kl_mean:.1e} (noise {noise.kl_mean:.1e})"
    )
    if pair.rounds:
        detail += f"; loading rounds what is stored to {str(pair.loads).removeprefix('torch.')}"
    return Check("own dtype", ours.absolute <= limit, ours.absolute, limit, detail), figures


def in_dtype(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model in the dtype in which it runs, where it is held in another."""
    return model if next(model.parameters()).dtype == dtype else copy.deepcopy(model).to(dtype)


def decode(pair: Pair, small: nn.Module, large: nn.Module) -> Check:
    """float64: token by token with the model's cache (of keys and values, or of states) against the old
    model's full forward pass."""
    batch = probe(pair)
    with float64():
        if not pretrained(pair) or not decodes(large, batch):
            return Check("kv cache", None, detail="its class gives no cache")
        old, own = full(small, batch), tried(partial(decoded, small, batch))
        new = own if isinstance(own, Exception) else tried(partial(decoded, large, batch))
    return as_decoded(pair, old, own, new)


def as_decoded(pair: Pair, full: Outputs, own: Outputs | Exception, new: Outputs | Exception) -> Check:
    """Whether the new model's cache gives what the old one gives: in its `full` pass, if its `own` cache does
    so; skipped where the old model's class fails with its cache."""
    if isinstance(own, Exception):
        detail = f"the old model's class fails with its cache: {type(own).__name__}: {own}"
        return Check("kv cache", None, detail=detail)
    if isinstance(new, Exception):
        return Check("kv cache", False, detail=f"its class fails: {type(new).__name__}: {new}")
    full = _shared(full, new)
    if combined(differences(full, own).values()).relative <= EXACT:
        return exactly("kv cache", pair, full, new)
    found = exactly("kv cache", pair, own, new)
    return replace(found, detail="step by step on both sides: the old model's own cache is not its full pass")


def _shared(old: Outputs, new: Outputs) -> Outputs:
    return {name: x for name, x in old.items() if name in new}


def padding(pair: Pair, small: nn.Module, large: nn.Module) -> Iterator[Check]:
    """float64: rows of various lengths, padded on either side."""
    batch = probe(pair)
    if not pretrained(pair) or "input_ids" not in batch:
        yield Check(
            "padding", None, detail=f"takes {taken(pair)}" if taken(pair) else "not a transformers model"
        )
        return
    if positions(pair) < 2:
        yield Check("padding", None, detail="a row has room for one token")
        return
    for side in SIDES:
        with float64():
            old = tried(partial(padded, small, batch, side))
            new = old if isinstance(old, Exception) else tried(partial(padded, large, batch, side))
        yield as_padded(side, pair, old, new)


def tried(run: Callable[[], Outputs]) -> Outputs | Exception:
    """What a run gives, or why its class can't make it: some can't, whatever their weights are."""
    try:
        return run()
    except Exception as error:
        return error.with_traceback(None)  # which would hold all that the run had


def as_padded(side: Side, pair: Pair, old: Outputs | Exception, new: Outputs | Exception) -> Check:
    """Whether rows that are padded on one side come out alike; skipped where the old model takes none."""
    name = f"padding {side}"
    if isinstance(old, Exception):
        return Check(name, None, detail=f"the old model takes none: {type(old).__name__}: {old}")
    if isinstance(new, Exception):
        return Check(name, False, detail=f"its class fails: {type(new).__name__}: {new}")
    return exactly(name, pair, old, new)


def exactly(name: str, pair: Pair, old: Outputs, new: Outputs) -> Check:
    """Whether float64 outputs of both models are the same."""
    gap = combined(differences(compared(pair, old), matched(pair, old, new)).values()).relative
    return Check(name, gap <= EXACT, gap, EXACT)


def generate(pair: Pair, small: nn.Module, large: nn.Module) -> Check:
    """float64: greedy generation gives the same tokens."""
    with float64():
        given = probe(pair)
        able = pretrained(pair) and cast(Any, large).can_generate()
        if not able or not decodes(large, given):
            return Check("generate", None, detail="is no decoder" if able else "does not generate")
        room = positions(pair) - NEW_TOKENS
        if room < 1:
            return Check("generate", None, detail="no room for tokens")
        if "input_ids" not in given:
            return Check("generate", None, detail=f"generates from {taken(pair)}")
        prompt = given["input_ids"][:, : min(8, room)]
        try:
            old = generated(small, prompt, NEW_TOKENS)
        except Exception as error:  # some classes can't, for some sizes, whatever their weights are
            return Check("generate", None, detail=f"the old model does not: {type(error).__name__}: {error}")
        try:
            new = generated(large, prompt, NEW_TOKENS)
        except Exception as error:
            beside = _without_cache(large, prompt, old)
            return Check(
                "generate", False, detail=f"its class fails: {type(error).__name__}: {error}{beside}"
            )
    wrong = float((old != new).sum()) if old.shape == new.shape else float(old.numel())
    return Check("generate", wrong == 0, wrong, 0.0, f"{NEW_TOKENS} greedy tokens")


def _without_cache(large: nn.Module, prompt: Tensor, old: Tensor) -> str:
    """What is to be said of a class that fails with its cache, where it does without: a T5 of more decoder
    than encoder layers is given a cache of the encoder's (transformers 5.23)."""
    try:
        new = generated(large, prompt, NEW_TOKENS, use_cache=False)
    except Exception:
        return ""
    same = old.shape == new.shape and bool((old == new).all())
    return f" (with use_cache=False it gives {'the same' if same else 'other'} tokens)"


def reload(pair: Pair) -> Check:
    """The large model saved and loaded by plain transformers, bit by bit."""
    if not pretrained(pair):
        return Check("reload", None, detail="not a transformers model")
    wrong = _changed_by_loading(pair.large)
    if wrong and (old := _changed_by_loading(pair.small)):  # some classes write to what they have loaded
        return Check("reload", None, detail=f"the old model does not: its class changes {old[0]} as it loads")
    said = wrong[0] if wrong else f"{len(pair.large.state_dict())} tensors"
    return Check("reload", not wrong, float(len(wrong)), 0.0, said)


def _changed_by_loading(model: Any) -> list[str]:
    """The tensors that are others once a model is saved and loaded."""
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]), quiet():
        model.save_pretrained(folder)
        config = type(model.config).from_pretrained(folder)  # which may be of another type than the class
        again = type(model).from_pretrained(folder, config=config, dtype="auto")
        one, two = model.state_dict(), again.state_dict()
        return [name for name, x in one.items() if name not in two or not same(x, two[name])]
