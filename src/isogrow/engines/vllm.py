"""vLLM: its source was read; it reads the keys of config.json but for two sizes."""

from __future__ import annotations

from isogrow.engines.engine import Engine, Seen, Takes

READ = Seen("0.33.0", "read, not run")

VLLM = Engine(
    name="vllm",
    title="vLLM",
    version="0.33.0",
    date="2026-11-28",
    families=(
        *("falcon", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "granite", "llama", "mixtral"),
        *("olmo2", "phi", "qwen2", "qwen3", "smollm3", "starcoder2"),
    ),
    rows=(
        Takes("heads * head_dim == hidden", ("qwen2",), READ),
        Takes("ffn == 4 * hidden", ("falcon",), READ),
    ),
)

ENGINES = (VLLM,)
