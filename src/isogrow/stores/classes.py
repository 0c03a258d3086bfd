"""What a class of transformers makes of a config, as data: it can be asked of another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Built:
    """What the class makes of a config: the class's name, that of the one which opens the files (or ""), the
    prefix of its base model, the shapes of its tensors, and which of their names are only a second one."""

    name: str
    opener: str
    prefix: str
    shapes: Shapes
    twins: Mapping[str, str] = field(default_factory=dict[str, str])
