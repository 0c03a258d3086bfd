"""MPT: ALiBi, LayerNorms without a shift, no biases; queries, keys and values may be clamped."""

from __future__ import annotations

from isogrow.families.heads import HEADS
from isogrow.layouts.layout import Alibi, Attention, Key, Layout, Norm, Stream, Weight

PRE = Norm("layer", "pre", eps="layer_norm_epsilon")
L = "blocks.{layers}."
QKV = "(q: heads key_dim + k: heads key_dim + v: heads value_dim)"
CLIP, SCALE, STEEPEST = (f"attn_config.{key}" for key in ("clip_qkv", "softmax_scale", "alibi_bias_max"))

MPT = Layout(
    family="mpt",
    model_types=("mpt",),
    weights=(
        Weight("wte.weight", "vocab -> hidden", "embed"),
        Weight(L + "norm_1.weight", "* hidden", "attn_norm", PRE),
        Weight(L + "attn.Wqkv.weight", f"{QKV} <- hidden", "attn.*", clamp=CLIP),
        Weight(L + "attn.out_proj.weight", "hidden <- (heads value_dim)", "attn.o"),
        Weight(L + "norm_2.weight", "* hidden", "mlp_norm", PRE),
        Weight(L + "ffn.up_proj.weight", "ffn <- hidden", "mlp.up"),
        Weight(L + "ffn.down_proj.weight", "hidden <- ffn", "mlp.down"),
        Weight("norm_f.weight", "* hidden", "final_norm", PRE),
        *HEADS,
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "d_model",
        "ffn": "4 * d_model",
        "heads": "n_heads",
        "key_dim": "d_model // n_heads",
        "value_dim": "d_model // n_heads",
        "layers": "n_layers",
    },
    keys=(
        Key("vocab_size", default=50368),
        Key("d_model", "hidden", 2048, alias="hidden_size"),
        Key("n_heads", "heads", 16, alias="num_attention_heads"),
        Key("n_layers", "layers", 24, alias="num_hidden_layers"),
        Key("layer_norm_epsilon", default=1e-5),
        Key(CLIP, default=False),
        Key(SCALE, default=False),
        Key(STEEPEST, default=8),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("transformer.", ""),
    # The class has biases whatever attn_config.alibi says.
    attentions=(Attention(scale=f"{SCALE} or key_dim ** -0.5", alibi=Alibi(most=STEEPEST)),),
    follows={"ffn": "4 * hidden"},
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    streams=(Stream(longest="max_seq_len"),),
)

LAYOUTS = (MPT,)
