"""The language model of MiniMax M3: norms whose gains multiply by 1 + g, gate and up in one tensor, a mixture
with a shared expert, and in layers that a list names attention to blocks of keys that an indexer chooses."""

from __future__ import annotations

from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, A, M
from isogrow.families.mlp_layer_types import ALONE, DENSE, SPARSE
from isogrow.layouts.layout import Attention, Key, Norm, PerLayer, Rope, Weight

PRE = Norm("rms", "pre", eps="rms_norm_eps", offset=1.0)
CHOOSES = A + "indexer."
INDEXED = "layer_types[layers] == 'minimax_m3_sparse'"
CHOSEN = (
    "each head of its indexer chooses for as many heads in a row, which would be others: grow ffn instead"
)
TURNED = "its indexer turns its channels by the same rotary table, whose part is a number: grow ffn instead"


def inner(of: str) -> Norm:
    """The norm of each head's channels."""
    return Norm("rms", "inner", eps="rms_norm_eps", of=of, offset=1.0)


def chooses(name: str, pattern: str, slot: str, norm: Norm | None = None) -> Weight:
    """A row of the indexer: which keys are read is no smooth function of it."""
    return Weight(CHOOSES + name, pattern, slot, norm, when=INDEXED, idle="True")


E, S = M + "experts.", M + "shared_experts."
MINIMAX_M3 = like(
    LLAMA,
    "minimax_m3_vl_text",
    alter("attn_norm mlp_norm final_norm", norm=PRE),
    alter(ATTENTION, bias=None),
    after(
        "attn.k",
        Weight(A + "q_norm.weight", "* key_dim", "attn.q_norm", inner("attn.q")),
        Weight(A + "k_norm.weight", "* key_dim", "attn.k_norm", inner("attn.k")),
        chooses("q_proj.weight", "(index_heads index_dim) <- hidden", "indexer.q"),
        chooses("k_proj.weight", "index_dim <- hidden", "indexer.k"),
        chooses("q_norm.weight", "* index_dim", "indexer.q_norm", inner("indexer.q")),
        chooses("k_norm.weight", "* index_dim", "indexer.k_norm", inner("indexer.k")),
    ),
    swap(
        MLP,
        Weight(M + "gate_up_proj.weight", "(gate: ffn + up: ffn) <- hidden", "mlp.*", when=DENSE),
        Weight(M + "down_proj.weight", "hidden <- ffn", "mlp.down", when=DENSE),
        Weight(
            M + "gate.weight",
            "experts <- hidden",
            "router",
            when=SPARSE,
            scales="experts.down",
            idle=ALONE,
        ),
        Weight(M + "gate.e_score_correction_bias", "-> experts", "router.choice", when=SPARSE, idle="True"),
        Weight(
            E + "gate_up_proj",
            "{experts} (gate: expert_ffn + up: expert_ffn) <- hidden",
            "experts.*",
            when=SPARSE,
        ),
        Weight(
            S + "gate_up_proj.weight",
            "(gate: shared_ffn + up: shared_ffn) <- hidden",
            "shared.*",
            when=SPARSE,
        ),
        Weight(E + "down_proj", "{experts} hidden <- expert_ffn", "experts.down", when=SPARSE),
        Weight(S + "down_proj.weight", "hidden <- shared_ffn", "shared.down", when=SPARSE),
    ),
    drop("score span"),
    keys=(
        Key("vocab_size", default=200064),
        Key("hidden_size", "hidden", 6144),
        Key("dense_intermediate_size", "ffn", 12288),
        Key("intermediate_size", "expert_ffn", 3072),
        Key("shared_intermediate_size", "shared_ffn", 3072),
        Key("num_hidden_layers", "layers", 60),
        Key("num_attention_heads", "kv_heads * group", 64),
        Key("num_key_value_heads", "kv_heads", 4),
        Key("head_dim", "key_dim", 128),
        Key("num_local_experts", "experts", 128, alias="num_experts"),
        Key("num_experts_per_tok", default=4),
        Key("index_n_heads", default=4),
        Key("index_head_dim", default=128),
        Key("rms_norm_eps", default=1e-6),
        Key("tie_word_embeddings", default=False),
    ),
    axes={
        **LLAMA.axes,
        "ffn": "dense_intermediate_size",
        "expert_ffn": "intermediate_size",
        "shared_ffn": "shared_intermediate_size",
        "experts": "num_local_experts",
        "index_heads": "index_n_heads",
        "index_dim": "index_head_dim",
    },
    attentions=(Attention(rope=Rope(default=5e6)),),
    constraints=EQUAL,
    per_layer=(PerLayer("layer_types", "'full_attention'"), PerLayer("mlp_layer_types", "'sparse'")),
    fixed=LLAMA.fixed | {"experts", "index_heads", "index_dim"},
    refusals={"kv_heads": CHOSEN, "group": CHOSEN, "key_dim": TURNED, "value_dim": TURNED},
)

LAYOUTS = (MINIMAX_M3,)
