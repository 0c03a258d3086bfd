"""mlx-lm: θ is read under its old name alone, and most models have hidden / heads for their head dim."""

from __future__ import annotations

from isogrow.engines.engine import Engine, Fixes, OldName, Period, Rounds, Seen, Takes

RUN = Seen("0.32.2", "run")  # with mlx 0.32.4 on the CPU
DELTA = "'linear_attention' if (i + 1) % 4 else 'full_attention'"
GEMMA3 = "'sliding_attention' if (i + 1) % 6 else 'full_attention'"

MLX = Engine(
    name="mlx",
    title="mlx-lm",
    version="0.32.2",
    date="2026-11-28",
    families=(
        *("cohere", "gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral", "olmo2"),
        *("phi", "phi3", "qwen2", "qwen3", "smollm3", "starcoder2"),
        *(
            "ernie4_5",
            "glm4_moe",
            "granitemoehybrid",
            "mamba2",
            "olmo3",
            "qwen3_moe",
            "qwen3_next",
            "seed_oss",
        ),
    ),
    refused={
        "gpt2": "a key is missing in configs as transformers 5.23.0 writes them",
        "gpt_neox": "a key is missing in configs as transformers 5.23.0 writes them",
    },
    packages=("mlx==0.32.4", "mlx-cpu==0.32.4", "mlx-lm==0.32.2"),
    rows=(
        OldName(
            (
                *("cohere", "gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "mixtral"),
                *("olmo2", "phi", "phi3", "qwen2", "smollm3", "starcoder2"),
                *("ernie4_5", "glm4_moe", "olmo3", "qwen3_moe", "qwen3_next", "seed_oss"),
            ),
            RUN,
        ),
        Period("layer_types", GEMMA3, ("gemma3_text",), RUN),
        Period("layer_types", DELTA, ("qwen3_next",), RUN, weighs=True),
        Takes(
            "heads * head_dim == hidden",
            ("cohere", "granite", "granitemoehybrid", "mixtral", "phi", "phi3", "qwen2", "starcoder2"),
            RUN,
            "refuses to load {}",
        ),
        # The norms before its mixers; the last one reads the key.
        Fixes("layer_norm_epsilon", 1e-5, ("mamba2",), RUN, shows=False),
        Rounds("hidden ** 0.5", "bfloat16", ("gemma3_text",), RUN),
    ),
)

ENGINES = (MLX,)
