"""Model types as their library has them: the class of a type, and a model of it from a config.json."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from transformers.models.auto import modeling_auto as auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from isogrow.errors import FamilyError
from isogrow.layouts.config import Config
from isogrow.quiet import quiet
from isogrow.verification.float64 import build

CAUSAL: Mapping[str, Any] = cast(Any, auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
TWO_STACKS: Mapping[str, Any] = cast(Any, auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
# Where the class of a model around a language model is sought.
AROUND: tuple[Mapping[str, Any], ...] = (
    cast(Any, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
    TWO_STACKS,
    cast(Any, auto.MODEL_MAPPING_NAMES),
)
# Where a type's class is sought, the first that has it: with a head for all tokens, or without one.
TASKS: tuple[Mapping[str, Any], ...] = (
    CAUSAL,
    cast(Any, auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    cast(Any, auto.MODEL_MAPPING_NAMES),
)
LARGEST = 30_000_000  # parameters of a twin
SPREAD = 0.3  # the std of a random model's matrices

# Beside the logits, outputs that the comparison of two models has no use for.
PLAIN: Mapping[str, Any] = {"use_cache": False, "output_router_logits": False, "use_mambapy": False}


def causal_types() -> tuple[str, ...]:
    """Every model type that has a class for causal language modelling."""
    return tuple(CAUSAL)


def config_class(model_type: str) -> Any:
    """The config class of a model type. Raises `FamilyError` for one that transformers does not have."""
    if model_type not in CONFIG_MAPPING:
        raise FamilyError(
            f"model_type {model_type!r} is none that transformers {transformers.__version__} has, so there is"
            " no class to draft a layout from: write a layout (docs/add-a-family.md)"
        )
    return CONFIG_MAPPING[model_type]


def model_class(config: Config) -> type[nn.Module]:
    """The class of a config's type: for language modelling if it has one, else without a head; of a type
    around a language model, the class for images or sound with texts.

    Raises `FamilyError` for a type of an encoder and a decoder, and for one that has no class of its own.
    """
    model_type = str(config.get("model_type", ""))
    if isinstance(config.get("text_config"), Mapping):
        name = next((task[model_type] for task in AROUND if model_type in task), None)
        return getattr(transformers, name) if isinstance(name, str) else _unlisted(model_type)
    if model_type in TWO_STACKS or getattr(config_class(model_type)(), "is_encoder_decoder", False):
        raise FamilyError(
            f"a {model_type!r} model is an encoder and a decoder, and only single stacks are drafted: write a"
            " layout (docs/add-a-family.md)"
        )
    name = next((task[model_type] for task in TASKS if model_type in task), None)
    if name is not None:
        return getattr(transformers, name if isinstance(name, str) else name[0])
    return _unlisted(model_type)


def _unlisted(model_type: str) -> type[nn.Module]:
    """The class of a type that no task lists: that of the same file which reads this config."""
    kind = config_class(model_type)
    found = sorted(_reading(kind), key=lambda each: (not each.__name__.endswith("Model"), len(each.__name__)))
    if not found:
        raise FamilyError(
            f"model_type {model_type!r} has no class of its own, only a config that others hold: draft the"
            " model that holds it, or write a layout (docs/add-a-family.md)"
        )
    return found[0]


def _reading(kind: Any) -> Iterator[type[nn.Module]]:
    """The classes beside a config class that are built from it, whole models of their own."""
    beside = kind.__module__.replace(".configuration_", ".modeling_")
    file = sys.modules.get(beside) or import_module(beside)
    for each in vars(file).values():
        whole = isinstance(each, type) and issubclass(each, transformers.PreTrainedModel)
        if whole and getattr(each, "config_class", None) is kind and "forward" in vars(each):
            yield each


def default_config(model_type: str) -> dict[str, Any]:
    """The config.json of the class's own defaults."""
    return json_of(config_class(model_type)())


def json_of(config: Any) -> dict[str, Any]:
    """A config object as config.json would have it, every key said."""
    return json.loads(config.to_json_string(use_diff=False), object_hook=_infinite)


def _infinite(value: dict[str, Any]) -> Any:
    """A number that JSON has no word for, as transformers writes it."""
    return float(value["__float__"]) if value.keys() == {"__float__"} else value


def config_of(config: Config) -> Any:
    """The config class's own reading of a config.json."""
    return config_class(str(config["model_type"])).from_dict(copy.deepcopy({**config, **PLAIN}))


def on_meta(config: Config) -> nn.Module:
    """A model of this config without numbers."""
    with quiet(), torch.device("meta"):
        return cast(Any, model_class(config))(config_of(config))


def built_on_meta(config: Config) -> nn.Module:
    """The same, of a type of two stacks too."""
    kind = str(config["model_type"])
    name = TWO_STACKS.get(kind) if "text_config" not in config else None
    if not isinstance(name, str):
        return on_meta(config)
    with quiet(), torch.device("meta"):
        return getattr(transformers, name)(config_of(config))


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The names and shapes of all parameters of a model of this config; a tied one under its first name."""
    return {name: tuple(value.shape) for name, value in on_meta(config).named_parameters()}


def random_model(config: Config, seed: int = 0, spread: float = SPREAD) -> nn.Module:
    """A float64 model of this config in which every stored number is random: gains lie around 1."""
    made = on_meta(config)
    if (count := sum(value.numel() for value in made.parameters())) > LARGEST:
        raise FamilyError(
            f"a {config['model_type']!r} model still has {count:,} parameters when the sizes that are known"
            " by name are small: its config has other sizes, or other configs in it"
        )
    buffers = ((name, value) for name, value in made.named_buffers() if name in made.state_dict())
    state = {name: value for name, value in (*made.named_parameters(), *buffers)}
    return build(type(made), config_of(config), _random(state, seed, spread))


def _random(state: Mapping[str, Tensor], seed: int, spread: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        noise = torch.randn(tuple(value.shape), generator=generator, dtype=torch.float64)
        if not value.is_floating_point():
            found[name] = torch.zeros(tuple(value.shape), dtype=value.dtype)
        elif value.dim() > 1:
            found[name] = spread * noise
        else:
            found[name] = 0.3 * noise + (1.0 if name.endswith("weight") else 0.0)
    return found
