"""VideoMAE: ViT on tubes of a video, with biases of queries and values alone."""

from __future__ import annotations

from isogrow.families.bart import SINES
from isogrow.families.edits import after, alter, drop, like
from isogrow.families.heads import BIAS, head
from isogrow.families.vit import VIT
from isogrow.families.vit_mae import ALONE, BEFORE, LEFT
from isogrow.layouts.layout import Bias, Binding, Norm

MEAN, CLASS = "use_mean_pooling", "not use_mean_pooling"
READ = Bias("qv_bias")  # its files have these under names of their own

VIDEOMAE = like(
    VIT,
    "videomae",
    drop("class mask positions pooler decoder"),
    alter("embed", pattern="hidden <- channels frames rows columns"),
    alter("attn_norm", name=BEFORE + "layernorm_before.weight"),
    alter("attn.q", name=BEFORE + "attention.attention.query.weight", bias=READ),
    alter("attn.k", name=BEFORE + "attention.attention.key.weight", bias=None),
    alter("attn.v", name=BEFORE + "attention.attention.value.weight", bias=READ),
    alter("attn.o", name=BEFORE + "attention.output.dense.weight"),
    alter("mlp_norm", name=BEFORE + "layernorm_after.weight"),
    alter("mlp.up", name=BEFORE + "intermediate.dense.weight"),
    alter("mlp.down", name=BEFORE + "output.dense.weight"),
    alter("final_norm", when=CLASS),
    after(
        "final_norm",
        head(
            "fc_norm.weight", "* hidden", "pooled_norm", norm=Norm("layer", "pre", 1e-5), bias=BIAS, when=MEAN
        ),
    ),
    lacks="pooler_output_size qkv_bias",
    defaults=dict(qv_bias=True, use_mean_pooling=True),
    axes=ALONE,
    prefixes=("videomae.", ""),
    bindings=(
        Binding(
            "files",
            {
                BEFORE + "attention.attention.q_bias": ("attn.q.bias", "-> (heads key_dim)"),
                BEFORE + "attention.attention.v_bias": ("attn.v.bias", "-> (heads value_dim)"),
            },
        ),
    ),
    refusals={"hidden": SINES},
    fixed=LEFT | {"frames"},
)

LAYOUTS = (VIDEOMAE,)
