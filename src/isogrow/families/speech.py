"""Encoders of speech: wav2vec 2.0 and its kin, whose convolutions stay what they are. What those give to the
residual is read by a convolution over positions, whose weights are normalised over all channels and whose
output is bent, so that the width stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isogrow.families.edits import after, alter, like, swap
from isogrow.families.heads import BIAS, head
from isogrow.layouts.layout import Attention, Key, Layout, Norm, Weight

STABLE, PLAIN = "do_stable_layer_norm", "not do_stable_layer_norm"
PRE, POST = (Norm("layer", where, eps="layer_norm_eps") for where in ("pre", "post"))
L = "encoder.layers.{layers}."
A, M = L + "attention.", L + "feed_forward."
QK, V = "(heads key_dim)", "(heads value_dim)"
POSITIONS = (
    "a convolution over positions reads it, whose weights are normalised over all channels and whose output"
    " goes through a GELU: grow ffn instead"
)
PARTS = ("feature_extractor.", "feature_projection.layer_norm.", "encoder.pos_conv_embed.", "adapter.")
HEADS = ("quantizer.", "project_q.", "project_hid.", "ctc_proj.", "tdnn.", "feature_extractor.", "objective.")
LAYERS = "weighs what each layer gives, and there would be more of them: grow the base model alone"
FOREIGN = {
    r"^layer_weights$": LAYERS,
    r"\.adapter_layer\.": "adds to the residual behind each layer, and a new layer would have one, too",
}


def _norms(post: str, pre: str, name: str, slot: str) -> tuple[Weight, Weight]:
    """A norm in its two places: behind a branch, or before it."""
    return (
        Weight(name, "* hidden", f"{slot}_norm", POST, BIAS, when=post),
        Weight(name, "* hidden", f"{slot}_norm", PRE, BIAS, when=pre),
    )


def _carried(prefix: str, *more: str) -> tuple[str, ...]:
    return (*(prefix + part for part in (*PARTS, *more)), *PARTS, *more, *HEADS)


(ATTN_AFTER, ATTN_BEFORE) = _norms(PLAIN, STABLE, L + "layer_norm.weight", "attn")
(MLP_AFTER, MLP_BEFORE) = _norms(PLAIN, STABLE, L + "final_layer_norm.weight", "mlp")

WAV2VEC2 = Layout(
    family="wav2vec2",
    model_types=("wav2vec2",),
    weights=(
        Weight("masked_spec_embed", "-> hidden", "mask", required=False, idle="True"),
        Weight("feature_projection.projection.weight", "hidden <- features", "embed", bias=BIAS),
        Weight("encoder.layer_norm.weight", "* hidden", "embed_norm", POST, BIAS, when=PLAIN),
        ATTN_BEFORE,
        Weight(A + "q_proj.weight", f"{QK} <- hidden", "attn.q", bias=BIAS),
        Weight(A + "k_proj.weight", f"{QK} <- hidden", "attn.k", bias=BIAS),
        Weight(A + "v_proj.weight", f"{V} <- hidden", "attn.v", bias=BIAS),
        Weight(A + "out_proj.weight", f"hidden <- {V}", "attn.o", bias=BIAS),
        ATTN_AFTER,
        MLP_BEFORE,
        Weight(M + "intermediate_dense.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(M + "output_dense.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        MLP_AFTER,
        Weight("encoder.layer_norm.weight", "* hidden", "final_norm", PRE, BIAS, when=STABLE),
        head("lm_head.weight", "vocab <- hidden", "head", bias=BIAS),
        head("projector.weight", "projected <- hidden", "project", bias=BIAS),
        # Of the projection, of what an x-vector pools of it, or of the residual.
        head("classifier.weight", "labels <- pooled", "classifier", needs="project"),
        head("classifier.weight", "labels <- hidden", "tagger"),
        head("classifier.bias", "-> labels", "classifier.bias"),
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "heads": "num_attention_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("vocab_size", default=32),
        Key("hidden_size", "hidden", 768),
        Key("intermediate_size", "ffn", 3072),
        Key("num_attention_heads", "heads", 12),
        Key("num_hidden_layers", "layers", 12),
        Key("layer_norm_eps", default=1e-5),
        Key("do_stable_layer_norm", default=False),
    ),
    prefixes=("wav2vec2.", ""),
    attentions=(Attention(),),
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    refusals={"hidden": POSITIONS},
    foreign=FOREIGN,
    carried=_carried("wav2vec2."),
    fixed=frozenset({"vocab", "features", "projected", "pooled"}),
)


def kin(family: str, prefix: str, *edits: Any, **said: Any) -> Layout:
    """The same under another prefix."""
    parts = said.pop("parts", ())
    return like(
        WAV2VEC2,
        family,
        *edits,
        prefixes=(prefix, ""),
        carried=_carried(prefix, *parts),
        **said,
    )


HUBERT = kin("hubert", "hubert.")
UNISPEECH = kin("unispeech", "unispeech.")
UNISPEECH_SAT = kin("unispeech-sat", "unispeech_sat.")

# What a head attends to is shifted by where tokens stand, through a gate that reads its part of the residual.
# One table serves all layers: the 0 in its name is no layer's number.
WAVLM = kin(
    "wavlm",
    "wavlm.",
    after(
        "attn.v",
        Weight(A + "gru_rel_pos_linear.weight", "gates <- part", "attn.gate", bias=BIAS),
        Weight(A + "gru_rel_pos_const", "-> 1 heads 1 1", "attn.gate_scale"),
    ),
    parts=("encoder.layers.0.attention.rel_attn_embed.",),
    attentions=(Attention(bias="attn.gate", sink="attn.gate_scale"),),  # which both say what is attended to
    fixed=WAV2VEC2.fixed | {"gates", "part"},
)

# Their norms always stand behind the branches.
BEHIND = tuple(
    replace(row, when="") if row.when == PLAIN else row for row in WAV2VEC2.weights if row.when != STABLE
)
DATA2VEC_AUDIO = kin("data2vec-audio", "data2vec_audio.", weights=BEHIND, lacks="do_stable_layer_norm")
SEW = kin(
    "sew",
    "sew.",
    swap("embed", Weight("feature_projection.weight", "hidden <- features", "embed", bias=BIAS)),
    weights=BEHIND,
    lacks="do_stable_layer_norm",
    parts=("layer_norm.", "encoder.upsample."),
)

# Norms before the branches, and convolutions under other names.
BEFORE = tuple(
    replace(row, when="", name=row.name.removeprefix("encoder."))
    for row in WAV2VEC2.weights
    if row.when != PLAIN and not row.head and row.slot != "mask"
)
OMNIASR = like(
    WAV2VEC2,
    "omniasr_audio",
    alter("embed", name="subsampling.projection.weight"),
    weights=BEFORE,
    lacks="vocab_size do_stable_layer_norm",
    defaults=dict(hidden_size=1024, intermediate_size=4096, num_attention_heads=16, num_hidden_layers=24),
    axes={axis: said for axis, said in WAV2VEC2.axes.items() if axis != "vocab"},
    prefixes=("",),
    carried=("subsampling.conv_layers.", "subsampling.layer_norm.", "encode_positions."),
    foreign={},
    fixed=frozenset({"features"}),
)

LAYOUTS = (WAV2VEC2, HUBERT, UNISPEECH, UNISPEECH_SAT, WAVLM, DATA2VEC_AUDIO, SEW, OMNIASR)
