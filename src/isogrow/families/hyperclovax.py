"""HyperCLOVA X: Granite with norms behind its branches, if the config says so."""

from __future__ import annotations

from isogrow.families.edits import after, like
from isogrow.families.granite import GRANITE
from isogrow.families.llama import LLAMA, L
from isogrow.layouts.layout import Key, Norm, Weight

BRANCH = Norm("rms", "branch", eps="rms_norm_eps")
POST = "use_post_norm"

HYPERCLOVAX = like(
    GRANITE,
    "hyperclovax",
    after("attn.o", Weight(L + "post_norm1.weight", "* hidden", "attn_after", BRANCH, when=POST)),
    after("mlp.down", Weight(L + "post_norm2.weight", "* hidden", "mlp_after", BRANCH, when=POST)),
    lacks="attention_multiplier",
    defaults=dict(use_post_norm=True),
    more=(Key("attention_multiplier", default="head_dim ** -0.5", usual="key_dim ** -0.5"),),
    constraints=LLAMA.constraints,
)

LAYOUTS = (HYPERCLOVAX,)
