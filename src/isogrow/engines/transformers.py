"""transformers itself: what its kernels refuse."""

from __future__ import annotations

from isogrow.engines.engine import Engine, Seen, Takes

RUN = Seen("5.23.0", "run")

TRANSFORMERS = Engine(
    name="transformers",
    title="transformers",
    version="5.23.0",
    date="2026-11-28",
    families=(),
    rows=(
        Takes(
            "ffn * itemsize % 16 == 0",
            ("mixtral",),
            RUN,
            'needs experts_implementation="eager" for {}',
        ),
    ),
)

ENGINES = (TRANSFORMERS,)
