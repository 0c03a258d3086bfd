"""BigBird: BERT whose tokens read blocks of others, some of them chosen at random."""

from __future__ import annotations

from isogrow.families.bert import BERT
from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.heads import BIAS
from isogrow.families.roberta import DENSE
from isogrow.layouts.layout import Bias, Weight

SAID = Bias("use_bias")
WIDE = {"features": "hidden_size"}

# Which blocks a head reads at random is drawn for all heads together.
BIG_BIRD = like(
    BERT,
    "big_bird",
    alter("embed", times="hidden ** 0.5 if rescale_embeddings else 1"),
    alter("attn.q attn.k attn.v cross.q cross.k cross.v", bias=SAID),
    swap("pooler", Weight("pooler.weight", "pooled <- hidden", "pooler", bias=BIAS, required=False)),
    after("classifier.bias", *DENSE),
    drop("span"),
    axes={**BERT.axes, **WIDE},
    follows={**BERT.follows, "features": "hidden"},
    defaults=dict(
        vocab_size=50358,
        max_position_embeddings=4096,
        use_bias=True,
        rescale_embeddings=False,
        attention_type="'block_sparse'",
    ),
    constraints=(*BERT.constraints, "attention_type == 'original_full' or heads == num_attention_heads"),
)

LAYOUTS = (BIG_BIRD,)
