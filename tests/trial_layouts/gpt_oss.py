"""GPT-OSS: experts stored input x output with gate and up interleaved, attention sinks, YaRN."""

from __future__ import annotations

from isogrow.layout import Attention, Key, Layout, Norm, PerLayer, Rope, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps")
L = "layers.{layers}."
A = L + "self_attn."
E = L + "mlp.experts."
GATE_UP = "(ffn (gate: 1 + up: 1))"

WEIGHTS = (
    Weight("embed_tokens.weight", "vocab -> hidden", "embed"),
    Weight(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE),
    Weight(A + "q_proj.weight", "(kv_heads group key_dim) <- hidden", "attn.q"),
    Weight(A + "q_proj.bias", "-> (kv_heads group key_dim)", "attn.q.bias", required=False),
    Weight(A + "k_proj.weight", "(kv_heads key_dim) <- hidden", "attn.k"),
    Weight(A + "k_proj.bias", "-> (kv_heads key_dim)", "attn.k.bias", required=False),
    Weight(A + "v_proj.weight", "(kv_heads value_dim) <- hidden", "attn.v"),
    Weight(A + "v_proj.bias", "-> (kv_heads value_dim)", "attn.v.bias", required=False),
    Weight(A + "sinks", "-> (kv_heads group)", "attn.sinks"),
    Weight(A + "o_proj.weight", "hidden <- (kv_heads group value_dim)", "attn.o"),
    Weight(A + "o_proj.bias", "-> hidden", "attn.o.bias", required=False),
    Weight(L + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE),
    Weight(L + "mlp.router.weight", "experts <- hidden", "router"),
    Weight(L + "mlp.router.bias", "-> experts", "router.bias"),
    Weight(E + "gate_up_proj", f"{{experts}} hidden -> {GATE_UP}", "experts.*"),
    Weight(E + "gate_up_proj_bias", f"{{experts}} -> {GATE_UP}", "experts.*.bias"),
    Weight(E + "down_proj", "{experts} ffn -> hidden", "experts.down"),
    Weight(E + "down_proj_bias", "{experts} -> hidden", "experts.down.bias"),
    Weight("norm.weight", "* hidden", "final_norm", PRE),
    Weight("lm_head.weight", "vocab <- hidden", "head", required=False, head=True, tied="embed"),
    Weight("score.weight", "labels <- hidden", "score", required=False, head=True),
    Weight("score.bias", "-> labels", "score.bias", required=False, head=True),
)

BIASES = ("attn.q.bias", "attn.k.bias", "attn.v.bias", "attn.o.bias")
WHEN = dict.fromkeys(BIASES, "attention_bias")

LAYOUT = Layout(
    family="gpt_oss",
    model_types=("gpt_oss",),
    weights=WEIGHTS,
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "experts": "num_local_experts",
        "kv_heads": "num_key_value_heads",
        "group": "num_attention_heads // num_key_value_heads",
        "key_dim": "head_dim",
        "value_dim": "head_dim",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("vocab_size", default=201088),
        Key("hidden_size", "hidden", 2880),
        Key("intermediate_size", "ffn", 2880),
        Key("num_local_experts", "experts", 128),
        Key("num_hidden_layers", "layers", 36),
        Key("num_attention_heads", "kv_heads * group", 64),
        Key("num_key_value_heads", "kv_heads", 8),
        Key("head_dim", "key_dim", 64),
        Key("attention_bias", default=True),
        Key("rms_norm_eps", default=1e-5),
        Key("tie_word_embeddings", default=False),
    ),
    prefixes=("model.", ""),
    attentions=(Attention(rope=Rope(default=150000.0)),),
    per_layer=(PerLayer("layer_types", "'sliding_attention' if (i + 1) % 2 else 'full_attention'"),),
    constraints=("key_dim == value_dim",),
    derived=(r"rotary_emb\.inv_freq$",),
    fixed=frozenset({"vocab", "positions", "experts"}),
)
