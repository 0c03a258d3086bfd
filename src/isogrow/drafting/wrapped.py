"""A wrapper's layout: that of the language model within it, drafted by itself, where that stands.

All that stands beside it is carried along, so that the width stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from isogrow.drafting.kinds import on_meta
from isogrow.drafting.samples import seen
from isogrow.drafting.twins import twin, word_of
from isogrow.errors import FamilyError
from isogrow.layouts.config import Config
from isogrow.layouts.layout import Layout
from isogrow.layouts.mounting import mounted

TEXT = "text_config"
BESIDE = "what stands beside its language model writes to the same residual, and how was not told"


def wraps(config: Config) -> bool:
    """Whether a config is that of a model around a language model, whose own config it holds."""
    return isinstance(config.get(TEXT), Mapping)


def text_of(config: Config) -> dict[str, Any]:
    """The config of the language model within a wrapper."""
    return dict(config[TEXT])


def small_wrapper(source: Config, text: Config) -> dict[str, Any]:
    """The config of a tiny wrapper around this tiny language model."""
    width = next(value for key, value in text.items() if word_of(key) == "hidden" and value)
    parts = {
        name: _as_wide(twin(part), width)
        for name, part in source.items()
        if isinstance(part, Mapping) and "model_type" in part
    }
    return seen({**_as_wide(twin(source), width), **parts, TEXT: dict(text)})


def _as_wide(tower: dict[str, Any], width: int) -> dict[str, Any]:
    """A config with the width of what is given to the residual."""
    return {key: width if word_of(key) == "out" else value for key, value in tower.items()}


def assembled_around(text: Layout, inner: nn.Module, config: Config) -> Layout:
    """The layout of a wrapper of this config, of whose language model the layout is `text` and the class
    `inner` is an instance. Raises `FamilyError` where that is not found in it."""
    model = on_meta(config)
    at, prefix = _place(text, inner, model)
    inside = {prefix + at + row.name for row in text.weights if not row.head}
    heads = {row.name for row in text.weights if row.head}
    starts = tuple(re.split(r"\{", name)[0] for name in inside)
    rest = [name for name in model.state_dict() if not name.startswith(starts) and name not in heads]
    carried = set(_topmost(rest, [*inside, *heads]))
    kind = str(config["model_type"])
    return mounted(
        text,
        at=at,
        config=f"{TEXT}.",
        family=f"{kind} with {text.family}",
        model_types=(kind,),
        prefixes=(prefix, ""),
        carried=tuple(sorted({*carried, *text.carried} | {each.removeprefix(prefix) for each in carried})),
        refusals={**text.refusals, "hidden": BESIDE},
    )


def _place(text: Layout, inner: nn.Module, model: nn.Module) -> tuple[str, str]:
    """Where the language model stands in its wrapper, and the prefix of the wrapper's base model."""
    base = text.prefixes[0]
    kind = type(inner.get_submodule(base[:-1])) if base else type(inner)
    found = [path for path, module in model.named_modules() if type(module) is kind]
    if len(found) != 1:
        raise FamilyError(
            f"a {kind.__name__}, which its text_config names, stands {len(found)} times in the wrapper: write"
            " a layout (docs/add-a-family.md)"
        )
    named = getattr(model, "base_model_prefix", "")
    prefix = f"{named}." if named and found[0].startswith(f"{named}.") else ""
    return found[0].removeprefix(prefix) + "." if found[0] else "", prefix


def _topmost(names: list[str], inside: list[str]) -> Iterator[str]:
    """For each name the outermost module around it that holds none of those `inside`."""
    for name in names:
        parts = name.split(".")
        starts = (".".join(parts[:count]) + "." for count in range(1, len(parts)))
        yield next((each for each in starts if not any(own.startswith(each) for own in inside)), name)
