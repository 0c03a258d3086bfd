"""Which modules an adapter's config means, as PEFT reads it, and the config that means the grown ones.

Layers that were added between others change the numbers in names. A config that names modules by what they
are (`q_proj`) means the new ones too; one that names numbers is written out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from isogrow.errors import CheckpointError
from isogrow.stores.adapters import names

Config = Mapping[str, Any]
Origins = Mapping[
    str, str
]  # a grown module's (or parameter's) name -> that of the one which it is, or extends

PATTERNS: Mapping[str, str] = {"rank_pattern": "r", "alpha_pattern": "lora_alpha"}


def followed(config: Config, modules: Origins, adapted: Origins, parameters: Origins) -> dict[str, Any]:
    """The edits after which a config means the grown modules as it meant those that they come from.

    `modules` are all that might be meant, `adapted` those that have matrices; `parameters` are the weights
    that have them without a module of their own (stacked experts). Raises `CheckpointError` for what can't be
    written out.
    """
    edits: dict[str, Any] = {}
    if _moved(modules, lambda name: targeted(config, name)):
        edits |= {"target_modules": sorted(adapted), "exclude_modules": None}
        edits |= dict.fromkeys(("layers_to_transform", "layers_pattern"))
        if parameters and not adapted:
            edits["target_modules"] = []
    if _moved(parameters, lambda name: adapted_parameter(config, name)):
        edits["target_parameters"] = sorted(parameters)
    if _moved(modules, lambda name: _saved(config, name)):
        raise CheckpointError(
            "modules_to_save names layers by their numbers, which the growth moves: merge the adapter into"
            " its base (merge_and_unload), and grow that"
        )
    for key, usual in PATTERNS.items():
        both = {**adapted, **parameters}
        if _moved(both, lambda name, key=key, usual=usual: valued(config, key, usual, name)):
            edits[key] = {
                re.escape(name): valued(config, key, usual, old)
                for name, old in both.items()
                if valued(config, key, usual, old) != config.get(usual, 8)
            }
    return edits


def targeted(config: Config, name: str) -> bool:
    """Whether PEFT puts an adapter on the module of this name."""
    if _meant(config.get("exclude_modules"), name) or _saved(config, name):
        return False
    wanted = config.get("target_modules")
    if isinstance(wanted, str) or name in names(wanted):
        return _meant(wanted, name)
    return _named(names(wanted), name) and _in_layers(config, name)


def adapted_parameter(config: Config, name: str) -> bool:
    """Whether PEFT puts an adapter on the weight of this name, which has no module of its own."""
    return _named(names(config.get("target_parameters")), name)


def valued(config: Config, key: str, usual: str, name: str) -> Any:
    """A module's own rank or alpha: that of the first pattern that fits, or everyone's."""
    patterns: Mapping[str, Any] = config.get(key) or {}
    fits = (value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", name))
    return next(fits, config.get(usual, 8))


def _moved(found: Origins, asked: Callable[[str], Any]) -> bool:
    """Whether an answer about a grown module is another than that about its origin."""
    return any(asked(name) != asked(old) for name, old in found.items())


def _meant(said: Any, name: str) -> bool:
    """One text is a regular expression, a list has names, or ends of names."""
    return bool(re.fullmatch(said, name)) if isinstance(said, str) and said else _named(names(said), name)


def _named(said: tuple[str, ...], name: str) -> bool:
    return any(name == each or name.endswith(f".{each}") for each in said)


def _saved(config: Config, name: str) -> bool:
    return any(re.match(rf"(^|.*\.){m}($|\..*)", name) for m in names(config.get("modules_to_save")))


def _in_layers(config: Config, name: str) -> bool:
    wanted = config.get("layers_to_transform")
    if wanted is None or wanted == []:
        return True
    stems = names(config.get("layers_pattern"))
    patterns = [rf"(?:^|.*?\.){stem}\.(\d+)\." for stem in stems] or [r".*?\.[^.]*\.(\d+)\."]
    found = next((hit for hit in (re.match(p, name) for p in patterns) if hit is not None), None)
    return found is not None and int(found[1]) in ([wanted] if isinstance(wanted, int) else wanted)
