"""What a growth leaves as it is where the laws leave a choice: for readers that don't follow the config.

Rules take these choices as data. Nothing here says who such a reader is: `isogrow.engines` does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choices:
    """The choices of one plan; none of them changes what the model computes.

    `kept` are config keys of a norm's ε that stay: what writes the residual makes up for its new width.
    `kinds` says, by the name of a config list with one entry a layer, a formula over the layer's number `i`:
    what the entry of a new layer is (without it, that of the layer before). `legacy` writes the old name of a
    θ, with the same number, beside the new one.
    """

    kept: tuple[str, ...] = ()
    kinds: tuple[tuple[str, str], ...] = ()
    legacy: bool = False

    def __or__(self, other: Choices) -> Choices:
        """Both; of two formulas for one list, the first.

        >>> Choices(("eps",)) | Choices(legacy=True)
        Choices(kept=('eps',), kinds=(), legacy=True)
        """
        kinds = {**dict(other.kinds), **dict(self.kinds)}
        kept = tuple(dict.fromkeys((*self.kept, *other.kept)))
        return Choices(kept, tuple(kinds.items()), self.legacy or other.legacy)
