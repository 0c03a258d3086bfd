"""Tiny checkpoints on disk, and how tests grow them and read them back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from isogrow.families import layout_for
from isogrow.interpreters.checkpoint import grow_checkpoint
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import Size, expansions
from isogrow.plans.matching import match
from isogrow.plans.plan import Init, Plan
from isogrow.stores.sources import Checkpoint, open_checkpoint

Sizes = Mapping[str, Size]

# Everything that each family can grow in at once.
GROWTHS: dict[str, Sizes] = {
    "LlamaForCausalLM": {"hidden": 36, "ffn": 57, "heads": 9, "kv_heads": 3, "head_dim": 14, "layers": "+2"},
    "LlamaModel": {"hidden": 36, "ffn": 57, "heads": 9, "kv_heads": 3, "head_dim": 20, "layers": "+2"},
    "Qwen3ForCausalLM": {"hidden": 36, "ffn": 57, "heads": 9, "kv_heads": 3, "head_dim": 20, "layers": "+1"},
    "GPT2LMHeadModel": {"hidden": 42, "ffn": 57, "heads": 7, "layers": "+2"},
    "GPT2Model": {"hidden": 42, "ffn": 57, "heads": 6, "head_dim": 7, "layers": "+1"},
    "BertForMaskedLM": {"hidden": "x2", "ffn": 57, "heads": "x2"},
    "BertModel": {"hidden": "x3", "ffn": 57, "heads": "x3"},
    "BertForSequenceClassification": {"hidden": "x2", "ffn": 57, "head_dim": "x2"},
    "BertForTokenClassification": {"hidden": "x2", "ffn": 57, "heads": "x2"},
}
SMALL: Sizes = {"ffn": 57, "layers": "+1"}  # no rule of these scales an old weight


@dataclass(frozen=True)
class Subject:
    """A checkpoint, seen through its layout."""

    checkpoint: Checkpoint
    anatomy: Anatomy

    def plan(self, sizes: Sizes, at: Any = "end", init: Init | None = None, seed: int = 3) -> Plan:
        return plan(self.anatomy, expansions(sizes, at), init, seed)

    def grow(self, out: Path, sizes: Sizes | Plan, **options: Any) -> Path:
        made = sizes if isinstance(sizes, Plan) else self.plan(sizes)
        grow_checkpoint(self.checkpoint, self.anatomy, made, out, **options)
        return out


def save(
    folder: Path,
    name: str = "LlamaForCausalLM",
    dtype: torch.dtype = torch.float32,
    shard: str = "5GB",
    **changes: Any,
) -> Path:
    """A random tiny model of this class, as transformers saves it."""
    tiny.model(name, **changes).to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def seen(folder: Path) -> Subject:
    checkpoint = open_checkpoint(folder)
    layout = layout_for(str(checkpoint.config["model_type"]))
    return Subject(checkpoint, match(layout, checkpoint.config, checkpoint.headers))


def tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's safetensors files, as they are stored."""
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found.update(load_file(path))
    return found


def loaded(folder: Path, name: str) -> transformers.PreTrainedModel:
    """What plain transformers loads; nothing may be missing, left over or of another shape."""
    kind = getattr(transformers, name)
    own = transformers.AutoConfig.from_pretrained(folder)  # whose type may be another than the class's
    model, report = kind.from_pretrained(folder, config=own, output_loading_info=True)
    assert not any(report.values()), report
    return model


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file in a folder."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted(names(folder))}


def weights(folder: Path) -> dict[str, str]:
    return {name: found for name, found in digests(folder).items() if name.endswith(".safetensors")}
