"""EuroBERT: Llama that looks both ways, with heads of an encoder."""

from __future__ import annotations

from isogrow.families.edits import like, swap
from isogrow.families.heads import BIAS, head
from isogrow.families.llama import LLAMA
from isogrow.layouts.layout import Bias

EUROBERT = like(
    LLAMA,
    "eurobert",
    swap(
        "head score span",
        head("lm_head.weight", "vocab <- hidden", "head", tied="embed", bias=Bias("mlp_bias")),
        head("dense.weight", "features <- hidden", "features", bias=BIAS),
        head("classifier.weight", "labels <- features", "classifier", needs="features"),
        head("classifier.weight", "labels <- hidden", "tagger"),
        head("classifier.bias", "-> labels", "classifier.bias"),  # of either
    ),
    axes={**LLAMA.axes, "features": "hidden_size"},
    defaults=dict(
        vocab_size=128256,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        rms_norm_eps=1e-5,
        mlp_bias=False,
    ),
    follows={"features": "hidden"},
)

LAYOUTS = (EUROBERT,)
