"""Small models that tests grow: the paper's in torch, and each family's as names and shapes alone.

All sizes of one model are pairwise distinct, so that a swapped axis can't pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from isogrow.families import layout_for
from isogrow.layouts.layout import Layout
from isogrow.layouts.lines import name_axes
from isogrow.paper import Config, HeadConfig, LayerConfig, Transformer, init_
from isogrow.plans.anatomy import Anatomy, Header, name_of
from isogrow.plans.matching import match
from isogrow.plans.pieces import Block
from isogrow.plans.sizes import Sizes
from isogrow.stores.binding import viewer

EXACT = 1e-12
BROKEN = 1e-3

# The paper's model

LAYERS = (
    LayerConfig(ffn=17, heads=(HeadConfig(4, 7), HeadConfig(6, 9))),
    LayerConfig(ffn=19, heads=(HeadConfig(8, 11), HeadConfig(10, 14), HeadConfig(12, 15))),
)
PAPER = Config(vocab=31, positions=21, hidden=13, out=23, layers=LAYERS)
OPTIONS = Config(vocab=31, positions=21, hidden=13, out=23, layers=LAYERS, eps=0.01, causal=True)
BATCH = 5


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def trained(config: Config, seed: int = 1) -> Transformer:
    """A float64 model in which every weight is random, gains and biases too."""
    return init_(Transformer(config).double(), rng(seed))


def tokens(config: Config) -> Tensor:
    """A batch that holds every token and every position."""
    ids = torch.arange(BATCH * config.positions) * 7 % config.vocab
    assert len(ids.unique()) == config.vocab
    return ids.reshape(BATCH, config.positions)


def run(model: Transformer) -> Tensor:
    with torch.no_grad():
        return model(tokens(model.config))


def error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


def change(before: Transformer, after: Transformer) -> float:
    """How far two models' outputs are apart, relative to the largest."""
    return error(run(after), run(before))


# The families, seen through their layouts

GATED = dict(
    vocab_size=97,
    hidden_size=48,
    intermediate_size=70,
    num_hidden_layers=3,
    num_attention_heads=8,
    num_key_value_heads=2,
    head_dim=10,
    rms_norm_eps=1e-2,
)
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "llama": GATED,
    "mistral": GATED,
    "qwen2": GATED,
    "qwen3": GATED,
    "olmo": {**GATED, "clip_qkv": 2.0},
    "gpt2": dict(
        vocab_size=97,
        n_embd=48,
        n_head=6,
        n_inner=70,
        n_layer=3,
        n_positions=33,
        layer_norm_epsilon=1e-2,
    ),
    "bert": dict(
        vocab_size=97,
        hidden_size=48,
        num_attention_heads=6,
        intermediate_size=70,
        num_hidden_layers=3,
        max_position_embeddings=40,
        layer_norm_eps=1e-2,
    ),
}
# Heads that a language model has not.
OTHER_HEADS = ("score", "span", "tag", "choice", "next", "classifier", "tagger", "pooler")


def tensors(layout: Layout, config: Mapping[str, Any], without: tuple[str, ...] = ()) -> dict[str, Header]:
    """Names and shapes of a language model's tensors, but for those of the slots `without`."""
    sizes = Sizes(layout.read(config), layout.sites)
    found: dict[str, Header] = {}
    for line in (line for weight in layout.weights for line in weight.lines()):
        slot = line.slot
        if {slot.stem, slot.name} & {*OTHER_HEADS, *without} or not slot.stored:
            continue
        for index in sizes.indices(name_axes(line.name)):
            if not layout.applies(slot, config, index):
                continue
            shape = line.parsed.shape(lambda axis, i=index: sizes.of(axis, i))
            found[name_of(line, layout.prefixes[0], index, sizes)] = Header(shape, "F64")
    return found


def anatomy(family: str, without: tuple[str, ...] = (), **changes: Any) -> Anatomy:
    """A language model of this family; a tied head is not stored beside the embedding."""
    config = {**CONFIGS[family], **changes, "model_type": family}
    layout = layout_for(family)
    if layout.defaults(config)["tie_word_embeddings"]:
        without = (*without, "head", "decoder", "decoder.bias")
    return match(layout, config, tensors(layout, config, without))


def weights(found: Anatomy, seed: int = 0) -> dict[str, Tensor]:
    """Random float64 tensors of these names and shapes."""
    generator = rng(seed)
    return {
        stored.name: torch.randn(stored.header.shape, generator=generator, dtype=torch.float64)
        for stored in found.stored
    }


def blocks(found: Anatomy, state: Mapping[str, Tensor]) -> dict[Block, Tensor]:
    """Every logical block of a model."""
    read = viewer(found, lambda name: state[name])
    parts = (block for stored in found.stored for _, block in stored.blocks(found.sizes))
    return {block: read(block) for block in parts if block.slot in found.slots}
