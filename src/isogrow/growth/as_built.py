"""What a model in memory has beyond its config and its weights.

A grown model is made by its class of the grown config. What somebody changed in the small one since its class
made it would be lost: it is refused (`check_as_built`) where it may change the function, and carried over
(`carry_settings_`) where it says how a model is trained (modes, dropout, checkpointing) or what tokens mean.
A model that was cast after it was made (`model.half()`) has its tables of rotary angles cast too, and so has
the grown one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from isogrow.errors import CheckpointError
from isogrow.growth.adopting import has_own_forward
from isogrow.interpreters.module import Build, emptied, own_class, source_names
from isogrow.numbers.local import is_sharded
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.plan import Plan

LOSS = "_loss_function"  # what transformers' `model.loss_function = …` sets
CHECKPOINTING = ("gradient_checkpointing", "_gradient_checkpointing_func")
LONGEST = "max_seq_len_cached"  # for which length a part has computed its tables
TOKENS = ("padding_idx", "vocab_size")
NOTED = "text_config_dtype"  # PaliGemma's class notes it when it is made, and reads it nowhere
SOURCE = "name_or_path"  # where a model comes from
CHANGING = frozenset({"training", LONGEST, NOTED, SOURCE, *CHECKPOINTING})
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
# How far tables may be apart, beside their largest number: in last bits, which devices differ in; or, where a
# model is no float32 one, by what that costs: a sine of an angle of thousands in float32, or a number in
# the model's dtype (GPT-J's class computes its table in it, unless `from_pretrained` makes the model).
NEAR, CAST = 32 * torch.finfo(torch.float32).eps, 1e-3


def check_as_built(model: nn.Module, anatomy: Anatomy, build: Build | None = None) -> None:
    """Refuse a model with parts, numbers or tables other than those which its class makes of its config.

    `build` is as in `isogrow.interpreters.module.grow_module`. Raises `CheckpointError`.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> from isogrow.growth.models import anatomy_of
    >>> config = LlamaConfig(vocab_size=64, hidden_size=24, intermediate_size=40,
    ...                      num_hidden_layers=2, num_attention_heads=4)
    >>> model = LlamaForCausalLM(config)
    >>> check_as_built(model, anatomy_of(model))
    >>> model.model.norm.variance_epsilon = 0.5
    >>> check_as_built(model, anatomy_of(model))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    isogrow.errors.CheckpointError: model.norm.variance_epsilon is 0.5, and 1e-06 by the model's config, ...
    """
    twin = emptied(model, anatomy.config, anatomy.sizes, build)
    made = dict(twin.named_modules())
    for name, part in model.named_modules():
        _check_part(name, part, made.get(name))
    _check_tables(model, twin)


def _check_part(name: str, part: nn.Module, twin: nn.Module | None) -> None:
    kind, called = type(part).__name__, name or "the model"
    if twin is None:
        raise _changed(called, f"is a {kind}", "not there")
    if _kind(part) is not _kind(twin):
        raise _changed(called, f"is a {kind}", f"a {type(twin).__name__}")
    if name and has_own_forward(part):
        raise _changed(called, "has a forward of its own", f"that of {kind}")
    for attribute, value, other in _changes(part, twin):
        raise _changed(f"{name}.{attribute}".lstrip("."), f"is {value!r:.60}", f"{other!r:.60}")


def _kind(part: nn.Module) -> type[nn.Module]:
    """A part's class as it was written: a parametrization makes one of its own for each part."""
    kind = own_class(part)
    return kind.__mro__[1] if is_parametrized(part) else kind


def _changed(what: str, found: str, made: str) -> CheckpointError:
    return CheckpointError(
        f"{what} {found}, and {made} by the model's config, by which it is grown and proven: have both alike"
    )


def _changes(part: nn.Module, twin: nn.Module) -> Iterator[tuple[str, object, object]]:
    """Plain attributes of a part that are others in its twin, with both values."""
    for name, value in vars(part).items():
        if name.startswith("_") or name in CHANGING or _stays(part, name):
            continue
        other = vars(twin).get(name, value)
        if _is_plain(value) and _is_plain(other) and repr(value) != repr(other):
            yield name, value, other


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str | torch.dtype)


def _stays(part: nn.Module, name: str) -> bool:
    """Whether an attribute is carried over: how likely something is dropped in training, what tokens mean,
    which a tokenizer or another number of tokens changes in the config alone, after a part is made."""
    if name in TOKENS or name.endswith("token_id"):
        return True
    return "drop" in name or (isinstance(part, DROPOUTS) and name == "p")


def tables_of(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that a model does not save, since its class computes them."""
    saved = model.state_dict().keys()
    return {name: table for name, table in model.named_buffers() if name not in saved}


def _check_tables(model: nn.Module, twin: nn.Module) -> None:
    """Refuse tables with other numbers than in the twin; those of a part that has computed them anew, for a
    longer sequence, are its own."""
    made, dtype = tables_of(twin), _dtype(model)
    for name, own in tables_of(model).items():
        part, other = name.rpartition(".")[0], made.get(name)
        if other is None or other.is_meta or own.is_meta or is_sharded(own):
            continue
        lengths = {getattr(each.get_submodule(part), LONGEST, None) for each in (model, twin)}
        if len(lengths) == 1 and not _alike(own, other, dtype):
            raise CheckpointError(
                f"{name} has other numbers than its class computes by the model's config, by which it is"
                " grown and proven: save and load the model, or put them back"
            )


def _alike(own: Tensor, other: Tensor, dtype: torch.dtype) -> bool:
    """Whether a table of a model of this dtype is another one, as nearly as it was computed."""
    floating = own.is_floating_point() and other.is_floating_point()
    if not own.numel() or own.shape != other.shape or not floating:
        return torch.equal(own.cpu(), other.cpu())
    dtypes = {own.dtype, other.dtype, dtype}
    near = NEAR if len(dtypes) == 1 else max(CAST, *(torch.finfo(each).eps for each in dtypes))
    one, two = (each.detach().to("cpu", own.dtype).double() for each in (own, other))
    return torch.allclose(one, two, rtol=near, atol=near * float(one.abs().max()), equal_nan=True)


def _dtype(model: nn.Module) -> torch.dtype:
    return next((x.dtype for x in model.parameters() if x.is_floating_point()), torch.float32)


def carry_settings_(model: nn.Module, large: nn.Module, anatomy: Anatomy, plan: Plan) -> None:
    """Parts of `large` are trained as those of `model` that they come from: in the same mode, dropping as
    much, recomputing activations alike, with the same padding. Tables have the old dtype, and the old bits
    where they stay."""
    if LOSS in vars(model):
        vars(large)[LOSS] = vars(model)[LOSS]
    home, parts = _homes(anatomy, plan), dict(model.named_modules())
    for name, part in large.named_modules():
        old = parts.get(_origin(name, home))
        if old is not None and _kind(old) is _kind(part):
            part.training = old.training
            for attribute, value in vars(old).items():
                if attribute in CHECKPOINTING or (_is_plain(value) and _stays(old, attribute)):
                    setattr(part, attribute, value)
    old_tables, dtype = tables_of(model), _dtype(model)
    for name, table in tables_of(large).items():
        part, _, own = name.rpartition(".")
        was = old_tables.get(f"{_origin(part, home)}.{own}")
        if was is not None and table.is_floating_point() and not (was.is_meta or is_sharded(was)):
            same = _alike(was, table, dtype)
            made = was.detach().clone().to(table.device) if same else table.to(was.dtype)
            setattr(large.get_submodule(part), own, made)


def _homes(anatomy: Anatomy, plan: Plan) -> dict[str, str]:
    """Which of the old model's parts those of the grown one that hold tensors come from."""
    home = dict[str, str]()
    for new, old in source_names(anatomy, plan):
        ends, starts = new.split("."), old.split(".")
        if len(ends) == len(starts):
            for depth in range(1, len(ends)):
                home.setdefault(".".join(ends[:depth]), ".".join(starts[:depth]))
    return home


def _origin(name: str, home: dict[str, str]) -> str:
    """The old part that a grown one comes from: by the nearest part around it that holds tensors."""
    around, rest = name, ""
    while around and around not in home:
        around, _, last = around.rpartition(".")
        rest = f".{last}{rest}"
    return f"{home.get(around, '')}{rest}".lstrip(".")
