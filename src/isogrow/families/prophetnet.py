"""ProphetNet: an encoder and a decoder with LayerNorms behind each branch. The decoder predicts several
tokens ahead, each in a stream of its own that shares all weights; its relative positions are read from it."""

from __future__ import annotations

from collections.abc import Mapping

from isogrow.families.bart import BART, EPS, STACKS
from isogrow.families.edits import like
from isogrow.families.heads import BIAS, head
from isogrow.layouts.layout import Attention, Key, Norm, Weight

POST = Norm("layer", "post", eps=EPS)
POSITIONS = (
    "its relative positions are read from the residual, and head and embedding are one: grow ffn instead"
)


def _norm(name: str, slot: str, stack: str) -> Weight:
    return Weight(f"{name}.weight", "* hidden", slot, POST, BIAS, stream=stack)


def _attention(name: str, slot: str, stack: str, memory: str = "") -> tuple[Weight, ...]:
    qk, v = f"({stack}_heads {stack}_key_dim)", f"({stack}_heads {stack}_value_dim)"
    read = memory or stack
    own = (
        Weight(
            f"{name}.relative_pos_embeddings.weight",
            f"(buckets {stack}_heads) <- hidden",
            f"{slot}.relative",
            bias=BIAS,
            stream=stack,
        ),
    )
    return (
        Weight(f"{name}.query_proj.weight", f"{qk} <- hidden", f"{slot}.q", bias=BIAS, stream=stack),
        Weight(f"{name}.key_proj.weight", f"{qk} <- hidden", f"{slot}.k", bias=BIAS, stream=read),
        Weight(f"{name}.value_proj.weight", f"{v} <- hidden", f"{slot}.v", bias=BIAS, stream=read),
        *(own if slot == "decoder.attn" else ()),
        Weight(f"{name}.out_proj.weight", f"hidden <- {v}", f"{slot}.o", bias=BIAS, stream=stack),
    )


def _mlp(name: str, slot: str, stack: str) -> tuple[Weight, ...]:
    up, down = f"{stack}_ffn <- hidden", f"hidden <- {stack}_ffn"
    return (
        Weight(f"{name}.intermediate.weight", up, f"{slot}.up", bias=BIAS, stream=stack),
        Weight(f"{name}.output.weight", down, f"{slot}.down", bias=BIAS, stream=stack),
    )


def _stack(stack: str) -> tuple[Weight, ...]:
    layer = f"{stack}.layers.{{{stack}_layers}}."
    cross = (
        *_attention(layer + "cross_attn", "cross.attn", stack, memory="encoder"),
        _norm(layer + "cross_attn_layer_norm", "cross.attn_norm", stack),
    )
    ahead = Weight(f"{stack}.ngram_embeddings.weight", "ahead -> hidden", f"{stack}.ahead", stream=stack)
    again = f"{stack}.word_embeddings.weight"
    return (
        Weight(again, "vocab -> hidden", f"{stack}.embed", required=False, tied="embed", shared=True),
        Weight(
            f"{stack}.position_embeddings.weight", "positions -> hidden", f"{stack}.positions", stream=stack
        ),
        *((ahead,) if stack == "decoder" else ()),
        _norm(f"{stack}.embeddings_layer_norm", f"{stack}.embed_norm", stack),
        *_attention(layer + "self_attn", f"{stack}.attn", stack),
        _norm(layer + "self_attn_layer_norm", f"{stack}.attn_norm", stack),
        *(cross if stack == "decoder" else ()),
        *_mlp(layer + "feed_forward", f"{stack}.mlp", stack),
        _norm(layer + "feed_forward_layer_norm", f"{stack}.mlp_norm", stack),
    )


def _axes(stack: str) -> Mapping[str, str]:
    dim = f"hidden_size // num_{stack}_attention_heads"
    return {
        f"{stack}_ffn": f"{stack}_ffn_dim",
        f"{stack}_heads": f"num_{stack}_attention_heads",
        f"{stack}_key_dim": dim,
        f"{stack}_value_dim": dim,
        f"{stack}_layers": f"num_{stack}_layers",
    }


PROPHETNET = like(
    BART,
    "prophetnet",
    weights=(
        Weight("word_embeddings.weight", "vocab -> hidden", "embed", stream="encoder decoder"),
        *_stack("encoder"),
        *_stack("decoder"),
        head("lm_head.weight", "vocab <- hidden", "head", tied="embed", stream="decoder"),
    ),
    axes={
        "vocab": "vocab_size",
        "positions": "max_position_embeddings",
        "ahead": "ngram",
        "buckets": "num_buckets",
        "hidden": "hidden_size",
        **_axes("encoder"),
        **_axes("decoder"),
    },
    keys=(
        Key("vocab_size", default=30522),
        Key("max_position_embeddings", default=512),
        Key("ngram", default=2),
        Key("num_buckets", default=32),
        Key("hidden_size", "hidden", 1024),
        *(
            key
            for stack in STACKS
            for key in (
                Key(f"num_{stack}_layers", f"{stack}_layers", 12),
                Key(f"{stack}_ffn_dim", f"{stack}_ffn", 4096),
                Key(f"num_{stack}_attention_heads", f"{stack}_heads", 16),
            )
        ),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("prophetnet.", ""),
    attentions=tuple(
        Attention(
            f"{slot}.q",
            f"{slot}.k",
            f"{slot}.v",
            axis=f"{stack}_key_dim",
            scale=f"{stack}_key_dim ** -0.5",
            bias="decoder.attn.relative" if slot == "decoder.attn" else "",
        )
        for slot, stack in (
            ("encoder.attn", "encoder"),
            ("decoder.attn", "decoder"),
            ("cross.attn", "decoder"),
        )
    ),
    follows={},
    refusals={"hidden": POSITIONS},
    fixed=frozenset({"vocab", "positions", "ahead", "buckets"}),
)

LAYOUTS = (PROPHETNET,)
