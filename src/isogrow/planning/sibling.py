"""The sizes of a larger sibling, if it is the same architecture but for its sizes: `to=`, or `--to`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from isogrow.errors import SizeError
from isogrow.layouts.config import Config, Each, edited
from isogrow.layouts.formula import names
from isogrow.layouts.layout import Layout, Rope
from isogrow.layouts.soundness import check_config
from isogrow.paths import expanded
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import Size
from isogrow.plans.plan import Plan
from isogrow.plans.sizes import Sizes
from isogrow.plans.words import HEAD_DIM, Say, alone, named, spelled
from isogrow.stores.gguf import config_in
from isogrow.stores.sources import read_json

# Keys that say nothing about what a trained model computes from its weights.
SILENT = re.compile(
    r"architectures|model_type|transformers_version|(torch_)?dtype|auto_map|tokenizer_class"
    r"|.*_token_id|.*dropout.*|.*_p?drop|use_cache|output_.*|return_dict.*|gradient_checkpointing"
    r"|initializer_.*|id2label|label2id|num_labels|problem_type|finetuning_task|task_specific_params"
    r"|pretraining_tp|is_decoder|max_position_embeddings|max_length|max_window_layers|layer_types"
    r"|chunk_size_feed_forward|summary_first_dropout|attn_implementation|router_aux_loss_coef"
)


class AsDict(Protocol):
    """A config as transformers has it."""

    def to_dict(self) -> dict[str, Any]: ...


Sibling = Mapping[str, Any] | str | Path | AsDict


def sizes_of(anatomy: Anatomy, sibling: Sibling, name: str = "to=") -> dict[str, Size]:
    """The sizes, by axis, in which a sibling's config (or its file, or its folder) differs from this model.

    Raises `SizeError` where it is of another model type, or differs in what growing can't change.
    """
    wanted, path = _config(sibling, name)
    mine, theirs = anatomy.config.get("model_type"), wanted.get("model_type")
    if mine != theirs:
        raise SizeError(
            f"{path} is of model_type {theirs!r} and the model is of {mine!r}: growing keeps the family,"
            f" so give a config of a larger {mine!r}"
        )
    layout = anatomy.layout
    check_config(layout, wanted, path)
    sizes = Sizes(layout.read(wanted), layout.sites)
    _check_whole(layout, wanted, sizes, path)
    if differing := _differing(anatomy, wanted, sizes):
        raise SizeError(
            f"{path} is no larger sibling of this model, since growing changes sizes alone, and they"
            f" differ in {'; '.join(differing)}: give the sizes one by one"
        )
    now, then = named(anatomy.sizes, layout.stacks), named(sizes, layout.stacks)
    changed: dict[str, Size] = {axis: then[axis] for axis in then if then[axis] != now.get(axis)}
    own = alone(sizes)  # of the others the stacks' own sizes are said
    changed = {
        axis: size
        for axis, size in changed.items()
        if axis in own or not any(spelled(stack, axis) in then for stack in layout.stacks)
    }
    for stack in ("", *layout.stacks):
        heads = {spelled(stack, word) for word in ("heads", "kv_heads")}
        if heads & changed.keys() and heads <= then.keys():
            changed |= {axis: then[axis] for axis in heads}
        if spelled(stack, "head_dim") in changed:
            alike = {spelled(stack, word) for word in HEAD_DIM}
            changed = {axis: size for axis, size in changed.items() if axis not in alike}
    return changed


def check_reached(anatomy: Anatomy, plan: Plan, sibling: Sibling, say: Say) -> None:
    """Raise `SizeError` where layers would be of other kinds than the sibling's, or be read elsewhere."""
    wanted, path = _config(sibling, say("to"))
    layout = anatomy.layout
    made, theirs = (layout.defaults(each) for each in (edited(anatomy.config, plan.config), wanted))
    for key, axis in sorted(_lists(layout).items()):
        if key not in made or key not in theirs or not plan.target.has(axis):
            continue
        here, there = (_entries(view[key], plan.target.of(axis)) for view in (made, theirs))
        if here != there:
            raise SizeError(
                f"{path} says {key} {there}, and growing to its sizes gives {here}: say by"
                f" {say('layers_at')} where new layers go, or give the sizes one by one"
            )


def _entries(listed: Any, layers: int) -> Any:
    """What a key says of so many layers; nothing is said by an empty list."""
    if isinstance(listed, Each):
        return [listed[i] for i in range(layers)]
    return list(cast("Sequence[Any]", listed)) or None if isinstance(listed, list | tuple) else listed


def _lists(layout: Layout) -> dict[str, str]:
    """The keys that say something layer by layer, or name layers by their numbers, and the layers' axis."""
    found = {listed.key: listed.axis for listed in (*layout.per_layer, *layout.readouts, *layout.kinds)}
    return found | {key: kinds.axis for kinds in layout.kinds for key, _ in kinds.beside}


def _config(sibling: Sibling, name: str) -> tuple[Config, str]:
    """A sibling's config, and what refusals call it."""
    given: Any = sibling
    if hasattr(given, "to_dict"):  # a config of transformers, as a model has it
        given = given.to_dict()
    if isinstance(given, Mapping):
        return cast("Config", given), f"the config in {name}"
    if not isinstance(given, str | Path):
        raise SizeError(
            f"{name} is given a {type(given).__name__}, which is no config: give a larger sibling's config,"
            " as it is or as a dict, its config.json, or its folder"
        )
    path = expanded(given)
    if (stated := config_in(path)) is not None:
        return stated, str(given)
    path = path / "config.json" if path.is_dir() else path
    return read_json(path, f"{name} names it"), str(path)


def _check_whole(layout: Layout, wanted: Config, sizes: Sizes, path: str) -> None:
    """Sizes are read by whole division: the config must hold what it was read as."""
    view = layout.defaults(wanted)
    for name, size in layout.written(wanted, sizes.values).items():
        if size != view[name]:
            raise SizeError(
                f"{path} contradicts itself: {name} is {view[name]}, and its other sizes make it {size}"
            )


def _differing(anatomy: Anatomy, wanted: Config, sizes: Sizes) -> list[str]:
    """What differs besides sizes, as `key (here x, there y)`."""
    layout = anatomy.layout
    here, there = layout.defaults(anatomy.config), layout.defaults(wanted)
    ropes = [rope for attention in layout.attentions for rope in attention.ropes]
    known = {name for key in layout.keys if key.size for name in (key.name, key.alias)}
    known |= {stream.longest for stream in layout.streams}
    known |= _lists(layout).keys()
    inner = {key for each in (anatomy.config, wanted) for key in each if _holds(each, key)}
    known |= {_said_at(path, inner) for rope in ropes for path in (*rope.theta, *rope.scaling)}
    found = [
        _named(axis, anatomy.sizes.of(axis), sizes.of(axis))
        for axis in sorted(layout.fixed - _absent(anatomy))
        if sizes.has(axis) and anatomy.sizes.has(axis) and sizes.of(axis) != anatomy.sizes.of(axis)
    ]
    held = {name for axis in layout.fixed for name in _keys(layout, axis)}
    paths = {*_paths(anatomy.config, inner), *_paths(wanted, inner), *(key.name for key in layout.keys)}
    for key in sorted(paths - known - held):
        # A key that one of them leaves out has a default that the table need not know.
        both = key in here and key in there
        if both and not _silent(layout, key) and here[key] != there[key]:
            found.append(_named(key, here[key], there[key]))
    own, other = layout.held(anatomy.config), layout.held(wanted)
    found += [
        _named(key.when, key in own, key in other) for key in layout.keys if (key in own) != (key in other)
    ]
    for rope in dict.fromkeys(ropes):
        if _turning(rope, anatomy.config) != _turning(rope, wanted):
            found.append(_named("rotary positions", _turning(rope, anatomy.config), _turning(rope, wanted)))
    return found


def _holds(config: Config, key: str) -> bool:
    """Whether a key holds a config of its own: a language model's, a tower's."""
    return isinstance(config[key], Mapping) and "model_type" in config[key]


def _paths(config: Config, inner: Collection[str]) -> Iterator[str]:
    """A config's keys, and in place of the `inner` configs theirs."""
    for key, value in config.items():
        if key in inner and isinstance(value, Mapping):
            yield from (f"{key}.{own}" for own in cast("Config", value))
        else:
            yield key


def _said_at(path: str, inner: Collection[str]) -> str:
    """The key of a config, or of an inner one, under which a path lies."""
    first, _, rest = path.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first in inner and rest else first


def _absent(anatomy: Anatomy) -> frozenset[str]:
    """Axes of tensors that this model does not have: a pooler's width, in a classifier without one."""
    here = {axis for slot in anatomy.slots.values() for axis in slot.axes}
    return frozenset(axis for slot in anatomy.layout.table for axis in slot.axes) - here


def _silent(layout: Layout, key: str) -> bool:
    """Whether a key says nothing about the function; one that begins with _ may, if the layout asks it."""
    own = key.rpartition(".")[2]
    private = own.startswith("_") and all(known.name != key for known in layout.keys)
    return private or SILENT.fullmatch(own) is not None


def _keys(layout: Layout, axis: str) -> frozenset[str]:
    return names(layout.axes[axis]) if axis in layout.axes else frozenset()


def _turning(rope: Rope, config: Config) -> dict[str, Any]:
    """The rotary positions of a config, whether it is written the new way or the old one."""
    kind = rope.kind(config)
    lists = {key: rope.value(config, key) for key in ("short_factor", "long_factor")}
    scaled = {} if kind == "default" else {"type": kind, **rope.rest(config), **lists}
    return {"theta": rope.base(config), **scaled}


def _named(key: str, here: Any, there: Any) -> str:
    return f"{key} (here {here!r}, there {there!r})"
