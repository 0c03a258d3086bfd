"""Llama 4: a mixture of experts in some layers, whose router scales what an expert reads."""

from __future__ import annotations

from isogrow.families.edits import alter, drop, like, swap, with_defaults
from isogrow.families.experts import shared_readers, shared_writer
from isogrow.families.llama import EQUAL, LLAMA, MLP, L
from isogrow.families.nanochat import NO_GAIN
from isogrow.layouts.layout import Attention, Bias, Key, Kinds, PerLayer, Rope, Weight

SAID = Bias("attention_bias")
MIXED, STEP = "layers in moe_layers", "interleave_moe_layer_step"
X = L + "feed_forward."

LLAMA4 = like(
    LLAMA,
    "llama4_text",
    alter("attn.q attn.k attn.v attn.o", bias=SAID),
    swap(
        MLP,
        Weight(X + "gate_proj.weight", "ffn <- hidden", "mlp.gate", when=f"not {MIXED}"),
        Weight(X + "up_proj.weight", "ffn <- hidden", "mlp.up", when=f"not {MIXED}"),
        Weight(X + "down_proj.weight", "hidden <- ffn", "mlp.down", when=f"not {MIXED}"),
        # A sigmoid of its logit multiplies what an expert reads.
        Weight(X + "router.weight", "experts <- hidden", "router", when=MIXED, scales="experts.down"),
        Weight(
            X + "experts.gate_up_proj",
            "{experts} hidden -> (gate: expert_ffn + up: expert_ffn)",
            "experts.*",
            when=MIXED,
        ),
        *shared_readers(X + "shared_expert.", "expert_ffn", MIXED),
        Weight(X + "experts.down_proj", "{experts} expert_ffn -> hidden", "experts.down", when=MIXED),
        shared_writer(X + "shared_expert.", "expert_ffn", MIXED),
    ),
    drop("score span"),
    axes={
        **LLAMA.axes,
        "ffn": "intermediate_size_mlp",
        "expert_ffn": "intermediate_size",
        "experts": "num_local_experts",
    },
    keys=(
        *with_defaults(
            tuple(
                Key(key.name, "expert_ffn") if key.name == "intermediate_size" else key for key in LLAMA.keys
            ),
            intermediate_size=8192,
            vocab_size=202048,
            hidden_size=5120,
            num_hidden_layers=48,
            num_attention_heads=40,
            num_key_value_heads=8,
            head_dim=128,
            rms_norm_eps=1e-5,
            attention_bias=False,
            use_qk_norm=True,
            interleave_moe_layer_step=1,
            moe_layers=f"list(range({STEP} - 1, num_hidden_layers, {STEP}))",
            no_rope_layer_interval=4,
        ),
        Key("intermediate_size_mlp", "ffn", 16384),
        Key("num_local_experts", "experts", 16),
    ),
    attentions=(Attention(rope=Rope("adjacent", default=500000.0, everywhere=False)),),
    constraints=EQUAL,
    kinds=(Kinds("moe_layers", MIXED),),
    per_layer=(
        PerLayer("no_rope_layers", "int((i + 1) % no_rope_layer_interval != 0)"),
        PerLayer("layer_types"),
    ),
    fixed=LLAMA.fixed | {"experts"},
    refusals={"key_dim": NO_GAIN, "value_dim": NO_GAIN},
    kept=("rms_norm_eps",),
)

LAYOUTS = (LLAMA4,)
