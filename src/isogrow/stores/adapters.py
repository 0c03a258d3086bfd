"""Adapters as PEFT saves them: adapter_config.json, and the matrices beside it.

Only what is known to be exact is read: a kind of adapter, or a key of its config, that is not in these tables
is refused, never taken for something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from isogrow.errors import CheckpointError
from isogrow.paths import expanded
from isogrow.stores.sources import load_bin, read_json
from isogrow.stores.strangers import ADAPTER

if TYPE_CHECKING:
    from torch import Tensor

SAID, WEIGHTS, PICKLED = ADAPTER
BEFORE = "base_model.model."  # every name of a PEFT model's tensors
MERGE = "merge it into its base (merge_and_unload), and grow that"

# What stands behind a module's name, and which matrix it is.
MATRICES: Mapping[str, Literal["A", "B"]] = {
    "lora_A.weight": "A",
    "lora_B.weight": "B",
    "lora_embedding_A": "A",
    "lora_embedding_B": "B",
}
# What else PEFT keeps for an adapter, by the end of the tensor's name.
OTHERS: Mapping[str, str] = {
    r"lora_magnitude_vector(\.weight)?$": "DoRA divides by the norm of base and adapter, which grows",
    r"lora_(B|embedding_B)\.bias$": "a bias of the matrix B is no low-rank weight",
    r"trainable_tokens_\w+$": "trainable tokens are rows of the embedding, not of it as a whole",
    r"\blora_": "it is of a variant of LoRA",
}
# Keys of a LoRA's config that change no law, or that are looked at where they are used.
KNOWN = frozenset({
    "alora_invocation_tokens", "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias",
    "corda_config", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha",
    "lora_dropout", "lora_ga_config", "megatron_core", "merge_weights", "modules_to_save", "peft_type",
    "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config",
    "target_modules", "target_parameters", "task_type", "use_rslora",
})  # fmt: skip
# Of other keys, why not, and what to do.
UNGROWN: Mapping[str, str] = {
    "use_dora": f"DoRA divides by a norm that grows: {MERGE}",
    "layer_replication": (  # PEFT 0.21.2 merges what all copies learned into the one weight that they share
        "layers that are copies of others can't be merged into the base: grow the base alone (--layers), and"
        " train a new adapter on that"
    ),
}
STARTS = (True, False, "true", "false", "gaussian", "eva", "orthogonal")  # those that leave the base as it is


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, its config, and its tensors by their names in the file."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def read_adapter(folder: str | Path) -> Adapter:
    """The LoRA adapter in a folder.

    Raises `CheckpointError` for a folder that holds none, and for an adapter of another kind.
    """
    found = expanded(folder)
    if not (found / SAID).is_file():
        raise CheckpointError(
            f"{folder} holds no adapter ({SAID} is missing): give a folder that PEFT's save_pretrained wrote"
        )
    config = read_json(found / SAID, "it says what the adapter is")
    _check_config(found.name, config)
    tensors = _tensors(found)
    for name in tensors:
        _check_name(name)
    return Adapter(found, config, tensors)


def matrix_of(name: str) -> tuple[str, Literal["A", "B"]] | None:
    """(the module's name, which matrix) of a LoRA's tensor; None for one in the place of the base's own."""
    for end, side in MATRICES.items():
        if name.endswith(f".{end}"):
            return name.removesuffix(f".{end}"), side
    return None


def _tensors(folder: Path) -> dict[str, Tensor]:
    if (folder / WEIGHTS).is_file():
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(folder / WEIGHTS)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{folder / WEIGHTS} is damaged ({error}): fetch it again") from error
    if (folder / PICKLED).is_file():
        return load_bin(folder / PICKLED)
    raise CheckpointError(f"{folder} has {SAID}, and no weights: expected {WEIGHTS} or {PICKLED}")


def _check_config(name: str, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(
            f"{name} is an adapter of kind {kind}, and LoRA (peft_type LORA) alone grows with its base: "
            + (MERGE if kind not in ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING") else "train it anew")
        )
    for key, value in config.items():
        if value and key not in KNOWN:
            why = UNGROWN.get(key, f"no law says how that grows: {MERGE}")
            raise CheckpointError(f"{name} has {key} = {value!r:.60}, and {why}")
    start = config.get("init_lora_weights", True)
    if start not in STARTS:
        raise CheckpointError(
            f"{name} has init_lora_weights = {start!r}, by which PEFT changes the base's own weights as it"
            " loads the adapter: save it as a plain LoRA first (save_pretrained(…,"
            " path_initial_model_for_weight_conversion=…))"
        )


def _check_name(name: str) -> None:
    if matrix_of(name) is not None:
        return
    why = next((why for end, why in OTHERS.items() if re.search(end, name)), None)
    if why is None and not name.startswith(BEFORE):
        why = f"names of a LoRA begin with {BEFORE!r}"
    if why is not None:
        raise CheckpointError(f"the adapter holds {name}, and {why}: {MERGE}")


def names(said: Any) -> tuple[str, ...]:
    """What a key of the config lists: names, or one that stands alone."""
    if said is None:
        return ()
    return (said,) if isinstance(said, str) else tuple(map(str, cast("list[Any]", said)))
