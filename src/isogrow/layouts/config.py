"""Reading and editing a config.json as plain data; keys may be nested: `rope_parameters.rope_theta`."""

from __future__ import annotations

import copy
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from isogrow.layouts.formula import evaluate

Config = Mapping[str, Any]


def get(config: Config, path: str) -> Any:
    """The value at a dotted path, or None where any part of it is missing.

    >>> get({"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters.rope_theta")
    10000.0
    """
    if "." not in path:
        return config.get(path)
    value: Any = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def class_names(config: Config) -> tuple[str, ...]:
    """The classes that a config's `architectures` names; none where it is no list of names.

    >>> class_names({"architectures": ["LlamaModel"]}), class_names({"architectures": True})
    (('LlamaModel',), ())
    """
    named = config.get("architectures")
    if isinstance(named, str):
        return (named,)
    return tuple(map(str, cast("list[Any]", named))) if isinstance(named, list | tuple) else ()


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


TAGGED = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}


def untagged(value: Any) -> Any:
    """The same data with the numbers that JSON has no word for, which transformers 5 writes as an object and
    reads from a file, but not from a dict.

    >>> untagged({"limit": [0.0, {"__float__": "Infinity"}]})
    {'limit': [0.0, inf]}
    """
    if isinstance(value, Mapping):
        items = cast(Mapping[str, Any], value)
        tag = items.get("__float__")
        if len(items) == 1 and isinstance(tag, str):
            return TAGGED.get(tag, value)
        return {key: untagged(held) for key, held in items.items()}
    return [untagged(held) for held in cast(list[Any], value)] if isinstance(value, list) else value


@dataclass(frozen=True)
class Each:
    """A list that the class computes entry by entry where the config leaves it out: `formula` is over other
    keys and `i`. It has no length, since a formula asks for the entry of one layer alone.

    >>> Defaults({"every": 2}, {"kinds": Each("'far' if i % every else 'near'")})["kinds"][3]
    'far'
    """

    formula: str
    view: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("a list that the config leaves out has no length")

    def __getitem__(self, i: int) -> Any:
        return evaluate(self.formula, ChainMap({"i": i}, cast(Any, self.view)))


class Defaults(Mapping[str, Any]):
    """A config seen through its class's defaults: a key that is missing or null has its default's value.

    A default that is a string is a formula over other keys, one that is `Each` a list of such.
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
        if isinstance(default, Each):
            return Each(default.formula, self)
        return evaluate(default, self) if isinstance(default, str) else default

    def over(self, values: Mapping[str, Any]) -> Defaults:
        """The same view, with these values (at dotted paths, too) in front of it.

        >>> Defaults({"a": {"b": 1}}, {}).over({"a.b": 2})["a.b"]
        2
        """
        nested = {path: value for path, value in values.items() if "." in path}
        config = edited(self.config, nested) if nested else self.config
        return Defaults({**config, **values}, self.defaults)

    def __contains__(self, key: object) -> bool:
        return key in self.defaults or get(self.config, str(key)) is not None

    def __iter__(self) -> Iterator[str]:
        return (key for key in dict.fromkeys((*self.config, *self.defaults)) if key in self)

    def __len__(self) -> int:
        return len(list(iter(self)))
