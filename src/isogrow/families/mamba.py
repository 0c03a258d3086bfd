"""Mamba-1 (arXiv 2312.00752), alone and beside attention and experts: Mamba, Falcon-Mamba, Jamba. Each
channel of an inner width has a state of its own, which what all channels share (B) writes and (C) reads.

    S' = exp(-e^A Δ) S + Δ x B,   Δ = softplus(W r + step),   y = (S' · C + skip x) silu(gate)

x goes through a short convolution and an activation first; r, B and C are read from what comes out. Jamba has
a norm with a gain on each of the three, Falcon-Mamba one without.
"""

from __future__ import annotations

from functools import partial

from isogrow.families.edits import Rows, after, alter, before, drop, like, swap
from isogrow.families.experts import readers, stacked, writer
from isogrow.families.heads import LM
from isogrow.families.llama import ATTENTION, EQUAL, LLAMA, MLP, PRE, L
from isogrow.layouts.layout import Attention, Bias, Key, Layout, Norm, Weight

SCAN = Attention("state.write", "state.read", "state.x", axis="state_dim", scale="", factors="state.decay")


def mamba(stem: str, conv_bias: str, bias: str, when: str = "", norms: Rows = ()) -> Rows:
    """What a mixer has; `conv_bias` and `bias` are formulas that are true where there are such."""
    row = partial(Weight, when=when)
    return (
        row(
            stem + "in_proj.weight",
            "(x: state_width + gate: state_width) <- hidden",
            "state.*",
            bias=Bias(bias),
        ),
        row(stem + "conv1d.weight", "state_width <- 1 taps", "state.conv", bias=Bias(conv_bias)),
        row(
            stem + "x_proj.weight",
            "(rate: dt_rank + write: state_dim + read: state_dim) <- state_width",
            "state.*",
        ),
        *norms,
        row(stem + "dt_proj.weight", "state_width <- dt_rank", "state.step"),
        row(stem + "dt_proj.bias", "-> state_width", "state.step.bias", centred=True),
        row(stem + "A_log", "-> state_width state_dim", "state.decay", centred=True),
        row(stem + "D", "-> state_width", "state.skip", centred=True),
        row(stem + "out_proj.weight", "hidden <- state_width", "state.o", bias=Bias(bias)),
    )


EPS = "layer_norm_epsilon"
RANK = "-(-hidden_size // 16)"  # which the class writes into the config that it saves
NORMED = Norm("rms", "pre", eps=EPS)
MAMBA = Layout(
    family="mamba",
    model_types=("mamba",),
    weights=(
        Weight("embeddings.weight", "vocab -> hidden", "embed"),
        Weight(L + "norm.weight", "* hidden", "state_norm", NORMED),
        *mamba(L + "mixer.", "use_conv_bias", "use_bias"),
        Weight("norm_f.weight", "* hidden", "final_norm", NORMED),
        LM,
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "layers": "num_hidden_layers",
        "state_width": "intermediate_size",
        "state_dim": "state_size",
        "dt_rank": "time_step_rank",
        "taps": "conv_kernel",
    },
    keys=(
        Key("vocab_size", default=50280),
        Key("hidden_size", "hidden", 768),
        Key("num_hidden_layers", "layers", 32),
        # Where a config says it, the class takes it, whatever `expand` is.
        Key("intermediate_size", "state_width", "expand * hidden_size"),
        Key("expand", default=2),
        Key("state_size", "state_dim", 16),
        Key("time_step_rank", "dt_rank", RANK),
        Key("conv_kernel", "taps", 4),
        Key("use_bias", default=False),
        Key("use_conv_bias", default=True),
        Key(EPS, default=1e-5),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("backbone.", ""),
    attentions=(SCAN,),
    windows=("taps",),
)

UNGAINED = (
    "its class normalises what writes the state and what reads it without a gain, and no rule undoes both"
    " yet; grow state_width or dt_rank instead"
)
RATE = Norm("rms", "inner", eps="mixer_rms_eps", of="state.rate")
FALCON_MAMBA = like(
    MAMBA,
    "falcon_mamba",
    before(
        "state.step", Weight(L + "mixer.dt_layernorm", "* dt_rank", "state.rate_norm", RATE, stored=False)
    ),
    defaults={"mixer_rms_eps": 1e-6},
    refusals={"state_dim": UNGAINED},
)

# Which layers are of which kind, the class computes from their numbers.
FULL = "layers % attn_layer_period == attn_layer_offset"
STATE = "layers % attn_layer_period != attn_layer_offset"
SPARSE = "num_experts > 1 and layers % expert_layer_period == expert_layer_offset"
DENSE = f"not ({SPARSE})"
X, F = L + "mamba.", L + "feed_forward."


def _normed(part: str, name: str, axis: str) -> Weight:
    norm = Norm("rms", "inner", eps="rms_norm_eps", of=f"state.{part}")
    return Weight(f"{X}{name}_layernorm.weight", f"* {axis}", f"state.{part}_norm", norm, when=STATE)


NORMS = (
    _normed("rate", "dt", "dt_rank"),
    _normed("write", "b", "state_dim"),
    _normed("read", "c", "state_dim"),
)
JAMBA = like(
    LLAMA,
    "jamba",
    alter(ATTENTION, when=FULL, bias=None),
    after("attn.o", *mamba(X, "mamba_conv_bias", "mamba_proj_bias", STATE, NORMS)),
    swap("mlp_norm", Weight(L + "pre_ff_layernorm.weight", "* hidden", "mlp_norm", PRE)),
    swap(
        MLP,
        *(
            Weight(f"{F}{name}_proj.weight", "ffn <- hidden", f"mlp.{name}", when=DENSE)
            for name in ("gate", "up")
        ),
        Weight(F + "down_proj.weight", "hidden <- ffn", "mlp.down", when=DENSE),
        Weight(F + "router.weight", "experts <- hidden", "router", when=SPARSE, scales="experts.down"),
        *readers(F, "ffn", SPARSE),
        writer(F, "ffn", SPARSE),
    ),
    swap("final_norm", Weight("final_layernorm.weight", "* hidden", "final_norm", PRE)),
    drop("span"),
    axes={
        **LLAMA.axes,
        "experts": "num_experts",
        "state_width": "mamba_expand * hidden_size",
        "state_dim": "mamba_d_state",
        "dt_rank": "mamba_dt_rank",
        "taps": "mamba_d_conv",
    },
    defaults=dict(vocab_size=65536, intermediate_size=14336, num_key_value_heads=8),
    more=(
        Key("num_experts", "experts", 16),
        Key("mamba_expand", "state_width // hidden", 2),
        Key("mamba_d_state", "state_dim", 16),
        Key("mamba_dt_rank", "dt_rank", RANK),
        Key("mamba_d_conv", "taps", 4),
        Key("mamba_conv_bias", default=True),
        Key("mamba_proj_bias", default=False),
        Key("attn_layer_period", default=8),
        Key("attn_layer_offset", default=4),
        Key("expert_layer_period", default=2),
        Key("expert_layer_offset", default=1),
        Key("num_experts_per_tok", default=2),
    ),
    attentions=(Attention(), SCAN),
    constraints=(*EQUAL, "state_width % hidden == 0"),
    fixed=LLAMA.fixed | {"experts"},
    bindings=(stacked(F, "ffn"),),
    windows=("taps",),
)

LAYOUTS = (MAMBA, FALCON_MAMBA, JAMBA)
