"""DINOv2: images as patches, LayerNorm before each branch and LayerScale behind it, MLP or SwiGLU."""

from __future__ import annotations

from isogrow.layout import Attention, Key, Layout, Norm, Readout, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
E = "embeddings."
L = "encoder.layer.{layers}."
A = L + "attention."
QK, V = "(heads key_dim)", "(heads value_dim)"


def linear(names: tuple[str, ...], pattern: str, slot: str, when: str = "", bias: str = "") -> list[Weight]:
    """A linear layer and its bias, under the names that it has on disk and in memory."""
    produced = pattern.partition(" <- ")[0]
    return [
        line
        for name in names
        for line in (
            Weight(f"{name}.weight", pattern, slot, when=when),
            Weight(f"{name}.bias", f"-> {produced}", f"{slot}.bias", when=bias or when),
        )
    ]


PLAIN, GATED = "not use_swiglu_ffn", "use_swiglu_ffn"
GATE_UP = "(gate: ffn + up: ffn) <- hidden"

DINOV2 = Layout(
    family="dinov2",
    model_types=("dinov2",),
    weights=(
        Weight(E + "cls_token", "-> 1 1 hidden", "class"),
        Weight(E + "mask_token", "-> 1 hidden", "mask", when="use_mask_token", idle="True"),
        Weight(E + "position_embeddings", "1 positions -> hidden", "positions"),
        Weight(E + "patch_embeddings.projection.weight", "hidden <- channels rows columns", "embed"),
        Weight(E + "patch_embeddings.projection.bias", "-> hidden", "embed.bias"),
        Weight(L + "norm1.weight", "* hidden", "attn_norm", PRE),
        Weight(L + "norm1.bias", "-> hidden", "attn_norm.bias", PRE),
        *linear((A + "attention.query", A + "q_proj"), f"{QK} <- hidden", "attn.q", bias="qkv_bias"),
        *linear((A + "attention.key", A + "k_proj"), f"{QK} <- hidden", "attn.k", bias="qkv_bias"),
        *linear((A + "attention.value", A + "v_proj"), f"{V} <- hidden", "attn.v", bias="qkv_bias"),
        *linear((A + "output.dense", A + "o_proj"), f"hidden <- {V}", "attn.o"),
        Weight(L + "layer_scale1.lambda1", "* hidden", "attn.scale", gates="attn.o"),
        Weight(L + "norm2.weight", "* hidden", "mlp_norm", PRE),
        Weight(L + "norm2.bias", "-> hidden", "mlp_norm.bias", PRE),
        *linear((L + "mlp.fc1",), "ffn <- hidden", "mlp.up", when=PLAIN),
        *linear((L + "mlp.fc2",), "hidden <- ffn", "mlp.down", when=PLAIN),
        *linear((L + "mlp.weights_in",), GATE_UP, "mlp.*", when=GATED),
        *linear((L + "mlp.gate_proj",), "ffn <- hidden", "mlp.gate", when=GATED),
        *linear((L + "mlp.up_proj",), "ffn <- hidden", "mlp.up", when=GATED),
        *linear((L + "mlp.weights_out", L + "mlp.down_proj"), "hidden <- ffn", "mlp.down", when=GATED),
        Weight(L + "layer_scale2.lambda1", "* hidden", "mlp.scale", gates="mlp.down"),
        Weight("layernorm.weight", "* hidden", "final_norm", PRE),
        Weight("layernorm.bias", "-> hidden", "final_norm.bias", PRE),
        Weight("classifier.weight", "labels <- (2 hidden)", "classifier", required=False, head=True),
        Weight("classifier.bias", "-> labels", "classifier.bias", required=False, head=True),
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
