"""Mistral 4: DeepSeek-V3's latent attention, and experts stacked in files as in memory, whose router is a
softmax."""

from __future__ import annotations

from isogrow.families.deepseek import DEEPSEEK_V3, SPARSE
from isogrow.families.edits import alter, drop, like, swap
from isogrow.families.llama import M
from isogrow.layouts.layout import Weight

PART = (
    "its config says which part of a head rotates as a share of its dim, which would change: grow heads,"
    " ffn or hidden instead"
)
MISTRAL4 = like(
    DEEPSEEK_V3,
    "mistral4",
    drop("router.choice"),
    swap(
        "experts.gate experts.up",
        Weight(
            M + "experts.gate_up_proj",
            "{experts} (gate: expert_ffn + up: expert_ffn) <- hidden",
            "experts.*",
            when=SPARSE,
        ),
    ),
    alter("experts.down", name=M + "experts.down_proj", pattern="{experts} hidden <- expert_ffn"),
    defaults=dict(
        vocab_size=131072,
        hidden_size=4096,
        intermediate_size=12288,
        n_routed_experts=128,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=32,
        q_lora_rank=1024,
        kv_lora_rank=256,
        qk_nope_head_dim=64,
        first_k_dense_replace=0,
        num_experts_per_tok=4,
    ),
    refusals={"key_dim": PART},
    bindings=(),
    foreign={},
)

LAYOUTS = (MISTRAL4,)
