"""Tiny twins: a config of the same model type and the same flags, whose sizes are small and distinct.

A size is known by its key's name; keys that no word here names keep their values. Lists with an entry for
each layer keep an entry of each kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from isogrow.layouts.config import Config

# What sizes are called in configs, and how small each is made.
WORDS: Mapping[str, tuple[str, ...]] = {
    "hidden": ("hidden_size", "n_embd", "d_model", "emb_dim", "embedding_dim", "word_embed_proj_dim",
               "embedding_size", "embed_dim", "dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads",
              "decoder_attention_heads", "encoder_attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "num_query_groups"),
    "head_dim": ("head_dim", "kv_channels", "attention_head_dim", "attention_head_size", "dim_head"),
    "ffn": ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size", "decoder_ffn_dim",
            "encoder_ffn_dim", "dim_ff", "dff", "feed_forward_size", "hidden_dim"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers",
               "depth"),
    "vocab": ("vocab_size",),
    "positions": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "model_max_length"),
    "expert_ffn": ("moe_intermediate_size",),
    "shared_ffn": ("shared_expert_intermediate_size", "shared_intermediate_size"),
    "dense_ffn": ("intermediate_size_mlp", "dense_intermediate_size"),
    "experts": ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    "shared": ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"),
    "q_rank": ("q_lora_rank",),
    "kv_rank": ("kv_lora_rank",),
    "nope_dim": ("qk_nope_head_dim",),
    "rope_dim": ("qk_rope_head_dim",),
    "value_dim": ("v_head_dim",),
    "turning": ("rotary_dim",),
    "qk_dim": ("qk_head_dim",),
    "out": ("out_hidden_size", "output_dim", "projection_dim"),
    "top": ("num_experts_per_tok", "moe_k", "moe_topk"),
    "per_layer": ("hidden_size_per_layer_input",),
    "per_layer_vocab": ("vocab_size_per_layer_input",),
}  # fmt: skip
TINY: Mapping[str, int] = {
    "hidden": 48, "heads": 6, "kv_heads": 2, "head_dim": 12, "ffn": 38, "layers": 4, "vocab": 101,
    "positions": 64, "expert_ffn": 22, "shared_ffn": 26, "dense_ffn": 34, "experts": 5, "shared": 2,
    "q_rank": 14, "kv_rank": 18, "nope_dim": 10, "rope_dim": 4, "value_dim": 11, "turning": 4,
    "qk_dim": 14, "top": 2, "out": 20,
    "per_layer": 6, "per_layer_vocab": 101,
}  # fmt: skip

# What depends on how many layers, groups or experts there are.
COUNTS: Mapping[str, int] = {
    "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1, 
    "max_window_layers": 2, "num_dense_layers": 1, "sliding_window": 7, "attention_chunk_size": 7,
    "mamba_n_heads": 12, "mamba_d_head": 8, "mamba_d_state": 7, "mamba_d_ssm": 96, "mamba_chunk_size": 4,
    "entity_vocab_size": 60, "index_topk": 4, "image_size": 32, "patch_size": 8, "max_source_positions": 24,
}  # fmt: skip

# Widths that a config says once more: no model that is drafted has them differ.
BESIDE = ("word_embed_proj_dim", "embedding_size")
# Where a backbone is read, which a config class names by how many layers there are.
READ, STAGES = ("out_features", "out_indices"), "stage_names"
SECTIONS = "mrope_section"
EACH = "_per_layer"  # how keys end that say a size for each layer
TOKENS = {
    "pad_token_id": TINY["vocab"] - 1, "bos_token_id": 1, "eos_token_id": 2,
    "image_token_id": TINY["vocab"] - 2, "video_token_id": TINY["vocab"] - 3,
}  # fmt: skip
# Lists of numbers of layers, and how the names of such lists end.
NUMBERS = ("_indices", "_indexes", "_layers", "_layer_ids")
NUMBERED: Mapping[str, tuple[int, ...]] = {"deepstack_visual_indexes": (0, 1), "fullatt_block_indexes": (1,)}


def word_of(key: str) -> str:
    """The word for what a key holds; "" if it is not known as a size."""
    return next((word for word, keys in WORDS.items() if key in keys), "")


def twin(config: Config, **sizes: int | None) -> dict[str, Any]:
    """The config of a tiny twin; `sizes` by config key are said instead of the tiny ones.

    >>> twin({"model_type": "llama", "hidden_size": 4096, "head_dim": 128, "attention_bias": True})
    {'model_type': 'llama', 'hidden_size': 48, 'head_dim': 12, 'attention_bias': True}
    """
    found = dict(config)
    for key, value in config.items():
        tiny = TINY.get(word_of(key)) or COUNTS.get(key)
        if tiny is not None and isinstance(value, int) and not isinstance(value, bool) and value > 0:
            found[key] = tiny
        elif key in NUMBERED:
            found[key] = list(NUMBERED[key])
        elif key.endswith(("token_id", "token_index")) and _too_large(value):
            found[key] = TOKENS.get(key.replace("index", "id"), 1)
    found |= {key: value for key, value in sizes.items() if value is not None}
    found |= _listed(config, found)
    found |= {
        key: [TINY[word_of(key.removesuffix(EACH))]] * len(found[key])
        for key in found
        if key.endswith(EACH) and word_of(key.removesuffix(EACH)) and isinstance(found[key], list)
    }
    found |= {key: _sectioned(value, found) for key, value in found.items() if isinstance(value, Mapping)}
    return {key: None if key in READ else value for key, value in found.items() if key != STAGES}


def _too_large(token: Any) -> bool:
    return isinstance(token, list) or (isinstance(token, int) and token >= TINY["vocab"])


def _sectioned(table: Mapping[str, Any], tiny: Config) -> dict[str, Any]:
    """A rotary table whose sections (time, height, width) have as many pairs as a tiny head turns."""
    if not isinstance(table.get(SECTIONS), list):
        return dict(table)
    said = {word_of(key): value for key, value in tiny.items() if isinstance(value, int)}
    dim = said.get("head_dim") or said.get("hidden", 0) // said.get("heads", 1)
    pairs = int(dim * table.get("partial_rotary_factor", 1.0)) // 2
    third = pairs // 3
    return {**table, SECTIONS: [pairs - 2 * third, third, third]}


def depth_key(config: Config) -> str:
    """The key that says how many layers there are; "" where no key is known."""
    return next((key for key in WORDS["layers"] if isinstance(config.get(key), int)), "")


def numbering(config: Config) -> Iterator[str]:
    """The keys that list layers by their numbers."""
    for key, value in config.items():
        listed = cast("list[Any]", value) if key.endswith(NUMBERS) and isinstance(value, list) else []
        if listed and all(type(each) is int for each in listed):
            yield key


def lists(config: Config) -> Iterator[str]:
    """The keys that list something for each layer."""
    depth = config.get(depth_key(config)) if depth_key(config) else None
    for key, value in config.items():
        if isinstance(value, list) and depth and len(cast("list[Any]", value)) == depth:
            yield key


def _listed(config: Config, tiny: Config) -> dict[str, Any]:
    """The lists of a twin: of each kind of layer its first, then those that come first."""
    keys = list(lists(config))
    if not keys:
        return {}
    count = int(tiny[depth_key(config)])
    kinds = [tuple(map(str, entries)) for entries in zip(*(config[key] for key in keys), strict=True)]
    first = sorted({kind: kinds.index(kind) for kind in reversed(kinds)}.values())
    rest = [i for i in range(len(kinds)) if i not in first]
    chosen = sorted((first + rest)[:count])
    chosen += [len(kinds) - 1] * (count - len(chosen))
    return {key: [config[key][i] for i in chosen] for key in keys}
