"""StableLM: LayerNorms, a gated MLP that may run beside attention, a part of each head rotates, and each head
may normalise its queries and keys by a gain of its own."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.heads import HEADS
from isogrow.families.llama import KEYS, LLAMA, WEIGHTS, L, biased, line, with_defaults, without
from isogrow.families.phi3 import SHARE
from isogrow.layout import Attention, Norm, Rope, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
Q_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.q")
K_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.k")
A = L + "self_attn."
_Q, _V, _O = line(WEIGHTS, "attn.q"), line(WEIGHTS, "attn.v"), line(WEIGHTS, "attn.o")
BIAS, NORMED, PARALLEL = "use_qkv_bias", "qk_layernorm", "use_parallel_residual"


def _read(when: str) -> tuple[Weight, ...]:
    """The MLP's first projections."""
    return (
        Weight(L + "mlp.gate_proj.weight", "ffn <- hidden", "mlp.gate", when=when),
        Weight(L + "mlp.up_proj.weight", "ffn <- hidden", "mlp.up", when=when),
    )


STABLELM = replace(
    LLAMA,
    family="stablelm",
    model_types=("stablelm",),
    weights=(
        Weight("embed_tokens.weight", "vocab -> hidden", "embed"),
        Weight(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE),
        Weight(L + "input_layernorm.bias", "-> hidden", "attn_norm.bias", PRE),
        *biased(WEIGHTS[_Q:_V], BIAS),
        Weight(
            A + "q_layernorm.norms.{kv_heads group}.weight", "* key_dim", "attn.q_norm", Q_NORM, when=NORMED
        ),
        Weight(A + "k_layernorm.norms.{kv_heads}.weight", "* key_dim", "attn.k_norm", K_NORM, when=NORMED),
        *biased(WEIGHTS[_V:_O], BIAS),
        *_read(PARALLEL),
        WEIGHTS[_O],
        Weight(L + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE, when=f"not {PARALLEL}"),
        Weight(
            L + "post_attention_layernorm.bias", "-> hidden", "mlp_norm.bias", PRE, when=f"not {PARALLEL}"
        ),
        *_read(f"not {PARALLEL}"),
        Weight(L + "mlp.down_proj.weight", "hidden <- ffn", "mlp.down"),
        Weight("norm.weight", "* hidden", "final_norm", PRE),
        Weight("norm.bias", "-> hidden", "final_norm.bias", PRE),
        *HEADS,
    ),
    axes={
        **LLAMA.axes,
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
    },
    keys=with_defaults(
        without(KEYS, "rms_norm_eps"),
        vocab_size=50304,
        hidden_size=2560,
        intermediate_size=6912,
        num_key_value_heads=32,
        layer_norm_eps=1e-5,
        use_qkv_bias=False,
        qk_layernorm=False,
        use_parallel_residual=False,
    ),
    attentions=(Attention(rope=Rope(share=SHARE, portion=0.25)),),
    constraints=("key_dim == value_dim", "kv_heads * group * key_dim == hidden"),
)

LAYOUTS = (STABLELM,)
