"""What is asked of a grown model or of its folder: what is new in it, and whether old caches stay valid."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from isogrow.errors import CheckpointError
from isogrow.growth.models import anatomy_of, plan_of
from isogrow.growth.newness import NewEntries, new_in
from isogrow.growth.opening import opened
from isogrow.planning.planner import check_led
from isogrow.planning.request import plan_in
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.caching import Caches, caches_of
from isogrow.plans.plan import Plan
from isogrow.plans.serial import RECORD


def new_entries(grown: nn.Module | str | Path, plan: Plan | None = None) -> NewEntries:
    """What is new in a grown model: the parameters that were added, and the boxes within those that grew.

    `grown` is a model that `grow` returned (or `grow_` grew), under the names of its parameters, or a folder
    (or Hub id), under those of its tensors: of a folder only config.json, isogrow.json and headers are read.
    New is what the last growth made: zeros that switch, free entries, means and copies. `plan` names the
    growth where the model does not know it (it was saved and loaded), or several (`first.then(second)`).

    Raises `SizeError` for a plan that does not lead to this model, `CheckpointError` where none is known.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import isogrow
    >>> config = LlamaConfig(vocab_size=64, hidden_size=24, intermediate_size=40,
    ...                      num_hidden_layers=2, num_attention_heads=4)
    >>> large = isogrow.grow(LlamaForCausalLM(config), ffn=46, layers="+1")
    >>> new = new_entries(large)
    >>> len(new.added), new.grown["model.layers.0.mlp.down_proj.weight"].boxes
    (9, ((range(0, 24), range(40, 46)),))
    """
    return _named(grown, new_in(*_known(grown, plan)))


def caches(grown: nn.Module | str | Path, plan: Plan | None = None) -> Caches:
    """Whether the keys and values that the small model cached are valid in the grown one, and why.

    They are, for the old layers, where neither keys nor values got heads or channels. What is given, and
    what is raised, is as in `new_entries`.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import isogrow
    >>> config = LlamaConfig(vocab_size=64, hidden_size=24, intermediate_size=40,
    ...                      num_hidden_layers=2, num_attention_heads=4)
    >>> small = LlamaForCausalLM(config)
    >>> caches(isogrow.grow(small, hidden=32, ffn="x2")).valid
    True
    >>> print(caches(isogrow.grow(small, kv_heads=6)))
    no: kv_heads grows from 4 to 6, and what was cached has 4
    """
    return caches_of(*_known(grown, plan))


def recorded(folder: Path) -> Plan:
    """The plan that a grown folder keeps. Raises `CheckpointError` where there is none, `PlanError`
    where it can't be read."""
    why = "only a folder that isogrow wrote has it; give the plan by which this model was grown"
    return plan_in(folder / RECORD, why)


def _known(grown: nn.Module | str | Path, plan: Plan | None) -> tuple[Anatomy, Plan]:
    """The grown model as its layout sees it, and the plan that led to it."""
    if isinstance(grown, nn.Module):
        anatomy, plan = anatomy_of(grown), plan or plan_of(grown)
    else:
        found = opened(grown)
        anatomy, plan = found.anatomy, plan or recorded(found.checkpoint.folder)
    if plan is None:
        raise CheckpointError(
            "no plan is known for this model: give plan=, or the model that isogrow.grow returned"
        )
    check_led(anatomy, plan)
    return anatomy, plan


def _named(grown: nn.Module | str | Path, found: NewEntries) -> NewEntries:
    """Each parameter of a model under its first name; what is no parameter (a buffer) is left out."""
    if not isinstance(grown, nn.Module):
        return found
    first = {p: name for name, p in grown.named_parameters()}
    names = {name: first[p] for name, p in grown.named_parameters(remove_duplicate=False)}
    return NewEntries({names[name]: new for name, new in found.parameters.items() if name in names})
