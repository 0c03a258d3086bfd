"""GPT-Neo: GPT-2 with separate projections, logits that nothing scales, and windows in every other layer."""

from __future__ import annotations

from isogrow.families.heads import BIAS, HEADS
from isogrow.layouts.layout import Attention, Key, Layout, Norm, PerLayer, Weight

PRE = Norm("layer", "pre", eps="layer_norm_epsilon")
L = "h.{layers}."
A = L + "attn.attention."

GPT_NEO = Layout(
    family="gpt_neo",
    model_types=("gpt_neo",),
    weights=(
        Weight("wte.weight", "vocab -> hidden", "embed"),
        Weight("wpe.weight", "positions -> hidden", "positions"),
        Weight(L + "ln_1.weight", "* hidden", "attn_norm", PRE, BIAS),
        Weight(A + "q_proj.weight", "(heads key_dim) <- hidden", "attn.q"),
        Weight(A + "k_proj.weight", "(heads key_dim) <- hidden", "attn.k"),
        Weight(A + "v_proj.weight", "(heads value_dim) <- hidden", "attn.v"),
        Weight(A + "out_proj.weight", "hidden <- (heads value_dim)", "attn.o", bias=BIAS),
        Weight(L + "ln_2.weight", "* hidden", "mlp_norm", PRE, BIAS),
        Weight(L + "mlp.c_fc.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(L + "mlp.c_proj.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        Weight("ln_f.weight", "* hidden", "final_norm", PRE, BIAS),
        *HEADS,
    ),
    axes={
        "vocab": "vocab_size",
        "positions": "max_position_embeddings",
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "heads": "num_heads",
        "key_dim": "hidden_size // num_heads",
        "value_dim": "hidden_size // num_heads",
        "layers": "num_layers",
    },
    keys=(
        Key("vocab_size", default=50257),
        Key("max_position_embeddings", default=2048),
        Key("hidden_size", "hidden", 2048),
        Key("intermediate_size", "ffn", "4 * hidden_size"),
        Key("num_heads", "heads", 16, alias="num_attention_heads"),
        Key("num_layers", "layers", 24, alias="num_hidden_layers"),
        Key("layer_norm_epsilon", default=1e-5),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("transformer.", ""),
    attentions=(Attention(scale=""),),
    # Where the config leaves them out, the class takes 24 layers' whatever the number of layers is.
    per_layer=(
        PerLayer("attention_types", "('local' if i % 2 else 'global') if i < 24 else ''", runs=True),
        PerLayer("attention_layers"),
    ),
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    derived=(r"\.attn\.attention\.(masked_)?bias$",),
)

LAYOUTS = (GPT_NEO,)
