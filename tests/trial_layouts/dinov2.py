"""DINOv2: patches, class and mask tokens, pre-LayerNorm, LayerScale on each branch, MLP or SwiGLU."""

from __future__ import annotations

from isogrow.layout import Attention, Key, Layout, Norm, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
E = "embeddings."
L = "encoder.layer.{layers}."
A = L + "attention."
SWIGLU = "(gate: ffn + up: ffn)"


def some(name: str, pattern: str, slot: str) -> Weight:
    """A line that not every model or binding has."""
    return Weight(name, pattern, slot, required=False)


def projection(disk: str, memory: str, slot: str, axes: str) -> tuple[Weight, ...]:
    """q, k or v, under both names."""
    return tuple(
        line
        for name in (A + disk, A + memory)
        for line in (
            some(f"{name}.weight", f"{axes} <- hidden", slot),
            some(f"{name}.bias", f"-> {axes}", f"{slot}.bias"),
        )
    )


WEIGHTS = (
    Weight(E + "cls_token", "-> 1 1 hidden", "class"),
    some(E + "mask_token", "-> 1 hidden", "mask"),
    Weight(E + "position_embeddings", "1 positions -> hidden", "positions"),
    Weight(E + "patch_embeddings.projection.weight", "hidden <- channels rows columns", "embed"),
    Weight(E + "patch_embeddings.projection.bias", "-> hidden", "embed.bias"),
    Weight(L + "norm1.weight", "* hidden", "attn_norm", PRE),
    Weight(L + "norm1.bias", "-> hidden", "attn_norm.bias", PRE),
    *projection("attention.query", "q_proj", "attn.q", "(heads key_dim)"),
    *projection("attention.key", "k_proj", "attn.k", "(heads key_dim)"),
    *projection("attention.value", "v_proj", "attn.v", "(heads value_dim)"),
    some(A + "output.dense.weight", "hidden <- (heads value_dim)", "attn.o"),
    some(A + "output.dense.bias", "-> hidden", "attn.o.bias"),
    some(A + "o_proj.weight", "hidden <- (heads value_dim)", "attn.o"),
    some(A + "o_proj.bias", "-> hidden", "attn.o.bias"),
    Weight(L + "layer_scale1.lambda1", "* hidden", "attn.scale"),
    Weight(L + "norm2.weight", "* hidden", "mlp_norm", PRE),
    Weight(L + "norm2.bias", "-> hidden", "mlp_norm.bias", PRE),
    some(L + "mlp.fc1.weight", "ffn <- hidden", "mlp.up"),
    some(L + "mlp.fc1.bias", "-> ffn", "mlp.up.bias"),
    some(L + "mlp.weights_in.weight", f"{SWIGLU} <- hidden", "mlp.*"),
    some(L + "mlp.weights_in.bias", f"-> {SWIGLU}", "mlp.*.bias"),
    some(L + "mlp.gate_proj.weight", "ffn <- hidden", "mlp.gate"),
    some(L + "mlp.gate_proj.bias", "-> ffn", "mlp.gate.bias"),
    some(L + "mlp.up_proj.weight", "ffn <- hidden", "mlp.up"),
    some(L + "mlp.up_proj.bias", "-> ffn", "mlp.up.bias"),
    some(L + "mlp.fc2.weight", "hidden <- ffn", "mlp.down"),
    some(L + "mlp.fc2.bias", "-> hidden", "mlp.down.bias"),
    some(L + "mlp.weights_out.weight", "hidden <- ffn", "mlp.down"),
    some(L + "mlp.weights_out.bias", "-> hidden", "mlp.down.bias"),
    some(L + "mlp.down_proj.weight", "hidden <- ffn", "mlp.down"),
    some(L + "mlp.down_proj.bias", "-> hidden", "mlp.down.bias"),
    Weight(L + "layer_scale2.lambda1", "* hidden", "mlp.scale"),
    Weight("layernorm.weight", "* hidden", "final_norm", PRE),
    Weight("layernorm.bias", "-> hidden", "final_norm.bias", PRE),
    Weight("classifier.weight", "labels <- (2 hidden)", "classifier", required=False, head=True),
    Weight("classifier.bias", "-> labels", "classifier.bias", required=False, head=True),
)

ALWAYS = ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.up", "mlp.down")
WHEN = {
    "mask": "use_mask_token",
    **dict.fromkeys(ALWAYS, "True"),
    **dict.fromkeys(("attn.o.bias", "mlp.up.bias", "mlp.down.bias"), "True"),
    **dict.fromkeys(("attn.q.bias", "attn.k.bias", "attn.v.bias"), "qkv_bias"),
    **dict.fromkeys(("mlp.*", "mlp.*.bias", "mlp.gate", "mlp.gate.bias"), "use_swiglu_ffn"),
}
FFN = "int(hidden_size * mlp_ratio)"

LAYOUT = Layout(
    family="dinov2",
    model_types=("dinov2",),
    weights=WEIGHTS,
    axes={
        "hidden": "hidden_size",
        "ffn": f"(int({FFN} * 2 / 3) + 7) // 8 * 8 if use_swiglu_ffn else {FFN}",
        "heads": "num_attention_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "channels": "num_channels",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("hidden_size", "hidden", 768),
        Key("mlp_ratio", "round(1.5 * ffn / hidden) if use_swiglu_ffn else ffn // hidden", 4),
        Key("num_attention_heads", "heads", 12),
        Key("num_channels", default=3),
        Key("num_hidden_layers", "layers", 12),
        Key("qkv_bias", default=True),
        Key("use_mask_token", default=True),
        Key("use_swiglu_ffn", default=False),
        Key("layer_norm_eps", default=1e-6),
    ),
    prefixes=("dinov2.", ""),
    attentions=(Attention(),),
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    fixed=frozenset({"positions", "channels", "rows", "columns"}),
)
