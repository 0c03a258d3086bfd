"""ViT: images as patches, LayerNorm before each branch; DeiT has a token for distillation, I-JEPA no token
but patches; ViViT takes videos, AST spectra. DINOv2 with registers has tokens that nobody reads."""

from __future__ import annotations

from isogrow.families.dinov2 import DINOV2
from isogrow.families.edits import after, alter, drop, like, swap
from isogrow.families.heads import BIAS, head
from isogrow.layouts.layout import Attention, Bias, Binding, Key, Layout, Norm, Rename, Weight

PRE = Norm("layer", "pre", eps="layer_norm_eps")
E = "embeddings."
L = "layers.{layers}."
A = L + "attention."
QK, V = "(heads key_dim)", "(heads value_dim)"
SAID = Bias("qkv_bias")
FILES = "encoder.layer.{layers}."  # as save_pretrained writes what the class has under other names (5.23)
PATCH = E + "patch_embeddings.projection.weight"

VIT = Layout(
    family="vit",
    model_types=("vit",),
    weights=(
        Weight(E + "cls_token", "-> 1 1 hidden", "class"),
        # Only a class that predicts masked patches has it, and reads it where a mask is given.
        Weight(E + "mask_token", "-> 1 1 hidden", "mask", required=False, idle="True"),
        Weight(E + "position_embeddings", "1 positions -> hidden", "positions"),
        Weight(PATCH, "hidden <- channels rows columns", "embed", bias=BIAS),
        Weight(L + "layernorm_before.weight", "* hidden", "attn_norm", PRE, BIAS),
        Weight(A + "q_proj.weight", f"{QK} <- hidden", "attn.q", bias=SAID),
        Weight(A + "k_proj.weight", f"{QK} <- hidden", "attn.k", bias=SAID),
        Weight(A + "v_proj.weight", f"{V} <- hidden", "attn.v", bias=SAID),
        Weight(A + "o_proj.weight", f"hidden <- {V}", "attn.o", bias=BIAS),
        Weight(L + "layernorm_after.weight", "* hidden", "mlp_norm", PRE, BIAS),
        Weight(L + "mlp.fc1.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(L + "mlp.fc2.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        Weight("layernorm.weight", "* hidden", "final_norm", PRE, BIAS),
        Weight("pooler.dense.weight", "pooled <- hidden", "pooler", bias=BIAS, required=False),
        head("classifier.weight", "labels <- hidden", "classifier", bias=BIAS),
        head("decoder.0.weight", "pixels <- hidden 1 1", "decoder", bias=BIAS),
    ),
    axes={
        "hidden": "hidden_size",
        "pooled": "pooler_output_size",
        "ffn": "intermediate_size",
        "heads": "num_attention_heads",
        "key_dim": "hidden_size // num_attention_heads",
        "value_dim": "hidden_size // num_attention_heads",
        "channels": "num_channels",
        "layers": "num_hidden_layers",
    },
    keys=(
        Key("hidden_size", "hidden", 768),
        Key("intermediate_size", "ffn", 3072),
        Key("num_channels", default=3),
        Key("num_attention_heads", "heads", 12),
        Key("num_hidden_layers", "layers", 12),
        Key("qkv_bias", default=True),
        Key("layer_norm_eps", default=1e-12),
        # Where the config has none, the class takes the width.
        Key("pooler_output_size", "pooled", "hidden_size", null="hidden_size"),
    ),
    prefixes=("vit.", ""),
    bindings=(
        Binding(
            "files",
            {
                FILES + "layernorm_before.weight": "attn_norm",
                FILES + "attention.attention.query.weight": "attn.q",
                FILES + "attention.attention.key.weight": "attn.k",
                FILES + "attention.attention.value.weight": "attn.v",
                FILES + "attention.output.dense.weight": "attn.o",
                FILES + "layernorm_after.weight": "mlp_norm",
                FILES + "intermediate.dense.weight": "mlp.up",
                FILES + "output.dense.weight": "mlp.down",
            },
        ),
    ),
    attentions=(Attention(),),
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    fixed=frozenset({"positions", "channels", "rows", "columns", "pixels", "pooled"}),
)

DEIT = like(
    VIT,
    "deit",
    after("class", Weight(E + "distillation_token", "-> 1 1 hidden", "distilled")),
    after(
        "classifier",
        head("cls_classifier.weight", "labels <- hidden", "classifier.class", bias=BIAS),
        head("distillation_classifier.weight", "labels <- hidden", "classifier.distilled", bias=BIAS),
    ),
    prefixes=("deit.", ""),
)

# Videos as blocks of patches.
VIVIT = like(
    VIT,
    "vivit",
    alter("embed", pattern="hidden <- channels frames rows columns"),
    drop("mask decoder"),
    defaults=dict(layer_norm_eps=1e-6),
    prefixes=("vivit.", ""),
    fixed=VIT.fixed | {"frames"},
)

AXES = {axis: said for axis, said in VIT.axes.items() if axis != "pooled"}
FIXED = VIT.fixed - {"pooled"}
IJEPA = like(
    VIT,
    "ijepa",
    drop("class pooler decoder"),
    lacks="pooler_output_size",
    prefixes=("ijepa.", ""),
    axes=AXES,
    fixed=FIXED,
)

MSN = like(
    VIT,
    "vit_msn",
    drop("pooler decoder"),
    lacks="pooler_output_size",
    defaults=dict(layer_norm_eps=1e-6),
    # A file of ViTMSNForImageClassification has no "vit." before its layers' names, and has it elsewhere.
    renames=(Rename("encoder.", "vit.encoder.", beside="vit."),),
    axes=AXES,
    fixed=FIXED,
)

# Behind the last norm's shift the mean of what is normalised once more would be another one.
NORMED = (
    "what the last norm gives is normalised once more before it is classified: grow ffn or layers instead"
)
AST = like(
    DEIT,
    "audio-spectrogram-transformer",
    alter("embed", pattern="hidden <- 1 rows columns"),
    drop("mask pooler decoder classifier.class classifier.distilled"),
    swap(
        "classifier",
        head("classifier.layernorm.weight", "* hidden", "classifier_norm", norm=PRE, bias=BIAS),
        head("classifier.dense.weight", "labels <- hidden", "classifier", bias=BIAS),
    ),
    keys=(VIT.keys[3], *VIT.keys[:2], *VIT.keys[4:7]),
    prefixes=("audio_spectrogram_transformer.", ""),
    axes={axis: said for axis, said in AXES.items() if axis != "channels"},
    fixed=FIXED - {"channels"},
    refusals={"hidden": NORMED},
)

REGISTERED = like(
    DINOV2,
    "dinov2_with_registers",
    after("positions", Weight(E + "register_tokens", "-> 1 registers hidden", "registers")),
    alter("mask", when=""),
    axes={**DINOV2.axes, "registers": "num_register_tokens"},
    lacks="use_mask_token",
    more=(Key("num_register_tokens", default=4),),
    prefixes=("dinov2_with_registers.", ""),
    fixed=DINOV2.fixed | {"registers"},
)

LAYOUTS = (VIT, DEIT, VIVIT, IJEPA, MSN, AST, REGISTERED)
