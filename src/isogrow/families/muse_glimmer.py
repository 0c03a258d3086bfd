"""The language model of Muse Glimmer: norms without a gain on embeddings, queries and keys, a gate on what
attention gives, norms on what branches give, and no positions in layers without a window."""

from __future__ import annotations

from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.llama import ATTENTION, LLAMA, MLP, A, L
from isogrow.families.nanochat import NO_GAIN, POST
from isogrow.families.nanochat import PRE as PLAIN
from isogrow.layouts.layout import Attention, Bias, Norm, PerLayer, Rope, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps", offset=1.0)
BRANCH = Norm("rms", "branch", eps="post_norm_eps", offset=1.0)
FULL = "(num_hidden_layers - 1 - i) % 4 == 0"

MUSE_GLIMMER = like(
    LLAMA,
    "muse_glimmer_text",
    swap("embed", LLAMA.weights[0], Weight("embed_norm", "* hidden", "embed_norm", POST, stored=False)),
    alter("attn_norm", norm=PRE),
    alter(ATTENTION, bias=Bias("attention_bias")),
    after(
        "attn.k",
        Weight(
            A + "q_norm",
            "* key_dim",
            "attn.q_norm",
            Norm("rms", "inner", "rms_norm_eps", "attn.q"),
            stored=False,
        ),
        Weight(
            A + "k_norm",
            "* key_dim",
            "attn.k_norm",
            Norm("rms", "inner", "rms_norm_eps", "attn.k"),
            stored=False,
        ),
    ),
    after("attn.v", Weight(A + "gate_proj.weight", "(kv_heads group value_dim) <- hidden", "attn.gate")),
    after("attn.o", Weight(L + "post_attention_layernorm.weight", "* hidden", "attn_after", BRANCH)),
    swap("mlp_norm", Weight(L + "pre_feedforward_layernorm.weight", "* hidden", "mlp_norm", PRE)),
    alter(MLP, bias=None),
    after("mlp.down", Weight(L + "post_feedforward_layernorm.weight", "* hidden", "mlp_after", BRANCH)),
    alter("final_norm", norm=PLAIN),
    drop("head score span"),
    defaults=dict(
        vocab_size=202048,
        hidden_size=6656,
        intermediate_size=19968,
        num_hidden_layers=52,
        num_attention_heads=32,
        num_key_value_heads=2,
        head_dim=128,
        rms_norm_eps=1e-5,
        attention_bias=False,
        post_norm_eps=1e-8,
    ),
    attentions=(Attention(rope=Rope(everywhere=False)),),
    per_layer=(
        PerLayer("layer_types", f"'full_attention' if {FULL} else 'sliding_attention'"),
        PerLayer("layer_rope_theta", f"0 if {FULL} else 10000.0"),
    ),
    refusals={"key_dim": NO_GAIN, "value_dim": NO_GAIN},
    kept=("rms_norm_eps",),
)

LAYOUTS = (MUSE_GLIMMER,)
