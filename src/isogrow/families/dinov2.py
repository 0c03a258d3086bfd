"""DINOv2: images as patches, LayerNorm before each branch and LayerScale behind it, MLP or SwiGLU."""

from __future__ import annotations

from isogrow.families.heads import BIAS, head
from isogrow.layouts.layout import Attention, Bias, Binding, Key, Layout, Norm, Readout, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
E = "embeddings."
L = "encoder.layer.{layers}."
A, M = L + "attention.", L + "mlp."
QK, V = "(heads key_dim)", "(heads value_dim)"


PLAIN, GATED = "not use_swiglu_ffn", "use_swiglu_ffn"
GATE_UP = "(gate: ffn + up: ffn) <- hidden"
PATCHES = "hidden <- channels rows columns"
SAID = Bias("qkv_bias")

DINOV2 = Layout(
    family="dinov2",
    model_types=("dinov2",),
    weights=(
        Weight(E + "cls_token", "-> 1 1 hidden", "class"),
        Weight(E + "mask_token", "-> 1 hidden", "mask", when="use_mask_token", idle="True"),
        Weight(E + "position_embeddings", "1 positions -> hidden", "positions"),
        Weight(
            E + "patch_embeddings.projection.weight", "hidden <- channels rows columns", "embed", bias=BIAS
        ),
        Weight(L + "norm1.weight", "* hidden", "attn_norm", PRE, BIAS),
        Weight(A + "attention.query.weight", f"{QK} <- hidden", "attn.q", bias=SAID),
        Weight(A + "attention.key.weight", f"{QK} <- hidden", "attn.k", bias=SAID),
        Weight(A + "attention.value.weight", f"{V} <- hidden", "attn.v", bias=SAID),
        Weight(A + "output.dense.weight", f"hidden <- {V}", "attn.o", bias=BIAS),
        Weight(L + "layer_scale1.lambda1", "* hidden", "attn.scale", gates="attn.o"),
        Weight(L + "norm2.weight", "* hidden", "mlp_norm", PRE, BIAS),
        Weight(M + "fc1.weight", "ffn <- hidden", "mlp.up", bias=BIAS, when=PLAIN),
        Weight(M + "fc2.weight", "hidden <- ffn", "mlp.down", bias=BIAS, when=PLAIN),
        Weight(M + "weights_in.weight", GATE_UP, "mlp.*", bias=BIAS, when=GATED),
        Weight(M + "weights_out.weight", "hidden <- ffn", "mlp.down", bias=BIAS, when=GATED),
        Weight(L + "layer_scale2.lambda1", "* hidden", "mlp.scale", gates="mlp.down"),
        Weight("layernorm.weight", "* hidden", "final_norm", PRE, BIAS),
        head("classifier.weight", "labels <- (2 hidden)", "classifier", bias=BIAS),
    ),
    axes={
        "hidden": "hidden_size",
        "ffn": "(int(hidden_size * mlp_ratio * 2 / 3) + 7) // 8 * 8 if use_swiglu_ffn"
        " else hidden_size * mlp_ratio",
        "heads": "num_attention_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "channels": "num_channels",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("hidden_size", "hidden", 768),
        Key("mlp_ratio", "(3 * ffn + 2) // (2 * hidden) if use_swiglu_ffn else ffn // hidden", 4),
        Key("num_channels", default=3),
        Key("num_attention_heads", "heads", 12),
        Key("num_hidden_layers", "layers", 12),
        Key("qkv_bias", default=True),
        Key("use_mask_token", default=True),
        Key("use_swiglu_ffn", default=False),
        Key("layer_norm_eps", default=1e-6),
    ),
    prefixes=("dinov2.", ""),
    bindings=(
        Binding(
            "memory",
            {
                A + "q_proj.weight": "attn.q",
                A + "k_proj.weight": "attn.k",
                A + "v_proj.weight": "attn.v",
                A + "o_proj.weight": "attn.o",
                M + "gate_proj.weight": ("mlp.gate", "ffn <- hidden"),
                M + "up_proj.weight": ("mlp.up", "ffn <- hidden"),
                M + "down_proj.weight": "mlp.down",
            },
        ),
    ),
    attentions=(Attention(),),
    readouts=(
        Readout("stage_names", "stage{}", every=True),
        Readout("out_features", "stage{}"),
        Readout("out_indices"),
    ),
    constraints=(
        "key_dim == value_dim",
        "heads * key_dim == hidden",
        "use_swiglu_ffn or ffn % hidden == 0",
        "not use_swiglu_ffn or ffn == (int((3 * ffn + 2) // (2 * hidden) * hidden * 2 / 3) + 7) // 8 * 8",
    ),
    fixed=frozenset({"positions", "channels", "rows", "columns"}),
)

LAYOUTS = (DINOV2,)
