"""ImageGPT: GPT-2 over colours, with norms that take no mean, and a head for the next colour of its own."""

from __future__ import annotations

from isogrow.families.edits import alter, drop, like, swap
from isogrow.families.gpt2 import GPT2
from isogrow.families.heads import head
from isogrow.layouts.layout import Norm

PRE = Norm("rms", "pre", eps="layer_norm_epsilon")

IMAGEGPT = like(
    GPT2,
    "imagegpt",
    alter("attn_norm cross_norm mlp_norm final_norm", norm=PRE, bias=None),
    # One colour begins a picture, and none is predicted for it.
    swap("head", head("lm_head.weight", "colours <- hidden", "head")),
    drop("tag span choice"),
    axes={**GPT2.axes, "colours": "vocab_size - 1"},
    defaults=dict(vocab_size=513, n_embd=512, n_layer=24, n_head=8, tie_word_embeddings=False),
    fixed=GPT2.fixed | {"colours"},
)

LAYOUTS = (IMAGEGPT,)
