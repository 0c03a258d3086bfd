"""Both models without their numbers, and where those are: all that a streamed comparison needs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import nn

from isogrow.errors import CheckpointError
from isogrow.families import layout_of
from isogrow.planning.request import Saved
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.matching import match
from isogrow.stores.mapping import mapped
from isogrow.stores.sources import Checkpoint
from isogrow.stores.store import StateDict, Store
from isogrow.verification.inputs import pretrained
from isogrow.verification.pair import Pair, pair
from isogrow.verification.streaming.ahead import Ahead
from isogrow.verification.streaming.lending import lacking
from isogrow.verification.streaming.stored import kept_whole
from isogrow.verification.streaming.weights import Kept, MadeWeights, kept


@dataclass(frozen=True)
class StreamedPair:
    """A pair whose models have no numbers of their own (those that were given as models have), and the
    weights of both."""

    pair: Pair
    made: MadeWeights

    @property
    def small(self) -> Kept:
        return self.made.small

    @property
    def large(self) -> Kept:
        return self.made.large


@contextmanager
def streamed_pair(
    small: Checkpoint | nn.Module, large: Checkpoint | nn.Module, plan: Saved | None
) -> Generator[StreamedPair]:
    """Open both. Raises `CheckpointError` for models that are none of transformers', and where the class of
    one has a weight that is stored nowhere."""
    both = pair(small, large, plan, hollow=True)
    if not pretrained(both):
        raise CheckpointError(
            f"{type(both.large).__name__} is no model of transformers, and only those are compared layer by"
            " layer: leave out streamed=True (--streamed)"
        )
    with ExitStack() as stack:
        old, new = kept(*_held(small, both.before, stack)), kept(*_held(large, both.after, stack))
        _check_whole(both.small, old)
        _check_whole(both.large, new)
        yield StreamedPair(both, MadeWeights(both.plan, old, new))


def _held(model: Checkpoint | nn.Module, seen: Anatomy, stack: ExitStack) -> tuple[Anatomy, Anatomy, Store]:
    """How a model's weights are held, how its class sees them, and the store that has them."""
    if isinstance(model, nn.Module):
        return seen, seen, StateDict(model.state_dict())
    held = match(layout_of(model.config), model.config, model.headers)
    return held, seen, Ahead(stack.enter_context(mapped(model)))


def _check_whole(model: nn.Module, weights: Kept) -> None:
    lost = sorted({*kept_whole(weights), *(set(lacking(model).values()) - weights.tensors.keys())})
    if lost:
        raise CheckpointError(
            f"{type(model).__name__} has {lost[0]}, and it is stored nowhere, so transformers would fill it"
            " at random; nothing was compared"
        )
