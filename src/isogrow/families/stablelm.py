"""StableLM: LayerNorms, a gated MLP that may run beside attention, a part of each head rotates, and each head
may normalise its queries and keys by a gain of its own."""

from __future__ import annotations

from isogrow.families.edits import after, alter, before, like, swap
from isogrow.families.heads import BIAS, HEADS
from isogrow.families.llama import LLAMA, A, M
from isogrow.families.phi3 import SHARE
from isogrow.layouts.layout import Attention, Bias, Norm, Rope, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
Q_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.q")
K_NORM = Norm("layer", "inner", eps="layer_norm_eps", of="attn.k")
NORMED, PARALLEL = "qk_layernorm", "use_parallel_residual"


def _read(when: str) -> tuple[Weight, ...]:
    """The MLP's first projections."""
    return (
        Weight(M + "gate_proj.weight", "ffn <- hidden", "mlp.gate", when=when),
        Weight(M + "up_proj.weight", "ffn <- hidden", "mlp.up", when=when),
    )


STABLELM = like(
    LLAMA,
    "stablelm",
    alter("attn_norm final_norm", norm=PRE, bias=BIAS),
    alter("attn.q attn.k attn.v", bias=Bias("use_qkv_bias")),
    after(
        "attn.k",
        Weight(
            A + "q_layernorm.norms.{kv_heads group}.weight", "* key_dim", "attn.q_norm", Q_NORM, when=NORMED
        ),
        Weight(A + "k_layernorm.norms.{kv_heads}.weight", "* key_dim", "attn.k_norm", K_NORM, when=NORMED),
    ),
    alter("mlp_norm", norm=PRE, bias=BIAS, when=f"not {PARALLEL}"),
    swap("mlp.gate mlp.up", *_read(f"not {PARALLEL}")),
    before("attn.o", *_read(PARALLEL)),
    alter("attn.o mlp.down", bias=None),
    swap("head score span", *HEADS),
    axes={
        **LLAMA.axes,
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
    },
    lacks="rms_norm_eps",
    defaults=dict(
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
