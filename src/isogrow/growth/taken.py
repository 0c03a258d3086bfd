"""Keywords of a request that belong to another function, and initializers that need a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isogrow.errors import SizeError, StateError
from isogrow.planning.request import Kind
from isogrow.plans.regions import Fitting

# What `grow_training` takes and others do not, and the way to what is wanted.
TRAINING = ("optimizer", "scheduler", "ema", "policy", "release")
ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "grow": dict.fromkeys(
        TRAINING,
        "it returns the model alone; isogrow.grow_training(model, optimizer=…) grows what trains it too, and"
        " isogrow.grow_ grows both in place",
    ),
    "grow_": {
        "ema": "call isogrow.grow_training(model, ema=…) with the same request and seed first, and keep the"
        " average that it returns, which fits the model that grow_ makes",
        "scheduler": "the optimizer stays the object that the scheduler holds, so it goes on; leave it out",
        "release": "the old state is always given up as it grows; leave it out",
    },
    "grow_checkpoint": {
        "ema": "grow the average as a checkpoint of its own, with the same request and seed",
        "scheduler": "a Trainer's scheduler.pt knows no sizes, and travels as it is; leave it out",
        "release": "nothing is held in memory; leave it out",
        "shard": "files are whole; leave it out",
    },
    "plan": dict.fromkeys((*TRAINING, "shard"), "a plan is of the model alone; leave it out"),
}


def check_taken(verb: str, request: Mapping[str, Any]) -> None:
    """Refuse a keyword that another function takes, and say which."""
    for name in ELSEWHERE[verb].keys() & request.keys():
        raise StateError(f"{verb} takes no {name}: {ELSEWHERE[verb][name]}")


def check_blind(init: Kind) -> None:
    """Refuse an initializer that runs the model, where none is run (`SizeError`)."""
    if isinstance(init, Fitting):
        raise SizeError(
            f"init {init.name!r} looks at the model while it runs, and a checkpoint is grown without running"
            " it: load the model, grow it with isogrow.grow, and save it"
        )
