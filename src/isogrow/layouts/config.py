"""Reading and editing a config.json as plain data; keys may be nested: `rope_parameters.rope_theta`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from isogrow.layouts.formula import evaluate

Config = Mapping[str, Any]


def get(config: Config, path: str) -> Any:
    """The value at a dotted path, or None where any part of it is missing.

    >>> get({"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters.rope_theta")
    10000.0
    """
    value: Any = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def edited(config: Config, edits: Config) -> dict[str, Any]:
    """A copy of `config` with the values at dotted paths replaced; the order of keys is kept.

    >>> edited({"a": {"b": 1}, "c": 2}, {"a.b": 3})
    {'a': {'b': 3}, 'c': 2}
    """
    result = copy.deepcopy(dict(config))
    for path, value in edits.items():
        *folders, last = path.split(".")
        place = result
        for folder in folders:
            if not isinstance(place.get(folder), dict):
                place[folder] = {}  # missing, or null
            place = place[folder]
        place[last] = copy.deepcopy(value)
    return result


class Defaults(Mapping[str, Any]):
    """A config seen through its class's defaults: a key that is missing or null has its default's value.

    A default that is a string is a formula over other keys.
    """

    def __init__(self, config: Config, defaults: Mapping[str, Any]) -> None:
        self.config, self.defaults = config, defaults

    def __getitem__(self, key: str) -> Any:
        value = get(self.config, key)
        if value is not None:
            return value
        if key not in self.defaults:
            raise KeyError(key)
        default = self.defaults[key]
        return evaluate(default, self) if isinstance(default, str) else default

    def over(self, values: Mapping[str, Any]) -> Defaults:
        """The same view, with these values in front of it."""
        return Defaults({**self.config, **values}, self.defaults)

    def __contains__(self, key: object) -> bool:
        return key in self.defaults or get(self.config, str(key)) is not None

    def __iter__(self) -> Iterator[str]:
        return (key for key in dict.fromkeys((*self.config, *self.defaults)) if key in self)

    def __len__(self) -> int:
        return len(list(iter(self)))
