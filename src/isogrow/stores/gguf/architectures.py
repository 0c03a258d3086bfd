"""What GGUF files hold, as data: one table an architecture, from llama.cpp's names to transformers'.

A table says under which names a tensor and a size stand in both, what a file says by not saying it, and in
which order or form llama.cpp's converter stores what. What a table does not name is refused: a tensor or a
key that nothing here reads may change what the model computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Names = Mapping[str, str]


@dataclass(frozen=True)
class Key:
    """A key of the file's metadata (without the architecture in front), and where it stands in a config.

    `default` is a formula over the config for files that don't have it; "" where they must, None where the
    config has none either. `values` are those of the file that are known, and what a config calls them.
    """

    key: str
    path: str
    default: str | None = ""
    values: Names = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Architecture:
    """An architecture of GGUF files, and the model type that computes the same.

    `tensors` names tensors without their ending (`{}`: the layer). `must` are keys that may stand in a file
    as long as they say what these formulas over the config do. `heads`: tensors whose rows have the two
    channels of a rotary pair beside each other in each of so many heads, where transformers has one half of
    the channels behind the other. `turned`: stored out × in where transformers has in × out. `offset`: what
    norms have more than transformers' gains. `biased`: tensors that have a bias in every file. `flags`:
    config keys that are true where these tensors have one, which all of them have or none. `lists`: one
    entry a layer, by the layer's number `i`. `drops`: tensors that are left out where they equal another one
    of the file. `llama3`: under which path of a config Llama 3's frequencies are scaled.
    """

    name: str
    model_type: str
    class_name: str
    tensors: Names
    keys: tuple[Key, ...]
    must: Names = field(default_factory=dict[str, str])
    fixed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    made: Names = field(default_factory=dict[str, str])
    lists: Names = field(default_factory=dict[str, str])
    biased: tuple[str, ...] = ()
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])
    heads: Names = field(default_factory=dict[str, str])
    turned: tuple[str, ...] = ()
    offset: float = 0.0
    drops: Names = field(default_factory=dict[str, str])
    llama3: str = ""


L, B = "model.layers.{}.", "blk.{}."
ATTENTION: Names = {
    B + "attn_q": L + "self_attn.q_proj",
    B + "attn_k": L + "self_attn.k_proj",
    B + "attn_v": L + "self_attn.v_proj",
    B + "attn_output": L + "self_attn.o_proj",
}
GATED: Names = {
    B + "ffn_gate": L + "mlp.gate_proj",
    B + "ffn_up": L + "mlp.up_proj",
    B + "ffn_down": L + "mlp.down_proj",
}
ENDS: Names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
BEFORE: Names = {B + "attn_norm": L + "input_layernorm", B + "ffn_norm": L + "post_attention_layernorm"}
OF_HEADS: Names = {B + "attn_q_norm": L + "self_attn.q_norm", B + "attn_k_norm": L + "self_attn.k_norm"}

SIZES = (
    Key("context_length", "max_position_embeddings"),
    Key("embedding_length", "hidden_size"),
    Key("block_count", "num_hidden_layers"),
    Key("feed_forward_length", "intermediate_size"),
    Key("attention.head_count", "num_attention_heads"),
    Key("attention.head_count_kv", "num_key_value_heads", "num_attention_heads"),
)
RMS = Key("attention.layer_norm_rms_epsilon", "rms_norm_eps")
HEAD = Key("attention.key_length", "head_dim", "hidden_size // num_attention_heads")
TURNING = {"none": "default", "linear": "linear"}
ROTARY = (
    Key("rope.freq_base", "rope_parameters.rope_theta", "10000.0"),
    Key("rope.scaling.type", "rope_parameters.rope_type", "'default'", TURNING),
    Key("rope.scaling.factor", "rope_parameters.factor", None),
)
MUST: Names = {
    "attention.value_length": "head_dim",
    "rope.dimension_count": "head_dim",
    "vocab_size": "vocab_size",
    "attention.causal": "True",
}
PLAIN = {"attention_dropout": 0.0}

LLAMA = Architecture(
    name="llama",
    model_type="llama",
    class_name="LlamaForCausalLM",
    tensors={**ENDS, **BEFORE, **ATTENTION, **GATED},
    keys=(*SIZES, RMS, HEAD, *ROTARY),
    must=MUST,
    fixed={**PLAIN, "hidden_act": "silu"},
    flags={"attention_bias": tuple(ATTENTION), "mlp_bias": tuple(GATED)},
    heads={B + "attn_q": "num_attention_heads", B + "attn_k": "num_key_value_heads"},
    llama3="rope_parameters",
)
SMOLLM3 = replace(
    LLAMA,
    name="smollm3",
    model_type="smollm3",
    class_name="SmolLM3ForCausalLM",
    fixed={**PLAIN, "hidden_act": "silu", "use_sliding_window": False},
    lists={"no_rope_layers": "int((i + 1) % 4 != 0)", "layer_types": "'full_attention'"},
    llama3="",
)
QWEN2 = replace(
    LLAMA,
    name="qwen2",
    model_type="qwen2",
    class_name="Qwen2ForCausalLM",
    fixed={**PLAIN, "hidden_act": "silu", "use_sliding_window": False},
    biased=(B + "attn_q", B + "attn_k", B + "attn_v"),
    flags={},
    lists={"layer_types": "'full_attention'"},
    heads={},
    llama3="",
)
QWEN3 = replace(
    QWEN2,
    name="qwen3",
    model_type="qwen3",
    class_name="Qwen3ForCausalLM",
    tensors={**LLAMA.tensors, **OF_HEADS},
    biased=(),
    flags={"attention_bias": tuple(ATTENTION)},
)
OLMO2 = replace(
    QWEN3,
    name="olmo2",
    model_type="olmo2",
    class_name="Olmo2ForCausalLM",
    tensors={
        **ENDS,
        **ATTENTION,
        **OF_HEADS,
        **GATED,
        B + "post_attention_norm": L + "post_attention_layernorm",
        B + "post_ffw_norm": L + "post_feedforward_layernorm",
    },
    fixed={**PLAIN, "hidden_act": "silu"},
    lists={},
)
STARCODER2 = replace(
    QWEN2,
    name="starcoder2",
    model_type="starcoder2",
    class_name="Starcoder2ForCausalLM",
    tensors={
        **ENDS,
        **BEFORE,
        **ATTENTION,
        B + "ffn_up": L + "mlp.c_fc",
        B + "ffn_down": L + "mlp.c_proj",
    },
    keys=(*SIZES, Key("attention.layer_norm_epsilon", "norm_epsilon"), HEAD, *ROTARY),
    fixed={
        **PLAIN,
        "hidden_act": "gelu_pytorch_tanh",
        "sliding_window": None,
        "residual_dropout": 0.0,
        "embedding_dropout": 0.0,
    },
    biased=(B + "attn_norm", B + "ffn_norm", "output_norm"),
    flags={"use_bias": (*ATTENTION, B + "ffn_up", B + "ffn_down")},
    lists={},
)
GEMMA = replace(
    QWEN2,
    name="gemma",
    model_type="gemma",
    class_name="GemmaForCausalLM",
    fixed={**PLAIN, "hidden_act": "gelu_pytorch_tanh"},
    biased=(),
    lists={},
    offset=1.0,
)
# llama.cpp scales by the head dim but for the largest of each, which it knows by its number of layers.
SCALE = "hidden_size // num_attention_heads if num_hidden_layers == {} else head_dim"
GEMMA2 = replace(
    GEMMA,
    name="gemma2",
    model_type="gemma2",
    class_name="Gemma2ForCausalLM",
    tensors={
        **ENDS,
        **ATTENTION,
        **GATED,
        B + "attn_norm": L + "input_layernorm",
        B + "post_attention_norm": L + "post_attention_layernorm",
        B + "ffn_norm": L + "pre_feedforward_layernorm",
        B + "post_ffw_norm": L + "post_feedforward_layernorm",
    },
    keys=(
        *GEMMA.keys,
        Key("attn_logit_softcapping", "attn_logit_softcapping"),
        Key("final_logit_softcapping", "final_logit_softcapping"),
        Key("attention.sliding_window", "sliding_window"),
    ),
    fixed={**PLAIN, "hidden_activation": "gelu_pytorch_tanh"},
    made={"query_pre_attn_scalar": SCALE.format(46)},
    lists={"layer_types": "'sliding_attention' if (i + 1) % 2 else 'full_attention'"},
)
FULL, SLIDING = "rope_parameters.full_attention.", "rope_parameters.sliding_attention."
GEMMA3 = replace(
    GEMMA2,
    name="gemma3",
    model_type="gemma3_text",
    class_name="Gemma3ForCausalLM",
    tensors={**GEMMA2.tensors, **OF_HEADS},
    keys=(
        *SIZES,
        RMS,
        HEAD,
        Key("rope.freq_base", FULL + "rope_theta"),
        Key("rope.freq_base_swa", SLIDING + "rope_theta", "10000.0"),
        Key("rope.scaling.type", FULL + "rope_type", "'default'", TURNING),
        Key("rope.scaling.factor", FULL + "factor", None),
        Key("final_logit_softcapping", "final_logit_softcapping", "None"),
        Key("attention.sliding_window", "sliding_window"),
    ),
    fixed={
        **PLAIN,
        SLIDING + "rope_type": "default",
        "hidden_activation": "gelu_pytorch_tanh",
        "attn_logit_softcapping": None,
    },
    made={"query_pre_attn_scalar": SCALE.format(62)},
    lists={"layer_types": "'sliding_attention' if (i + 1) % 6 else 'full_attention'"},
)
H = "transformer.h.{}."
TURNED = (B + "attn_qkv", B + "attn_output", B + "ffn_up", B + "ffn_down")
GPT2 = Architecture(
    name="gpt2",
    model_type="gpt2",
    class_name="GPT2LMHeadModel",
    tensors={
        "token_embd": "transformer.wte",
        "position_embd": "transformer.wpe",
        B + "attn_norm": H + "ln_1",
        B + "attn_qkv": H + "attn.c_attn",
        B + "attn_output": H + "attn.c_proj",
        B + "ffn_norm": H + "ln_2",
        B + "ffn_up": H + "mlp.c_fc",
        B + "ffn_down": H + "mlp.c_proj",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
    },
    keys=(
        Key("context_length", "n_positions"),
        Key("embedding_length", "n_embd"),
        Key("block_count", "n_layer"),
        Key("feed_forward_length", "n_inner"),
        Key("attention.head_count", "n_head"),
        Key("attention.layer_norm_epsilon", "layer_norm_epsilon"),
    ),
    must={"attention.head_count_kv": "n_head", "vocab_size": "vocab_size", "attention.causal": "True"},
    fixed={"activation_function": "gelu_new"},
    biased=(*TURNED, B + "attn_norm", B + "ffn_norm", "output_norm"),
    turned=TURNED,
    drops={"output.weight": "token_embd.weight"},
)

ARCHITECTURES: Mapping[str, Architecture] = {
    each.name: each for each in (LLAMA, SMOLLM3, QWEN2, QWEN3, OLMO2, STARCODER2, GEMMA, GEMMA2, GEMMA3, GPT2)
}
