"""Hunyuan: Llama with a norm on each head's queries and keys, which comes after the rotation."""

from __future__ import annotations

from isogrow.families.edits import after, like, swap
from isogrow.families.experts import readers, shared_readers, shared_writer, stacked, writer
from isogrow.families.llama import EQUAL, LLAMA, MLP, A, M
from isogrow.families.qwen3 import K_NORM, Q_NORM
from isogrow.layouts.layout import Key, Weight

HUNYUAN = like(
    LLAMA,
    "hunyuan_v1_dense",
    after(
        "attn.k",
        Weight(A + "query_layernorm.weight", "* key_dim", "attn.q_norm", Q_NORM),
        Weight(A + "key_layernorm.weight", "* key_dim", "attn.k_norm", K_NORM),
    ),
    defaults=dict(vocab_size=290943, rms_norm_eps=1e-5),
    constraints=EQUAL,
)

HUNYUAN_MOE = like(
    HUNYUAN,
    "hunyuan_v1_moe",
    swap(
        MLP,
        Weight(
            M + "gate.wg.weight", "experts <- hidden", "router", scales="experts.down", idle="moe_topk == 1"
        ),
        *readers(M, "ffn"),
        *shared_readers(M + "shared_mlp.", "ffn"),
        writer(M, "ffn"),
        shared_writer(M + "shared_mlp.", "ffn"),
    ),
    axes={**LLAMA.axes, "experts": "num_experts"},
    more=(Key("num_experts", "experts", 1), Key("moe_topk", default=1)),
    fixed=LLAMA.fixed | {"experts"},
    bindings=(stacked(M, "ffn"),),
)

LAYOUTS = (HUNYUAN, HUNYUAN_MOE)
