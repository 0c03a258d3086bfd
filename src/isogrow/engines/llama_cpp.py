"""llama.cpp: a GGUF file has no place for Gemma's θ and scale, nor for which layers are of which kind."""

from __future__ import annotations

from isogrow.engines.engine import Engine, Fixes, Period, Scale, Seen, Takes

RUN = Seen("0.3.36", "run")  # of llama-cpp-python, with the converter of its llama.cpp
EVERY = "'sliding_attention' if (i + 1) % {} else 'full_attention'"

LLAMA_CPP = Engine(
    name="llama.cpp",
    title="llama.cpp of llama-cpp-python",
    version="0.3.36",
    date="2026-11-28",
    families=(
        *("bloom", "cohere", "gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral"),
        *("olmo2", "phi3", "qwen2", "qwen3", "smollm3", "starcoder2"),
    ),
    refused={
        "falcon": "num_kv_heads beside multi_query is refused",
        "gpt2": "the converter wants n_ctx, which transformers 5.23.0 does not write",
        "gpt_neox": "the converter wants rotary_pct, which transformers 5.23.0 does not write",
        "phi": "it can't convert it as transformers 5.23.0 writes it",
    },
    packages=("llama-cpp-python==0.3.36",),
    sources={"LLAMA_CPP_SOURCE": "vendor/llama.cpp"},
    rows=(
        Fixes("rope_theta", 10000.0, ("gemma", "gemma2"), RUN),
        Scale("head_dim ** -0.5", ("gemma2", "gemma3_text"), RUN),
        Period("layer_types", EVERY.format(2), ("gemma2",), RUN),
        Period("layer_types", EVERY.format(6), ("gemma3_text",), RUN),
        Period("no_rope_layers", "int((i + 1) % 4 != 0)", ("smollm3",), RUN),
        Takes(
            "heads * head_dim == hidden",
            ("cohere", "granite", "olmo2", "phi3", "qwen2", "starcoder2"),
            RUN,
            "refuses to load {}",
        ),
    ),
)

ENGINES = (LLAMA_CPP,)
