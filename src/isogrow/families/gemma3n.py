"""Gemma 3n: several residual streams, of which a layer reads one and corrects all (AltUp), a low-rank part
beside attention (Laurel), inputs of each layer's own, keys and values that the last layers read of others,
and first layers whose gate keeps what is far above its mean alone."""

from __future__ import annotations

from isogrow.families.edits import like
from isogrow.families.gemma import GEMMA, GLOBAL
from isogrow.families.gemma4 import BRANCH, PRE, SHARED, attention, inner, mlp
from isogrow.families.llama import L, M
from isogrow.layouts.layout import Attention, Key, Kinds, Norm, Weight

# relu(g - mean g - c · std g) over the whole inner width: copies leave the mean and the std as they are.
SPARSE = Norm("layer", "inner", eps=0.0, of="mlp.gate")

ROWS = (
    Weight("embed_tokens.weight", "vocab -> hidden", "embed", times="hidden ** 0.5"),
    Weight(
        "per_layer_model_projection.weight", "({layers} ple) <- hidden", "ple.context", times="hidden ** -0.5"
    ),
    Weight("per_layer_projection_norm.weight", "* ple", "ple.norm", inner("ple.context")),
    Weight("embed_tokens_per_layer.weight", "ple_vocab -> ({layers} ple)", "ple.embed", times="ple ** 0.5"),
    Weight("altup_projections.{others}.weight", "width <- hidden", "altup.begin"),
    Weight(L + "altup.router_norm.weight", "* hidden", "altup.norm", PRE),
    Weight(L + "altup.modality_router.weight", "streams <- hidden", "altup.router"),
    Weight(L + "altup.prediction_coefs.weight", "maps <- streams", "altup.predict"),
    Weight(L + "altup.correction_coefs.weight", "corrected <- streams", "altup.correct"),
    Weight(L + "altup.correct_output_scale", "-> width", "altup.scale"),
    Weight(L + "input_layernorm.weight", "* hidden", "attn_norm", PRE),
    Weight(L + "laurel.linear_left.weight", "laurel <- hidden", "laurel.left"),
    *attention("attn", "", ""),
    Weight(L + "post_attention_layernorm.weight", "* hidden", "attn_after", BRANCH),
    Weight(L + "laurel.linear_right.weight", "hidden <- laurel", "laurel.right"),
    Weight(L + "laurel.post_laurel_norm.weight", "* hidden", "laurel_after", BRANCH),
    Weight(L + "pre_feedforward_layernorm.weight", "* hidden", "mlp_norm", PRE),
    *mlp("mlp", "ffn", ""),
    Weight(
        M + "sparsity",
        "* ffn",
        "mlp.sparsity",
        SPARSE,
        stored=False,
        when="max(activation_sparsity_pattern) > 0",
    ),
    Weight(L + "post_feedforward_layernorm.weight", "* hidden", "mlp_after", BRANCH),
    Weight(L + "per_layer_input_gate.weight", "ple <- hidden", "ple.gate"),
    Weight(L + "per_layer_projection.weight", "hidden <- ple", "ple.out"),
    Weight(L + "post_per_layer_input_norm.weight", "* hidden", "ple_after", BRANCH),
    Weight("altup_unembed_projections.{others}.weight", "width <- hidden", "altup.end"),
    Weight("norm.weight", "* hidden", "final_norm", PRE),
    *GEMMA.weights[-3:],
)

GEMMA3N = like(
    GEMMA,
    "gemma3n_text",
    weights=ROWS,
    axes={
        **GEMMA.axes,
        "ffn": "intermediate_size[0]",
        "width": "hidden_size",
        "laurel": "laurel_rank",
        "ple": "hidden_size_per_layer_input",
        "ple_vocab": "vocab_size_per_layer_input",
        "streams": "altup_num_inputs",
        "corrected": "altup_num_inputs",
        "maps": "altup_num_inputs ** 2",
        "others": "altup_num_inputs - 1",
    },
    lacks="intermediate_size",
    defaults=dict(
        vocab_size=262400,
        hidden_size=2048,
        num_hidden_layers=35,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=256,
    ),
    more=(
        # As many entries as layers, all alike here.
        Key("intermediate_size", "list(range(ffn, ffn + 1)) * num_hidden_layers", [16384] * 35),
        Key("attention_bias", default=False),
        Key("num_kv_shared_layers", default=15),
        Key("hidden_size_per_layer_input", default=256),
        Key("vocab_size_per_layer_input", default=262144),
        Key("laurel_rank", default=64),
        Key("altup_num_inputs", default=4),
        Key("activation_sparsity_pattern", default=[0.95] * 10 + [0.0] * 25),
    ),
    attentions=(Attention(scale="", rope=GLOBAL),),
    kinds=(Kinds("num_kv_shared_layers", SHARED, counts=True),),
    constraints=("key_dim == value_dim", "hidden % (kv_heads * group) == 0"),
    fixed=GEMMA.fixed | {"width", "laurel", "ple", "ple_vocab", "streams", "corrected", "maps", "others"},
    refusals={
        "hidden": "its streams are made of each other by projections from the residual to the residual, for"
        " which no rule is proven (docs/laws.md); grow ffn instead",
        "layers": "a layer divides its residual by √2 and adds it normalised, so no new one is the identity"
        " (docs/laws.md); grow ffn instead",
    },
)

LAYOUTS = (GEMMA3N,)
