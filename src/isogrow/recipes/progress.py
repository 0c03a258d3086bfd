"""Which stage a recipe's run is in, and when each began and ends, by the run's own log."""

from __future__ import annotations

from isogrow.recipes.recipe import Recipe
from isogrow.train.schedule import History, grown, growths_of, last_growth


def stage_number(recipe: Recipe, history: History) -> int:
    """The number of the stage that a run is in, from 1. A checkpoint that grows at once is in its first stage
    before that growth as after it."""
    return max(1, grown(history) + 1 - recipe.grows_at_once)


def stage_ends(recipe: Recipe, history: History) -> list[int]:
    """After which step each stage ended, but the last."""
    return [int(record["step"]) for record in growths_of(history)[recipe.grows_at_once :]]


def last_step(recipe: Recipe, history: History) -> int | None:
    """The run's last step, once it is known."""
    last = stage_number(recipe, history) == len(recipe.stages)
    return last_growth(history) + recipe.longest(recipe.stages[-1]) if last else None
