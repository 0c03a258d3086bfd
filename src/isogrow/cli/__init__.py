"""The command line: `isogrow inspect | plan | grow | verify | draft | families | demo`.

    verbs.py      the verbs
    options.py    the options that verbs share, as typer reads them
    asking.py     from options to a plan
    facts.py      what inspect and plan tell, as data
    growing.py    grow and verify
    drafting.py   draft, and layouts that are given as files
    tables/       what the verbs tell, as tables
    voice.py      the one module that prints

Exit codes: 0 all of it is true, 1 a check failed, 2 the request was refused. Nothing here imports torch
before a verb needs it.
"""

from __future__ import annotations

import gc

from isogrow.cli.verbs import app
from isogrow.cli.voice import one_voice

# What torch and transformers make while they are imported stays. By default all of it is searched for garbage
# again and again on the way, for about a fifth of the imports' time (CPython 3.11).
OBJECTS = 50_000


def main() -> None:
    """Run the command line on the process's arguments, and exit. Of a job's ranks the first one speaks."""
    gc.set_threshold(OBJECTS, *gc.get_threshold()[1:])
    with one_voice():
        app(prog_name="isogrow")


__all__ = ["app", "main"]
