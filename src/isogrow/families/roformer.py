"""RoFormer: BERT whose queries and keys turn by angles that files may hold."""

from __future__ import annotations

from isogrow.families.bert import BERT
from isogrow.families.edits import before, drop, like
from isogrow.families.heads import BIAS, head
from isogrow.families.roberta import DENSE
from isogrow.layouts.layout import Key, Weight

WIDE = {"features": "hidden_size"}
ANGLES = "its positions are turned by angles that the class computes from the head dim: grow heads instead"

ROFORMER = like(
    BERT,
    "roformer",
    drop("positions pooler next classifier tagger classifier.bias"),
    before(
        "attn.q",
        Weight(
            "encoder.embed_positions.weight", "positions -> turned", "angles", required=False, idle="True"
        ),
    ),
    before("span", *DENSE, head("classifier.weight", "labels <- hidden", "tagger", bias=BIAS)),
    axes={**BERT.axes, **WIDE, "turned": "hidden_size // num_attention_heads"},
    defaults=dict(vocab_size=50000, max_position_embeddings=1536),
    more=(Key("embedding_size", "hidden", "hidden_size"),),
    prefixes=("roformer.", ""),
    fixed=BERT.fixed | {"turned"},
    follows={**BERT.follows, "features": "hidden"},
    refusals={"key_dim": ANGLES, "value_dim": ANGLES},
)

LAYOUTS = (ROFORMER,)
