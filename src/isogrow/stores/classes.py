"""What a class of transformers makes of a config, as data: it can be asked of another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Built:
    """What the class makes of a config: the class's name, the one that the config names (or ""), the prefix
    of its base model, the shapes of its tensors, and of which of them a name is only the second one."""

    name: str
    named: str
    prefix: str
    shapes: Shapes
    twins: Mapping[str, str] = field(default_factory=dict[str, str])
