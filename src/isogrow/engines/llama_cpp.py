"""llama.cpp: a GGUF file has no place for Gemma's θ and scale, nor for which layers are of which kind."""

from __future__ import annotations

from isogrow.engines.engine import Engine, Fixes, Period, Scale, Seen, Takes

RUN = Seen("0.3.36", "run")  # of llama-cpp-python, with the converter of its llama.cpp
EVERY = "'sliding_attention' if (i + 1) % {} else 'full_attention'"

LLAMA_CPP = Engine(
    name="llama.cpp",
    title="llama.cpp of llama-cpp-python",
    version="0.3.36",
    date="2026-11-29",
    families=(
        *("bloom", "cohere", "gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral"),
        *("olmo2", "phi3", "qwen2", "qwen3", "smollm3", "starcoder2"),
        *("ernie4_5", "exaone4", "falcon_h1", "glm4_moe", "hunyuan_v1_dense", "lfm2", "olmo3"),
        *("qwen3_moe", "seed_oss"),
    ),
    refused={
        "falcon": "num_kv_heads beside multi_query is refused",
        "gpt2": "the converter wants n_ctx, which transformers 5.23.0 does not write",
        "gpt_neox": "the converter wants rotary_pct, which transformers 5.23.0 does not write",
        "phi": "it can't convert it as transformers 5.23.0 writes it",
        "bamba": "it computes something else, and the small one off by 0.4",
        "bart": "the converter has no such model",
        "granitemoehybrid": "it does not know its layers as transformers 5.23.0 writes them",
        "mt5": "its encoders with decoders are not run from here",
        "nemotron_h": "it does not know its layers as transformers 5.23.0 writes them",
        "qwen3_next": "the converter wants its layers for further tokens",
    },
    packages=("llama-cpp-python==0.3.36",),
    sources={"LLAMA_CPP_SOURCE": "vendor/llama.cpp"},
    rows=(
        Fixes("rope_theta", 10000.0, ("gemma", "gemma2"), RUN),
        # It knows the largest of each by its number of layers.
        Scale("(hidden // heads if layers == 46 else head_dim) ** -0.5", ("gemma2",), RUN),
        Scale("(hidden // heads if layers == 62 else head_dim) ** -0.5", ("gemma3_text",), RUN),
        # The windows of the one with 64 layers.
        Period(
            "layer_types", f"({EVERY.format(4)}) if layers == 64 else 'full_attention'", ("exaone4",), RUN
        ),
        Period("layer_types", EVERY.format(2), ("gemma2",), RUN),
        Period("layer_types", EVERY.format(6), ("gemma3_text",), RUN),
        Period("no_rope_layers", "int((i + 1) % 4 != 0)", ("smollm3",), RUN),
        Takes(
            "heads * head_dim == hidden",
            (
                *("cohere", "granite", "olmo2", "phi3", "qwen2", "starcoder2"),
                *("exaone4", "lfm2", "olmo3"),
            ),
            RUN,
            "refuses to load {}",
        ),
    ),
)

ENGINES = (LLAMA_CPP,)
