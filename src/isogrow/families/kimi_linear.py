"""Kimi Linear (arXiv 2510.26692): delta nets whose keys' channels fade each at a pace of its own, beside
latent attention that knows no positions, and DeepSeek's experts.

    S' = exp(-e^decay softplus(R x + step)) S (1 - β k kᵀ) + β v kᵀ,   y = gain · norm(S' q) σ(Z x)

R and Z go through as many numbers as a head has channels, which stay so many.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from isogrow.families.deepseek import DEEPSEEK_V3, SCALE
from isogrow.families.delta import BENT, FULL, MIXES, state_row
from isogrow.families.edits import Rows, after, alter, like, swap
from isogrow.families.experts import readers, router, shared_readers, shared_writer, stacked, writer
from isogrow.families.llama import MLP, A, M
from isogrow.families.mixtral import FILES, NAMES
from isogrow.families.mlp_layer_types import DENSE, SPARSE, kinds
from isogrow.layouts.layout import Attention, Binding, Key, Norm, PerLayer, Weight
from isogrow.layouts.lines import both

READ, HELD = "state_heads state_key_dim", "state_heads state_value_dim"
NESTED = "linear_attn_config."
ONE = "moe_renormalize and num_experts_per_token == 1"
SHARED = FILES + "shared_experts."
WIDE = "(shared expert_ffn)"


scaling_row = partial(state_row, scales=MIXES)
STATE = (
    *(
        scaling_row(A + f"{part}_proj.weight", f"({axes}) <- hidden", f"state.{part}", clamp=BENT)
        for part, axes in (("q", READ), ("k", READ), ("v", HELD))
    ),
    *(
        scaling_row(A + f"{part}_conv1d.weight", f"({axes}) <- 1 taps", f"state.{part}_conv")
        for part, axes in (("q", READ), ("k", READ), ("v", HELD))
    ),
    state_row(A + "f_a_proj.weight", "pace_rank <- hidden", "state.rate_a"),
    scaling_row(A + "f_b_proj.weight", f"({READ}) <- pace_rank", "state.rate"),
    scaling_row(A + "dt_bias", f"-> ({READ})", "state.step", centred=True),
    scaling_row(A + "A_log", "-> 1 1 state_heads 1", "state.decay", centred=True),
    scaling_row(A + "b_proj.weight", "state_heads <- hidden", "state.beta"),
    state_row(A + "g_a_proj.weight", "gate_rank <- hidden", "state.z_a"),
    state_row(A + "g_b_proj.weight", f"({HELD}) <- gate_rank", "state.z"),
    state_row(
        A + "o_norm.weight",
        "* state_value_dim",
        "state.norm",
        norm=Norm("rms", "inner", eps="rms_norm_eps", of="state.v"),
    ),
    state_row(A + "o_proj.weight", f"hidden <- ({HELD})", "state.o"),
)
EXPERTS = "router router.choice experts.gate experts.up shared.gate shared.up experts.down shared.down"
MIXTURE = (
    router(FILES, SPARSE, ONE),
    Weight(FILES + "gate.e_score_correction_bias", "-> experts", "router.choice", when=SPARSE, idle="True"),
    *readers(FILES, "expert_ffn", SPARSE, NAMES),
    *shared_readers(SHARED, WIDE, SPARSE),
    writer(FILES, "expert_ffn", SPARSE, NAMES),
    shared_writer(SHARED, WIDE, SPARSE),
)
PARTS = ("gate", "up", "down")
GATE = A + "forget_gate."
INTERVAL = "list(range(5, num_hidden_layers + 1, 4))"


def _attending(rows: Rows) -> Rows:
    """DeepSeek's attention, in layers of full attention."""
    return tuple(
        replace(row, when=both(row.when, FULL)) if row.slot.startswith("attn.") else row for row in rows
    )


KIMI_LINEAR = like(
    DEEPSEEK_V3,
    "kimi_linear",
    _attending,
    alter(MLP, when=DENSE),
    alter("head", tied=""),  # its class ties nothing, whatever the config says
    swap(EXPERTS, *MIXTURE),
    after("attn.o", *STATE),
    axes={
        **DEEPSEEK_V3.axes,
        "experts": "num_experts",
        "shared": "num_shared_experts",
        "state_heads": "linear_num_heads",
        **dict.fromkeys(("state_key_dim", "state_value_dim", "pace_rank", "gate_rank"), "linear_head_dim"),
        "taps": "linear_conv_kernel_dim",
    },
    defaults=dict(
        vocab_size=163840,
        hidden_size=2304,
        moe_intermediate_size=1024,
        intermediate_size=9216,
        num_hidden_layers=27,
        num_attention_heads=32,
        num_key_value_heads=32,
        q_lora_rank=0,
        rms_norm_eps=1e-5,
        first_k_dense_replace=1,
    ),
    lacks="n_routed_experts n_shared_experts num_experts_per_tok norm_topk_prob rope_interleave",
    more=(
        Key("num_experts", "experts", 256, alias="num_local_experts"),
        Key("num_shared_experts", "shared", 1, alias="n_shared_experts"),
        Key("num_experts_per_token", default=8, alias="num_experts_per_tok"),
        Key("moe_renormalize", default=True, alias="norm_topk_prob"),
        Key("linear_num_heads", "state_heads", 32, alias=NESTED + "num_heads"),
        Key("linear_head_dim", "state_value_dim", 128, alias=NESTED + "head_dim"),
        Key("linear_conv_kernel_dim", "taps", 4, alias=NESTED + "short_conv_kernel_size"),
        Key(NESTED + "full_attn_layers", default=INTERVAL),
    ),
    attentions=(
        Attention(scale=SCALE),
        Attention("attn.q_rope", "attn.k_rope", axis="rope_dim", scale=SCALE),
    ),
    kinds=(),
    per_layer=(
        kinds("i < first_k_dense_replace"),
        # That list counts layers from one.
        PerLayer(
            "layer_types",
            f"'full_attention' if i + 1 in {NESTED}full_attn_layers else 'linear_attention'",
        ),
    ),
    bindings=(
        stacked(M, "expert_ffn", **{"router": "gate.weight"}),
        Binding(
            "memory",
            {
                A + "conv1d.weight": ("state.*_conv", f"(q: {READ} + k: {READ} + v: {HELD}) <- 1 taps"),
                GATE + "f_a_proj.weight": "state.rate_a",
                GATE + "f_b_proj.weight": "state.rate",
                GATE + "dt_bias": "state.step",
                GATE + "A_log": "state.decay",
                M + "gate.e_score_correction_bias": "router.choice",
                **{f"{M}shared_experts.{part}_proj.weight": f"shared.{part}" for part in PARTS},
                **{f"{FILES}{part}_proj.weight": f"mlp.{part}" for part in PARTS},  # as it is saved again
            },
        ),
    ),
    windows=("taps",),
)

LAYOUTS = (KIMI_LINEAR,)
