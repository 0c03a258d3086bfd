"""Sarvam's two mixtures of experts (transformers 5.24): GLM-4.5's class, whose files fuse queries, keys and
values, and DeepSeek-V3's."""

from __future__ import annotations

from isogrow.families.deepseek import DEEPSEEK_V3
from isogrow.families.deepseek_experts import GLM4_MOE, SAID
from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.experts import stacked
from isogrow.families.llama import A, L, M
from isogrow.families.phi3 import SHARE
from isogrow.families.qwen3 import K_NORM, Q_NORM
from isogrow.layouts.layout import Attention, Binding, Key, Rope, Weight

# Their configs have either name.
COUNTS = (
    Key("n_routed_experts", "experts", 128, alias="num_experts"),
    Key("n_shared_experts", "shared", 1, alias="num_shared_experts"),
)
COUNTED = "n_routed_experts n_shared_experts"
F = L + "attention."
EACH = {"q": "kv_heads group key_dim", "k": "kv_heads key_dim", "v": "kv_heads value_dim"}
FUSED = f"({' + '.join(f'{part}: {axes}' for part, axes in EACH.items())}) <- hidden"
NORMED = "use_qk_norm"

SARVAM_MOE = like(
    GLM4_MOE,
    "sarvam_moe",
    alter("embed", name="word_embeddings.weight"),
    drop("attn.q_norm attn.k_norm"),
    swap("attn.q attn.k attn.v", Weight(F + "query_key_value.weight", FUSED, "attn.*", bias=SAID)),
    after(
        "attn.*",
        Weight(F + "query_layernorm.weight", "* key_dim", "attn.q_norm", Q_NORM, when=NORMED),
        Weight(F + "key_layernorm.weight", "* key_dim", "attn.k_norm", K_NORM, when=NORMED),
    ),
    alter("attn.o", name=F + "dense.weight"),
    alter("router.choice", name=M + "gate.expert_bias"),
    lacks=COUNTED + " attention_bias",
    defaults=dict(
        vocab_size=262144,
        moe_intermediate_size=1024,
        intermediate_size=8192,
        num_hidden_layers=19,
        num_attention_heads=64,
        num_key_value_heads=4,
        head_dim=64,
        rms_norm_eps=1e-6,
        num_experts_per_tok=6,
        use_qk_norm=True,
    ),
    more=(*COUNTS, Key("attention_bias", default=False, alias="use_qkv_bias")),
    attentions=(Attention(rope=Rope(share=SHARE, default=8e6)),),
    bindings=(
        Binding(
            "memory",
            {
                "embed_tokens.weight": "embed",
                **{
                    A + f"{part}_proj.weight": (f"attn.{part}", f"({axes}) <- hidden")
                    for part, axes in EACH.items()
                },
                A + "q_norm.weight": "attn.q_norm",
                A + "k_norm.weight": "attn.k_norm",
                A + "o_proj.weight": "attn.o",
                **stacked(M, "expert_ffn", **{"router.choice": "gate.e_score_correction_bias"}).places,
            },
        ),
    ),
)

SARVAM_MLA = like(
    DEEPSEEK_V3,
    "sarvam_mla",
    lacks=COUNTED,
    defaults=dict(
        vocab_size=262144,
        hidden_size=4096,
        intermediate_size=16384,
        moe_intermediate_size=2048,
        num_hidden_layers=32,
        num_attention_heads=64,
        num_key_value_heads="num_attention_heads",
        q_lora_rank=0,
        first_k_dense_replace=1,
    ),
    more=COUNTS,
)

LAYOUTS = (SARVAM_MOE, SARVAM_MLA)
