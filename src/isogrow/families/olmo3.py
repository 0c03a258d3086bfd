"""OLMo 3, EXAONE 4: OLMo 2 with windows; OLMo 3 has a rotary table for each kind of layer, EXAONE 4 norms on
each head's queries and keys, and no positions in layers without a window."""

from __future__ import annotations

from isogrow.families.edits import alter, like, swap
from isogrow.families.llama import ATTENTION, MLP, A
from isogrow.families.olmo2 import OLMO2
from isogrow.families.qwen3 import K_NORM, Q_NORM
from isogrow.layouts.layout import Attention, Key, PerLayer, Rope, Weight

THETA = 500000.0
LOCAL = Rope(
    theta=("rope_parameters.sliding_attention.rope_theta",),
    scaling=("rope_parameters.sliding_attention",),
    default=THETA,
)
GLOBAL = Rope(
    theta=("rope_scaling.rope_theta", "rope_parameters.full_attention.rope_theta", "rope_theta"),
    scaling=("rope_scaling", "rope_parameters.full_attention"),
    default=THETA,
    merged=True,
    others=(LOCAL,),  # an old rope_theta is not for this one
)

OLMO3 = like(
    OLMO2,
    "olmo3",
    attentions=(Attention(rope=GLOBAL),),
    per_layer=(PerLayer("layer_types", "'sliding_attention' if (i + 1) % 4 else 'full_attention'"),),
)

EXAONE4 = like(
    OLMO2,
    "exaone4",
    swap("attn.q_norm", Weight(A + "q_norm.weight", "* key_dim", "attn.q_norm", Q_NORM)),
    swap("attn.k_norm", Weight(A + "k_norm.weight", "* key_dim", "attn.k_norm", K_NORM)),
    alter(ATTENTION + " " + MLP, bias=None),
    defaults=dict(vocab_size=102400, intermediate_size=16384, num_key_value_heads=32),
    more=(Key("sliding_window_pattern", default=4),),
    attentions=(Attention(rope=Rope(everywhere=False)),),
    per_layer=(
        PerLayer(
            "layer_types", "'sliding_attention' if (i + 1) % sliding_window_pattern else 'full_attention'"
        ),
    ),
)

LAYOUTS = (OLMO3, EXAONE4)
