"""onnxruntime-genai: its builder tells the head by its width, and wants heads of whole blocks of 16."""

from __future__ import annotations

from isogrow.engines.engine import Engine, Projections, Rounds, Seen, Takes

RUN = Seen("0.18.0", "run")

GENAI = Engine(
    name="onnxruntime-genai",
    title="onnxruntime-genai",
    version="0.18.0",
    date="2026-11-28",
    families=("ernie4_5", "gemma", "granite", "lfm2", "llama", "mistral", "phi3", "qwen2", "qwen3"),
    refused={
        "gemma2": "it fails when it runs",
        "gemma3_text": "the builder can't read nested rope_parameters",
        "granitemoehybrid": "the builder fails on a layer without attention",
        **dict.fromkeys(
            ("olmo2", "olmo3", "phi", "qwen3_moe", "seed_oss", "smollm3"), "the builder has no such model"
        ),
    },
    packages=("onnxruntime-genai==0.18.0", "onnx-ir==1.1.0", "onnx==1.23.2"),
    rows=(
        Takes("head_dim % 16 == 0", (), RUN),
        Projections((), RUN),
        Rounds("hidden ** 0.5", "two decimals", ("gemma",), RUN),
    ),
)

ENGINES = (GENAI,)
