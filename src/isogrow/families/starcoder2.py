"""StarCoder2: LayerNorm before each branch, grouped queries with RoPE, a plain MLP, biases by config."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.heads import HEADS
from isogrow.families.llama import KEYS, LLAMA, WEIGHTS, L, biased, line, with_defaults, without
from isogrow.layout import Norm, Weight

PRE = Norm("layer", "pre", eps="norm_epsilon")
BIAS = "use_bias"

STARCODER2 = replace(
    LLAMA,
    family="starcoder2",
    model_types=("starcoder2",),
    weights=(
        Weight("embed_tokens.weight", "vocab -> hidden", "embed"),
        Weight(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE),
        Weight(L + "input_layernorm.bias", "-> hidden", "attn_norm.bias", PRE),
        *biased(WEIGHTS[line(WEIGHTS, "attn.q") : line(WEIGHTS, "mlp_norm")], BIAS),
        Weight(L + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE),
        Weight(L + "post_attention_layernorm.bias", "-> hidden", "mlp_norm.bias", PRE),
        Weight(L + "mlp.c_fc.weight", "ffn <- hidden", "mlp.up"),
        Weight(L + "mlp.c_fc.bias", "-> ffn", "mlp.up.bias", when=BIAS),
        Weight(L + "mlp.c_proj.weight", "hidden <- ffn", "mlp.down"),
        Weight(L + "mlp.c_proj.bias", "-> hidden", "mlp.down.bias", when=BIAS),
        Weight("norm.weight", "* hidden", "final_norm", PRE),
        Weight("norm.bias", "-> hidden", "final_norm.bias", PRE),
        *HEADS,
    ),
    keys=with_defaults(
        without(KEYS, "rms_norm_eps"),
        vocab_size=49152,
        hidden_size=3072,
        intermediate_size=12288,
        num_hidden_layers=30,
        num_attention_heads=24,
        num_key_value_heads=2,
        norm_epsilon=1e-5,
        use_bias=True,
        tie_word_embeddings=True,
    ),
    constraints=("key_dim == value_dim",),
)

LAYOUTS = (STARCODER2,)
