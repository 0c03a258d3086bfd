"""Tiny models as GGUF files, written as llama.cpp's converter (of llama-cpp-python 0.3.36) writes them, with
the names of the `gguf` package: nothing here reads isogrow's own tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tiny
import torch
import transformers
from torch import Tensor

QUANTS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SIZES: dict[str, Any] = tiny.GATED | {"max_position_embeddings": 64}
RMS = dict(SIZES, rms_norm_eps=1e-3)
GEMMA = dict(RMS, sliding_window=8, query_pre_attn_scalar=tiny.HEAD_DIM)
THETA: dict[str, Any] = {"rope_parameters": {"rope_type": "default", "rope_theta": 7777.0}}
LOCAL = {
    "full_attention": {"rope_type": "linear", "rope_theta": 77777.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 7777.0},
}
NARROW = {"head_dim": tiny.HIDDEN // tiny.HEADS}
# architecture: a config
CONFIGS: Mapping[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**RMS, **THETA, attention_bias=True),
    "smollm3": lambda: transformers.SmolLM3Config(
        **RMS, **THETA, use_sliding_window=False, pad_token_id=None
    ),
    "qwen2": lambda: transformers.Qwen2Config(**RMS, **THETA),
    "qwen3": lambda: transformers.Qwen3Config(**RMS, **THETA, tie_word_embeddings=True),
    "olmo2": lambda: transformers.Olmo2Config(**(RMS | NARROW), **THETA, pad_token_id=None),
    "starcoder2": lambda: transformers.Starcoder2Config(
        **(SIZES | NARROW), **THETA, norm_epsilon=1e-3, use_bias=True, sliding_window=None
    ),
    "gemma": lambda: transformers.GemmaConfig(**RMS, pad_token_id=None),
    "gemma2": lambda: transformers.Gemma2Config(**GEMMA, pad_token_id=None),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **(GEMMA | {"num_hidden_layers": 7}), rope_parameters=LOCAL, pad_token_id=None
    ),
    "gpt2": lambda: tiny.gpt2(layer_norm_epsilon=1e-3),
}
ONE_PLUS = ("gemma", "gemma2", "gemma3")


def model(architecture: str, kind: str) -> Any:
    """A random model in the dtype of a GGUF type; gains of 1 + g have some near −1, as tiny as a g can be."""
    torch.manual_seed(7)
    made: Any = transformers.AutoModelForCausalLM.from_config(CONFIGS[architecture]())
    for name, parameter in made.named_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
        if name.endswith("norm.weight") and architecture in ONE_PLUS:
            # What 1 + g keeps in float32: the file has rounded others, and nobody knows what they were.
            parameter.data = (torch.round(parameter.data * 2**6) / 2**6).clone()
            parameter.data[:3] = torch.tensor([-0.984375, 2.0**-7, 0.0])
    return made.to(QUANTS[kind])


def save(
    path: Path,
    made: Any,
    architecture: str,
    kind: str = "F32",
    beside: Mapping[str, Tensor] | None = None,
    kinds: Mapping[str, str] | None = None,
    **more: Any,
) -> Path:
    """A model as a GGUF file whose matrices are of this type, or of their own (`kinds`); `beside` are tensors
    that only the file has, `more` keys that it says beside."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (metadata(made.config, architecture) | more).items():
        add(writer, key if key.startswith(("general.", "split.")) else f"{architecture}.{key}", value)
    writer.add_tokenizer_model("none")
    writer.add_bos_token_id(1)
    names = gguf.get_tensor_name_map(_arch(architecture), _layers(made.config))
    for name, tensor in made.state_dict().items():
        if name == "lm_head.weight" and made.config.tie_word_embeddings:
            continue
        stored(writer, *as_stored(made.config, architecture, name, tensor, names), kind, kinds)
    for name, tensor in (beside or {}).items():
        stored(writer, name, tensor, kind, kinds)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _arch(architecture: str) -> Any:
    return next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture)


def _layers(config: Any) -> int:
    return config.num_hidden_layers


def add(writer: Any, key: str, value: Any) -> None:
    """A key of the metadata, in the type that its value has in Python."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    else:
        writer.add_string(key, value)


def metadata(config: Any, architecture: str) -> dict[str, Any]:
    """The keys that the converter writes for a config."""
    if architecture == "gpt2":
        return {
            "context_length": config.n_positions,
            "embedding_length": config.n_embd,
            "feed_forward_length": config.n_inner,
            "block_count": config.n_layer,
            "attention.head_count": config.n_head,
            "attention.layer_norm_epsilon": config.layer_norm_epsilon,
        }
    eps = "layer_norm_epsilon" if architecture == "starcoder2" else "layer_norm_rms_epsilon"
    said = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        f"attention.{eps}": config.norm_epsilon if eps == "layer_norm_epsilon" else config.rms_norm_eps,
    }
    if (head := getattr(config, "head_dim", None)) is not None:
        said |= {"attention.key_length": head, "attention.value_length": head}
    if architecture in ("llama", "smollm3"):
        said |= {"vocab_size": config.vocab_size, "rope.dimension_count": head}
    if architecture == "gemma3":
        ropes = config.rope_parameters
        said |= {f"rope.freq_base{e}": ropes[k]["rope_theta"] for e, k in (("", FULL), ("_swa", SLIDING))}
        said |= {"rope.scaling.type": "linear", "rope.scaling.factor": ropes[FULL]["factor"]}
    elif architecture not in ("gemma", "gemma2"):
        said["rope.freq_base"] = config.rope_parameters["rope_theta"]
    if architecture in ("gemma2", "gemma3"):
        said["attention.sliding_window"] = config.sliding_window
    if architecture == "gemma2":
        said |= {k: getattr(config, k) for k in ("attn_logit_softcapping", "final_logit_softcapping")}
    return said


FULL, SLIDING = "full_attention", "sliding_attention"


def as_stored(config: Any, architecture: str, name: str, tensor: Tensor, names: Any) -> tuple[str, Tensor]:
    """A tensor under llama.cpp's name, as the converter changes it."""
    stem, ending = name.rsplit(".", 1)
    tensor = tensor if tensor.dtype == torch.float16 else tensor.float()
    if architecture in ("llama", "smollm3") and ".self_attn.q_proj" in name:
        tensor = permuted(tensor, config.num_attention_heads)
    if architecture in ("llama", "smollm3") and ".self_attn.k_proj" in name:
        tensor = permuted(tensor, config.num_key_value_heads)
    if architecture == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        tensor = tensor.T
    if architecture in ONE_PLUS and name.endswith("norm.weight"):
        tensor = tensor + 1
    return f"{names.get_name(stem)}.{ending}", tensor


def permuted(tensor: Tensor, heads: int) -> Tensor:
    half = tensor.shape[0] // heads // 2
    return tensor.reshape(heads, 2, half, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def stored(writer: Any, name: str, tensor: Tensor, kind: str, kinds: Mapping[str, str] | None) -> None:
    """Written in this type, but for what has one axis and for learned positions, which are in F32."""
    wide = tensor.ndim <= 1 or name.startswith("position_embd")
    word = gguf.GGMLQuantizationType[(kinds or {}).get(name, "F32" if wide else kind)]
    data: np.ndarray[Any, Any] = gguf.quants.quantize(tensor.float().contiguous().numpy(), word)
    writer.add_tensor(name, data, raw_dtype=word)
