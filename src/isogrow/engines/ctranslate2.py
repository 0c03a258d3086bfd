"""CTranslate2: its converter hands the ε of a norm on for models like Llama alone, and no θ of Falcon and
Gemma."""

from __future__ import annotations

from isogrow.engines.engine import Engine, Fixes, Scale, Seen, Takes

RUN = Seen("4.8.5", "run")

CTRANSLATE2 = Engine(
    name="ctranslate2",
    title="CTranslate2",
    version="4.8.5",
    date="2026-11-28",
    families=(
        *("bloom", "falcon", "gemma", "gemma2", "gpt2", "gptj", "llama", "mistral", "opt"),
        *("qwen2", "qwen3", "t5"),
    ),
    refused=dict.fromkeys(
        (
            *("bert", "cohere", "gemma3_text", "gpt_neox", "granite", "mixtral", "olmo2", "phi", "phi3"),
            *("smollm3", "starcoder2"),
        ),
        "it can't convert or run them as transformers 5.23.0 writes them",
    ),
    packages=("ctranslate2==4.8.5",),
    rows=(
        Fixes("layer_norm_epsilon", 1e-5, ("bloom", "falcon", "gpt2", "gptj"), RUN),
        Fixes("layer_norm_epsilon", 1e-6, ("t5",), RUN),
        Fixes("rope_theta", 10000.0, ("falcon", "gemma", "gemma2"), RUN),
        Scale("head_dim ** -0.5", ("gemma2",), RUN),
        Takes(
            "heads * head_dim == hidden",
            ("llama", "qwen2"),
            RUN,
            "fails at the first run of {}",
        ),
    ),
)

ENGINES = (CTRANSLATE2,)
