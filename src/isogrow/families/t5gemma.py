"""T5Gemma: an encoder and a decoder of Gemma 2's layers, each with sizes of its own; cross-attention has the
decoder's heads, no rotary positions, and norms around it like every branch."""

from __future__ import annotations

from collections.abc import Mapping

from isogrow.families.heads import BIAS, head
from isogrow.layouts.layout import Attention, Bias, Key, Layout, Norm, PerLayer, Rope, Stream, Weight

STACKS = ("encoder", "decoder")
DECODES = "decoder.final_norm"  # a model without it is an encoder alone


def _row(
    stack: str,
    name: str,
    pattern: str,
    slot: str,
    norm: Norm | None = None,
    bias: Bias | None = None,
    stream: str = "",
    times: str = "",
) -> Weight:
    """A row of one stack; cross-attention reads the `stream` of the other one."""
    return Weight(
        f"{stack}.{name}.weight",
        pattern,
        slot,
        norm,
        bias,
        needs=DECODES if stack == "decoder" and slot != DECODES else "",
        stream=stream or stack,
        times=times,
    )


def _norm(stack: str, name: str, slot: str, where: str = "pre") -> Weight:
    norm = Norm("rms", "pre" if where == "pre" else "branch", eps=f"{stack}.rms_norm_eps", offset=1.0)
    return _row(stack, name, f"* {stack}_hidden", slot, norm=norm)


def _attention(stack: str, name: str, slot: str, memory: str) -> tuple[Weight, ...]:
    """An attention, whose keys and values may be of another stack."""
    heads = f"{stack}_kv_heads {stack}_group"
    bias = Bias(f"{stack}.attention_bias")
    rows = (
        ("q", f"({heads} {stack}_key_dim) <- {stack}_hidden", stack),
        ("k", f"({stack}_kv_heads {stack}_key_dim) <- {memory}_hidden", memory),
        ("v", f"({stack}_kv_heads {stack}_value_dim) <- {memory}_hidden", memory),
        ("o", f"{stack}_hidden <- ({heads} {stack}_value_dim)", stack),
    )
    return tuple(
        _row(stack, f"{name}.{letter}_proj", pattern, f"{slot}.{letter}", bias=bias, stream=stream)
        for letter, pattern, stream in rows
    )


def _stack(stack: str) -> tuple[Weight, ...]:
    """The rows of one stack."""
    layer, hidden, ffn = f"layers.{{{stack}_layers}}.", f"{stack}_hidden", f"{stack}_ffn"
    cross = (
        _norm(stack, f"{layer}pre_cross_attn_layernorm", "cross.attn_norm"),
        *_attention(stack, f"{layer}cross_attn", "cross.attn", "encoder"),
        _norm(stack, f"{layer}post_cross_attn_layernorm", "cross.attn_after", "branch"),
    )
    return (
        _row(stack, "embed_tokens", f"{stack}_vocab -> {hidden}", f"{stack}.embed", times=f"{hidden} ** 0.5"),
        _norm(stack, f"{layer}pre_self_attn_layernorm", f"{stack}.attn_norm"),
        *_attention(stack, f"{layer}self_attn", f"{stack}.attn", stack),
        _norm(stack, f"{layer}post_self_attn_layernorm", f"{stack}.attn_after", "branch"),
        *(cross if stack == "decoder" else ()),
        _norm(stack, f"{layer}pre_feedforward_layernorm", f"{stack}.mlp_norm"),
        _row(stack, f"{layer}mlp.gate_proj", f"{ffn} <- {hidden}", f"{stack}.mlp.gate"),
        _row(stack, f"{layer}mlp.up_proj", f"{ffn} <- {hidden}", f"{stack}.mlp.up"),
        _row(stack, f"{layer}mlp.down_proj", f"{hidden} <- {ffn}", f"{stack}.mlp.down"),
        _norm(stack, f"{layer}post_feedforward_layernorm", f"{stack}.mlp_after", "branch"),
        _norm(stack, "norm", f"{stack}.final_norm"),
    )


def _axes(stack: str) -> Mapping[str, str]:
    return {
        f"{stack}_vocab": f"{stack}.vocab_size",
        f"{stack}_hidden": f"{stack}.hidden_size",
        f"{stack}_ffn": f"{stack}.intermediate_size",
        f"{stack}_kv_heads": f"{stack}.num_key_value_heads",
        f"{stack}_group": f"{stack}.num_attention_heads // {stack}.num_key_value_heads",
        f"{stack}_key_dim": f"{stack}.head_dim",
        f"{stack}_value_dim": f"{stack}.head_dim",
        f"{stack}_layers": f"{stack}.num_hidden_layers",
    }


def _keys(stack: str) -> tuple[Key, ...]:
    return (
        Key(f"{stack}.vocab_size", default=256000),
        Key(f"{stack}.hidden_size", f"{stack}_hidden", 2304),
        Key(f"{stack}.intermediate_size", f"{stack}_ffn", 9216),
        Key(f"{stack}.num_hidden_layers", f"{stack}_layers", 26),
        Key(f"{stack}.num_attention_heads", f"{stack}_kv_heads * {stack}_group", 8),
        Key(f"{stack}.num_key_value_heads", f"{stack}_kv_heads", 4),
        Key(f"{stack}.head_dim", f"{stack}_key_dim", 256),
        Key(f"{stack}.query_pre_attn_scalar", default=256, usual=f"{stack}_key_dim"),
        Key(f"{stack}.rms_norm_eps", default=1e-6),
        Key(f"{stack}.attention_bias", default=False),
    )


def _rope(stack: str) -> Rope:
    return Rope(
        theta=(f"{stack}.rope_parameters.rope_theta", f"{stack}.rope_theta"),
        scaling=(f"{stack}.rope_parameters", f"{stack}.rope_scaling"),
    )


def _contraction(stack: str, slot: str, rope: Rope | None) -> Attention:
    scale = f"{stack}.query_pre_attn_scalar ** -0.5"
    return Attention(f"{slot}.q", f"{slot}.k", f"{slot}.v", f"{stack}_key_dim", scale, rope)


def _constraints(stack: str) -> tuple[str, ...]:
    return (
        f"{stack}_key_dim == {stack}_value_dim",
        f"{stack}_hidden % ({stack}_kv_heads * {stack}_group) == 0",
    )


T5GEMMA = Layout(
    family="t5gemma",
    model_types=("t5gemma",),
    weights=(
        *_stack("encoder"),
        *_stack("decoder"),
        head(
            "lm_head.out_proj.weight",
            "decoder_vocab <- decoder_hidden",
            "head",
            tied="decoder.embed",
            needs=DECODES,
            stream="decoder",
        ),
        head(
            "score.out_proj.weight",
            "labels <- decoder_hidden",
            "score",
            bias=BIAS,
            needs=DECODES,
            stream="decoder",
        ),
    ),
    axes={**_axes("encoder"), **_axes("decoder")},
    keys=(
        *_keys("encoder"),
        *_keys("decoder"),
        Key("decoder.cross_attention_hidden_size", "encoder_hidden", "encoder.hidden_size"),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("model.", ""),
    streams=(
        Stream("encoder", "encoder_hidden", tie=""),
        Stream("decoder", "decoder_hidden", tie="tie_word_embeddings"),
    ),
    attentions=(
        _contraction("encoder", "encoder.attn", _rope("encoder")),
        _contraction("decoder", "decoder.attn", _rope("decoder")),
        _contraction("decoder", "cross.attn", None),
    ),
    per_layer=tuple(
        PerLayer(
            f"{stack}.layer_types",
            "'sliding_attention' if (i + 1) % 2 else 'full_attention'",
            f"{stack}_layers",
        )
        for stack in STACKS
    ),
    stacks=STACKS,
    constraints=(*_constraints("encoder"), *_constraints("decoder")),
    derived=(r"rotary_emb\.inv_freq$",),
    fixed=frozenset({"encoder_vocab", "decoder_vocab"}),
)

LAYOUTS = (T5GEMMA,)
