"""What cuts weights into equal parts: over devices, or into blocks that share a scale."""

from __future__ import annotations

from isogrow.engines.engine import Engine, Seen, Takes

TP = Seen(
    "5.23.0", "read, not run"
)  # transformers' tp_plan, which fails in the forward pass where heads don't divide
GPTQ = Seen("of any version", "read, not run")
NF4 = Seen("0.50.2", "run")
ROWS = "hidden % {n} == 0 and ffn % {n} == 0 and heads * head_dim % {n} == 0"

TENSOR_PARALLEL = Engine(
    name="tp",
    title="tensor parallelism over",
    version="5.23.0",
    date="2026-11-28",
    families=(),
    rows=(
        Takes("heads % n == 0 and ffn % n == 0", (), TP, "can't cut into equal parts"),
        Takes("kv_heads % n == 0", (), TP, "can't cut into equal parts"),
    ),
    aside=True,
    unit="the number of devices",
)

GROUPS = Engine(
    name="gptq",
    title="GPTQ in groups of",
    version="of any version",
    date="2026-11-28",
    families=(),
    rows=(Takes(ROWS.format(n="n"), (), GPTQ, "can't cut into whole groups"),),
    aside=True,
    unit="the number of weights that share a scale",
)

BLOCKS = Engine(
    name="nf4",
    title="nf4 of bitsandbytes",
    version="0.50.2",
    date="2026-11-28",
    families=(),
    rows=(Takes(ROWS.format(n=64), (), NF4, "can't cut into whole blocks"),),
    aside=True,
)

ENGINES = (TENSOR_PARALLEL, GROUPS, BLOCKS)
