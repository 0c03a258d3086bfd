"""Towers of images within wrappers whose queries, keys and values have tensors of their own: Muse Glimmer's,
Muse Spark's and Kimi K2.5's; data2vec's, which is BEiT's under older names."""

from __future__ import annotations

from isogrow.families.beit import BEIT
from isogrow.families.edits import alter, drop, like, swap
from isogrow.families.heads import BIAS
from isogrow.families.patch_grid_towers import FIXED, MERGED
from isogrow.layouts.layout import Attention, Key, Layout, Norm, PerLayer, Stream, Weight

DATA2VEC = like(
    BEIT,
    "data2vec-vision",
    *(alter(slot, name=name) for name, slot in BEIT.bindings[0].places.items() if isinstance(slot, str)),
    prefixes=("data2vec_vision.", ""),
    bindings=(),
)

L = "layers.{layers}."
A, M, P = L + "attn.", L + "mlp.", "patch_embedder."
PRE = Norm("layer", "pre", eps=1e-5)
MUSE = Layout(
    family="muse_glimmer_vision",
    model_types=("muse_glimmer_vision",),
    weights=(
        Weight(P + "patch_embedding.weight", "hidden <- pixels", "embed"),
        Weight(P + "position_embedding_table.weight", "places -> hidden", "positions"),
        Weight("ln_pre.weight", "* hidden", "embed_norm", Norm("layer", "post", "layer_norm_eps"), BIAS),
        Weight(L + "norm1.weight", "* hidden", "attn_norm", PRE, BIAS),
        Weight(A + "q_proj.weight", "(heads key_dim) <- hidden", "attn.q", bias=BIAS),
        Weight(A + "k_proj.weight", "(heads key_dim) <- hidden", "attn.k", bias=BIAS),
        Weight(A + "v_proj.weight", "(heads value_dim) <- hidden", "attn.v", bias=BIAS),
        Weight(A + "proj.weight", "hidden <- (heads value_dim)", "attn.o", bias=BIAS),
        Weight(L + "norm2.weight", "* hidden", "mlp_norm", PRE, BIAS),
        Weight(M + "fc1.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(M + "fc2.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        Weight("ln_post.weight", "* hidden", "final_norm", Norm("layer", "pre", "layer_norm_eps"), BIAS),
    ),
    axes={
        "hidden": "hidden_size",
        "ffn": "intermediate_size",
        "heads": "num_attention_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("hidden_size", "hidden", 1536),
        Key("intermediate_size", "ffn", 8960),
        Key("num_hidden_layers", "layers", 50),
        Key("num_attention_heads", "heads", 16),
        Key("layer_norm_eps", default=1e-5),
    ),
    attentions=(Attention(),),
    per_layer=(
        PerLayer(
            "layer_types",
            "'full_attention' if (i + 1) % 4 == 0 or i == num_hidden_layers - 1 else 'window_attention'",
        ),
    ),
    streams=(Stream(tie="", longest=""),),
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    refusals={"hidden": MERGED},
    fixed=FIXED | {"pixels"},
)

KIMI = like(
    MUSE,
    "kimi_k25_vision",
    drop("embed_norm"),
    swap(
        "embed positions",
        Weight("patch_embed.proj.weight", "hidden <- channels rows columns", "embed", bias=BIAS),
        Weight("patch_embed.pos_emb.position_embeddings", "down across -> hidden", "positions"),
    ),
    swap("final_norm", Weight("final_layernorm.weight", "* hidden", "final_norm", PRE, BIAS)),
    defaults=dict(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27),
    lacks="layer_norm_eps",
    per_layer=(),
    fixed=MUSE.fixed | {"down", "across"},
)

LAYOUTS = (DATA2VEC, MUSE, like(MUSE, "muse_spark_vision"), KIMI)
