"""OLMo Hybrid: gated delta nets, before which norms stand, beside OLMo 2's attention, behind which they do.

The same names are other norms in the two kinds of layers, so each kind has an MLP of its own, of one width.
"""

from __future__ import annotations

from isogrow.families.delta import BENT, EACH, FULL, HELD, MIXES, QKV, READ, D, state_row
from isogrow.families.edits import alter, before, like
from isogrow.families.llama import ATTENTION, MLP, PRE, L, M
from isogrow.families.olmo2 import OLMO2
from isogrow.layouts.layout import Attention, Bias, Binding, Key, Norm, PerLayer, Rename, Rope, Weight

SAID = Bias("attention_bias")
OWN = Norm("rms", "inner", eps=1e-5, of="state.v")  # whatever the config says


def _read(name: str, axes: str, slot: str, bent: bool = False, scales: str = "") -> Weight:
    clamp = BENT if bent else ""
    return state_row(f"{D}{name}_proj.weight", f"({axes}) <- hidden", slot, clamp=clamp, scales=scales)


def _taps(part: str, axes: str) -> Weight:
    name = f"{D}{part}_conv1d.weight"
    return state_row(name, f"({axes}) <- 1 taps", f"state.{part}_conv", scales=MIXES)


STATE = (
    state_row(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE),
    _read("q", READ, "state.q", bent=True, scales=MIXES),
    _read("k", READ, "state.k", bent=True, scales=MIXES),
    _read("v", HELD, "state.v", bent=True, scales=MIXES),
    _read("a", EACH, "state.rate", scales=MIXES),
    _read("b", EACH, "state.beta", scales=MIXES),
    _read("g", HELD, "state.z"),
    _taps("q", READ),
    _taps("k", READ),
    _taps("v", HELD),
    state_row(D + "dt_bias", f"-> ({EACH})", "state.step", scales=MIXES, centred=True),
    state_row(D + "A_log", f"-> ({EACH})", "state.decay", scales=MIXES, centred=True),
    state_row(D + "o_norm.weight", "* state_value_dim", "state.norm", OWN),
    state_row(D + "o_proj.weight", f"hidden <- ({HELD})", "state.o"),
    state_row(L + "post_attention_layernorm.weight", "* hidden", "mlp_norm", PRE),
    state_row(M + "gate_proj.weight", "ffn <- hidden", "state_mlp.gate"),
    state_row(M + "up_proj.weight", "ffn <- hidden", "state_mlp.up"),
    state_row(M + "down_proj.weight", "hidden <- ffn", "state_mlp.down"),
)
HEADS = "linear_num_key_heads"
OLMO_HYBRID = like(
    OLMO2,
    "olmo_hybrid",
    alter(ATTENTION, when=FULL, bias=SAID),
    alter(MLP, when=FULL, bias=None),
    alter("attn.q_norm attn.k_norm attn_after mlp_after", when=FULL),
    before("attn.q", *STATE),
    axes={
        **OLMO2.axes,
        "state_heads": HEADS,
        "state_group": f"linear_num_value_heads // {HEADS}",
        "state_key_dim": "linear_key_head_dim",
        "state_value_dim": "linear_value_head_dim",
        "taps": "linear_conv_kernel_dim",
    },
    defaults=dict(
        vocab_size=100352,
        hidden_size=3840,
        num_attention_heads=30,
        rms_norm_eps=1e-6,
        attention_bias=False,
    ),
    more=(
        Key(HEADS, "state_heads", "num_attention_heads"),
        Key("linear_num_value_heads", "state_heads * state_group", "num_attention_heads"),
        Key("linear_key_head_dim", "state_key_dim", f"int(0.75 * hidden_size / {HEADS})"),
        Key("linear_value_head_dim", "state_value_dim", "2 * linear_key_head_dim"),
        Key("linear_conv_kernel_dim", "taps", 4),
        Key("rope_parameters.rope_theta", default=10000.0, null=0),  # null: no positions
    ),
    attentions=(Attention(rope=Rope(when="rope_parameters.rope_theta")),),
    per_layer=(PerLayer("layer_types", "'full_attention' if i % 4 == 3 else 'linear_attention'"),),
    renames=(
        Rename("attention_layer_norm.weight", "input_layernorm.weight", "end"),
        Rename("feedforward_layer_norm.weight", "post_attention_layernorm.weight", "end"),
    ),
    bindings=(Binding("memory", {D + "conv1d.weight": ("state.*_conv", f"{QKV} <- 1 taps")}),),
    windows=("taps",),
)

LAYOUTS = (OLMO_HYBRID,)
