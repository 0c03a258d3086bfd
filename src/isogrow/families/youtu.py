"""Youtu: DeepSeek-V3's latent attention with dense layers alone."""

from __future__ import annotations

from isogrow.families.deepseek import DEEPSEEK_V3
from isogrow.families.edits import alter, drop, like
from isogrow.families.llama import LLAMA, MLP

SPARSE = ("moe_intermediate_size", "n_routed_experts", "n_shared_experts")

YOUTU = like(
    DEEPSEEK_V3,
    "youtu",
    drop("router router.choice experts.gate experts.up shared.gate shared.up experts.down shared.down"),
    alter(MLP, when=""),
    axes={axis: said for axis, said in DEEPSEEK_V3.axes.items() if said not in SPARSE},
    lacks=" ".join((*SPARSE, "first_k_dense_replace", "norm_topk_prob", "num_experts_per_tok")),
    defaults=dict(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=6144,
        num_hidden_layers=32,
        num_attention_heads=16,
        num_key_value_heads=16,
        tie_word_embeddings=True,
    ),
    kinds=(),
    fixed=LLAMA.fixed | {"rope_dim"},
    bindings=(),
    foreign={},
)

LAYOUTS = (YOUTU,)
