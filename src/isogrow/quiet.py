"""Keeping transformers silent while a model is built around tensors that are ours."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import transformers


@contextmanager
def quiet() -> Generator[None]:
    """Keep transformers from printing its progress bar and its table of missing weights."""
    logging = cast(Any, transformers.utils.logging)
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
