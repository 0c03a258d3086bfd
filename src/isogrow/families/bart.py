"""BART: an encoder and a decoder with LayerNorms whose ε stands in the code, behind each branch or (mBART,
Blenderbot) before it, learned positions, and sizes for each stack.

Where a class computes its positions from the width (Pegasus, Marian, M2M-100), the width stays.
"""

from __future__ import annotations

from collections.abc import Mapping

from isogrow.families import heads
from isogrow.families.edits import alter, drop, like
from isogrow.families.heads import BIAS
from isogrow.layouts.layout import Attention, Key, Layout, Norm, Stream, Weight

EPS = 1e-5
STACKS = ("encoder", "decoder")
TIMES = "hidden ** 0.5 if scale_embedding else 1"
SINES = "its positions are sines that the class computes from the width: grow ffn, heads or layers instead"


def norm(name: str, slot: str, where: str, stream: str) -> Weight:
    """A norm before or behind a branch."""
    kind = Norm("layer", "pre" if where == "pre" else "post", eps=EPS)
    return Weight(f"{name}.weight", "* hidden", slot, kind, BIAS, stream=stream)


def _attention(name: str, slot: str, stack: str, memory: str = "") -> tuple[Weight, ...]:
    """An attention, whose keys and values may be of the encoder's stream."""
    qk, v = f"({stack}_heads {stack}_key_dim)", f"({stack}_heads {stack}_value_dim)"
    read = memory or stack
    return (
        Weight(f"{name}.q_proj.weight", f"{qk} <- hidden", f"{slot}.q", bias=BIAS, stream=stack),
        Weight(f"{name}.k_proj.weight", f"{qk} <- hidden", f"{slot}.k", bias=BIAS, stream=read),
        Weight(f"{name}.v_proj.weight", f"{v} <- hidden", f"{slot}.v", bias=BIAS, stream=read),
        Weight(f"{name}.out_proj.weight", f"hidden <- {v}", f"{slot}.o", bias=BIAS, stream=stack),
    )


def branches(stack: str, where: str) -> tuple[Weight, ...]:
    """The branches of one stack's layers, each with its norm before it or behind."""
    layer = f"{stack}.layers.{{{stack}_layers}}."
    own = _attention(layer + "self_attn", f"{stack}.attn", stack)
    cross = _attention(layer + "encoder_attn", "cross.attn", stack, memory="encoder")
    mlp = (
        Weight(layer + "fc1.weight", f"{stack}_ffn <- hidden", f"{stack}.mlp.up", bias=BIAS, stream=stack),
        Weight(layer + "fc2.weight", f"hidden <- {stack}_ffn", f"{stack}.mlp.down", bias=BIAS, stream=stack),
    )
    found: list[Weight] = []
    for name, slot, rows in (
        ("self_attn_layer_norm", f"{stack}.attn", own),
        ("encoder_attn_layer_norm", "cross.attn", cross if stack == "decoder" else ()),
        ("final_layer_norm", f"{stack}.mlp", mlp),
    ):
        if rows:
            own_norm = norm(layer + name, f"{slot}_norm", where, stack)
            found += [own_norm, *rows] if where == "pre" else [*rows, own_norm]
    return tuple(found)


def _stack(stack: str, where: str, first: bool, last: bool) -> tuple[Weight, ...]:
    """One stack: its positions, a norm on the embeddings, its layers, a last norm."""
    positions = Weight(
        f"{stack}.embed_positions.weight", "rows -> hidden", f"{stack}.positions", stream=stack
    )
    return (
        positions,
        *([norm(f"{stack}.layernorm_embedding", f"{stack}.embed_norm", "post", stack)] if first else ()),
        *branches(stack, where),
        *([norm(f"{stack}.layer_norm", f"{stack}.final_norm", "pre", stack)] if last else ()),
    )


def _again(stack: str) -> Weight:
    """Another name for the embedding."""
    name = f"{stack}.embed_tokens.weight"
    return Weight(name, "vocab -> hidden", f"{stack}.embed", required=False, tied="embed", shared=True)


def _rows(where: str, first: bool, last: bool) -> tuple[Weight, ...]:
    """The whole table."""
    return (
        Weight("shared.weight", "vocab -> hidden", "embed", stream="encoder decoder", times=TIMES),
        *map(_again, STACKS),
        *(row for stack in STACKS for row in _stack(stack, where, first, last)),
        heads.head("lm_head.weight", "vocab <- hidden", "head", tied="embed", stream="decoder"),
        heads.head("final_logits_bias", "-> 1 vocab", "head.own_bias", idle="True", stream="decoder"),
        heads.head(
            "classification_head.dense.weight", "pooled <- hidden", "pooler", bias=BIAS, stream="decoder"
        ),
        heads.head(
            "classification_head.out_proj.weight",
            "labels <- pooled",
            "classifier",
            bias=BIAS,
            stream="decoder",
        ),
        heads.head("qa_outputs.weight", "labels <- hidden", "span", bias=BIAS, stream="decoder"),
    )


def _sizes(stack: str) -> Mapping[str, str]:
    dim = f"d_model // {stack}_attention_heads"
    return {
        f"{stack}_ffn": f"{stack}_ffn_dim",
        f"{stack}_heads": f"{stack}_attention_heads",
        f"{stack}_key_dim": dim,
        f"{stack}_value_dim": dim,
        f"{stack}_layers": f"{stack}_layers",
    }


def _scaled(slot: str, stack: str) -> Attention:
    axis = f"{stack}_key_dim"
    return Attention(f"{slot}.q", f"{slot}.k", f"{slot}.v", axis=axis, scale=f"{axis} ** -0.5")


BART = Layout(
    family="bart",
    model_types=("bart",),
    weights=_rows("post", first=True, last=False),
    axes={
        "vocab": "vocab_size",
        "positions": "max_position_embeddings",
        "rows": "max_position_embeddings + 2",  # the first two are for padding
        "hidden": "d_model",
        "pooled": "d_model",
        **_sizes("encoder"),
        **_sizes("decoder"),
    },
    keys=(
        Key("vocab_size", default=50265),
        Key("max_position_embeddings", default=1024),
        Key("d_model", "hidden", 1024, alias="hidden_size"),
        Key("encoder_layers", "encoder_layers", 12, alias="num_hidden_layers"),
        Key("encoder_ffn_dim", "encoder_ffn", 4096),
        Key("encoder_attention_heads", "encoder_heads", 16, alias="num_attention_heads"),
        Key("decoder_layers", "decoder_layers", 12),
        Key("decoder_ffn_dim", "decoder_ffn", 4096),
        Key("decoder_attention_heads", "decoder_heads", 16),
        Key("scale_embedding", default=False),
        Key("tie_word_embeddings", default=True),
    ),
    prefixes=("model.", ""),
    streams=tuple(map(Stream, STACKS)),
    attentions=(
        _scaled("encoder.attn", "encoder"),
        _scaled("decoder.attn", "decoder"),
        _scaled("cross.attn", "decoder"),
    ),
    stacks=STACKS,
    follows={"pooled": "hidden"},
    constraints=tuple(
        said
        for stack in STACKS
        for said in (
            f"{stack}_key_dim == {stack}_value_dim",
            f"{stack}_heads * {stack}_key_dim == hidden",
        )
    ),
    derived=(r"(en|de)coder\.version$",),
    fixed=frozenset({"vocab", "positions", "rows"}),
)

PLBART = like(
    BART,
    "plbart",
    defaults=dict(
        vocab_size=50005,
        d_model=768,
        encoder_layers=6,
        encoder_ffn_dim=3072,
        encoder_attention_heads=12,
        decoder_layers=6,
        decoder_ffn_dim=3072,
        decoder_attention_heads=12,
        scale_embedding=True,
    ),
)

MVP = like(
    BART,
    "mvp",
    defaults=dict(vocab_size=50267, use_prompt=False),
    constraints=(*BART.constraints, "not use_prompt"),
)

MBART = like(BART, "mbart", weights=_rows("pre", first=True, last=True))

OWN = {**BART.axes, "rows": "max_position_embeddings"}

BLENDERBOT = like(
    BART,
    "blenderbot",
    weights=_rows("pre", first=False, last=True),
    axes=OWN,
    defaults=dict(
        vocab_size=8008,
        max_position_embeddings=128,
        d_model=2560,
        encoder_layers=2,
        encoder_ffn_dim=10240,
        encoder_attention_heads=32,
        decoder_layers=24,
        decoder_ffn_dim=10240,
        decoder_attention_heads=32,
    ),
)

BLENDERBOT_SMALL = like(
    BART,
    "blenderbot-small",
    axes=OWN,
    defaults=dict(
        max_position_embeddings=512,
        d_model=512,
        encoder_layers=8,
        encoder_ffn_dim=2048,
        decoder_layers=8,
        decoder_ffn_dim=2048,
    ),
)

# Some files have the sines, and nobody trains them.
FROZEN = alter("encoder.positions decoder.positions", required=False, idle="True")
PEGASUS = like(BLENDERBOT, "pegasus", FROZEN, keys=BART.keys, refusals={"hidden": SINES})
MARIAN = like(
    BART,
    "marian",
    drop("encoder.embed_norm decoder.embed_norm"),
    FROZEN,
    axes=OWN,
    defaults=dict(vocab_size=58101),
    refusals={"hidden": SINES},
)
LEARNED = like(
    BART,
    "m2m_100",
    weights=_rows("pre", first=False, last=True),
    defaults=dict(vocab_size=128112, scale_embedding=True),
    refusals={"hidden": SINES},
)
M2M_100 = like(LEARNED, "m2m_100", drop("encoder.positions decoder.positions"))

LAYOUTS = (BART, MVP, PLBART, MBART, BLENDERBOT, BLENDERBOT_SMALL, PEGASUS, MARIAN, M2M_100)
