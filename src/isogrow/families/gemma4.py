"""Gemma 4: heads of another dim where attention is full, keys and values that the last layers read of layers
before them, which have MLPs twice as wide; behind the MLP an input of each layer's own (layer embeddings)."""

from __future__ import annotations

from isogrow.families.edits import drop, like
from isogrow.families.gemma import GEMMA
from isogrow.families.llama import A, L, M
from isogrow.layouts.layout import Attention, Bias, Key, Kinds, Norm, PerLayer, Rope, Weight
from isogrow.layouts.lines import both

PRE = Norm("rms", "pre", eps="rms_norm_eps")
BRANCH = Norm("rms", "branch", eps="rms_norm_eps")
PART = Norm("rms", "part", eps="rms_norm_eps")
SAID = Bias("attention_bias")

SHARED = "num_kv_shared_layers and layers >= num_hidden_layers - num_kv_shared_layers"
OWN = f"not ({SHARED})"
FULL = "layer_types[layers] == 'full_attention'"
LOCAL = "layer_types[layers] == 'sliding_attention'"
ALIKE = "attention_k_eq_v"  # keys are values, and their heads may have a number of their own
# What the last layer, where attention is full, has of its own: an empty mapping says that it has nothing.
SAID_BY_LAYER = "per_layer_config != 0"
LAST = "per_layer_config[str(num_hidden_layers - 1)]"


def listed(key: str) -> str:
    """Whether the last layer's own value of a config key is said."""
    return f"{SAID_BY_LAYER} and str(num_hidden_layers - 1) in per_layer_config and '{key}' in {LAST}"


FULL_DIM = f"{LAST}['head_dim'] if {listed('head_dim')} else head_dim if {SAID_BY_LAYER} else global_head_dim"
APART = f"{listed('num_key_value_heads')} or (num_global_key_value_heads and not ({SAID_BY_LAYER}))"
APART_HEADS = (
    f"{LAST}['num_key_value_heads'] if {listed('num_key_value_heads')}"
    " else num_global_key_value_heads or num_key_value_heads"
)
WIDE = f"use_double_wide_mlp and ({SHARED})"
EXPERTS = "enable_moe_block"
PLE = "hidden_size_per_layer_input"


def inner(of: str) -> Norm:
    """A norm on each head's queries, keys or values."""
    return Norm("rms", "inner", eps="rms_norm_eps", of=of)


def attention(stem: str, dims: str, when: str) -> tuple[Weight, ...]:
    """The rows of one kind of layer, where keys and values are apart."""
    own, key, value = both(when, OWN), f"{dims}key_dim", f"{dims}value_dim"
    return (
        Weight(A + "q_proj.weight", f"(kv_heads group {key}) <- hidden", f"{stem}.q", bias=SAID, when=when),
        Weight(A + "q_norm.weight", f"* {key}", f"{stem}.q_norm", inner(f"{stem}.q"), when=when),
        Weight(A + "k_proj.weight", f"(kv_heads {key}) <- hidden", f"{stem}.k", bias=SAID, when=own),
        Weight(A + "k_norm.weight", f"* {key}", f"{stem}.k_norm", inner(f"{stem}.k"), when=own),
        Weight(A + "v_proj.weight", f"(kv_heads {value}) <- hidden", f"{stem}.v", bias=SAID, when=own),
        Weight(A + "v_norm", f"* {value}", f"{stem}.v_norm", inner(f"{stem}.v"), stored=False),
        Weight(A + "o_proj.weight", f"hidden <- (kv_heads group {value})", f"{stem}.o", bias=SAID, when=when),
    )


def alike(stem: str, kv_heads: str, group: str, there: str) -> tuple[Weight, ...]:
    """The same where keys are values, too, with heads of these numbers."""
    when = both(FULL, there)
    own, heads, dim = both(when, OWN), f"{kv_heads} {group}", "alike_dim"
    return (
        Weight(A + "q_proj.weight", f"({heads} {dim}) <- hidden", f"{stem}.q", bias=SAID, when=when),
        Weight(A + "q_norm.weight", f"* {dim}", f"{stem}.q_norm", inner(f"{stem}.q"), when=when),
        Weight(A + "k_proj.weight", f"({kv_heads} {dim}) <- hidden", f"{stem}.k", bias=SAID, when=own),
        Weight(A + "k_norm.weight", f"* {dim}", f"{stem}.k_norm", inner(f"{stem}.k"), when=own),
        Weight(A + "v_norm", f"* {dim}", f"{stem}.v_norm", inner(f"{stem}.k"), stored=False, when=there),
        Weight(A + "o_proj.weight", f"hidden <- ({heads} {dim})", f"{stem}.o", bias=SAID, when=when),
    )


def mlp(stem: str, width: str, when: str) -> tuple[Weight, ...]:
    return (
        Weight(M + "gate_proj.weight", f"{width} <- hidden", f"{stem}.gate", when=when),
        Weight(M + "up_proj.weight", f"{width} <- hidden", f"{stem}.up", when=when),
        Weight(M + "down_proj.weight", f"hidden <- {width}", f"{stem}.down", when=when),
    )


ROWS = (
    Weight("embed_tokens.weight", "vocab -> hidden", "embed", times="hidden ** 0.5"),
    Weight(
        "per_layer_model_projection.weight",
        "({layers} ple) <- hidden",
        "ple.context",
        when=PLE,
        times="hidden ** -0.5",
    ),
    Weight("per_layer_projection_norm.weight", "* ple", "ple.norm", inner("ple.context"), when=PLE),
    Weight(
        "embed_tokens_per_layer.weight",
        "ple_vocab -> ({layers} ple)",
        "ple.embed",
        when=PLE,
        times="ple ** 0.5",
    ),
    Weight(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE),
    *attention("attn", "", LOCAL),
    *attention("full", "full_", both(FULL, f"not {ALIKE}")),
    *alike("alike", "kv_heads", "group", f"{ALIKE} and not ({APART})"),
    *alike("apart", "apart_kv_heads", "apart_group", f"{ALIKE} and ({APART})"),
    Weight(L + "post_attention_layernorm.weight", "* hidden", "attn_after", BRANCH),
    Weight(L + "pre_feedforward_layernorm.weight", "* hidden", "mlp_norm", PRE),
    *mlp("mlp", "ffn", f"not ({WIDE})"),
    *mlp("wide", "wide_ffn", WIDE),
    Weight(L + "post_feedforward_layernorm_1.weight", "* hidden", "mlp.part", PART, when=EXPERTS),
    Weight(L + "router.scale", "* hidden", "router.norm", PRE, when=EXPERTS),
    Weight(
        L + "router.proj.weight",
        "experts <- hidden",
        "router",
        when=EXPERTS,
        scales="experts.down",
        idle="top_k_experts == 1",
        times="hidden ** -0.5",
    ),
    Weight(
        L + "router.per_expert_scale",
        "-> experts",
        "router.each",
        when=EXPERTS,
        scales="experts.down",
        centred=True,
    ),
    Weight(L + "pre_feedforward_layernorm_2.weight", "* hidden", "experts.norm", PRE, when=EXPERTS),
    Weight(
        L + "experts.gate_up_proj",
        "{experts} (gate: expert_ffn + up: expert_ffn) <- hidden",
        "experts.*",
        when=EXPERTS,
    ),
    Weight(L + "experts.down_proj", "{experts} hidden <- expert_ffn", "experts.down", when=EXPERTS),
    Weight(L + "post_feedforward_layernorm_2.weight", "* hidden", "experts.part", PART, when=EXPERTS),
    Weight(L + "post_feedforward_layernorm.weight", "* hidden", "mlp_after", BRANCH),
    Weight(L + "per_layer_input_gate.weight", "ple <- hidden", "ple.gate", when=PLE),
    Weight(L + "per_layer_projection.weight", "hidden <- ple", "ple.out", when=PLE),
    Weight(L + "post_per_layer_input_norm.weight", "* hidden", "ple_after", BRANCH, when=PLE),
    Weight(L + "layer_scalar", "-> 1", "scalar", unit=True, idle="True"),
    Weight("norm.weight", "* hidden", "final_norm", PRE),
    *GEMMA.weights[-3:],
)

GEMMA4 = like(
    GEMMA,
    "gemma4_text",
    weights=ROWS,
    axes={
        **GEMMA.axes,
        "wide_ffn": "2 * intermediate_size",
        "full_key_dim": FULL_DIM,
        "full_value_dim": FULL_DIM,
        "alike_dim": FULL_DIM,
        "apart_kv_heads": APART_HEADS,
        "apart_group": f"num_attention_heads // ({APART_HEADS})",
        "ple": "hidden_size_per_layer_input",
        "experts": "num_experts or None",
        "expert_ffn": "moe_intermediate_size or None",
        "ple_vocab": "vocab_size_per_layer_input",
    },
    follows={"wide_ffn": "2 * ffn", "apart_group": "kv_heads * group // apart_kv_heads"},
    defaults=dict(
        vocab_size=262144,
        hidden_size=2304,
        intermediate_size=9216,
        num_hidden_layers=30,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
    ),
    more=(
        Key("attention_bias", default=False),
        Key("global_head_dim", default=512),
        Key("num_global_key_value_heads", default=0),
        Key("per_layer_config", default=0),
        Key("attention_k_eq_v", default=False),
        Key("num_kv_shared_layers", default=0),
        Key("use_double_wide_mlp", default=False),
        Key("enable_moe_block", default=False),
        Key("num_experts", default=0),
        Key("top_k_experts", default=0),
        Key("moe_intermediate_size", "expert_ffn", 0, when="enable_moe_block"),
        Key("hidden_size_per_layer_input", default=256),
        Key("vocab_size_per_layer_input", default=262144),
    ),
    attentions=(
        Attention(
            scale="",
            rope=Rope(
                theta=("rope_parameters.sliding_attention.rope_theta",),
                scaling=("rope_parameters.sliding_attention",),
            ),
        ),
        Attention("full.q", "full.k", "full.v", "full_key_dim", scale=""),
        Attention("alike.q", "alike.k", "alike.k", "alike_dim", scale=""),
        Attention("apart.q", "apart.k", "apart.k", "alike_dim", scale=""),
    ),
    per_layer=(
        PerLayer(
            "layer_types",
            "'sliding_attention' if (i + 1) % 6 and i + 1 < num_hidden_layers else 'full_attention'",
        ),
        PerLayer("per_layer_config", mapped=True),
    ),
    kinds=(Kinds("num_kv_shared_layers", SHARED, counts=True),),
    fixed=GEMMA.fixed | {"ple_vocab", "experts"},
    constraints=("key_dim == value_dim", "kv_heads * group % apart_kv_heads == 0"),
)

INPUTS = "ple.context ple.norm ple.embed ple.gate ple.out ple_after"
SPARSE = "mlp.part router.norm router router.each experts.norm experts.* experts.down experts.part"
LACKED = ("ple", "ple_vocab", "experts", "expert_ffn")
UNIFIED = like(
    GEMMA4,
    "gemma4_unified_text",
    drop(f"{INPUTS} {SPARSE}"),
    axes={name: said for name, said in GEMMA4.axes.items() if name not in LACKED},
    lacks="enable_moe_block num_experts top_k_experts moe_intermediate_size hidden_size_per_layer_input"
    " vocab_size_per_layer_input",
    fixed=GEMMA.fixed,
)

LAYOUTS = (GEMMA4, UNIFIED)
