"""Families whose layers hold a state for each channel of an inner width: Mamba-1 and its like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import transformers
from family import BOOLS, COMMON, EPS, LAYERS, PAD, VOCAB, Family, Steps, gated, gated_growths, more_options
from hypothesis import strategies as st

from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import HiddenExpansion, MlpExpansion
from rows.recurrent_states import CONVOLVED

KIN = True


def expanded(*axes: str) -> Callable[[st.DrawFn, Anatomy], Steps]:
    """Hidden, and these axes of a state, by any numbers."""

    def steps(draw: st.DrawFn, _: Anatomy) -> Steps:
        found: Steps = [HiddenExpansion(f"+{n}") for n in draw(st.sampled_from([[], [7], [2, 9]]))]
        grown = draw(st.lists(st.sampled_from(axes), max_size=3))
        return [
            *found,
            *(MlpExpansion(draw(st.sampled_from(["+3", "x2", "+70"])), axis=each) for each in grown),
        ]

    return steps


SELECTIVE = Family(
    "mamba",
    transformers.MambaConfig,
    ("MambaForCausalLM", "MambaModel"),
    dict(
        COMMON,
        vocab_size=VOCAB,
        hidden_size=30,
        num_hidden_layers=3,
        intermediate_size=37,
        state_size=7,
        time_step_rank=5,
        conv_kernel=4,
        use_bias=True,
        layer_norm_epsilon=1e-2,
        tie_word_embeddings=False,  # else a token under the mask alone is read a step late, by the head
    ),
    {
        "hidden": {"hidden": 42},
        "state_width": {"state_width": 51},
        "state_dim": {"state_dim": 9},
        "dt_rank": {"dt_rank": 11},
        "taps": {"taps": 6},
        "layers": {"layers": 5},
    },
    dict(hidden=75, state_width="x3", state_dim="+5", dt_rank="+3", taps="+6", layers="+2"),
    lambda draw: dict(
        num_hidden_layers=draw(LAYERS),
        use_bias=draw(BOOLS),
        use_conv_bias=draw(BOOLS),
        layer_norm_epsilon=draw(EPS),
        tie_word_embeddings=draw(BOOLS),
    ),
    expanded("state_width", "state_dim", "dt_rank", "taps"),
    unread={"embeddings.weight": [PAD]},
    alone="state_width",
)
FALCON_MAMBA = replace(
    SELECTIVE,
    name="falcon_mamba",
    config=transformers.FalconMambaConfig,
    classes=("FalconMambaForCausalLM", "FalconMambaModel"),
    sizes={**SELECTIVE.sizes, "mixer_rms_eps": 1e-2},
    growths={axis: said for axis, said in SELECTIVE.growths.items() if axis != "state_dim"},
    together=dict(hidden=75, state_width="x3", dt_rank="+3", taps="+6", layers="+2"),
    draws=expanded("state_width", "dt_rank", "taps"),
)

JAMBA = gated(
    "jamba",
    transformers.JambaConfig,
    more_options(
        num_hidden_layers=st.sampled_from([2, 4]),
        attn_layer_period=st.sampled_from([1, 2]),
        attn_layer_offset=st.just(0),
        expert_layer_period=st.sampled_from([1, 2]),
        expert_layer_offset=st.just(0),
        num_experts=st.sampled_from([1, 2]),
        num_experts_per_tok=st.sampled_from([1, 2]),
        **CONVOLVED,
    ),
    {
        "hidden": {"hidden": 42, "state_width": 84},
        "state_width": {"state_width": 120},
        "state_dim": {"state_dim": 14},
        "dt_rank": {"dt_rank": 11},
        "taps": {"taps": 6},
    },
    dict(
        hidden=75,
        ffn="x3",
        heads=15,
        kv_heads=3,
        head_dim=20,
        state_width=150,
        state_dim="x3",
        dt_rank="+3",
        taps="+6",
        layers="+2",
    ),
    absent=("head_dim",),
    attn_layer_period=2,
    attn_layer_offset=1,
    expert_layer_offset=0,
    num_experts=3,
    num_experts_per_tok=3,
    mamba_d_state=7,
    mamba_dt_rank=5,
    mamba_d_conv=4,
    mamba_expand=2,
    mamba_proj_bias=True,
)


def in_step(draw: st.DrawFn, anatomy: Anatomy) -> Steps:
    """The width of the states is a whole number times hidden; what a norm runs over grows by copies."""
    found = [step for step in gated_growths(draw, anatomy) if not isinstance(step, HiddenExpansion)]
    more = draw(st.sampled_from([0, 15]))
    found += [HiddenExpansion(f"+{more}")] if more else []
    if not anatomy.sizes.has("state_width"):
        return found
    width, hidden = anatomy.sizes.of("state_width"), anatomy.sizes.of("hidden")
    times = draw(st.sampled_from([2, 3]))
    found += [MlpExpansion(f"+{times * (hidden + more) - width}", axis="state_width")]
    grown = draw(st.sets(st.sampled_from([("state_dim", "x3"), ("dt_rank", "+9"), ("taps", "+2")])))
    return [*found, *(MlpExpansion(size, axis=axis) for axis, size in sorted(grown))]


JAMBA = replace(JAMBA, draws=in_step, places=("end",))
ROWS: tuple[Family, ...] = (SELECTIVE, FALCON_MAMBA, JAMBA)
