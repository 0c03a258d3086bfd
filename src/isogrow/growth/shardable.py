"""What can't be had of a sharded model, refused before anything moves; each rank asks of its own parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from isogrow.errors import CheckpointError, SizeError, StateError
from isogrow.growth.sharding import tensors_of
from isogrow.interpreters.module import own_class
from isogrow.interpreters.sharded.ranks import Ranks
from isogrow.numbers.local import is_sharded, local_of, parts_of
from isogrow.optim.coded import is_coded
from isogrow.optim.moments import FACTORED
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.regions import Fitting
from isogrow.stores.binding import check_ties
from isogrow.stores.store import StateDict

ROWS = ("Muon",)  # optimizers that need at least a row of each matrix on every rank


def spread_out(model: nn.Module) -> bool:
    """Whether a model is sharded, though some of its parameters may be gathered at the moment."""
    return any(is_sharded(x) for x in model.parameters()) or any(_fully_sharded(model))


def check_sharded(model: nn.Module, shard: object, init: object) -> None:
    """Refuse what can't be had of a sharded model (`StateError`, `SizeError`); parameters that a forward pass
    has gathered become parts again."""
    if shard is None:
        raise StateError(
            f"{own_class(model).__name__} is spread over ranks: give shard=, the function that shards the"
            " model (def shard(model): fully_shard(model)), which is called with the grown one"
        )
    if not callable(shard):
        raise StateError(f"shard={shard!r:.60} is no function: give the one that shards the model")
    if isinstance(init, Fitting):
        raise SizeError(
            f"init {init.name!r} looks at the model while it runs, and a sharded one is grown without running"
            " it: grow by another initializer"
        )
    for part in _fully_sharded(model):
        cast("Any", part).reshard()


def is_fully_sharded(part: nn.Module) -> bool:
    """Whether `fully_shard` (FSDP2) was applied to this very module."""
    return any(kind.__name__ == "FSDPModule" for kind in type(part).__mro__)


def _fully_sharded(model: nn.Module) -> Iterator[nn.Module]:
    return (part for part in model.modules() if is_fully_sharded(part))


def check_states(optimizers: Sequence[Optimizer], model: nn.Module) -> None:
    """Refuse state tensors that are not spread as their parameters are (`StateError`)."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    for p, name, state in (
        (p, names[p], s) for each in optimizers for p, s in each.state.items() if p in names
    ):
        factored = next((key for key in (*FACTORED, *FACTORED.values()) if key in state), None)
        if factored is not None and is_sharded(p):
            raise StateError(
                f"the optimizer keeps {factored} of {name}, means of rows or columns of which no rank has"
                " all: grow the model alone, without optimizer=, and make a new optimizer for it"
            )
        if is_coded({key: local_of(x) if isinstance(x, Tensor) else x for key, x in state.items()}):
            raise StateError(
                f"the optimizer keeps the state of {name} in codes of 8 bits or fewer, which can't be read in"
                " parts: grow the model alone, without optimizer=, and make a new optimizer for it"
            )
        for key, x in state.items():
            alike = is_sharded(x) == is_sharded(p) and (not is_sharded(p) or _placed(x) == _placed(p))
            if isinstance(x, Tensor) and x.dim() and x.numel() > 1 and not alike:
                raise StateError(
                    f"{key} of {name} does not lie over the ranks as {name} does: make the optimizer after"
                    " the model is sharded, from its parameters"
                )


def _placed(x: Any) -> tuple[object, ...]:
    return (x.device_mesh, *x.placements)


def check_numbers_of_groups(optimizers: Sequence[Optimizer], ranks: Ranks) -> None:
    """Refuse on every rank optimizers whose groups hold other numbers on one (`StateError`).

    Those that find their rate by sums over all parameters have the sums of their own parts alone where these
    are DTensors (torch 2.13: `Tensor.item()` does not reduce them), so each rank learns at a rate of its own.
    """
    found = ranks.gathered(dict(_numbers(optimizers)))
    for rank, said in enumerate(found):
        for key, number in said.items():
            if number != found[0][key]:
                _, name, group, word = key
                raise StateError(
                    f"{word} in group {group} of {name} is {number:.6g} on rank {rank} and"
                    f" {found[0][key]:.6g} on rank 0, so the ranks learn differently: an optimizer that finds"
                    " its rate by sums over all parameters has those of its own part alone; train a sharded"
                    " model with one that is given its rate, and grow without optimizer="
                )


def _numbers(optimizers: Sequence[Optimizer]) -> Iterator[tuple[tuple[int, str, int, str], float]]:
    """The numbers of all groups: of which optimizer, its class, of which group, and their names there."""
    for at, optimizer in enumerate(optimizers):
        for i, group in enumerate(optimizer.param_groups):
            for word, value in group.items():
                if isinstance(value, (int, float)) or (isinstance(value, Tensor) and not value.dim()):
                    yield (at, type(optimizer).__name__, i, word), float(value)


def check_numbers(model: nn.Module, anatomy: Anatomy) -> None:
    """Refuse parameters without numbers, on several devices, or tied ones that differ (`CheckpointError`)."""
    tensors = tensors_of(model)
    local = {each.source: local_of(tensors[each.source]) for each in anatomy.stored}
    empty = next((name for name, x in local.items() if x.is_meta), None)
    if empty is not None:
        raise CheckpointError(
            f"{empty} is on the meta device, where tensors have no numbers: load the weights, then grow"
        )
    devices = sorted({str(local_of(x).device) for x in model.parameters()})
    if len(devices) > 1:
        raise CheckpointError(
            f"this rank's parameters lie on {devices[0]} and on {devices[1]}: put all of them on one device,"
            " then grow"
        )
    check_ties(anatomy, StateDict(local))


def check_rows(optimizers: Sequence[Optimizer], large: nn.Module) -> None:
    """Refuse matrices that have fewer rows than there are ranks to hold them, where that can't be trained."""
    needy = next((type(each).__name__ for each in optimizers if type(each).__name__ in ROWS), None)
    for name, x in large.named_parameters() if needy else ():
        parts = parts_of(x).get(0, 1)
        if x.dim() == 2 and x.shape[0] < parts:
            raise StateError(
                f"{name} would have {x.shape[0]} rows over {parts} ranks, and {needy} needs a row on each:"
                " shard it over fewer ranks, or train it by another optimizer"
            )
