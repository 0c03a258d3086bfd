"""The checkpoint that is grown: a random bf16 Llama of about a given size."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SIZES = {"hidden": "+256", "ffn": "+512", "layers": "+2"}
DEPTH = {"layers": "+2"}


def config(gigabytes: float) -> dict[str, Any]:
    """A Llama whose bf16 weights are about so large: it has as many layers as that takes."""
    hidden, ffn, heads, kv_heads, vocab = 2048, 5632, 32, 8, 32000
    layer = 2 * hidden * hidden + 2 * hidden * hidden * kv_heads // heads + 3 * hidden * ffn
    layers = max(1, round((gigabytes * 1e9 / 2 - 2 * vocab * hidden) / layer))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    }


def passthrough(folder: Path) -> dict[str, Any]:
    """What tells mergekit to put two more layers at the end that add nothing."""
    layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    silent = [{"filter": name, "value": 0.0} for name in ("o_proj", "down_proj")]
    all_of = {"sources": [{"model": str(folder), "layer_range": [0, layers]}]}
    new = {"model": str(folder), "layer_range": [layers - 1, layers]}
    more = {"sources": [new | {"parameters": {"scale": [*silent, {"value": 1.0}]}}]}
    return {"merge_method": "passthrough", "dtype": "bfloat16", "slices": [all_of, more, more]}


def build(folder: Path, values: Mapping[str, Any]) -> None:
    """Write the checkpoint without ever holding it."""
    import torch
    import transformers

    from isogrow.plans.anatomy import Header
    from isogrow.stores.shards import header_bytes, nbytes

    with torch.device("meta"):
        state = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values)).state_dict()
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(values), indent=2))
    headers = {name: Header(tuple(tensor.shape), "BF16") for name, tensor in state.items()}
    generator = torch.Generator().manual_seed(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header_bytes(headers))
        for header in headers.values():
            left = nbytes(header) // 2
            while left:
                count = min(left, 1 << 22)
                block = torch.randn(count, generator=generator).mul_(0.02).to(torch.bfloat16)
                file.write(block.view(torch.uint8).numpy().data)
                left -= count
        file.flush()
        os.fsync(file.fileno())
