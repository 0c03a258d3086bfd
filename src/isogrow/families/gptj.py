"""GPT-J: one LayerNorm before attention and MLP, which run in parallel; a part of each head rotates.
CodeGen is GPT-J with its projections in four groups of heads, as many as the chips that it was trained on."""

from __future__ import annotations

from dataclasses import replace

from isogrow.families.edits import like, swap
from isogrow.families.heads import BIAS, HEADS
from isogrow.layouts.layout import Attention, Key, Layout, Norm, Rope, Weight

PRE = Norm("layer", "pre", eps="layer_norm_epsilon")
L = "h.{layers}."

GPTJ = Layout(
    family="gptj",
    model_types=("gptj",),
    weights=(
        Weight("wte.weight", "vocab -> hidden", "embed"),
        Weight(L + "ln_1.weight", "* hidden", "norm", PRE, BIAS),
        Weight(L + "attn.q_proj.weight", "(heads key_dim) <- hidden", "attn.q"),
        Weight(L + "attn.k_proj.weight", "(heads key_dim) <- hidden", "attn.k"),
        Weight(L + "attn.v_proj.weight", "(heads value_dim) <- hidden", "attn.v"),
        Weight(L + "mlp.fc_in.weight", "ffn <- hidden", "mlp.up", bias=BIAS),
        Weight(L + "attn.out_proj.weight", "hidden <- (heads value_dim)", "attn.o"),
        Weight(L + "mlp.fc_out.weight", "hidden <- ffn", "mlp.down", bias=BIAS),
        Weight("ln_f.weight", "* hidden", "final_norm", PRE, BIAS),
        *HEADS,
    ),
    axes={
        "vocab": "vocab_size",
        "hidden": "n_embd",
        "ffn": "n_inner",
        "heads": "n_head",
        "key_dim": "n_embd // n_head",
        "value_dim": "n_embd // n_head",
        "layers": "n_layer",
    },
    keys=(
        Key("vocab_size", default=50400),
        Key("n_embd", "hidden", 4096, alias="hidden_size"),
        Key("n_head", "heads", 16, alias="num_attention_heads"),
        Key("n_inner", "ffn", "4 * n_embd"),
        Key("n_layer", "layers", 28, alias="num_hidden_layers"),
        Key("rotary_dim", default=64),
        Key("layer_norm_epsilon", default=1e-5),
        Key("tie_word_embeddings", default=False),
    ),
    prefixes=("transformer.", ""),
    attentions=(Attention(rope=Rope("adjacent", rotated="rotary_dim")),),
    constraints=("key_dim == value_dim", "heads * key_dim == hidden"),
    derived=(r"\.attn\.(masked_)?bias$", r"embed_positions$"),
)

FUSED = "(kv_heads (q: group key_dim + v: group value_dim + k: group key_dim)) <- hidden"
GROUPS = "the code has four groups of heads: give heads, a multiple of 4, instead"
CODEGEN = like(
    GPTJ,
    "codegen",
    swap("attn.q", Weight(L + "attn.qkv_proj.weight", FUSED, "attn.*")),
    swap("attn.k attn.v"),
    swap("attn.o", Weight(L + "attn.out_proj.weight", "hidden <- (kv_heads group value_dim)", "attn.o")),
    axes={
        **{axis: said for axis, said in GPTJ.axes.items() if axis != "heads"},
        "kv_heads": "4",
        "group": "n_head // 4",
    },
    keys=tuple(replace(key, size="kv_heads * group") if key.name == "n_head" else key for key in GPTJ.keys),
    constraints=("key_dim == value_dim", "kv_heads * group * key_dim == hidden"),
    refusals={"kv_heads": GROUPS},
)

LAYOUTS = (GPTJ, CODEGEN)
