"""A stage's model, released: decayed to its end beside the run, which goes on from before the decay."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from isogrow.recipes.fields import STRICT, Some


@dataclass(frozen=True, config=STRICT)
class Release:
    """How long the released model's rate falls to 0, in steps that come after the stage's own.

    Below 1 it is a share of the steps that the stage has had, else a number of steps.
    """

    decay: Some

    def steps(self, lasted: int) -> int:
        """Of the decay after a stage of so many steps: at least one.

        >>> Release(0.2).steps(500), Release(0.2).steps(1), Release(30.0).steps(500)
        (100, 1, 30)
        """
        return max(1, round(self.decay * lasted)) if self.decay < 1 else int(self.decay)


def fault(release: Release, number: int, of: int, shortest: int) -> str | None:
    """What is wrong with a release of stage `number` of so many, which lasts `shortest` steps at least."""
    if number == of:
        return (
            "is the last, whose model decays by training, decay and is the run's own: leave release out,"
            " or add a stage after it"
        )
    if release.decay >= 1 and release.decay != int(release.decay):
        return (
            f"release, decay is {release.decay}: give a share of the stage's steps, below 1, or a whole"
            " number of steps"
        )
    if release.decay > shortest and release.decay >= 1:
        return (
            f"may end after {shortest} steps, and its release decays over {int(release.decay)}: give a"
            " decay that is no longer than the stage, or a share of it, below 1"
        )
    return None
