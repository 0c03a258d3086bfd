"""DBRX: fused queries, keys and values, clamped; LayerNorms without shift; experts stacked in rows."""

from __future__ import annotations

from isogrow.families.heads import LM
from isogrow.families.llama import LLAMA
from isogrow.layouts.layout import Attention, Key, Layout, Norm, Rope, Weight

B = "blocks.{layers}."
N, F = B + "norm_attn_norm.", B + "ffn."
CLIP = "attn_config.clip_qkv"
PLAIN = Norm("layer", "pre", eps=1e-5)
QKV = "(q: kv_heads group key_dim + k: kv_heads key_dim + v: kv_heads value_dim)"

DBRX = Layout(
    family="dbrx",
    model_types=("dbrx",),
    weights=(
        Weight("wte.weight", "vocab -> hidden", "embed"),
        Weight(N + "norm_1.weight", "* hidden", "attn_norm", PLAIN),
        Weight(N + "attn.Wqkv.weight", f"{QKV} <- hidden", "attn.*", clamp=CLIP),
        Weight(N + "attn.out_proj.weight", "hidden <- (kv_heads group value_dim)", "attn.o"),
        Weight(N + "norm_2.weight", "* hidden", "mlp_norm", PLAIN),
        Weight(
            F + "router.layer.weight",
            "experts <- hidden",
            "router",
            scales="experts.down",
            idle="ffn_config.moe_normalize_expert_weights and ffn_config.moe_top_k == 1",
        ),
        Weight(F + "experts.mlp.w1", "(experts ffn) <- hidden", "experts.gate"),
        Weight(F + "experts.mlp.v1", "(experts ffn) <- hidden", "experts.up"),
        Weight(F + "experts.mlp.w2", "(experts ffn) -> hidden", "experts.down"),
        Weight("norm_f.weight", "* hidden", "final_norm", PLAIN),
        LM,
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "d_model",
        "ffn": "ffn_config.ffn_hidden_size",
        "experts": "ffn_config.moe_num_experts",
        "kv_heads": "attn_config.kv_n_heads",
        "group": "n_heads // attn_config.kv_n_heads",
        "key_dim": "d_model // n_heads",
        "value_dim": "d_model // n_heads",
        "layers": "n_layers",
    },
    keys=(
        Key("vocab_size", default=32000),
        Key("d_model", "hidden", 2048, alias="hidden_size"),
        Key("ffn_config.ffn_hidden_size", "ffn", 3584),
        Key("ffn_config.hidden_size", "hidden", "d_model"),
        Key("ffn_config.moe_num_experts", "experts", 4),
        Key("ffn_config.moe_top_k", default=1),
        Key("ffn_config.moe_normalize_expert_weights", default=1.0, null=0.0),
        Key("n_heads", "kv_heads * group", 16, alias="num_attention_heads"),
        Key("attn_config.kv_n_heads", "kv_heads", 1),
        Key(CLIP, default=False),
        Key("n_layers", "layers", 24, alias="num_hidden_layers"),
        Key("tie_word_embeddings", default=False),
    ),
    prefixes=("transformer.", ""),
    attentions=(Attention(rope=Rope()),),
    constraints=("key_dim == value_dim", "kv_heads * group * key_dim == hidden"),
    fixed=LLAMA.fixed | {"experts"},
)

LAYOUTS = (DBRX,)
