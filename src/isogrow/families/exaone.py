"""EXAONE 3.0 and 3.5: Llama, whose class they take (transformers 5.24), under names of their own in files."""

from __future__ import annotations

from isogrow.families.edits import alter, like
from isogrow.families.llama import ATTENTION, LLAMA, MLP, A, L, M
from isogrow.layouts.layout import Attention, Bias, Binding, Key, Rope

H = "h.{layers}."
# In a layer of a file, and in one of Llama's class.
INSIDE = {
    "ln_1.weight": "attn_norm",
    "attn.attention.q_proj.weight": "attn.q",
    "attn.attention.k_proj.weight": "attn.k",
    "attn.attention.v_proj.weight": "attn.v",
    "attn.attention.out_proj.weight": "attn.o",
    "ln_2.weight": "mlp_norm",
    "mlp.c_fc_0.weight": "mlp.gate",
    "mlp.c_fc_1.weight": "mlp.up",
    "mlp.c_proj.weight": "mlp.down",
}
MEMORY = {
    "embed_tokens.weight": "embed",
    L + "input_layernorm.weight": "attn_norm",
    A + "q_proj.weight": "attn.q",
    A + "k_proj.weight": "attn.k",
    A + "v_proj.weight": "attn.v",
    A + "o_proj.weight": "attn.o",
    L + "post_attention_layernorm.weight": "mlp_norm",
    M + "gate_proj.weight": "mlp.gate",
    M + "up_proj.weight": "mlp.up",
    M + "down_proj.weight": "mlp.down",
    "norm.weight": "final_norm",
}

EXAONE = like(
    LLAMA,
    "exaone",
    alter("embed", name="wte.weight"),
    *(alter(slot, name=H + name) for name, slot in INSIDE.items()),
    alter("final_norm", name="ln_f.weight"),
    alter(ATTENTION, bias=Bias("attention_bias")),
    alter(MLP, bias=Bias("mlp_bias")),
    lacks="num_hidden_layers rms_norm_eps",
    defaults=dict(
        vocab_size=102400,
        intermediate_size=14336,
        num_key_value_heads=8,
        attention_bias=False,
        mlp_bias=False,
    ),
    more=(
        Key("num_hidden_layers", "layers", 32, alias="num_layers"),
        Key("rms_norm_eps", default=1e-5, alias="layer_norm_epsilon"),
    ),
    prefixes=("transformer.", "model.", ""),
    attentions=(Attention(rope=Rope(default=5e5)),),
    bindings=(
        Binding("memory", MEMORY),
        # Without a head, or with the one that answers questions, only what stands in a layer is renamed.
        Binding("files of the base", {L + name: slot for name, slot in INSIDE.items()}),
    ),
)

LAYOUTS = (EXAONE,)
