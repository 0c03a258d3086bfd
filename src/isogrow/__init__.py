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
    from isogrow.drafting.drafts import draft as draft
    from isogrow.drafting.drafts import read_layout as read_layout
    from isogrow.errors import IsogrowError as IsogrowError
    from isogrow.gradmax import GradMax as GradMax
    from isogrow.growth.adapters import grow_adapter as grow_adapter
    from isogrow.growth.api import Training as Training
    from isogrow.growth.api import grow as grow
    from isogrow.growth.api import grow_ as grow_
    from isogrow.growth.api import grow_training as grow_training
    from isogrow.growth.api import pace as pace
    from isogrow.growth.api import plan as plan
    from isogrow.growth.folders import grow_checkpoint as grow_checkpoint
    from isogrow.growth.forecasting import Forecast as Forecast
    from isogrow.growth.forecasting import forecast as forecast
    from isogrow.growth.grown import caches as caches
    from isogrow.growth.grown import new_entries as new_entries
    from isogrow.growth.models import plan_of as plan_of
    from isogrow.growth.models import register as register
    from isogrow.growth.resuming import grow_optimizer_state as grow_optimizer_state
    from isogrow.growth.resuming import trainer_groups as trainer_groups
    from isogrow.layouts.layout import Attention as Attention
    from isogrow.layouts.layout import Bias as Bias
    from isogrow.layouts.layout import Binding as Binding
    from isogrow.layouts.layout import Key as Key
    from isogrow.layouts.layout import Layout as Layout
    from isogrow.layouts.layout import Norm as Norm
    from isogrow.layouts.layout import PerLayer as PerLayer
    from isogrow.layouts.layout import Rope as Rope
    from isogrow.layouts.layout import Stream as Stream
    from isogrow.layouts.layout import Weight as Weight
    from isogrow.optim.moments import Policy as Policy
    from isogrow.planning.request import Request as Request
    from isogrow.plans.expansions import AttentionExpansion as AttentionExpansion
    from isogrow.plans.expansions import HeadAddition as HeadAddition
    from isogrow.plans.expansions import HeadsExpansion as HeadsExpansion
    from isogrow.plans.expansions import HiddenExpansion as HiddenExpansion
    from isogrow.plans.expansions import LayerAddition as LayerAddition
    from isogrow.plans.expansions import MlpExpansion as MlpExpansion
    from isogrow.plans.plan import Init as Init
    from isogrow.plans.plan import Plan as Plan
    from isogrow.plans.regions import Region as Region
    from isogrow.plans.regions import register_initializer as register_initializer
    from isogrow.train.schedule import Growth as Growth
    from isogrow.train.schedule import Plateau as Plateau
    from isogrow.train.sharding import sharded_by as sharded_by
    from isogrow.train.trainer import growing as growing
    from isogrow.verification import verify as verify
    from isogrow.verification.adapters import verify_adapter as verify_adapter
    from isogrow.verification.elsewhere.proof import verify_in as verify_in

__version__ = "0.1.0"

# The public names in the order in which a user meets them. Those that bring torch are imported when they are
# first used.
_HOMES = {
    "grow": "growth.api",
    "grow_": "growth.api",
    "grow_training": "growth.api",
    "Training": "growth.api",
    "grow_checkpoint": "growth.folders",
    "growing": "train.trainer",
    "Growth": "train.schedule",
    "Plateau": "train.schedule",
    "sharded_by": "train.sharding",
    "grow_adapter": "growth.adapters",
    "verify": "verification",
    "verify_adapter": "verification.adapters",
    "verify_in": "verification.elsewhere.proof",
    "plan": "growth.api",
    "Plan": "plans.plan",
    "forecast": "growth.forecasting",
    "Forecast": "growth.forecasting",
    "Request": "planning.request",
    "Policy": "optim.moments",
    "Init": "plans.plan",
    "GradMax": "gradmax",
    "Region": "plans.regions",
    "register_initializer": "plans.regions",
    "pace": "growth.api",
    "grow_optimizer_state": "growth.resuming",
    "trainer_groups": "growth.resuming",
    "plan_of": "growth.models",
    "new_entries": "growth.grown",
    "caches": "growth.grown",
    "MlpExpansion": "plans.expansions",
    "HeadAddition": "plans.expansions",
    "HeadsExpansion": "plans.expansions",
    "AttentionExpansion": "plans.expansions",
    "HiddenExpansion": "plans.expansions",
    "LayerAddition": "plans.expansions",
    "register": "growth.models",
    "draft": "drafting.drafts",
    "read_layout": "drafting.drafts",
    "Layout": "layouts.layout",
    "Weight": "layouts.layout",
    "Bias": "layouts.layout",
    "Norm": "layouts.layout",
    "Key": "layouts.layout",
    "Attention": "layouts.layout",
    "Rope": "layouts.layout",
    "Stream": "layouts.layout",
    "PerLayer": "layouts.layout",
    "Binding": "layouts.layout",
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
