"""DeepSeek-V3: latent attention with a part that rotates; dense layers first, then experts."""

from __future__ import annotations

from isogrow.layout import Attention, Key, Layout, Norm, Rope, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps")
Q_NORM = Norm("rms", "inner", eps=1e-6, of="attn.q_a")  # the code passes no eps to these two
KV_NORM = Norm("rms", "inner", eps=1e-6, of="attn.kv_a")
L = "layers.{layers}."
A = L + "self_attn."
M = L + "mlp."
Q = "(heads (q: nope_dim + q_rope: rope_dim))"


def some(name: str, pattern: str, slot: str, norm: Norm | None = None) -> Weight:
    """A line that not every model, layer or binding has."""
    return Weight(name, pattern, slot, norm, required=False)


WEIGHTS = (
    Weight("embed_tokens.weight", "vocab -> hidden", "embed"),
    Weight(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE),
    some(A + "q_proj.weight", f"{Q} <- hidden", "attn.*"),
    some(A + "q_a_proj.weight", "q_rank <- hidden", "attn.q_a"),
    some(A + "q_a_proj.bias", "-> q_rank", "attn.q_a.bias"),
    some(A + "q_a_layernorm.weight", "* q_rank", "attn.q_norm", Q_NORM),
    some(A + "q_b_proj.weight", f"{Q} <- q_rank", "attn.*"),
    Weight(A + "kv_a_proj_with_mqa.weight", "(kv_a: kv_rank + k_rope: rope_dim) <- hidden", "attn.*"),
    some(A + "kv_a_proj_with_mqa.bias", "-> (kv_a: kv_rank + k_rope: rope_dim)", "attn.*.bias"),
    Weight(A + "kv_a_layernorm.weight", "* kv_rank", "attn.kv_norm", KV_NORM),
    Weight(A + "kv_b_proj.weight", "(heads (k: nope_dim + v: value_dim)) <- kv_rank", "attn.*"),
    Weight(A + "o_proj.weight", "hidden <- (heads value_dim)", "attn.o"),
    some(A + "o_proj.bias", "-> hidden", "attn.o.bias"),
    Weight(L + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE),
    some(M + "gate_proj.weight", "ffn <- hidden", "mlp.gate"),
    some(M + "up_proj.weight", "ffn <- hidden", "mlp.up"),
    some(M + "down_proj.weight", "hidden <- ffn", "mlp.down"),
    some(M + "gate.weight", "experts <- hidden", "router"),
    some(M + "gate.e_score_correction_bias", "-> experts", "router.choice"),
    some(M + "experts.{experts}.gate_proj.weight", "expert_ffn <- hidden", "experts.gate"),
    some(M + "experts.{experts}.up_proj.weight", "expert_ffn <- hidden", "experts.up"),
    some(M + "experts.{experts}.down_proj.weight", "hidden <- expert_ffn", "experts.down"),
    some(
        M + "experts.gate_up_proj",
        "{experts} (gate: expert_ffn + up: expert_ffn) <- hidden",
        "experts.*",
    ),
    some(M + "experts.down_proj", "{experts} hidden <- expert_ffn", "experts.down"),
    some(M + "shared_experts.gate_proj.weight", "(shared expert_ffn) <- hidden", "shared.gate"),
    some(M + "shared_experts.up_proj.weight", "(shared expert_ffn) <- hidden", "shared.up"),
    some(M + "shared_experts.down_proj.weight", "hidden <- (shared expert_ffn)", "shared.down"),
    Weight("norm.weight", "* hidden", "final_norm", PRE),
    Weight("lm_head.weight", "vocab <- hidden", "head", required=False, head=True, tied="embed"),
    Weight("score.weight", "labels <- hidden", "score", required=False, head=True),
    Weight("score.bias", "-> labels", "score.bias", required=False, head=True),
)

SPARSE = ("router", "router.choice", "experts.*", "experts.gate", "experts.up", "experts.down")
WHEN = {
    "attn.*": "True",
    **dict.fromkeys(("attn.q_a", "attn.q_norm"), "q_lora_rank is not None"),
    "attn.q_a.bias": "q_lora_rank is not None and attention_bias",
    **dict.fromkeys(("attn.*.bias", "attn.o.bias"), "attention_bias"),
    **dict.fromkeys(("mlp.gate", "mlp.up", "mlp.down"), "layers < first_k_dense_replace"),
    **dict.fromkeys((*SPARSE, "shared.gate", "shared.up", "shared.down"), "layers >= first_k_dense_replace"),
}
SCALE = "(qk_nope_head_dim + qk_rope_head_dim) ** -0.5"  # one softmax over the sum of both products

LAYOUT = Layout(
    family="deepseek_v3",
    model_types=("deepseek_v3",),
    weights=WEIGHTS,
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "expert_ffn": "moe_intermediate_size",
        "experts": "n_routed_experts",
        "shared": "n_shared_experts",
        "heads": "num_attention_heads",
        "q_rank": "q_lora_rank",
        "kv_rank": "kv_lora_rank",
        "nope_dim": "qk_nope_head_dim",
        "rope_dim": "qk_rope_head_dim",
        "value_dim": "v_head_dim",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("vocab_size", default=129280),
        Key("hidden_size", "hidden", 7168),
        Key("intermediate_size", "ffn", 18432),
        Key("moe_intermediate_size", "expert_ffn", 2048),
        Key("n_routed_experts", "experts", 256),
        Key("n_shared_experts", "shared", 1),
        Key("num_hidden_layers", "layers", 61),
        Key("num_attention_heads", "heads", 128),
        Key("num_key_value_heads", "heads", 128),
        Key("q_lora_rank", "q_rank", 1536),
        Key("kv_lora_rank", "kv_rank", 512),
        Key("qk_nope_head_dim", "nope_dim", 128),
        Key("qk_rope_head_dim", "rope_dim", 64),
        Key("v_head_dim", "value_dim", 128),
        Key("first_k_dense_replace", default=3),
        Key("attention_bias", default=False),
        Key("rope_interleave", default=True),
        Key("rms_norm_eps", default=1e-6),
        Key("tie_word_embeddings", default=False),
    ),
    prefixes=("model.", ""),
    attentions=(
        Attention(axis="nope_dim", scale=SCALE),
        Attention("attn.q_rope", "attn.k_rope", axis="rope_dim", scale=SCALE, rope=Rope("adjacent")),
    ),
    derived=(r"rotary_emb\.inv_freq$",),
    fixed=frozenset({"vocab", "positions", "experts", "shared"}),
)
