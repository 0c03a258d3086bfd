"""Would plain `transformers` load this? Its own class is asked, on the meta device, before a byte is written,
or beside the writing by a process of its own (`asking`).

The class validates the grown config when it is built, and its state dict says which names and shapes
`from_pretrained` will look for.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from isogrow.errors import SizeError
from isogrow.layouts.config import class_names, untagged
from isogrow.layouts.lines import name_axes
from isogrow.layouts.naming import numberless
from isogrow.plans.anatomy import Anatomy, Header, held_by, name_of
from isogrow.quiet import alone
from isogrow.stores.classes import Built, Shapes


def check_loadable(
    model: Built | None,
    grown: Mapping[str, Header],
    old: Mapping[str, Header],
    others: tuple[Mapping[str, Header], Mapping[str, Header]] = ({}, {}),
) -> None:
    """Refuse tensors that the class which was `built` from the grown config would not load.

    `grown` are the planned tensors, `old` those of the source: a tensor that the source lacked (a
    pooler, a head that is tied) the grown model may lack too, and one that its class never used may
    stay. `others` are the grown and the old tensors as other lines name them (`rebound`): files may hold
    one by one what the class stacks when it loads them. A model type that transformers does not have is
    not checked. Raises `SizeError`.
    """
    if model is None:
        return
    name, prefix = model.name, model.prefix
    wanted = {_bare(tensor, prefix): shape for tensor, shape in model.shapes.items()}
    templates = {numberless(tensor) for tensor in wanted}
    found = _named_so(templates, prefix, grown, others[0])
    known = {numberless(tensor) for tensor in _named_so(templates, prefix, old, others[1])}
    for fault in _faults(name, found, wanted, known, templates):
        raise SizeError(f"{fault}; nothing was written")


def unread(config: Mapping[str, Any], stored: Iterable[str]) -> str:
    """Why a model can't be compared by its own class: transformers has none for it, or none is named and what
    AutoModel makes of the config would leave out a stored tensor. "" if it can."""
    if lack := classless(config):
        return lack
    model: Any = None if class_name(config) else on_meta(config)
    if model is None:
        return ""
    prefix = str(model.base_model_prefix)
    own = {numberless(_bare(name, prefix)) for name in model.state_dict()}
    lost = sorted(name for name in stored if numberless(_bare(name, prefix)) not in own)
    if not lost:
        return ""
    return f"config.json {nameless(model, lost[0])}: name the class in its architectures"


def classless(config: Mapping[str, Any]) -> str:
    """What is said of a model type that transformers does not have; "" if it has it."""
    import transformers

    mapping: Any = transformers.CONFIG_MAPPING
    kind = config.get("model_type")
    return "" if kind in mapping else f"transformers has no class for {kind!r} that could run it"


def nameless(model: nn.Module, lost: str) -> str:
    """What a config does that names no class, where AutoModel makes this model of it."""
    return f"names no class of transformers, and {type(model).__name__} would leave out {lost}"


def rebound(anatomy: Anatomy) -> dict[str, Header]:
    """The same blocks as the layout's other bindings name and shape them, where all are there.

    Of a grown model the anatomy is one with the grown config, which says anew which layers have a line.
    """
    sizes = anatomy.sizes
    held = {at: stored for stored in anatomy.stored for at in held_by(stored.line, stored.index, sizes)}
    used, slots = {tensor.line for tensor in held.values()}, {slot for slot, _ in held}
    found: dict[str, Header] = {}
    for line in anatomy.layout.lines:
        if line in used or not slots.issuperset(slot.name for slot in line.slots):
            continue
        for index in sizes.indices(name_axes(line.name)):
            if not anatomy.layout.applies(line.slot, anatomy.config, index):
                continue
            own = [held.get(at) for at in held_by(line, index, sizes)]
            if own[0] is not None and all(own):
                shape = line.parsed.shape(lambda axis, at=index: sizes.of(axis, at))
                found[name_of(line, anatomy.prefix, index, sizes)] = Header(shape, own[0].header.dtype)
    return found


def _named_so(templates: set[str], prefix: str, *tensors: Mapping[str, Header]) -> Shapes:
    """The shapes of those tensors whose names without prefix, but for their numbers, are among these."""
    before = numberless(prefix)
    return {
        _bare(name, prefix): header.shape
        for some in tensors
        for name, header in some.items()
        if _bare(numberless(name), before) in templates
    }


def _faults(name: str, found: Shapes, wanted: Shapes, known: set[str], templates: set[str]) -> Iterator[str]:
    for tensor, shape in wanted.items():
        if tensor in found and tuple(found[tensor]) != tuple(shape):
            yield (
                f"{tensor} would be {list(found[tensor])}, but {name} of the grown config has it as"
                f" {list(shape)}"
            )
        if tensor not in found and numberless(tensor) in known:
            yield f"{name} of the grown config has {tensor}, and the grown model would lack it"
    for tensor in found:
        if tensor not in wanted and numberless(tensor) in templates:
            yield f"the grown model would have {tensor}, and {name} of the grown config has no place for it"


def built(config: Mapping[str, Any]) -> Built | None:
    """What `on_meta` makes of a config, as data; raises as it does."""
    model: Any = on_meta(config)
    if model is None:
        return None
    state: dict[str, Any] = model.state_dict(keep_vars=True)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    first: dict[int, str] = {}
    homes = {name: first.setdefault(id(value), name) for name, value in state.items()}
    twins = {name: home for name, home in homes.items() if name != home}
    return Built(type(model).__name__, opener(config), str(model.base_model_prefix), shapes, twins)


def on_meta(config: Mapping[str, Any]) -> nn.Module | None:
    """The model that transformers makes of a grown config, on the meta device; None: it has no such type.

    Raises `SizeError` for a config that its class refuses.
    """
    import transformers

    mapping: Any = transformers.CONFIG_MAPPING
    if config.get("model_type") not in mapping:
        return None
    try:
        made = mapping[config["model_type"]].from_dict(copy.deepcopy(untagged(config)))
        with alone(), torch.random.fork_rng(devices=[]), torch.device("meta"):
            return _class(config)(made)
    except Exception as error:  # each class validates in its own way, with its own kind of error
        inner = error.__cause__ or error
        reason = " ".join(str(inner).split()).rstrip(".") or type(inner).__name__
        raise SizeError(
            f"transformers' {config['model_type']!r} refuses the grown config: {reason}; nothing was written"
        ) from error


def _class(config: Mapping[str, Any]) -> Any:
    """The class that `architectures` names, or the one that AutoModel would take."""
    import transformers

    name = class_name(config)
    return getattr(transformers, name) if name else transformers.AutoModel.from_config


def class_name(config: Mapping[str, Any]) -> str:
    """The first class of transformers that `architectures` names, be it by the name that a class of the
    author's own code has (ExaoneForCausalLM), which transformers has under another; "" if there is none."""
    import transformers

    for name in class_names(config):
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return name
    return next(filter(None, (_of_task(config, name) for name in class_names(config))), "")


def opener(config: Mapping[str, Any]) -> str:
    """The class whose `from_pretrained` opens a checkpoint as what it is: the one that its config names, but
    where that one is another model type's (LlamaForCausalLM, of EXAONE), and would save the config as that
    type's, the Auto class; "" if none is named."""
    import transformers

    name = class_name(config)
    own = getattr(getattr(transformers, name, None), "config_class", None)
    if getattr(own, "model_type", None) in (None, config.get("model_type")):
        return name
    auto = f"AutoModel{_task(name)}"
    return auto if hasattr(transformers, auto) else name


def _of_task(config: Mapping[str, Any], name: str) -> str:
    """The class that transformers has for this model type, and the task at the end of a class's name."""
    import transformers

    auto: Any = getattr(transformers, f"AutoModel{_task(name)}", None)
    mapping: Any = transformers.CONFIG_MAPPING
    kind = config.get("model_type")
    if not _task(name) or auto is None or kind not in mapping:
        return ""
    found = auto._model_mapping.get(mapping[kind], None)
    found = found[0] if isinstance(found, tuple) else found
    return getattr(found, "__name__", "")


def _task(name: str) -> str:
    """What a class is for, by its name.

    >>> _task("LlamaForCausalLM"), _task("LlamaModel")
    ('ForCausalLM', '')
    """
    found = re.search(r"For[A-Z]\w*$", name)
    return found[0] if found else ""


def _bare(name: str, prefix: str) -> str:
    """A tensor's name without the base model's prefix, which a checkpoint may have or lack."""
    return name.removeprefix(f"{prefix}.") if prefix else name
