"""A stage's model, released: decayed to its end beside the run, which goes on from before the decay.

Where the stage itself is decayed, its model is released as it is, and the run goes on from there.
"""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from isogrow.recipes.falling import decay_fault, falling
from isogrow.recipes.fields import STRICT, Some


@dataclass(frozen=True, config=STRICT)
class Release:
    """How long the released model's rate falls to 0, in steps that come after the stage's own.

    Below 1 it is a share of the steps that the stage has had, else a number of steps. None where the stage
    itself is decayed.
    """

    decay: Some | None = None

    def steps(self, lasted: int) -> int:
        """Of the decay after a stage of so many steps.

        >>> Release(0.2).steps(500), Release().steps(500)
        (100, 0)
        """
        return falling(self.decay or 0.0, lasted)


def fault(release: Release, number: int, of: int, shortest: int, own: float) -> str | None:
    """What is wrong with a release of stage `number` of so many, which lasts `shortest` steps at least.

    `own`: the decay of the stage itself, or 0.
    """
    if number == of:
        return "is the last, whose model is the run's own: leave release out, or add a stage after it"
    if release.decay is None:
        return (
            None
            if own
            else ("would release a model whose rate never fell: give release a decay, or the stage one")
        )
    if own:
        return "has a decay, after which its model is released as it is: leave out that of release"
    wrong = decay_fault(release.decay, shortest)
    return wrong and f"has a release whose decay {wrong}"
