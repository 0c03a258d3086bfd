"""A recipe's file, read: every key and value is checked, and the first fault is one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from isogrow.errors import RecipeError
from isogrow.recipes.checks import check
from isogrow.recipes.loading import loaded
from isogrow.recipes.recipe import Data, Recipe, Slope, Start, TrainingSettings, keys_of, meant
from isogrow.recipes.release import Release


def read(path: str | Path) -> Recipe:
    """The recipe in a YAML file. Raises `RecipeError` for what can't be read or can't be."""
    return parse(loaded(path), str(path))


def parse(said: Any, where: str = "the recipe") -> Recipe:
    """A recipe from plain data; every key and value is checked."""
    if not isinstance(said, Mapping):
        raise RecipeError(f"{where} is {said!r:.60}, and keys with values were expected: run, model, data, …")
    try:
        recipe = TypeAdapter(Recipe).validate_python(said)
    except ValidationError as error:
        raise _refusal(error, where) from error
    check(recipe, where)
    return recipe


# By their keys.
SECTIONS = {"model": Start, "data": Data, "training": TrainingSettings, "slope": Slope, "release": Release}
UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")  # what pydantic calls a key that means nothing


def _refusal(error: ValidationError, where: str) -> RecipeError:
    """The first fault as one sentence, with the key that may have been meant.

    A key that means nothing comes before one that is missing, which it may have been meant for.
    """
    faults = error.errors()
    first = next((each for each in faults if each["type"] in UNKNOWN), faults[0])
    *path, last = (f"{part + 1}" if isinstance(part, int) else str(part) for part in first["loc"])
    at = ", ".join((where, *path))
    if first["type"] not in UNKNOWN:
        message = first["msg"].removeprefix("Value error, ")
        return RecipeError(f"{at}, {last} is {first['input']!r}: {message[:1].lower()}{message[1:]}")
    section = SECTIONS.get(path[-1], Recipe) if path else Recipe
    return RecipeError(f"{at} has {last!r}, which means nothing here: {meant(last, keys_of(section))}")
