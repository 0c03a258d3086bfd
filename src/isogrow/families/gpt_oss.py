"""GPT-OSS: experts with biases, stored input × output, gate and up interleaved; attention sinks."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.llama import KEYS, LLAMA, WEIGHTS, L, line, with_defaults
from isogrow.layout import Attention, Key, PerLayer, Rope, Weight

E = L + "mlp.experts."
ROUTER = L + "mlp.router."
GATE_UP = "(ffn (gate: 1 + up: 1))"
ONE = "num_experts_per_tok == 1"  # its weight is then 1, whatever the router says

# The class fills in a scaling where the config has none.
YARN = (
    ("rope_type", "yarn"),
    ("factor", 32.0),
    ("beta_fast", 32.0),
    ("beta_slow", 1.0),
    ("truncate", False),
    ("original_max_position_embeddings", 4096),
)

_O, _MLP, _FINAL = line(WEIGHTS, "attn.o"), line(WEIGHTS, "mlp.gate"), line(WEIGHTS, "final_norm")


def _biased(weight: Weight) -> Weight:
    biased = weight.slot.startswith("attn.") and weight.slot.endswith(".bias")
    return replace(weight, when="attention_bias", required=True) if biased else weight


GPT_OSS = replace(
    LLAMA,
    family="gpt_oss",
    model_types=("gpt_oss",),
    weights=(
        *map(_biased, WEIGHTS[:_O]),
        Weight(L + "self_attn.sinks", "-> (kv_heads group)", "attn.sinks"),
        *map(_biased, WEIGHTS[_O:_MLP]),
        Weight(ROUTER + "weight", "experts <- hidden", "router", scales="experts.down", idle=ONE),
        Weight(ROUTER + "bias", "-> experts", "router.bias", idle=ONE),
        Weight(E + "gate_up_proj", f"{{experts}} hidden -> {GATE_UP}", "experts.*"),
        Weight(E + "gate_up_proj_bias", f"{{experts}} -> {GATE_UP}", "experts.*.bias"),
        Weight(E + "down_proj", "{experts} ffn -> hidden", "experts.down"),
        Weight(E + "down_proj_bias", "{experts} -> hidden", "experts.down.bias"),
        *WEIGHTS[_FINAL:],
    ),
    axes={**LLAMA.axes, "experts": "num_local_experts"},
    keys=(
        *with_defaults(
            KEYS,
            vocab_size=201088,
            hidden_size=2880,
            intermediate_size=2880,
            num_hidden_layers=36,
            num_attention_heads=64,
            num_key_value_heads=8,
            head_dim=64,
            rms_norm_eps=1e-5,
            attention_bias=True,
            num_experts_per_tok=4,
        ),
        Key("num_local_experts", "experts", 128),
    ),
    attentions=(Attention(rope=Rope(default=150000.0, filled=YARN), sink="attn.sinks"),),
    per_layer=(PerLayer("layer_types", "'sliding_attention' if (i + 1) % 2 else 'full_attention'"),),
    constraints=("key_dim == value_dim",),
    fixed=LLAMA.fixed | {"experts"},
)

LAYOUTS = (GPT_OSS,)
