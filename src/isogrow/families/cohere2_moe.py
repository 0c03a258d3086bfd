"""Command A+: Cohere 2 with a mixture in layers that a list names, beside attention."""

from __future__ import annotations

from isogrow.families.cohere import PRE
from isogrow.families.cohere2 import COHERE2
from isogrow.families.deepseek import SHARED
from isogrow.families.edits import after, alter, before, like, swap
from isogrow.families.experts import readers, router, shared_readers, shared_writer, stacked, writer
from isogrow.families.llama import LLAMA, MLP, L, M
from isogrow.families.llama import PRE as RMS
from isogrow.families.mlp_layer_types import DENSE, SPARSE, WIDE, kinds
from isogrow.layouts.layout import Attention, Key, PerLayer, Rope, Weight

PLAIN, CENTRED = "rms_norm_eps", "not rms_norm_eps"
CHOSEN = "norm_topk_prob and expert_selection_fn == 'sigmoid' and num_experts_per_tok == 1"


def either(name: str, slot: str) -> tuple[Weight, Weight]:
    """A norm that is one with a mean or without, as the config has an ε for either."""
    return (
        Weight(name, "* hidden", slot, PRE, when=CENTRED),
        Weight(name, "* hidden", f"{slot}.rms", RMS, when=PLAIN),
    )


COHERE2_MOE = like(
    COHERE2,
    "cohere2_moe",
    swap("norm", *either(L + "input_layernorm.weight", "norm")),
    swap("final_norm", *either("norm.weight", "final_norm")),
    alter(MLP, when=DENSE),
    # What reads the norm's output stands before what writes: attention's output is added with the MLP's.
    before(
        "attn.o",
        router(M, SPARSE, CHOSEN),
        *readers(M, "expert_ffn", SPARSE),
        *shared_readers(SHARED, WIDE, f"{SPARSE} and num_shared_experts"),
    ),
    after(
        "mlp.down",
        writer(M, "expert_ffn", SPARSE),
        shared_writer(SHARED, WIDE, f"{SPARSE} and num_shared_experts"),
    ),
    axes={
        **LLAMA.axes,
        "ffn": "prefix_dense_intermediate_size",
        "expert_ffn": "intermediate_size",
        "experts": "num_experts",
        "shared": "num_shared_experts or None",
    },
    lacks="intermediate_size",
    defaults=dict(
        head_dim=128,
        first_k_dense_replace=0,
        prefix_dense_sliding_window_pattern=1,
        norm_topk_prob=True,
        expert_selection_fn="'softmax'",
        num_experts_per_tok=2,
        rms_norm_eps=0,
    ),
    more=(
        *COHERE2.keys[-1:],
        Key("intermediate_size", "expert_ffn", 22528),
        Key("prefix_dense_intermediate_size", "ffn", "intermediate_size"),
        Key("num_experts", "experts", 8),
        Key("num_shared_experts", "shared", 0, when="num_shared_experts"),
    ),
    # Layers without a window turn nothing, but for dense ones where the pattern of those is 1.
    attentions=(Attention(rope=Rope("adjacent", everywhere=False)),),
    per_layer=(
        PerLayer(
            "layer_types",
            "'sliding_attention' if ((i + 1) % prefix_dense_sliding_window_pattern"
            " if i < first_k_dense_replace else (i + 1 - first_k_dense_replace) % sliding_window_pattern)"
            " else 'full_attention'",
        ),
        kinds("i < first_k_dense_replace"),
    ),
    fixed=LLAMA.fixed | {"experts", "shared"},
    bindings=(stacked(M, "expert_ffn"),),
)

LAYOUTS = (COHERE2_MOE,)
