"""Building the paper's model for sizes that a plan ends in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from isogrow.layouts.layout import Index
from isogrow.paper.model import Config, HeadConfig, LayerConfig, Transformer
from isogrow.plans.sizes import Sizes


def build(config: Mapping[str, Any], sizes: Sizes) -> Transformer:
    """An unfilled model with the options of `config` and these sizes, layer by layer, head by head."""
    layers = tuple(_layer(sizes, (("layers", i),)) for i in range(sizes.of("layers")))
    options = Config.from_dict(config)
    return Transformer(replace(options, hidden=sizes.of("hidden"), layers=layers))


def _layer(sizes: Sizes, at: Index) -> LayerConfig:
    sites = [(*at, ("heads", e)) for e in range(sizes.of("heads", at))]
    heads = (HeadConfig(sizes.of("key_dim", site), sizes.of("value_dim", site)) for site in sites)
    return LayerConfig(sizes.of("ffn", at), tuple(heads))
