"""keras-hub: its own ε and θ in several families, and Gemma's scales and layer kinds by number."""

from __future__ import annotations

from isogrow.engines.engine import Coarse, Engine, Fixes, Period, Scale, Seen, Takes

RUN = Seen("0.32.0", "run")  # with keras 3.15.1 on torch
EVERY = "'sliding_attention' if (i + 1) % {} else 'full_attention'"

KERAS_HUB = Engine(
    name="keras-hub",
    title="keras-hub",
    version="0.32.0",
    date="2026-11-28",
    families=(
        *("gemma", "gemma2", "gemma3_text", "gpt2", "llama", "mistral", "mixtral", "qwen2", "qwen3"),
        *("qwen3_moe", "smollm3"),
    ),
    refused={
        "olmo3": "it has no converter for it",
        "phi3": "it can't convert it as transformers 5.23.0 writes it",
    },
    packages=("keras-hub==0.32.0", "keras==3.15.1"),
    rows=(
        Fixes("rms_norm_eps", 1e-6, ("llama",), RUN),
        Fixes("layer_norm_epsilon", 1e-5, ("gpt2",), RUN),
        # Qwen3's is that of queries and keys alone, and Gemma's residual is √hidden times its embeddings.
        Fixes(
            "rms_norm_eps", 1e-6, ("gemma", "gemma2", "gemma3_text", "qwen3", "qwen3_moe"), RUN, shows=False
        ),
        Fixes("rope_theta", 10000.0, ("gemma", "gemma2"), RUN),
        Scale("head_dim ** -0.5", ("gemma2", "gemma3_text"), RUN),
        Period("layer_types", EVERY.format(2), ("gemma2",), RUN),
        Period("layer_types", EVERY.format(6), ("gemma3_text",), RUN),
        Takes("heads * head_dim == hidden", ("llama", "mixtral", "qwen2", "smollm3"), RUN),
        Takes("ffn == 4 * hidden", ("gpt2",), RUN),
        Coarse(("hidden", "head_dim"), 2e-3, ("mistral",), RUN),
    ),
)

ENGINES = (KERAS_HUB,)
