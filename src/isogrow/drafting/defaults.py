"""What a config class takes a key for that a config.json leaves out: a number, or a formula over others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isogrow.drafting.formulas import fitted
from isogrow.drafting.kinds import config_class, json_of
from isogrow.drafting.samples import OTHER, shapes_under
from isogrow.drafting.twins import TINY, depth_key, word_of
from isogrow.layouts.config import Config
from isogrow.layouts.formula import evaluate
from isogrow.quiet import quiet

MANY = 13  # layers, enough to see a pattern's period twice
LONGEST = 6  # layers in a pattern


def default_of(config: Config, key: str) -> Any:
    """The default of one key of a config's class: a formula where it follows from other sizes."""
    kind, word = config_class(str(config["model_type"])), word_of(key)
    plain = _made(kind, {}, key)
    if not word:
        return plain
    sizes = {name: value for name, value in config.items() if word_of(name) and name != key}
    tries = [dict(sizes), {name: OTHER.get(word_of(name), value) for name, value in sizes.items()}]
    seen = [(given, _made(kind, given, key)) for given in tries]
    values = {repr(value) for _, value in seen}
    if len(values) == 1 and values == {repr(plain)}:
        return plain if plain is not None else _where_null(config, key)
    if any(not isinstance(value, int) for _, value in seen):
        return plain if plain is not None else _where_null(config, key)
    return fitted([(given, value) for given, value in seen]) or plain


def _made(kind: Any, given: Mapping[str, Any], key: str) -> Any:
    try:
        with quiet():
            return json_of(kind(**given)).get(key)
    except Exception:  # a class may refuse sizes that it is given alone
        return None


def _where_null(config: Config, key: str) -> str | None:
    """The formula that a class's code has for a key whose default is null: the one that gives its shapes."""
    bare = {**config, key: None}
    found = shapes_under(bare)
    if found is None:
        return None
    sizes = {name: value for name, value in config.items() if word_of(name) and name != key and value}
    tried = [f"{one} // {two}" for one in sizes for two in sizes if sizes[one] % sizes[two] == 0]
    tried = [*sizes, *tried, *(f"{n} * {one}" for one in sizes for n in (4, 2, 3))]
    for formula in tried:
        value = evaluate(formula, sizes)
        if value and shapes_under({**config, key: value}) == found and _again(config, key, formula):
            return formula
    return None


def _again(config: Config, key: str, formula: str) -> bool:
    """Whether the formula gives the shapes under other sizes, too."""
    other = {
        name: OTHER[word_of(name)]
        for name in config
        if word_of(name) in OTHER and config[name] == TINY[word_of(name)]
    }
    other = {**config, **other}
    value = evaluate(formula, other)
    found = shapes_under({**other, key: None})
    return found is None or found == shapes_under({**other, key: value})


def alias_of(config: Config, key: str) -> str:
    """Another name by which a config class knows a key."""
    known: Mapping[str, str] = config_class(str(config["model_type"])).attribute_map or {}
    return next((name for name, own in known.items() if own == key), "")


def listed(config: Config, key: str) -> str:
    """The formula over `i` of a list's entries, as the class makes it; "" where no short pattern is seen."""
    kind, depth = config_class(str(config["model_type"])), depth_key(config)
    made = _made(kind, {depth: MANY}, key)
    if (
        not isinstance(made, list)
        or len(made) != MANY
        or not all(isinstance(e, str | int | float) for e in made)
    ):
        return ""
    for period in range(1, LONGEST + 1):
        if all(made[i] == made[i % period] for i in range(MANY)):
            return _pattern(made[:period])
    return ""


def _pattern(entries: list[Any]) -> str:
    period, last = len(entries), entries[-1]
    if period == 1:
        return repr(last)
    if len(set(map(repr, entries[:-1]))) == 1:
        return f"{entries[0]!r} if (i + 1) % {period} else {last!r}"
    said = (f"{entry!r} if i % {period} == {i} else " for i, entry in enumerate(entries[:-1]))
    return "".join(said) + repr(last)
