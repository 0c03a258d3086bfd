"""What cuts weights into equal parts: over devices, or into blocks that share a scale."""

from __future__ import annotations

from isogrow.engines.engine import Engine, Seen, Takes

# transformers' tp_plan, which fails in the forward pass where heads don't divide
TP = Seen("5.23.0", "read, not run")
GPTQ = Seen("of any version", "read, not run")
NF4 = Seen("0.50.2", "run")
WIDTHS = ("hidden", "ffn", "heads * head_dim")  # the rows of each projection are as long as one of these

TENSOR_PARALLEL = Engine(
    name="tp",
    title="tensor parallelism over",
    version="5.23.0",
    date="2026-11-28",
    families=(),
    rows=tuple(Takes(f"{each} % n == 0", (), TP, "can't cut up {}") for each in ("heads", "kv_heads", "ffn")),
    aside=True,
    unit="the number of devices",
)

GROUPS = Engine(
    name="gptq",
    title="GPTQ in groups of",
    version="of any version",
    date="2026-11-28",
    families=(),
    rows=tuple(Takes(f"{width} % n == 0", (), GPTQ, "can't cut up {}") for width in WIDTHS),
    aside=True,
    unit="the number of weights that share a scale",
)

BLOCKS = Engine(
    name="nf4",
    title="nf4 of bitsandbytes",
    version="0.50.2",
    date="2026-11-28",
    families=(),
    rows=tuple(Takes(f"{width} % 64 == 0", (), NF4, "can't cut up {}") for width in WIDTHS),
    aside=True,
)

ENGINES = (TENSOR_PARALLEL, GROUPS, BLOCKS)
