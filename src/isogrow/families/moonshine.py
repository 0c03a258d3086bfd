"""Moonshine: stacks like Whisper's with rotary positions, norms without shifts, MLPs of one width, and a
decoder whose MLP is gated."""

from __future__ import annotations

from collections.abc import Mapping

from isogrow.families.bart import EPS, STACKS
from isogrow.families.heads import BIAS, head
from isogrow.families.whisper import BENT
from isogrow.layouts.layout import Attention, Bias, Key, Layout, Norm, Rope, Stream, Weight

PRE = Norm("layer", "pre", eps=EPS)
SAID = Bias("attention_bias")
FRONT = ("encoder.conv1.", "encoder.conv2.", "encoder.conv3.", "encoder.groupnorm.")
ADJACENT = Rope(
    pairs="adjacent",
    share=("rope_parameters.partial_rotary_factor", "partial_rotary_factor"),
    portion=0.9,
)


def _norm(stack: str, name: str, slot: str) -> Weight:
    return Weight(f"{stack}.{name}.weight", "* hidden", slot, PRE, stream=stack)


def _attention(stack: str, name: str, slot: str, memory: str) -> tuple[Weight, ...]:
    """An attention, whose keys and values may be of the encoder's stream."""
    at = f"{stack}.layers.{{{stack}_layers}}.{name}"
    qk, v = f"({stack}_heads {stack}_key_dim)", f"({stack}_heads {stack}_value_dim)"
    return (
        Weight(f"{at}.q_proj.weight", f"{qk} <- hidden", f"{slot}.q", bias=SAID, stream=stack),
        Weight(f"{at}.k_proj.weight", f"{qk} <- hidden", f"{slot}.k", bias=SAID, stream=memory),
        Weight(f"{at}.v_proj.weight", f"{v} <- hidden", f"{slot}.v", bias=SAID, stream=memory),
        Weight(f"{at}.o_proj.weight", f"hidden <- {v}", f"{slot}.o", stream=stack),
    )


def _layers(stack: str) -> tuple[Weight, ...]:
    """The rows of one stack's layers."""
    layer = f"layers.{{{stack}_layers}}."
    decodes = stack == "decoder"
    cross = (
        _norm(stack, f"{layer}post_attention_layernorm", "cross.attn_norm"),
        *_attention(stack, "encoder_attn", "cross.attn", "encoder"),
    )
    wide = "(up: ffn + gate: ffn)" if decodes else "ffn"
    return (
        _norm(stack, f"{layer}input_layernorm", f"{stack}.attn_norm"),
        *_attention(stack, "self_attn", f"{stack}.attn", stack),
        *(cross if decodes else ()),
        _norm(
            stack,
            f"{layer}{'final_layernorm' if decodes else 'post_attention_layernorm'}",
            f"{stack}.mlp_norm",
        ),
        Weight(
            f"{stack}.{layer}mlp.fc1.weight",
            f"{wide} <- hidden",
            f"{stack}.mlp.{'*' if decodes else 'up'}",
            bias=BIAS,
            stream=stack,
        ),
        Weight(
            f"{stack}.{layer}mlp.fc2.weight", "hidden <- ffn", f"{stack}.mlp.down", bias=BIAS, stream=stack
        ),
    )


def _axes(stack: str) -> Mapping[str, str]:
    dim = f"hidden_size // {stack}_num_attention_heads"
    return {
        f"{stack}_heads": f"{stack}_num_attention_heads",
        f"{stack}_key_dim": dim,
        f"{stack}_value_dim": dim,
        f"{stack}_layers": f"{stack}_num_hidden_layers",
    }


def _keys(stack: str) -> tuple[Key, ...]:
    heads = f"{stack}_num_attention_heads"
    return (
        Key(heads, f"{stack}_heads", 8),
        Key(f"{stack}_num_key_value_heads", f"{stack}_heads", heads),
        Key(f"{stack}_num_hidden_layers", f"{stack}_layers", 6),
    )


def _contraction(slot: str, stack: str, rope: Rope | None) -> Attention:
    axis = f"{stack}_key_dim"
    return Attention(f"{slot}.q", f"{slot}.k", f"{slot}.v", axis, f"{axis} ** -0.5", rope)


MOONSHINE = Layout(
    family="moonshine",
    model_types=("moonshine",),
    weights=(
        *_layers("encoder"),
        _norm("encoder", "layer_norm", "encoder.final_norm"),
        Weight("decoder.embed_tokens.weight", "vocab -> hidden", "embed", stream="decoder"),
        *_layers("decoder"),
        _norm("decoder", "norm", "decoder.final_norm"),
        head("proj_out.weight", "vocab <- hidden", "head", tied="embed", stream="decoder"),
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        **_axes("encoder"),
        **_axes("decoder"),
    },
    keys=(
        Key("vocab_size", default=32768),
        Key("hidden_size", "hidden", 288),
        Key("intermediate_size", "ffn", 1152),
        *_keys("encoder"),
        *_keys("decoder"),
        Key("attention_bias", default=False),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("model.", ""),
    streams=(Stream("encoder", given=True), Stream("decoder")),
    attentions=(
        _contraction("encoder.attn", "encoder", ADJACENT),
        _contraction("decoder.attn", "decoder", ADJACENT),
        _contraction("cross.attn", "decoder", None),
    ),
    stacks=STACKS,
    constraints=tuple(
        said
        for stack in STACKS
        for said in (
            f"{stack}_key_dim == {stack}_value_dim",
            f"{stack}_heads * {stack}_key_dim == hidden",
        )
    ),
    refusals={"hidden": BENT},
    carried=(*FRONT, *(f"model.{part}" for part in FRONT)),
    fixed=frozenset({"vocab"}),
)

LAYOUTS = (MOONSHINE,)
