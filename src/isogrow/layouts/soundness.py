"""Whether a config can be computed with: whole sizes, ε a number, rotary tables whole, classes in a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from isogrow.errors import CheckpointError
from isogrow.layouts.config import Config, get
from isogrow.layouts.layout import Layout, Rope

NONE = "; if the model has none, give it one whose output weights are zero, which changes no output"


def check_config(layout: Layout, config: Config, where: str = "config.json") -> None:
    """The keys that are computed with must hold what can be computed with. Raises `CheckpointError`."""
    for key, name in [(known, name) for known in layout.keys for name in (known.name, known.alias) if name]:
        value = get(config, name)
        # A scale that follows a size (its default says so) is no size.
        size = bool(key.size) and type(key.default) is not float and layout.holds(key.when, config)
        flag = isinstance(value, bool)
        if value is None or (flag and not size):
            continue
        if size and isinstance(key.default, list):
            _check_alike(layout, name, value, where)
            continue
        kind = int if size else int | float
        sound = isinstance(value, kind) and not flag and (value > 0 if size else value >= 0)
        if (size or type(key.default) is float) and not sound:
            wanted = "a whole number above 0" if size else "a number that is not negative"
            raise CheckpointError(
                f"{where} says {name} is {value!r}, and {layout.family!r} needs {wanted}: correct it"
                + (NONE if size and value == 0 else "")
            )
    named = config.get("architectures")
    if not (named is None or isinstance(named, str | list)):
        raise CheckpointError(f"{where} says architectures is {named!r}, and it lists classes: correct it")
    for rope in {rope for attention in layout.attentions for rope in attention.ropes}:
        _check_rope(rope, config, where)


def _check_alike(layout: Layout, name: str, value: Any, where: str) -> None:
    """A key that lists a size for each layer must say the same of all."""
    found = cast("list[Any]", value) if isinstance(value, list) and value else [None]
    if not all(type(each) is int and each > 0 and each == found[0] for each in found):
        raise CheckpointError(
            f"{where} says {name} is {value!r}, and {layout.family!r} grows where it lists one whole number"
            " above 0, the same for each layer: a layer with a size of its own can't be grown yet"
        )


def _check_rope(rope: Rope, config: Config, where: str) -> None:
    for path in rope.scaling:
        if not isinstance(get(config, path), Mapping | None):
            raise CheckpointError(
                f"{where} says {path} is {get(config, path)!r}, which is no table of values: correct it"
            )
    missing = rope.missing(config)
    if missing:
        raise CheckpointError(
            f"{where} says {missing} of its rotary scaling {rope.kind(config)!r} is"
            f" {rope.value(config, missing)!r}, and it needs numbers above 0: correct it"
        )
    for path in rope.theta:
        theta = get(config, path)
        if theta is not None and not (isinstance(theta, int | float) and theta > 0):
            raise CheckpointError(
                f"{where} says {path} is {theta!r}, and rotary positions need a number above 0: correct it"
            )
