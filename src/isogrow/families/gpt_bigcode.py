"""GPT-BigCode (SantaCoder, StarCoder): GPT-2 with Linear layers, and one key and value for all heads."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.edits import drop, like, swap
from isogrow.families.gpt2 import GPT2, L
from isogrow.families.heads import BIAS, LM, SCORE, TAG
from isogrow.layouts.layout import Attention, Weight

C = L + "attn.c_attn.weight"
SHARED = "(q: heads key_dim + k: key_dim + v: value_dim)"
OWN = "(heads (q: key_dim + k: key_dim + v: value_dim))"

LINEAR = like(
    GPT2,
    "gpt_bigcode",
    drop("cross_norm cross.q cross.* cross.o head score tag span choice"),
    swap(
        "attn.*",
        Weight(C, f"{SHARED} <- hidden", "attn.*", bias=BIAS, when="multi_query"),
        Weight(C, f"{OWN} <- hidden", "attn.*", bias=BIAS, when="not multi_query"),
    ),
    swap("attn.o", Weight(L + "attn.c_proj.weight", "hidden <- (heads value_dim)", "attn.o", bias=BIAS)),
    swap("mlp.up", Weight(L + "mlp.c_fc.weight", "ffn <- hidden", "mlp.up", bias=BIAS)),
    swap(
        "mlp.down",
        Weight(L + "mlp.c_proj.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
    ),
    axes={axis: said for axis, said in GPT2.axes.items() if axis != "memory"},
    lacks="add_cross_attention scale_attn_by_inverse_layer_idx",
    defaults=dict(multi_query=True),
    attentions=(Attention(scale="key_dim ** -0.5 if scale_attn_weights else 1"),),
    follows={},
)
GPT_BIGCODE = replace(LINEAR, weights=(*LINEAR.weights, LM, replace(SCORE, bias=None), TAG))

LAYOUTS = (GPT_BIGCODE,)
