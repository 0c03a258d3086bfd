"""What isogrow says when it refuses: each error is one clear sentence for the user.

Every refusal names what is wrong, where, what was found, what was expected, and what to do. All derive
from `IsogrowError`, itself a `ValueError`; the command line turns any of them into exit code 2.
"""

from __future__ import annotations


class IsogrowError(ValueError):
    """The request was refused; nothing was written."""


class FormulaError(IsogrowError):
    """A layout's formula can't be read or evaluated."""


class PatternError(IsogrowError):
    """A weight's pattern can't be read; the message underlines the span."""


class LayoutError(IsogrowError):
    """A layout contradicts itself."""


class FamilyError(IsogrowError):
    """No layout is known for this model."""


class CheckpointError(IsogrowError):
    """A model's files or tensors are not what its layout says."""


class SizeError(IsogrowError):
    """A requested size can't be had; the message names sizes that can.

    `axes` are those of the constraint that the sizes do not meet, where it is one: others beside them do not
    help. `whatever` is true where the axis can't grow whatever the size, so that no other one helps.
    """

    def __init__(self, said: str, axes: frozenset[str] = frozenset(), whatever: bool = False) -> None:
        super().__init__(said)
        self.axes, self.whatever = axes, whatever


class LawError(IsogrowError):
    """A plan would change the function, or leave a new part dead."""


class StateError(IsogrowError):
    """An optimizer's or a scheduler's state can't be grown, or belongs to another model."""


class OutputError(IsogrowError):
    """The output can't be written where it was asked for."""


class RankLost(StateError):
    """Another rank of the job has ended, or does not come, so what ranks do together can't be done."""


class EngineError(IsogrowError):
    """An engine can't be run here, or can't run the model that was grown."""


class RecipeError(IsogrowError):
    """A training recipe can't be read, or can't be carried out."""


def in_a_line(error: Exception) -> str:
    """What somebody else's error says, with its kind, for a sentence of ours.

    >>> in_a_line(TypeError("no table\\nof angles"))
    'TypeError: no table of angles'
    """
    return " ".join(f"{type(error).__name__}: {error}".split())
