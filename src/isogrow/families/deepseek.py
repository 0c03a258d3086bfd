"""DeepSeek-V3: latent attention, of which a part rotates; dense layers first, then mixtures of experts with
shared ones. `key_dim` is the part of a head's queries and keys that does not rotate."""

from __future__ import annotations

from isogrow.families.edits import after, alter, like, swap, with_defaults
from isogrow.families.experts import readers, router, shared_readers, shared_writer, stacked, writer
from isogrow.families.llama import ATTENTION, LLAMA, MLP, A, M
from isogrow.layouts.layout import Attention, Bias, Key, Kinds, Norm, Rope, Weight

# The code passes no ε to these two.
Q_NORM = Norm("rms", "inner", eps=1e-6, of="attn.q_a")
KV_NORM = Norm("rms", "inner", eps=1e-6, of="attn.kv_a")
SHARED = M + "shared_experts."
Q = "(heads (q: key_dim + q_rope: rope_dim))"
KV_A = "(kv_a: kv_rank + k_rope: rope_dim)"
LATENT, BIAS = "q_lora_rank", Bias("attention_bias")
DENSE = "layers < first_k_dense_replace"
SPARSE = "layers >= first_k_dense_replace"
ONE = "norm_topk_prob and num_experts_per_tok == 1"  # its weight is then 1, whatever the router says
SCALE = "(key_dim + rope_dim) ** -0.5"  # one softmax over both products; YaRN's factor depends on no size

DEEPSEEK_V3 = like(
    LLAMA,
    "deepseek_v3",
    swap(
        ATTENTION,
        Weight(A + "q_proj.weight", f"{Q} <- hidden", "attn.*", when=f"not {LATENT}"),
        Weight(A + "q_a_proj.weight", "q_rank <- hidden", "attn.q_a", bias=BIAS, when=LATENT),
        Weight(A + "q_a_layernorm.weight", "* q_rank", "attn.q_norm", Q_NORM, when=LATENT),
        Weight(A + "q_b_proj.weight", f"{Q} <- q_rank", "attn.*", when=LATENT),
        Weight(A + "kv_a_proj_with_mqa.weight", f"{KV_A} <- hidden", "attn.*", bias=BIAS),
        Weight(A + "kv_a_layernorm.weight", "* kv_rank", "attn.kv_norm", KV_NORM),
        Weight(A + "kv_b_proj.weight", "(heads (k: key_dim + v: value_dim)) <- kv_rank", "attn.*"),
        Weight(A + "o_proj.weight", "hidden <- (heads value_dim)", "attn.o", bias=BIAS),
    ),
    alter(MLP, when=DENSE, bias=None),
    after(
        "mlp.down",
        router(M, SPARSE, ONE),
        Weight(M + "gate.e_score_correction_bias", "-> experts", "router.choice", when=SPARSE, idle="True"),
        *readers(M, "expert_ffn", SPARSE),
        *shared_readers(SHARED, "(shared expert_ffn)", SPARSE),
        writer(M, "expert_ffn", SPARSE),
        shared_writer(SHARED, "(shared expert_ffn)", SPARSE),
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "expert_ffn": "moe_intermediate_size",
        "experts": "n_routed_experts",
        "shared": "n_shared_experts",
        "heads": "num_attention_heads",
        "q_rank": "q_lora_rank or None",
        "kv_rank": "kv_lora_rank",
        "key_dim": "qk_nope_head_dim",
        "rope_dim": "qk_rope_head_dim",
        "value_dim": "v_head_dim",
        "layers": "num_hidden_layers",
    },
    keys=with_defaults(
        (
            Key("vocab_size", default=129280),
            Key("hidden_size", "hidden", 7168),
            Key("moe_intermediate_size", "expert_ffn", 2048),
            Key("intermediate_size", "ffn", 18432),
            Key("n_routed_experts", "experts", 256),
            Key("n_shared_experts", "shared", 1),
            Key("num_hidden_layers", "layers", 61),
            Key("num_attention_heads", "heads", 128),
            Key("num_key_value_heads", "heads", 128, null="num_attention_heads"),
            Key("q_lora_rank", "q_rank", 1536, null=0),
            Key("kv_lora_rank", "kv_rank", 512),
            Key("qk_nope_head_dim", "key_dim", 128),
            Key("qk_rope_head_dim", "rope_dim", 64),
            Key("qk_head_dim", "key_dim + rope_dim", "qk_nope_head_dim + qk_rope_head_dim"),
            Key("v_head_dim", "value_dim", 128),
        ),
        first_k_dense_replace=3,
        attention_bias=False,
        rope_interleave=True,
        rms_norm_eps=1e-6,
        norm_topk_prob=True,
        num_experts_per_tok=8,
        tie_word_embeddings=False,
    ),
    attentions=(
        Attention(scale=SCALE),
        Attention("attn.q_rope", "attn.k_rope", axis="rope_dim", scale=SCALE, rope=Rope("adjacent")),
    ),
    constraints=(),
    kinds=(Kinds("first_k_dense_replace", DENSE, counts=True),),
    fixed=LLAMA.fixed | {"experts", "shared", "rope_dim"},
    bindings=(stacked(M, "expert_ffn"),),
    foreign={
        r"\.(eh_proj|enorm|hnorm|shared_head\.\w+|embed_tokens)\.weight$": (
            "belongs to a module that predicts further tokens, which is no part of the model that is grown:"
            " remove its tensors, and set num_nextn_predict_layers to 0"
        )
    },
)

LAYOUTS = (DEEPSEEK_V3,)
