"""Grow trained transformers without changing what they compute (arXiv 2308.06103).

large = isogrow.grow(small, hidden=768, ffn="x2", layers="+4")
isogrow.grow_checkpoint("small/", "large/", hidden=768)
isogrow.verify("small/", "large/").passed
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isogrow.errors import IsogrowError as IsogrowError
    from isogrow.expansions import AttentionExpansion as AttentionExpansion
    from isogrow.expansions import HeadAddition as HeadAddition
    from isogrow.expansions import HeadsExpansion as HeadsExpansion
    from isogrow.expansions import HiddenExpansion as HiddenExpansion
    from isogrow.expansions import LayerAddition as LayerAddition
    from isogrow.expansions import MlpExpansion as MlpExpansion
    from isogrow.gradmax import GradMax as GradMax
    from isogrow.growing import grow as grow
    from isogrow.growing import grow_ as grow_
    from isogrow.growing import grow_checkpoint as grow_checkpoint
    from isogrow.growing import pace as pace
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
    from isogrow.plan import Init as Init
    from isogrow.plan import Plan as Plan
    from isogrow.regions import Region as Region
    from isogrow.regions import register_initializer as register_initializer
    from isogrow.resuming import grow_optimizer_state as grow_optimizer_state
    from isogrow.resuming import trainer_groups as trainer_groups
    from isogrow.verification import verify as verify

__version__ = "0.1.0"

# Names that bring torch are imported when they are first used.
_HOMES = {
    "GradMax": "gradmax",
    "grow": "growing",
    "grow_": "growing",
    "grow_checkpoint": "growing",
    "pace": "growing",
    "grow_optimizer_state": "resuming",
    "trainer_groups": "resuming",
    "caches": "grown",
    "new_entries": "grown",
    "plan_of": "models",
    "register": "models",
    "verify": "verification",
    "AttentionExpansion": "expansions",
    "HeadAddition": "expansions",
    "HeadsExpansion": "expansions",
    "HiddenExpansion": "expansions",
    "LayerAddition": "expansions",
    "MlpExpansion": "expansions",
    "Attention": "layout",
    "Bias": "layout",
    "Binding": "layout",
    "Key": "layout",
    "Layout": "layout",
    "Norm": "layout",
    "PerLayer": "layout",
    "Rope": "layout",
    "Stream": "layout",
    "Weight": "layout",
    "Policy": "moments",
    "Init": "plan",
    "Plan": "plan",
    "Region": "regions",
    "register_initializer": "regions",
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
