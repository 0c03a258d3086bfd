"""Can a schedule's growths be had? All are planned, one on top of the other, before the first step, and
optimizers are asked after it, when they have a state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isogrow.errors import IsogrowError, SizeError, StateError
from isogrow.gradmax import NAME
from isogrow.growth.as_built import check_as_built
from isogrow.growth.models import anatomy_of, build_of
from isogrow.optim.optimizers import check_trained, inside, optimizers_of
from isogrow.planning.request import requested
from isogrow.plans.anatomy import grown_anatomy
from isogrow.plans.expansions import expansions
from isogrow.plans.plan import Plan
from isogrow.plans.words import alone
from isogrow.train.schedule import Growth


def check_possible(model: Any, growths: Sequence[Growth], done: int) -> None:
    """Refuse growths that this model, which has had so many of them, can't have.

    No weight is read. What needs the run's data is asked when the growth is made.

    Raises `SizeError`, with the growth's number and what is wrong with it, and `CheckpointError` for a model
    that is not what its class makes of its config.
    """
    left = _left(growths, done)
    if not left:
        return
    anatomy = anatomy_of(model)
    check_as_built(model, anatomy, build_of(model))
    for number, growth in left:
        kind = "normal" if growth.init.kind == NAME else growth.init.kind
        asked = {"init": kind, "init_std": growth.init.std, "seed": growth.seed}
        try:
            wanted = expansions(growth.sizes, growth.layers_at, alone(anatomy.sizes))
            made = requested(wanted, asked).plan(anatomy)
        except IsogrowError as error:
            raise SizeError(f"growth {number}: {error}") from error
        anatomy = grown_anatomy(anatomy, made)


def check_growable(model: Any, optimizer: Any, growths: Sequence[Growth], done: int) -> bool:
    """Refuse an optimizer that the growths to come would not grow; whether there is nothing more to ask, as
    there is where it has no state yet.

    Raises `StateError`, with the growth's number.
    """
    left = _left(growths, done)
    if not left:
        return True
    trained = [inside(each) for each in optimizers_of(optimizer)]
    if not any(each.state for each in trained):
        return False
    anatomy = anatomy_of(model)
    for number, growth in left:
        try:
            check_trained(trained, model, anatomy, Plan(anatomy.layout.family, anatomy.sizes), growth.policy)
        except IsogrowError as error:
            raise StateError(f"growth {number}: {error}") from error
    return True


def _left(growths: Sequence[Growth], done: int) -> list[tuple[int, Growth]]:
    """The growths to come, by their numbers."""
    return [(number, each) for number, each in enumerate(growths, 1) if number > done and each.sizes]
