"""Encoders for long texts, beside BART's and T5's decoders: LED, BigBird-Pegasus, LongT5.

What a token attends to depends on where it stands, never on a size, so each head grows as elsewhere.
"""

from __future__ import annotations

from isogrow.families.bart import BART, BLENDERBOT, OWN
from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.heads import BIAS
from isogrow.families.t5 import BUCKETS, ENCODER, T5, line
from isogrow.layouts.layout import Attention, Bias, Key, Norm, Stream, Weight

L = "encoder.layers.{encoder_layers}.self_attn."
QK, V = "(encoder_heads encoder_key_dim)", "(encoder_heads encoder_value_dim)"
READ = "encoder.attn.q encoder.attn.k encoder.attn.v"


def _reads(name: str, letter: str, stem: str = "encoder.attn", bias: Bias = BIAS, idle: str = "") -> Weight:
    made = V if letter == "v" else QK
    return Weight(
        f"{L}{name}.weight", f"{made} <- hidden", f"{stem}.{letter}", bias=bias, idle=idle, stream="encoder"
    )


S = "longformer_self_attn."
FAR = tuple(
    _reads(f"{S}{name}_global", name[0], "encoder.global", Bias(idle="True"), idle="True")
    for name in ("query", "key", "value")
)
LED = like(
    BART,
    "led",
    alter("embed", times=""),
    swap(
        f"{READ} encoder.attn.o",
        *(_reads(S + name, name[0]) for name in ("query", "key", "value")),
        *FAR,
        Weight(f"{L}output.weight", f"hidden <- {V}", "encoder.attn.o", bias=BIAS, stream="encoder"),
    ),
    alter("encoder.positions", pattern="far -> hidden"),
    axes={
        **{axis: said for axis, said in BART.axes.items() if axis != "positions"},
        "rows": "max_decoder_position_embeddings",
        "far": "max_encoder_position_embeddings",
    },
    keys=(
        Key("max_encoder_position_embeddings", default=16384),
        Key("max_decoder_position_embeddings", default=1024),
        *(key for key in BART.keys if key.name not in ("max_position_embeddings", "scale_embedding")),
    ),
    prefixes=("led.", ""),
    streams=(
        Stream("encoder", longest="max_encoder_position_embeddings"),
        Stream("decoder", longest="max_decoder_position_embeddings"),
    ),
    attentions=(
        *BART.attentions,
        Attention(
            "encoder.global.q",
            "encoder.global.k",
            "encoder.global.v",
            axis="encoder_key_dim",
            scale="encoder_key_dim ** -0.5",
        ),
    ),
    fixed=(BART.fixed - {"positions"}) | {"far"},
)

# Its last norms are called as BART's first ones. Which blocks are read at random is drawn in training alone
# (transformers 5.23): a model that only runs reads the first block in their place, in every head and layer.
SAID = Bias("use_bias")
BIGBIRD_PEGASUS = like(
    BLENDERBOT,
    "bigbird_pegasus",
    swap(READ, *(_reads(f"self.{name}", name[0], bias=SAID) for name in ("query", "key", "value"))),
    alter("encoder.attn.o", name=f"{L}output.weight", bias=SAID),
    alter("decoder.attn.q decoder.attn.k decoder.attn.v decoder.attn.o", bias=SAID),
    alter("cross.attn.q cross.attn.k cross.attn.v cross.attn.o", bias=SAID),
    alter("encoder.final_norm", name="encoder.layernorm_embedding.weight"),
    alter("decoder.final_norm", name="decoder.layernorm_embedding.weight"),
    axes=OWN,
    defaults=dict(
        vocab_size=96103,
        max_position_embeddings=4096,
        d_model=1024,
        encoder_layers=16,
        encoder_ffn_dim=4096,
        encoder_attention_heads=16,
        decoder_layers=16,
        decoder_ffn_dim=4096,
        decoder_attention_heads=16,
        scale_embedding=True,
        use_bias=False,
    ),
)

LOCAL, SUMMED = "encoder_attention_type == 'local'", "encoder_attention_type == 'transient-global'"
BLOCK = "encoder.block.0.layer.0."


def _long(name: str, when: str) -> tuple[Weight, ...]:
    """The encoder's attention under the name that its kind has."""
    at = f"{ENCODER}0.{name}."
    qk = "(heads key_dim) <- hidden"
    return (
        line(f"{at}q.weight", qk, "encoder.attn.q", "encoder", when=when),
        line(f"{at}k.weight", qk, "encoder.attn.k", "encoder", when=when),
        line(f"{at}v.weight", "(heads value_dim) <- hidden", "encoder.attn.v", "encoder", when=when),
        line(f"{at}o.weight", "hidden <- (heads value_dim)", "encoder.attn.o", "encoder", when=when),
    )


def _table(name: str, slot: str, when: str) -> Weight:
    return line(f"{BLOCK}{name}.weight", BUCKETS, slot, "encoder", when=when)


RELATIVE = "relative_attention_bias"
# Of each block of tokens the sum of what the norm gave is normalised once more, and read by the same keys and
# values; its mean square is another one's, so hidden can't follow where ε stays. There the width stays.
LONGT5 = like(
    T5,
    "longt5",
    swap(
        "encoder.position_bias",
        _table(f"LocalSelfAttention.{RELATIVE}", "encoder.position_bias", LOCAL),
        _table(f"TransientGlobalSelfAttention.{RELATIVE}", "encoder.position_bias", SUMMED),
        _table(f"TransientGlobalSelfAttention.global_{RELATIVE}", "encoder.far_bias", SUMMED),
    ),
    drop("encoder.attn.k encoder.attn.v encoder.attn.o"),
    swap(
        "encoder.attn.q",
        *_long("LocalSelfAttention", LOCAL),
        *_long("TransientGlobalSelfAttention", SUMMED),
    ),
    after(
        "encoder.attn.q",  # queries read the first norm alone
        line(
            f"{ENCODER}0.TransientGlobalSelfAttention.global_input_layer_norm.weight",
            "* hidden",
            "encoder.far_norm",
            "encoder",
            Norm("rms", "pre", eps="layer_norm_epsilon"),
            when=SUMMED,
        ),
    ),
    more=(Key("encoder_attention_type", default="'local'"),),
    constraints=(*T5.constraints, f"{LOCAL} or hidden == d_model"),
)

LAYOUTS = (LED, BIGBIRD_PEGASUS, LONGT5)
