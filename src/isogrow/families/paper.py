"""The paper's own architecture (arXiv 2308.06103, Eqs 1-5): sizes may differ per layer and per head.

Every head is a block of its own, so `heads` is an index axis here, and each size belongs to a site.
The paper's model has no config of sizes: they are read off the tensors.
"""

from __future__ import annotations

from isogrow.layouts.layout import Attention, Bias, Key, Layout, Norm, Weight

PRE = Norm("rms", "pre", eps="eps")
L = "layers.{layers}."
H = L + "heads.{heads}."

PAPER = Layout(
    family="paper",
    weights=(
        Weight("embedding", "vocab -> hidden", "embed"),
        Weight("positions", "positions -> hidden", "positions"),
        Weight(L + "norm_1", "* hidden", "attn_norm", PRE),
        Weight(H + "query", "hidden -> key_dim", "attn.q"),
        Weight(H + "key", "hidden -> key_dim", "attn.k"),
        Weight(H + "value", "hidden -> value_dim", "attn.v"),
        Weight(H + "out", "value_dim -> hidden", "attn.o"),
        Weight(L + "norm_2", "* hidden", "mlp_norm", PRE),
        Weight(L + "mlp.w1", "hidden -> ffn", "mlp.up", bias=Bias(name=L + "mlp.b1")),
        Weight(L + "mlp.w2", "ffn -> hidden", "mlp.down", bias=Bias(name=L + "mlp.b2")),
        Weight("out", "hidden -> outputs", "head", head=True),
    ),
    axes={},
    keys=(Key("eps", default=0.0), Key("tie_word_embeddings", default=False)),
    attentions=(Attention(),),
    sites={
        "heads": ("layers",),
        "ffn": ("layers",),
        "key_dim": ("layers", "heads"),
        "value_dim": ("layers", "heads"),
    },
)
