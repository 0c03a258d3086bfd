"""DeepSeek's mixture of experts beside Llama's attention: GLM-4.5, dots.llm1, Solar Open."""

from __future__ import annotations

from isogrow.families.deepseek import DENSE, ONE, SHARED, SPARSE
from isogrow.families.edits import after, alter, drop, like, swap, with_defaults
from isogrow.families.experts import readers, router, shared_readers, shared_writer, stacked, writer
from isogrow.families.llama import EQUAL, LLAMA, MLP, M
from isogrow.families.phi3 import SHARE
from isogrow.families.qwen3 import head_norms
from isogrow.layouts.layout import Attention, Bias, Key, Kinds, PerLayer, Rope, Weight

SAID = Bias("attention_bias")


def _mixture(when: str) -> tuple[Weight, ...]:
    """DeepSeek's mixture: a sigmoid's router with a bias for the choice alone, and shared experts."""
    return (
        router(M, when, ONE),
        Weight(M + "gate.e_score_correction_bias", "-> experts", "router.choice", when=when, idle="True"),
        *readers(M, "expert_ffn", when),
        *shared_readers(SHARED, "(shared expert_ffn)", when),
        writer(M, "expert_ffn", when),
        shared_writer(SHARED, "(shared expert_ffn)", when),
    )


AXES = {
    **LLAMA.axes,
    "expert_ffn": "moe_intermediate_size",
    "experts": "n_routed_experts",
    "shared": "n_shared_experts",
}

KEYS = (
    Key("vocab_size"),
    Key("hidden_size", "hidden", 4096),
    Key("moe_intermediate_size", "expert_ffn", 1408),
    Key("intermediate_size", "ffn", 10944),
    Key("num_hidden_layers", "layers"),
    Key("num_attention_heads", "kv_heads * group"),
    Key("num_key_value_heads", "kv_heads", 8, null="num_attention_heads"),
    Key("head_dim", "key_dim", "hidden_size // num_attention_heads"),
    Key("n_routed_experts", "experts", 128),
    Key("n_shared_experts", "shared", 1),
    Key("first_k_dense_replace", default=1),
    Key("rms_norm_eps", default=1e-5),
    Key("attention_bias", default=False),
    Key("norm_topk_prob", default=True),
    Key("num_experts_per_tok", default=8),
    Key("tie_word_embeddings", default=False),
)

GLM4_MOE = like(
    LLAMA,
    "glm4_moe",
    alter("attn.q attn.k attn.v", bias=SAID),
    alter("attn.o", bias=None),
    after("attn.k", *head_norms("use_qk_norm")),
    alter(MLP, when=DENSE, bias=None),
    after("mlp.down", *_mixture(SPARSE)),
    axes=AXES,
    keys=with_defaults(
        KEYS, vocab_size=151552, num_hidden_layers=46, num_attention_heads=96, use_qk_norm=False
    ),
    attentions=(Attention(rope=Rope(share=SHARE, portion=0.5)),),
    constraints=EQUAL,
    kinds=(Kinds("first_k_dense_replace", DENSE, counts=True),),
    fixed=LLAMA.fixed | {"experts", "shared"},
    bindings=(stacked(M, "expert_ffn"),),
)

DOTS1 = like(
    GLM4_MOE,
    "dots1",
    alter("attn.o", bias=SAID),
    swap("attn.q_norm attn.k_norm", *head_norms()),
    keys=with_defaults(
        KEYS,
        vocab_size=152064,
        hidden_size=4608,
        num_hidden_layers=62,
        num_attention_heads=32,
        num_key_value_heads=32,
        first_k_dense_replace=0,  # its class has no number of experts where the config has none
        rms_norm_eps=1e-6,
        norm_topk_prob=False,
        sliding_window=4096,
        max_window_layers=62,
    ),
    attentions=(Attention(rope=Rope()),),
    per_layer=(
        PerLayer(
            "layer_types",
            "'sliding_attention' if sliding_window and i >= max_window_layers else 'full_attention'",
        ),
    ),
)

SOLAR_OPEN = like(
    GLM4_MOE,
    "solar_open",
    drop(MLP + " attn.q_norm attn.k_norm"),
    swap(
        "router router.choice experts.gate experts.up shared.gate shared.up experts.down shared.down",
        *_mixture(""),
    ),
    axes={axis: said for axis, said in AXES.items() if axis != "ffn"},
    keys=with_defaults(
        tuple(key for key in KEYS if key.name not in ("intermediate_size", "first_k_dense_replace")),
        vocab_size=196608,
        num_hidden_layers=48,
        num_attention_heads=64,
        moe_intermediate_size=1280,
        head_dim=128,
    ),
    attentions=(Attention(rope=Rope(share=SHARE, default=1e6)),),
    kinds=(),
)

LAYOUTS = (GLM4_MOE, DOTS1, SOLAR_OPEN)
