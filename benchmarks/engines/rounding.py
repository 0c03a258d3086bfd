"""What it costs in bfloat16 that an ε stays: python -m benchmarks.engines.rounding

Models of real widths (two layers, a vocabulary of 1000, weights of std 0.02) in bfloat16 grow in hidden by
half, with ε edited and with ε kept. Both are then run in float32 against the small one, so that the figure,
max |Δ| / max |logit|, is what rounding the grown weights once has changed. `noise` is what running the small
one in bfloat16 does.
"""

from __future__ import annotations

import torch
import transformers as tf

import isogrow
from isogrow.growth.models import anatomy_of
from isogrow.planning.planner import plan
from isogrow.plans.choices import Choices
from isogrow.plans.expansions import expansions

GPT2 = dict(n_layer=2, vocab_size=1000, n_positions=64)
GATED = dict(num_hidden_layers=2, vocab_size=1000)
# name: (config, sizes)
SHAPES = {
    "GPT-2": (tf.GPT2Config(n_embd=768, n_head=12, **GPT2), dict(hidden=1152, heads=18)),
    "GPT-2 medium": (tf.GPT2Config(n_embd=1024, n_head=16, **GPT2), dict(hidden=1536, heads=24)),
    "Qwen2.5-0.5B": (
        tf.Qwen2Config(
            hidden_size=896, intermediate_size=4864, num_attention_heads=14, num_key_value_heads=2, **GATED
        ),
        dict(hidden=1344),
    ),
    "Llama-3.2-1B": (
        tf.LlamaConfig(
            hidden_size=2048, intermediate_size=8192, num_attention_heads=32, num_key_value_heads=8, **GATED
        ),
        dict(hidden=3072),
    ),
    "Gemma-2-2b": (
        tf.Gemma2Config(
            hidden_size=2304, intermediate_size=9216, num_attention_heads=8, num_key_value_heads=4, **GATED
        ),
        dict(hidden=3456),
    ),
}


def logits(model: tf.PreTrainedModel) -> torch.Tensor:
    ids = torch.arange(3, 36)[None] % 1000
    with torch.no_grad():
        return model(ids).logits.float()


def main() -> None:
    print("| shape | ε edited | ε kept | noise |\n|---|---|---|---|")
    for name, (config, sizes) in SHAPES.items():
        torch.manual_seed(0)
        small = tf.AutoModelForCausalLM.from_config(config).bfloat16().eval()
        anatomy = anatomy_of(small)
        norms = (slot.norm for slot in anatomy.layout.table)
        kept = Choices(tuple({norm.eps for norm in norms if norm is not None and isinstance(norm.eps, str)}))
        grown = [
            isogrow.grow(small, plan=plan(anatomy, expansions(sizes), choices=choices)).eval()
            for choices in (Choices(), kept)
        ]
        rough = logits(small)
        right = logits(small.float())
        found = [logits(model.float()) for model in grown] + [rough]
        figures = [float((each - right).abs().max() / right.abs().max()) for each in found]
        print(f"| {name} | " + " | ".join(f"{figure:.1e}" for figure in figures) + " |", flush=True)


if __name__ == "__main__":
    main()
