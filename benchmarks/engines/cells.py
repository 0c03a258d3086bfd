"""The cells that were measured (cells.tsv), and the configs and growths that they are of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from math import inf
from pathlib import Path
from typing import Any

from isogrow.families import layout_for
from isogrow.plans.expansions import At

CELLS = Path(__file__).with_name("cells.tsv")
ROWS = Path(__file__).with_name("rows.jsonl")
Sizes = Mapping[str, Any]
THETA = 7777.0


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    engine: str
    version: str
    family: str
    keys: str
    axis: str
    verdict: str
    figure: str = ""


def cells() -> Iterator[Cell]:
    """The first measurements."""
    for line in CELLS.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            yield Cell(*line.split("\t"))


def later(made: str = "plainly") -> Iterator[Cell]:
    """What was run since, as it was grown plainly, or `for it`: the engine."""
    for row in map(json.loads, ROWS.read_text(encoding="utf-8").splitlines()):
        if row["made"] == made:
            figure = min(row.get("figure", inf), row.get("named", inf))
            yield Cell(*(row[field.name] for field in fields(Cell)[:-1]), f"{figure:g}")


# ── the small models, as the file's head says them ──

NEW_NAMES = dict(
    hidden_size=64,
    intermediate_size=112,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
)
OWN: Mapping[str, Sizes] = {
    "gpt2": dict(n_embd=64, n_inner=256, n_layer=4, n_head=4, layer_norm_epsilon=1e-2),
    "gptj": dict(n_embd=64, n_inner=256, n_layer=4, n_head=4, rotary_dim=8, layer_norm_epsilon=1e-2),
    "bloom": dict(hidden_size=64, n_layer=4, n_head=4, layer_norm_epsilon=1e-2),
    "falcon": dict(
        hidden_size=64,
        ffn_hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        layer_norm_epsilon=1e-2,
    ),
    "opt": dict(
        hidden_size=64, word_embed_proj_dim=64, ffn_dim=256, num_hidden_layers=4, num_attention_heads=4
    ),
    "mt5": dict(d_model=64, d_kv=16, d_ff=112, num_layers=4, num_heads=4, layer_norm_epsilon=1e-2),
    "bart": dict(
        d_model=64,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=112,
        decoder_ffn_dim=112,
        max_position_embeddings=64,
    ),
    "t5": dict(d_model=64, d_kv=16, d_ff=112, num_layers=4, num_heads=4, layer_norm_epsilon=1e-2),
    "bert": dict(hidden_size=64, intermediate_size=112, num_hidden_layers=4, num_attention_heads=4),
}
# Types whose first cells are in rows.jsonl: what their configs say beside NEW_NAMES.
MIXTURE = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=112)
STATES = dict(mamba_n_heads=8, mamba_d_head=16, mamba_d_state=16, mamba_n_groups=1)
NEWER: Mapping[str, Sizes] = {
    "bamba": dict(**STATES, attn_layer_indices=[1, 3]),
    "bart": OWN["bart"],
    "ernie4_5": {},
    "exaone4": dict(sliding_window=8, sliding_window_pattern=4),
    "falcon_h1": dict(**STATES, mamba_d_ssm=128),
    "glm4_moe": dict(
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=112,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
        partial_rotary_factor=0.5,
        rope_scaling=None,
    ),
    "granitemoehybrid": dict(
        layer_types=["mamba", "attention", "mamba", "attention"],
        **STATES,
        num_local_experts=4,
        num_experts_per_tok=2,
        shared_intermediate_size=112,
        position_embedding_type="rope",
    ),
    "hunyuan_v1_dense": {},
    "lfm2": dict(
        layer_types=["conv", "full_attention", "conv", "full_attention"],
        conv_L_cache=3,
        conv_dim=64,
        block_dim=64,
        block_ff_dim=112,
        block_auto_adjust_ff_dim=False,
        block_multiple_of=16,
        block_ffn_dim_multiplier=1.0,
        norm_eps=1e-2,
    ),
    "mamba2": dict(num_heads=8, head_dim=16, state_size=16, n_groups=1, expand=2),
    "mt5": OWN["mt5"],
    "nemotron_h": dict(
        layers_block_type=["linear_attention", "mlp", "full_attention", "mlp"],
        mamba_num_heads=8,
        mamba_head_dim=16,
        n_groups=1,
        ssm_state_size=16,
        layer_norm_epsilon=1e-2,
    ),
    "olmo3": {},
    "qwen3_moe": dict(**MIXTURE, decoder_sparse_step=1, mlp_only_layers=[], norm_topk_prob=True),
    "qwen3_next": dict(
        **MIXTURE,
        shared_expert_intermediate_size=112,
        linear_num_key_heads=2,
        linear_key_head_dim=16,
        linear_num_value_heads=4,
        linear_value_head_dim=16,
        linear_conv_kernel_dim=4,
        partial_rotary_factor=0.25,
        decoder_sparse_step=1,
        mlp_only_layers=[],
    ),
    "seed_oss": {},
}
USUAL = ("hidden", "hidden2", "heads", "kv", "hd2", "hd24", "ffn", "ffnodd", "layers", "layers0", "all")
COPIES = tuple(axis for axis in USUAL if axis != "hd24")  # heads are normalised, so they are copied whole
FEWER: Mapping[str, tuple[str, ...]] = {
    "bamba": ("hidden2", "heads", "kv", "ffn", "ffnodd", "layers", "layers0"),
    "nemotron_h": USUAL[1:],
    "bart": ("ffn", "ffnodd"),
    "mt5": ("hidden", "hidden2", "heads", "hd2", "ffn", "ffnodd", "layers", "all"),
    **dict.fromkeys(("exaone4", "hunyuan_v1_dense", "lfm2", "olmo3", "qwen3_moe", "qwen3_next"), COPIES),
    "granitemoehybrid": USUAL[1:],
    "mamba2": ("hidden2", "layers", "layers0"),
}
WIDE_HEADS = ("gemma", "gemma2", "gemma3_text", "qwen3")
MORE: Mapping[str, Sizes] = {
    "gemma2": dict(query_pre_attn_scalar=32),
    "gemma3_text": dict(query_pre_attn_scalar=32, num_hidden_layers=6),
    "mixtral": dict(num_local_experts=4),
    "phi": dict(num_key_value_heads=4),
    **NEWER,
}


def source(family: str, keys: str) -> dict[str, Any]:
    """A small model's config.json."""
    if family in OWN:
        own = {**OWN[family], "vocab_size": 512}
        return {**own, **(_theta(keys) if family == "falcon" else {}), "model_type": family}
    eps = {key.name: 1e-2 for key in layout_for(family).keys if key.name.endswith(("_eps", "_epsilon"))}
    found = {**NEW_NAMES, **eps, "vocab_size": 512, "head_dim": 32 if family in WIDE_HEADS else 16}
    if family == "gemma3_text":
        theta: dict[str, Any] = dict(rope_theta=77777.0, rope_local_base_freq=THETA)
        if keys == "5":
            kinds = {"full_attention": 77777.0, "sliding_attention": THETA}
            theta = {"rope_parameters": {kind: {"rope_theta": value} for kind, value in kinds.items()}}
    else:
        theta = _theta(keys)
    return {**found, **theta, **MORE.get(family, {}), "model_type": family}


def _theta(keys: str) -> dict[str, Any]:
    return {"rope_theta": THETA} if keys == "4" else {"rope_parameters": {"rope_theta": THETA}}


# ── the growths ──

JOINT = (
    "bart",
    "gpt2",
    "gptj",
    "bloom",
    "falcon",
    "opt",
    "gpt_neox",
    "bert",
)  # hidden is heads times head_dim
COPIED = ("olmo2", "olmo3")  # heads come as multiples, and were not grown together with the head dim

EXPERTS = ("glm4_moe", "qwen3_moe", "qwen3_next")  # whose inner width is their experts'


def growth(family: str, axis: str) -> tuple[Sizes, At]:
    """(sizes, where layers go) of one axis."""
    joint = family in JOINT
    head = 32 if family in WIDE_HEADS else 16
    ffn = "x1.5" if joint else "x2"  # in `all` that of GPT-2 and its like is not 4 times hidden
    beside: Sizes = {} if joint or family in COPIED else {"head_dim": 2 * head}
    layers = {} if family == "bert" else {"layers": "+1"}
    narrow: Sizes = {"head_dim": 24} if family == "falcon" else {"heads": 6} if joint else {}
    inner = "expert_ffn" if family in EXPERTS else "ffn"
    wide = {inner: ffn} if family != "bloom" else {}
    known: Mapping[str, Sizes] = {
        "hidden": {"hidden": 96, **narrow},
        "hidden2": {"hidden": 128, **({"heads": 8} if joint else {})},
        "hidden2d": {"hidden": 128, "head_dim": 32},
        "heads": {"heads": 8},
        "kv": {"kv_heads": 4},
        "hd2": {"head_dim": 2 * head},
        "hd24": {"head_dim": 40 if head == 32 else 24},
        "ffn": {inner: "x2"},
        "ffnodd": {inner: 117 if not joint else 261},
        "layers": {"layers": "+1"},
        "layers0": {"layers": "+1"},
        "coupled": {"hidden": 128, "heads": 8},
        "all": {"hidden": 128, "heads": 8, **beside, **wide, **layers},
    }
    return known[axis], "start" if axis == "layers0" else "end"
