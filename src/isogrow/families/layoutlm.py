"""LayoutLM: BERT whose tokens also have places on a page."""

from __future__ import annotations

from isogrow.families.bert import BERT
from isogrow.families.edits import after, drop, like
from isogrow.layouts.layout import Attention, Key, Weight

E = "embeddings."
TABLES = ("x", "y", "h", "w")

LAYOUTLM = like(
    BERT,
    "layoutlm",
    after(
        "positions",
        *(
            Weight(f"{E}{name}_position_embeddings.weight", "places -> hidden", f"places.{name}")
            for name in TABLES
        ),
    ),
    drop("cross.q cross.k cross.v cross.o cross_norm next"),
    axes={**{k: v for k, v in BERT.axes.items() if k != "memory"}, "places": "max_2d_position_embeddings"},
    more=(Key("max_2d_position_embeddings", default=1024),),
    lacks="add_cross_attention",
    attentions=(Attention(),),
    prefixes=("layoutlm.", ""),
    fixed=BERT.fixed | {"places"},
    follows={"pooled": "hidden", "transform": "hidden"},
)

LAYOUTS = (LAYOUTLM,)
