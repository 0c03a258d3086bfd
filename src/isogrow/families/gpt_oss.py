"""GPT-OSS: experts with biases, stored input × output, gate and up interleaved; attention sinks."""

from __future__ import annotations

from isogrow.families.edits import after, alter, like, swap
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, A, M
from isogrow.layouts.layout import Attention, Bias, Key, PerLayer, Rope, Weight

E = M + "experts."
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

GPT_OSS = like(
    LLAMA,
    "gpt_oss",
    alter(ATTENTION, bias=Bias("attention_bias")),
    after("attn.v", Weight(A + "sinks", "-> (kv_heads group)", "attn.sinks")),
    swap(
        MLP,
        Weight(
            M + "router.weight",
            "experts <- hidden",
            "router",
            bias=Bias(idle=ONE),
            scales="experts.down",
            idle=ONE,
        ),
        Weight(E + "gate_up_proj", f"{{experts}} hidden -> {GATE_UP}", "experts.*", bias=Bias()),
        Weight(E + "down_proj", "{experts} ffn -> hidden", "experts.down", bias=Bias()),
    ),
    axes={**LLAMA.axes, "experts": "num_local_experts"},
    defaults=dict(
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
    more=(Key("num_local_experts", "experts", 128),),
    attentions=(Attention(rope=Rope(default=150000.0, filled=YARN), sink="attn.sinks"),),
    per_layer=(PerLayer("layer_types", "'sliding_attention' if (i + 1) % 2 else 'full_attention'"),),
    constraints=EQUAL,
    fixed=LLAMA.fixed | {"experts"},
)

LAYOUTS = (GPT_OSS,)
