"""The checkpoint that is grown: a random bf16 Llama of about a given size."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isogrow.plans.anatomy import Header

PART = 1 << 22  # entries that are written at a time
# Names that transformers gives to tensors, and those that files have.
IN_FILES = {
    "experts.gate_up_proj": "input_linear.weight",
    "experts.down_proj": "output_linear.weight",
    "router.weight": "router.layer.weight",
}
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


def experts() -> dict[str, Any]:
    """A Granite whose files hold all experts of a layer in one tensor."""
    return config(0.1) | {
        "architectures": ["GraniteMoeForCausalLM"],
        "model_type": "granitemoe",
        "hidden_size": 4096,
        "intermediate_size": 4096,
        "head_dim": 128,
        "num_hidden_layers": 1,
        "num_local_experts": 64,
        "num_experts_per_tok": 2,
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
    """Write the checkpoint without ever holding it, every entry random."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> memoryview:
        block = torch.randn(count, generator=generator).mul_(0.02).to(torch.bfloat16)
        return block.view(torch.uint8).numpy().data

    _build(folder, values, part)


def build_quickly(folder: Path, values: Mapping[str, Any]) -> None:
    """The same with a random block again and again."""
    import torch

    block = torch.randn(PART, generator=torch.Generator().manual_seed(0)).mul_(0.02).to(torch.bfloat16)
    data = block.view(torch.uint8).numpy().data
    _build(folder, values, lambda count: data[: 2 * count])


def _build(folder: Path, values: Mapping[str, Any], part: Callable[[int], memoryview]) -> None:
    from isogrow.stores.shards import header_bytes, nbytes

    headers = headers_of(values)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(values), indent=2))
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header_bytes(headers))
        for header in headers.values():
            left = nbytes(header) // 2
            while left:
                count = min(left, PART)
                file.write(part(count))
                left -= count
        file.flush()
        os.fsync(file.fileno())


def headers_of(values: Mapping[str, Any]) -> dict[str, Header]:
    """What its files hold, as transformers' class says it."""
    import torch
    import transformers

    from isogrow.plans.anatomy import Header

    kind = getattr(transformers, values["architectures"][0])
    with torch.device("meta"):
        made = kind(kind.config_class(**values))
    tied = made.all_tied_weights_keys if values["tie_word_embeddings"] else ()
    found = {name: tuple(x.shape) for name, x in made.state_dict().items() if name not in tied}
    for old, new in IN_FILES.items():
        found = {name.replace(old, new): shape for name, shape in found.items()}
    return {name: Header(shape, "BF16") for name, shape in found.items()}


def largest_tensor(folder: Path) -> int:
    """The bytes of the largest tensor in a folder's files."""
    from isogrow.stores.shards import read_places

    return max(
        place.stop - place.start
        for path in folder.glob("*.safetensors")
        for place in read_places(path).values()
    )


def largest_layer(folder: Path) -> int:
    """The entries of the largest layer."""
    from isogrow.stores.sources import open_checkpoint
    from isogrow.verification import memory

    return memory.largest_layer(memory.shapes_of(open_checkpoint(folder)))
