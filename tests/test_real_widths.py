"""Plans at the widths of published models, from headers alone: no weight of them is anywhere.

A model that is grown to the sizes of its larger sibling has that one's tensors, name by name.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import documents
import families as F
import pytest
import torch
import transformers
from command import isogrow as command

import isogrow
from isogrow.families import layout_for
from isogrow.interpreters.module import headers
from isogrow.planning.planner import plan
from isogrow.plans.anatomy import Anatomy, Header
from isogrow.plans.expansions import expansions
from isogrow.plans.matching import match
from isogrow.plans.serial import from_json, to_json
from isogrow.stores.binding import outputs

Sizes = Mapping[str, int]
KEYS = {
    "hidden": "hidden_size",
    "ffn": "intermediate_size",
    "heads": "num_attention_heads",
    "layers": "num_hidden_layers",
}
# Classes, what is alike in both siblings, their sizes, and how many parameters the published ones have.
SIBLINGS: Mapping[str, tuple[str, dict[str, Any], tuple[Sizes, Sizes], tuple[int, int]]] = {
    "Llama-3 8B and 70B": (
        "LlamaForCausalLM",
        dict(vocab_size=128256, num_key_value_heads=8, max_position_embeddings=8192),
        (
            dict(hidden=4096, ffn=14336, heads=32, layers=32),
            dict(hidden=8192, ffn=28672, heads=64, layers=80),
        ),
        (8_030_261_248, 70_553_706_496),
    ),
    "Qwen2.5 14B and 72B": (
        "Qwen2ForCausalLM",
        dict(vocab_size=152064, num_key_value_heads=8),
        (
            dict(hidden=5120, ffn=13824, heads=40, layers=48),
            dict(hidden=8192, ffn=29568, heads=64, layers=80),
        ),
        (14_770_033_664, 72_706_203_648),
    ),
    "Mixtral 8x7B and 8x22B": (
        "MixtralForCausalLM",
        dict(vocab_size=32000, num_key_value_heads=8),
        (
            dict(hidden=4096, ffn=14336, heads=32, layers=32),
            dict(hidden=6144, ffn=16384, heads=48, layers=56),
        ),
        (46_702_792_704, 140_620_634_112),
    ),
}


def shapes(kind: str, alike: Mapping[str, Any], sizes: Sizes) -> tuple[F.Json, dict[str, Header]]:
    """A model's config.json, and its tensors as names and shapes."""
    cls: Any = getattr(transformers, kind)
    said = {**alike, **{KEYS[axis]: n for axis, n in sizes.items()}, "tie_word_embeddings": False}
    source = F.modern(cls.config_class(**said))
    with torch.device("meta"):
        return source, headers(cls(cls.config_class.from_dict(dict(source))).bfloat16())


def seen(source: F.Json, tensors: Mapping[str, Header]) -> Anatomy:
    return match(layout_for(source["model_type"]), source, tensors)


def parameters(tensors: Mapping[str, Header]) -> int:
    return sum(prod(header.shape) for header in tensors.values())


@pytest.mark.slow
@pytest.mark.parametrize("pair", SIBLINGS)
def test_a_model_grows_to_its_larger_sibling_s_tensors(pair: str) -> None:
    kind, alike, (small, large), counts = SIBLINGS[pair]
    source, tensors = shapes(kind, alike, small)
    _, wanted = shapes(kind, alike, large)
    assert (parameters(tensors), parameters(wanted)) == counts
    anatomy = seen(source, tensors)
    made = plan(anatomy, expansions(large))
    grown = {stored.name: stored.header for stored in outputs(anatomy, made)}
    assert grown == wanted
    assert from_json(json.loads(json.dumps(to_json(made)))) == made
    wide = {name: header for name, header in tensors.items() if "proj" in name and len(header.shape) > 1}
    assert wide and not any(grown[name] == header for name, header in wide.items())


def test_a_published_checkpoint_is_planned_without_its_weights(tmp_path: Path) -> None:
    """Llama-3 8B's files with all their headers: the 16 GB behind them are a hole that is never read."""
    kind, alike, (small, large), counts = SIBLINGS["Llama-3 8B and 70B"]
    source, tensors = shapes(kind, alike, small)
    hollow(tmp_path / "model.safetensors", tensors)
    (tmp_path / "config.json").write_text(json.dumps(source))
    assert (tmp_path / "model.safetensors").stat().st_blocks * 512 < 1 << 20
    sizes = (part for axis, n in large.items() for part in (f"--{axis}", n))
    ran = command("plan", tmp_path, *sizes, "--json")
    assert (ran.code, ran.err) == (0, "")
    before, after = ran.json["before"], ran.json["after"]
    assert (before["parameters"], after["parameters"]) == counts
    assert (before["bytes"], after["bytes"]) == tuple(2 * count for count in counts)
    assert ran.json["memory"] < 1 << 31  # a chunk of the largest tensor, whatever the model


@pytest.mark.slow
def test_the_document_shows_what_64_ranks_would_cost(tmp_path: Path) -> None:
    """docs/sharding.md: Llama-3 8B, whose headers are all that is read."""
    kind, alike, (small, _), _ = SIBLINGS["Llama-3 8B and 70B"]
    source, tensors = shapes(kind, alike, small)
    hollow(tmp_path / "model.safetensors", tensors)
    (tmp_path / "config.json").write_text(json.dumps({**source, "architectures": [kind]}))
    (shown,) = documents.code(documents.read(documents.ROOT / "docs" / "sharding.md"), "text")
    words = next(line for line in shown.splitlines() if line.startswith("$ ")).split()
    assert words[:4] == ["$", "isogrow", "plan", "MODEL"]
    ran = command("plan", tmp_path, *words[4:])
    assert (ran.code, ran.err) == (0, "")
    told = ran.out[ran.out.index(" 64 ranks") :].splitlines()
    assert [line.strip() for line in told if line.strip()] == [
        line.strip() for line in shown.splitlines()[1:] if line.strip()
    ]


@pytest.mark.slow
@pytest.mark.sweep("whole")
def test_a_thousand_ranks_are_told_in_a_minute() -> None:
    """DeepSeek-V3 (671 billion parameters) and AdamW's moments, on 1,024 ranks."""
    cls: Any = transformers.DeepseekV3ForCausalLM
    with torch.device("meta"):
        model = cls(cls.config_class()).bfloat16()
    start = time.process_time()
    found = isogrow.forecast(model, "fsdp=1024", expert_ffn="x2")
    assert time.process_time() - start < 60
    assert found.ranks == 1024 and sum(found.sent) == sum(found.received) > 1 << 30
    assert sum(found.before) > 3 * 2 * 671e9


def hollow(path: Path, tensors: Mapping[str, Header]) -> None:
    """A safetensors file that is all header; what comes after takes no room on the disk."""
    said: dict[str, Any] = {}
    end = 0
    for name, header in tensors.items():
        start, end = end, end + 2 * prod(header.shape)
        said[name] = {"dtype": "BF16", "shape": header.shape, "data_offsets": [start, end]}
    text = json.dumps(said).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
