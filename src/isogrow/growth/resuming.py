"""What a run resumes from beside a checkpoint's weights: the state of its optimizer grows with them.

That is Trainer's `optimizer.pt`, the `optimizer.bin` of Accelerate's save_state, or what a distributed
checkpoint has beside the weights, where the output is one, too. The rest that is kept of
a run (`RUN` in `isogrow.stores.carrying`) knows no sizes, and travels as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from isogrow.errors import CheckpointError, StateError
from isogrow.growth.opening import Opened
from isogrow.layouts.config import edited
from isogrow.optim.moments import Policy
from isogrow.optim.saved import grown_items, other_values
from isogrow.optim.state import check_optimizer_state
from isogrow.optim.state import grow_optimizer_state as grow_state_dict
from isogrow.planning.planner import check_fits
from isogrow.plans.plan import Plan
from isogrow.quiet import on_cpu
from isogrow.stores.carrying import Beside, Within
from isogrow.stores.distributed import Distributed, read_distributed
from isogrow.stores.sources import Checkpoint, load_state
from isogrow.stores.states import APART, state_in, taken_along

# What FSDP, DeepSpeed, XLA and SageMaker leave instead: parts of a state, by other names than numbers.
SHARDED = (
    *("optimizer_[0-9]*", "pytorch_model_fsdp*", "global_step[0-9]*"),
    *("rank*-of-*-optimizer.pt", "optimizer.pt_*"),
)

Groups = Callable[[nn.Module], Sequence[Sequence[str]]]


def resumable(
    opened: Opened,
    plan: Plan,
    optimizer: str,
    policy: Policy | None,
    groups: Groups | None,
    format: str = "safetensors",
    here: bool = True,
) -> Beside | Within | None:
    """How the optimizer's state beside a checkpoint is grown, with all checked that can be; None: it is not.
    A file of its own is read only where it is to be written (`here`). One distributed checkpoint that becomes
    another keeps its form, with a state or without.

    Raises `StateError` for a state that can't be, and for a policy or groups where there is none.
    """
    if optimizer not in ("grow", "drop"):
        raise StateError(f"optimizer {optimizer!r} is not known: give grow, or drop")
    checkpoint, found = opened.checkpoint, taken_along(opened.checkpoint, optimizer, format)
    with _named(checkpoint.folder):
        if optimizer == "grow" and checkpoint.format != "distributed":
            _check_whole(checkpoint.folder)
        if not found:
            if policy is not None or groups is not None:
                raise StateError("a policy or groups are given, and no optimizer.pt is grown: leave them out")
            return None if format != "distributed" else _bare(checkpoint)
        _check_unpaced(policy)
        if checkpoint.held is not None:
            return _within(opened, checkpoint.held, found, plan, policy, groups)
        path = checkpoint.folder / found
        grouped = groups or STATES[found]
        write = _grower(checkpoint, path, plan, policy, grouped) if here else _elsewhere
        return Beside(found, path.stat().st_size, write)


def _bare(checkpoint: Checkpoint) -> Within | None:
    """The form of a distributed checkpoint without an optimizer's state: what else it holds travels, unless a
    state is left behind."""
    held = checkpoint.held
    if held is None:
        return None
    inner = _inner(checkpoint, held)
    return Within("", {} if state_in(checkpoint) else other_values(held), inner, inner, held.under)


def _inner(checkpoint: Checkpoint, weights: Distributed) -> str:
    """The folder in a checkpoint's own that the weights are in."""
    return "" if weights.folder == checkpoint.folder else weights.folder.name


def _within(
    opened: Opened,
    weights: Distributed,
    found: str,
    plan: Plan,
    policy: Policy | None,
    groups: Groups | None,
) -> Within:
    """The state in the weights' distributed checkpoint, or in one beside it; its parameters have names."""
    if groups is not None:
        raise StateError(
            "groups are given, and a distributed checkpoint's state names the parameters of each: leave them"
            " out"
        )
    checkpoint, apart = opened.checkpoint, found == APART
    held = read_distributed(checkpoint.folder / APART) if apart else weights
    items = {**grown_items(held, checkpoint, opened.anatomy, plan, policy), **other_values(held)}
    inner = _inner(checkpoint, weights)
    return Within(found, items, APART if apart else inner, inner, weights.under)


def _grower(
    checkpoint: Checkpoint, path: Path, plan: Plan, policy: Policy | None, groups: Groups
) -> Callable[[Path], None]:
    """Writes the grown state; what is checked before is not grown yet."""
    from isogrow.growth.models import anatomy_of  # both bring transformers, which few growths of files need
    from isogrow.stores.loadable import on_meta

    state = load_state(path, "save the run again")
    _check_form(state, path.name)
    small, large = (on_meta(config) for config in (checkpoint.config, edited(checkpoint.config, plan.config)))
    if small is None or large is None:
        raise StateError(
            f"transformers has no {checkpoint.config.get('model_type')!r}, so which parameters the state's"
            " numbers stand for is not known"
        )
    check_optimizer_state(state, groups(small), anatomy_of(small), plan, policy)

    def write(target: Path) -> None:
        _save(grow_optimizer_state(state, small, large, plan, policy, groups), target)

    return write


def _elsewhere(target: Path) -> None:
    raise AssertionError(f"{target} is written by the first rank")


def _check_unpaced(policy: Policy | None) -> None:
    if policy is not None and policy.paced:
        raise StateError(
            "ramp, follow and rates pace a run's steps, and a file makes none: leave them out, and call"
            " isogrow.pace in the resumed run"
        )


@contextmanager
def _named(folder: Path) -> Generator[None]:
    """A refusal with the file's name, and the way out that is always there."""
    try:
        yield
    except (CheckpointError, StateError) as error:
        raise StateError(
            f"the optimizer's state in {folder.name} can't be grown: {error}; or leave the run's state behind"
            " with optimizer='drop' (--optimizer drop)"
        ) from error


def _save(state: Mapping[str, Any], path: Path) -> None:
    """Write a state dict; what the system refuses (a full disk) is an `OSError`, which torch hides."""
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _check_whole(folder: Path) -> None:
    found = sorted(path.name for pattern in SHARDED for path in folder.glob(pattern))
    if found:
        raise StateError(
            f"{found[0]} is a state in shards, or of a second optimizer: save it whole, by one process"
        )


def _check_form(state: Mapping[Any, Any], name: str) -> None:
    """A state dict as `Optimizer.state_dict` makes it."""
    groups, entries = state.get("param_groups"), state.get("state")
    made = isinstance(entries, dict) and isinstance(groups, list)
    made = made and all(isinstance(x, dict) for x in (*cast("Any", groups), *cast("Any", entries).values()))
    if not made or not all(isinstance(group.get("params"), list) for group in cast("Any", groups)):
        raise StateError(f"{name} is no optimizer's state dict: save the run again")
    if any(isinstance(each, str) for group in cast("Any", groups) for each in group["params"]):
        raise StateError(
            f"{name} has its parameters by name, as FSDP gathers them: turn its keys into numbers by"
            " FullyShardedDataParallel.rekey_optim_state_dict(…, OptimStateKeyType.PARAM_ID, model)"
        )


@on_cpu()
def grow_optimizer_state(
    state: Mapping[str, Any],
    small: nn.Module,
    large: nn.Module,
    plan: Plan,
    policy: Policy | None = None,
    groups: Groups | None = None,
) -> dict[str, Any]:
    """The state dict of `large`'s optimizer, from that of `small`'s: an `optimizer.pt` on disk.

    A state dict knows parameters by number alone. `groups` says which names the numbers stand for: group by
    group, in the order in which the optimizer was given them; by default as Hugging Face's Trainer makes them
    (`trainer_groups`). Both models may be on the meta device. Pacing is no part of a state (`pace`).
    """
    from isogrow.growth.models import anatomy_of

    grouped = groups or trainer_groups
    order = tuple([name for name, _ in model.named_parameters()] for model in (small, large))
    anatomy = anatomy_of(small)
    check_fits(anatomy, plan)
    made = grow_state_dict(state, grouped(small), anatomy, plan, policy, (order[0], order[1]))
    found, wanted = (
        [len(group) for group in given]
        for given in ([group["params"] for group in made["param_groups"]], grouped(large))
    )
    if found != wanted:
        raise StateError(
            f"the grown state has groups of {found} parameters, and the grown model's are of {wanted}: the"
            " plan is not the one that made this model"
        )
    return made


def trainer_groups(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Names of the parameters that Hugging Face's Trainer gives its optimizer: those that decay; the rest.

    Its default optimizer and grouping are meant; frozen parameters are in no group.
    """
    from transformers import Trainer

    decaying = set(cast("Any", Trainer).get_decay_parameter_names(None, model))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    return tuple(tuple(name for name in trained if (name in decaying) is decays) for decays in (True, False))


def one_group(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Names of the parameters that `Optimizer(model.parameters())` is given: all, in one group."""
    return (tuple(name for name, _ in model.named_parameters()),)


# The state of an optimizer as it is left beside weights, and how its parameters are grouped by default.
STATES: Mapping[str, Groups] = {"optimizer.pt": trainer_groups, "optimizer.bin": one_group}
