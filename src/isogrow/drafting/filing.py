"""The names that files have for tensors which memory names otherwise, as the library itself renames them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from isogrow.drafting.kinds import on_meta
from isogrow.layouts.config import Config
from isogrow.layouts.layout import Binding, Layout
from isogrow.quiet import quiet

NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def filed(layout: Layout, config: Config) -> Layout:
    """The layout with the names that files have for its rows and for what it carries along, where saving
    only renames them."""
    names = _renames(config)
    if not names:
        return layout
    known = {place for binding in layout.bindings for place in binding.places}
    places = {name: slot for name, slot in _places(layout, names) if name not in known}
    others = {name for old, name in names.items() if layout.carried and old.startswith(layout.carried)}
    carried = sorted(name for name in others if not name.startswith(layout.carried))
    return replace(
        layout,
        bindings=(*layout.bindings, *((Binding("renamed in files", places),) if places else ())),
        carried=(*layout.carried, *carried),
    )


def states(config: Config) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state of a model of this config on the meta device, twins of ties apart: as it is in memory, and as
    the library would file it (as in memory, where it has no way back for the type)."""
    model: Any = on_meta(config)
    tied = getattr(model, "all_tied_weights_keys", {})
    held = cast("dict[str, Tensor]", model.state_dict())
    state = {name: value for name, value in held.items() if name not in tied}
    try:
        with quiet():
            return state, cast("dict[str, Tensor]", revert_weight_conversion(model, dict(state)))
    except Exception:  # whatever a conversion raises that has no reverse
        return state, state


def _renames(config: Config) -> dict[str, str]:
    """name in memory -> name in files, of each tensor that is saved as it is under another name."""
    state, saved = states(config)
    known = {id(value): name for name, value in saved.items()}
    return {name: known[id(value)] for name, value in state.items() if known.get(id(value), name) != name}


def _places(layout: Layout, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(name template in files, slot) of each row whose tensors are all renamed alike."""
    for row in layout.weights:
        own = re.sub(r"\\\{\w+\\\}", r"(\\d+)", re.escape(row.name))
        whole = re.compile(f"(?:{'|'.join(map(re.escape, layout.prefixes))}){own}")
        found = {_template(hit, names[old]) for old in names if (hit := whole.fullmatch(old))}
        for prefix in layout.prefixes:
            found = {name.removeprefix(prefix) for name in found}
        if len(found) == 1 and "" not in found:
            yield found.pop(), row.slot


def _template(hit: re.Match[str], name: str) -> str:
    """A name in files with its layer's number open; "" where that can't be told."""
    if not hit.groups():
        return name
    numbers = NUMBER.findall(name)
    alone = len(hit.groups()) == 1 and numbers.count(hit[1]) == 1
    return re.sub(rf"(?<=\.){hit[1]}(?=\.)", "{layers}", name) if alone else ""
