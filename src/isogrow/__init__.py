"""Grow trained transformers without changing what they compute (arXiv 2308.06103).

large = isogrow.grow(small, hidden=768, ffn="x2", layers="+4")
isogrow.grow_(model, optimizer=optimizer, ffn="x2")
isogrow.grow_checkpoint("small/", "large/", hidden=768)
isogrow.verify("small/", "large/").passed
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isogrow.api import Training as Training
    from isogrow.api import grow as grow
    from isogrow.api import grow_ as grow_
    from isogrow.api import grow_checkpoint as grow_checkpoint
    from isogrow.api import grow_training as grow_training
    from isogrow.api import pace as pace
    from isogrow.api import plan as plan
    from isogrow.errors import IsogrowError as IsogrowError
    from isogrow.expansions import AttentionExpansion as AttentionExpansion
    from isogrow.expansions import HeadAddition as HeadAddition
    from isogrow.expansions import HeadsExpansion as HeadsExpansion
    from isogrow.expansions import HiddenExpansion as HiddenExpansion
    from isogrow.expansions import LayerAddition as LayerAddition
    from isogrow.expansions import MlpExpansion as MlpExpansion
    from isogrow.gradmax import GradMax as GradMax
    from isogrow.grown import caches as caches
    from isogrow.grown import new_entries as new_entries
    from isogrow.layout import Attention as Attention
    from isogrow.layout import Bias as Bias
    from isogrow.layout import Binding as Binding
    from isogrow.layout import Key as Key
    from isogrow.layout import Layout as Layout
    from isogrow.layout import Norm as Norm
    from isogrow.layout import PerLayer as PerLayer
    from isogrow.layout import Rope as Rope
    from isogrow.layout import Stream as Stream
    from isogrow.layout import Weight as Weight
    from isogrow.models import plan_of as plan_of
    from isogrow.models import register as register
    from isogrow.moments import Policy as Policy
    from isogrow.plans import Init as Init
    from isogrow.plans import Plan as Plan
    from isogrow.regions import Region as Region
    from isogrow.regions import register_initializer as register_initializer
    from isogrow.request import Request as Request
    from isogrow.resuming import grow_optimizer_state as grow_optimizer_state
    from isogrow.resuming import trainer_groups as trainer_groups
    from isogrow.train.schedule import Growth as Growth
    from isogrow.train.schedule import Plateau as Plateau
    from isogrow.train.trainer import growing as growing
    from isogrow.verification import verify as verify

__version__ = "0.1.0"

# The public names in the order in which a user meets them. Those that bring torch are imported when they are
# first used.
_HOMES = {
    "grow": "api",
    "grow_": "api",
    "grow_training": "api",
    "Training": "api",
    "grow_checkpoint": "api",
    "growing": "train.trainer",
    "Growth": "train.schedule",
    "Plateau": "train.schedule",
    "verify": "verification",
    "plan": "api",
    "Plan": "plans",
    "Request": "request",
    "Policy": "moments",
    "Init": "plans",
    "GradMax": "gradmax",
    "Region": "regions",
    "register_initializer": "regions",
    "pace": "api",
    "grow_optimizer_state": "resuming",
    "trainer_groups": "resuming",
    "plan_of": "models",
    "new_entries": "grown",
    "caches": "grown",
    "MlpExpansion": "expansions",
    "HeadAddition": "expansions",
    "HeadsExpansion": "expansions",
    "AttentionExpansion": "expansions",
    "HiddenExpansion": "expansions",
    "LayerAddition": "expansions",
    "register": "models",
    "Layout": "layout",
    "Weight": "layout",
    "Bias": "layout",
    "Norm": "layout",
    "Key": "layout",
    "Attention": "layout",
    "Rope": "layout",
    "Stream": "layout",
    "PerLayer": "layout",
    "Binding": "layout",
    "IsogrowError": "errors",
}

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    *_HOMES,
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'isogrow' has no attribute {name!r}")
    value = getattr(import_module(f"isogrow.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
