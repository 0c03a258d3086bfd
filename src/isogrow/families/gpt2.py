"""GPT-2: LayerNorm before each branch, fused qkv stored input x output (Conv1D), learned positions."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.heads import BIAS, LM, SCORE, SPAN, TAG, head
from isogrow.layouts.layout import Attention, Key, Layout, Norm, Weight

PRE = Norm("layer", "pre", eps="layer_norm_epsilon")
L = "h.{layers}."
X = L + "crossattention."
QKV = "(q: heads key_dim + k: heads key_dim + v: heads value_dim)"
KV = "(k: heads key_dim + v: heads value_dim)"
CROSS = "add_cross_attention"  # to an encoder's output, which is as wide as the model
SCALE = (
    "(key_dim ** -0.5 if scale_attn_weights else 1) / (layer + 1 if scale_attn_by_inverse_layer_idx else 1)"
)

GPT2 = Layout(
    family="gpt2",
    model_types=("gpt2",),
    weights=(
        Weight("wte.weight", "vocab -> hidden", "embed"),
        Weight("wpe.weight", "positions -> hidden", "positions"),
        Weight(L + "ln_1.weight", "* hidden", "attn_norm", PRE, BIAS),
        Weight(L + "attn.c_attn.weight", f"hidden -> {QKV}", "attn.*", bias=BIAS),
        Weight(L + "attn.c_proj.weight", "(heads value_dim) -> hidden", "attn.o", bias=BIAS),
        Weight(L + "ln_cross_attn.weight", "* hidden", "cross_norm", PRE, BIAS, when=CROSS),
        Weight(X + "q_attn.weight", "hidden -> (heads key_dim)", "cross.q", bias=BIAS, when=CROSS),
        Weight(X + "c_attn.weight", f"memory -> {KV}", "cross.*", bias=BIAS, when=CROSS),
        Weight(
            X + "c_proj.weight",
            "(heads value_dim) -> hidden",
            "cross.o",
            bias=BIAS,
            when=CROSS,
        ),
        Weight(L + "ln_2.weight", "* hidden", "mlp_norm", PRE, BIAS),
        Weight(L + "mlp.c_fc.weight", "hidden -> ffn", "mlp.up", bias=BIAS),
        Weight(L + "mlp.c_proj.weight", "ffn -> hidden", "mlp.down", bias=BIAS),
        Weight("ln_f.weight", "* hidden", "final_norm", PRE, BIAS),
        LM,
        replace(SCORE, bias=None),
        TAG,
        SPAN,
        head("multiple_choice_head.summary.weight", "choice <- hidden", "choice", bias=BIAS),
    ),
    axes={
        "vocab": "vocab_size",
        "positions": "n_positions",
        "hidden": "n_embd",
        "memory": "n_embd",
        "ffn": "n_inner",
        "heads": "n_head",
        "key_dim": "n_embd // n_head",
        "value_dim": "n_embd // n_head",
        "layers": "n_layer",
    },
    keys=(
        Key("vocab_size", default=50257),
        Key("n_positions", default=1024),
        Key("n_embd", "hidden", 768, alias="hidden_size"),
        Key("n_inner", "ffn", "4 * n_embd"),
        Key("n_head", "heads", 12, alias="num_attention_heads"),
        Key("n_layer", "layers", 12, alias="num_hidden_layers"),
        Key("layer_norm_epsilon", default=1e-5),
        Key("scale_attn_weights", default=True),
        Key("scale_attn_by_inverse_layer_idx", default=False),
        Key("add_cross_attention", default=False),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("transformer.", ""),
    attentions=(Attention(scale=SCALE), Attention("cross.q", "cross.k", "cross.v", scale=SCALE)),
    follows={"memory": "hidden"},
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    derived=(r"\.attn\.bias$", r"\.attn\.masked_bias$", r"\.crossattention\.(masked_)?bias$"),
)

LAYOUTS = (GPT2,)
